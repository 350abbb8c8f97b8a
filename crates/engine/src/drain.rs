//! Sending everybody away, each at a time of its own: what the workers and the front share of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::inbox::Post;

/// How everybody is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When the first slot is, from the beginning.
    pub first: Duration,
    /// Over how long the slots are spread from there on.
    pub spread: Duration,
    /// How long after its slot a client that was told is closed with `1012` if it has not left by itself; whoever
    /// cannot be told is closed in the slot. `None`: everybody is closed at once and the slot is only for
    /// coming back.
    pub linger: Option<Duration>,
    /// The server is about to end: [`Engine::undrain`] changes nothing from here on.
    pub for_good: bool,
}

/// The slots of a drain: one for each connection and event stream, as far apart as they can be.
#[derive(Debug)]
pub struct Slots {
    drain: Drain,
    began: Instant,
    /// Connections when it began.
    total: usize,
    /// From one slot that is given to the next one: so that those who came together do not leave together.
    stride: usize,
    given: AtomicUsize,
}

impl Slots {
    pub(crate) fn new(drain: Drain, total: usize, now: Instant) -> Self {
        let total = total.max(1);
        // By the golden ratio, whatever number of them in a row are spread over the whole time.
        let near = (total as f64 * 0.618).round() as usize;
        let stride = (near.max(1)..).find(|stride| gcd(*stride, total) == 1).unwrap_or(1);
        Self { drain, began: now, total, stride, given: AtomicUsize::new(0) }
    }

    /// The next slot, as the time from now on to it.
    pub fn take(&self) -> Duration {
        let slot = self.nth(self.given.fetch_add(1, Ordering::Relaxed));
        (self.began + slot).saturating_duration_since(Instant::now())
    }

    /// The slot of this number, from the beginning. Those who come late, on their way from the front when it
    /// began, get slots half-way between the others.
    fn nth(&self, number: usize) -> Duration {
        let parts = 2 * self.total;
        let place = (number % self.total * self.stride) % self.total;
        let part = 2 * place + usize::from(number >= self.total);
        self.drain.first + self.drain.spread.mul_f64(part as f64 / parts as f64)
    }

    /// As it was asked for.
    pub fn drain(&self) -> Drain {
        self.drain
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// How many connections and event streams there were when it began, at least 1.
    pub fn total(&self) -> usize {
        self.total
    }

    /// When the last one is closed: nobody is left but those who do not take part in the closing handshake.
    pub fn ends(&self) -> Instant {
        let Drain { first, spread, linger, .. } = self.drain;
        self.began + linger.map_or(Duration::ZERO, |linger| first + spread + linger)
    }
}

/// Whether everybody is being sent away.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    slots: Option<Arc<Slots>>,
    for_good: bool,
}

impl Engine {
    /// Begins to send everybody away: the front refuses upgrades with `503` from here on, each client of the typed
    /// protocol is told a `reconnect` slot of its own, and connections are closed with `1012` as `drain` says.
    /// Returns at once. A second call returns the slots of the first, and changes nothing but that it may be for good.
    pub fn drain(&self, drain: Drain) -> Arc<Slots> {
        let shared = self.shared();
        let mut leave = self.leave();
        leave.for_good |= drain.for_good;
        if let Some(slots) = &leave.slots {
            return Arc::clone(slots);
        }
        let slots = Arc::new(Slots::new(drain, shared.admission.in_use(), Instant::now()));
        leave.slots = Some(Arc::clone(&slots));
        // Under the lock: workers hear of beginnings and ends in the order in which they are.
        for inbox in &shared.inboxes {
            inbox.push(Post::Drain(Arc::clone(&slots)));
        }
        slots
    }

    /// Takes a drain back: upgrades are accepted again, and nobody else is told to go. Those who were told keep their
    /// slots, and are closed when they have not left. Whether nobody is being sent away now; not when a drain is for good, nor
    /// once [`Engine::shutdown`] has begun.
    pub fn undrain(&self) -> bool {
        let mut leave = self.leave();
        if leave.for_good || self.has_ended() {
            return false;
        }
        if leave.slots.take().is_some() {
            for inbox in &self.shared().inboxes {
                inbox.push(Post::Undrain);
            }
        }
        true
    }

    /// The slots of the drain that has begun, if one has and was not taken back.
    pub fn draining(&self) -> Option<Arc<Slots>> {
        self.leave().slots.clone()
    }

    fn leave(&self) -> MutexGuard<'_, Leave> {
        self.shared().leave.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_even_and_those_who_come_late_are_in_between() {
        let (first, spread) = (Duration::from_secs(1), Duration::from_secs(4));
        let slots =
            Slots::new(Drain { first, spread, linger: None, for_good: false }, 4, Instant::now());
        let millis: Vec<u128> = (0..9).map(|number| slots.nth(number).as_millis()).collect();
        assert_eq!(millis, [1000, 4000, 3000, 2000, 1500, 4500, 3500, 2500, 1500]);
        assert_eq!(slots.ends(), slots.began());
        for total in 1..300 {
            let slots = Slots::new(
                Drain { first, spread, linger: None, for_good: false },
                total,
                Instant::now(),
            );
            let mut given: Vec<Duration> = (0..total).map(|number| slots.nth(number)).collect();
            // Whoever is in the first third of those who were here is spread as all are.
            let early = given[..total / 3].iter().filter(|slot| **slot < first + spread / 2);
            assert!(early.count().abs_diff(total / 6) <= 1 + total / 20, "{total}");
            given.sort();
            given.dedup();
            assert_eq!(given.len(), total);
        }
        let lingering =
            Drain { first, spread, linger: Some(Duration::from_secs(2)), for_good: false };
        let slots = Slots::new(lingering, 0, Instant::now());
        assert_eq!((slots.total(), slots.nth(0)), (1, first));
        assert_eq!(slots.ends() - slots.began(), Duration::from_secs(7));
    }
}
