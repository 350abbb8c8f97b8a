use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use throng_hub::{Epoch, History, Room, Timestamp};

use super::lock;
use super::registry::Registry;

/// An open room, as the writer needs it. It lives as long as its log and its messages that wait.
#[derive(Debug)]
pub(super) struct Slot {
    registry: Arc<Registry>,
    hash: u64,
    history: History,
    /// Held while the sink is told that the room is open: nothing else is told of it meanwhile.
    pub(super) opening: Mutex<()>,
    counters: Mutex<Counters>,
}

impl Slot {
    pub(super) fn new(registry: &Arc<Registry>, room: &Room) -> Arc<Self> {
        Arc::new(Self {
            registry: registry.clone(),
            hash: registry.hash(room.space(), room.name()),
            history: room.rule().history,
            opening: Mutex::default(),
            counters: Mutex::default(),
        })
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Whether messages of this room are kept, or only counted.
    pub(super) fn keeps(&self) -> bool {
        self.history.size > 0 && self.history.bytes > 0 && self.history.ttl > Duration::ZERO
    }

    pub(super) fn counters(&self) -> MutexGuard<'_, Counters> {
        lock(&self.counters)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.registry.closed(self);
    }
}

/// Where a room is. Changed by the writer only, once the room is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// The id of its row; 0 before it has one.
    pub(super) row: i64,
    pub(super) epoch: u64,
    /// The last number, and its time.
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    /// The lowest number on the disk, or lower; `seq + 1` if there is none.
    pub(super) first: u64,
    /// Those below are to be removed.
    pub(super) floor: u64,
    /// About what the messages from `floor` on take.
    pub(super) bytes: u64,
    /// The time to live that its row knows, in milliseconds.
    pub(super) ttl: u64,
    /// What is on the disk is not what it should be: nothing more is written until the room is opened anew.
    pub(super) broken: bool,
    /// The last transaction it was part of.
    pub(super) turn: u64,
}

impl Counters {
    /// Of a room without a past.
    pub(super) fn begin(&mut self, epoch: Epoch, now: Timestamp) {
        *self = Self { epoch: epoch.0, time: now, first: 1, floor: 1, ..Self::default() };
    }
}

/// What a message counts for in [`History::bytes`], as in the memory of a room.
pub(super) fn cost(body: usize) -> u64 {
    body as u64 + 96
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
