//! `throng serve`: from a configuration to a running server, and to its orderly end.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use throng::{
    DeflateOptions, Flush, History, Origins, Pattern, Rule, Rules, Server, SlowPolicy, SyncMode,
    Types,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{
    Config, Endpoint, EndpointOptions, Gather, Kind, Listener, LogFormat, Presence, RoomRule, Slow,
    Sources, Storage, Sync,
};
use crate::http::{self, Http, Tally};
use crate::listen::{self, Front};
use crate::{announce, log, ops, pages, refuse_to_start};

/// A listener with its sockets.
pub(crate) struct Bound<'a> {
    /// As configured.
    pub(crate) listener: &'a Listener,
    /// Where it really listens: one port, one or two addresses.
    pub(crate) addresses: Vec<SocketAddr>,
    sockets: Vec<std::net::TcpListener>,
}

/// Serves until SIGTERM or SIGINT. Every reason not to start is one sentence and exit code 2.
pub(crate) fn run(config: &Config) -> ExitCode {
    log::start(&config.log_level, config.log_format);
    let mut bound = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        match bind(listener, config) {
            Ok(sockets) => bound.push(sockets),
            Err(error) => return refuse_to_start(&error),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.front_threads.value)
        .thread_name("throng-front")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let reason = crate::reason(&error);
            return refuse_to_start(&format!("cannot start the front threads: {reason}"));
        }
    };
    let code = runtime.block_on(serve(config, bound));
    // Connections that are still in the middle of a request are not waited for any longer.
    runtime.shutdown_background();
    code
}

async fn serve(config: &Config, mut bound: Vec<Bound<'_>>) -> ExitCode {
    // Before anyone is told that the server is up, so that no signal is lost.
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            let reason = crate::reason(&error);
            return refuse_to_start(&format!("cannot listen for signals: {reason}"));
        }
    };
    let mut builder = Server::builder()
        .workers(config.workers.value)
        .heartbeat(config.heartbeat)
        .max_connections(config.limits.max_connections.value);
    if config.limits.max_connections_per_ip > 0 {
        builder = builder.max_connections_per_ip(config.limits.max_connections_per_ip);
    } else {
        builder = builder.max_connections_per_ip(usize::MAX);
    }
    builder = builder
        .rules(rules(&config.rooms))
        .resume_window(config.resume_window)
        .max_rooms(config.limits.max_rooms)
        .memory_history(config.limits.memory_history.0)
        .sync(match config.sync {
            Sync::Full => SyncMode::Full,
            Sync::Normal => SyncMode::Normal,
        });
    if let Storage::Directory(path) = &config.data {
        builder = builder.data(path);
    }
    let server = match builder.build() {
        Ok(server) => server,
        Err(error) => return refuse_to_start(&error),
    };
    let front = Front::new(&config.limits);
    let of_rooms = &config.kinds[Kind::Rooms as usize];
    let http = Arc::new(Http {
        server: server.clone(),
        front: Arc::clone(&front),
        keys: config.keys.clone(),
        origins: origins(&of_rooms.origins),
        max_message: of_rooms.max_message.0,
        patience: config.limits.handshake_timeout,
        tally: Tally::default(),
    });

    let mut doors = Vec::new();
    for bound in &mut bound {
        let router = match router(&http, bound.listener) {
            Ok(router) => router,
            Err(error) => return refuse_to_start(&error),
        };
        for socket in bound.sockets.drain(..) {
            let socket = match TcpListener::from_std(socket) {
                Ok(socket) => socket,
                Err(error) => {
                    let reason = crate::reason(&error);
                    return refuse_to_start(&format!("cannot listen: {reason}"));
                }
            };
            doors.push(tokio::spawn(front.clone().accept(socket, router.clone())));
        }
    }
    started(config, &bound);

    let name = signals.next().await;
    tracing::info!(signal = name, grace = ?config.shutdown_grace, "shutting down");
    front.close_streams();
    // While connections are closed the doors stay open, so that whoever comes is told to come back.
    tokio::select! {
        () = server.shutdown(config.shutdown_grace) => {}
        name = signals.next() => {
            tracing::warn!(signal = name, "second signal, leaving at once");
            return ExitCode::FAILURE;
        }
    }
    for door in doors {
        door.abort();
    }
    let patience = Instant::now() + LAST_REQUESTS;
    let counts = &front.counts;
    let open = || counts.open.load(Ordering::Relaxed) + counts.streams.load(Ordering::Relaxed);
    while open() > 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tracing::info!("bye");
    ExitCode::SUCCESS
}

fn bind<'a>(listener: &'a Listener, config: &Config) -> Result<Bound<'a>, listen::BindError> {
    let sockets = listen::bind(listener.address, config.limits.backlog)?;
    let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    Ok(Bound { listener, addresses, sockets })
}

/// All that one listener serves.
fn router(http: &Arc<Http>, listener: &Listener) -> Result<Router, throng::BadPath> {
    let mut router = Router::new();
    if listener.ops {
        router = ops::add_to(router, Arc::clone(http));
    }
    router = http::add_to(router, http, listener);
    router = pages::add_to(router, listener.pages);
    http.server.gate(listener.endpoints.iter().map(|e| (e.path.clone(), endpoint(e))), router)
}

fn endpoint(endpoint: &Endpoint) -> throng::Endpoint {
    let options = &endpoint.options;
    let room = options.room.as_ref().map_or("lobby", |room| room.0.as_str());
    let made = match endpoint.kind {
        Kind::Rooms => throng::Endpoint::rooms(room),
        Kind::Relay => throng::Endpoint::relay(room),
        Kind::Echo => throng::Endpoint::echo(),
    };
    made.max_message(options.max_message.0)
        .outbox(options.outbox.0)
        .origins(origins(&options.origins))
        .flush(match options.flush {
            Gather::Auto => Flush::Auto,
            Gather::Every(time) => Flush::Every(time),
        })
        .slow(match options.slow {
            Slow::Disconnect => SlowPolicy::Disconnect,
            Slow::Drop => SlowPolicy::Drop,
        })
        .deflate(options.deflate.then(|| deflate(options)))
}

fn origins(sources: &Sources) -> Origins {
    match sources {
        Sources::Any => Origins::Any,
        Sources::SameOrigin => Origins::SameHost,
        Sources::Listed(origins) => Origins::List(origins.clone()),
    }
}

fn rules(rooms: &[RoomRule]) -> Rules {
    Rules::new(rooms.iter().map(|room| (Pattern::new(&room.pattern), rule(room))))
}

fn rule(room: &RoomRule) -> Rule {
    let known = room.types.iter().map(|(name, rule)| (name.clone(), rule.schema()));
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
        allow: room.allow,
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

/// Tells machines by the log, and people on stdout, where to go.
fn started(config: &Config, bound: &[Bound<'_>]) {
    for name in &config.foreign {
        tracing::debug!(name, "a variable of Kubernetes, not a setting of ours: ignored");
    }
    for bound in bound {
        let endpoints: Vec<String> = bound
            .listener
            .endpoints
            .iter()
            .map(|endpoint| format!("{}={}", endpoint.path, endpoint.kind.name()))
            .collect();
        for address in &bound.addresses {
            tracing::info!(%address, endpoints = endpoints.join(" "), "listening");
        }
    }
    let (limits, workers) = (&config.limits, config.workers.value);
    let max_connections = limits.max_connections.value;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), workers, max_connections, "ready");
    if config.log_format == LogFormat::Text {
        announce::print(bound);
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// How long requests that are being answered may take at the end.
const LAST_REQUESTS: Duration = Duration::from_millis(250);
