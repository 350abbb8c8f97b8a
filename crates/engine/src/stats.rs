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
            /// Upgrades and event streams refused because their user had too many.
            pub refused_per_user: u64,
            /// Upgrades and event streams refused because their address came too often.
            pub refused_handshakes: u64,
            /// Upgrades refused because little memory was left.
            pub refused_memory: u64,
            /// Rooms refused because there were too many, or little memory was left.
            pub refused_rooms: u64,
            /// Rooms refused because one address had brought too many into being.
            pub refused_rooms_per_ip: u64,
            /// Rooms refused because one user had brought too many into being.
            pub refused_rooms_per_user: u64,
            /// Messages refused because there were too many in their room.
            pub room_rate_limited: u64,
            /// Messages refused because no memory was left for a room's past.
            pub overloaded: u64,
            /// Bytes kept for connections and rooms, as the memory budget counts them.
            pub memory: u64,
            /// The memory budget.
            pub memory_budget: u64,
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
    /// Messages of clients of the typed protocol refused because the client, or its user, sent too fast.
    rate_limited,
    /// Connections closed with `4429` because they went on although they were refused.
    rate_closed,
    /// Times a connection was not read from because it sent too fast.
    throttled,
    /// Pings and pongs not answered or handled: they came too fast, or a pong waited already.
    control_ignored,
    /// Connections closed with `1008` because a message took too long to arrive.
    partial_timeouts,
    /// Connections failed with `1009` because too much was kept for them.
    budget_exceeded,
    /// Connections closed with `1013` because no memory was left.
    memory_closed,
    /// Messages that a newer one took the place of, kept for slow members of a room.
    replaced,
    /// Time that workers were not asleep, in nanoseconds, that of all of them together.
    awake,
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
