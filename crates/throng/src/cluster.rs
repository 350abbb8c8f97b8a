//! This server among those that share its rooms: what is done to users and sessions is done on all of them.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use throng_backend::{Directory, Follower, Listener, NodeInfo, Redis, Report, Turn, Vault};
use throng_engine::Front;
use throng_hub::{Ban, Identity, Listed, Rights, Sessions, Timestamp, Turn as Taken};
use throng_wire::CloseCode;

use crate::server::{Inner, Server};
use crate::upgrade::REPLACED;

/// The other nodes.
pub(crate) struct Cluster {
    pub(crate) redis: Arc<Redis>,
    pub(crate) directory: Directory,
}

/// What one node tells the others. Whoever does not understand it does nothing.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Told {
    /// A session is over.
    RevokeSession { session: String },
    /// All signed-in sessions of a user are over.
    RevokeUser { user: String },
    /// All sessions that a token has opened are over.
    RevokeToken { token: String },
    /// A user is sent out of a room.
    Kick { room: String, user: String },
    /// A user is banned; `room` is empty for the whole server.
    Ban { room: String, user: String, until: Option<u64>, reason: String },
    /// The end of a ban.
    LiftBan { room: String, user: String },
    /// A user is a member of a room, with these rights; or none without.
    Member { room: String, user: String, rights: Option<String> },
    /// All connections of a user are closed.
    Disconnect { user: String, code: u16, reason: String },
    /// A session that the node of this home had has been taken up elsewhere.
    Replaced { home: String, user: String, session: String },
    /// The node of this name is to send everybody away; milliseconds.
    Drain { node: String, spread: u64 },
    /// The node of this name is to take that back.
    Undrain { node: String },
}

impl Cluster {
    /// Among those that use the same Redis; sessions may be away for `window`.
    pub(crate) fn new(redis: Arc<Redis>, window: Duration) -> Self {
        let directory = redis.directory(window.min(throng_hub::MAX_WINDOW));
        Self { redis, directory }
    }

    /// Has the directory told of all sessions from here on. Before anybody is connected.
    pub(crate) fn watch(&self, sessions: &Sessions) {
        let (directory, window) = (self.directory.clone(), sessions.window());
        sessions.watch(move |who, is_signed_in, taken| {
            let turn = match taken {
                Taken::Arrived => Turn::On,
                Taken::Lost(_) => Turn::Lost(window),
                Taken::Over => Turn::Over,
            };
            directory.turn(who, is_signed_in, turn);
        });
    }

    /// Begins to listen to the others.
    pub(crate) fn start(&self, inner: &Arc<Inner>) {
        let server = Arc::downgrade(inner);
        let follower = Owner {
            server: server.clone(),
            vault: inner.gate.vault.clone(),
            redis: Arc::downgrade(&self.redis),
        };
        self.directory.follow(Box::new(follower));
        let next_walk = Instant::now() + WALK;
        self.redis.registry().listen(Box::new(Ear { server, next_walk }));
    }

    /// What this node is called.
    pub(crate) fn id(&self) -> Arc<str> {
        self.redis.registry().id()
    }

    /// All nodes that are alive.
    pub(crate) fn list(&self) -> Vec<NodeInfo> {
        self.redis.registry().list()
    }

    /// Has another node send everybody away.
    pub(crate) fn tell_drain(&self, node: &str, spread: Duration) {
        let spread = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        self.tell(&Told::Drain { node: node.to_owned(), spread });
    }

    /// Tells the others.
    pub(crate) fn tell(&self, told: &Told) {
        match serde_json::to_vec(told) {
            Ok(message) => self.redis.registry().tell(&message),
            Err(error) => tracing::error!(%error, "the other nodes could not be told"),
        }
    }

    /// Ends: what is known of sessions is told to Redis, which takes a moment, and what waits in the vault is done.
    pub(crate) fn end(&self, vault: &Vault) {
        let start = Instant::now();
        while self.directory.waiting() > 0 && start.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(5));
        }
        vault.close();
        self.redis.close();
    }
}

/// Does what the directory says.
struct Owner {
    server: Weak<Inner>,
    vault: Vault,
    redis: Weak<Redis>,
}

impl Follower for Owner {
    fn taken(&self, who: &Identity, home: &str) {
        let Some(redis) = self.redis.upgrade() else { return };
        let (user, session) = (who.user_id().to_owned(), who.session_id().to_owned());
        let told = Told::Replaced { home: home.to_owned(), user, session };
        if let Ok(message) = serde_json::to_vec(&told) {
            redis.registry().tell(&message);
        }
    }

    fn moved(&self, who: &Identity) {
        let Some(server) = self.server.upgrade() else { return };
        let Some(cluster) = &server.cluster else { return };
        let front = server.desk.front();
        let is_so = || !cluster.directory.is_turning(who.session_id());
        if let Some(place) = front.sessions().forget(who.user_id(), who.session_id(), is_so) {
            front.close(place, REPLACED, "another connection has taken up this session");
        }
    }

    fn over(&self, session: &str) {
        self.vault.end(session);
    }
}

/// Does what other nodes say.
struct Ear {
    server: Weak<Inner>,
    /// When the directory is told of all sessions again, so that it does not forget them.
    next_walk: Instant,
}

impl Listener for Ear {
    fn report(&mut self) -> Report {
        let Some(inner) = self.server.upgrade() else { return Report::default() };
        Server { inner }.report()
    }

    fn heard(&mut self, message: &[u8]) {
        let Some(inner) = self.server.upgrade() else { return };
        match serde_json::from_slice(message) {
            Ok(told) => Server { inner }.obey(told),
            // Of a later version, perhaps.
            Err(error) => tracing::debug!(%error, "another node has said something unknown"),
        }
    }

    fn again(&mut self, is_lost: bool) {
        let Some(inner) = self.server.upgrade() else { return };
        if is_lost {
            inner.keep_again();
        }
        inner.keeper.recheck();
        self.walk(&inner, is_lost);
    }

    fn tick(&mut self) {
        let Some(inner) = self.server.upgrade() else { return };
        let Some(cluster) = &inner.cluster else { return };
        cluster.directory.tick();
        let users = cluster.redis.registry().users_elsewhere();
        inner.desk.front().sessions().set_elsewhere(users);
        self.add_up(&inner, cluster);
        if Instant::now() >= self.next_walk {
            self.walk(&inner, false);
        }
    }
}

impl Ear {
    /// Tells what users have spent here of what they may on all nodes together, and hears what they have elsewhere. Those
    /// who spend little enough everywhere are left alone.
    fn add_up(&self, inner: &Inner, cluster: &Cluster) {
        let nodes = cluster.redis.registry().list().len() as u32;
        if nodes < 2 {
            return;
        }
        let least = Duration::from_secs(1) / (2 * nodes);
        let rates = cluster.redis.rates();
        for (user, spent) in inner.desk.front().spent(least).into_iter().take(MANY_SPEND) {
            let (server, whose) = (self.server.clone(), user.clone());
            rates.spend(&user, spent, move |ahead| {
                if let Some(server) = server.upgrade() {
                    server.desk.front().owes(&whose, ahead);
                }
            });
        }
    }

    /// Tells the directory of all sessions, and learns which of them are elsewhere.
    fn walk(&mut self, inner: &Inner, is_lost: bool) {
        self.next_walk = Instant::now() + WALK;
        let Some(cluster) = &inner.cluster else { return };
        let front = inner.desk.front();
        cluster.keep(front, None, is_lost, |listed| !listed.is_over);
    }
}

impl Cluster {
    /// Says where sessions are, of one user or of all, unless they are elsewhere.
    fn keep(
        &self,
        front: &Front,
        user: Option<&str>,
        is_lost: bool,
        wanted: impl Fn(&Listed) -> bool,
    ) {
        let window = front.sessions().window();
        // Under the lock under which they take their turns: what is said here is not older than that.
        front.sessions().list(user, front.now(), |listed| {
            if wanted(listed) {
                let turn = if listed.place.is_some() { Turn::On } else { Turn::Lost(window) };
                self.directory.keep(&listed.who, listed.pass.is_some(), turn, is_lost);
            }
            false
        });
    }
}

impl Server {
    /// Does here what another node has done there.
    fn obey(&self, told: Told) {
        let (inner, front) = (&self.inner, self.inner.desk.front());
        match told {
            Told::RevokeSession { session } => drop(self.end_session(&session)),
            Told::RevokeUser { user } => drop(self.end_user(&user)),
            Told::RevokeToken { token } => self.end_token(&token),
            Told::Kick { room, user } => drop(self.evict(&room, &user)),
            Told::Ban { room, user, until, reason } => {
                self.shut_out(Ban { room, user, until: until.map(Timestamp), reason });
            }
            Told::LiftBan { room, user } => {
                inner.access.lift_ban(&room, &user);
                self.review(&user);
            }
            Told::Member { room, user, rights } => {
                let read = |rights: &str| rights.split(',').filter_map(Rights::named).collect();
                let rights = rights.as_deref().map(read).map(|rights: Vec<Rights>| {
                    rights.into_iter().fold(Rights::NONE, |all, right| all | right)
                });
                inner.access.set_member(&room, &user, rights);
                self.review(&user);
            }
            Told::Disconnect { user, code, reason } => {
                let code = CloseCode::new(code).unwrap_or(CloseCode::NORMAL);
                front.disconnect(&user, code, &reason);
            }
            Told::Replaced { home, user, session } => {
                let Some(cluster) = &inner.cluster else { return };
                // It may have come back here meanwhile: the directory knows.
                if *home == *cluster.redis.registry().home() {
                    let wanted = |listed: &Listed| listed.who.session_id() == session;
                    cluster.keep(front, Some(&user), false, wanted);
                }
            }
            Told::Drain { node, spread } => {
                if node == self.node_id() {
                    self.drain(Duration::from_millis(spread));
                }
            }
            Told::Undrain { node } => {
                if node == self.node_id() && !self.undrain() {
                    tracing::warn!("asked to take a drain back, but this server is about to end");
                }
            }
        }
    }

    /// Tells the other nodes, if there are any.
    pub(crate) fn tell(&self, told: impl FnOnce() -> Told) {
        if let Some(cluster) = &self.inner.cluster {
            cluster.tell(&told());
        }
    }
}

/// How often the directory is told of all sessions: well within the day that it remembers them.
const WALK: Duration = Duration::from_secs(6 * 60 * 60);
/// So many users at most are added up in a second.
const MANY_SPEND: usize = 5000;
/// For how long the end waits until the directory knows.
const LAST_WORDS: Duration = Duration::from_secs(3);
