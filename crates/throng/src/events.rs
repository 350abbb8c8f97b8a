//! Rooms as server-sent events (WHATWG HTML §9.2): one stream for several rooms, resumable.

mod outlet;
mod positions;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use throng_engine::{Front, Full, Permit, Who};
use throng_hub::{
    Allowed, Ending, Identity, Joined, Pass, Refused, Replay, Revoked, Rights, Room, Start,
};
use throng_protocol::{Code, Fault, names, push};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use crate::credentials::Visit;
use crate::desk::{Desk, Event};
use crate::drain::Slot;
use crate::gate::{Shown, Unclaimed, fault};
use crate::server::Server;
use outlet::Intake;
pub(crate) use outlet::Outlet;
use positions::Positions;

/// What an event stream asks for.
#[derive(Clone, Default)]
pub struct Subscription {
    /// One to 32 rooms, in the order in which positions are told.
    pub rooms: Vec<String>,
    /// What an anonymous visitor wants to be called.
    pub name: Option<String>,
    /// The token of a session to take up.
    pub resume: Option<String>,
    /// A ticket.
    pub ticket: Option<String>,
    /// A token that is no ticket.
    pub token: Option<String>,
    /// Whether visitors without any of these are let in.
    pub anonymous: bool,
    /// Where they come.
    pub visit: Visit,
    /// The id of the last event that was received.
    pub last_event_id: Option<String>,
    /// So many of the last messages of each room, where there is no position.
    pub rewind: u32,
}

impl fmt::Debug for Subscription {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("rooms", &self.rooms).finish_non_exhaustive()
    }
}

/// A stream of ready text for a response of type `text/event-stream`. Dropping it leaves the rooms.
///
/// At most [`OUTLET`](Outlet) bytes wait for a reader; one that is slower gets no more, and comes back with
/// the id of the last event it got.
#[derive(Debug)]
pub struct Events {
    lines: mpsc::Receiver<Bytes>,
}

impl Stream for Events {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.lines.poll_recv(cx)
    }
}

impl Server {
    /// Begins an event stream. Must be called on a tokio runtime.
    ///
    /// The first event is `connected`, then `joined` for each room, then messages: what was missed,
    /// then what comes. Events of application messages have the positions of all rooms as their id.
    ///
    /// # Errors
    /// `bad_message` for no room or too many, `unknown_room` for one that cannot be, `unauthorized` for credentials
    /// that are not good or where some are needed, `forbidden` for rooms that one may not be in, `unavailable`.
    pub async fn subscribe(&self, subscription: Subscription) -> Result<Events, Fault> {
        let Subscription { rooms, last_event_id, rewind, .. } = &subscription;
        let (rewind, rooms) = (*rewind, rooms.clone());
        let positions = Positions::read(last_event_id.as_deref(), rooms.len());
        let front = self.inner.desk.front();
        if !(1..=MAX_ROOMS).contains(&rooms.len()) {
            return Err(
                Fault::new(Code::BadMessage).with_message("Name 1 to 32 rooms with `room`.")
            );
        }
        let Subscription { name, resume, ticket, token, anonymous, visit, .. } = subscription;
        let admission = self.inner.engine.admission();
        let ip = visit.ip;
        admission.knock(ip).map_err(crowded)?;
        let shown = Shown { resume, ticket, token, name };
        let entrance = self.inner.gate.admit(shown, visit, front).await.map_err(fault)?;
        // Until it is claimed, whatever ends this also ends a session that has just begun.
        let (pass, unclaimed) = (entrance.pass, entrance.unclaimed);
        if pass.is_none() && !anonymous {
            self.inner.gate.refused.anonymous.add();
            return Err(Fault::new(Code::Unauthorized));
        }
        let (who, is_resumed) = match entrance.who {
            Who::Anonymous(name) => (front.identify(name.as_deref()), false),
            Who::Known(who) => (who, false),
            Who::Resumed(who) => (who, true),
        };
        let who = Arc::new(who);
        let mut allowed = Vec::with_capacity(rooms.len());
        for (at, room) in rooms.iter().enumerate() {
            if !names::is_room(room) || !front.hub().rule(room).allow {
                return Err(Fault::new(Code::UnknownRoom));
            }
            let rule = front.hub().rule(room);
            let may = front.access().of(&who, pass.as_deref(), room, rule, front.now());
            if !may.may(Rights::JOIN) {
                let code = if pass.is_some() { Code::Forbidden } else { Code::Unauthorized };
                return Err(Fault::new(code).with_message(format!("You may not be in {room}.")));
            }
            allowed.push(may);
            if rooms[..at].contains(room) {
                return Err(Fault::new(Code::AlreadyJoined));
            }
        }
        let permit = admission.admit(ip).and_then(|permit| match &pass {
            Some(_) => permit.of_user(who.user_id()),
            None => Ok(permit),
        });
        let permit = permit.map_err(crowded)?;
        let (lines, comes) = mpsc::channel(16);
        let token = self.inner.desk.token();
        let (outlet, intake, slot, gone) = Outlet::new(front.hub().budget());
        let beat = Duration::from_millis(front.heartbeat()).max(Duration::from_secs(1));
        let stream = EventStream {
            server: self.clone(),
            token,
            who,
            pass,
            allowed,
            is_resumed,
            rewind: rewind.min(throng_protocol::MAX_REWIND),
            positions,
            rooms: Vec::with_capacity(rooms.len()),
            lines,
            slot,
            gone,
            beat,
            unclaimed,
            permit,
        };
        tokio::spawn(stream.run(rooms, outlet, intake));
        Ok(Events { lines: comes })
    }
}

/// An event stream at work. Whatever ends it, dropping it leaves the rooms.
struct EventStream {
    server: Server,
    token: u64,
    who: Arc<Identity>,
    pass: Option<Arc<Pass>>,
    /// In each of the rooms.
    allowed: Vec<Allowed>,
    is_resumed: bool,
    rewind: u32,
    positions: Positions,
    rooms: Vec<Arc<Room>>,
    lines: mpsc::Sender<Bytes>,
    /// When to go, once that is known.
    slot: oneshot::Receiver<Slot>,
    /// Ends when the desk has let go of the stream: too slow, replaced, sent away, the end.
    gone: oneshot::Receiver<()>,
    beat: Duration,
    /// What is kept of a new session, until the registry knows it.
    unclaimed: Option<Unclaimed>,
    permit: Permit,
}

/// Too many, in the words of the protocol.
fn crowded(full: Full) -> Fault {
    Fault::new(Code::RateLimited)
        .with_message(full.to_string())
        .with_retry_after(full.retry_after())
}

/// Waits for the end of the slot; for ever where there is none.
async fn in_time(leaves: &mut Option<(Slot, Pin<Box<Sleep>>)>) {
    match leaves {
        Some((_, end)) => end.await,
        None => std::future::pending().await,
    }
}

/// Why a stream ends: the reader is gone, or cannot be served any more.
struct Over;

impl EventStream {
    async fn run(mut self, rooms: Vec<String>, outlet: Outlet, mut intake: Intake) {
        let desk = Arc::clone(&self.server.inner.desk);
        let front = desk.front();
        desk.add_outlet(self.token, outlet);
        if self.server.is_draining() {
            return;
        }
        let place = front.asker(self.token);
        match front.sessions().arrive(&self.who, self.pass.as_ref(), place, front.now()) {
            Ok(Some(older)) => {
                front.close(older, crate::upgrade::REPLACED, "another connection has this session");
            }
            Ok(None) => {}
            Err(Revoked) => return,
        }
        if let Some(unclaimed) = self.unclaimed.take() {
            unclaimed.claim();
        }
        let begun = async {
            self.greet(&desk).await?;
            for (at, name) in rooms.iter().enumerate() {
                self.join(at, name, &desk).await?;
            }
            Ok::<(), Over>(())
        };
        if begun.await.is_err() {
            return;
        }
        let (mut is_told, mut leaves) = (false, None);
        loop {
            let event = tokio::select! {
                biased; // the slot first: it may be the last that can be said
                slot = &mut self.slot, if !is_told => {
                    is_told = true;
                    if let Ok(slot) = slot {
                        let _ = self.lines.try_send(slot.notice().into());
                        leaves = Some((slot, Box::pin(tokio::time::sleep_until(slot.ends()))));
                    }
                    continue;
                }
                () = in_time(&mut leaves) => {
                    if let Some((slot, _)) = leaves {
                        let _ = self.lines.try_send(Bytes::from_static(slot.farewell()));
                    }
                    return;
                }
                event = intake.next() => event,
                () = self.lines.closed() => None,
                () = tokio::time::sleep(self.beat) => {
                    if self.send(Bytes::from_static(b": hb\n\n")).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Some(event) = event else { return };
            if self.pass_on(&event).await.is_err() {
                return;
            }
        }
    }

    async fn greet(&mut self, desk: &Desk) -> Result<(), Over> {
        let (front, who) = (desk.front(), Arc::clone(&self.who));
        let token = front.tokens().issue(&who, self.pass.is_some(), front.now());
        let mut text = Vec::new();
        push::connected(
            &mut text,
            &push::Connected {
                user_id: who.user_id(),
                session_id: who.session_id(),
                resume: Some(&token),
                resumed: self.is_resumed,
                resume_window: front.sessions().window().as_millis() as u64,
                expires_at: self.pass.as_ref().and_then(|pass| pass.expires),
                info: who.info(),
                user_count: front.sessions().all_users(),
                room: None,
                position: None,
                heartbeat: front.heartbeat(),
                timestamp: front.now(),
                max_payload: MAX_PAYLOAD,
                max_rooms: MAX_ROOMS,
                ref_window: throng_hub::REF_WINDOW,
            },
        );
        self.send(Bytes::from_static(b"retry: 2000\n\n")).await?;
        self.send_text(&text).await
    }

    /// Joins a room, and sends what it owes.
    async fn join(&mut self, at: usize, name: &str, desk: &Desk) -> Result<(), Over> {
        let front = desk.front();
        let since = self.positions.at(at).map(|(epoch, seq)| (epoch.to_owned(), seq));
        let mut start = Start {
            since: since.as_ref().map(|(epoch, seq)| (epoch.as_str(), *seq)),
            rewind: self.rewind,
        };
        // What has changed since the door was passed holds, too: from here on the stream is told of changes.
        let rule = front.hub().rule(name);
        let allowed = front.access().of(&self.who, self.pass.as_deref(), name, rule, front.now());
        if !allowed.may(Rights::JOIN) {
            return Err(Over);
        }
        self.allowed[at] = allowed.clone();
        if !allowed.may(Rights::HISTORY) {
            start = Start::NOW;
        }
        let mut text = Vec::new();
        let (room, joined) = loop {
            let room = match self.server.found_room(name, Some(&self.permit)).await {
                Ok(room) => room,
                Err(fault) => {
                    let fault = match fault.code {
                        Code::TooManyRooms => fault,
                        _ => Fault::new(Code::Unavailable),
                    };
                    push::error(&mut text, &fault, Some(name), Some(RETRY_AFTER));
                    return self.send_text(&text).await.and(Err(Over));
                }
            };
            if self.server.reach(&room, start.since).await.is_err() {
                front.hub().release(&room);
                let fault = Fault::new(Code::Unavailable);
                push::error(&mut text, &fault, Some(name), Some(RETRY_AFTER));
                return self.send_text(&text).await.and(Err(Over));
            }
            match self.try_join(&room, &start, &allowed, &mut text, front) {
                Ok(joined) => break (room, joined),
                // The position is not one of ours.
                Err(Refused::Future) => start = Start { since: None, ..start },
                Err(Refused::Closed(_)) => {}
                Err(Refused::Full) => {
                    front.hub().release(&room);
                    let fault = Fault::new(Code::RoomFull);
                    push::error(&mut text, &fault, Some(name), Some(RETRY_AFTER));
                    return self.send_text(&text).await.and(Err(Over));
                }
            }
        };
        self.rooms.push(Arc::clone(&room));
        if let Some(due) = joined.wake {
            front.wake_at(due, &room);
        }
        if room.rule().volatile {
            self.positions.set(at, "", 0);
        } else {
            self.positions.set(at, &joined.epoch.to_string(), joined.after);
        }
        // With the positions: whoever is cut off before the first message comes back to here.
        let line = self.positions.line();
        self.send([line.as_bytes(), b"data: ", &text, b"\n\n"].concat().into()).await?;
        let promised = joined.recovered && start.since.is_some();
        self.replay(&room, &joined, promised, desk).await
    }

    fn try_join(
        &self,
        room: &Room,
        start: &Start<'_>,
        allowed: &Allowed,
        text: &mut Vec<u8>,
        front: &Front,
    ) -> Result<Joined, Refused> {
        let mut order = room.order();
        let mut joined = order.join(&self.who, front.worker(), start, front.now())?;
        if let Some(announcement) = &joined.announcement {
            front.announce(&order, announcement);
        }
        let epoch = joined.epoch.to_string();
        joined.recovered &= allowed.may(Rights::HISTORY);
        let users = order.listed_users().filter(|_| allowed.may(Rights::PRESENCE));
        push::joined(text, &told(room.name(), &epoch, &joined), users);
        Ok(joined)
    }

    /// Sends the past behind `after`, piece by piece, and makes the stream live in the room.
    async fn replay(
        &mut self,
        room: &Arc<Room>,
        joined: &Joined,
        promised: bool,
        desk: &Desk,
    ) -> Result<(), Over> {
        let mut after = joined.after;
        loop {
            let (mut frames, mut left, mut list) = (Vec::new(), CHUNK, Vec::new());
            let replay = {
                let order = room.order();
                if order.epoch() != joined.epoch {
                    return Err(Over); // began anew in between: the reader has to as well
                }
                if !promised {
                    after = after.max(order.oldest());
                }
                let replay = order.replay(after, |frame| {
                    frames.push(frame.clone());
                    left = left.saturating_sub(frame.len());
                    left > 0
                });
                if replay == Replay::Live {
                    let told = self.rooms.len().checked_sub(1).map(|at| &self.allowed[at]);
                    let told = told.is_some_and(|allowed| allowed.may(Rights::PRESENCE));
                    if told && order.presence_seq() != joined.presence_seq {
                        // Nothing is said where presence is off.
                        let _ = order.presence(&mut list, None);
                    }
                    desk.front().enter(room, &order, self.token);
                }
                replay
            };
            for frame in frames {
                let event = Event::new(room.id(), throng_hub::text_of(&frame));
                self.pass_on(&event).await?;
            }
            match replay {
                Replay::More(next) => after = next,
                Replay::Live if list.is_empty() => return Ok(()),
                Replay::Live => return self.send_text(&list).await,
                Replay::Lost => return Err(Over),
            }
        }
    }

    /// Sends an event, with the positions if it changes one.
    async fn pass_on(&mut self, event: &Event) -> Result<(), Over> {
        let at = self.rooms.iter().position(|room| room.id() == event.room);
        let may_see = |at: usize| self.allowed[at].may(Rights::PRESENCE);
        if event.is_news && !at.is_some_and(may_see) {
            return Ok(());
        }
        if let Some((at, (epoch, seq))) = at.zip(event.begins.as_ref()) {
            self.positions.set(at, epoch, *seq);
            let line = [self.positions.line().as_bytes(), &event.data].concat();
            return self.send(line.into()).await;
        }
        let Some((at, seq)) = at.zip(event.seq) else {
            return self.send(event.data.clone()).await;
        };
        self.positions.advance(at, seq);
        let mut line = self.positions.line().into_bytes();
        line.extend_from_slice(&event.data);
        self.send(line.into()).await
    }

    async fn send_text(&mut self, text: &[u8]) -> Result<(), Over> {
        self.send([b"data: ", text, b"\n\n"].concat().into()).await
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Over> {
        tokio::select! {
            sent = self.lines.send(bytes) => sent.map_err(|_| Over),
            _ = &mut self.gone => Err(Over),
            () = tokio::time::sleep(2 * self.beat) => Err(Over), // it does not read
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let desk = &self.server.inner.desk;
        let front = desk.front();
        desk.forget(self.token);
        for room in self.rooms.drain(..) {
            // Whether the reader has closed the stream or lost it cannot be told.
            front.leave(&room, &self.who, self.token, Ending::Lost);
        }
        let place = front.asker(self.token);
        front.sessions().depart(&self.who, place, Ending::Lost, front.now());
    }
}

fn told<'a>(room: &'a str, epoch: &'a str, joined: &Joined) -> push::Joined<'a> {
    push::Joined {
        reference: None,
        room,
        epoch,
        seq: joined.seq,
        recovered: joined.recovered,
        user_count: joined.user_count,
        presence_seq: Some(joined.presence_seq),
    }
}

/// So much of the past is taken from a room at a time.
const CHUNK: usize = 32 << 10;
/// The most rooms of one stream.
const MAX_ROOMS: usize = 32;
/// What `POST /send` takes.
const MAX_PAYLOAD: usize = 64 << 10;
const RETRY_AFTER: u64 = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn an_event_is_one_line() {
        let event =
            Event::new(throng_hub::RoomId(1), b"{\"type\":\"x\",\"seq\":5,\"a\":{\r\n\"b\":1}}");
        assert_eq!(event.seq, Some(5));
        assert_eq!(&event.data[..], b"data: {\"type\":\"x\",\"seq\":5,\"a\":{  \"b\":1}}\n\n");
    }
}
