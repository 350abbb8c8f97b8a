//! Questions to Redis from any thread: what the registry of nodes and the shared vault are built on.

use std::fmt;
use std::sync::{Arc, OnceLock};

use redis::Value;
use sha1::{Digest, Sha1};

use super::drive::{Job, Queue};
use super::step::{Failure, NodeId};

/// Asks Redis, from any thread. All work happens on one thread; nothing here blocks.
#[derive(Clone)]
pub struct Remote {
    pub(super) queue: Arc<Queue>,
    pub(super) prefix: Arc<str>,
    pub(super) min_replicas: usize,
    /// Ends the thread with the last of them, if nobody else does.
    pub(super) life: Option<Arc<Life>>,
}

/// Keeps the thread going.
pub(super) struct Life(pub(super) Arc<Queue>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A script in Lua. Meant to be a `static`: its hash is computed once.
pub(crate) struct Script {
    pub(crate) source: &'static str,
    hash: OnceLock<String>,
}

/// Who is told how a script ended.
pub(crate) type Done = Box<dyn FnOnce(Result<Value, Failure>) + Send>;
/// Who hears a channel.
pub(crate) type Heard = Box<dyn FnMut(Vec<u8>) + Send>;
/// Who is told that something may have been missed, or that something has happened.
pub(crate) type Again = Box<dyn FnMut() + Send>;

impl Remote {
    /// Ends the thread that talks to Redis, if it is one [`Redis::visit`](super::Redis::visit) began. What is asked
    /// afterwards fails.
    pub fn close(&self) {
        if self.life.is_some() {
            self.queue.close();
        }
    }

    /// What all keys begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How many replicas have to be connected for what must not be forgotten.
    pub(crate) fn min_replicas(&self) -> usize {
        self.min_replicas
    }

    /// Runs a script on the server where `keys[0]` lives. `done` is called on the thread that talks to Redis,
    /// exactly once; it must not block. What a script answers with an error is [`Failure::Refused`].
    pub(crate) fn run(
        &self,
        script: &'static Script,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
        done: impl FnOnce(Result<Value, Failure>) + Send + 'static,
    ) {
        let job = Job::Run { script, keys, args, done: Box::new(done) };
        if let Err(Job::Run { done, .. }) = self.queue.push(job) {
            done(Err(Failure::Away));
        }
    }

    /// Listens to a channel, on the server where a key of this name lives, for as long as the process runs. `heard`
    /// gets each payload; `again` is called after every subscription, when something may have been missed. Once for each
    /// channel.
    pub(crate) fn listen(
        &self,
        channel: String,
        heard: impl FnMut(Vec<u8>) + Send + 'static,
        again: impl FnMut() + Send + 'static,
    ) {
        let (heard, again) = (Box::new(heard), Box::new(again));
        let _ = self.queue.push(Job::Listen { channel, heard, again });
    }

    /// The registry says that a node is dead.
    pub(crate) fn dead(&self, node: NodeId) {
        let _ = self.queue.push(Job::Dead(node));
    }

    /// The registry says which nodes there are.
    pub(crate) fn alive(&self, nodes: Vec<NodeId>) {
        let _ = self.queue.push(Job::Alive(nodes));
    }

    /// This node was taken for dead, and has this name from now on.
    pub(crate) fn reborn(&self, node: NodeId) {
        let _ = self.queue.push(Job::Reborn(node));
    }

    /// Calls back, on the thread that talks to Redis, whenever a room says that this node was taken for dead.
    pub(crate) fn on_fenced(&self, fenced: impl FnMut() + Send + 'static) {
        let _ = self.queue.push(Job::OnFenced(Box::new(fenced)));
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl Script {
    /// `source` begins with `#!lua`, and with the flags of the script if it has any.
    pub(crate) const fn new(source: &'static str) -> Self {
        Self { source, hash: OnceLock::new() }
    }

    /// What Redis calls it.
    pub(crate) fn hash(&self) -> &str {
        self.hash.get_or_init(|| {
            let hash = Sha1::digest(self.source.as_bytes());
            hash.iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("hash", &self.hash()).finish_non_exhaustive()
    }
}
