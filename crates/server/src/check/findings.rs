//! What there is to say about a configuration.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Finding, Level};
use crate::config::redis::is_plain;
use crate::config::{Config, Endpoint, Kind, Listener, Rate, RedisMode, Sources, Storage};

/// Everything, the worst first.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let mut found = Found(Vec::new());
    rooms(config, &mut found);
    endpoints(config, &mut found);
    listeners(config, &mut found);
    signing_in(config, &mut found);
    addresses(config, &mut found);
    limits(config, &mut found);
    files(config, &mut found);
    redis(config, &mut found);
    if config.data == Storage::Memory && config.redis.urls.is_empty() {
        found.note(
            "Everything is in memory: rooms' pasts, users, tickets, sessions, bans and revocations are \
             gone with the process.",
            "data = \"/var/lib/throng\"",
        );
    }
    found.0.sort_by_key(|finding| finding.level);
    found.0
}

struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, level: Level, what: impl Into<String>, change: impl Into<String>) {
        self.0.push(Finding { level, what: what.into(), change: change.into() });
    }

    fn danger(&mut self, what: impl Into<String>, change: impl Into<String>) {
        self.add(Level::Danger, what, change);
    }

    fn warn(&mut self, what: impl Into<String>, change: impl Into<String>) {
        self.add(Level::Warning, what, change);
    }

    fn note(&mut self, what: impl Into<String>, change: impl Into<String>) {
        self.add(Level::Note, what, change);
    }
}

/// Who may do what.
fn rooms(config: &Config, found: &mut Found) {
    let is_public = config.listeners.iter().any(|listener| !listener.address.is_local());
    let opens_all = |word: &str| {
        let (pattern, rights) = word.split_once('=').unwrap_or((word, "join"));
        pattern.bytes().all(|byte| byte == b'*') && rights.contains("join")
    };
    if config.access.anonymous.iter().any(opens_all) {
        let level = if is_public { Level::Danger } else { Level::Warning };
        found.add(
            level,
            "Every room is open to everybody, without credentials.",
            "[access] anonymous = [] or the few patterns that are meant for everybody",
        );
    } else if matches!(config.shown("access.anonymous"), Some((_, true))) {
        found.warn(
            "The demo rooms are open to everybody, without credentials.",
            "[access] anonymous = [] or the patterns that are meant for everybody",
        );
    }
    if config.access.users.iter().any(opens_all) {
        found.warn(
            "Everybody who is signed in may use every room, whatever their ticket says.",
            "[access] users = [] or the patterns that are meant for all users",
        );
    }
    if config.access.session_ttl.is_zero() {
        found.warn(
            "Sessions do not end by themselves: whoever was let in once stays until revoked.",
            "[access] session_ttl = \"24h\"",
        );
    }
}

/// What the endpoints let everybody do.
fn endpoints(config: &Config, found: &mut Found) {
    let all = || config.listeners.iter().flat_map(|listener| &listener.endpoints);
    for kind in [Kind::Relay, Kind::Echo] {
        let open = all().filter(|endpoint| endpoint.kind == kind && endpoint.options.anonymous);
        let paths = paths(open);
        let name = kind.name();
        if paths.is_empty() {
            continue;
        }
        let what = match kind {
            Kind::Relay => "passes on what anybody sends to anybody: there are no rights in it.",
            _ => "answers anybody; it is for tests.",
        };
        found.warn(
            format!("The {name} at {paths} {what}"),
            format!("[listener.endpoints] {paths:?} = \"off\", or [{name}] anonymous = false"),
        );
    }
    let any = all().filter(|endpoint| {
        endpoint.kind == Kind::Rooms && endpoint.options.origins == Sources::Any
    });
    let any = paths(any);
    if !any.is_empty() {
        found.warn(
            format!(
                "Pages of every site may connect to the rooms at {any}, from within their visitors' \
                 networks."
            ),
            "[rooms] origins = [\"https://your.site\"]",
        );
    }
    let same = all().filter(|endpoint| {
        endpoint.kind == Kind::Rooms && endpoint.options.origins == Sources::SameOrigin
    });
    if same.count() > 0 {
        found.note(
            "Pages of the same host may connect to rooms. A name that somebody makes point here passes \
             (DNS rebinding); a list does not depend on what Host says.",
            "[rooms] origins = [\"https://your.site\"]",
        );
    }
}

/// What can be read on the way, and by everybody.
fn listeners(config: &Config, found: &mut Found) {
    let behind_proxy = !config.limits.trusted_proxies.is_empty();
    let public = |listener: &&Listener| !listener.address.is_local() && !listener.redirect;
    for listener in config.listeners.iter().filter(public) {
        let address = listener.address;
        if !listener.tls {
            let carries = [
                (config.login.enabled, "passwords"),
                (listener.api && !config.keys.is_empty(), "API keys"),
            ];
            let secrets: Vec<&str> =
                carries.iter().filter(|(yes, _)| *yes).map(|(_, name)| *name).collect();
            let change = "[[listener]] tls = true, with [tls] cert and key, or acme_domains";
            match (behind_proxy, secrets.is_empty()) {
                (true, _) => found.note(
                    format!(
                        "{address} speaks no TLS: between the proxy and here everything can be read on \
                         the way."
                    ),
                    "an address that only the proxy can reach, such as localhost:3000",
                ),
                (false, true) => found.warn(
                    format!(
                        "{address} speaks no TLS: tickets, tokens and messages can be read and changed \
                         on the way."
                    ),
                    change,
                ),
                (false, false) => found.danger(
                    format!(
                        "{address} speaks no TLS: {} travel in the clear.",
                        secrets.join(" and ")
                    ),
                    change,
                ),
            }
        }
        if listener.ops {
            found.warn(
                format!("The numbers in /metrics are for everybody who can reach {address}."),
                format!(
                    "ops = false for {address}, and a listener for them such as localhost:9090"
                ),
            );
        }
        if listener.api && !config.keys.is_empty() {
            found.note(
                format!("The HTTP API can be reached at {address}; it needs a key."),
                format!("api = false for {address}, and a listener for your own servers"),
            );
        }
    }
    let has_tls = config.listeners.iter().any(|listener| listener.tls);
    if has_tls && config.tls.hsts.is_zero() {
        found.note(
            "Browsers are not told to use only TLS with this host.",
            "[tls] hsts = \"8760h\", once everything works with TLS",
        );
    }
}

/// How people prove who they are.
fn signing_in(config: &Config, found: &mut Found) {
    let (login, jwt, webhook) = (&config.login, &config.jwt, &config.webhook);
    if login.enabled {
        if login.attempts == Rate::Off {
            found.danger(
                "Passwords can be guessed as fast as the server can check them.",
                "[login] attempts = \"5/m burst 5\"",
            );
        }
        if config.data == Storage::Memory && config.redis.urls.is_empty() && !webhook.login {
            found.warn(
                "There is a login, but users are kept in memory: `throng user` cannot add any.",
                "data = \"/var/lib/throng\"",
            );
        }
    }
    if !jwt.algorithms.is_empty() {
        if jwt.issuer.0.is_empty() {
            found.warn(
                "Tokens of any issuer are taken, if the key fits.",
                "[jwt] issuer = \"https://your.issuer\"",
            );
        }
        if jwt.audience.0.is_empty() {
            found.warn(
                "Tokens that were made for other services of the same issuer are taken.",
                "[jwt] audience = \"throng\"",
            );
        }
        if jwt.jwks_url.is_plain() {
            found.danger(
                "Whoever is on the way to the JWKS can let anybody in as anybody.",
                "[jwt] jwks_url = \"https://…\"",
            );
        }
        if jwt.leeway.as_secs() > 300 {
            found.warn("Tokens are taken long after they have expired.", "[jwt] leeway = \"30s\"");
        }
    }
    if webhook.url.is_plain() {
        let is_here = ["http://127.", "http://[::1]", "http://localhost"]
            .iter()
            .any(|start| webhook.url.url().is_some_and(|url| url.starts_with(start)));
        if !is_here {
            found.danger(
                "Whoever is on the way to the webhook can read tokens, and let anybody in.",
                "[webhook] url = \"https://…\"",
            );
        }
    }
}

/// Whose address is whose.
fn addresses(config: &Config, found: &mut Found) {
    let limits = &config.limits;
    if limits.trusted_proxies.as_slice().iter().any(|range| range.bits() == 0) {
        found.danger(
            "Everybody is believed about their address: limits by address and tickets that are bound to \
             one mean nothing.",
            "[limits] trusted_proxies = the addresses of your proxies",
        );
    }
    if limits.exempt.as_slice().iter().any(|range| range.bits() == 0) {
        found.danger(
            "The limits by address concern nobody.",
            "[limits] exempt = [\"127.0.0.0/8\", \"::1\"]",
        );
    }
    let all_local = config.listeners.iter().all(|listener| listener.address.is_local());
    if all_local && limits.trusted_proxies.is_empty() {
        found.note(
            "Only this machine can connect. If a proxy on it lets others in, they all seem to come from \
             here, and limits by address do not concern them.",
            "[limits] trusted_proxies = [\"127.0.0.1\", \"::1\"]",
        );
    }
}

fn limits(config: &Config, found: &mut Found) {
    let limits = &config.limits;
    if limits.max_connections_per_ip == 0 {
        found.warn(
            "One address may take all connections.",
            "[limits] max_connections_per_ip = 1000",
        );
    }
    if limits.connects_per_ip == Rate::Off {
        found.warn(
            "One address may open as many connections a second as it can, each with a TLS handshake to \
             compute.",
            "[limits] connects_per_ip = \"200/s burst 2000\"",
        );
    }
    if limits.handshakes_per_ip == Rate::Off {
        found.warn(
            "One address may try to connect as often as it can.",
            "[limits] handshakes_per_ip = \"100/s burst 1000\"",
        );
    }
    if limits.max_connections_per_user == 0 {
        found.warn("One user may take all connections.", "[limits] max_connections_per_user = 100");
    }
    let uses_all = |most: usize| most == 0 || most >= limits.max_total_rooms;
    if uses_all(limits.max_rooms_per_ip) {
        found.warn("One address may use up all rooms.", "[limits] max_rooms_per_ip = 5000");
    }
    if uses_all(limits.max_rooms_per_user) {
        found.warn("One user may use up all rooms.", "[limits] max_rooms_per_user = 1000");
    }
    let all = || config.listeners.iter().flat_map(|listener| &listener.endpoints);
    for kind in Kind::ALL {
        let unlimited = all().filter(|endpoint| {
            let options = &endpoint.options;
            endpoint.kind == kind
                && (options.rate == Rate::Off || options.bytes_rate.0 == Rate::Off)
        });
        let paths = paths(unlimited);
        if paths.is_empty() {
            continue;
        }
        let name = kind.name();
        let level = if kind == Kind::Rooms { Level::Warning } else { Level::Note };
        found.add(
            level,
            format!("One client of the {name} at {paths} may send as much as it can."),
            format!("[{name}] rate = \"200/s burst 1000\", bytes_rate = \"1MiB/s burst 8MiB\""),
        );
    }
    if limits.memory.value > crate::config::machine_memory() {
        found.warn(
            "The server may use more memory than there is: the system will kill it instead.",
            "[limits] memory = \"auto\"",
        );
    }
}

/// What is shared with other servers, and with whom else.
fn redis(config: &Config, found: &mut Found) {
    let redis = &config.redis;
    if redis.urls.is_empty() {
        return;
    }
    let is_closed = !redis.password_file.is_empty() || !redis.cert.is_empty();
    let open = redis.urls.remote_hosts(|_| is_closed);
    if !open.is_empty() {
        found.danger(
            format!(
                "Redis at {} wants no password: whoever can reach it can read and write every room, and be \
                 anybody.",
                open.join(", ")
            ),
            "[redis] password_file = \"/etc/throng/redis-password\", and username, of a user in Redis that is for \
             throng alone",
        );
    }
    let plain = redis.urls.remote_hosts(|url| !is_plain(url));
    if !plain.is_empty() {
        found.warn(
            format!(
                "Messages, sessions and passwords travel to Redis at {} in the clear.",
                plain.join(", ")
            ),
            "[redis] urls = [\"rediss://…\"], and ca for an authority of your own",
        );
    }
    if redis.min_replicas == 0 && redis.mode != RedisMode::Single {
        found.note(
            "When a primary fails, messages that its replicas did not have yet are lost, although they were \
             acknowledged. Clients are told.",
            "[redis] min_replicas = 1, for which rooms cannot be written while no replica is connected",
        );
    }
    found.note(
        "Everything is in Redis, for as long as that keeps it: appendonly yes, maxmemory-policy noeviction. \
         The other servers need the same rooms, rights, API keys and prefix.",
        "docs/scaling.md says what else",
    );
}

/// Files that others may read or write.
fn files(config: &Config, found: &mut Found) {
    let secrets = [
        ("jwt.secret_file", config.jwt.secret_file.path()),
        ("webhook.secret_file", config.webhook.secret_file.path()),
        ("redis.password_file", config.redis.password_file.path()),
        ("redis.sentinel_password_file", config.redis.sentinel_password_file.path()),
        ("redis.key", config.redis.key.path()),
    ];
    let keys = config.tls.key.iter().map(|key| ("tls.key", key.path()));
    for (key, path) in secrets.into_iter().chain(keys) {
        let Some(path) = path else { continue };
        if mode(path) & 0o007 != 0 {
            let path = path.display();
            found.danger(
                format!("Everybody on this machine can read the secret in {path} ({key})."),
                format!("chmod o= {path}"),
            );
        }
    }
    let trusted = [
        ("jwt.key_file", config.jwt.key_file.path()),
        ("jwt.jwks_file", config.jwt.jwks_file.path()),
        ("api.keys_file", config.api_keys_file.path()),
        ("tls.client_ca", config.tls.client_ca.path()),
    ];
    for (key, path) in trusted {
        let Some(path) = path else { continue };
        if mode(path) & 0o002 != 0 {
            let path = path.display();
            found.danger(
                format!("Everybody on this machine can write to {path} ({key}), and so let themselves in."),
                format!("chmod o-w {path}"),
            );
        }
    }
    if let Storage::Directory(path) = &config.data
        && mode(path) & 0o007 != 0
    {
        let path = path.display();
        found.warn(
            format!(
                "Everybody on this machine can look into {path} (data): messages and sessions."
            ),
            format!("chmod o= {path}"),
        );
    }
}

/// The permissions of a file; none when there is no such file yet, or when it is a device.
fn mode(path: &Path) -> u32 {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() || file.is_dir() => file.permissions().mode(),
        _ => 0,
    }
}

/// The paths of endpoints, each once.
fn paths<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> String {
    let mut paths: Vec<&str> = endpoints.map(|endpoint| endpoint.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.join(", ")
}
