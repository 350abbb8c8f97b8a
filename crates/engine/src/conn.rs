//! One connection: what it is, and how it ends. What comes in is in `input`, what goes out in
//! `output`, what it may cost in `bounds`.

mod bounds;
mod input;
mod output;

use std::sync::Arc;

pub(crate) use bounds::Bill;
use bytes::Bytes;
use throng_hub::Timestamp;
use throng_wire::{Decoder, Deflate, Deflater, Role};

use crate::admission::Permit;
use crate::outbox::{Backlog, Outbox};
use crate::policy::Policy;
use crate::session::{Guest, Opening, Session};
use crate::transport::Transport;
use crate::wheel::{Coarse, ConnId};

/// A connection on its way to a worker.
pub(crate) struct Arrival {
    pub(crate) transport: Transport,
    /// Bytes the front has already read behind the handshake.
    pub(crate) read_ahead: Bytes,
    pub(crate) opening: Opening,
    pub(crate) policy: Arc<Policy>,
    pub(crate) deflate: Option<Deflate>,
    pub(crate) permit: Option<Permit>,
    pub(crate) companion: Option<Box<dyn Send>>,
}

/// A connection on a worker. Some 230 bytes, and no heap of its own while idle.
pub(crate) struct Conn {
    transport: Transport,
    outbox: Option<Box<Outbox>>,
    decoder: Decoder,
    policy: Arc<Policy>,
    pub(crate) session: Session,
    /// Where the worker finds this connection in the member lists of its rooms.
    pub(crate) places: Vec<Place>,
    phase: Phase,
    deflate: Option<Deflate>,
    reading: Reading,
    /// It is on the worker's list of those to be read again.
    pub(crate) queued: bool,
    /// Something was posted to an empty outbox and has not been tried yet.
    posted: bool,
    /// The worker has taken it out of its rooms.
    parted: bool,
    /// A pong waits in the outbox.
    pong_waits: bool,
    /// Its endpoint has no rates.
    unlimited: bool,
    /// What is being handled has been paid for.
    paid: bool,
    /// It is behind in a room that keeps the latest messages for it.
    pub(crate) lags: bool,
    /// It is not in its user's own room, which could not be opened.
    pub(crate) homeless: bool,
    /// How it ended, as far as is known.
    farewell: Farewell,
    id: ConnId,
    /// When something last came from the peer, or it last took something it was owed.
    heard: Coarse,
    /// When the last ping went out.
    pinged: Coarse,
    /// Since when something is incomplete; 0 when nothing is.
    partial: Coarse,
    /// When the worker looks at it next, for what is in `bounds`; 0 for never.
    watched: Coarse,
    meters: bounds::Meters,
    /// What the budget knows of.
    accounted: usize,
    rare: Option<Box<Rare>>,
    permit: Option<Permit>,
}

/// A membership: which of the worker's rooms, and where in its list.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) room: u32,
    pub(crate) at: u32,
}

/// What few connections have.
#[derive(Default)]
struct Rare {
    /// Input that has been read but not handled: its answers are not being taken, or it is the
    /// others' turn.
    stash: Vec<u8>,
    /// Our compression context, where takeover was agreed.
    deflater: Option<Deflater>,
    /// What was refused.
    abuse: Option<Box<bounds::Abuse>>,
    /// Until when nothing is read.
    until: Coarse,
    /// Tells handles what waits.
    backlog: Option<Arc<Backlog>>,
    /// Who has signed in, where the session does not ask.
    guest: Option<Guest>,
    /// The message that is handled again when what it needs is there.
    parked: Option<Vec<u8>>,
    /// The peer's close frame, for the handler.
    farewell: Option<(u16, Box<str>)>,
    /// See [`Handover::companion`](crate::Handover::companion).
    companion: Option<Box<dyn Send>>,
    /// Since when it is not in its user's own room.
    homeless: Option<Timestamp>,
}

impl Rare {
    fn with_companion(companion: Box<dyn Send>) -> Box<Self> {
        let mut rare = Box::<Self>::default();
        rare.companion = Some(companion);
        rare
    }
}

impl Drop for Rare {
    fn drop(&mut self) {
        if let Some(backlog) = &self.backlog {
            backlog.end();
        }
    }
}

/// The life of a connection after the handshake (RFC 6455 §7).
///
/// ```text
///            we close              peer's Close
///   Open ──────────────▶ Closing ───────────────▶ Finishing ──▶ Dead
///    │  │ peer's Close: answered                      ▲   (all written)
///    │  └─────────────────────────────────────────────┘
///    │ peer breaks the protocol: Close sent, then FIN
///    └──────────────▶ Failing ──▶ Dead   (peer's FIN, or the deadline)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages travel.
    Open,
    /// We have sent a close frame and wait for the peer's until the deadline.
    Closing(Coarse),
    /// Both close frames are exchanged; the socket closes as soon as ours is written.
    Finishing(Coarse),
    /// We have sent a close frame because the peer is at fault, and FIN behind it. What still
    /// comes is read and thrown away: closing a socket with unread input would reset it, and
    /// the peer might never see why.
    Failing(Coarse),
    /// Nothing more will happen; the worker removes it.
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Input is handled as it comes.
    On,
    /// Input that was put aside is handled before more is read.
    Deferred,
    /// The peer does not take its answers; nothing is read until it does.
    Paused,
    /// Something the session needs is on its way; nothing is read until it is there.
    Parked,
    /// The peer sends too fast; nothing is read for a while.
    Throttled,
}

/// How a connection ends, for its rooms and its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Without a word, or we had to let go: it may be back.
    Lost,
    /// The peer is going away (`1001`), as a page does that is left or reloaded: the user is no longer
    /// here, the session may be taken up again.
    Away,
    /// For good.
    Over,
}

/// Whether a socket may have more to read than was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    No,
    Maybe,
}

impl Conn {
    pub(crate) fn new(arrival: Arrival, id: ConnId, now: Coarse) -> (Self, Bytes, Opening) {
        let unlimited = arrival.policy.rate.is_none() && arrival.policy.bytes_rate.is_none();
        let conn = Self {
            unlimited,
            transport: arrival.transport,
            outbox: None,
            decoder: Decoder::new(Role::Server, arrival.deflate),
            policy: arrival.policy,
            session: Session::None,
            places: Vec::new(),
            phase: Phase::Open,
            deflate: arrival.deflate,
            reading: Reading::On,
            queued: false,
            posted: false,
            parted: false,
            pong_waits: false,
            paid: false,
            lags: false,
            homeless: false,
            farewell: Farewell::Lost,
            id,
            heard: now,
            pinged: 0,
            partial: 0,
            watched: 0,
            meters: bounds::Meters::default(),
            accounted: 0,
            rare: arrival.companion.map(Rare::with_companion),
            permit: arrival.permit,
        };
        (conn, arrival.read_ahead, arrival.opening)
    }

    /// The right to be connected, which says for whom rooms count.
    pub(crate) fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    pub(crate) fn id(&self) -> ConnId {
        self.id
    }

    pub(crate) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether frames compressed for everybody may be sent to this connection: its peer takes
    /// them, with the largest window, and no compression context of its own is in use.
    pub(crate) fn takes_shared_deflate(&self) -> bool {
        self.deflate.is_some_and(|deflate| {
            let outgoing = deflate.outgoing(Role::Server);
            !outgoing.takeover && outgoing.window_bits == 15
        })
    }

    /// Bytes that wait for the peer.
    pub(crate) fn buffered(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// The same with the bookkeeping, as the policy's limit counts it.
    pub(crate) fn owed(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.weight())
    }

    /// Whether anything waits for the peer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.outbox.is_some()
    }

    /// How it ended.
    pub(crate) fn farewell(&self) -> Farewell {
        self.farewell
    }

    /// Says how it ends.
    pub(crate) fn set_farewell(&mut self, farewell: Farewell) {
        self.farewell = farewell;
    }

    /// Whether it waits for something the session needs.
    pub(crate) fn is_parked(&self) -> bool {
        self.reading == Reading::Parked
    }

    pub(crate) fn heard(&self) -> Coarse {
        self.heard
    }

    pub(crate) fn pinged(&self) -> Coarse {
        self.pinged
    }

    /// What the peer said when it closed: `1005` for nothing, `1006` for no close frame at all.
    pub(crate) fn take_farewell(&mut self) -> (u16, Box<str>) {
        let farewell = self.rare.as_mut().and_then(|rare| rare.farewell.take());
        farewell.unwrap_or((1006, Box::default()))
    }

    /// Somebody has signed in to get here.
    pub(crate) fn set_guest(&mut self, guest: Option<Guest>) {
        if guest.is_some() {
            self.rare.get_or_insert_default().guest = guest;
        }
    }

    /// Who had signed in, now that the connection has ended.
    pub(crate) fn take_guest(&mut self) -> Option<Guest> {
        self.rare.as_mut()?.guest.take()
    }

    /// What handles read.
    pub(crate) fn backlog(&mut self) -> Arc<Backlog> {
        let buffered = self.buffered();
        let rare = self.rare.get_or_insert_default();
        Arc::clone(rare.backlog.get_or_insert_with(|| Arc::new(Backlog::new(buffered))))
    }
}

/// How long a peer is given to finish the closing handshake, in steps of 50 ms: 5 s.
const CLOSE_PATIENCE: Coarse = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Conn>() <= 240, "{}", size_of::<Conn>());
        assert!(size_of::<Option<Permit>>() <= 48, "{}", size_of::<Option<Permit>>());
    }
}
