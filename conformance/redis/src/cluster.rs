//! Redis Cluster: three primaries with a replica each.

use std::io;
use std::net::IpAddr;

use crate::papers::{ADMIN, Papers};
use crate::reply::Reply;
use crate::server::{Server, Setup};
use crate::{port, wait_until};

/// Six servers; the first three begin as primaries. Killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    /// Starts all six, and waits until every slot is served and every replica is in step: one that has
    /// not finished its first synchronisation is never promoted.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start() -> io::Result<Self> {
        Self::guarded(None)
    }

    /// The same where only those are let in who have papers; everybody tells everybody the host of these.
    ///
    /// # Errors
    /// When they do not start.
    pub fn guarded(papers: Option<&Papers>) -> io::Result<Self> {
        let mut servers = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..6 {
            let bus = port::free()?;
            let number = bus.to_string();
            let mut setup = Setup::durable().guarded(papers).with([
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &number,
            ]);
            if let Some(papers) = papers {
                setup = setup.with(["--tls-cluster", "yes"]);
                if papers.host.parse::<IpAddr>().is_err() {
                    let named = ["--cluster-preferred-endpoint-type", "hostname"];
                    setup = setup.with(["--cluster-announce-hostname", papers.host]).with(named);
                }
            }
            servers.push(Server::start(setup)?);
            buses.push(number);
        }
        let rig = Self { servers };
        for (index, server) in rig.servers.iter().enumerate() {
            server.order(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
            if index < PRIMARIES {
                let (first, last) =
                    (16384 * index / PRIMARIES, 16384 * (index + 1) / PRIMARIES - 1);
                let (first, last) = (first.to_string(), last.to_string());
                server.order(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
            }
        }
        wait_until("all servers know each other", || {
            // On a busy machine one may have no time to answer, and is not asked again.
            let known = rig.servers[0].ask(&["CLUSTER", "NODES"]);
            let known = known.ok().and_then(|known| known.text().map(str::to_owned));
            for (server, bus) in rig.servers.iter().zip(&buses).skip(1) {
                if known.as_ref().is_some_and(|known| !known.contains(&format!("@{bus}"))) {
                    let port = server.port().to_string();
                    let _ = rig.servers[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
                }
            }
            rig.servers.iter().all(|server| match server.ask(&["CLUSTER", "NODES"]) {
                Ok(Reply::Text(text)) => {
                    text.lines().count() == rig.servers.len() && !text.contains("handshake")
                }
                _ => false,
            })
        })?;
        for (index, replica) in rig.servers.iter().enumerate().skip(PRIMARIES) {
            let of = rig.id(index - PRIMARIES)?;
            replica.order(&["CLUSTER", "REPLICATE", &of])?;
        }
        wait_until("every slot is served and every replica is in step", || {
            rig.is_whole() && rig.servers.iter().all(Server::is_in_step)
        })?;
        let replicas = || {
            let all = rig.servers.iter().take(PRIMARIES);
            all.map(|server| server.info("replication", "connected_slaves"))
        };
        wait_until("every primary has a replica", || {
            replicas().all(|n| n.as_deref() == Some("1"))
        })?;
        Ok(rig)
    }

    /// Where clients connect: `redis://…` or `rediss://…`, all six.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }

    /// From here on nobody is taken for dead who is only slow: for tests in which nobody is to die.
    ///
    /// # Errors
    /// When a server does not answer.
    pub fn calm(self) -> io::Result<Self> {
        for server in &self.servers {
            server.order(&["CONFIG", "SET", "cluster-node-timeout", "30000"])?;
        }
        Ok(self)
    }

    /// The six servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// One of them, to be killed or stopped.
    pub fn server_mut(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    /// Whether all who run say that every slot is served.
    pub fn is_whole(&self) -> bool {
        let running = self.servers.iter().filter(|server| server.is_started());
        running.into_iter().all(|server| match server.ask(&["CLUSTER", "INFO"]) {
            Ok(Reply::Text(text)) => text.contains("cluster_state:ok"),
            _ => false,
        })
    }

    /// The server that a key lives on, as the first that runs knows it.
    ///
    /// # Errors
    /// When nobody knows.
    pub fn owner_of(&self, key: &str) -> io::Result<usize> {
        let slot = i64::from(slot_of(key));
        let asked = self.servers.iter().find(|server| server.is_started());
        let asked = asked.ok_or_else(|| io::Error::other("no server runs"))?;
        let slots = asked.order(&["CLUSTER", "SLOTS"])?;
        let port = slots.list().iter().find_map(|range| {
            let range = range.list();
            let within = (range.first()?.number()?..=range.get(1)?.number()?).contains(&slot);
            within.then(|| range.get(2)?.list().get(1)?.number()).flatten()
        });
        let index = self.servers.iter().position(|server| Some(i64::from(server.port())) == port);
        index.ok_or_else(|| io::Error::other(format!("nobody serves the slot {slot}")))
    }

    /// Moves the slot of a key to another primary, key by key, as resharding does it while clients go on.
    ///
    /// # Errors
    /// When a step fails.
    pub fn move_slot(&self, key: &str, to: usize) -> io::Result<()> {
        let slot = slot_of(key).to_string();
        let from = self.owner_of(key)?;
        if from == to {
            return Ok(());
        }
        let (source, target) = (self.id(from)?, self.id(to)?);
        self.servers[to].order(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source])?;
        self.servers[from].order(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target])?;
        let port = self.servers[to].door().to_string();
        loop {
            let keys = self.servers[from].order(&["CLUSTER", "GETKEYSINSLOT", &slot, "5"])?;
            let keys: Vec<&str> = keys.list().iter().filter_map(Reply::text).collect();
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000"];
            if self.servers[to].papers().is_some() {
                migrate.extend(["AUTH", ADMIN]);
            }
            migrate.push("KEYS");
            migrate.extend(keys);
            self.servers[from].order(&migrate)?;
        }
        // The new owner first, so that the slot is never without one.
        for index in [to, from] {
            self.servers[index].order(&["CLUSTER", "SETSLOT", &slot, "NODE", &target])?;
        }
        Ok(())
    }

    /// Waits until another server than this serves a key, after that one was killed.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_another(&self, key: &str, than: usize) -> io::Result<usize> {
        let mut found = than;
        wait_until("another primary", || {
            found = self.owner_of(key).unwrap_or(than);
            found != than && self.is_whole()
        })?;
        Ok(found)
    }

    fn id(&self, index: usize) -> io::Result<String> {
        match self.servers[index].order(&["CLUSTER", "MYID"])? {
            Reply::Text(id) => Ok(id),
            other => Err(io::Error::other(format!("no id: {other:?}"))),
        }
    }
}

/// The slot of a key: that of what stands between its first braces, if something does.
pub fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let text = match tag {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    };
    let crc = text.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    });
    crc % 16384
}

const PRIMARIES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of("123456789"), 0x31c3);
        assert_eq!(slot_of("{user1000}.following"), slot_of("{user1000}.followers"));
        assert_eq!(slot_of("foo{}{bar}"), slot_of("foo{}{bar}"));
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"));
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
    }
}
