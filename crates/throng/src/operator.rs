//! Looking after the servers that share a Redis without being one of them.

use std::time::Duration;

use throng_backend::{NodeInfo, Redis, RedisError, RedisOptions, Remote, Vault};
use throng_hub::Unavailable;

use crate::cluster::Told;
use crate::nodes::Node;

/// Somebody who looks after the servers that share a Redis. Every call waits for Redis, for some seconds at most.
pub struct Operator {
    remote: Remote,
    prefix: String,
}

impl Operator {
    /// Connects, as a server with these options would.
    ///
    /// # Errors
    /// See [`RedisError`]; also when Redis cannot be reached.
    pub fn new(options: RedisOptions) -> Result<Self, RedisError> {
        let prefix = options.prefix.clone();
        Ok(Self { remote: Redis::visit(options)?, prefix })
    }

    /// All servers that are alive, by name, as of their last beats.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub fn nodes(&self) -> Result<Vec<Node>, Unavailable> {
        Ok(NodeInfo::all(&self.remote)?.into_iter().map(Node::from).collect())
    }

    /// Asks a server to send everybody away as [`Server::drain`](crate::Server::drain) does. Whether there is one of
    /// this name.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub fn drain(&self, node: &str, spread: Duration) -> Result<bool, Unavailable> {
        if !self.nodes()?.iter().any(|known| known.id == node) {
            return Ok(false);
        }
        let spread = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        self.tell(&Told::Drain { node: node.to_owned(), spread })?;
        Ok(true)
    }

    /// Asks a server to take that back, as [`Server::undrain`](crate::Server::undrain) does. Whether there is one of this
    /// name.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub fn undrain(&self, node: &str) -> Result<bool, Unavailable> {
        if !self.nodes()?.iter().any(|known| known.id == node) {
            return Ok(false);
        }
        self.tell(&Told::Undrain { node: node.to_owned() })?;
        Ok(true)
    }

    fn tell(&self, told: &Told) -> Result<(), Unavailable> {
        NodeInfo::tell(&self.remote, &serde_json::to_vec(told).map_err(|_| Unavailable)?)
    }

    /// Users, sessions and the like, as all servers have them.
    pub fn vault(&self) -> Vault {
        Vault::shared(self.remote.clone(), &self.prefix)
    }
}
