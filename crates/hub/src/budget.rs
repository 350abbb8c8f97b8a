//! How much memory may be kept for what comes from outside.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use throng_protocol::{Code, Fault};

/// The bytes a process keeps for its peers: what waits for slow readers, messages that are not complete,
/// the past of open rooms. One for all workers and rooms.
///
/// From nine tenths of it on nobody new comes in: no connections, no rooms. When it is spent, whoever would
/// keep more is refused. What several share is counted for each of them, so it is rather too much than
/// too little.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    rooms_refused: AtomicU64,
    overloaded: AtomicU64,
    rate_limited: AtomicU64,
}

impl Budget {
    /// Of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            rooms_refused: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            rate_limited: AtomicU64::new(0),
        }
    }

    /// How much there is in all.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How much is used.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Somebody who kept `before` bytes keeps `now`. One atomic addition, none when nothing changes.
    pub fn change(&self, before: usize, now: usize) {
        if now > before {
            self.used.fetch_add(now - before, Ordering::Relaxed);
        } else if before > now {
            self.used.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Whether nobody new should come in: nine tenths are used.
    pub fn is_tight(&self) -> bool {
        self.used() >= self.limit - self.limit / 10
    }

    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.used() >= self.limit
    }

    /// How often a room was refused, be it for memory or for their number.
    pub fn rooms_refused(&self) -> u64 {
        self.rooms_refused.load(Ordering::Relaxed)
    }

    /// How many messages were refused because nothing was left.
    pub fn overloaded(&self) -> u64 {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// How many messages were refused because there were too many in their room.
    pub fn rate_limited(&self) -> u64 {
        self.rate_limited.load(Ordering::Relaxed)
    }

    pub(crate) fn refuse_room(&self) {
        self.rooms_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse_message(&self) {
        self.overloaded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse_rate(&self) {
        self.rate_limited.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for Budget {
    /// Without end.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// Counts a room for whoever has brought it into being, until it is dropped.
pub struct Deed(Box<dyn Any + Send + Sync>);

impl Deed {
    /// Whatever counts. It is dropped under the room's order, so its drop must be quick and not call the hub.
    pub fn new(counts: impl Any + Send + Sync) -> Self {
        Self(Box::new(counts))
    }
}

impl fmt::Debug for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deed").field(&(*self.0).type_id()).finish()
    }
}

/// Why there is not to be one room more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// There are as many as there may be.
    Rooms,
    /// Most of the [`Budget`] is used.
    Memory,
    /// Whoever asks has brought as many into being as they may.
    Founder,
}

impl From<Crowded> for Fault {
    fn from(crowded: Crowded) -> Self {
        match crowded {
            Crowded::Rooms => Self::new(Code::TooManyRooms)
                .with_message("The server has as many rooms as it may have."),
            Crowded::Memory => Self::new(Code::Overloaded),
            Crowded::Founder => Self::new(Code::TooManyRooms)
                .with_message("You have opened as many new rooms as you may."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tight_before_spent() {
        let budget = Budget::new(1000);
        budget.change(0, 899);
        assert!(!budget.is_tight());
        budget.change(99, 100);
        assert!(budget.is_tight() && !budget.is_spent());
        budget.change(0, 100);
        assert!(budget.is_spent());
        budget.change(1000, 0);
        assert_eq!((budget.used(), budget.is_tight()), (0, false));
        let endless = Budget::default();
        endless.change(0, 1 << 40);
        assert!(!endless.is_tight());
    }
}
