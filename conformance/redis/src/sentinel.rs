//! A primary, two replicas, and three sentinels that watch them.

use std::fs;
use std::io;

use tempfile::TempDir;

use crate::papers::{ADMIN, Papers};
use crate::reply::Reply;
use crate::server::{Data, Server, Setup};
use crate::{port, wait_until};

/// Three servers of which one is the primary, and three sentinels; killed when dropped.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
    _folder: TempDir,
}

impl Sentinels {
    /// Starts all six, and waits until the replicas are in step and the sentinels know each other.
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
        let host = papers.map_or("127.0.0.1", |papers| papers.host);
        let setup = || Setup::in_memory().guarded(papers).with(["--replica-announce-ip", host]);
        let primary = Server::start(setup())?;
        let main = primary.door().to_string();
        let replica = || setup().with(["--replicaof", host, &main]);
        let servers = vec![primary, Server::start(replica())?, Server::start(replica())?];
        wait_until("replicas are in step", || servers.iter().all(Server::is_in_step))?;
        let folder = tempfile::Builder::new().prefix("throng-sentinel-").tempdir()?;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let port = port::free()?;
            let tls =
                papers.map(|papers| Ok::<_, io::Error>((port::free()?, papers))).transpose()?;
            let file = folder.path().join(format!("{port}.conf"));
            let mut config = format!(
                "port {port}\nbind 127.0.0.1\nsentinel resolve-hostnames yes\n\
                 sentinel announce-hostnames yes\nsentinel announce-ip {host}\n\
                 sentinel monitor {NAME} {host} {main} 2\n\
                 sentinel down-after-milliseconds {NAME} 1000\n\
                 sentinel failover-timeout {NAME} 5000\n"
            );
            if let Some((port, papers)) = tls {
                config += &papers.of_sentinel(port).join("\n");
                config += &format!(
                    "\nsentinel auth-user {NAME} default\nsentinel auth-pass {NAME} {ADMIN}\n\
                     sentinel sentinel-user default\nsentinel sentinel-pass {ADMIN}\n"
                );
            }
            fs::write(&file, config)?;
            sentinels.push(Server::sentinel(port, tls, &file)?);
        }
        let rig = Self { servers, sentinels, _folder: folder };
        wait_until("the sentinels know everybody", || {
            rig.sentinels.iter().all(|sentinel| {
                let count = |what| match sentinel.ask(&["SENTINEL", what, NAME]) {
                    Ok(Reply::List(list)) => list.len(),
                    _ => 0,
                };
                count("SENTINELS") == 2 && count("REPLICAS") == 2
            })
        })?;
        Ok(rig)
    }

    /// Where the sentinels listen: `redis://…`, or `rediss://…` with the user of the servers.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// From here on nobody is taken for dead who is only slow: for tests in which nobody is to die.
    ///
    /// # Errors
    /// When a sentinel does not answer.
    pub fn calm(self) -> io::Result<Self> {
        self.patience("30000").map(|()| self)
    }

    /// From here on whoever does not answer for a second is taken for dead, as at the beginning.
    ///
    /// # Errors
    /// When a sentinel does not answer.
    pub fn alert(&self) -> io::Result<()> {
        self.patience("1000")
    }

    fn patience(&self, millis: &str) -> io::Result<()> {
        for sentinel in &self.sentinels {
            sentinel.order(&["SENTINEL", "SET", NAME, "down-after-milliseconds", millis])?;
        }
        Ok(())
    }

    /// The three servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Which of the servers the sentinels take for the primary.
    pub fn primary(&self) -> Option<usize> {
        let answers = self.sentinels.iter().map(|sentinel| {
            let answer = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).ok()?;
            let port: u16 = answer.list().get(1)?.text()?.parse().ok()?;
            self.servers.iter().position(|server| server.door() == port)
        });
        let answers: Vec<_> = answers.collect();
        answers
            .first()
            .copied()
            .flatten()
            .filter(|first| answers.iter().all(|a| *a == Some(*first)))
    }

    /// Kills the primary; another server becomes it in a few seconds. Says which it was.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_primary(&mut self) -> io::Result<usize> {
        let index = self.known_primary()?;
        self.servers[index].kill();
        Ok(index)
    }

    /// Stops the primary for now; another server becomes it in a few seconds.
    ///
    /// # Errors
    /// When there is none.
    pub fn pause_primary(&self) -> io::Result<usize> {
        let index = self.known_primary()?;
        self.servers[index].pause();
        Ok(index)
    }

    /// Waits until another server than this is the primary and takes writes.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_another(&self, than: usize) -> io::Result<usize> {
        let mut found = than;
        wait_until("another primary", || match self.primary() {
            Some(index) if index != than => {
                found = index;
                let set = self.servers[index].ask(&["SET", "rig", "1"]);
                set.is_ok_and(|reply| reply.text() == Some("OK"))
            }
            _ => false,
        })?;
        Ok(found)
    }

    /// Lets a server go on, or starts it again when it was killed. The sentinels make it a replica.
    ///
    /// # Errors
    /// When it does not start.
    pub fn bring_back(&mut self, index: usize) -> io::Result<()> {
        match self.servers[index].is_started() {
            true => self.servers[index].go_on(),
            false => self.servers[index].start_again(Data::Kept)?,
        }
        Ok(())
    }

    fn known_primary(&self) -> io::Result<usize> {
        self.primary().ok_or_else(|| io::Error::other("the sentinels do not agree on a primary"))
    }
}

/// What the sentinels call the primary.
pub const NAME: &str = "main";
