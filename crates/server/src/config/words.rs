//! The settings that are words rather than numbers: `"same-origin"`, `"disconnect"`, `"json"`.

use std::path::PathBuf;
use std::time::Duration;

use super::units::{Expected, Unit, Value, quoted};

/// When gathered messages are written (`flush`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gather {
    /// The first message after a pause at once, the following ones held apart as the worker gets busy.
    Auto,
    /// Held at most this long; zero: never held.
    Every(Duration),
}

/// The longest time that messages may be held.
pub(crate) const LONGEST_FLUSH: Duration = Duration::from_millis(50);

/// Which pages may open a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// Every page.
    Any,
    /// Pages of the same host and port as the request itself.
    SameOrigin,
    /// Pages of these origins.
    Listed(Vec<String>),
}

/// What happens to a reader whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    /// Its connection is closed.
    Disconnect,
    /// It misses messages.
    Drop,
}

/// Where the server keeps what must survive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Nowhere: in memory.
    Memory,
    /// In this directory.
    Directory(PathBuf),
}

/// When a message on disk counts as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// When the disk has it.
    Full,
    /// When the system has it.
    Normal,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged: a level, or `tracing` directives such as `info,throng=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(pub(crate) String);

/// The name of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomName(pub(crate) String);

impl Unit for Gather {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word() {
            Some(word) if word.eq_ignore_ascii_case("auto") => Ok(Self::Auto),
            _ => Duration::read(value)
                .ok()
                .filter(|time| *time <= LONGEST_FLUSH)
                .map(Self::Every)
                .ok_or_else(|| "\"auto\" or a duration from \"0s\" to \"50ms\"".into()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "\"auto\"".into(),
            Self::Every(time) => time.write(),
        }
    }
}

impl Unit for Sources {
    fn read(value: &Value) -> Result<Self, Expected> {
        let expected =
            || "\"any\", \"same-origin\" or a list such as [\"https://example.org\"]".to_owned();
        let items: Vec<&str> = match value {
            Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "any" | "*" => return Ok(Self::Any),
                "same-origin" => return Ok(Self::SameOrigin),
                // Flags and variables: `https://a.example|https://b.example`, or commas, or spaces.
                _ => text
                    .split(|c: char| c.is_whitespace() || c == ',' || c == '|')
                    .filter(|item| !item.is_empty())
                    .collect(),
            },
            Value::List(items) => items.iter().map(String::as_str).collect(),
            _ => return Err(expected()),
        };
        let origins = items.into_iter().map(origin).collect::<Option<Vec<_>>>();
        match origins {
            Some(origins) if !origins.is_empty() => Ok(Self::Listed(origins)),
            _ => Err(expected()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Any => "\"any\"".into(),
            Self::SameOrigin => "\"same-origin\"".into(),
            Self::Listed(origins) => {
                format!("[{}]", origins.iter().map(|o| quoted(o)).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Unit for Slow {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word().map(str::to_ascii_lowercase).as_deref() {
            Some("disconnect") => Ok(Self::Disconnect),
            Some("drop") => Ok(Self::Drop),
            _ => Err("\"disconnect\" or \"drop\"".into()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Disconnect => "\"disconnect\"".into(),
            Self::Drop => "\"drop\"".into(),
        }
    }
}

impl Unit for Storage {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word() {
            Some("memory") => Ok(Self::Memory),
            Some(path) if !path.is_empty() => Ok(Self::Directory(PathBuf::from(path))),
            _ => Err("\"memory\" or the path of a directory".into()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Memory => "\"memory\"".into(),
            Self::Directory(path) => quoted(&path.to_string_lossy()),
        }
    }
}

impl Unit for Sync {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word().map(str::to_ascii_lowercase).as_deref() {
            Some("full") => Ok(Self::Full),
            Some("normal") => Ok(Self::Normal),
            _ => Err("\"full\" or \"normal\"".into()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Full => "\"full\"".into(),
            Self::Normal => "\"normal\"".into(),
        }
    }
}

impl Unit for LogFormat {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word().map(str::to_ascii_lowercase).as_deref() {
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            _ => Err("\"text\" or \"json\"".into()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Text => "\"text\"".into(),
            Self::Json => "\"json\"".into(),
        }
    }
}

impl Unit for LogLevel {
    fn read(value: &Value) -> Result<Self, Expected> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let expected = || {
            "one of off, error, warn, info, debug, trace, or directives such as \
             \"info,throng=debug\""
                .to_owned()
        };
        let text = value.word().filter(|word| !word.is_empty()).ok_or_else(expected)?;
        for directive in text.split(',') {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim())) {
                return Err(expected());
            }
        }
        Ok(Self(text.to_owned()))
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

impl Unit for RoomName {
    fn read(value: &Value) -> Result<Self, Expected> {
        let fits = |name: &&str| {
            (1..=128).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:@/-".contains(&b))
        };
        value
            .word()
            .filter(fits)
            .map(|name| Self(name.to_owned()))
            .ok_or_else(|| "a room name of 1 to 128 characters of A-Z a-z 0-9 _ . : @ / -".into())
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

/// `https://Example.org:443/` as browsers send it: `https://example.org`, or `None` when it is no origin.
fn origin(text: &str) -> Option<String> {
    if text.eq_ignore_ascii_case("null") {
        return Some("null".into());
    }
    let lower = text.to_ascii_lowercase();
    let text = lower.strip_suffix('/').unwrap_or(&lower);
    let (scheme, authority) = text.split_once("://")?;
    let valid = !scheme.is_empty()
        && !authority.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b));
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = match default_port {
        "" => authority,
        port => authority.strip_suffix(port).unwrap_or(authority),
    };
    valid.then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Unit>(text: &str) -> Result<T, Expected> {
        T::read(&Value::text(text))
    }

    #[test]
    fn origins_are_normalised_and_checked() {
        assert_eq!(read("any"), Ok(Sources::Any));
        assert_eq!(read("same-origin"), Ok(Sources::SameOrigin));
        let listed = Sources::Listed(vec!["https://a.example".into(), "http://b:81".into()]);
        assert_eq!(read("https://A.example:443/|http://b:81"), Ok(listed.clone()));
        assert_eq!(listed.write(), r#"["https://a.example", "http://b:81"]"#);
        for wrong in ["", "a.example", "https://a/path", "https://"] {
            assert!(read::<Sources>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_are_checked() {
        assert_eq!(read("auto"), Ok(Gather::Auto));
        assert_eq!(read("5ms"), Ok(Gather::Every(Duration::from_millis(5))));
        assert!(read::<Gather>("51ms").is_err());
        assert_eq!(read("Drop"), Ok(Slow::Drop));
        assert!(read::<Slow>("latest").is_err());
        assert_eq!(read("memory"), Ok(Storage::Memory));
        assert_eq!(read("./memory"), Ok(Storage::Directory("./memory".into())));
        assert!(read::<LogLevel>("info,throng=debug").is_ok());
        assert!(read::<LogLevel>("loud").is_err());
        assert!(read::<RoomName>("a room").is_err());
    }
}
