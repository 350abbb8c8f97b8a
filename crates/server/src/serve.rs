//! `throng serve`: from a configuration to a running server, and to its orderly end.

use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use throng::{Draining, Server};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::auth::Authenticator;
use crate::config::{Config, Keyring, Kind, Listener, LogFormat};
use crate::http::{self, Http, Login, Source, Tally};
use crate::listen::{self, Entrance, Front};
use crate::reload::Reload;
use crate::tls::{Tls, TlsError};
use crate::{announce, check, log, ops, pages, refuse_to_start, wiring};

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
    let hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            let reason = crate::reason(&error);
            return refuse_to_start(&format!("cannot listen for signals: {reason}"));
        }
    };
    let mut builder = match wiring::builder(config) {
        Ok(builder) => builder,
        Err(error) => return refuse_to_start(&error),
    };
    match wiring::redis(config) {
        Ok(Some(options)) => builder = builder.redis(options),
        Ok(None) => {}
        Err(error) => return refuse_to_start(&error),
    }
    let tokens = match Authenticator::start(&config.jwt, &config.webhook) {
        Ok(tokens) => tokens,
        Err(error) => return refuse_to_start(&error),
    };
    if let Some(tokens) = &tokens {
        builder = builder.authenticate(Arc::new(tokens.clone()));
    }
    let keys = match Keyring::new(config.api_keys.clone(), config.api_keys_file.clone()) {
        Ok(keys) => keys,
        Err(error) => return refuse_to_start(&error),
    };
    let server = match builder.build() {
        Ok(server) => server,
        Err(error) => return refuse_to_start(&error),
    };
    let front = Front::new(&config.limits);
    let of_rooms = &config.kinds[Kind::Rooms as usize];
    let http = Arc::new(Http {
        server: server.clone(),
        front: Arc::clone(&front),
        keys,
        origins: wiring::origins(&of_rooms.origins),
        anonymous: of_rooms.anonymous,
        max_message: of_rooms.max_message.0,
        login: login(config, tokens.as_ref()),
        patience: config.limits.handshake_timeout,
        drain_spread: config.drain_spread(),
        tally: Tally::default(),
    });

    let tls = match tls(config) {
        Ok(tls) => tls,
        Err(error) => return refuse_to_start(&error),
    };
    let https = bound.iter().find(|bound| bound.listener.tls);
    let https = https.and_then(|bound| bound.addresses.first()).map_or(443, SocketAddr::port);
    let mut doors = Vec::new();
    for bound in &mut bound {
        let router = match router(&http, config, bound.listener, https) {
            Ok(router) => router,
            Err(error) => return refuse_to_start(&error),
        };
        let entrance = Arc::new(Entrance {
            router,
            tls: tls.clone().filter(|_| bound.listener.tls),
            proxy_protocol: bound.listener.proxy_protocol,
        });
        for socket in bound.sockets.drain(..) {
            let socket = match TcpListener::from_std(socket) {
                Ok(socket) => socket,
                Err(error) => {
                    let reason = crate::reason(&error);
                    return refuse_to_start(&format!("cannot listen: {reason}"));
                }
            };
            doors.push(tokio::spawn(front.clone().accept(socket, Arc::clone(&entrance))));
        }
    }
    let reload = Reload { http: Arc::clone(&http), tokens };
    doors.push(tokio::spawn(reload.at_each(hangup)));
    let is_away = server.redis_status().is_some_and(|status| status.trouble.is_some());
    started(config, &bound, is_away);
    doors.extend(tls.map(|tls| tokio::spawn(tls.keep())));

    let name = signals.next().await;
    // While connections are closed the doors stay open, so that whoever comes is told to come back.
    tokio::select! {
        () = see_everybody_off(name, &server, &front, config) => {}
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

/// Closes all connections: after a SIGTERM each in its slot, for another server takes them or this one is back
/// soon; else all at once.
async fn see_everybody_off(signal: &str, server: &Server, front: &Front, config: &Config) {
    let in_slots = signal == SIGTERM;
    if in_slots {
        let wanted = config.drain_spread();
        let Draining { left, spread, ends_in, .. } = server.drain_for_good(wanted);
        if left > 0 && !ends_in.is_zero() {
            tracing::info!(signal, connections = left, ?spread, "sending everybody away");
        }
        // One that has begun before may go on for longer than whoever ends us waits.
        let end = Instant::now() + ends_in.min(wanted + MOST_LATE);
        let mut drained = pin!(server.drained());
        while Instant::now() < end {
            let look = TELL_EACH.min(end.saturating_duration_since(Instant::now()));
            if tokio::time::timeout(look, drained.as_mut()).await.is_ok() {
                break;
            }
            let left = server.draining().map_or(0, |drain| drain.left);
            tracing::info!(connections = left, "some are still here");
        }
    }
    tracing::info!(signal, grace = ?config.shutdown_grace, "shutting down");
    let end_streams = async {
        // They end by themselves once they have said when to come back.
        if in_slots && front.counts.streams.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(LAST_REQUESTS).await;
        }
        front.close_streams();
    };
    tokio::join!(server.shutdown(config.shutdown_grace), end_streams);
}

/// `POST /login`, if it is on.
fn login(config: &Config, tokens: Option<&Authenticator>) -> Option<Login> {
    let source = match tokens {
        Some(tokens) if config.webhook.login => Source::Webhook(tokens.clone()),
        _ => Source::Users,
    };
    let exempt = config.limits.exempt.clone();
    config.login.enabled.then(|| Login::new(&config.login, exempt, source))
}

fn bind<'a>(listener: &'a Listener, config: &Config) -> Result<Bound<'a>, listen::BindError> {
    let sockets = listen::bind(listener.address, config.limits.backlog)?;
    let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    Ok(Bound { listener, addresses, sockets })
}

/// The TLS side of the listeners that have it.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    let wanted = config.listeners.iter().any(|listener| listener.tls);
    wanted.then(|| Tls::new(&config.tls, &config.data)).transpose()
}

/// All that one listener serves. `https`: the port of the one with TLS.
fn router(
    http: &Arc<Http>,
    config: &Config,
    listener: &Listener,
    https: u16,
) -> Result<Router, throng::BadPath> {
    if listener.redirect {
        return Ok(pages::hardened(listen::redirect(https)));
    }
    let mut router = Router::new();
    if listener.ops {
        router = ops::add_to(router, Arc::clone(http));
    }
    router = http::add_to(router, http, listener);
    router = pages::add_to(router, listener.pages);
    let endpoints = listener.endpoints.iter();
    let table = endpoints.map(|e| (e.path.clone(), wiring::endpoint(e, config)));
    Ok(pages::hardened(http.server.gate(table, router)?))
}

/// Tells machines by the log, and people on stdout, where to go. `is_away`: Redis, where there should be one.
fn started(config: &Config, bound: &[Bound<'_>], is_away: bool) {
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
    tracing::info!("{}", announce::anonymous(config));
    for finding in check::findings(config) {
        if finding.level == check::Level::Danger {
            tracing::warn!(change = finding.change, "{}", finding.what);
        }
    }
    if config.log_format == LogFormat::Text {
        announce::print(config, bound, is_away);
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
            _ = self.terminate.recv() => SIGTERM,
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

const SIGTERM: &str = "SIGTERM";
/// How long after the last slot everybody is gone.
const MOST_LATE: Duration = Duration::from_secs(2);
/// How often the log tells how many are still to go.
const TELL_EACH: Duration = Duration::from_secs(10);
/// How long requests that are being answered may take at the end.
const LAST_REQUESTS: Duration = Duration::from_millis(250);
