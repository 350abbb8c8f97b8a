//! How often something may happen: `"200/s"`, `"200/s burst 1000"`, `"10/m"`, `"1MiB/s burst 8MiB"`, `"off"`.

use std::time::Duration;

use super::units::{Expected, Size, Unit, Value, quoted};

/// A rate, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// No limit.
    Off,
    /// A limit.
    Of(Pace),
}

/// So many in a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How many in each [`Pace::period`].
    pub(crate) count: u32,
    /// A second, a minute or an hour.
    pub(crate) period: Duration,
    /// How many at once after a pause.
    pub(crate) burst: u32,
}

/// A rate of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRate(pub(crate) Rate);

const PERIODS: [(&str, Duration); 3] = [
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(3600)),
];

impl Rate {
    /// The same for those who keep to it.
    pub(crate) fn limit(self) -> Option<throng::Rate> {
        let Self::Of(pace) = self else { return None };
        let rate = match pace.period.as_secs() {
            0..=1 => throng::Rate::per_second(pace.count),
            2..=60 => throng::Rate::per_minute(pace.count),
            _ => throng::Rate::per_hour(pace.count),
        };
        Some(rate.with_burst(pace.burst))
    }

    fn parse(text: &str, number: impl Fn(&str) -> Option<u32>) -> Option<Self> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Some(Self::Off);
        }
        let (rate, burst) = match text.split_once("burst") {
            Some((rate, burst)) => (rate.trim(), Some(burst.trim())),
            None => (text, None),
        };
        let (count, unit) = rate.split_once('/')?;
        let count = number(count.trim()).filter(|count| *count > 0)?;
        let (_, period) = PERIODS.iter().find(|(name, _)| *name == unit.trim())?;
        let burst = match burst {
            Some(burst) => number(burst).filter(|burst| *burst > 0)?,
            None => count,
        };
        Some(Self::Of(Pace { count, period: *period, burst }))
    }

    fn print(&self, number: impl Fn(u32) -> String) -> String {
        let Self::Of(pace) = self else { return "\"off\"".into() };
        let unit = PERIODS.iter().find(|(_, period)| *period == pace.period);
        let mut text = format!("{}/{}", number(pace.count), unit.map_or("s", |(name, _)| name));
        if pace.burst != pace.count {
            text = format!("{text} burst {}", number(pace.burst));
        }
        quoted(&text)
    }
}

impl Unit for Rate {
    fn read(value: &Value) -> Result<Self, Expected> {
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().ok(),
            false => None,
        };
        value.word().and_then(|text| Self::parse(text, number)).ok_or_else(|| {
            "a rate such as \"200/s\", \"200/s burst 1000\" or \"10/m\", or \"off\"".into()
        })
    }

    fn write(&self) -> String {
        self.print(|number| number.to_string())
    }
}

impl Unit for ByteRate {
    fn read(value: &Value) -> Result<Self, Expected> {
        let number = |text: &str| {
            let size = Size::read(&Value::text(text)).ok()?;
            u32::try_from(size.0).ok()
        };
        value.word().and_then(|text| Rate::parse(text, number)).map(Self).ok_or_else(|| {
            "a rate of bytes such as \"64KiB/s\" or \"1MiB/s burst 8MiB\" (less than 4GiB), or \"off\""
                .into()
        })
    }

    fn write(&self) -> String {
        self.0.print(|bytes| Size(bytes as usize).write().trim_matches('"').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_back_the_same() {
        let of = |count, seconds, burst| {
            Rate::Of(Pace { count, period: Duration::from_secs(seconds), burst })
        };
        for (text, expected, written) in [
            ("off", Rate::Off, "off"),
            ("200/s", of(200, 1, 200), "200/s"),
            ("200/s burst 1000", of(200, 1, 1000), "200/s burst 1000"),
            (" 10 / m  burst 10 ", of(10, 60, 10), "10/m"),
            ("1/h burst 3", of(1, 3600, 3), "1/h burst 3"),
        ] {
            let read = Rate::read(&Value::text(text)).unwrap();
            assert_eq!((read, read.write()), (expected, quoted(written)), "{text}");
            assert_eq!(read.limit().map_or("off".into(), |rate| rate.to_string()), written);
        }
        for text in ["1MiB/s burst 8MiB", "64KiB/m", "off", "1000/s"] {
            assert_eq!(ByteRate::read(&Value::text(text)).unwrap().write(), quoted(text));
        }
        for wrong in [
            "",
            "200",
            "0/s",
            "5/d",
            "5/s burst",
            "5/s burst 0",
            "-5/s",
            "+5/s",
            "1.5/s",
            "5 burst 5/s",
        ] {
            assert!(Rate::read(&Value::text(wrong)).is_err(), "{wrong}");
        }
        for wrong in ["8GiB/s", "1MiB", "1MiB/s burst"] {
            assert!(ByteRate::read(&Value::text(wrong)).is_err(), "{wrong}");
        }
    }
}
