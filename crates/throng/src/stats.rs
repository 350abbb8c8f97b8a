//! What a server has counted.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $total:ident),* $(,)?) => {
        /// Who was not let in, by reason.
        #[derive(Debug, Default)]
        pub(crate) struct Refused {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        /// Counters since the start, at one moment. Those of the workers are reached by dereferencing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            engine: throng_engine::Stats,
            $($(#[$doc])* pub $total: u64,)*
        }

        impl Stats {
            pub(crate) fn new(engine: throng_engine::Stats, refused: &Refused) -> Self {
                Self { engine, $($total: refused.$name.get(),)* }
            }
        }
    };
}

refusals! {
    /// Upgrades of paths that are not in the table (`404`).
    path => refused_path,
    /// Malformed handshakes (`400`, `405`, `426`).
    handshake => refused_handshake,
    /// Handshakes from pages of other origins (`403`).
    origin => refused_origin,
    /// Handshakes during a shutdown (`503`).
    draining => refused_draining,
    /// Tickets that never were, are used, or are out of date (`401`).
    ticket => refused_ticket,
    /// Tickets shown by another address than theirs (`401`).
    address => refused_address,
    /// Tokens that are not good (`401`).
    token => refused_token,
    /// Credentials that have been revoked (`401`).
    revoked => refused_revoked,
    /// Resume tokens that came too late, or never were any: a new session is begun instead.
    resume => refused_resume,
    /// Visitors without credentials where some are needed (`401`).
    anonymous => refused_anonymous,
    /// Those who may not be where they want to be, or are banned (`403`).
    forbidden => refused_forbidden,
    /// Credentials that nobody could look at (`503`).
    unavailable => refused_unavailable,
    /// Sessions that ended because their time was over (`4401`).
    expired => sessions_expired,
    /// Sessions that were ended by a revocation (`4401`).
    ended => sessions_revoked,
}

impl Deref for Stats {
    type Target = throng_engine::Stats;

    fn deref(&self) -> &Self::Target {
        &self.engine
    }
}
