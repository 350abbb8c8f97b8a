//! How often something may happen: token buckets of eight bytes.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often something may happen: so many tokens a second (or a minute, or an hour) in the long run, and
/// `burst` at once.
///
/// As text: `200/s`, `200/s burst 1000`, `5/m`, and for bytes `1MiB/s burst 8MiB`. Without a burst it is
/// what one second (minute, hour) allows.
///
/// ```
/// use throng_hub::Rate;
/// let rate: Rate = "200/s burst 1000".parse().unwrap();
/// assert_eq!(rate, Rate::per_second(200).with_burst(1000));
/// assert_eq!("2/m".parse::<Rate>().unwrap().to_string(), "2/m");
/// assert_eq!("1MiB/s burst 8MiB".parse::<Rate>().unwrap().burst(), 8 << 20);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds for one token, in units of 2^-[`FRACTION`].
    interval: u64,
    /// Nanoseconds for all tokens of a burst.
    whole: u64,
    amount: u32,
    burst: u32,
    period: Period,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// So many tokens a second, and as many at once; at least one.
    pub const fn per_second(amount: u32) -> Self {
        Self::new(amount, Period::Second, amount)
    }

    /// So many tokens a minute, and as many at once; at least one.
    pub const fn per_minute(amount: u32) -> Self {
        Self::new(amount, Period::Minute, amount)
    }

    /// So many tokens an hour, and as many at once; at least one.
    pub const fn per_hour(amount: u32) -> Self {
        Self::new(amount, Period::Hour, amount)
    }

    /// The same with so many tokens at once; at least one.
    pub const fn with_burst(self, burst: u32) -> Self {
        Self::new(self.amount, self.period, burst)
    }

    const fn new(amount: u32, period: Period, burst: u32) -> Self {
        let amount = if amount == 0 { 1 } else { amount };
        let burst = if burst == 0 { 1 } else { burst };
        let interval = (period.nanos() << FRACTION).div_ceil(amount as u64);
        let whole = nanos(interval, burst);
        Self { interval, whole, amount, burst, period }
    }

    /// The tokens of a second, a minute or an hour, as it was written.
    pub const fn amount(&self) -> u32 {
        self.amount
    }

    /// The tokens there may be at once.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// How long it takes until a spent burst is there again.
    pub const fn window(&self) -> Duration {
        Duration::from_nanos(self.whole)
    }

    /// How long this many tokens take, in nanoseconds.
    #[inline]
    const fn nanos(&self, cost: u32) -> u64 {
        nanos(self.interval, cost)
    }

    /// The state after `cost` more tokens, and how far that is ahead of what the burst allows.
    #[inline]
    fn next(&self, empty_until: u64, cost: u32, now: u64) -> (u64, u64) {
        let cost = self.nanos(cost);
        let next = empty_until.max(now).saturating_add(cost);
        // Whoever wants more than a burst gets it when nothing was spent, and pays it off afterwards.
        let allowed = now.saturating_add(self.whole.max(cost));
        (next, next.saturating_sub(allowed))
    }
}

/// What has been spent of a [`Rate`]. Full to begin with.
///
/// It has no clock: `now` is in nanoseconds since whatever, but never goes back. A cost beyond the burst is
/// taken when nothing was spent lately, and paid off before anything else is.
///
/// ```
/// use throng_hub::{Meter, Rate};
/// let (rate, mut meter) = (Rate::per_second(2), Meter::default());
/// assert!(meter.take(&rate, 1, 0).is_ok() && meter.take(&rate, 1, 0).is_ok());
/// assert_eq!(meter.take(&rate, 1, 0).unwrap_err().as_millis(), 500); // come back then
/// assert!(meter.take(&rate, 1, 500_000_000).is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter(u64);

impl Meter {
    /// Takes tokens, if there are so many.
    ///
    /// # Errors
    /// How long until there are; nothing is taken then.
    ///
    /// Cost: two multiplications.
    #[inline]
    pub fn take(&mut self, rate: &Rate, cost: u32, now: u64) -> Result<(), Duration> {
        let (next, ahead) = rate.next(self.0, cost, now);
        if ahead > 0 {
            return Err(Duration::from_nanos(ahead));
        }
        self.0 = next;
        Ok(())
    }

    /// Takes tokens whether they are there or not, and says how long to wait before going on: zero when
    /// they were there.
    #[inline]
    pub fn spend(&mut self, rate: &Rate, cost: u32, now: u64) -> Duration {
        let (next, ahead) = rate.next(self.0, cost, now);
        self.0 = next;
        if ahead == 0 { Duration::ZERO } else { Duration::from_nanos(ahead) }
    }

    /// Whether nothing is missing: as good as a new one.
    pub fn is_full(&self, now: u64) -> bool {
        self.0 <= now
    }

    /// Forgets what was spent if that is further ahead than ever could be: the clock has gone back.
    pub fn mend(&mut self, rate: &Rate, now: u64) {
        if self.0.saturating_sub(now) > rate.whole.saturating_mul(2) {
            self.0 = now;
        }
    }
}

/// A [`Meter`] that several threads take from.
#[derive(Debug, Default)]
pub struct SharedMeter(AtomicU64);

impl SharedMeter {
    /// As [`Meter::take`]. Times of different threads may be a little apart.
    ///
    /// # Errors
    /// How long until there are so many tokens; nothing is taken then.
    ///
    /// Cost: one compare and swap more.
    #[inline]
    pub fn take(&self, rate: &Rate, cost: u32, now: u64) -> Result<(), Duration> {
        let mut wait = 0;
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            let (next, ahead) = rate.next(before, cost, now);
            wait = ahead;
            (ahead == 0).then_some(next)
        });
        taken.map(|_| ()).map_err(|_| Duration::from_nanos(wait))
    }

    /// As [`Meter::is_full`].
    pub fn is_full(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

/// A [`SharedMeter`] that counts what was taken, so that others who take by the same rate can be told.
#[derive(Debug, Default)]
pub struct CountedMeter {
    meter: SharedMeter,
    /// Nanoseconds.
    taken: AtomicU64,
}

impl CountedMeter {
    /// As [`SharedMeter::take`].
    ///
    /// # Errors
    /// How long until there are so many tokens; nothing is taken then.
    #[inline]
    pub fn take(&self, rate: &Rate, cost: u32, now: u64) -> Result<(), Duration> {
        self.meter.take(rate, cost, now)?;
        self.taken.fetch_add(rate.nanos(cost), Ordering::Relaxed);
        Ok(())
    }

    /// As [`Meter::is_full`].
    pub fn is_full(&self, now: u64) -> bool {
        self.meter.is_full(now)
    }

    /// How long all that was taken takes to be there again, since the beginning, in nanoseconds.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Others have taken as well: together so much that it takes so long to be there again.
    pub fn owe(&self, ahead: Duration, now: u64) {
        let ahead = u64::try_from(ahead.as_nanos()).unwrap_or(LONGEST).min(LONGEST);
        self.meter.0.fetch_max(now.saturating_add(ahead), Ordering::Relaxed);
    }
}

/// Why a text is not a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateError;

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate such as \"200/s\", \"200/s burst 1000\", \"5/m\" or \"1MiB/s\"")
    }
}

impl std::error::Error for RateError {}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (rate, burst) = match text.trim().split_once("burst") {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let (amount, period) = rate.split_once('/').ok_or(RateError)?;
        let period = match period.trim() {
            "s" => Period::Second,
            "m" => Period::Minute,
            "h" => Period::Hour,
            _ => return Err(RateError),
        };
        let amount = tokens(amount)?;
        let burst = burst.map_or(Ok(amount), tokens)?;
        Ok(Self::new(amount.get(), period, burst.get()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period {
            Period::Second => "s",
            Period::Minute => "m",
            Period::Hour => "h",
        };
        write!(f, "{}/{period}", Shown(self.amount))?;
        if self.burst != self.amount {
            write!(f, " burst {}", Shown(self.burst))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rate({self})")
    }
}

/// A number of tokens, as a size where it looks like one.
struct Shown(u32);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n.is_multiple_of(1 << 30) => write!(f, "{}GiB", n >> 30),
            n if n.is_multiple_of(1 << 20) => write!(f, "{}MiB", n >> 20),
            n if n.is_multiple_of(1 << 10) && n >= 16 << 10 => write!(f, "{}KiB", n >> 10),
            n => n.fmt(f),
        }
    }
}

fn tokens(text: &str) -> Result<NonZeroU32, RateError> {
    const UNITS: [(&str, u32); 8] = [
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
    ];
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (_, scale) = known.ok_or(RateError)?;
    let number: u32 = number.parse().map_err(|_| RateError)?;
    number.checked_mul(*scale).and_then(NonZeroU32::new).ok_or(RateError)
}

impl Period {
    const fn nanos(self) -> u64 {
        1_000_000_000
            * match self {
                Self::Second => 1,
                Self::Minute => 60,
                Self::Hour => 3600,
            }
    }
}

/// How long so many tokens take, rounded up, so that rounding never lets more through.
#[inline]
const fn nanos(interval: u64, cost: u32) -> u64 {
    match interval.checked_mul(cost as u64) {
        Some(nanos) => (nanos >> FRACTION) + (nanos & ((1 << FRACTION) - 1) != 0) as u64,
        None => many_nanos(interval, cost),
    }
}

#[cold]
const fn many_nanos(interval: u64, cost: u32) -> u64 {
    let nanos = (interval as u128 * cost as u128).div_ceil(1 << FRACTION);
    if nanos > LONGEST as u128 { LONGEST } else { nanos as u64 }
}

/// The fraction of an interval, in bits: an hour still fits, and a byte of 4 GB/s is not nothing.
const FRACTION: u32 = 20;

/// Some 146 years.
const LONGEST: u64 = u64::MAX / 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A token bucket as one would write it down: tokens in units of one 10^9th, refilled step by step.
    struct Naive {
        tokens: i128,
        last: u64,
    }

    impl Naive {
        fn take(&mut self, rate: &Rate, cost: u32, now: u64) -> bool {
            let scale = i128::from(rate.period.nanos());
            let full = i128::from(rate.burst) * scale;
            let refill = i128::from(now - self.last) * i128::from(rate.amount);
            self.tokens = (self.tokens + refill).min(full);
            self.last = now;
            let cost = i128::from(cost) * scale;
            let enough = self.tokens >= cost.min(full);
            if enough {
                self.tokens -= cost;
            }
            enough
        }
    }

    fn rates() -> impl Strategy<Value = Rate> {
        let period = prop_oneof![Just(Period::Second), Just(Period::Minute), Just(Period::Hour)];
        (1..5_000_000u32, period, 1..5_000_000u32)
            .prop_map(|(amount, period, burst)| Rate::new(amount, period, burst))
    }

    /// Rates whose intervals are whole numbers of nanoseconds: nothing is rounded.
    fn round_rates() -> impl Strategy<Value = Rate> {
        let amount = prop::sample::select(vec![1, 2, 5, 8, 10, 64, 1000, 4000, 1_000_000]);
        let period = prop_oneof![Just(Period::Second), Just(Period::Minute), Just(Period::Hour)];
        (amount, period, 1..2000u32)
            .prop_map(|(amount, period, burst)| Rate::new(amount, period, burst))
    }

    proptest! {
        #[test]
        fn is_a_token_bucket(
            rate in round_rates(),
            steps in prop::collection::vec((0..3 * SECOND, 0..3000u32), 1..300),
        ) {
            let mut naive = Naive {
                tokens: i128::from(rate.burst) * i128::from(rate.period.nanos()),
                last: 0,
            };
            let (mut meter, shared, mut now) = (Meter::default(), SharedMeter::default(), 0);
            for (pause, cost) in steps {
                now += pause;
                let taken = meter.take(&rate, cost, now);
                prop_assert_eq!(taken.is_ok(), naive.take(&rate, cost, now));
                prop_assert_eq!(taken, shared.take(&rate, cost, now));
                if let Err(wait) = taken {
                    // Exactly then, and not a moment before.
                    let wait = u64::try_from(wait.as_nanos()).unwrap();
                    let (mut early, mut late) = (meter, meter);
                    prop_assert!(early.take(&rate, cost, now + wait - 1).is_err());
                    prop_assert!(late.take(&rate, cost, now + wait).is_ok());
                }
            }
        }

        #[test]
        fn never_more_than_the_rate_and_hardly_less(
            rate in rates(),
            steps in prop::collection::vec((0..SECOND / 10, 1..20_000u32), 1..300),
        ) {
            let (mut meter, mut now, mut taken, mut most) = (Meter::default(), 0, 0u128, 0);
            for (pause, cost) in &steps {
                now += pause;
                if meter.take(&rate, *cost, now).is_ok() {
                    taken += u128::from(*cost);
                    most = most.max(*cost);
                }
            }
            let refilled = u128::from(now) * u128::from(rate.amount) / u128::from(rate.period.nanos());
            let bound = refilled + u128::from(rate.burst.max(most)) + 1;
            prop_assert!(taken <= bound, "{taken} of {bound} by {rate}");
            // A full meter stands for at least what was not taken.
            let rest = meter.0.saturating_sub(now);
            let owed = u128::from(rest) * u128::from(rate.amount) / u128::from(rate.period.nanos());
            prop_assert!(owed <= taken + taken / 100 + steps.len() as u128);
        }

        #[test]
        fn spending_waits_until_it_is_paid(
            rate in round_rates(),
            costs in prop::collection::vec(0..500u32, 1..200),
        ) {
            let (mut meter, mut now, mut spent) = (Meter::default(), 0, 0u128);
            for cost in costs {
                now += u64::try_from(meter.spend(&rate, cost, now).as_nanos()).unwrap();
                spent += u128::from(cost);
                let refilled = u128::from(now) * u128::from(rate.amount);
                let largest = u128::from(rate.burst.max(500)) * u128::from(rate.period.nanos());
                prop_assert!(spent * u128::from(rate.period.nanos()) <= refilled + largest);
            }
        }

        #[test]
        fn is_read_as_it_is_written(rate in rates()) {
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
        }

        #[test]
        fn no_time_and_no_cost_breaks_it(rate in rates(), state: u64, cost: u32, now: u64) {
            let mut meter = Meter(state);
            let _ = meter.take(&rate, cost, now);
            let _ = meter.spend(&rate, cost, now);
            meter.mend(&rate, now);
            prop_assert!(meter.0 <= now.saturating_add(rate.whole.saturating_mul(2)).saturating_add(LONGEST));
        }
    }

    #[test]
    fn texts() {
        let read = |text: &str| text.parse::<Rate>().map(|rate| rate.to_string());
        assert_eq!(read("200/s"), Ok("200/s".into()));
        assert_eq!(read(" 200 / s burst 1000 "), Ok("200/s burst 1000".into()));
        assert_eq!(read("5/m burst 5"), Ok("5/m".into()));
        assert_eq!(read("10/h"), Ok("10/h".into()));
        assert_eq!(read("1MiB/s burst 8 MiB"), Ok("1MiB/s burst 8MiB".into()));
        assert_eq!(read("100kB/s"), Ok("100000/s".into()));
        for wrong in ["", "off", "200", "/s", "0/s", "-1/s", "1/d", "1/s burst", "1/s burst 0"] {
            assert_eq!(read(wrong), Err(RateError), "{wrong}");
        }
        for wrong in ["1.5/s", "1/s 2", "5000000000/s", "4GiB/s", "1XiB/s", "1/s burst 1 burst 1"] {
            assert_eq!(read(wrong), Err(RateError), "{wrong}");
        }
    }

    #[test]
    fn small() {
        assert_eq!(size_of::<Meter>(), 8);
        assert_eq!(size_of::<SharedMeter>(), 8);
        assert!(size_of::<Rate>() <= 32);
    }

    #[test]
    fn threads_share_what_there_is() {
        let (rate, meter) = (Rate::per_hour(1).with_burst(1000), SharedMeter::default());
        let taken = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| meter.take(&rate, 1, 0).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 1000);
        assert!(!meter.is_full(999 * 3600 * SECOND) && meter.is_full(1000 * 3600 * SECOND));
    }

    #[test]
    fn what_others_take_counts() {
        let (rate, one, two) =
            (Rate::per_second(10), CountedMeter::default(), CountedMeter::default());
        assert!(one.take(&rate, 6, 0).is_ok() && two.take(&rate, 6, 0).is_ok());
        let taken = Duration::from_nanos(one.taken() + two.taken());
        assert_eq!(taken, Duration::from_millis(1200));
        one.owe(taken, 0);
        assert_eq!(one.take(&rate, 1, 0), Err(Duration::from_millis(300)));
        assert_eq!(one.taken(), 600_000_000, "only what was taken here");
        one.owe(Duration::from_millis(1), 0);
        assert!(one.take(&rate, 1, 299_000_000).is_err(), "never less than before");
        assert!(one.take(&rate, 1, 300_000_000).is_ok());
    }

    #[test]
    fn a_clock_that_goes_back_blocks_nobody() {
        let (rate, mut meter) = (Rate::per_second(10), Meter::default());
        assert!(meter.take(&rate, 10, 1_000_000 * SECOND).is_ok());
        meter.mend(&rate, 5 * SECOND);
        assert!(meter.take(&rate, 10, 5 * SECOND).is_ok());
        meter.mend(&rate, 5 * SECOND);
        assert!(meter.take(&rate, 1, 5 * SECOND).is_err(), "what was just spent stays spent");
    }
}
