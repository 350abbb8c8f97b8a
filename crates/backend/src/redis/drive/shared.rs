use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use throng_hub::{Room, Sink};

use super::{Message, Queue};
use crate::redis::RedisStatus;
use crate::redis::step::Name;
use crate::threads::{guard, lock};

/// What the log of a room knows without asking.
#[derive(Debug, Default)]
pub(in crate::redis) struct Slot {
    /// Everything is heard, and nothing is missing.
    current: AtomicBool,
    /// The room's server can be reached.
    reachable: AtomicBool,
}

impl Slot {
    pub(in crate::redis) fn set_current(&self, current: bool) {
        self.current.store(current, Ordering::Relaxed);
    }

    /// Whether that is another answer than before.
    pub(in crate::redis) fn set_reachable(&self, reachable: bool) -> bool {
        self.reachable.swap(reachable, Ordering::Relaxed) != reachable
    }

    pub(in crate::redis) fn is_current(&self) -> bool {
        self.current.load(Ordering::Relaxed)
    }

    pub(in crate::redis) fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }
}

/// What the thread shares with the others.
#[derive(Default)]
pub(in crate::redis) struct Shared {
    pub(in crate::redis) queue: Arc<Queue>,
    /// Until the end; then only those who use it keep it.
    sink: Mutex<Option<Arc<dyn Sink>>>,
    voice: OnceLock<Weak<dyn Sink>>,
    status: Mutex<Option<(Instant, RedisStatus)>>,
}

impl Shared {
    pub(in crate::redis) fn start(&self, sink: Arc<dyn Sink>) {
        let _ = self.voice.set(Arc::downgrade(&sink));
        *lock(&self.sink) = Some(sink);
    }

    /// Lets go of the sink, which may drop anything: not under a lock.
    pub(in crate::redis) fn stop(&self) {
        let sink = lock(&self.sink).take();
        drop(sink);
    }

    /// Tells the hub; what it does wrong ends nothing here.
    pub(in crate::redis) fn tell(&self, what: impl FnOnce(&dyn Sink)) {
        let Some(sink) = self.voice.get().and_then(Weak::upgrade) else { return };
        guard(|| what(&*sink));
    }

    pub(in crate::redis) fn set_status(&self, status: RedisStatus) {
        *lock(&self.status) = Some((Instant::now(), status));
    }

    pub(in crate::redis) fn status(&self) -> RedisStatus {
        let Some((when, mut status)) = lock(&self.status).clone() else {
            return RedisStatus::default();
        };
        for server in &mut status.servers {
            server.since += when.elapsed();
        }
        (status.queued, status.queued_bytes) = (self.queue.len(), self.queue.bytes());
        status.refused = self.queue.refused();
        status
    }
}

/// A room here: what the core gives back with what it says of it.
#[derive(Clone, Debug)]
pub(in crate::redis) struct Handle {
    pub(in crate::redis) name: Name,
    pub(in crate::redis) room: Arc<Room>,
    pub(in crate::redis) slot: Arc<Slot>,
    /// The hub has it open already.
    pub(in crate::redis) open: bool,
}

/// About what a message takes in memory; the same before and behind.
pub(in crate::redis) fn bytes(session: &str, body: &throng_protocol::Body) -> usize {
    size_of::<Message>() + session.len() + body.len()
}

pub(in crate::redis) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
