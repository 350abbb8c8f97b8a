//! What is asked of Redis about a room, and what it says: one step, one script, one command.
//!
//! Everything here is data. [`core`](super::core) decides what to ask and what follows from the
//! answers; `drive` carries it there and back; `script` writes and reads it.

use std::sync::Arc;

use bytes::Bytes;
use throng_hub::{Epoch, Identity, Timestamp};
use throng_protocol::Body;
use throng_wire::OpCode;

/// A room as Redis knows it: what stands between the braces of all its keys and names its channel. `lobby` for the room
/// `lobby` of the typed protocol, `#3/lobby` for that of the third space; no room's name has a `#`.
pub(crate) type Name = Arc<str>;

/// A run of a node: random, of 16 letters and digits; another one after it was taken for dead.
pub(crate) type NodeId = Arc<str>;

/// One step.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) room: Name,
    pub(crate) what: What,
}

/// What is asked. `fresh` is the epoch the room gets if it needs one: none is stored, or the server that answers is not
/// the one whose numbers they were (see `script`).
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Where the room is, what is left of its past, who is there. Answer: [`Told::Read`] with the roll.
    Open { fresh: Epoch, keep: Limits },
    /// Stores messages that have not been stored before. Answer: [`Told::Appended`].
    Append { fresh: Epoch, keep: Limits, entries: Vec<Entry> },
    /// Where the room is, and its messages behind `after`, at most `most`, oldest first. Those that are no longer kept
    /// are left out. `seats`: the state of the roll that is known; the roll is told if it is another one.
    /// Keeps the room's keys from expiring. Answer: [`Told::Read`].
    Read { fresh: Epoch, keep: Limits, after: u64, most: usize, seats: u64 },
    /// Users of this node come or go, in this order. Answer: [`Told::Seated`] or [`Told::Buried`].
    Seat { node: NodeId, keep: Limits, changes: Vec<Change> },
    /// A node is dead: its users are gone from this room, and nothing that it says later counts. Done once, however
    /// often it is asked. Answer: [`Told::Seated`].
    Bury { dead: NodeId, keep: Limits },
    /// To the members on other nodes, at most once. Answer: [`Told::Done`].
    Cast { node: NodeId, opcode: OpCode, payload: Bytes },
}

/// What is kept of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Messages.
    pub(crate) size: usize,
    /// Bytes of messages.
    pub(crate) bytes: usize,
    /// Milliseconds.
    pub(crate) ttl: u64,
    /// Replicas that have to be there for a message to be stored.
    pub(crate) replicas: usize,
}

/// A message on its way to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Which attempt this is, however often it is repeated: the node and a number of its own.
    pub(crate) origin: (NodeId, u64),
    /// The session that publishes; empty for none.
    pub(crate) session: Box<str>,
    /// Its `ref` there; 0 for none. With none, the origin says whether the message has been stored before.
    pub(crate) reference: u64,
    pub(crate) body: Body,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) timestamp: Timestamp,
    pub(crate) entry: Entry,
}

/// Somebody comes or goes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Here(Arc<Identity>),
    Gone(Box<str>),
}

/// Who is in a room, by node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roll {
    pub(crate) nodes: Vec<(NodeId, Vec<Arc<Identity>>)>,
}

/// Where a room is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) epoch: Epoch,
    /// The number of the last message.
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    /// Grows with each change of the roll.
    pub(crate) seats: u64,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// To [`What::Open`] and [`What::Read`].
    Read { at: At, past: Vec<Record>, roll: Option<Roll> },
    /// To [`What::Append`]: one for each entry, in the same order.
    Appended { epoch: Epoch, placed: Vec<Placed> },
    /// To [`What::Seat`] and [`What::Bury`]: the state of the roll after the last change.
    Seated { seats: u64 },
    /// To [`What::Seat`]: this node was taken for dead.
    Buried,
    /// To [`What::Cast`].
    Done,
    /// It was not done.
    Failed(Failure),
}

/// Where a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) seq: u64,
    pub(crate) timestamp: Timestamp,
    /// It was stored before.
    pub(crate) duplicate: bool,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Redis is not to be reached: nothing was sent.
    Away,
    /// Redis refused: out of memory, too few replicas, loading. Nothing was stored.
    Refused,
    /// The connection broke, or took too long, with the question under way: it may have been done.
    Unknown,
}

/// What comes on a room's channel. Everything that changes a room is told there by the script that
/// changes it, in the order of the changes; but what is on its way when a connection breaks is lost.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Messages were stored, one behind the other.
    Stored { epoch: Epoch, records: Vec<Record> },
    /// Users of a node came or went; `seats` is the state before the first of these changes.
    Seats { node: NodeId, seats: u64, changes: Vec<Change> },
    /// A node was buried; `seats` is the state after it.
    Buried { dead: NodeId, seats: u64 },
    /// A node passed something on.
    Cast { node: NodeId, opcode: OpCode, payload: Bytes },
}
