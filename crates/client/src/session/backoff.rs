//! How long to wait before trying again.

use std::time::Duration;

/// Full-jitter exponential backoff: a random time between none and a bound that doubles from
/// `base` to `max`. Many clients that lost the same server do not come back at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, attempts: 0 }
    }

    /// The next time to wait.
    pub(crate) fn next(&mut self, random: &mut Random) -> Duration {
        let bound = self.bound();
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(random.fraction())
    }

    /// The same, and never less than `least`.
    pub(crate) fn next_after(&mut self, least: Duration, random: &mut Random) -> Duration {
        least.saturating_add(self.next(random))
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    fn bound(&self) -> Duration {
        self.base.saturating_mul(1 << self.attempts.min(30)).min(self.max)
    }
}

/// Numbers to spread clients over time, from a seed (splitmix64). Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(500);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn bounds_double_up_to_the_longest() {
        let mut random = Random::new(1);
        let mut backoff = Backoff::new(BASE, MAX);
        for bound in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert_eq!(backoff.bound(), Duration::from_millis(bound));
            assert!(backoff.next(&mut random) < Duration::from_millis(bound));
        }
        for _ in 0..100 {
            assert!(backoff.next_after(BASE, &mut random) >= BASE);
        }
        backoff.reset();
        assert_eq!(backoff.bound(), BASE);
    }

    #[test]
    fn times_are_spread_evenly() {
        let mut random = Random::new(7);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let time = Backoff::new(BASE, MAX).next(&mut random);
            tenths[time.as_millis() as usize / 50] += 1;
        }
        // 1,000 each, give or take: 30 is the standard deviation.
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }
}
