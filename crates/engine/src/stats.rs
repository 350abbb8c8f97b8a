//! Plain counters, one set for each worker, summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one worker. Only that worker writes them, so an increment is a
        /// plain load and store.
        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Count,)*
        }

        /// What all workers have counted since the start, at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Connections open now, those still in the closing handshake included.
            pub connections: u64,
            /// Connections that count for the caps: those open, and those on their way to a worker
            /// or, over foreign IO, out of the front.
            pub admitted: u64,
            /// Rooms, event streams' and handlers' included.
            pub rooms: u64,
            /// Users with a connection of the typed protocol or an event stream.
            pub users: u64,
            /// Upgrades refused because the server was full.
            pub refused_total: u64,
            /// Upgrades refused because their address had too many connections.
            pub refused_per_ip: u64,
        }

        impl Stats {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
            }
        }
    };
}

counters! {
    /// Connections taken over after the handshake.
    opened,
    /// Connections that ended, however.
    closed,
    /// Data messages received.
    messages_in,
    /// Data messages written to sockets or queued for them, one for each receiver. What a room
    /// drops for a slow reader is in here, too.
    messages_out,
    /// Bytes read from sockets.
    bytes_in,
    /// Bytes written to sockets or queued for them.
    bytes_out,
    /// Connections failed for breaking the protocol (`1002`, `1007`, `1008`, `1009`).
    protocol_errors,
    /// Connections closed because they read too slowly.
    slow_disconnects,
    /// Frames dropped for slow readers.
    dropped,
    /// Connections terminated because nothing came back after a ping.
    heartbeat_timeouts,
    /// Times a connection was not read from because it did not take its answers.
    paused,
    /// Panics of an embedder's handler, each of which closed its connection with `1011`.
    handler_panics,
    /// Batches written to a room's members.
    flushes,
}

/// A number with one writer.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
