//! Rooms from the outside: publish, look, send away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use throng_engine::Permit;
use throng_hub::{
    Author as Writer, Closed, Identity, Pass, Published, Room, Space, Span, Timestamp, Unavailable,
};
use throng_protocol::{Code, Command, Fault, MAX_PAGE, names, parse, push};
use throng_wire::CloseCode;
use tokio::sync::oneshot;

use crate::cluster::Told;
use crate::desk::{Asking, Stored};
use crate::server::Server;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// To everybody in a room.
    Room(&'a str),
    /// To one user, connected or not.
    User(&'a str),
}

/// Who publishes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// What members see as `from`.
    pub user_id: &'a str,
    /// In which `reference` counts; empty for none.
    pub session: &'a str,
    /// A number that this session uses for this message only: publishing it again does nothing but give the
    /// same answer, for as long as the room remembers. 0 for none.
    pub reference: u64,
}

/// A message that has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The room.
    pub room: String,
    /// Its number there; none in a volatile room.
    pub seq: Option<u64>,
    /// When, in milliseconds since 1970.
    pub timestamp: u64,
    /// It was published before.
    pub duplicate: bool,
}

/// Which messages of a room's past are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The last ones before this number.
    pub before: Option<u64>,
    /// The first ones behind this number.
    pub after: Option<u64>,
    /// Only if this is still the room's epoch.
    pub epoch: Option<String>,
    /// At most so many, 1 to 200; 0 stands for 50.
    pub limit: u32,
}

/// A room at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomInfo {
    /// Its name.
    pub room: String,
    /// Users who are there.
    pub user_count: usize,
    /// Their connections.
    pub connections: usize,
    /// The number of the last message; none in a volatile room.
    pub seq: Option<u64>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// WebSocket connections and event streams.
    pub connections: usize,
    /// Connected users.
    pub users: usize,
    /// Rooms in memory.
    pub rooms: usize,
}

/// A session that may be acted for.
#[derive(Clone, Debug)]
pub struct SessionRef {
    who: Identity,
    pass: Option<Arc<Pass>>,
}

impl SessionRef {
    /// Its user.
    pub fn user_id(&self) -> &str {
        self.who.user_id()
    }

    /// Its id.
    pub fn session_id(&self) -> &str {
        self.who.session_id()
    }
}

/// A message that has its place in a room; it may still be on its way to the disk. See [`Server::place`].
#[must_use = "whether it is stored is not known yet"]
pub struct Placed<'a> {
    room: String,
    place: Place<'a>,
}

enum Place<'a> {
    Done { seq: Option<u64>, timestamp: Timestamp, duplicate: bool },
    Storing { stored: oneshot::Receiver<Stored>, _asking: Asking<'a> },
}

impl Placed<'_> {
    /// Waits until the message is stored.
    ///
    /// # Errors
    /// `unavailable`: it could not be.
    pub async fn stored(self) -> Result<Sent, Fault> {
        let (seq, timestamp, duplicate) = match self.place {
            Place::Done { seq, timestamp, duplicate } => (seq, timestamp, duplicate),
            Place::Storing { stored, _asking } => match stored.await {
                Ok((Ok((seq, timestamp)), duplicate)) => (Some(seq), timestamp, duplicate),
                Ok((Err(_), _)) | Err(_) => return Err(Fault::new(Code::Unavailable)),
            },
        };
        Ok(Sent { room: self.room, seq, timestamp: timestamp.0, duplicate })
    }
}

impl fmt::Debug for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed").field("room", &self.room).finish_non_exhaustive()
    }
}

impl Server {
    /// Publishes a message: one JSON object as a client would send it. Returns when it is stored.
    ///
    /// # Errors
    /// As a client would get them: `bad_json`, `bad_message`, `reserved_field`, `invalid_payload`,
    /// `unknown_room`, `unavailable`.
    pub async fn publish(
        &self,
        target: Target<'_>,
        author: Author<'_>,
        message: &[u8],
    ) -> Result<Sent, Fault> {
        self.place(target, author, message).await?.stored().await
    }

    /// The same in two steps: returns when the message has its place in the room, so that what is placed afterwards
    /// comes behind it, and [`Placed::stored`] when it is stored. For many messages in their order.
    ///
    /// # Errors
    /// As [`Server::publish`].
    pub async fn place(
        &self,
        target: Target<'_>,
        author: Author<'_>,
        message: &[u8],
    ) -> Result<Placed<'_>, Fault> {
        let own;
        let name = match target {
            Target::Room(name) => name,
            Target::User(user) => {
                own = format!("@{user}");
                &own
            }
        };
        let Command::Publish(mut message) = parse(message)? else {
            return Err(Fault::new(Code::ReservedField)
                .with_message("Only application messages can be published."));
        };
        let elsewhere = message.room.as_deref().is_some_and(|room| room != name)
            || message.to.as_deref().is_some_and(|to| name.strip_prefix('@') != Some(to));
        if elsewhere {
            return Err(Fault::new(Code::BadMessage)
                .with_message("The message names another room than the request."));
        }
        message.reference = Some(author.reference).filter(|reference| *reference != 0);
        if !names::is_user(author.user_id) {
            return Err(
                Fault::new(Code::BadMessage).with_message("`from` must be the id of a user.")
            );
        }
        let desk = &self.inner.desk;
        self.wait_for_calm().await?;
        let asking = desk.ask();
        let stored = desk.expect_stored(asking.token);
        let writer = Writer {
            user_id: author.user_id,
            session: author.session,
            asker: desk.front().asker(asking.token),
        };
        let published = loop {
            let room = self.open_room(name).await?;
            let published = desk.front().publish(&room, &writer, &message);
            if published.is_err() && room.is_forgotten() {
                continue; // the last member has left in between
            }
            desk.front().hub().release(&room); // unless somebody is there
            break published;
        };
        let place = match published? {
            Published::Now { seq, timestamp, .. } => {
                Place::Done { seq, timestamp, duplicate: false }
            }
            Published::Before { seq, timestamp } => {
                Place::Done { seq: Some(seq), timestamp, duplicate: true }
            }
            Published::Later => Place::Storing { stored, _asking: asking },
        };
        Ok(Placed { room: name.to_owned(), place })
    }

    /// Publishes a message for a session, with its rights, as often as
    /// [`Builder::send_rate`](crate::Builder::send_rate) says. `reference` as in [`Author`].
    ///
    /// # Errors
    /// `rate_limited`, `forbidden`, and as [`Server::publish`].
    pub async fn publish_as(
        &self,
        session: &SessionRef,
        target: Target<'_>,
        reference: u64,
        message: &[u8],
    ) -> Result<Sent, Fault> {
        if let Some(rate) = &self.inner.send_rate {
            let cost = 1 + message.len() / COSTLY;
            let cost = u32::try_from(cost).unwrap_or(u32::MAX);
            self.inner.desk.front().charge(session.user_id(), rate, cost)?;
        }
        let Command::Publish(published) = parse(message)? else {
            return Err(Fault::new(Code::ReservedField)
                .with_message("Only application messages can be published."));
        };
        let own;
        let name = match target {
            Target::Room(name) => name,
            Target::User(user) => {
                own = format!("@{user}");
                &own
            }
        };
        let front = self.inner.desk.front();
        let rule = front.hub().rule(name);
        if names::is_room(name) && rule.allow {
            let pass = session.pass.as_deref();
            let allowed = front.access().of(&session.who, pass, name, rule, front.now());
            if !allowed.may_send(&published.kind) {
                return Err(Fault::new(Code::Forbidden)
                    .with_message("You may not send messages of this type there."));
            }
        }
        let (user_id, session) = (session.user_id(), session.session_id());
        self.publish(target, Author { user_id, session, reference }, message).await
    }

    /// A page of a room's past, as the JSON of a `history` message.
    ///
    /// # Errors
    /// `bad_message` for a page that cannot be, `stale_epoch`, `unknown_room`, `unavailable`.
    pub async fn history(&self, room: &str, page: &Page) -> Result<Vec<u8>, Fault> {
        let fault = |text| Err(Fault::new(Code::BadMessage).with_message(text));
        let span = match (page.before, page.after) {
            (Some(_), Some(_)) => return fault("Either `before` or `after`, not both."),
            (Some(before), None) => Span::Before(before),
            (None, Some(after)) => Span::After(after),
            (None, None) => Span::Newest,
        };
        let limit = match page.limit {
            0 => throng_protocol::DEFAULT_PAGE,
            limit @ 1..=MAX_PAGE => limit,
            _ => return fault("`limit` must be from 1 to 200."),
        };
        let front = self.inner.desk.front();
        let (room, page, epoch) = loop {
            let room = self.open_room(room).await?;
            let mut order = room.order();
            if order.is_forgotten() {
                continue; // who looked or was there before has gone in between, and it is without its past
            }
            let epoch = page.epoch.as_deref();
            let page = order.history(span, limit as usize, PAGE_BYTES, epoch, front.now());
            let epoch = order.epoch().to_string();
            drop(order);
            front.hub().release(&room);
            break (room, page?, epoch);
        };
        let mut text = Vec::new();
        push::history(&mut text, None, room.name(), &epoch, &page.messages, page.more);
        Ok(text)
    }

    /// Who is in a room, as the JSON of a `presence` message.
    ///
    /// # Errors
    /// `forbidden` where the rules say that presence is off, `unknown_room`.
    pub async fn presence(&self, room: &str) -> Result<Vec<u8>, Fault> {
        let room = self.open_room(room).await?;
        let mut text = Vec::new();
        let told = room.order().presence(&mut text, None);
        self.inner.desk.front().hub().release(&room);
        told.map(|()| text)
    }

    /// The rooms in memory, by name, from behind `after` on. Looks at all rooms: for people.
    pub fn rooms(&self, after: Option<&str>, limit: usize) -> Vec<RoomInfo> {
        let rooms = self.inner.desk.front().hub().list(Space::ROOMS, after, limit);
        rooms.iter().map(|room| RoomInfo::of(room)).collect()
    }

    /// A room, if it is in memory.
    pub fn room(&self, name: &str) -> Option<RoomInfo> {
        let room = self.inner.desk.front().hub().find(Space::ROOMS, name)?;
        Some(RoomInfo::of(&room))
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        let stats = self.inner.engine.stats();
        Counts {
            connections: stats.connections as usize + self.inner.desk.streams(),
            users: stats.users as usize,
            rooms: stats.rooms as usize,
        }
    }

    /// Closes all connections of a user, on all nodes. Returns how many on this one.
    pub fn disconnect(&self, user_id: &str, code: CloseCode, reason: &str) -> usize {
        self.tell(|| Told::Disconnect {
            user: user_id.to_owned(),
            code: code.into(),
            reason: reason.to_owned(),
        });
        self.inner.desk.front().disconnect(user_id, code, reason)
    }

    /// The session that a resume token stands for, if it is connected or may come back.
    ///
    /// # Errors
    /// `unavailable` when nobody can say.
    pub async fn session(&self, token: &str) -> Result<Option<SessionRef>, Fault> {
        let front = self.inner.desk.front();
        let found = self.inner.gate.resumable(token, None, front).await;
        let found = found.map_err(|Unavailable| Fault::new(Code::Unavailable))?;
        Ok(found.map(|entrance| SessionRef { who: entrance.identity(), pass: entrance.pass }))
    }

    /// Waits, not for long, until workers and backends keep up.
    async fn wait_for_calm(&self) -> Result<(), Fault> {
        let front = self.inner.desk.front();
        for _ in 0..1000 {
            if !front.is_congested() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(Fault::new(Code::Overloaded))
    }

    /// Waits until a room has come to a position that somebody knows from another node, if it can.
    pub(crate) async fn reach(
        &self,
        room: &Room,
        since: Option<(&str, u64)>,
    ) -> Result<(), Unavailable> {
        let Some((epoch, seq)) = since else { return Ok(()) };
        let desk = &self.inner.desk;
        let asking = desk.ask();
        let asker = desk.front().asker(asking.token);
        loop {
            let looked = desk.expect_open(asking.token);
            let reached = room.order().reach(epoch, seq, asker);
            match reached {
                Err(Closed::Opening) => looked.await.map_err(|_| Unavailable)?, // the server ends
                Err(Closed::Unavailable) => return Err(Unavailable),
                Ok(()) | Err(Closed::Forgotten) => return Ok(()),
            }
        }
    }

    /// The room of this name, open.
    pub(crate) async fn open_room(&self, name: &str) -> Result<Arc<Room>, Fault> {
        self.found_room(name, None).await
    }

    /// The same, brought into being on demand by whoever has this permit.
    pub(crate) async fn found_room(
        &self,
        name: &str,
        permit: Option<&Permit>,
    ) -> Result<Arc<Room>, Fault> {
        let desk = &self.inner.desk;
        let front = desk.front();
        if !names::is_room(name) || !front.hub().rule(name).allow {
            return Err(Fault::new(Code::UnknownRoom));
        }
        loop {
            let asking = desk.ask();
            let opened = desk.expect_open(asking.token);
            let deed = || permit.map_or(Ok(None), Permit::found);
            let room = front.hub().found(Space::ROOMS, name, front.now(), deed)?;
            let ready = room.order().ready(front.asker(asking.token));
            match ready {
                Ok(()) => return Ok(room),
                Err(Closed::Unavailable) => return Err(Fault::new(Code::Unavailable)),
                Err(Closed::Forgotten) => {}
                Err(Closed::Opening) => {
                    if opened.await.is_err() {
                        return Err(Fault::new(Code::Unavailable)); // the server ends
                    }
                }
            }
        }
    }
}

impl RoomInfo {
    fn of(room: &Room) -> Self {
        let order = room.order();
        Self {
            room: room.name().to_owned(),
            user_count: order.user_count(),
            connections: order.member_count(),
            seq: (!room.rule().volatile).then(|| order.seq()),
        }
    }
}

const PAGE_BYTES: usize = 256 << 10;
/// So many bytes cost as much as a message more.
const COSTLY: usize = 4096;
