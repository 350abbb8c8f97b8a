//! When rooms want to be looked at: a thread that sleeps until the next one does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use throng_hub::{Room, Timestamp};

use crate::clock::wall_clock;

/// Rooms by the time when something there becomes due. A room that is gone by then is skipped.
#[derive(Default)]
pub(crate) struct Timers {
    inner: Mutex<Inner>,
    bell: Condvar,
}

#[derive(Default)]
struct Inner {
    heap: BinaryHeap<Reverse<Entry>>,
    ended: bool,
}

struct Entry {
    due: Timestamp,
    room: Weak<Room>,
}

impl Timers {
    /// Asks for a look at the room at this time.
    pub(crate) fn at(&self, due: Timestamp, room: &Arc<Room>) {
        let mut inner = self.lock();
        let first = inner.heap.peek().is_none_or(|Reverse(first)| due < first.due);
        inner.heap.push(Reverse(Entry { due, room: Arc::downgrade(room) }));
        drop(inner);
        if first {
            self.bell.notify_one();
        }
    }

    /// Calls `look` for every room whose time has come, until [`Timers::end`].
    pub(crate) fn run(&self, mut look: impl FnMut(&Arc<Room>)) {
        let mut inner = self.lock();
        while !inner.ended {
            let now = wall_clock();
            let due = inner.heap.peek().map(|Reverse(first)| first.due);
            match due {
                Some(due) if due <= now => {
                    let room = inner.heap.pop().and_then(|Reverse(entry)| entry.room.upgrade());
                    if let Some(room) = room {
                        drop(inner);
                        look(&room);
                        inner = self.lock();
                    }
                }
                // The wall clock may jump, so it is asked again now and then.
                Some(due) => {
                    let wait = Duration::from_millis(due.0 - now.0).min(LONGEST_WAIT);
                    let woken = self.bell.wait_timeout(inner, wait);
                    inner = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => inner = self.bell.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Ends [`Timers::run`].
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.bell.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(1);
