//! The configuration as written: layers over layers, nothing resolved yet.
//!
//! Each layer (defaults, file, variables, flags) sets what it names and leaves the rest; the last one wins.
//! Scalars go through the table in [`super::keys`]; listeners have a grammar of their own, here.

use std::fmt;
use std::time::Duration;

use super::ConfigError;
use super::address::Address;
use super::api_keys::{ApiKeys, KeysFile};
use super::keys::{self, Setting};
use super::lists::Cidrs;
use super::near::suggestion;
use super::rate::{ByteRate, Rate};
use super::rooms::RawRoom;
use super::sections::{RawAccess, RawCluster, RawJwt, RawLogin, RawRedis, RawTls, RawWebhook};
use super::trust::Amount;
use super::units::{Choice, Size, Unit, Value};
use super::words::{Gather, LogFormat, LogLevel, RoomName, Slow, Sources, Storage, Sync};

/// Everything that can be written; `None` where no layer has said anything yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawConfig {
    pub(crate) workers: Option<Choice>,
    pub(crate) front_threads: Option<Choice>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) shutdown_grace: Option<Duration>,
    pub(crate) data: Option<Storage>,
    pub(crate) sync: Option<Sync>,
    pub(crate) resume_window: Option<Duration>,
    pub(crate) api_keys: Option<ApiKeys>,
    pub(crate) api_keys_file: Option<KeysFile>,
    pub(crate) access: RawAccess,
    pub(crate) login: RawLogin,
    pub(crate) jwt: RawJwt,
    pub(crate) webhook: RawWebhook,
    pub(crate) tls: RawTls,
    pub(crate) redis: RawRedis,
    pub(crate) cluster: RawCluster,
    pub(crate) limits: RawLimits,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) log_format: Option<LogFormat>,
    /// The settings of each kind, indexed by [`Kind`].
    pub(crate) kinds: [RawEndpoint; 3],
    /// In the order written.
    pub(crate) rooms: Vec<RawRoom>,
    pub(crate) listeners: Option<Vec<RawListener>>,
    /// Variables that look like settings of ours, but come from Kubernetes.
    pub(crate) foreign: Vec<String>,
}

/// `[limits]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawLimits {
    pub(crate) max_connections: Option<Choice>,
    pub(crate) max_connections_per_ip: Option<usize>,
    pub(crate) max_connections_per_user: Option<usize>,
    pub(crate) max_http_connections: Option<Choice>,
    pub(crate) max_tls_handshakes: Option<Choice>,
    pub(crate) trusted_proxies: Option<Cidrs>,
    pub(crate) exempt: Option<Cidrs>,
    pub(crate) connects_per_ip: Option<Rate>,
    pub(crate) handshakes_per_ip: Option<Rate>,
    pub(crate) max_rooms: Option<usize>,
    pub(crate) max_rooms_per_ip: Option<usize>,
    pub(crate) max_rooms_per_user: Option<usize>,
    pub(crate) max_total_rooms: Option<usize>,
    pub(crate) memory: Option<Amount>,
    pub(crate) memory_history: Option<Size>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) partial_timeout: Option<Duration>,
    pub(crate) header_size: Option<Size>,
    pub(crate) header_count: Option<usize>,
    pub(crate) backlog: Option<usize>,
}

/// What an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rooms with the typed protocol.
    Rooms,
    /// Every frame to everyone in the room, verbatim.
    Relay,
    /// Every frame back to its sender.
    Echo,
}

/// The settings of a kind, or those by which one endpoint differs from its kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawEndpoint {
    pub(crate) room: Option<RoomName>,
    pub(crate) max_message: Option<Size>,
    pub(crate) origins: Option<Sources>,
    pub(crate) flush: Option<Gather>,
    pub(crate) outbox: Option<Size>,
    pub(crate) slow: Option<Slow>,
    pub(crate) anonymous: Option<bool>,
    pub(crate) rate: Option<Rate>,
    pub(crate) bytes_rate: Option<ByteRate>,
    pub(crate) user_rate: Option<Rate>,
    pub(crate) budget: Option<Amount>,
    pub(crate) deflate: Option<bool>,
    pub(crate) deflate_threshold: Option<Size>,
    pub(crate) deflate_level: Option<usize>,
    pub(crate) deflate_mem_level: Option<usize>,
    pub(crate) deflate_server_no_context_takeover: Option<bool>,
    pub(crate) deflate_client_no_context_takeover: Option<bool>,
    pub(crate) deflate_server_max_window_bits: Option<usize>,
    pub(crate) deflate_client_max_window_bits: Option<usize>,
}

/// One `[[listener]]`.
#[derive(Clone, Debug)]
pub(crate) struct RawListener {
    pub(crate) place: Place,
    pub(crate) address: Address,
    pub(crate) pages: Option<bool>,
    pub(crate) ops: Option<bool>,
    pub(crate) api: Option<bool>,
    pub(crate) sse: Option<bool>,
    pub(crate) tls: Option<bool>,
    /// `redirect = "https"`.
    pub(crate) redirect: Option<bool>,
    pub(crate) proxy_protocol: Option<bool>,
    /// Changes to the default table, in the order written.
    pub(crate) mounts: Vec<RawMount>,
}

/// One line of a listener's endpoint table.
#[derive(Clone, Debug)]
pub(crate) struct RawMount {
    pub(crate) place: Place,
    pub(crate) path: String,
    pub(crate) what: Mounted,
}

/// What is at a path.
#[derive(Clone, Debug)]
pub(crate) enum Mounted {
    /// Nothing any more; at the path `*`: the default table is not used.
    Off,
    /// An endpoint. Without a kind, the default table says which.
    Endpoint(Option<Kind>, Box<RawEndpoint>),
}

/// Where something was written, to be named in errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the defaults.
    Default,
    /// In a file, on a line counted from 1.
    File(String, usize),
    /// In an environment variable.
    Variable(String),
    /// In a flag.
    Flag(String),
}

impl Kind {
    /// All of them, in the order of their sections.
    pub(crate) const ALL: [Self; 3] = [Self::Rooms, Self::Relay, Self::Echo];

    /// The name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rooms => "rooms",
            Self::Relay => "relay",
            Self::Echo => "echo",
        }
    }
}

impl RawConfig {
    /// The first layer: every default of the table.
    pub(crate) fn defaults() -> Self {
        let mut raw = Self::default();
        for setting in Setting::all() {
            setting
                .set(&mut raw, &Value::text(setting.default()))
                .expect("invariant: every default in the table is a valid value");
        }
        raw
    }

    /// Sets one key, or says in one sentence what is wrong with it.
    pub(crate) fn set(
        &mut self,
        place: &Place,
        setting: &Setting,
        value: &Value,
    ) -> Result<(), ConfigError> {
        let described = match place {
            Place::Variable(_) | Place::Flag(_) => place.to_string(),
            _ => format!("{place}: {}", setting.path()),
        };
        setting.set(self, value).map_err(|expected| match setting.is_secret() {
            true => ConfigError::new(format!("{described} must be {expected}")),
            false => wrong(&described, &expected, value),
        })
    }

    /// The layer of `THRONG_…` variables. Others are not looked at.
    pub(crate) fn apply_variables(
        &mut self,
        variables: &[(String, String)],
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            if !name.starts_with("THRONG_") || name == keys::CONFIG_VARIABLE {
                continue;
            }
            let place = Place::Variable(name.clone());
            if name == keys::LISTEN_VARIABLE {
                let specs = text.split([';', '\n']).filter(|spec| !spec.trim().is_empty());
                let listeners =
                    specs.map(|spec| RawListener::parse(&place, spec)).collect::<Result<_, _>>()?;
                self.listeners = Some(listeners);
                continue;
            }
            let Some(setting) = Setting::all().find(|setting| setting.variable() == *name) else {
                if is_of_kubernetes(name, text) {
                    self.foreign.push(name.clone());
                    continue;
                }
                let known = Setting::all()
                    .map(|setting| setting.variable())
                    .chain([keys::CONFIG_VARIABLE.to_owned(), keys::LISTEN_VARIABLE.to_owned()]);
                let hint = match name.as_str() {
                    "THRONG_PORT" => "; for the port there is THRONG_LISTEN".to_owned(),
                    _ => suggestion(name, known),
                };
                return Err(ConfigError::new(format!("{name} is not a setting of throng{hint}")));
            };
            self.set(&place, &setting, &Value::text(text))?;
        }
        Ok(())
    }

    /// The `--listen` and `--endpoint` flags in the order of the command line: `--listen` replaces the
    /// listeners of the lower layers, `--endpoint` changes the table of the `--listen` before it, or of
    /// the first listener when none precedes.
    pub(crate) fn apply_listen_flags(&mut self, flags: &[ListenFlag]) -> Result<(), ConfigError> {
        let mut given = Vec::new();
        let mut leading = Vec::new();
        for flag in flags {
            match flag {
                ListenFlag::Listen(spec) => {
                    given.push(RawListener::parse(&Place::Flag("--listen".into()), spec)?);
                }
                ListenFlag::Endpoint(spec) => {
                    let mount = RawMount::parse(&Place::Flag("--endpoint".into()), spec)?;
                    given.last_mut().map_or(&mut leading, |last| &mut last.mounts).push(mount);
                }
            }
        }
        let flags_gave_listeners = !given.is_empty();
        if flags_gave_listeners {
            self.listeners = Some(given);
        }
        if !leading.is_empty() {
            let listeners = self.listeners.get_or_insert_default();
            if listeners.is_empty() {
                listeners.push(RawListener::default_one());
            }
            if let Some(first) = listeners.first_mut() {
                // With a `--listen`, these were written before its own; without, after those of the file.
                let at = if flags_gave_listeners { 0 } else { first.mounts.len() };
                first.mounts.splice(at..at, leading);
            }
        }
        Ok(())
    }
}

/// A `--listen` or `--endpoint` flag.
#[derive(Clone, Debug)]
pub(crate) enum ListenFlag {
    /// `--listen SPEC`.
    Listen(String),
    /// `--endpoint PATH=KIND`.
    Endpoint(String),
}

impl RawListener {
    /// The listener when nothing is said.
    pub(crate) fn default_one() -> Self {
        Self::at(Place::Default, Address::Loopback(super::address::DEFAULT_PORT))
    }

    /// A listener with the default table.
    pub(crate) fn at(place: Place, address: Address) -> Self {
        Self {
            place,
            address,
            pages: None,
            ops: None,
            api: None,
            sse: None,
            tls: None,
            redirect: None,
            proxy_protocol: None,
            mounts: Vec::new(),
        }
    }

    /// Reads `ADDRESS [PATH=KIND…] [pages=off] [tls=on] …`, as in `--listen` and `THRONG_LISTEN`.
    fn parse(place: &Place, spec: &str) -> Result<Self, ConfigError> {
        let mut words = spec.split_whitespace();
        let address = Value::text(words.next().unwrap_or_default());
        let parsed = Address::read(&address)
            .map_err(|expected| wrong(&place.to_string(), &expected, &address))?;
        let mut listener = Self::at(place.clone(), parsed);
        for word in words {
            if word.starts_with('/') || word.starts_with('*') {
                listener.mounts.push(RawMount::parse(place, word)?);
                continue;
            }
            let (name, text) = word.split_once('=').unwrap_or((word, ""));
            listener.set(place, name, &Value::text(text))?;
        }
        Ok(listener)
    }

    /// Sets one of the words of a listener.
    pub(crate) fn set(
        &mut self,
        place: &Place,
        name: &str,
        value: &Value,
    ) -> Result<(), ConfigError> {
        let slot = match name {
            "pages" => &mut self.pages,
            "ops" => &mut self.ops,
            "api" => &mut self.api,
            "sse" => &mut self.sse,
            "tls" => &mut self.tls,
            "proxy_protocol" => &mut self.proxy_protocol,
            "redirect" => {
                self.redirect = Some(match value.word() {
                    Some("https") => true,
                    Some("off") => false,
                    _ => {
                        let described = format!("{place}: redirect");
                        return Err(wrong(&described, "\"https\" or \"off\"", value));
                    }
                });
                return Ok(());
            }
            _ => {
                let hint = suggestion(name, LISTENER_KEYS.into_iter().map(str::to_owned));
                let sentence = format!("{place}: a listener has no key {name:?}{hint}");
                return Err(ConfigError::new(sentence));
            }
        };
        let read = bool::read(value)
            .map_err(|expected| wrong(&format!("{place}: {name}"), &expected, value))?;
        *slot = Some(read);
        Ok(())
    }
}

const LISTENER_KEYS: [&str; 9] =
    ["address", "pages", "ops", "api", "sse", "tls", "redirect", "proxy_protocol", "endpoints"];

impl RawMount {
    /// Reads `PATH=KIND[,KEY=VALUE…]`, as in `--endpoint`.
    fn parse(place: &Place, spec: &str) -> Result<Self, ConfigError> {
        let spec = spec.trim();
        let Some((path, rest)) = spec.split_once('=') else {
            let sentence = format!("{place} must be PATH=KIND such as /relay=relay, not {spec:?}");
            return Err(ConfigError::new(sentence));
        };
        let mut parts = rest.split(',');
        let kind = Value::text(parts.next().unwrap_or_default());
        let mut mount = Self::new(place.clone(), path)?;
        mount.set(place, "kind", &kind)?;
        for part in parts {
            let (name, text) = part.split_once('=').unwrap_or((part, ""));
            mount.set(place, name.trim(), &Value::text(text))?;
        }
        Ok(mount)
    }

    /// An endpoint at a path, or an error when it is no path.
    pub(crate) fn new(place: Place, path: &str) -> Result<Self, ConfigError> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"{}?#*".contains(&byte);
        let valid = path == "*" || (path.starts_with('/') && path.bytes().all(fits));
        if !valid {
            let hint = if path.contains('{') { "; /ws brings /ws/{room} with it" } else { "" };
            return Err(ConfigError::new(format!(
                "{place}: an endpoint's path must be like /ws, not {path:?}{hint}"
            )));
        }
        let what = Mounted::Endpoint(None, Box::default());
        Ok(Self { place, path: path.to_owned(), what })
    }

    /// Sets `kind` or one of the settings of an endpoint.
    pub(crate) fn set(
        &mut self,
        place: &Place,
        name: &str,
        value: &Value,
    ) -> Result<(), ConfigError> {
        let described = format!("{place}: {name} of {}", self.path);
        if name == "kind" {
            let wildcard = self.path == "*";
            let known = Kind::ALL
                .into_iter()
                .find(|kind| matches!(value, Value::Text(text) if text.trim() == kind.name()));
            return match (known, value) {
                (None, Value::Text(text)) if text.trim() == "off" => {
                    self.what = Mounted::Off;
                    Ok(())
                }
                (Some(kind), _) if !wildcard => {
                    if let Mounted::Endpoint(slot, _) = &mut self.what {
                        *slot = Some(kind);
                    }
                    Ok(())
                }
                _ if wildcard => Err(wrong(&described, "off", value)),
                _ => Err(wrong(&described, "rooms, relay, echo or off", value)),
            };
        }
        let Some(key) = keys::ENDPOINT_KEYS.iter().find(|key| key.name == name) else {
            let known = keys::ENDPOINT_KEYS.iter().map(|key| key.name).chain(["kind"]);
            let hint = suggestion(name, known.map(str::to_owned));
            let sentence = format!("{place}: an endpoint has no key {name:?}{hint}");
            return Err(ConfigError::new(sentence));
        };
        let Mounted::Endpoint(_, options) = &mut self.what else {
            let sentence = format!("{described} has no effect, the endpoint is off");
            return Err(ConfigError::new(sentence));
        };
        (key.set)(options, value).map_err(|expected| wrong(&described, &expected, value))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File(name, line) => write!(f, "{name}, line {line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Whether a variable is one that Kubernetes gives to every container for a Service called `throng` or
/// `throng-…`. `THRONG_PORT` is one only with a URL: somebody may mean a port by it, and must be told.
fn is_of_kubernetes(name: &str, text: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") {
        return true;
    }
    if name.contains("_SERVICE_PORT_") || (name.ends_with("_PORT") && text.contains("://")) {
        return true;
    }
    // THRONG_PORT_3000_TCP, and the same with _PROTO, _PORT, _ADDR.
    let Some((_, rest)) = name.split_once("_PORT_") else { return false };
    let mut words = rest.split('_');
    let port = words.next().is_some_and(|port| port.parse::<u16>().is_ok());
    let protocol = words.next().is_some_and(|word| ["TCP", "UDP", "SCTP"].contains(&word));
    let part = words.next().is_none_or(|word| ["PROTO", "PORT", "ADDR"].contains(&word));
    port && protocol && part && words.next().is_none()
}

/// "`described` must be `expected`, not `value`".
pub(crate) fn wrong(described: &str, expected: &str, value: &Value) -> ConfigError {
    ConfigError::new(format!("{described} must be {expected}, not {}", value.shown()))
}
