//! What may happen, and what has to hold all the same.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::record::Shared;

/// What is done to nodes, to Redis, or to the way in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Nothing but cut connections of clients, which come back to another node.
    Cuts,
    /// Nodes are killed; one is back at once, one when the others take it for dead.
    KillNode,
    /// A node stands still for longer than the others wait for it.
    PauseNode,
    /// Redis is killed and comes back with its data, which is trusted: nothing may be lost.
    RestartRedis,
    /// The same, and it is not trusted: rooms begin anew, though nothing is lost.
    DoubtRedis,
    /// Redis is killed and comes back empty.
    EmptyRedis,
    /// The primary is killed, and the sentinels promote a replica.
    Sentinel,
    /// The primary stands still, and finds another one in its place when it goes on.
    PausePrimary,
    /// Slots of rooms move to another primary of a Redis Cluster.
    MoveSlots,
    /// A primary of a Redis Cluster is killed.
    KillPrimary,
    /// Connections for events are killed again and again while commands work.
    KillEvents,
    /// Connections for commands are killed again and again while events come.
    KillCommands,
    /// The way from a node to Redis is cut.
    CutLink,
    /// Nothing passes between a node and Redis, and nobody is told.
    SilentLink,
    /// The way to Redis takes 100 ms, give or take 80.
    SlowLink,
    /// Packets from and to Redis are lost (needs root and nft).
    Loss,
    /// The clocks of two nodes are wrong by an hour, one ahead and one behind (needs libfaketime).
    Clocks,
    /// One node after the other is stopped in order and started again.
    Rolling,
    /// Redis is out of memory for a while.
    FullRedis,
}

/// What a fault needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    One,
    Sentinels,
    Cluster,
}

impl Fault {
    /// All of them.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// What may become of rooms and sessions.
    pub fn promise(self) -> Shared {
        match self {
            // All that was acknowledged is still there, or still on its way.
            Self::DoubtRedis | Self::MoveSlots => {
                Shared { renews: true, loses: false, forgets: false }
            }
            // Replication comes after the acknowledgement.
            Self::EmptyRedis | Self::Sentinel | Self::PausePrimary | Self::KillPrimary => {
                Shared { renews: true, loses: true, forgets: true }
            }
            _ => Shared::default(),
        }
    }

    pub(super) fn store(self) -> Topology {
        match self {
            Self::Sentinel | Self::PausePrimary => Topology::Sentinels,
            Self::MoveSlots | Self::KillPrimary => Topology::Cluster,
            _ => Topology::One,
        }
    }

    pub(super) fn trusts_restarts(self) -> bool {
        self.store() == Topology::One && !matches!(self, Self::DoubtRedis | Self::EmptyRedis)
    }

    /// Over how long the clients of a node that is stopped in order are sent away.
    pub(super) fn drain_spread(self) -> Duration {
        // Long enough that the rate at which they come to the other nodes can be told.
        Duration::from_secs(if self == Self::Rolling { 8 } else { 1 })
    }

    /// By how much the clock of a node is wrong.
    pub(super) fn clock(self, node: usize) -> Option<&'static str> {
        match (self, node) {
            (Self::Clocks, 1) => Some("+3600s"),
            (Self::Clocks, 2) => Some("-3600s"),
            _ => None,
        }
    }

    /// Why it cannot be made here.
    pub fn is_impossible(self) -> Option<String> {
        match self {
            Self::Clocks if faketime().is_none() => Some("libfaketime is not installed".into()),
            Self::Loss => super::inside::is_impossible(),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

/// The library that shifts a program's clock.
pub(super) fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let own = ["/usr/lib".into(), "/usr/local/lib".into()];
    let files = folders.chain(own).map(|folder| folder.join("faketime/libfaketime.so.1"));
    files.into_iter().find(|file| file.exists())
}
