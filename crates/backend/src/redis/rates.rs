//! What users spend on all nodes together.

use std::fmt;
use std::time::Duration;

use redis::Value;

use super::remote::{Remote, Script};

/// Adds up what users spend of a rate on different nodes.
///
/// All by the clock of Redis. A user takes some 100 bytes there until what was spent is there again.
#[derive(Clone)]
pub struct Rates {
    remote: Remote,
}

impl Rates {
    pub(crate) fn new(remote: Remote) -> Self {
        Self { remote }
    }

    /// A user has spent something here, which takes `spent` to be there again. `done` is told how long everything takes
    /// that was spent anywhere, on the thread that talks to Redis; not at all when Redis cannot be reached.
    pub fn spend(&self, user: &str, spent: Duration, done: impl FnOnce(Duration) + Send + 'static) {
        let key = vec![format!("{}:{{#u:{user}}}", self.remote.prefix())];
        let spent = spent.min(LONGEST).as_micros().max(1).to_string().into_bytes();
        self.remote.run(&SPEND, key, vec![spent], move |answer| {
            if let Ok(Value::Int(ahead)) = answer {
                done(Duration::from_micros(u64::try_from(ahead).unwrap_or(0)));
            }
        });
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

/// More is not remembered.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

static SPEND: Script = Script::new(include_str!("script/spend.lua"));
