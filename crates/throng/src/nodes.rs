//! The servers that share rooms, this one among them. A server on its own is a list of one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use throng_backend::{NodeInfo, Report};

use crate::cluster::{Cluster, Told};
use crate::server::Server;

/// A server at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// Its name: random, and another one after every start.
    pub id: String,
    /// How long ago it was heard of.
    pub last_beat: Duration,
    /// It is the one that was asked.
    pub is_self: bool,
    /// What it says of itself.
    pub report: Report,
}

/// What a server knows of itself.
#[derive(Debug)]
pub(crate) struct Here {
    /// While there are no others to tell it from.
    id: String,
    pub(crate) address: String,
    pub(crate) started: u64,
    load: Mutex<Load>,
}

/// The share of the time that workers are not asleep, over the last second or more.
#[derive(Debug)]
struct Load {
    since: Instant,
    /// Nanoseconds that they had been awake by then.
    awake: u64,
    share: f64,
}

impl Here {
    pub(crate) fn new(address: String) -> std::io::Result<Self> {
        let mut random = [0; 10];
        getrandom::fill(&mut random)
            .map_err(|error| std::io::Error::other(format!("no entropy: {error}")))?;
        let id = throng_hub::ids::session_id(random);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            id: id.trim_start_matches("s_").to_owned(),
            address,
            started: started.as_millis() as u64,
            load: Mutex::new(Load { since: Instant::now(), awake: 0, share: 0.0 }),
        })
    }
}

impl Load {
    fn measure(&mut self, awake: u64, workers: usize, now: Instant) -> f64 {
        let window = now.saturating_duration_since(self.since);
        if window >= WINDOW {
            let whole = window.as_nanos() as f64 * workers.max(1) as f64;
            self.share = (awake.saturating_sub(self.awake) as f64 / whole).clamp(0.0, 1.0);
            (self.since, self.awake) = (now, awake);
        }
        self.share
    }
}

impl Server {
    /// What this server is called among those that share its rooms.
    pub fn node_id(&self) -> String {
        match self.cluster() {
            Some(cluster) => cluster.id().to_string(),
            None => self.inner.here.id.clone(),
        }
    }

    /// The share of the time that the workers are not asleep, 0 to 1: as of the last second or so, when it is asked for
    /// so often; else since it was last asked for.
    pub fn load(&self) -> f64 {
        let awake = self.inner.engine.stats().awake;
        let mut load = self.inner.here.load.lock().unwrap_or_else(PoisonError::into_inner);
        load.measure(awake, self.inner.engine.workers(), Instant::now())
    }

    /// All servers that share rooms with this one, by name, as of their last beats; this one as it is now.
    pub fn nodes(&self) -> Vec<Node> {
        let (here, id) = (self.here(), self.node_id());
        let Some(cluster) = self.cluster() else { return vec![here] };
        let others = cluster.list().into_iter().filter(|node| node.id != id);
        let mut nodes: Vec<Node> = others.map(Node::from).chain([here]).collect();
        nodes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    /// Has a server sent everybody away as [`Server::drain`] does: this one or another. Whether there is one of this
    /// name; another is only asked to.
    pub fn drain_node(&self, id: &str, spread: Duration) -> bool {
        if id == self.node_id() {
            self.drain(spread);
            return true;
        }
        let Some(cluster) = self.cluster() else { return false };
        let known = cluster.list().iter().any(|node| node.id == id);
        if known {
            cluster.tell_drain(id, spread);
        }
        known
    }

    /// Takes back that a server sends everybody away, as [`Server::undrain`] does: of this one or another. `None` when there
    /// is none of this name; false when this one is about to end. Another is only asked to.
    pub fn undrain_node(&self, id: &str) -> Option<bool> {
        if id == self.node_id() {
            return Some(self.undrain());
        }
        let cluster = self.cluster()?;
        cluster.list().iter().find(|node| node.id == id)?;
        cluster.tell(&Told::Undrain { node: id.to_owned() });
        Some(true)
    }

    /// The others, if there can be any.
    fn cluster(&self) -> Option<&Cluster> {
        self.inner.cluster.as_ref()
    }

    fn here(&self) -> Node {
        let (id, report) = (self.node_id(), self.report());
        Node { id, last_beat: Duration::ZERO, is_self: true, report }
    }

    /// What this server says of itself.
    pub(crate) fn report(&self) -> Report {
        let (stats, counts) = (self.inner.engine.stats(), self.counts());
        Report {
            address: self.inner.here.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.inner.here.started,
            connections: counts.connections as u64,
            users: stats.users,
            rooms: counts.rooms as u64,
            load: self.load(),
            draining: self.is_draining(),
        }
    }
}

impl From<NodeInfo> for Node {
    fn from(info: NodeInfo) -> Self {
        let NodeInfo { id, last_beat, report, .. } = info;
        Self { id, last_beat, is_self: false, report }
    }
}

/// What is measured is as of so long.
const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_a_share_of_all_workers() {
        let start = Instant::now();
        let mut load = Load { since: start, awake: 0, share: 0.0 };
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(load.measure(900_000_000, 2, at(999)), 0.0, "too early to say");
        assert_eq!(load.measure(1_000_000_000, 2, at(2000)), 0.25);
        assert_eq!(load.measure(1_900_000_000, 2, at(2500)), 0.25, "as of the second before");
        assert_eq!(load.measure(9_000_000_000, 2, at(4000)), 1.0);
    }
}
