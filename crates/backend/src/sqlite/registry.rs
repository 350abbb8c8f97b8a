use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, Weak};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use throng_hub::{Epoch, Room, Space, Timestamp};

use super::lock;
use super::slot::Slot;

/// Which rooms have a row, and which are open.
///
/// Rooms are known by 64 bits of a keyed hash. Two rooms that share them would both be looked for on the
/// disk, and stay there longer; the chance is 1 to 37 million for a million rooms.
pub(super) struct Registry {
    inner: Mutex<Inner>,
    hasher: RandomState,
    secret: [u8; 32],
}

struct Inner {
    rows: HashSet<u64>,
    open: HashMap<u64, Weak<Slot>>,
    /// Those whose row is just being removed, and who waits to open them.
    doomed: HashMap<u64, Vec<Job>>,
    era: u64,
    closed: bool,
}

/// What the readers do.
pub(super) enum Job {
    Load { room: Arc<Room>, slot: Arc<Slot>, now: Timestamp },
    End,
}

/// Where a room is.
pub(super) enum Found {
    /// It has no past; this is the era.
    Fresh(u64),
    /// A reader looks.
    Later,
    /// Nowhere: the end has come.
    Closed,
}

impl Registry {
    pub(super) fn new(secret: [u8; 32], era: u64, rooms: Vec<(Space, String)>) -> Self {
        let hasher = RandomState::new();
        let rows = rooms.iter().map(|(space, name)| hasher.hash_one((space, name.as_str())));
        let inner = Inner {
            rows: rows.collect(),
            open: HashMap::new(),
            doomed: HashMap::new(),
            era,
            closed: false,
        };
        Self { inner: Mutex::new(inner), hasher, secret }
    }

    pub(super) fn hash(&self, space: Space, name: &str) -> u64 {
        self.hasher.hash_one((space, name))
    }

    /// The epoch of a room without a row.
    pub(super) fn epoch(&self, era: u64, space: Space, name: &str) -> Epoch {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret)
            .expect("invariant: HMAC takes keys of any length");
        mac.update(b"epoch\0"); // the secret signs other things as well
        mac.update(&era.to_be_bytes());
        mac.update(&space.0.to_be_bytes());
        mac.update(name.as_bytes());
        let mac = mac.finalize().into_bytes();
        let mut epoch = [0; 8];
        epoch.copy_from_slice(&mac[..8]);
        Epoch(u64::from_be_bytes(epoch))
    }

    /// Notes that a room is open, and has it loaded if it has a row.
    pub(super) fn open(
        &self,
        room: &Arc<Room>,
        slot: &Arc<Slot>,
        now: Timestamp,
        jobs: &Sender<Job>,
    ) -> Found {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Found::Closed;
        }
        inner.open.insert(slot.hash(), Arc::downgrade(slot));
        let job = || Job::Load { room: room.clone(), slot: slot.clone(), now };
        if let Some(waiting) = inner.doomed.get_mut(&slot.hash()) {
            waiting.push(job());
        } else if !inner.rows.contains(&slot.hash()) {
            return Found::Fresh(inner.era);
        } else {
            // Under the lock, so that nothing comes behind `Job::End`.
            let _ = jobs.send(job());
        }
        Found::Later
    }

    /// A room is no longer open.
    pub(super) fn closed(&self, slot: &Slot) {
        let mut inner = lock(&self.inner);
        // It may have been opened again before the last of its messages was let go.
        if inner.open.get(&slot.hash()).is_some_and(|open| std::ptr::eq(open.as_ptr(), slot)) {
            inner.open.remove(&slot.hash());
        }
    }

    /// The open room of this hash. Not to be dropped under a lock of this.
    pub(super) fn find(&self, hash: u64) -> Option<Arc<Slot>> {
        lock(&self.inner).open.get(&hash).and_then(Weak::upgrade)
    }

    /// The row of a room is going to be removed: it is not opened until [`Registry::spare`] or
    /// [`Registry::remove`]. `false` when it is open.
    pub(super) fn doom(&self, hash: u64) -> bool {
        let mut inner = lock(&self.inner);
        if inner.open.contains_key(&hash) {
            return false;
        }
        inner.doomed.insert(hash, Vec::new());
        true
    }

    /// The rows have been removed, and this is the era now. Who waits for them is served.
    pub(super) fn remove(&self, hashes: &[u64], era: u64, jobs: &Sender<Job>) {
        let mut inner = lock(&self.inner);
        inner.era = era;
        for hash in hashes {
            inner.rows.remove(hash);
        }
        let waiting = inner.release(hashes);
        drop(inner);
        send(waiting, jobs);
    }

    /// The rows have not been removed after all.
    pub(super) fn spare(&self, hashes: &[u64], jobs: &Sender<Job>) {
        let waiting = lock(&self.inner).release(hashes);
        send(waiting, jobs);
    }

    /// A room has a row now.
    pub(super) fn add(&self, hash: u64) {
        lock(&self.inner).rows.insert(hash);
    }

    pub(super) fn era(&self) -> u64 {
        lock(&self.inner).era
    }

    pub(super) fn rows(&self) -> usize {
        lock(&self.inner).rows.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }

    /// Nothing is opened any more.
    pub(super) fn close(&self) {
        lock(&self.inner).closed = true;
    }
}

impl Inner {
    fn release(&mut self, hashes: &[u64]) -> Vec<Job> {
        hashes.iter().flat_map(|hash| self.doomed.remove(hash).unwrap_or_default()).collect()
    }
}

fn send(waiting: Vec<Job>, jobs: &Sender<Job>) {
    for job in waiting {
        let _ = jobs.send(job); // the readers end behind the writer
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("rows", &self.rows()).finish_non_exhaustive()
    }
}
