//! The front's share of the rooms: it has a number like a worker, and an inbox, but no sockets of ours.

use std::sync::Arc;
use std::time::{Duration, Instant};

use throng_hub::{
    Access, Asker, Author, Ending, Hub, Identity, Order, Pass, Published, Rate, Room, RoomId,
    Sessions, Timestamp, Tokens, Unavailable,
};
use throng_protocol::{Code, Fault, Publish};
use throng_wire::{CloseCode, Prepared};

use crate::clock::{nanos, wall_clock};
use crate::drain::Slots;
use crate::engine::Shared;
use crate::inbox::{Echo, Post, Sight};
use crate::session::{Refresh, Review, identify};
use crate::wheel::ConnId;

/// Rooms for whoever is not a connection of a worker: event streams, the HTTP API, the embedder.
#[derive(Clone)]
pub struct Front {
    pub(crate) shared: Arc<Shared>,
}

/// What the front is told.
#[derive(Debug)]
pub enum Note {
    /// A message for every member of a room that joined with [`Front::worker`]. In order for each room.
    Deliver(RoomId, Prepared),
    /// The same for one that says who comes or goes, which not everybody may see.
    News(RoomId, Prepared),
    /// From here on this asker gets the messages of the room.
    Enter(u64, RoomId),
    /// From here on it does not any more.
    Exit(u64, RoomId),
    /// A room that this asker waits for is open, or cannot be opened.
    Ready(u64),
    /// What became of a message this asker has published, and whether somebody else had published it
    /// before.
    Stored(u64, Result<(u64, Timestamp), Unavailable>, bool),
    /// This asker is to be gone.
    Close(u64, CloseCode),
    /// Somebody shows another credential. [`Front::answer_refresh`] says what came of it.
    Refresh(Refresh),
    /// Everybody gets a slot to go and come back in.
    Drain(Arc<Slots>),
    /// The server is shutting down.
    Shutdown,
    /// There will be nothing more.
    End,
}

impl Front {
    /// All rooms.
    pub fn hub(&self) -> &Hub {
        self.shared.hub()
    }

    /// Who may do what.
    pub fn access(&self) -> &Access {
        &self.shared.access
    }

    /// Who is connected.
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// What sessions are taken up with.
    pub fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// How long a connection may be silent, in milliseconds.
    pub fn heartbeat(&self) -> u64 {
        self.shared.heartbeat.as_millis() as u64
    }

    /// The number of the front among the workers: members that join with it are told by [`Note`]s.
    pub fn worker(&self) -> usize {
        self.shared.front()
    }

    /// An asker of the front.
    pub fn asker(&self, token: u64) -> Asker {
        Asker { worker: self.worker() as u32, token }
    }

    /// What time it is by the wall clock.
    pub fn now(&self) -> Timestamp {
        wall_clock()
    }

    /// Pays for something that a user does without a connection.
    ///
    /// # Errors
    /// `rate_limited`, and after how long there will be enough.
    pub fn charge(&self, user_id: &str, rate: &Rate, cost: u32) -> Result<(), Fault> {
        let now = nanos(Instant::now());
        // Nobody's id has a blank: what is done by connections is counted apart.
        let meter = self.shared.users.of(&format!("send {user_id}"), now);
        meter
            .take(rate, cost, now)
            .map_err(|wait| Fault::new(Code::RateLimited).with_retry_after(wait))
    }

    /// What users who are signed in have spent since this was asked last, as the time that it takes to be there again: of
    /// those who have spent at least `least`. Looks at all of them.
    pub fn spent(&self, least: Duration) -> Vec<(Box<str>, Duration)> {
        let least = u64::try_from(least.as_nanos()).unwrap_or(u64::MAX);
        let spent = self.shared.users.spent(least).into_iter();
        spent.map(|(user, spent)| (user, Duration::from_nanos(spent))).collect()
    }

    /// What one of these has spent here and elsewhere takes so long to be there again.
    pub fn owes(&self, user: &str, ahead: Duration) {
        self.shared.users.owes(user, ahead, nanos(Instant::now()));
    }

    /// A fresh anonymous user.
    pub fn identify(&self, name: Option<&str>) -> Identity {
        identify(name)
    }

    /// Takes what waits for the front, in order, into `notes`, which must be empty. To be called when the
    /// engine wakes the front, until there is nothing.
    pub fn drain(&self, notes: &mut Vec<Note>) {
        let mut posts = Vec::new();
        let inbox = self.shared.inbox(self.worker());
        while notes.is_empty() {
            inbox.drain(&mut posts);
            if posts.is_empty() && inbox.may_sleep() {
                return;
            }
            notes.extend(posts.drain(..).filter_map(|post| match post {
                Post::Deliver(room, frame) | Post::DeliverFrom(room, frame, _) => {
                    Some(Note::Deliver(room, frame))
                }
                Post::DeliverNews(room, frame) => Some(Note::News(room, frame)),
                Post::Renew(room, frame) => Some(Note::Deliver(room, frame)),
                Post::Enter(id, room, ..) => Some(Note::Enter(id.token(), room.id())),
                Post::Exit(id, room) => Some(Note::Exit(id.token(), room)),
                Post::Ready(token) => Some(Note::Ready(token)),
                Post::Stored(token, result, duplicate) => {
                    Some(Note::Stored(token, result, duplicate))
                }
                Post::Refresh(refresh) => Some(Note::Refresh(*refresh)),
                // An event stream begins anew, with what holds then.
                Post::Review(id, _) => Some(Note::Close(id.token(), CloseCode::NORMAL)),
                Post::Close(id, code, _) => Some(Note::Close(id.token(), code)),
                Post::Drain(slots) => Some(Note::Drain(slots)),
                Post::Shutdown(_) => Some(Note::Shutdown),
                Post::End => Some(Note::End),
                _ => None,
            }));
        }
    }

    /// Makes an asker that has joined live: messages of the room whose turn it is come as notes from
    /// here on.
    pub fn enter(&self, room: &Arc<Room>, order: &Order<'_>, token: u64) {
        debug_assert_eq!(order.room().id(), room.id());
        let enter =
            Post::Enter(ConnId::from_token(token), Arc::clone(room), Echo::Yes, Sight::Full);
        self.shared.inbox(self.worker()).push(enter);
    }

    /// Tells all members of the room whose turn it is, but for those who may not see it, who comes or goes.
    pub fn announce(&self, order: &Order<'_>, frame: &Prepared) {
        self.shared.announce(order, frame);
    }

    /// Publishes a message and delivers it, at once or when it is stored.
    ///
    /// # Errors
    /// As [`Order::publish`] and [`Room::check`].
    pub fn publish(
        &self,
        room: &Room,
        author: &Author<'_>,
        message: &Publish<'_>,
    ) -> Result<Published, Fault> {
        self.shared.publish(room, author, message, Echo::Yes)
    }

    /// Ends a membership of the front.
    pub fn leave(&self, room: &Arc<Room>, who: &Arc<Identity>, token: u64, ending: Ending) {
        let id = ConnId::from_token(token);
        self.shared.leave(room, who, self.worker(), Some(id), ending);
    }

    /// Has a room looked at when something there becomes due.
    pub fn wake_at(&self, due: Timestamp, room: &Arc<Room>) {
        self.shared.timers.at(due, room);
    }

    /// Whether workers or backends can't keep up: who publishes from outside waits.
    pub fn is_congested(&self) -> bool {
        self.shared.congestion.any()
    }

    /// Closes the connections of a user, wherever they are, and ends the sessions. Returns how many
    /// connections.
    pub fn disconnect(&self, user_id: &str, code: CloseCode, reason: &str) -> usize {
        let places = self.shared.sessions.dismiss(user_id, self.now());
        for place in &places {
            self.close(*place, code, reason);
        }
        places.len()
    }

    /// Says what came of another credential: the pass that holds from now on, or why there is none. A session
    /// that has ended in the meantime, or has another connection, stays as it is.
    pub fn answer_refresh(&self, refresh: &Refresh, result: Result<Arc<Pass>, Fault>) {
        let Refresh { asker, who, reference, .. } = refresh;
        let review = match result {
            Ok(pass) if self.shared.sessions.renew(who, *asker, &pass) => {
                Review::Renewed(pass, *reference)
            }
            Ok(_) => Review::Refused(Fault::new(Code::Unauthorized), *reference),
            Err(fault) => Review::Refused(fault, *reference),
        };
        self.post_review(*asker, review);
    }

    /// Has a connection look again at what it may do: rooms that it may no longer be in are left.
    pub fn review(&self, place: Asker) {
        self.post_review(place, Review::Again);
    }

    /// Takes a connection out of a room.
    pub fn evict(&self, place: Asker, room: &str) {
        self.post_review(place, Review::Evicted(room.into()));
    }

    fn post_review(&self, place: Asker, review: Review) {
        if let Some(inbox) = self.shared.inbox_of(place) {
            inbox.push(Post::Review(ConnId::from_token(place.token), Box::new(review)));
        }
    }

    /// Closes one connection.
    pub fn close(&self, place: Asker, code: CloseCode, reason: &str) {
        if let Some(inbox) = self.shared.inbox_of(place) {
            inbox.push(Post::Close(ConnId::from_token(place.token), code, reason.into()));
        }
    }
}
