//! `[[room]]`: what holds for the rooms of a pattern.
//!
//! The rules are a list, so they are only in the file. [`ROOM_KEYS`] is the table from which they are read
//! and printed; the types of messages, with their schemas, are in [`schema`].

mod print;
mod schema;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use super::ConfigError;
use super::file::File;
use super::near::suggestion;
use super::rate::Rate;
use super::raw::{Place, wrong};
use super::trust::Line;
use super::units::{self, Expected, Size, Unit, Value, quoted};

pub(crate) use self::print::print;
pub(crate) use self::schema::TypeRule;

/// One `[[room]]`, checked: every question answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomRule {
    /// `match`.
    pub(crate) pattern: String,
    pub(crate) history: usize,
    pub(crate) history_bytes: Size,
    pub(crate) history_ttl: Duration,
    pub(crate) durable: bool,
    pub(crate) volatile: bool,
    pub(crate) presence: Presence,
    pub(crate) grace: Duration,
    /// 0: no limit.
    pub(crate) max_members: usize,
    pub(crate) allow: bool,
    /// Whether only those on the room's list of members, and of tickets that name it, have rights.
    pub(crate) membership: bool,
    /// Of all members together.
    pub(crate) rate: Rate,
    pub(crate) slow: RoomSlow,
    /// The field of the payload by which `latest` tells messages apart; empty: by sender and type.
    pub(crate) slow_key: String,
    /// With Redis: how many replicas have to be there for a message to be stored.
    pub(crate) replicas: usize,
    pub(crate) other_types: bool,
    /// By `type`.
    pub(crate) types: BTreeMap<String, TypeRule>,
}

/// What the members of a room learn of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Who comes and goes.
    Full,
    /// How many there are.
    Count,
    /// Nothing.
    Off,
}

/// What happens to a member whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomSlow {
    /// What its endpoint says.
    Endpoint,
    /// Its connection is closed.
    Disconnect,
    /// It misses messages.
    Drop,
    /// It misses those that newer ones replace.
    Latest,
}

/// One `[[room]]` as written; `None` where it says nothing.
#[derive(Clone, Debug)]
pub(crate) struct RawRoom {
    pub(super) place: Place,
    pattern: String,
    history: Option<usize>,
    history_bytes: Option<Size>,
    history_ttl: Option<Duration>,
    durable: Option<bool>,
    volatile: Option<bool>,
    presence: Option<Presence>,
    grace: Option<Duration>,
    max_members: Option<usize>,
    allow: Option<bool>,
    membership: Option<bool>,
    rate: Option<Rate>,
    slow: Option<RoomSlow>,
    slow_key: Option<Line>,
    replicas: Option<usize>,
    other_types: Option<bool>,
    types: BTreeMap<String, TypeRule>,
}

/// A key of a rule.
pub(super) struct RoomKey {
    pub(super) name: &'static str,
    /// As written in a file.
    pub(super) default: &'static str,
    /// What it means, with its unit.
    pub(super) doc: &'static str,
    /// What can go wrong with other values; empty when nothing can.
    pub(super) danger: &'static str,
    set: fn(&mut RawRoom, &Value) -> Result<(), Expected>,
    pub(super) get: fn(&RoomRule) -> String,
}

impl RawRoom {
    /// A rule for the rooms of this pattern that says nothing yet.
    pub(super) fn new(place: Place, pattern: &Value) -> Result<Self, ConfigError> {
        let fits = |text: &&str| {
            (1..=128).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:@/-*".contains(&b))
        };
        let Some(text) = pattern.word().filter(fits) else {
            let expected = "a pattern such as \"chat:*\": 1 to 128 characters of A-Z a-z 0-9 _ . : @ / - \
                            and * for any run of them";
            return Err(wrong(&format!("{place}: match"), expected, pattern));
        };
        Ok(Self {
            place,
            pattern: text.to_owned(),
            history: None,
            history_bytes: None,
            history_ttl: None,
            durable: None,
            volatile: None,
            presence: None,
            grace: None,
            max_members: None,
            allow: None,
            membership: None,
            rate: None,
            slow: None,
            slow_key: None,
            replicas: None,
            other_types: None,
            types: BTreeMap::new(),
        })
    }

    /// Sets a key.
    pub(super) fn set(
        &mut self,
        place: &Place,
        name: &str,
        value: &Value,
    ) -> Result<(), ConfigError> {
        let Some(key) = ROOM_KEYS.iter().find(|key| key.name == name) else {
            let known = ROOM_KEYS.iter().map(|key| key.name).chain(["match", "types"]);
            let hint = suggestion(name, known.map(str::to_owned));
            return Err(ConfigError::new(format!("{place}: a room has no key {name:?}{hint}")));
        };
        (key.set)(self, value)
            .map_err(|expected| wrong(&format!("{place}: {name}"), &expected, value))
    }

    /// Sets what holds for one type of message.
    pub(super) fn set_type<K: AsRef<str>>(
        &mut self,
        file: &File<'_>,
        name: &Spanned<K>,
        table: Option<&DeTable<'_>>,
    ) -> Result<(), ConfigError> {
        let (place, name) = (file.place(name), name.get_ref().as_ref());
        if !(1..=64).contains(&name.len()) || name.chars().any(char::is_control) {
            return Err(ConfigError::new(format!(
                "{place}: the name of a type must be 1 to 64 bytes without control characters, not \
                 {name:?}"
            )));
        }
        let Some(table) = table else {
            let sentence = format!("{place}: {name} must be a table: [room.types.{name}]");
            return Err(ConfigError::new(sentence));
        };
        self.types.insert(name.to_owned(), TypeRule::read(file, name, table)?);
        Ok(())
    }

    /// Answers what the rule left open, and finds what contradicts itself.
    fn check(self) -> Result<RoomRule, ConfigError> {
        let volatile = self.volatile.unwrap_or(false);
        let contradiction = match (volatile, self.history, self.durable) {
            (true, Some(1..), _) => Some("has no history: take `history` or `volatile` away"),
            (true, _, Some(true)) => Some("is not kept on disk: take `durable` or `volatile` away"),
            _ => None,
        };
        if let Some(sentence) = contradiction {
            let Self { place, pattern, .. } = &self;
            return Err(ConfigError::new(format!(
                "{place}: a volatile room ({pattern}) {sentence}"
            )));
        }
        if self.other_types == Some(false) && self.types.is_empty() {
            let Self { place, pattern, .. } = &self;
            return Err(ConfigError::new(format!(
                "{place}: with other_types = false and no [room.types.…], nothing can be said in \
                 {pattern}; add a type, or use allow = false"
            )));
        }
        let slow = self.slow.unwrap_or(RoomSlow::Endpoint);
        if slow != RoomSlow::Latest && self.slow_key.as_ref().is_some_and(|key| !key.0.is_empty()) {
            let place = &self.place;
            return Err(ConfigError::new(format!(
                "{place}: slow_key has an effect only with slow = \"latest\""
            )));
        }
        Ok(RoomRule {
            pattern: self.pattern,
            history: self.history.unwrap_or(if volatile { 0 } else { DEFAULT_HISTORY }),
            history_bytes: self.history_bytes.unwrap_or(Size(1 << 20)),
            history_ttl: self.history_ttl.unwrap_or(Duration::from_secs(24 * 3600)),
            durable: self.durable.unwrap_or(!volatile),
            volatile,
            presence: self.presence.unwrap_or(Presence::Full),
            grace: self.grace.unwrap_or(Duration::from_secs(10)),
            max_members: self.max_members.unwrap_or(0),
            allow: self.allow.unwrap_or(true),
            membership: self.membership.unwrap_or(false),
            rate: self.rate.unwrap_or(Rate::Off),
            slow,
            slow_key: self.slow_key.unwrap_or_default().0,
            replicas: self.replicas.unwrap_or(0),
            other_types: self.other_types.unwrap_or(true),
            types: self.types,
        })
    }
}

/// Checks each rule, and that none stands where it can never match.
pub(super) fn check_rules(rooms: Vec<RawRoom>) -> Result<Vec<RoomRule>, ConfigError> {
    let mut checked: Vec<RoomRule> = Vec::with_capacity(rooms.len());
    for room in rooms {
        let hides = |rule: &&RoomRule| rule.pattern == "*" || rule.pattern == room.pattern;
        if let Some(earlier) = checked.iter().find(hides) {
            let (place, pattern, earlier) = (&room.place, &room.pattern, &earlier.pattern);
            return Err(ConfigError::new(format!(
                "{place}: the room {pattern:?} is never reached, the first match counts and \
                 {earlier:?} stands before it"
            )));
        }
        checked.push(room.check()?);
    }
    Ok(checked)
}

/// Every key of a rule but `match` and `types`.
pub(super) static ROOM_KEYS: &[RoomKey] = &[
    RoomKey {
        name: "allow",
        default: "true",
        doc: "Whether there are such rooms. With false, joining or publishing is answered unknown_room.",
        danger: "",
        set: |raw, v| into(&mut raw.allow, Unit::read(v)),
        get: |rule| rule.allow.write(),
    },
    RoomKey {
        name: "membership",
        default: "false",
        doc: "Whether only those on the room's list of members (set through the HTTP API), and those \
              whose ticket names it, may do anything there. access.anonymous and access.users do not count.",
        danger: "",
        set: |raw, v| into(&mut raw.membership, Unit::read(v)),
        get: |rule| rule.membership.write(),
    },
    RoomKey {
        name: "rate",
        default: "off",
        doc: "How many messages all members of a room may send together, such as 100/s. More are answered \
              rate_limited.",
        danger: "A single member can use all of it up.",
        set: |raw, v| into(&mut raw.rate, Unit::read(v)),
        get: |rule| rule.rate.write(),
    },
    RoomKey {
        name: "slow",
        default: "",
        doc: "What happens to a member whose outbox is full: disconnect, drop (it misses messages), latest \
              (it misses only what newer messages replace); empty: what its endpoint says.",
        danger: "With drop and latest, clients see holes.",
        set: |raw, v| into(&mut raw.slow, Unit::read(v)),
        get: |rule| rule.slow.write(),
    },
    RoomKey {
        name: "slow_key",
        default: "",
        doc: "With slow = \"latest\": the field of the payload whose value says which earlier message is \
              replaced; empty: sender and type do.",
        danger: "",
        set: |raw, v| into(&mut raw.slow_key, Unit::read(v)),
        get: |rule| quoted(&rule.slow_key),
    },
    RoomKey {
        name: "replicas",
        default: "0",
        doc: "With Redis: how many replicas of its server have to be connected for a message to be stored; with \
              fewer it is refused as unavailable. The larger of this and redis.min_replicas counts.",
        danger: "Fewer replicas than this, and nobody can publish there.",
        set: |raw, v| into(&mut raw.replicas, units::number(v, 0..=16)),
        get: |rule| rule.replicas.write(),
    },
    RoomKey {
        name: "history",
        default: "1000",
        doc: "How many messages of a room are kept, for those who come back and for pages of the past; 0 \
              for none. Whatever of the three bounds is met first counts.",
        danger: "Clients that missed more than is kept are told recovered = false.",
        set: |raw, v| into(&mut raw.history, units::number(v, 0..=1_000_000)),
        get: |rule| rule.history.write(),
    },
    RoomKey {
        name: "history_bytes",
        default: "1MiB",
        doc: "How many bytes of messages are kept in memory for a room.",
        danger: "Memory times the number of rooms in use.",
        set: |raw, v| into(&mut raw.history_bytes, units::size(v, 1024..=1 << 30)),
        get: |rule| rule.history_bytes.write(),
    },
    RoomKey {
        name: "history_ttl",
        default: "24h",
        doc: "How long a message is kept.",
        danger: "",
        set: |raw, v| into(&mut raw.history_ttl, units::duration(v, KEPT)),
        get: |rule| rule.history_ttl.write(),
    },
    RoomKey {
        name: "durable",
        default: "true",
        doc: "Whether messages are kept in the data directory before anybody gets them; false when \
              volatile. Without a data directory it has no effect.",
        danger: "With false, the room starts a new epoch with every start of the process.",
        set: |raw, v| into(&mut raw.durable, Unit::read(v)),
        get: |rule| rule.durable.write(),
    },
    RoomKey {
        name: "volatile",
        default: "false",
        doc: "No numbers, no history, at most once: for what is worthless a moment later, such as \
              pointers and typing.",
        danger: "What a client misses is gone, and it is not told.",
        set: |raw, v| into(&mut raw.volatile, Unit::read(v)),
        get: |rule| rule.volatile.write(),
    },
    RoomKey {
        name: "presence",
        default: "full",
        doc: "What members learn of each other: full (who comes and goes), count (how many, at most once \
              a second), off.",
        danger: "full in a room of N members costs N messages for each one who comes or goes.",
        set: |raw, v| into(&mut raw.presence, Unit::read(v)),
        get: |rule| rule.presence.write(),
    },
    RoomKey {
        name: "grace",
        default: "10s",
        doc: "How long a user whose last connection was lost still counts as there.",
        danger: "Too short, and every lost connection makes users leave and come back.",
        set: |raw, v| into(&mut raw.grace, units::duration(v, GRACES)),
        get: |rule| rule.grace.write(),
    },
    RoomKey {
        name: "max_members",
        default: "0",
        doc: "How many connections may be in a room; 0 for no limit. One more is answered room_full.",
        danger: "",
        set: |raw, v| into(&mut raw.max_members, units::number(v, 0..=100_000_000)),
        get: |rule| rule.max_members.write(),
    },
    RoomKey {
        name: "other_types",
        default: "true",
        doc: "Whether messages of types that are not listed may be published. With false they are \
              answered forbidden.",
        danger: "",
        set: |raw, v| into(&mut raw.other_types, Unit::read(v)),
        get: |rule| rule.other_types.write(),
    },
];

impl Unit for Presence {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word().map(str::to_ascii_lowercase).as_deref() {
            Some("full") => Ok(Self::Full),
            Some("count") => Ok(Self::Count),
            Some("off") => Ok(Self::Off),
            _ => Err("\"full\", \"count\" or \"off\"".into()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Full => "\"full\"".into(),
            Self::Count => "\"count\"".into(),
            Self::Off => "\"off\"".into(),
        }
    }
}

impl Unit for RoomSlow {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word().map(str::to_ascii_lowercase).as_deref() {
            Some("") => Ok(Self::Endpoint),
            Some("disconnect") => Ok(Self::Disconnect),
            Some("drop") => Ok(Self::Drop),
            Some("latest") => Ok(Self::Latest),
            _ => Err("\"disconnect\", \"drop\" or \"latest\"".into()),
        }
    }

    fn write(&self) -> String {
        quoted(match self {
            Self::Endpoint => "",
            Self::Disconnect => "disconnect",
            Self::Drop => "drop",
            Self::Latest => "latest",
        })
    }
}

fn into<T>(slot: &mut Option<T>, read: Result<T, Expected>) -> Result<(), Expected> {
    *slot = Some(read?);
    Ok(())
}

const DEFAULT_HISTORY: usize = 1000;
const KEPT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(8760 * 3600);
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_table_and_of_the_hub() {
        let new = || RawRoom::new(Place::Default, &Value::text("*")).unwrap();
        let mut said = new();
        for key in ROOM_KEYS {
            (key.set)(&mut said, &Value::text(key.default)).unwrap();
            assert!(key.doc.ends_with('.'), "{}", key.name);
            assert!(key.danger.is_empty() || key.danger.ends_with('.'), "{}", key.name);
        }
        let rule = new().check().unwrap();
        assert_eq!(said.check().unwrap(), rule);
        for key in ROOM_KEYS {
            let written = (key.get)(&rule);
            assert_eq!(written.trim_matches('"'), key.default, "{}", key.name);
        }

        let hub = throng::Rule::default();
        let history = throng::History {
            size: rule.history,
            bytes: rule.history_bytes.0,
            ttl: rule.history_ttl,
        };
        assert_eq!(history, hub.history);
        assert_eq!(
            (rule.durable, rule.volatile, rule.allow),
            (hub.durable, hub.volatile, hub.allow)
        );
        assert_eq!((rule.grace, rule.max_members), (hub.grace, hub.max_members));
        assert_eq!(rule.replicas, hub.replicas);
        assert_eq!((rule.presence, hub.presence), (Presence::Full, throng::Presence::Full));
        assert!(rule.other_types && hub.types.others);
    }
}
