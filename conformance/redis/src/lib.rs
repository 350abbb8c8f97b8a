//! Redis as tests need it: processes of their own on free ports, that can be killed, stopped, started
//! again with or without their data, failed over and resharded, and are gone when they are dropped.
//!
//! Needs `redis-server` 7.0 or later in the path; `THRONG_REDIS_SERVER` names another program, such as `valkey-server`.
//!
//! ```no_run
//! use throng_redis_rig::{Data, Server, Setup};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut server = Server::start(Setup::durable())?;
//! server.ask(&["SET", "key", "value"])?;
//! server.kill();
//! server.start_again(Data::Kept)?;
//! assert_eq!(server.ask(&["GET", "key"])?.text(), Some("value"));
//! # Ok(())
//! # }
//! ```

mod cluster;
mod papers;
mod port;
mod reply;
mod sentinel;
mod server;

pub use self::cluster::{Cluster, slot_of};
pub use self::papers::Papers;
pub use self::reply::Reply;
pub use self::sentinel::{NAME, Sentinels};
pub use self::server::{Data, Server, Setup};

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks again and again until something is so.
///
/// # Errors
/// When it is not so in half a minute; `what` says what was waited for.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !so() {
        if Instant::now() >= end {
            return Err(io::Error::other(format!("waited {PATIENCE:?} in vain: {what}")));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(30);
