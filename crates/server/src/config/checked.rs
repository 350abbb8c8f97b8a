//! The configuration as the server uses it: every question answered, every value of its own type.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ConfigError;
use super::address::Address;
use super::api_keys::{ApiKeys, KeysFile};
use super::fit;
use super::lists::Cidrs;
use super::machine;
use super::rate::{ByteRate, Rate};
use super::raw::{Kind, Mounted, RawConfig, RawEndpoint, RawLimits, RawListener, RawMount};
use super::redis::Spread;
use super::rooms::{RoomRule, check_rules};
use super::sections::{Access, Cluster, Jwt, Login, Redis, Tls, Webhook};
use super::trust::Amount;
use super::units::{Choice, Size};
use super::words::{Gather, LogFormat, LogLevel, RoomName, Slow, Sources, Storage, Sync};

/// The effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) workers: Count,
    pub(crate) front_threads: Count,
    pub(crate) heartbeat: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) data: Storage,
    pub(crate) sync: Sync,
    pub(crate) resume_window: Duration,
    /// As configured; [`Config::keys`] has those of the file, too.
    pub(crate) api_keys: ApiKeys,
    pub(crate) api_keys_file: KeysFile,
    /// All keys, each name once.
    pub(crate) keys: ApiKeys,
    pub(crate) access: Access,
    pub(crate) login: Login,
    pub(crate) jwt: Jwt,
    pub(crate) webhook: Webhook,
    pub(crate) tls: Tls,
    pub(crate) redis: Redis,
    pub(crate) cluster: Cluster,
    pub(crate) limits: Limits,
    pub(crate) log_level: LogLevel,
    pub(crate) log_format: LogFormat,
    /// The settings of each kind, indexed by [`Kind`].
    pub(crate) kinds: [EndpointOptions; 3],
    /// The first one that matches the name of a room counts.
    pub(crate) rooms: Vec<RoomRule>,
    /// At least one.
    pub(crate) listeners: Vec<Listener>,
    /// Variables that were ignored because they come from Kubernetes.
    pub(crate) foreign: Vec<String>,
}

/// A number that may have been found out from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// As configured.
    pub(crate) choice: Choice,
    /// As used.
    pub(crate) value: usize,
}

/// Memory whose size may have been found out from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// As configured.
    pub(crate) choice: Amount,
    /// In bytes, as used.
    pub(crate) value: usize,
}

/// What clients may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) max_connections: Count,
    /// 0: no limit.
    pub(crate) max_connections_per_ip: usize,
    /// 0: no limit.
    pub(crate) max_connections_per_user: usize,
    pub(crate) max_http_connections: Count,
    pub(crate) max_tls_handshakes: Count,
    pub(crate) trusted_proxies: Cidrs,
    /// Whom the limits by address do not concern.
    pub(crate) exempt: Cidrs,
    pub(crate) connects_per_ip: Rate,
    pub(crate) handshakes_per_ip: Rate,
    pub(crate) max_rooms: usize,
    /// 0: no limit.
    pub(crate) max_rooms_per_ip: usize,
    /// 0: no limit.
    pub(crate) max_rooms_per_user: usize,
    pub(crate) max_total_rooms: usize,
    pub(crate) memory: Memory,
    pub(crate) memory_history: Size,
    pub(crate) handshake_timeout: Duration,
    pub(crate) partial_timeout: Duration,
    pub(crate) header_size: Size,
    pub(crate) header_count: usize,
    pub(crate) backlog: usize,
}

/// One address and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) address: Address,
    /// Whether the pages are served.
    pub(crate) pages: bool,
    /// Whether `/metrics`, `/healthz` and `/readyz` are served.
    pub(crate) ops: bool,
    /// Whether `/api/v1` is served.
    pub(crate) api: bool,
    /// Whether `/sse` and `/send` are served.
    pub(crate) sse: bool,
    /// Whether TLS is spoken here.
    pub(crate) tls: bool,
    /// Whether everybody is only sent to the same place by `https`.
    pub(crate) redirect: bool,
    /// Whether connections of trusted proxies begin with a PROXY header.
    pub(crate) proxy_protocol: bool,
    /// By path, in order of the paths.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A WebSocket endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) options: EndpointOptions,
}

/// The settings of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointOptions {
    /// `None` for kinds without rooms.
    pub(crate) room: Option<RoomName>,
    pub(crate) max_message: Size,
    pub(crate) origins: Sources,
    pub(crate) flush: Gather,
    pub(crate) outbox: Size,
    pub(crate) slow: Slow,
    pub(crate) anonymous: bool,
    pub(crate) rate: Rate,
    pub(crate) bytes_rate: ByteRate,
    pub(crate) user_rate: Rate,
    pub(crate) budget: Amount,
    pub(crate) deflate: bool,
    pub(crate) deflate_threshold: Size,
    pub(crate) deflate_level: usize,
    pub(crate) deflate_mem_level: usize,
    pub(crate) deflate_server_no_context_takeover: bool,
    pub(crate) deflate_client_no_context_takeover: bool,
    pub(crate) deflate_server_max_window_bits: usize,
    pub(crate) deflate_client_max_window_bits: usize,
}

/// What `auto` depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Cores this process may use.
    pub(crate) cores: usize,
    /// Files this process may open.
    pub(crate) files: usize,
}

/// The endpoints of a listener that says nothing else. Rooms and relays bring `PATH/{room}` with them.
pub(crate) const DEFAULT_ENDPOINTS: [(&str, Kind); 4] =
    [("/", Kind::Rooms), ("/echo", Kind::Echo), ("/relay", Kind::Relay), ("/ws", Kind::Rooms)];

/// Paths that a listener answers itself when its `ops` are on.
pub(crate) const OPS_PATHS: [&str; 3] = ["/healthz", "/metrics", "/readyz"];

/// File descriptors that are neither WebSockets nor HTTP connections: listeners, polls, logs, files.
const SPARE_FILES: usize = 64;

impl Config {
    /// Answers what the layers left open, and finds what does not fit together.
    pub(crate) fn check(raw: RawConfig, machine: Machine) -> Result<Self, ConfigError> {
        let kinds = raw.kinds.map(|kind| EndpointOptions::of_kind(&kind));
        let listeners = match raw.listeners {
            Some(listeners) if !listeners.is_empty() => listeners,
            _ => vec![RawListener::default_one()],
        };
        let mut checked: Vec<Listener> = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let clash = |other: &Listener| {
                listener.address.port() != 0 && other.address == listener.address
            };
            if checked.iter().any(clash) {
                let (place, address) = (&listener.place, listener.address);
                return Err(ConfigError::new(format!("{place}: {address} is listed twice")));
            }
            checked.push(Listener::check(listener, &kinds)?);
        }

        let (api_keys, api_keys_file) = (set(raw.api_keys), set(raw.api_keys_file));
        let keys = api_keys.joined_with(api_keys_file.load()?)?;
        let config = Self {
            workers: Count::of(raw.workers, machine.cores),
            front_threads: Count::of(raw.front_threads, machine.cores.min(8)),
            heartbeat: set(raw.heartbeat),
            shutdown_grace: set(raw.shutdown_grace),
            data: set(raw.data),
            sync: set(raw.sync),
            resume_window: set(raw.resume_window),
            api_keys,
            api_keys_file,
            keys,
            access: Access::of(raw.access),
            login: Login::of(raw.login),
            jwt: Jwt::of(raw.jwt),
            webhook: Webhook::of(raw.webhook),
            tls: Tls::of(raw.tls),
            redis: Redis::of(raw.redis),
            cluster: Cluster::of(raw.cluster),
            limits: Limits::of(raw.limits, machine),
            log_level: set(raw.log_level),
            log_format: set(raw.log_format),
            kinds,
            rooms: check_rules(raw.rooms)?,
            listeners: checked,
            foreign: raw.foreign,
        };
        fit::check(&config)?;
        Ok(config)
    }
}

impl Config {
    /// Over how long clients are sent away when nobody says.
    pub(crate) fn drain_spread(&self) -> Duration {
        match self.cluster.drain_spread {
            Spread::Fixed(spread) => spread,
            // On its own there is nobody to go to.
            Spread::Auto if self.redis.urls.is_empty() => Duration::ZERO,
            Spread::Auto => Duration::from_secs(30),
        }
    }
}

impl Limits {
    fn of(raw: RawLimits, machine: Machine) -> Self {
        let http = Count::of(raw.max_http_connections, (machine.files / 8).clamp(4, 8192));
        let files_left = machine.files.saturating_sub(http.value + SPARE_FILES);
        Self {
            max_connections: Count::of(raw.max_connections, files_left.max(1)),
            max_connections_per_ip: set(raw.max_connections_per_ip),
            max_connections_per_user: set(raw.max_connections_per_user),
            max_http_connections: http,
            max_tls_handshakes: Count::of(raw.max_tls_handshakes, (http.value / 2).max(1)),
            trusted_proxies: set(raw.trusted_proxies),
            exempt: set(raw.exempt),
            connects_per_ip: set(raw.connects_per_ip),
            handshakes_per_ip: set(raw.handshakes_per_ip),
            max_rooms: set(raw.max_rooms),
            max_rooms_per_ip: set(raw.max_rooms_per_ip),
            max_rooms_per_user: set(raw.max_rooms_per_user),
            max_total_rooms: set(raw.max_total_rooms),
            memory: Memory::of(set(raw.memory)),
            memory_history: set(raw.memory_history),
            handshake_timeout: set(raw.handshake_timeout),
            partial_timeout: set(raw.partial_timeout),
            header_size: set(raw.header_size),
            header_count: set(raw.header_count),
            backlog: set(raw.backlog),
        }
    }
}

impl Memory {
    fn of(choice: Amount) -> Self {
        let value = match choice {
            Amount::Auto => machine::memory() / 2,
            Amount::Fixed(size) => size.0,
        };
        Self { choice, value }
    }
}

impl Count {
    fn of(choice: Option<Choice>, auto: usize) -> Self {
        let choice = set(choice);
        let value = match choice {
            Choice::Auto => auto,
            Choice::Fixed(value) => value,
        };
        Self { choice, value }
    }
}

impl Listener {
    fn check(raw: RawListener, kinds: &[EndpointOptions; 3]) -> Result<Self, ConfigError> {
        let ops = raw.ops.unwrap_or(true);
        let redirect = raw.redirect.unwrap_or(false);
        let is_endpoint = |mount: &&RawMount| matches!(mount.what, Mounted::Endpoint(..));
        if let Some(mount) = raw.mounts.iter().find(is_endpoint).filter(|_| redirect) {
            let (place, path) = (&mount.place, &mount.path);
            return Err(ConfigError::new(format!(
                "{place}: {path} cannot be here: the listener only redirects to https"
            )));
        }
        let cleared = redirect || raw.mounts.iter().any(|mount| mount.path == "*");
        let defaults = if cleared { &[][..] } else { &DEFAULT_ENDPOINTS[..] };
        let mut table: BTreeMap<String, (Kind, EndpointOptions)> = defaults
            .iter()
            .map(|(path, kind)| ((*path).to_owned(), (*kind, kinds[*kind as usize].clone())))
            .collect();
        for mount in raw.mounts {
            let (kind, options) = match mount.what {
                Mounted::Off => {
                    table.remove(&mount.path);
                    continue;
                }
                Mounted::Endpoint(kind, options) => (kind, options),
            };
            let by_default = DEFAULT_ENDPOINTS.iter().find(|(path, _)| *path == mount.path);
            let Some(kind) = kind.or(by_default.map(|(_, kind)| *kind)) else {
                let (place, path) = (&mount.place, &mount.path);
                return Err(ConfigError::new(format!(
                    "{place}: {path} needs a kind: rooms, relay or echo"
                )));
            };
            if ops && OPS_PATHS.contains(&mount.path.as_str()) {
                let (place, path) = (&mount.place, &mount.path);
                return Err(ConfigError::new(format!(
                    "{place}: {path} is taken by the listener itself; choose another path or set \
                     ops = false"
                )));
            }
            if kind == Kind::Echo && options.room.is_some() {
                let (place, path) = (&mount.place, &mount.path);
                return Err(ConfigError::new(format!(
                    "{place}: {path} is an echo, it has no room"
                )));
            }
            let options = kinds[kind as usize].changed_by(*options);
            table.insert(mount.path, (kind, options));
        }
        let endpoints = table
            .into_iter()
            .map(|(path, (kind, options))| Endpoint { path, kind, options })
            .collect();
        let serves = |what: Option<bool>| !redirect && what.unwrap_or(true);
        let (address, pages, ops) = (raw.address, serves(raw.pages), serves(raw.ops));
        let (api, sse) = (serves(raw.api), serves(raw.sse));
        let tls = raw.tls.unwrap_or(false);
        if tls && redirect {
            let place = &raw.place;
            return Err(ConfigError::new(format!(
                "{place}: a listener that speaks TLS cannot redirect to https; take tls or redirect away"
            )));
        }
        let proxy_protocol = raw.proxy_protocol.unwrap_or(false);
        Ok(Self { address, pages, ops, api, sse, tls, redirect, proxy_protocol, endpoints })
    }
}

impl EndpointOptions {
    fn of_kind(raw: &RawEndpoint) -> Self {
        let raw = raw.clone();
        Self {
            room: raw.room,
            max_message: set(raw.max_message),
            origins: set(raw.origins),
            flush: set(raw.flush),
            outbox: set(raw.outbox),
            slow: set(raw.slow),
            anonymous: set(raw.anonymous),
            rate: set(raw.rate),
            bytes_rate: set(raw.bytes_rate),
            user_rate: set(raw.user_rate),
            budget: set(raw.budget),
            deflate: set(raw.deflate),
            deflate_threshold: set(raw.deflate_threshold),
            deflate_level: set(raw.deflate_level),
            deflate_mem_level: set(raw.deflate_mem_level),
            deflate_server_no_context_takeover: set(raw.deflate_server_no_context_takeover),
            deflate_client_no_context_takeover: set(raw.deflate_client_no_context_takeover),
            deflate_server_max_window_bits: set(raw.deflate_server_max_window_bits),
            deflate_client_max_window_bits: set(raw.deflate_client_max_window_bits),
        }
    }

    /// These settings, but for those that `raw` says otherwise.
    fn changed_by(&self, raw: RawEndpoint) -> Self {
        let of_kind = self.clone();
        let deflate_server_no_context_takeover = raw
            .deflate_server_no_context_takeover
            .unwrap_or(of_kind.deflate_server_no_context_takeover);
        let deflate_client_no_context_takeover = raw
            .deflate_client_no_context_takeover
            .unwrap_or(of_kind.deflate_client_no_context_takeover);
        Self {
            room: raw.room.or(of_kind.room),
            max_message: raw.max_message.unwrap_or(of_kind.max_message),
            origins: raw.origins.unwrap_or(of_kind.origins),
            flush: raw.flush.unwrap_or(of_kind.flush),
            outbox: raw.outbox.unwrap_or(of_kind.outbox),
            slow: raw.slow.unwrap_or(of_kind.slow),
            anonymous: raw.anonymous.unwrap_or(of_kind.anonymous),
            rate: raw.rate.unwrap_or(of_kind.rate),
            bytes_rate: raw.bytes_rate.unwrap_or(of_kind.bytes_rate),
            user_rate: raw.user_rate.unwrap_or(of_kind.user_rate),
            budget: raw.budget.unwrap_or(of_kind.budget),
            deflate: raw.deflate.unwrap_or(of_kind.deflate),
            deflate_threshold: raw.deflate_threshold.unwrap_or(of_kind.deflate_threshold),
            deflate_level: raw.deflate_level.unwrap_or(of_kind.deflate_level),
            deflate_mem_level: raw.deflate_mem_level.unwrap_or(of_kind.deflate_mem_level),
            deflate_server_no_context_takeover,
            deflate_client_no_context_takeover,
            deflate_server_max_window_bits: raw
                .deflate_server_max_window_bits
                .unwrap_or(of_kind.deflate_server_max_window_bits),
            deflate_client_max_window_bits: raw
                .deflate_client_max_window_bits
                .unwrap_or(of_kind.deflate_client_max_window_bits),
        }
    }
}

/// A value that the first layer has set.
pub(super) fn set<T>(value: Option<T>) -> T {
    value.expect("invariant: the layer of defaults sets every key of the table")
}
