//! What a server has counted.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use crate::server::Refused;

/// Counters since the start, at one moment. Those of the workers are reached by dereferencing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    engine: throng_engine::Stats,
    /// Upgrades of paths that are not in the table (`404`).
    pub refused_path: u64,
    /// Malformed handshakes (`400`, `405`, `426`).
    pub refused_handshake: u64,
    /// Handshakes from pages of other origins (`403`).
    pub refused_origin: u64,
    /// Handshakes during a shutdown (`503`).
    pub refused_draining: u64,
}

impl Stats {
    pub(crate) fn new(engine: throng_engine::Stats, refused: &Refused) -> Self {
        Self {
            engine,
            refused_path: refused.path.load(Ordering::Relaxed),
            refused_handshake: refused.handshake.load(Ordering::Relaxed),
            refused_origin: refused.origin.load(Ordering::Relaxed),
            refused_draining: refused.draining.load(Ordering::Relaxed),
        }
    }
}

impl Deref for Stats {
    type Target = throng_engine::Stats;

    fn deref(&self) -> &Self::Target {
        &self.engine
    }
}
