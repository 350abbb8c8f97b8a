//! Where rooms are kept: the seam between what happens in a room and where it is stored.
//!
//! A backend gives each message its number and stores it, in one atomic step for each room. The
//! hub does the rest: who may publish, what was published before (`ref`), who receives.
//!
//! ```text
//!   Hub::room ──▶ Backend::open ──▶ Opening::Ready            (memory)
//!                        └────────▶ Opening::Later … Sink::opened   (disk, network)
//!
//!   Order::publish ──▶ Log::append ──▶ Append::Done           deliver and acknowledge now
//!                          └─────────▶ Append::Later … Sink::appended, then the same
//! ```

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use throng_protocol::{Body, Publish, Timestamp};
use throng_wire::OpCode;

use crate::history::Kept;
use crate::identity::Identity;
use crate::room::{Epoch, Room};

/// Where rooms are kept.
///
/// # Contract
/// - **Order.** Of the messages appended to one room, those that are stored get the numbers 1, 2,
///   3 … without holes, in the order of the calls of [`Log::append`]. Their timestamps never
///   decrease.
/// - **Atomic.** A message is stored with its number, time, session and `ref`, or not at all.
///   What [`Sink::appended`] or [`Append::Done`] reports as stored survives whatever the backend
///   promises to survive; a number that was reported is never given to another message of the
///   same epoch.
/// - **Once.** The `ref` of a message that was stored outlives the message: it is known when the
///   room is opened again, for [`REMEMBERED`](crate::REMEMBERED) after its time.
/// - **Failure.** A message reported as [`Unavailable`] is not stored and never will be, and no
///   number is lost by it. (A backend beyond a network cannot promise this when the network fails under an append: such a
///   message may be stored all the same, and whoever repeats its `ref` is told so.) Every [`Append::Later`] is answered exactly once, also when the
///   backend ends. A failed append says nothing about the next one: the backend goes on trying.
/// - **Epoch.** The epoch of a room stays the same for as long as its numbers go on. A backend
///   that cannot go on from the last number it reported must open the room with another epoch.
/// - **Opening.** A room is opened once, before anything is appended, and closed by dropping its
///   [`Log`] or by [`Log::close`]; only then is it opened again.
///
/// # Cost
/// All methods are called under a room's order or a shard of the registry: they must not block,
/// and must not call the hub.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Says to whom results go that come later. Called once, before anything else.
    fn start(&self, sink: Arc<dyn Sink>);

    /// Opens a room: what is known of it, at once or later.
    fn open(&self, room: &Arc<Room>, now: Timestamp) -> Opening;

    /// Whether other nodes have the same rooms. Then volatile rooms and those of other spaces are opened, too, so
    /// that [`Log::cast`] can reach the others, and [`Log::seat`] and [`Log::unseat`] are told who is here.
    /// Default: no.
    fn is_shared(&self) -> bool {
        false
    }
}

/// What [`Backend::open`] answers.
#[derive(Debug)]
pub enum Opening {
    /// The room is open.
    Ready(Opened),
    /// [`Sink::opened`] will say.
    Later,
}

/// A room as its backend knows it.
#[derive(Debug)]
pub struct Opened {
    /// In which its numbers count.
    pub epoch: Epoch,
    /// The number of its last message; 0 before the first.
    pub seq: u64,
    /// When the last message was stored.
    pub time: Timestamp,
    /// What is left of its past.
    pub past: Past,
    /// The `ref`s of messages that are no longer in `past`, oldest first: of all whose session may still
    /// come back ([`REMEMBERED`](crate::REMEMBERED)), as far as they are not too many. Empty with
    /// [`Past::Kept`], which has them.
    pub refs: Vec<Used>,
    /// Who is there on other nodes, each user once.
    pub elsewhere: Vec<Arc<Identity>>,
    /// Where its messages go.
    pub log: Box<dyn Log>,
}

/// The messages a room is opened with.
#[derive(Debug)]
pub enum Past {
    /// There are none.
    None,
    /// The newest ones, oldest first and without holes, the last one numbered [`Opened::seq`];
    /// as many as the room's [`Rule`](crate::Rule) keeps.
    Stored(Vec<Stored>),
    /// What the hub gave to [`Log::close`].
    Kept(Box<Kept>),
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub timestamp: Timestamp,
    /// The session that published it; empty for none.
    pub session: Box<str>,
    /// Its `ref` there; 0 for none.
    pub reference: u64,
    /// What it says.
    pub body: Body,
}

/// A `ref` that a session has used, and the message it was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The session.
    pub session: Box<str>,
    /// The `ref`.
    pub reference: u64,
    /// The number of the message.
    pub seq: u64,
    /// Its time.
    pub timestamp: Timestamp,
}

/// Where the messages of one open room go.
pub trait Log: fmt::Debug + Send {
    /// Gives a message its number and stores it.
    fn append(&mut self, draft: &Draft<'_>, now: Timestamp) -> Append;

    /// Passes a frame on to the members on other nodes: at most once, and in no order with what others
    /// pass on. Default: there are no other nodes.
    fn cast(&mut self, opcode: OpCode, payload: &[u8]) {
        let _ = (opcode, payload);
    }

    /// A user is here now, on this node; called once until [`Log::unseat`].
    fn seat(&mut self, who: &Arc<Identity>) {
        let _ = who;
    }

    /// A user is no longer here, on this node.
    fn unseat(&mut self, user_id: &str) {
        let _ = user_id;
    }

    /// Asks for whatever other nodes have stored by now; [`Sink::looked`] says when it has come.
    fn look(&mut self) {}

    /// Whether what is known of the room is up to date, as far as can be known: `false` while the backend cannot be
    /// reached. Default: yes.
    fn is_current(&self) -> bool {
        true
    }

    /// Nobody needs the room at the moment. Nothing is on its way. A backend without a memory of its
    /// own may keep what it is given and open the room with it again; when it does not, the
    /// room's next epoch must be another one.
    fn close(self: Box<Self>, kept: Kept);
}

/// What [`Log::append`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// Stored.
    Done {
        /// The number: one more than the last.
        seq: u64,
        /// The time.
        timestamp: Timestamp,
    },
    /// [`Sink::appended`] will say.
    Later,
    /// Not stored: the backend cannot at the moment.
    Refused(Unavailable),
}

/// A message before it has its number. Borrowed: a backend that keeps nothing copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The room's name.
    pub room: &'a str,
    /// The id of the user who publishes.
    pub from: &'a str,
    /// The session that publishes; empty for none.
    pub session: &'a str,
    /// The `ref`; 0 for none.
    pub reference: u64,
    /// The message.
    pub message: &'a Publish<'a>,
    /// Who waits for an answer.
    pub asker: Asker,
}

impl Draft<'_> {
    /// What is to be stored: one allocation and a copy of the payload.
    pub fn body(&self) -> Body {
        Body::new(self.room, self.from, self.message)
    }
}

/// Who asked for something, and is told how it ended. The hub does not look inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The worker it is on.
    pub worker: u32,
    /// Which of the worker's it is.
    pub token: u64,
}

impl Asker {
    /// Nobody waits for an answer.
    pub const NOBODY: Self = Self { worker: u32::MAX, token: 0 };
}

/// Who gets the results that come later. Called from threads of the backend, one call at a time for
/// each room, without a lock that [`Log::append`] or [`Backend::open`] takes.
pub trait Sink: Send + Sync + 'static {
    /// A room is open, or cannot be opened at the moment.
    fn opened(&self, room: &Arc<Room>, result: Result<Opened, Unavailable>);

    /// Appended messages are stored, or not: in the order they were appended, for each room.
    /// The vector is emptied.
    fn appended(&self, outcomes: &mut Vec<Outcome>);

    /// Messages that other nodes have stored, behind the last one, oldest first and without holes. The vector
    /// is emptied.
    fn arrived(&self, room: &Arc<Room>, messages: &mut Vec<Stored>) {
        let _ = (room, messages);
    }

    /// The room does not go on from where it was: members have to be told.
    fn renewed(&self, room: &Arc<Room>, renewed: Renewed) {
        let _ = (room, renewed);
    }

    /// Who is there on other nodes has changed.
    fn elsewhere(&self, room: &Arc<Room>, news: Vec<Elsewhere>) {
        let _ = (room, news);
    }

    /// What there was when [`Log::look`] was called has come, or cannot be had at the moment. Once for each call, in their
    /// order.
    fn looked(&self, room: &Arc<Room>) {
        let _ = room;
    }

    /// Another node has [cast](Log::cast) this.
    fn cast(&self, room: &Arc<Room>, opcode: OpCode, payload: Bytes) {
        let _ = (room, opcode, payload);
    }
}

/// Where a room begins anew while it is open: its epoch has changed, or messages were lost on the way here that are
/// no longer kept.
#[derive(Debug)]
pub struct Renewed {
    /// In which its numbers count from now on.
    pub epoch: Epoch,
    /// The number of its last message.
    pub seq: u64,
    /// When that was stored.
    pub time: Timestamp,
    /// The newest messages, as [`Past::Stored`].
    pub past: Vec<Stored>,
}

/// What has changed of who is there on other nodes. A user is told once, on however many nodes.
#[derive(Clone, Debug)]
pub enum Elsewhere {
    /// A user is there.
    Here(Arc<Identity>),
    /// A user is there no longer.
    Gone(Box<str>),
    /// Exactly these are.
    All(Vec<Arc<Identity>>),
}

/// What became of a message that was appended with [`Append::Later`].
#[derive(Debug)]
pub struct Outcome {
    /// The room.
    pub room: Arc<Room>,
    /// As in the [`Draft`].
    pub asker: Asker,
    /// As in the [`Draft`].
    pub session: Box<str>,
    /// As in the [`Draft`].
    pub reference: u64,
    /// What it says.
    pub body: Body,
    /// Its number and time.
    pub result: Result<(u64, Timestamp), Unavailable>,
    /// It was stored before, with this number: on another node, or by an attempt whose answer was lost. Members have it, or
    /// get it by [`Sink::arrived`]; only whoever asked is answered.
    pub duplicate: bool,
}

/// The backend cannot do this at the moment: the disk is full or read-only, the network is away.
/// Nothing was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the room cannot be kept at the moment")
    }
}

impl std::error::Error for Unavailable {}
