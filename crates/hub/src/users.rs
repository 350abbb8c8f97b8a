use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::Identity;

/// An identity that stands for its user: equal to every other of the same user id, and found
/// by it. Eight bytes, where a map keyed by strings would keep the id a second time.
#[derive(Clone, Debug)]
pub(crate) struct ByUser(pub(crate) Arc<Identity>);

impl Borrow<str> for ByUser {
    fn borrow(&self) -> &str {
        self.0.user_id()
    }
}

impl Hash for ByUser {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.user_id().hash(state); // as `str`, which `Borrow` asks for
    }
}

impl PartialEq for ByUser {
    fn eq(&self, other: &Self) -> bool {
        self.0.user_id() == other.0.user_id()
    }
}

impl Eq for ByUser {}

/// The connections of each user, by user.
#[derive(Debug, Default)]
pub(crate) struct Seats(HashMap<ByUser, u32>);

impl Seats {
    /// One more connection; whether it is the first of its user.
    pub(crate) fn add(&mut self, who: &Arc<Identity>) -> bool {
        if let Some(connections) = self.0.get_mut(who.user_id()) {
            *connections += 1;
            return false;
        }
        self.0.insert(ByUser(who.clone()), 1);
        true
    }

    /// One connection less: whether it was the last of its user; `None` if there was none.
    pub(crate) fn remove(&mut self, user_id: &str) -> Option<bool> {
        let connections = self.0.get_mut(user_id)?;
        *connections -= 1;
        if *connections > 0 {
            return Some(false);
        }
        self.0.remove(user_id);
        if self.0.capacity() > 16 && self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(self.0.len() * 2); // a crowd has left: give its memory back
        }
        Some(true)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first identity each user came with, in no particular order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Identity>> {
        self.0.keys().map(|user| &user.0)
    }
}

/// All connected users, in shards with a lock each.
#[derive(Debug)]
pub(crate) struct Users {
    shards: Box<[Mutex<Seats>]>,
    hasher: RandomState,
    count: AtomicUsize,
}

impl Users {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
        }
    }

    pub(crate) fn add(&self, who: &Arc<Identity>) -> bool {
        let mut shard = self.shard(who.user_id()).lock().unwrap_or_else(PoisonError::into_inner);
        let first = shard.add(who);
        self.count.fetch_add(usize::from(first), Ordering::Relaxed);
        first
    }

    pub(crate) fn remove(&self, user_id: &str) -> bool {
        let mut shard = self.shard(user_id).lock().unwrap_or_else(PoisonError::into_inner);
        let last = shard.remove(user_id) == Some(true);
        self.count.fetch_sub(usize::from(last), Ordering::Relaxed);
        last
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn shard(&self, user_id: &str) -> &Mutex<Seats> {
        &self.shards[self.hasher.hash_one(user_id) as usize % self.shards.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_leaves_gives_its_memory_back() {
        let crowd: Vec<_> =
            (0..1000).map(|n| Arc::new(Identity::anonymous(&format!("u_{n}"), "", None))).collect();
        let mut seats = Seats::default();
        assert!(crowd.iter().all(|who| seats.add(who)));
        let full = seats.0.capacity();
        for who in &crowd[10..] {
            assert_eq!(seats.remove(who.user_id()), Some(true));
        }
        assert!(seats.0.capacity() < full / 10);
        assert_eq!(seats.len(), 10);
        assert!(crowd[..10].iter().all(|who| !seats.add(who)), "the others are still there");
    }
}
