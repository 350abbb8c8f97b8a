//! Several nodes that share their rooms through Redis, and what may happen to them.
//!
//! ```text
//!   clients ──▶ proxy ──▶ node ──▶ link ──┐
//!   clients ──▶ proxy ──▶ node ──▶ link ──┼──▶ Redis
//!   clients ──▶ proxy ──▶ node ──▶ link ──┘
//! ```

mod fault;
mod harm;
mod inside;
mod witness;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use throng_redis_rig::{Cluster, NAME, Sentinels, Server, Setup};

pub use self::fault::Fault;
pub use self::harm::{Pace, harm};
pub use self::inside::{is_inside, play_inside};
use crate::dice::Dice;
use crate::link::Link;
use crate::record::Log;
use crate::victim::{Process, Victim, free_address};

/// What the nodes share.
#[derive(Debug)]
pub enum Store {
    /// One Redis.
    One(Box<Server>),
    /// A primary and two replicas, with sentinels.
    Sentinels(Sentinels),
    /// Redis Cluster.
    Cluster(Cluster),
}

/// Three nodes and what they share. All is gone when this is dropped.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<Node>,
    store: Store,
}

/// One of them.
#[derive(Debug)]
struct Node {
    process: Process,
    /// Its way to Redis, where there is but one.
    link: Option<Link>,
}

impl Nodes {
    /// Starts Redis as this fault needs it, and prepares the nodes.
    ///
    /// # Errors
    /// When Redis does not start.
    pub async fn prepare(
        fault: Fault,
        program: &Path,
        folder: &Path,
        settings: &[String],
        seed: u64,
        log: &Log,
    ) -> io::Result<Self> {
        let store = match fault.store() {
            fault::Topology::One => Store::One(Box::new(Server::start(Setup::durable())?)),
            fault::Topology::Sentinels => Store::Sentinels(Sentinels::start()?),
            fault::Topology::Cluster => Store::Cluster(Cluster::start()?),
        };
        let program = program.canonicalize()?;
        let mut dice = Dice::new(seed, 5);
        let mut nodes = Vec::new();
        for index in 0..NODES {
            let folder = folder.join(format!("node-{index}"));
            std::fs::create_dir_all(&folder)?;
            let link = match &store {
                Store::One(server) => {
                    let dice = Dice::new(seed, 50 + index as u64);
                    Some(Link::start(server.address(), dice).await?)
                }
                _ => None,
            };
            let config = folder.join("throng.toml");
            std::fs::write(&config, configuration(fault, &store, link.as_ref()))?;
            let mut arguments: Vec<OsString> = vec!["--config".into(), config.into()];
            arguments.extend(settings.iter().flat_map(|pair| ["--set".into(), pair.into()]));
            let address = free_address(&mut dice)?;
            let process = Process::new(&program, &folder, address, arguments, log.clone());
            let process = match fault.clock(index).zip(fault::faketime()) {
                Some((shift, library)) => process
                    .environment("LD_PRELOAD", library)
                    .environment("FAKETIME", shift)
                    .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                None => process,
            };
            nodes.push(Node { process, link });
        }
        Ok(Self { nodes, store })
    }

    /// The files that say what happened inside of Redis.
    pub fn redis_logs(&self) -> Vec<PathBuf> {
        let servers: Vec<&Server> = match &self.store {
            Store::One(server) => vec![server],
            Store::Sentinels(rig) => rig.servers().iter().collect(),
            Store::Cluster(rig) => rig.servers().iter().collect(),
        };
        servers.into_iter().map(Server::log_file).collect()
    }
}

/// A node's configuration.
fn configuration(fault: Fault, store: &Store, link: Option<&Link>) -> String {
    let (mode, urls) = match (store, link) {
        (Store::One(_), Some(link)) => ("single", vec![format!("redis://{}", link.address())]),
        (Store::One(server), None) => ("single", vec![server.url()]),
        (Store::Sentinels(rig), _) => ("sentinel", rig.urls()),
        (Store::Cluster(rig), _) => ("cluster", rig.urls()),
    };
    let trusts = fault.trusts_restarts();
    let spread = fault.drain_spread().as_secs();
    // A short grace and quick deaths, so that a run need not wait for those who are gone.
    format!(
        "[[room]]\nmatch = \"room-*\"\ngrace = \"2s\"\nhistory = {HISTORY}\n\n\
         [redis]\nurls = {urls:?}\nmode = \"{mode}\"\nmaster = \"{NAME}\"\n\
         trust_restarts = {trusts}\n\n\
         [cluster]\nnode_timeout = \"4s\"\ndrain_spread = \"{spread}s\"\n"
    )
}

impl Victim for Nodes {
    fn address(&self) -> SocketAddr {
        self.nodes[0].process.address()
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.process.address()).collect()
    }

    /// Starts those that do not run.
    async fn start(&mut self) -> io::Result<()> {
        let down = self.nodes.iter_mut().filter(|node| node.process.id().is_none());
        try_join_all(down.map(|node| node.process.start())).await.map(|_| ())
    }

    async fn kill(&mut self) -> io::Result<()> {
        for node in &mut self.nodes {
            node.process.kill().await?;
        }
        Ok(())
    }

    async fn stop(&mut self) -> io::Result<Option<String>> {
        let mut wrong = None;
        for node in &mut self.nodes {
            wrong = node.process.stop().await?.or(wrong);
        }
        Ok(wrong)
    }

    fn ended(&mut self) -> Option<String> {
        let ended = |(index, node): (usize, &mut Node)| {
            node.process.ended().map(|status| format!("node {index}: {status}"))
        };
        self.nodes.iter_mut().enumerate().find_map(ended)
    }
}

const NODES: usize = 3;
/// How many messages of a room the nodes keep.
pub const HISTORY: u64 = 1000;
