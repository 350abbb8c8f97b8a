//! What workers and the front do with rooms: messages go in, frames go out to whoever listens.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use throng_hub::{
    Asker, Author, Crowded, Elsewhere, Ending, Hub, Identity, Opened, Order, Outcome, Published,
    Renewed, Room, Sink, Space, Stored, Timestamp, Unavailable,
};
use throng_protocol::{Code, Fault, Publish, push};
use throng_wire::{OpCode, Prepared};

use crate::admission::Permit;
use crate::clock::wall_clock;
use crate::engine::Shared;
use crate::handler::HANDLER_SPACE;
use crate::inbox::{Echo, Inbox, Post, Sight};
use crate::wheel::ConnId;

/// A room opened for somebody who may be gone by then is looked at after this long, in milliseconds.
const UNUSED: u64 = 10_000;
/// A room that could not be opened is tried again after this long, in milliseconds.
const FAILED: u64 = 1000;

impl Shared {
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Hands a message to every worker that has members of the room. Called with the room's
    /// order held, which is what makes all workers see the same order.
    #[inline]
    pub(crate) fn deliver(&self, order: &Order<'_>, message: &Prepared) {
        let room = order.room().id();
        for worker in order.workers() {
            self.inboxes[worker].push(Post::Deliver(room, message.clone()));
        }
    }

    /// The same for a message that says who comes or goes, which not everybody may see.
    pub(crate) fn announce(&self, order: &Order<'_>, message: &Prepared) {
        let room = order.room().id();
        for worker in order.workers() {
            self.inboxes[worker].push(Post::DeliverNews(room, message.clone()));
        }
    }

    /// The same for a message whose sender may not want it back.
    pub(crate) fn deliver_from(&self, order: &Order<'_>, message: &Prepared, from: Asker) {
        let room = order.room().id();
        for worker in order.workers() {
            self.inboxes[worker].push(if worker == from.worker as usize {
                Post::DeliverFrom(room, message.clone(), ConnId::from_token(from.token))
            } else {
                Post::Deliver(room, message.clone())
            });
        }
    }

    /// Publishes a message and delivers it, at once or when it is stored. `echo`: whether the
    /// author wants it back.
    pub(crate) fn publish(
        &self,
        room: &Room,
        author: &Author<'_>,
        message: &Publish<'_>,
        echo: Echo,
    ) -> Result<Published, Fault> {
        room.check(message)?;
        let mut order = room.order();
        let published = order.publish(author, message, wall_clock())?;
        match &published {
            Published::Now { frame, .. } if echo == Echo::Yes => self.deliver(&order, frame),
            Published::Now { frame, .. } => self.deliver_from(&order, frame, author.asker),
            Published::Later => self.congestion.storing(),
            Published::Before { .. } => {}
        }
        Ok(published)
    }

    /// Takes somebody out of a room, tells the others, and forgets the room if it is empty. `id`: a
    /// connection that stays, but is to receive nothing more of the room.
    pub(crate) fn leave(
        &self,
        room: &Arc<Room>,
        who: &Arc<Identity>,
        worker: usize,
        id: Option<ConnId>,
        ending: Ending,
    ) {
        let mut order = room.order();
        if let Some(id) = id {
            self.inboxes[worker].push(Post::Exit(id, room.id()));
        }
        let left = order.leave(who, worker, ending, wall_clock());
        if let Some(announcement) = &left.announcement {
            self.announce(&order, announcement);
        }
        drop(order);
        if let Some(due) = left.wake {
            self.timers.at(due, room);
        }
        if left.empty {
            self.hub.release(room);
        }
    }

    /// Makes a connection a member of a room without presence, if there may be one more room.
    pub(crate) fn enter(
        &self,
        space: Space,
        name: &str,
        worker: usize,
        id: ConnId,
        permit: Option<&Permit>,
    ) -> Result<Arc<Room>, Crowded> {
        loop {
            let room = match space {
                HANDLER_SPACE => self.hub.room(space, name, wall_clock()), // as the embedder says
                _ => self.found(space, name, permit)?,
            };
            let mut order = room.order();
            if order.attach(worker).is_ok() {
                self.inboxes[worker].push(Post::Enter(
                    id,
                    Arc::clone(&room),
                    Echo::Yes,
                    Sight::Full,
                ));
                drop(order);
                return Ok(room);
            }
        }
    }

    /// The room of this name, brought into being on demand by whoever has this permit.
    pub(crate) fn found(
        &self,
        space: Space,
        name: &str,
        permit: Option<&Permit>,
    ) -> Result<Arc<Room>, Crowded> {
        // Everybody has one room of their own, as long as they are connected.
        let permit = permit.filter(|_| !name.starts_with('@'));
        let deed = || permit.map_or(Ok(None), Permit::found);
        self.hub.found(space, name, wall_clock(), deed)
    }

    /// Ends such a membership.
    pub(crate) fn exit(&self, room: &Arc<Room>, worker: usize) {
        if room.order().detach(worker) {
            self.hub.release(room);
        }
    }

    /// Passes a message on verbatim.
    #[inline]
    pub(crate) fn relay(&self, room: &Room, opcode: OpCode, payload: &[u8]) {
        let message = Prepared::new(opcode, payload);
        let mut order = room.order();
        self.deliver(&order, &message);
        order.pass_on(opcode, payload);
    }

    pub(crate) fn broadcast(&self, space: Space, name: &str, opcode: OpCode, payload: &[u8]) {
        if let Some(room) = self.hub.find(space, name) {
            self.relay(&room, opcode, payload);
        } else if self.hub.is_shared() {
            let room = self.hub.room(space, name, wall_clock()); // there may be members elsewhere
            self.relay(&room, opcode, payload);
            self.hub.release(&room);
        }
    }

    /// The inbox of whoever asked.
    pub(crate) fn inbox_of(&self, asker: Asker) -> Option<&Arc<Inbox>> {
        self.inboxes.get(asker.worker as usize)
    }

    /// Has a room looked at that was opened for somebody who may be gone by then.
    pub(crate) fn release_later(&self, room: &Arc<Room>) {
        let due = room.order().look_again(Timestamp(wall_clock().0 + UNUSED));
        if let Some(due) = due {
            self.timers.at(due, room);
        }
    }

    /// A room's time has come.
    pub(crate) fn handle_timeout(&self, room: &Arc<Room>) {
        let mut order = room.order();
        let due = order.handle_timeout(wall_clock());
        for frame in &due.frames {
            self.announce(&order, frame);
        }
        let empty = order.is_empty();
        drop(order);
        if let Some(wake) = due.wake {
            self.timers.at(wake, room);
        }
        if empty {
            self.hub.release(room);
        }
    }
}

/// Takes the results of backends. Ends with the engine.
pub(crate) struct Results(pub(crate) Weak<Shared>);

impl Sink for Results {
    fn opened(&self, room: &Arc<Room>, result: Result<Opened, Unavailable>) {
        let Some(shared) = self.0.upgrade() else { return };
        // Whoever waited may have gone, and then nobody would release it.
        let release = if result.is_ok() { UNUSED } else { FAILED };
        let waiting = shared.hub.opened(room, result);
        shared.ready(&waiting);
        shared.timers.at(Timestamp(wall_clock().0 + release), room);
    }

    fn appended(&self, outcomes: &mut Vec<Outcome>) {
        let Some(shared) = self.0.upgrade() else { return outcomes.clear() };
        for outcome in outcomes.drain(..) {
            shared.complete(&outcome);
        }
    }

    fn arrived(&self, room: &Arc<Room>, messages: &mut Vec<Stored>) {
        let Some(shared) = self.0.upgrade() else { return messages.clear() };
        let mut order = room.order();
        for frame in order.arrived(messages) {
            shared.deliver(&order, &frame);
        }
    }

    fn renewed(&self, room: &Arc<Room>, renewed: Renewed) {
        let Some(shared) = self.0.upgrade() else { return };
        let mut order = room.order();
        if let Some(frame) = order.renew(renewed) {
            let id = room.id();
            for worker in order.workers() {
                shared.inboxes[worker].push(Post::Renew(id, frame.clone()));
            }
        }
    }

    fn elsewhere(&self, room: &Arc<Room>, news: Vec<Elsewhere>) {
        let Some(shared) = self.0.upgrade() else { return };
        let mut order = room.order();
        let due = order.elsewhere(news, wall_clock());
        for frame in &due.frames {
            shared.announce(&order, frame);
        }
        drop(order);
        if let Some(wake) = due.wake {
            shared.timers.at(wake, room);
        }
    }

    fn looked(&self, room: &Arc<Room>) {
        let Some(shared) = self.0.upgrade() else { return };
        let asker = room.order().looked();
        shared.ready(asker.as_slice());
    }

    fn cast(&self, room: &Arc<Room>, opcode: OpCode, payload: Bytes) {
        let Some(shared) = self.0.upgrade() else { return };
        let message = Prepared::new(opcode, &payload);
        shared.deliver(&room.order(), &message);
    }
}

impl Shared {
    /// What somebody waited for is there, or cannot be had.
    fn ready(&self, waiting: &[Asker]) {
        for asker in waiting {
            if let Some(inbox) = self.inbox_of(*asker) {
                inbox.push(Post::Ready(asker.token));
            }
        }
    }

    /// A message is stored, or not: the members get it, and whoever asked an answer.
    fn complete(&self, outcome: &Outcome) {
        let room = &outcome.room;
        let mut order = room.order();
        let completed = order.complete(outcome);
        if let Some(frame) = &completed.frame {
            self.deliver_from(&order, frame, outcome.asker);
        }
        let empty = order.is_empty();
        drop(order);
        let stored = completed.stored;
        self.congestion.stored(completed.askers.len());
        for (at, asker) in completed.askers.into_iter().enumerate() {
            let duplicate = outcome.duplicate || at > 0;
            self.answer(asker, room, outcome.reference, stored, duplicate);
        }
        if empty {
            self.hub.release(room);
        }
    }

    fn answer(
        &self,
        asker: Asker,
        room: &Room,
        reference: u64,
        stored: Option<(u64, Timestamp)>,
        duplicate: bool,
    ) {
        let Some(inbox) = self.inbox_of(asker) else { return };
        if asker.worker as usize == self.front() {
            let stored = stored.ok_or(Unavailable);
            return inbox.push(Post::Stored(asker.token, stored, duplicate));
        }
        let mut text = Vec::new();
        match stored {
            Some((seq, timestamp)) if reference != 0 => {
                let (room, seq) = (room.name(), Some(seq));
                push::ack(&mut text, &push::Ack { reference, room, seq, timestamp, duplicate });
            }
            Some(_) => return,
            None => {
                let reference = Some(reference).filter(|reference| *reference != 0);
                let fault = Fault::new(Code::Unavailable).with_reference(reference);
                push::error(&mut text, &fault, Some(room.name()), Some(RETRY_AFTER));
            }
        }
        let frame = Prepared::new(OpCode::Text, &text).frame().clone();
        inbox.push(Post::Answer(ConnId::from_token(asker.token), frame));
    }
}

/// When a message that could not be stored may be sent again, in milliseconds.
pub(crate) const RETRY_AFTER: u64 = 1000;
