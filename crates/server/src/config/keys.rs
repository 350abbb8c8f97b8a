//! The table of settings: name, default, meaning, danger, and how each is read and printed.
//!
//! The file, the `THRONG_…` variables, the flags, `throng config` and the manual all come from here.
//! Listeners are not in it: they are a list, see [`super::raw::RawListener`].

use std::ops::RangeInclusive;
use std::time::Duration;

use super::checked::{Config, EndpointOptions};
use super::raw::{Kind, RawConfig, RawEndpoint};
use super::units::{self, Expected, Unit, Value};

/// The variable that names the configuration file, as `--config` does.
pub(crate) const CONFIG_VARIABLE: &str = "THRONG_CONFIG";

/// The variable that replaces the list of listeners.
pub(crate) const LISTEN_VARIABLE: &str = "THRONG_LISTEN";

/// A setting of the whole server.
pub(crate) struct Key {
    /// The dotted name in `throng.toml`.
    pub(crate) name: &'static str,
    /// As written in a file; applied as the first layer.
    pub(crate) default: &'static str,
    /// What it means, with its unit.
    pub(crate) doc: &'static str,
    /// What can go wrong with other values; empty when nothing can.
    pub(crate) danger: &'static str,
    set: fn(&mut RawConfig, &Value) -> Result<(), Expected>,
    get: fn(&Config) -> String,
    /// What `auto` came to.
    resolved: Option<fn(&Config) -> usize>,
}

/// A setting of a kind of endpoint, which an endpoint may have differently.
pub(crate) struct EndpointKey {
    /// The name within `[rooms]`, `[relay]`, `[echo]` and an endpoint's table.
    pub(crate) name: &'static str,
    /// The defaults of rooms, relay and echo; `None` where the kind has no such setting.
    pub(crate) defaults: [Option<&'static str>; 3],
    /// What it means, with its unit.
    pub(crate) doc: &'static str,
    /// What can go wrong with other values; empty when nothing can.
    pub(crate) danger: &'static str,
    pub(crate) set: fn(&mut RawEndpoint, &Value) -> Result<(), Expected>,
    pub(crate) get: fn(&EndpointOptions) -> String,
}

/// One line of either table, with its full name.
#[derive(Clone, Copy)]
pub(crate) enum Setting {
    /// Of the server.
    Server(&'static Key),
    /// Of a kind of endpoint.
    OfKind(Kind, &'static EndpointKey),
}

impl Setting {
    /// Every setting, in the order in which `throng config` prints them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let kinds = Kind::ALL.into_iter().flat_map(|kind| {
            let keys =
                ENDPOINT_KEYS.iter().filter(move |key| key.defaults[kind as usize].is_some());
            keys.map(move |key| Self::OfKind(kind, key))
        });
        KEYS.iter().map(Self::Server).chain(kinds)
    }

    /// The setting of this dotted name.
    pub(crate) fn find(path: &str) -> Option<Self> {
        Self::all().find(|setting| setting.path() == path)
    }

    /// The dotted name in `throng.toml`.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::Server(key) => key.name.to_owned(),
            Self::OfKind(kind, key) => format!("{}.{}", kind.name(), key.name),
        }
    }

    /// `limits.max_connections` → `("limits", "max_connections")`; the section may be empty.
    pub(crate) fn section_and_name(&self) -> (&'static str, &'static str) {
        match self {
            Self::Server(key) => key.name.split_once('.').unwrap_or(("", key.name)),
            Self::OfKind(kind, key) => (kind.name(), key.name),
        }
    }

    /// The environment variable: `limits.max_connections` is `THRONG_LIMITS_MAX_CONNECTIONS`.
    pub(crate) fn variable(&self) -> String {
        format!("THRONG_{}", self.path().replace('.', "_").to_ascii_uppercase())
    }

    /// The default, as written in a file.
    pub(crate) fn default(&self) -> &'static str {
        match self {
            Self::Server(key) => key.default,
            Self::OfKind(kind, key) => key.defaults[*kind as usize].unwrap_or_default(),
        }
    }

    /// What it means.
    pub(crate) fn doc(&self) -> &'static str {
        match self {
            Self::Server(key) => key.doc,
            Self::OfKind(_, key) => key.doc,
        }
    }

    /// What can go wrong.
    pub(crate) fn danger(&self) -> &'static str {
        match self {
            Self::Server(key) => key.danger,
            Self::OfKind(_, key) => key.danger,
        }
    }

    /// Sets it, or says what would be right.
    pub(crate) fn set(&self, raw: &mut RawConfig, value: &Value) -> Result<(), Expected> {
        match self {
            Self::Server(key) => (key.set)(raw, value),
            Self::OfKind(kind, key) => (key.set)(&mut raw.kinds[*kind as usize], value),
        }
    }

    /// The effective value as a TOML literal.
    pub(crate) fn get(&self, config: &Config) -> String {
        match self {
            Self::Server(key) => (key.get)(config),
            Self::OfKind(kind, key) => (key.get)(&config.kinds[*kind as usize]),
        }
    }

    /// What `auto` came to on this machine, for settings that can be `auto`.
    pub(crate) fn resolved(&self, config: &Config) -> Option<usize> {
        match self {
            Self::Server(key) => key.resolved.map(|resolved| resolved(config)),
            Self::OfKind(..) => None,
        }
    }
}

/// Every setting of the server.
pub(crate) static KEYS: &[Key] = &[
    Key {
        name: "workers",
        default: "auto",
        doc: "Threads that own the WebSockets: a number, or auto for one per core this process may use.",
        danger: "More threads than cores only add switches between them.",
        set: |raw, v| into(&mut raw.workers, units::choice(v, 1..=1024)),
        get: |config| config.workers.choice.write(),
        resolved: Some(|config| config.workers.value),
    },
    Key {
        name: "front_threads",
        default: "auto",
        doc: "Threads that accept connections, do handshakes and serve pages: a number, or auto for one \
              per core, at most 8.",
        danger: "",
        set: |raw, v| into(&mut raw.front_threads, units::choice(v, 1..=1024)),
        get: |config| config.front_threads.choice.write(),
        resolved: Some(|config| config.front_threads.value),
    },
    Key {
        name: "heartbeat",
        default: "25s",
        doc: "A connection that was silent this long gets a ping, and is terminated when nothing comes \
              back within as long again.",
        danger: "Proxies often cut connections that are idle for 60 s; dead peers are kept for up to \
                 twice this time.",
        set: |raw, v| into(&mut raw.heartbeat, units::duration(v, BEATS)),
        get: |config| config.heartbeat.write(),
        resolved: None,
    },
    Key {
        name: "shutdown_grace",
        default: "10s",
        doc: "How long connections may take to close after SIGTERM or SIGINT before they are terminated.",
        danger: "Must be shorter than what the service manager allows before it kills the process.",
        set: |raw, v| into(&mut raw.shutdown_grace, units::duration(v, GRACES)),
        get: |config| config.shutdown_grace.write(),
        resolved: None,
    },
    Key {
        name: "data",
        default: "memory",
        doc: "Where to keep what must survive the process: \"memory\" for nowhere, or a directory.",
        danger: "This version keeps nothing on disk yet: a directory is accepted and left untouched.",
        set: |raw, v| into(&mut raw.data, Unit::read(v)),
        get: |config| config.data.write(),
        resolved: None,
    },
    Key {
        name: "limits.max_connections",
        default: "auto",
        doc: "WebSockets open at once: a number, or auto for what the limit on open files allows. One \
              more is refused with 429.",
        danger: "Each connection needs a file descriptor (ulimit -n).",
        set: |raw, v| into(&mut raw.limits.max_connections, units::choice(v, COUNTS)),
        get: |config| config.limits.max_connections.choice.write(),
        resolved: Some(|config| config.limits.max_connections.value),
    },
    Key {
        name: "limits.max_connections_per_ip",
        default: "0",
        doc: "WebSockets, and HTTP connections, open at once from one IP address; 0 for no limit. One \
              more is refused with 429.",
        danger: "Behind a proxy, a company's or a mobile network's gateway, many people share one address.",
        set: |raw, v| {
            into(&mut raw.limits.max_connections_per_ip, units::number(v, COUNTS_OR_NONE))
        },
        get: |config| config.limits.max_connections_per_ip.write(),
        resolved: None,
    },
    Key {
        name: "limits.max_http_connections",
        default: "auto",
        doc: "TCP connections open at once that are not WebSockets (yet): a number, or auto for an \
              eighth of the limit on open files, at most 8192. One more is refused with 429.",
        danger: "Each one costs some 10 KiB while it lives; a flood of slow handshakes fills this first.",
        set: |raw, v| into(&mut raw.limits.max_http_connections, units::choice(v, COUNTS)),
        get: |config| config.limits.max_http_connections.choice.write(),
        resolved: Some(|config| config.limits.max_http_connections.value),
    },
    Key {
        name: "limits.handshake_timeout",
        default: "10s",
        doc: "How long a TCP connection may take to send the head of a request, to take a response, or \
              to be idle between requests, before it is cut.",
        danger: "Long times help attackers that send a byte now and then (slowloris).",
        set: |raw, v| into(&mut raw.limits.handshake_timeout, units::duration(v, HANDSHAKES)),
        get: |config| config.limits.handshake_timeout.write(),
        resolved: None,
    },
    Key {
        name: "limits.header_size",
        default: "16KiB",
        doc: "The largest head of a request: its first line and all headers, in bytes. More is \
              answered 431.",
        danger: "Memory that every connection can make the server use. Cookies and tickets must fit in.",
        set: |raw, v| into(&mut raw.limits.header_size, units::size(v, HEADERS)),
        get: |config| config.limits.header_size.write(),
        resolved: None,
    },
    Key {
        name: "limits.header_count",
        default: "100",
        doc: "The most headers in a request. More are answered 431.",
        danger: "Other values than 100 cost an allocation per request.",
        set: |raw, v| into(&mut raw.limits.header_count, units::number(v, 16..=4096)),
        get: |config| config.limits.header_count.write(),
        resolved: None,
    },
    Key {
        name: "limits.backlog",
        default: "4096",
        doc: "TCP connections the system may hold for us before they are accepted, per listener. The \
              system may have a lower limit (net.core.somaxconn).",
        danger: "When it is full, clients see slow connects: SYN packets are dropped.",
        set: |raw, v| into(&mut raw.limits.backlog, units::number(v, 1..=65_535)),
        get: |config| config.limits.backlog.write(),
        resolved: None,
    },
    Key {
        name: "log.level",
        default: "info",
        doc: "What is logged: off, error, warn, info, debug or trace, or directives by module such as \
              info,throng=debug.",
        danger: "debug and trace show what libraries write, hyper among them: several lines per request.",
        set: |raw, v| into(&mut raw.log_level, Unit::read(v)),
        get: |config| config.log_level.write(),
        resolved: None,
    },
    Key {
        name: "log.format",
        default: "text",
        doc: "How log lines look on stderr: text for people, json for machines (one object per line).",
        danger: "",
        set: |raw, v| into(&mut raw.log_format, Unit::read(v)),
        get: |config| config.log_format.write(),
        resolved: None,
    },
];

/// Every setting of an endpoint.
pub(crate) static ENDPOINT_KEYS: &[EndpointKey] = &[
    EndpointKey {
        name: "room",
        defaults: [Some("lobby"), Some("lobby"), None],
        doc: "The room of clients whose path names none.",
        danger: "",
        set: |raw, v| into(&mut raw.room, Unit::read(v)),
        get: |options| options.room.as_ref().map_or_else(String::new, Unit::write),
    },
    EndpointKey {
        name: "max_message",
        defaults: [Some("64KiB"), Some("1MiB"), Some("16MiB")],
        doc: "The largest message a client may send, in bytes, after decompression. A larger one closes \
              the connection with 1009.",
        danger: "Memory that one client can make the server hold, for every connection it opens.",
        set: |raw, v| into(&mut raw.max_message, units::size(v, 1..=1 << 30)),
        get: |options| options.max_message.write(),
    },
    EndpointKey {
        name: "origins",
        defaults: [Some("same-origin"), Some("any"), Some("any")],
        doc: "Which web pages may connect: \"any\", \"same-origin\", or a list of origins. Others are \
              refused with 403. Clients that send no Origin are no browsers and are not affected. Rooms \
              act for a person, so other sites must not borrow their browser; relay and echo know \
              nobody, and serve pages opened from a file or another port.",
        danger: "With \"any\", every page a visitor opens can talk to this server in the visitor's network.",
        set: |raw, v| into(&mut raw.origins, Unit::read(v)),
        get: |options| options.origins.write(),
    },
    EndpointKey {
        name: "flush",
        defaults: [Some("auto"), Some("0s"), Some("0s")],
        doc: "How long messages may be held to be written together, up to 50ms. auto: the first after a \
              pause at once, the following ones a few ms apart as the worker gets busy; 0s: never held.",
        danger: "Adds up to this much latency; saves most of the CPU of a busy room.",
        set: |raw, v| into(&mut raw.flush, Unit::read(v)),
        get: |options| options.flush.write(),
    },
    EndpointKey {
        name: "outbox",
        defaults: [Some("1MiB"); 3],
        doc: "How many bytes may wait for one slow reader.",
        danger: "Memory times the number of slow readers; too little disconnects readers on slow networks.",
        set: |raw, v| into(&mut raw.outbox, units::size(v, 1024..=1 << 30)),
        get: |options| options.outbox.write(),
    },
    EndpointKey {
        name: "slow",
        defaults: [Some("disconnect"); 3],
        doc: "What happens to a reader whose outbox is full: disconnect (close code 4508, it can come \
              back), or drop (it misses messages).",
        danger: "With drop, clients see holes.",
        set: |raw, v| into(&mut raw.slow, Unit::read(v)),
        get: |options| options.slow.write(),
    },
    EndpointKey {
        name: "deflate",
        defaults: [Some("true"), Some("false"), Some("true")],
        doc: "Whether messages may be compressed (permessage-deflate, RFC 7692) for clients that offer it.",
        danger: "CPU time. Never compress secrets together with what an attacker chooses (CRIME, BREACH).",
        set: |raw, v| into(&mut raw.deflate, Unit::read(v)),
        get: |options| options.deflate.write(),
    },
    EndpointKey {
        name: "deflate_threshold",
        defaults: [Some("1KiB"); 3],
        doc: "Messages smaller than this many bytes are sent uncompressed.",
        danger: "Below some hundred bytes compression costs more than it saves.",
        set: |raw, v| into(&mut raw.deflate_threshold, units::size(v, 0..=1 << 30)),
        get: |options| options.deflate_threshold.write(),
    },
    EndpointKey {
        name: "deflate_level",
        defaults: [Some("4"); 3],
        doc: "Effort of compression, 1 (fast) to 9 (small).",
        danger: "From 6 on, CPU time doubles for a few per cent.",
        set: |raw, v| into(&mut raw.deflate_level, units::number(v, 1..=9)),
        get: |options| options.deflate_level.write(),
    },
    EndpointKey {
        name: "deflate_mem_level",
        defaults: [Some("8"); 3],
        doc: "Memory of a compressor, 1 to 9: about 128 KiB to 384 KiB, one per worker.",
        danger: "With takeover it is one per connection.",
        set: |raw, v| into(&mut raw.deflate_mem_level, units::number(v, 1..=9)),
        get: |options| options.deflate_mem_level.write(),
    },
    EndpointKey {
        name: "deflate_server_no_context_takeover",
        defaults: [Some("true"); 3],
        doc: "Whether every message of ours is compressed by itself, so that one compressed copy serves \
              all receivers.",
        danger: "With false, each connection keeps a compressor of some 300 KiB for its own answers, and \
                 messages of rooms go to it uncompressed.",
        set: |raw, v| into(&mut raw.deflate_server_no_context_takeover, Unit::read(v)),
        get: |options| options.deflate_server_no_context_takeover.write(),
    },
    EndpointKey {
        name: "deflate_client_no_context_takeover",
        defaults: [Some("true"); 3],
        doc: "Whether clients are asked to compress every message by itself.",
        danger: "With false, each connection may keep a window of at most 32 KiB.",
        set: |raw, v| into(&mut raw.deflate_client_no_context_takeover, Unit::read(v)),
        get: |options| options.deflate_client_no_context_takeover.write(),
    },
    EndpointKey {
        name: "deflate_server_max_window_bits",
        defaults: [Some("15"); 3],
        doc: "The largest window of our compressor: 9 (512 bytes) to 15 (32 KiB).",
        danger: "Below 15, messages of rooms go uncompressed: one compressed copy serves all receivers.",
        set: |raw, v| into(&mut raw.deflate_server_max_window_bits, units::number(v, 9..=15)),
        get: |options| options.deflate_server_max_window_bits.write(),
    },
    EndpointKey {
        name: "deflate_client_max_window_bits",
        defaults: [Some("15"); 3],
        doc: "The largest window that clients are asked to use: 9 (512 bytes) to 15 (32 KiB).",
        danger: "With less than 15, clients that cannot limit their window get no compression.",
        set: |raw, v| into(&mut raw.deflate_client_max_window_bits, units::number(v, 9..=15)),
        get: |options| options.deflate_client_max_window_bits.write(),
    },
];

/// `; did you mean "workers"?`, or nothing when no known name is near.
pub(crate) fn suggestion(name: &str, known: impl Iterator<Item = String>) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let near = known
        .map(|candidate| {
            // `max_conections` at the top level is near `limits.max_connections`.
            let whole = distance(name, &candidate);
            let tail = distance(&last(name), &last(&candidate)) + 1;
            (whole.min(tail), candidate)
        })
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((distance, candidate)) if distance <= 1 + name.len() / 4 => {
            format!("; did you mean {candidate}?")
        }
        _ => String::new(),
    }
}

/// How many letters have to be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

fn into<T>(slot: &mut Option<T>, read: Result<T, Expected>) -> Result<(), Expected> {
    *slot = Some(read?);
    Ok(())
}

const BEATS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const HANDSHAKES: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(600);
const COUNTS: RangeInclusive<usize> = 1..=100_000_000;
const COUNTS_OR_NONE: RangeInclusive<usize> = 0..=100_000_000;
const HEADERS: RangeInclusive<usize> = 1024..=1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_unique_and_documented() {
        let mut seen = std::collections::HashSet::new();
        for setting in Setting::all() {
            assert!(seen.insert(setting.path()), "{}", setting.path());
            assert!(seen.insert(setting.variable()), "{}", setting.variable());
            assert!(setting.doc().ends_with('.'), "{}", setting.path());
            let danger = setting.danger();
            assert!(danger.is_empty() || danger.ends_with('.'), "{}", setting.path());
            assert_eq!(Setting::find(&setting.path()).map(|s| s.path()), Some(setting.path()));
        }
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = || Setting::all().map(|setting| setting.path());
        assert_eq!(suggestion("wokers", known()), "; did you mean workers?");
        assert_eq!(suggestion("max_conections", known()), "; did you mean limits.max_connections?");
        assert_eq!(suggestion("rooms.flsuh", known()), "; did you mean rooms.flush?");
        assert_eq!(suggestion("colour", known()), "");
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("flush", "flsuh", 1),
            ("relay", "delay", 1),
            ("ab", "ba", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
