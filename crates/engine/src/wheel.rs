//! A coarse timer wheel: one entry for each connection, looked at rarely.

use std::time::{Duration, Instant};

/// Which connection of the worker a timer is for. A connection that is gone by then is told
/// apart by its serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnId {
    pub(crate) key: u32,
    pub(crate) serial: u32,
}

impl ConnId {
    /// As a number that names it from outside the worker.
    pub(crate) fn token(self) -> u64 {
        u64::from(self.key) << 32 | u64::from(self.serial)
    }

    /// The other way round.
    pub(crate) fn from_token(token: u64) -> Self {
        Self { key: (token >> 32) as u32, serial: token as u32 }
    }
}

/// Time in steps of [`STEP`] since the worker started; lasts for 6 years.
pub(crate) type Coarse = u32;

/// Deadlines are met up to this much late, never early.
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// Hashed wheel. An entry costs 8 bytes; insertion and expiry are O(1); deadlines beyond one
/// round are looked at once a round.
pub(crate) struct Wheel {
    slots: Vec<Vec<Entry>>,
    start: Instant,
    now: Coarse,
    len: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    id: ConnId,
    due: Coarse,
}

const SLOTS: usize = 1024;

impl Wheel {
    pub(crate) fn new(start: Instant) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], start, now: 0, len: 0 }
    }

    /// The current step.
    pub(crate) fn coarse(&self, now: Instant) -> Coarse {
        (now.saturating_duration_since(self.start).as_millis() / STEP.as_millis()) as Coarse
    }

    /// How long until a step.
    pub(crate) fn until(&self, step: Coarse, now: Instant) -> Duration {
        (self.start + STEP * step).saturating_duration_since(now)
    }

    /// How many steps a duration lasts, rounded up.
    pub(crate) fn steps(duration: Duration) -> Coarse {
        duration.as_millis().div_ceil(STEP.as_millis()).min(u128::from(u32::MAX / 4)) as Coarse
    }

    pub(crate) fn insert(&mut self, id: ConnId, due: Coarse) {
        let due = due.max(self.now + 1);
        self.slots[due as usize % SLOTS].push(Entry { id, due });
        self.len += 1;
    }

    /// Moves everything due by `now` into `expired`.
    pub(crate) fn expire(&mut self, now: Coarse, expired: &mut Vec<ConnId>) {
        // After a long stop (a suspended machine) one round visits every slot.
        let first = self.now.max(now.saturating_sub(SLOTS as Coarse)) + 1;
        for step in first..=now {
            let slot = &mut self.slots[step as usize % SLOTS];
            let before = slot.len();
            slot.retain(|entry| {
                let due = entry.due <= now;
                if due {
                    expired.push(entry.id);
                }
                !due
            });
            self.len -= before - slot.len();
            if slot.is_empty() && slot.capacity() > 64 {
                *slot = Vec::new();
            }
        }
        self.now = self.now.max(now);
    }

    /// How long a worker may sleep before it must look again; `None` when nothing waits.
    pub(crate) fn sleep(&self, now: Instant) -> Option<Duration> {
        if self.len == 0 {
            return None;
        }
        let next = self.now + 1;
        let step = (next..next + SLOTS as Coarse)
            .find(|step| !self.slots[*step as usize % SLOTS].is_empty())
            .unwrap_or(next);
        Some((self.start + STEP * step).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: u32) -> ConnId {
        ConnId { key, serial: 0 }
    }

    #[test]
    fn entries_expire_once_in_time_and_survive_rounds() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.insert(id(1), 3);
        wheel.insert(id(2), 3 + SLOTS as Coarse);
        wheel.insert(id(3), 0); // in the past: next step
        let mut out = Vec::new();
        wheel.expire(2, &mut out);
        assert_eq!(out, [id(3)]);
        out.clear();
        wheel.expire(3, &mut out);
        assert_eq!(out, [id(1)]);
        out.clear();
        wheel.expire(3 + SLOTS as Coarse - 1, &mut out);
        assert!(out.is_empty());
        wheel.expire(3 + SLOTS as Coarse, &mut out);
        assert_eq!(out, [id(2)]);
        assert_eq!(wheel.sleep(start), None);
    }

    #[test]
    fn a_long_stop_expires_everything_due() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for key in 0..500 {
            wheel.insert(id(key), key * 7);
        }
        let mut out = Vec::new();
        wheel.expire(1_000_000, &mut out);
        assert_eq!(out.len(), 500);
    }

    #[test]
    fn sleep_reaches_to_the_next_entry() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.insert(id(1), 10);
        assert_eq!(wheel.sleep(start), Some(STEP * 10));
    }
}
