//! The server to embed: workers, endpoints, and the ways to reach them.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::axum::Router;
use ::axum::body::Body;
use ::axum::extract::Request;
use ::axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{self, HeaderValue};
use throng_backend::{
    Memory, OpenError, Options, Redis, RedisError, RedisOptions, RedisStatus, Sqlite, SyncMode,
    Vault,
};
use throng_engine::{Config, Engine, Exempt, Message, Rooms};
use throng_hub::{Access, Backend, Keep, Rate, Rules};
use throng_wire::handshake::server::is_upgrade;
use tower::ServiceExt;

use crate::cluster::Cluster;
use crate::credentials::Authenticate;
use crate::desk::Desk;
use crate::endpoint::Endpoint;
use crate::gate::Gate;
use crate::keeper::{self, Keeper};
use crate::mount::{BadPath, Table};
use crate::nodes::Here;
use crate::stats::{Refused, Stats};
use crate::upgrade::upgrade;

/// A running server: worker threads and the endpoints mounted on it. Cheap to clone; all clones
/// are the same server.
///
/// It has no listener of its own. Its [`routes`](Self::routes) are merged into an axum
/// application, whose runtime and port it shares.
#[derive(Clone)]
pub struct Server {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) desk: Arc<Desk>,
    sqlite: Option<Arc<Sqlite>>,
    pub(crate) cluster: Option<Cluster>,
    endpoints: Table,
    pub(crate) keeper: Keeper,
    pub(crate) gate: Gate,
    pub(crate) access: Arc<Access>,
    pub(crate) send_rate: Option<Rate>,
    pub(crate) here: Here,
}

/// Makes a [`Server`].
#[derive(Default)]
#[must_use]
pub struct Builder {
    config: Config,
    rules: Rules,
    data: Option<PathBuf>,
    redis: Option<RedisOptions>,
    sync: SyncMode,
    memory: Option<usize>,
    resume_window: Option<Duration>,
    max_rooms: Option<usize>,
    access: Option<Access>,
    send_rate: Option<Option<Rate>>,
    authenticate: Option<Arc<dyn Authenticate>>,
    recheck: Option<Duration>,
    ticket_ttl: Option<Duration>,
    session_ttl: Option<Option<Duration>>,
    advertise: String,
    endpoints: Vec<(String, Endpoint)>,
}

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An endpoint's path is not one.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// Redis cannot be used.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The worker threads could not be started.
    #[error("the workers could not be started: {0}")]
    Workers(#[from] io::Error),
}

impl Builder {
    /// Worker threads. Default: one for each core.
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Silence after which a connection is pinged, and terminated after as much again. Zero
    /// never pings. Default 25 s.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.config.heartbeat = heartbeat;
        self
    }

    /// Connections in all; more are answered `429`. Default 1,000,000.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.config.max_connections = connections;
        self
    }

    /// Connections from one address; more are answered `429`. Default 1,000,000. Addresses are
    /// known where the application is served with axum's `ConnectInfo<SocketAddr>`.
    pub fn max_connections_per_ip(mut self, connections: usize) -> Self {
        self.config.max_connections_per_ip = connections;
        self
    }

    /// Connections and event streams of one user who is signed in; more are answered `429`. Default
    /// 1,000,000.
    pub fn max_connections_per_user(mut self, connections: usize) -> Self {
        self.config.max_connections_per_user = connections;
        self
    }

    /// How often one address (IPv6: a /64) may try to open a WebSocket or an event stream; more are answered
    /// `429`. Default `None`: as often as it likes.
    pub fn handshakes_per_ip(mut self, rate: Option<Rate>) -> Self {
        self.config.handshakes_per_ip = rate;
        self
    }

    /// Addresses that the limits by address do not concern. Default: none.
    pub fn exempt(mut self, holds: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.config.exempt = Some(Exempt::new(holds));
        self
    }

    /// Rooms in all, those of relays and event streams included; more are refused. Default 1,000,000.
    pub fn max_total_rooms(mut self, rooms: usize) -> Self {
        self.config.max_total_rooms = rooms;
        self
    }

    /// Open rooms that one address (IPv6: a /64) has brought into being; more are refused. Default 1,000,000.
    pub fn max_rooms_per_ip(mut self, rooms: usize) -> Self {
        self.config.max_rooms_per_ip = rooms;
        self
    }

    /// Open rooms that one user who is signed in has brought into being; more are refused. Default 1,000,000.
    pub fn max_rooms_per_user(mut self, rooms: usize) -> Self {
        self.config.max_rooms_per_user = rooms;
        self
    }

    /// Bytes that may be kept for all connections and the past of open rooms. From nine tenths of it on new
    /// connections are answered `503`, and what would keep more is refused. Default: without end.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.config.memory_budget = bytes;
        self
    }

    /// What holds for rooms, by name. Default: [`Rules::default`].
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Keeps rooms whose rule is `durable` in this directory (SQLite). Default: everything is kept in memory
    /// only.
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = Some(directory.into());
        self
    }

    /// Shares rooms, sessions, users and bans with all servers that use the same Redis: whoever connects to one of them
    /// meets whoever is on the others. Then nothing is kept on disk or in memory, and [`Builder::data`] has no effect.
    /// Default: this server is on its own.
    pub fn redis(mut self, redis: RedisOptions) -> Self {
        self.redis = Some(redis);
        self
    }

    /// When messages that are kept on disk count as stored. Default: [`SyncMode::Full`].
    pub fn sync(mut self, sync: SyncMode) -> Self {
        self.sync = sync;
        self
    }

    /// Bytes for the past of rooms in memory that nobody is in at the moment. Default 64 MiB.
    pub fn memory_history(mut self, bytes: usize) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// How long a session may be away before it ends. Default 120 s, at most 10 minutes.
    pub fn resume_window(mut self, window: Duration) -> Self {
        self.resume_window = Some(window);
        self
    }

    /// Rooms one connection may be in. Default 128.
    pub fn max_rooms(mut self, rooms: usize) -> Self {
        self.max_rooms = Some(rooms);
        self
    }

    /// Who may do what in which rooms. Default: [`Access::demo`], that is, anonymous visitors may be in the rooms
    /// of the demo, and everything else needs a ticket or token that says so.
    pub fn access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// Looks at tokens that are not tickets. Default: there are none.
    pub fn authenticate(mut self, authenticate: Arc<dyn Authenticate>) -> Self {
        self.authenticate = Some(authenticate);
        self
    }

    /// How often a user may publish by [`Server::publish_as`], that is, without a connection; every 4 KiB of a message
    /// count as one more. Default: 200 a second, 1,000 at once.
    pub fn send_rate(mut self, rate: Option<Rate>) -> Self {
        self.send_rate = Some(rate);
        self
    }

    /// How often the sessions that are signed in are compared with what is kept of them. Default 30 s. Revocations
    /// by this server hold at once, those by another process within a second.
    pub fn recheck(mut self, interval: Duration) -> Self {
        self.recheck = Some(interval);
        self
    }

    /// How long a ticket may be used that says nothing else. Default 30 s, at most 24 h.
    pub fn ticket_ttl(mut self, ttl: Duration) -> Self {
        self.ticket_ttl = Some(ttl);
        self
    }

    /// How long the session of a ticket lasts that says nothing else; `None` for as long as its connections.
    /// Default 24 h.
    pub fn session_ttl(mut self, ttl: Option<Duration>) -> Self {
        self.session_ttl = Some(ttl);
        self
    }

    /// Where this server can be reached, for people who look at a list of [nodes](Server::nodes). Default: nothing is
    /// said.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = address.into();
        self
    }

    /// Mounts an endpoint for [`Server::routes`].
    pub fn endpoint(mut self, path: impl Into<String>, endpoint: Endpoint) -> Self {
        self.endpoints.push((path.into(), endpoint));
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// When a path is not one, or threads can't be started.
    pub fn build(self) -> Result<Server, Error> {
        let endpoints = Table::new(self.endpoints)?;
        let prefix = self.redis.as_ref().map(|redis| redis.prefix.clone()).unwrap_or_default();
        let redis = self.redis.map(Redis::connect).transpose()?;
        let sqlite = match self.data.as_ref().filter(|_| redis.is_none()) {
            Some(data) => Some(Arc::new(Sqlite::open(
                data,
                Options { sync: self.sync, ..Options::default() },
            )?)),
            None => None,
        };
        let memory = self.memory.map_or_else(Memory::default, Memory::new);
        let keep = match &redis {
            // Also what is durable: nothing is kept elsewhere.
            Some(redis) => Keep { memory: Arc::clone(redis) as Arc<dyn Backend>, durable: None },
            None => Keep {
                memory: Arc::new(memory),
                durable: sqlite.clone().map(|sqlite| sqlite as Arc<dyn Backend>),
            },
        };
        let vault = match &redis {
            Some(redis) => Vault::shared(redis.remote(), &prefix),
            None => Vault::open(self.data.as_deref(), self.sync)?,
        };
        let access = Arc::new(self.access.unwrap_or_else(Access::demo));
        keeper::load(&vault, &access);
        let mut rooms = Rooms::new(self.rules, keep)?;
        rooms.secrets = vault.secrets();
        rooms.access = Arc::clone(&access);
        let ended = vault.clone();
        rooms.ended = Arc::new(move |session| ended.end(session));
        rooms.resume_window = self.resume_window.unwrap_or(rooms.resume_window);
        rooms.max_rooms = self.max_rooms.unwrap_or(rooms.max_rooms);
        let cluster = redis.map(|redis| Cluster::new(redis, rooms.resume_window));
        let desk = Desk::new();
        let rung = Arc::clone(&desk);
        let engine = Engine::start(self.config, rooms, move || rung.wake())?;
        let front = engine.front();
        cluster.iter().for_each(|cluster| cluster.watch(front.sessions()));
        desk.start(front)?;
        let gate = Gate {
            vault,
            directory: cluster.as_ref().map(|cluster| cluster.directory.clone()),
            authenticate: self.authenticate,
            ticket_ttl: self.ticket_ttl.unwrap_or(TICKET_TTL),
            session_ttl: self.session_ttl.unwrap_or(Some(SESSION_TTL)),
            refused: Refused::default(),
        };
        let keeper = Keeper::default();
        let send_rate = self.send_rate.unwrap_or(Some(SEND_RATE));
        let here = Here::new(self.advertise)?;
        let inner = Arc::new(Inner {
            engine,
            desk,
            sqlite,
            cluster,
            endpoints,
            gate,
            access,
            keeper,
            send_rate,
            here,
        });
        inner.desk.belongs_to(&inner);
        Keeper::start(&inner, self.recheck.unwrap_or(RECHECK))?;
        inner.cluster.iter().for_each(|cluster| cluster.start(&inner));
        Ok(Server { inner })
    }
}

impl Server {
    /// Starts making one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The endpoints given to the builder, as routes to merge into an application. A request
    /// there that is not an upgrade is answered `426`.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let mut router = Router::new();
        for path in self.inner.endpoints.routes() {
            let server = self.clone();
            let serve = move |request: Request| async move {
                server.upgrade_by(&server.inner.endpoints, request).await
            };
            router = router.route(&path, ::axum::routing::any(serve));
        }
        router
    }

    /// A whole application: upgrades go by `table`, and to nowhere else (`404`); everything else
    /// goes to `pages`, so that `/` can be a page and an endpoint. A plain request for a path
    /// that only the table knows is answered `426`.
    ///
    /// # Errors
    /// When a path is not one.
    pub fn gate(
        &self,
        table: impl IntoIterator<Item = (String, Endpoint)>,
        pages: Router,
    ) -> Result<Router, BadPath> {
        let table = Arc::new(Table::new(table)?);
        let server = self.clone();
        let gate = move |request: Request| {
            let (server, table, pages) = (server.clone(), Arc::clone(&table), pages.clone());
            async move {
                if is_upgrade(request.headers()) {
                    return server.upgrade_by(&table, request).await;
                }
                let endpoint = table.find(request.uri().path()).is_some();
                let response = pages.oneshot(request).await.into_response();
                if endpoint && response.status() == StatusCode::NOT_FOUND {
                    return upgrade_required();
                }
                response
            }
        };
        Ok(Router::new().fallback(gate))
    }

    /// Answers one upgrade request with an endpoint, mounted or not: for applications that
    /// route and decide by themselves. The request must come from axum or hyper unread.
    ///
    /// ```
    /// # use throng::{Endpoint, Server, axum::{Request, Response, StatusCode, IntoResponse}};
    /// # fn is_known(_: &axum::http::HeaderMap) -> bool { true }
    /// async fn live(server: Server, endpoint: Endpoint, request: Request) -> Response {
    ///     if !is_known(request.headers()) {
    ///         return StatusCode::UNAUTHORIZED.into_response();
    ///     }
    ///     server.accept(request, &endpoint).await
    /// }
    /// ```
    pub async fn accept(&self, request: Request, endpoint: &Endpoint) -> Response {
        upgrade(self, request, endpoint, None).await
    }

    async fn upgrade_by(&self, table: &Table, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        match table.find(&path) {
            Some((mount, room)) => upgrade(self, request, &mount.endpoint, room).await,
            None => {
                self.inner.gate.refused.path.add();
                StatusCode::NOT_FOUND.into_response()
            }
        }
    }

    /// Sends a message to every member of a room that handlers have joined.
    pub fn broadcast<'m>(&self, room: &str, message: impl Into<Message<'m>>) {
        self.inner.engine.broadcast(room, message);
    }

    /// What has been counted since the start. Costs a few loads for each worker.
    pub fn stats(&self) -> Stats {
        Stats::new(self.inner.engine.stats(), &self.inner.gate.refused)
    }

    /// Users, tickets, sessions, bans, as they are kept.
    pub fn vault(&self) -> &Vault {
        &self.inner.gate.vault
    }

    /// What has been counted of the disk since the start; `None` when everything is in memory.
    pub fn storage(&self) -> Option<throng_backend::Stats> {
        self.inner.sqlite.as_ref().map(|sqlite| sqlite.stats())
    }

    /// How it stands with Redis; `None` for a server on its own.
    pub fn redis_status(&self) -> Option<RedisStatus> {
        self.inner.cluster.as_ref().map(|cluster| cluster.redis.status())
    }

    /// Whether everything is there that is needed: Redis can be reached, where rooms are shared.
    pub fn is_ready(&self) -> bool {
        self.redis_status().is_none_or(|redis| {
            !redis.servers.is_empty() && redis.servers.iter().all(|server| server.connected)
        })
    }

    /// The number of event streams.
    pub fn event_streams(&self) -> usize {
        self.inner.desk.streams()
    }

    /// Whether [`Server::drain`] or [`Server::shutdown`] has begun.
    pub fn is_draining(&self) -> bool {
        self.inner.engine.is_ending()
    }

    /// Ends the server: upgrades are refused with `503`, every connection is closed with `1001`, or `1012` after
    /// [`Server::drain`], and what has not gone after `grace` is terminated. Returns when all are gone.
    pub async fn shutdown(&self, grace: Duration) {
        let server = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let sqlite = server.inner.sqlite.as_ref();
            server.inner.engine.shutdown(grace, || {
                sqlite.into_iter().for_each(|sqlite| sqlite.close());
                let vault = &server.inner.gate.vault;
                server.inner.cluster.iter().for_each(|cluster| cluster.end(vault));
            });
            server.inner.keeper.end();
            server.inner.gate.vault.close();
        });
        if done.await.is_err() {
            tracing::error!("the shutdown failed");
        }
    }
}

const SEND_RATE: Rate = Rate::per_second(200).with_burst(1000);
const TICKET_TTL: Duration = Duration::from_secs(30);
const SESSION_TTL: Duration = Duration::from_secs(24 * 60 * 60);
const RECHECK: Duration = Duration::from_secs(30);

/// `426` with what to upgrade to (RFC 9110 §15.5.22).
fn upgrade_required() -> Response {
    let mut response = Response::new(Body::from("this is a WebSocket endpoint\n"));
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}
