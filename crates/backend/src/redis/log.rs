use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use throng_hub::{Append, Draft, Identity, Kept, Log, Timestamp, Unavailable};
use throng_wire::OpCode;

use super::drive::{Handle, Job, Message, Shared, Slot};
use super::step::Name;

/// The messages of an open room, on their way to the thread that talks to Redis.
pub(super) struct Appender {
    shared: Arc<Shared>,
    name: Name,
    slot: Arc<Slot>,
    /// The room is not closed with it.
    forgotten: bool,
}

impl Appender {
    pub(super) fn new(shared: Arc<Shared>, handle: &Handle) -> Self {
        Self { shared, name: handle.name.clone(), slot: handle.slot.clone(), forgotten: false }
    }

    /// Drops it without closing the room.
    pub(super) fn forget(mut self) {
        self.forgotten = true;
    }

    fn push(&self, job: Job) {
        let _ = self.shared.queue.push(job);
    }
}

impl Log for Appender {
    fn append(&mut self, draft: &Draft<'_>, _now: Timestamp) -> Append {
        let refused = Append::Refused(Unavailable);
        if !self.slot.is_reachable() || self.shared.queue.is_full() {
            self.shared.queue.refuse();
            return refused;
        }
        let Draft { session, reference, asker, .. } = *draft;
        let message = Message { session: session.into(), reference, body: draft.body(), asker };
        match self.shared.queue.push(Job::Append { name: self.name.clone(), message }) {
            Ok(()) => Append::Later,
            Err(_closed) => refused,
        }
    }

    fn cast(&mut self, opcode: OpCode, payload: &[u8]) {
        // At most once, and nothing piles up.
        if self.slot.is_reachable() && !self.shared.queue.is_full() {
            let payload = Bytes::copy_from_slice(payload);
            self.push(Job::Cast { name: self.name.clone(), opcode, payload });
        }
    }

    fn seat(&mut self, who: &Arc<Identity>) {
        self.push(Job::Seat { name: self.name.clone(), who: who.clone() });
    }

    fn unseat(&mut self, user_id: &str) {
        self.push(Job::Unseat { name: self.name.clone(), user: user_id.into() });
    }

    fn look(&mut self) {
        self.push(Job::Look { name: self.name.clone() });
    }

    fn is_current(&self) -> bool {
        self.slot.is_current()
    }

    fn close(self: Box<Self>, _kept: Kept) {}
}

impl Drop for Appender {
    fn drop(&mut self) {
        if !self.forgotten {
            self.push(Job::Close { name: self.name.clone() });
        }
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender")
            .field("room", &self.name)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
