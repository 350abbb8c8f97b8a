//! Values as people write them: `"25s"`, `"64KiB"`, `"auto"`, `true`.
//!
//! A [`Unit`] reads itself from a [`Value`] (a TOML value, or the bare text of a variable or flag) and
//! writes itself back as TOML, so that what `throng config` prints can be read again.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value as it was written, before anyone knows what it should be.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Text: a TOML string, or the whole of a variable or flag.
    Text(String),
    /// A TOML integer.
    Integer(i128),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// A TOML value that no setting takes (a float, a date, a table), as it was written.
    Other(String),
}

impl Value {
    /// The bare text of a variable or flag.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn number(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Text(text) => digits(text.trim()),
            _ => None,
        }
    }

    /// The text without blanks around it, if it is a text.
    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.trim()),
            _ => None,
        }
    }

    /// The value as an error sentence quotes it: one line, not too long.
    pub(crate) fn shown(&self) -> String {
        let text = match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::List(items) => format!("{items:?}"),
            Self::Other(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        match text.char_indices().nth(60) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

/// What would have been right, to finish the sentence "… must be …".
pub(crate) type Expected = String;

/// A type that a setting can have.
pub(crate) trait Unit: Sized {
    /// Reads the value, or says what would be right ("a size such as "64KiB"").
    fn read(value: &Value) -> Result<Self, Expected>;
    /// The value as a TOML literal that [`Unit::read`] reads again.
    fn write(&self) -> String;
}

/// A number of bytes: `"64KiB"`, `"1MiB"`, `4096`. Powers of 1024 with `i`, of 1000 without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) usize);

/// A number, or `"auto"`: found out from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// As the machine allows.
    Auto,
    /// This many.
    Fixed(usize),
}

/// Reads a number and holds it to a range.
pub(crate) fn number(value: &Value, range: RangeInclusive<usize>) -> Result<usize, Expected> {
    let read = value.number().and_then(|number| usize::try_from(number).ok());
    read.filter(|number| range.contains(number))
        .ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
}

/// Reads a [`Choice`] and holds it to a range.
pub(crate) fn choice(value: &Value, range: RangeInclusive<usize>) -> Result<Choice, Expected> {
    match Choice::read(value) {
        Ok(Choice::Auto) => Ok(Choice::Auto),
        _ => number(value, range).map(Choice::Fixed).map_err(|e| format!("\"auto\" or {e}")),
    }
}

/// Reads a duration and holds it to a range.
pub(crate) fn duration(
    value: &Value,
    range: RangeInclusive<Duration>,
) -> Result<Duration, Expected> {
    let read = Duration::read(value)?;
    if range.contains(&read) {
        return Ok(read);
    }
    Err(format!("a duration from {} to {}", range.start().write(), range.end().write()))
}

/// Reads a size and holds it to a range.
pub(crate) fn size(value: &Value, range: RangeInclusive<usize>) -> Result<Size, Expected> {
    let read = Size::read(value)?;
    if range.contains(&read.0) {
        return Ok(read);
    }
    Err(format!("a size from {} to {}", Size(*range.start()).write(), Size(*range.end()).write()))
}

impl Unit for usize {
    fn read(value: &Value) -> Result<Self, Expected> {
        number(value, 0..=Self::MAX)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Unit for bool {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value {
            Value::Boolean(value) => Ok(*value),
            Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "on" | "yes" | "1" => Ok(true),
                "false" | "off" | "no" | "0" => Ok(false),
                _ => Err("true or false".into()),
            },
            _ => Err("true or false".into()),
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Unit for Duration {
    fn read(value: &Value) -> Result<Self, Expected> {
        const UNITS: [(&str, u64); 5] =
            [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
        let expected = || "a duration such as \"25s\", \"5ms\" or \"2m\"".to_owned();
        if value.number() == Some(0) {
            return Ok(Self::ZERO);
        }
        let (number, unit) = split(value.word().ok_or_else(expected)?);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
        let micros = decimal(number, *scale).ok_or_else(expected)?;
        Ok(Self::from_micros(micros))
    }

    fn write(&self) -> String {
        let micros = self.as_micros();
        match micros {
            0 => "\"0s\"".into(),
            _ if micros.is_multiple_of(3_600_000_000) => format!("\"{}h\"", micros / 3_600_000_000),
            _ if micros.is_multiple_of(60_000_000) => format!("\"{}m\"", micros / 60_000_000),
            _ if micros.is_multiple_of(1_000_000) => format!("\"{}s\"", micros / 1_000_000),
            _ if micros.is_multiple_of(1_000) => format!("\"{}ms\"", micros / 1_000),
            _ => format!("\"{micros}us\""),
        }
    }
}

impl Unit for Size {
    fn read(value: &Value) -> Result<Self, Expected> {
        const UNITS: [(&str, u64); 8] = [
            ("", 1),
            ("B", 1),
            ("kB", 1_000),
            ("KiB", 1 << 10),
            ("MB", 1_000_000),
            ("MiB", 1 << 20),
            ("GB", 1_000_000_000),
            ("GiB", 1 << 30),
        ];
        let expected = || "a size such as \"64KiB\", \"1MiB\" or 4096".to_owned();
        if let Value::Integer(_) = value {
            let number = value.number().ok_or_else(expected)?;
            return usize::try_from(number).map(Self).map_err(|_| expected());
        }
        let (number, unit) = split(value.word().ok_or_else(expected)?);
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, scale) = known.ok_or_else(expected)?;
        let bytes = decimal(number, *scale).ok_or_else(expected)?;
        usize::try_from(bytes).map(Self).map_err(|_| expected())
    }

    fn write(&self) -> String {
        let bytes = self.0;
        match bytes {
            0 => "0".into(),
            _ if bytes.is_multiple_of(1 << 30) => format!("\"{}GiB\"", bytes >> 30),
            _ if bytes.is_multiple_of(1 << 20) => format!("\"{}MiB\"", bytes >> 20),
            _ if bytes.is_multiple_of(1 << 10) => format!("\"{}KiB\"", bytes >> 10),
            _ => bytes.to_string(),
        }
    }
}

impl Unit for Choice {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word() {
            Some(word) if word.eq_ignore_ascii_case("auto") => Ok(Self::Auto),
            _ => usize::read(value).map(Self::Fixed),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "\"auto\"".into(),
            Self::Fixed(number) => number.to_string(),
        }
    }
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `"25s"` → `("25", "s")`; blanks between the two are allowed.
fn split(text: &str) -> (&str, &str) {
    let end =
        text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// `"1.5"` × scale, exactly; `None` when it is no number, overflows, or is finer than 1.
fn decimal(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let parts = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = u128::from(digits(fraction)?) * u128::from(scale);
    if !fraction.is_multiple_of(parts) {
        return None;
    }
    let whole = u128::from(digits(whole)?) * u128::from(scale);
    u64::try_from(whole + fraction / parts).ok()
}

fn digits(text: &str) -> Option<u64> {
    let valid = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !valid {
        return None;
    }
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Unit>(text: &str) -> Result<T, Expected> {
        T::read(&Value::text(text))
    }

    #[test]
    fn durations_have_a_unit_and_come_back_the_same() {
        for (text, expected) in [
            ("25s", Duration::from_secs(25)),
            ("5ms", Duration::from_millis(5)),
            ("1.5s", Duration::from_millis(1500)),
            ("250us", Duration::from_micros(250)),
            ("2m", Duration::from_secs(120)),
            ("1 h", Duration::from_secs(3600)),
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(read::<Duration>(text), Ok(expected), "{text}");
            let written = expected.write();
            assert_eq!(read::<Duration>(written.trim_matches('"')), Ok(expected), "{written}");
        }
        for wrong in ["", "25", "s", "-1s", "1e3s", "25 parsecs", "99999999999999999h", "1.s5"] {
            assert!(read::<Duration>(wrong).is_err(), "{wrong}");
        }
        assert!(Duration::read(&Value::Integer(25)).is_err(), "a bare number has no unit");
    }

    #[test]
    fn sizes_know_both_kinds_of_thousands() {
        for (text, expected) in [
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1.5MiB", 1_572_864),
            ("2kB", 2_000),
            ("1GiB", 1 << 30),
            ("4096", 4096),
            ("4_096 B", 4096),
        ] {
            assert_eq!(read::<Size>(text), Ok(Size(expected)), "{text}");
            let written = Size(expected).write();
            assert_eq!(read::<Size>(written.trim_matches('"')), Ok(Size(expected)), "{written}");
        }
        for wrong in ["", "KiB", "12 parsecs", "-5", "99999999999GiB", "0.3B"] {
            assert!(read::<Size>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_and_switches_are_checked() {
        assert_eq!(read("on"), Ok(true));
        assert_eq!(read("auto"), Ok(Choice::Auto));
        assert_eq!(read("12"), Ok(Choice::Fixed(12)));
        assert!(read::<Choice>("12.5").is_err());
    }

    #[test]
    fn long_values_are_cut_in_sentences() {
        let shown = Value::text(&"ü".repeat(500)).shown();
        assert_eq!(shown.chars().count(), 61);
    }
}
