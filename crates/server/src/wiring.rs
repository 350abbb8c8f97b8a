//! The configuration in the words of the `throng` crate.

use std::net::IpAddr;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use throng::{
    Access, Builder, DeflateOptions, Flush, Grants, GrantsError, History, Origins, Pattern,
    RedisMode, RedisOptions, RedisTls, Rule, Rules, Server, SlowPolicy, SyncMode, Types,
};

use crate::config::{
    self, Amount, Config, ConfigError, Endpoint, EndpointOptions, FilePath, Gather, Kind, Presence,
    RoomRule, RoomSlow, Slow, Sources, Storage, Sync,
};

/// A server as configured, but for who looks at tokens.
pub(crate) fn builder(config: &Config) -> Result<Builder, GrantsError> {
    let (limits, access) = (&config.limits, &config.access);
    let unless_zero = |number: usize| if number == 0 { usize::MAX } else { number };
    let exempt = [limits.exempt.as_slice(), limits.trusted_proxies.as_slice()].concat();
    let builder = Server::builder()
        .workers(config.workers.value)
        .heartbeat(config.heartbeat)
        .max_connections(limits.max_connections.value)
        .max_connections_per_ip(unless_zero(limits.max_connections_per_ip))
        .max_connections_per_user(unless_zero(limits.max_connections_per_user))
        .handshakes_per_ip(limits.handshakes_per_ip.limit())
        // A proxy that does not say for whom it comes stands for a crowd.
        .exempt(move |ip: IpAddr| exempt.iter().any(|range| range.contains(ip)))
        .max_total_rooms(limits.max_total_rooms)
        .max_rooms_per_ip(unless_zero(limits.max_rooms_per_ip))
        .max_rooms_per_user(unless_zero(limits.max_rooms_per_user))
        .memory_budget(limits.memory.value)
        .rules(Rules::new(
            config.rooms.iter().map(|room| (Pattern::new(&room.pattern), rule(room))),
        ))
        .resume_window(config.resume_window)
        .max_rooms(limits.max_rooms)
        .memory_history(limits.memory_history.0)
        .access(Access::new(
            Grants::from_words(access.anonymous.iter())?,
            Grants::from_words(access.users.iter())?,
        ))
        .send_rate(config.kinds[Kind::Rooms as usize].rate.limit())
        .recheck(access.recheck)
        .ticket_ttl(access.ticket_ttl)
        .session_ttl(Some(access.session_ttl).filter(|ttl| !ttl.is_zero()))
        .advertise(&config.cluster.advertise.0)
        .sync(match config.sync {
            Sync::Full => SyncMode::Full,
            Sync::Normal => SyncMode::Normal,
        });
    Ok(match &config.data {
        Storage::Directory(path) => builder.data(path),
        Storage::Memory => builder,
    })
}

/// Which Redis the server shares with others, if any. Passwords are read here.
pub(crate) fn redis(config: &Config) -> Result<Option<RedisOptions>, ConfigError> {
    let redis = &config.redis;
    if redis.urls.is_empty() {
        return Ok(None);
    }
    let password = redis.password_file.secret("redis.password_file")?;
    let of_sentinels = redis.sentinel_password_file.secret("redis.sentinel_password_file")?;
    let path = |file: &FilePath| file.path().map(Path::to_owned);
    let urls = redis.urls.iter();
    Ok(Some(RedisOptions {
        urls: urls.map(|url| with_password(url, &redis.username.0, &password)).collect(),
        mode: match redis.mode {
            config::RedisMode::Single => RedisMode::Single,
            config::RedisMode::Cluster => RedisMode::Cluster,
            config::RedisMode::Sentinel => RedisMode::Sentinel {
                master: redis.master.0.clone(),
                auth: of_sentinels.map(|password| (redis.sentinel_username.0.clone(), password)),
            },
        },
        prefix: redis.prefix.0.clone(),
        tls: RedisTls {
            ca: path(&redis.ca),
            cert: path(&redis.cert),
            key: path(&redis.key),
            name: Some(redis.tls_name.0.clone()).filter(|name| !name.is_empty()),
        },
        trust_restarts: redis.trust_restarts,
        probe: redis.probe,
        node_timeout: config.cluster.node_timeout,
        min_replicas: redis.min_replicas,
        patience: redis.patience,
    }))
}

fn with_password(url: &str, user: &str, password: &Option<String>) -> String {
    let Some((password, (scheme, rest))) = password.as_ref().zip(url.split_once("://")) else {
        return url.to_owned();
    };
    let quoted = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!("{scheme}://{}:{}@{rest}", quoted(user), quoted(password))
}

/// What is at a path.
pub(crate) fn endpoint(endpoint: &Endpoint, config: &Config) -> throng::Endpoint {
    let options = &endpoint.options;
    let room = options.room.as_ref().map_or("lobby", |room| room.0.as_str());
    let made = match endpoint.kind {
        Kind::Rooms => throng::Endpoint::rooms(room),
        Kind::Relay => throng::Endpoint::relay(room),
        Kind::Echo => throng::Endpoint::echo(),
    };
    made.max_message(options.max_message.0)
        .outbox(options.outbox.0)
        .anonymous(options.anonymous)
        .origins(origins(&options.origins))
        .flush(match options.flush {
            Gather::Auto => Flush::Auto,
            Gather::Every(time) => Flush::Every(time),
        })
        .slow(match options.slow {
            Slow::Disconnect => SlowPolicy::Disconnect,
            Slow::Drop => SlowPolicy::Drop,
        })
        .rate(options.rate.limit())
        .bytes_rate(options.bytes_rate.0.limit())
        .user_rate(options.user_rate.limit())
        .budget(match options.budget {
            Amount::Auto => None,
            Amount::Fixed(size) => Some(size.0),
        })
        .partial_timeout(config.limits.partial_timeout)
        .deflate(options.deflate.then(|| deflate(options)))
}

/// From which pages browsers may come.
pub(crate) fn origins(sources: &Sources) -> Origins {
    match sources {
        Sources::Any => Origins::Any,
        Sources::SameOrigin => Origins::SameHost,
        Sources::Listed(origins) => Origins::List(origins.clone()),
    }
}

fn rule(room: &RoomRule) -> Rule {
    let known = room.types.iter().map(|(name, rule)| (name.clone(), rule.schema()));
    let costly = room.types.iter().filter(|(_, rule)| rule.cost != 1);
    Rule {
        history: match room.history {
            0 => History::NONE,
            size => History { size, bytes: room.history_bytes.0, ttl: room.history_ttl },
        },
        durable: room.durable,
        volatile: room.volatile,
        presence: match room.presence {
            Presence::Full => throng::Presence::Full,
            Presence::Count => throng::Presence::Count,
            Presence::Off => throng::Presence::Off,
        },
        grace: room.grace,
        max_members: room.max_members,
        replicas: room.replicas,
        allow: room.allow,
        membership: room.membership,
        rate: room.rate.limit(),
        costs: costly.map(|(name, rule)| (name.clone(), rule.cost)).collect(),
        slow: match room.slow {
            RoomSlow::Endpoint => None,
            RoomSlow::Disconnect => Some(SlowPolicy::Disconnect),
            RoomSlow::Drop => Some(SlowPolicy::Drop),
            RoomSlow::Latest => Some(SlowPolicy::Latest),
        },
        slow_key: room.slow_key.clone(),
        types: Types { known: known.collect(), others: room.other_types },
    }
}

fn deflate(options: &EndpointOptions) -> DeflateOptions {
    // All are small: the configuration was checked.
    let small = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    DeflateOptions {
        threshold: options.deflate_threshold.0,
        level: small(options.deflate_level),
        mem_level: small(options.deflate_mem_level),
        server_no_context_takeover: options.deflate_server_no_context_takeover,
        client_no_context_takeover: options.deflate_client_no_context_takeover,
        server_max_window_bits: small(options.deflate_server_max_window_bits),
        client_max_window_bits: small(options.deflate_client_max_window_bits),
    }
}
