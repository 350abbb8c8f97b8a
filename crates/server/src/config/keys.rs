//! The table of settings: name, default, meaning, danger, and how each is read and printed.
//!
//! The file, the `THRONG_…` variables, the flags, `throng config` and the manual all come from here.
//! Listeners are not in it: they are a list, see [`super::raw::RawListener`].

mod access;
mod endpoints;
mod limits;
mod redis;
mod tls;
mod tokens;

use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::Duration;

pub(crate) use self::endpoints::ENDPOINT_KEYS;
use super::checked::{Config, EndpointOptions, Machine};
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
        server_keys().map(Self::Server).chain(kinds)
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

    /// The default as [`Setting::get`] writes it.
    pub(crate) fn written_default(&self) -> String {
        // Reading and writing normalises it: `auto` becomes `"auto"`.
        static DEFAULTS: LazyLock<Option<Config>> = LazyLock::new(|| {
            Config::check(RawConfig::defaults(), Machine { cores: 1, files: 1024 }).ok()
        });
        DEFAULTS.as_ref().map_or_else(String::new, |config| self.get(config))
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

    /// Whether its value must not be repeated in an error: somebody may have put a secret there.
    pub(crate) fn is_secret(&self) -> bool {
        const SECRET: [&str; 5] =
            ["api.keys", "jwt.jwks_url", "webhook.url", "tls.acme_directory", "redis.urls"];
        matches!(self, Self::Server(key) if SECRET.contains(&key.name))
    }

    /// What `auto` came to on this machine, for settings that can be `auto`.
    pub(crate) fn resolved(&self, config: &Config) -> Option<usize> {
        match self {
            Self::Server(key) => key.resolved.map(|resolved| resolved(config)),
            Self::OfKind(..) => None,
        }
    }
}

/// Every setting of the server, section by section.
fn server_keys() -> impl Iterator<Item = &'static Key> {
    let sections = [GENERAL_KEYS, access::ACCESS_KEYS, tokens::TOKEN_KEYS, tls::TLS_KEYS];
    let others = [redis::REDIS_KEYS, limits::LIMIT_KEYS, LAST_KEYS];
    sections.into_iter().chain(others).flatten()
}

/// Those without a section.
static GENERAL_KEYS: &[Key] = &[
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
        danger: "In memory, every room's past is gone with the process. A directory belongs to one \
                 process at a time, and must not be on a network file system.",
        set: |raw, v| into(&mut raw.data, Unit::read(v)),
        get: |config| config.data.write(),
        resolved: None,
    },
    Key {
        name: "sync",
        default: "full",
        doc: "When a message in the data directory counts as kept: full, when the disk has it, or \
              normal, when the system has it.",
        danger: "With normal, acknowledged messages can be lost when the machine (not only the process) \
                 goes down.",
        set: |raw, v| into(&mut raw.sync, Unit::read(v)),
        get: |config| config.sync.write(),
        resolved: None,
    },
    Key {
        name: "resume_window",
        default: "120s",
        doc: "How long after its connection was lost a session can be resumed with its token: same \
              user, and repeated messages are recognised.",
        danger: "Sessions are kept in memory for this long.",
        set: |raw, v| into(&mut raw.resume_window, units::duration(v, WINDOWS)),
        get: |config| config.resume_window.write(),
        resolved: None,
    },
];

/// Of `[api]` and `[log]`.
static LAST_KEYS: &[Key] = &[
    Key {
        name: "api.keys",
        default: "",
        doc: "Who may use the HTTP API: a list of \"NAME:HASH\" as `throng key new` prints them. Without \
              any, every request to the API is answered 401.",
        danger: "Each key may do everything: read, write and disconnect in all rooms.",
        set: |raw, v| into(&mut raw.api_keys, Unit::read(v)),
        get: |config| config.api_keys.write(),
        resolved: None,
    },
    Key {
        name: "api.keys_file",
        default: "",
        doc: "A file with more of them, one NAME:HASH on each line; # starts a comment. Empty: none. A \
              relative path starts where the process does.",
        danger: "Whoever can write to it can give themselves a key. It is read again on SIGHUP.",
        set: |raw, v| into(&mut raw.api_keys_file, Unit::read(v)),
        get: |config| config.api_keys_file.write(),
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

fn into<T>(slot: &mut Option<T>, read: Result<T, Expected>) -> Result<(), Expected> {
    *slot = Some(read?);
    Ok(())
}

const BEATS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const WINDOWS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);

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
}
