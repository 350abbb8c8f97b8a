//! One connection: bytes in, frames out, and how it ends.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use throng_wire::decode::Event;
use throng_wire::frame::{encode, encode_close, encode_compressed, header};
use throng_wire::{
    CloseCode, CloseFrame, Decoder, Deflate, Deflater, OpCode, ProtocolError, Role, Scratch,
};

use crate::admission::Permit;
use crate::engine::Shared;
use crate::outbox::Outbox;
use crate::policy::{Policy, SlowPolicy, TOO_SLOW};
use crate::session::{Opening, Session};
use crate::tick::{Out, Tick};
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
}

/// A connection on a worker. Some 250 bytes, and no heap of its own while idle.
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
    /// Something was posted to an empty outbox and has not been tried yet.
    posted: bool,
    /// The worker has taken it out of its rooms.
    parted: bool,
    id: ConnId,
    /// When something last came from the peer, or it last took something it was owed.
    heard: Coarse,
    /// When the last ping went out.
    pinged: Coarse,
    rare: Option<Box<Rare>>,
    _permit: Option<Permit>,
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
    /// Input that has been read but not handled, because its answers are not being taken.
    stash: Vec<u8>,
    /// Our compression context, where takeover was agreed.
    deflater: Option<Deflater>,
    /// Mirrors [`Conn::buffered`] for handles.
    shared_buffered: Option<Arc<AtomicUsize>>,
    /// The peer's close frame, for the handler.
    farewell: Option<(u16, Box<str>)>,
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
    /// The peer does not take its answers; nothing is read until it does.
    Paused,
}

/// Whether a socket may have more to read than was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    No,
    Maybe,
}

/// Answers gathered beyond this are written before the next message is handled.
const CORK_LIMIT: usize = 64 << 10;
/// Messages from this size on are written straight from where they lie.
const UNCOPIED: usize = 8 << 10;

impl Conn {
    pub(crate) fn new(arrival: Arrival, id: ConnId, now: Coarse) -> (Self, Bytes, Opening) {
        let conn = Self {
            transport: arrival.transport,
            outbox: None,
            decoder: Decoder::new(Role::Server, arrival.deflate),
            policy: arrival.policy,
            session: Session::None,
            places: Vec::new(),
            phase: Phase::Open,
            deflate: arrival.deflate,
            reading: Reading::On,
            posted: false,
            parted: false,
            id,
            heard: now,
            pinged: 0,
            rare: None,
            _permit: arrival.permit,
        };
        (conn, arrival.read_ahead, arrival.opening)
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

    /// Whether anything waits for the peer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.outbox.is_some()
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

    pub(crate) fn share_buffered(&mut self) -> Arc<AtomicUsize> {
        let buffered = self.buffered();
        let rare = self.rare.get_or_insert_default();
        let shared =
            rare.shared_buffered.get_or_insert_with(|| Arc::new(AtomicUsize::new(buffered)));
        Arc::clone(shared)
    }
}

/// Input.
impl Conn {
    /// Reads once and handles what came; answers leave in one write. One read, so that nobody
    /// keeps the worker from the others.
    ///
    /// `hung_up`: the peer may have sent FIN behind what is read, so that a short read is not
    /// the end.
    pub(crate) fn readable(&mut self, tick: &mut Tick, shared: &Shared, hung_up: bool) -> More {
        if self.reading == Reading::Paused {
            return More::No;
        }
        let mut buffer = std::mem::take(&mut tick.read);
        let read = loop {
            match self.transport.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let more = match read {
            Ok(0) => {
                self.phase = Phase::Dead;
                More::No
            }
            Ok(read) => {
                self.heard = tick.out.coarse;
                tick.out.counters.bytes_in.add(read as u64);
                self.ingest(&mut buffer[..read], tick, shared);
                let more = read == buffer.len() || hung_up;
                if more && self.phase != Phase::Dead && self.reading == Reading::On {
                    More::Maybe
                } else {
                    More::No
                }
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.phase = Phase::Dead;
                }
                More::No
            }
        };
        tick.read = buffer;
        more
    }

    /// It is not read from for reasons of ours, which must not count as its silence.
    pub(crate) fn excuse(&mut self, now: Coarse) {
        self.heard = now;
    }

    /// Handles bytes from the peer, unmasking them in place.
    pub(crate) fn ingest(&mut self, chunk: &mut [u8], tick: &mut Tick, shared: &Shared) {
        let Tick { scratch, out, .. } = tick;
        let rest = self.handle_chunk(chunk, scratch, out, shared);
        if !rest.is_empty() && self.reading == Reading::Paused {
            let stash = &mut self.rare.get_or_insert_default().stash;
            debug_assert!(stash.is_empty());
            stash.extend_from_slice(rest);
        }
        self.flush_cork(out);
        self.check_taken(out);
    }

    /// Returns what was left unhandled because the peer does not take its answers.
    fn handle_chunk<'a>(
        &mut self,
        mut chunk: &'a mut [u8],
        scratch: &mut Scratch,
        out: &mut Out,
        shared: &Shared,
    ) -> &'a mut [u8] {
        while !chunk.is_empty() {
            if matches!(self.phase, Phase::Failing(_) | Phase::Finishing(_) | Phase::Dead) {
                return &mut [];
            }
            let consumed = match self.decoder.next(&self.policy.limits, chunk, scratch) {
                Ok(step) => {
                    let consumed = step.consumed;
                    match step.event {
                        Some(event) => self.handle_event(event, out, shared),
                        None => return &mut [],
                    }
                    consumed
                }
                Err(error) => {
                    self.fail(&error, out, shared);
                    return &mut [];
                }
            };
            chunk = &mut chunk[consumed..];
            if out.cork.len() > CORK_LIMIT {
                self.flush_cork(out);
            }
            if self.outbox.is_some() {
                self.check_taken(out);
                if self.reading == Reading::Paused {
                    return chunk;
                }
            }
        }
        chunk
    }

    #[inline]
    fn handle_event(&mut self, event: Event<'_>, out: &mut Out, shared: &Shared) {
        match event {
            Event::Message { kind, payload } => {
                out.counters.messages_in.add(1);
                if self.is_open() {
                    Session::message(self, kind, payload, out, shared);
                }
            }
            Event::Ping(payload) => {
                if self.is_open() {
                    self.send(out, OpCode::Pong, payload);
                    Session::ping(self, payload, out, shared);
                }
            }
            Event::Pong(payload) => {
                if self.is_open() {
                    Session::pong(self, payload, out, shared);
                }
            }
            Event::Close(frame) => self.handle_close(frame, out),
        }
    }

    fn handle_close(&mut self, frame: Option<CloseFrame<'_>>, out: &mut Out) {
        if self.is_open() {
            // Echo the code, as is customary (RFC 6455 §5.5.1).
            let code = frame.as_ref().map(|frame| frame.code);
            encode_close_cut(&mut out.cork, code, "");
        }
        if self.session.wants_farewell() {
            let farewell = frame
                .map_or((1005, Box::default()), |frame| (frame.code.into(), frame.reason.into()));
            self.rare.get_or_insert_default().farewell = Some(farewell);
        }
        self.phase = Phase::Finishing(out.coarse + CLOSE_PATIENCE);
    }

    /// The peer broke the protocol or a limit: says so, sends FIN and reads no more messages
    /// (RFC 6455 §7.1.7).
    fn fail(&mut self, error: &ProtocolError, out: &mut Out, shared: &Shared) {
        out.counters.protocol_errors.add(1);
        if self.is_open() {
            Session::error(self, error, out, shared);
        }
        if self.is_open() {
            encode_close_cut(&mut out.cork, Some(error.close_code()), &error.to_string());
        }
        self.flush_cork(out);
        if self.phase != Phase::Dead {
            if self.outbox.is_none() {
                self.transport.finish();
            }
            self.phase = Phase::Failing(out.coarse + CLOSE_PATIENCE);
        }
    }

    /// Goes on with a peer that has taken what it was owed. `More::Maybe`: read the socket too,
    /// for what came in between announced itself in vain.
    pub(crate) fn resume(&mut self, tick: &mut Tick, shared: &Shared) -> More {
        if self.reading == Reading::On {
            return More::No;
        }
        self.reading = Reading::On;
        let mut stash = match &mut self.rare {
            Some(rare) => std::mem::take(&mut rare.stash),
            None => Vec::new(),
        };
        self.ingest(&mut stash, tick, shared);
        if self.reading == Reading::On { More::Maybe } else { More::No }
    }

    /// Stops reading while more than the outbox may hold waits for the peer.
    fn check_taken(&mut self, out: &Out) {
        if self.buffered() > self.policy.outbox && self.reading == Reading::On {
            self.reading = Reading::Paused;
            out.counters.paused.add(1);
        }
    }
}

/// How long a peer is given to finish the closing handshake, in steps of 50 ms: 5 s.
const CLOSE_PATIENCE: Coarse = 100;

/// Output.
impl Conn {
    /// Answers the peer: appended to the cork, compressed where agreed and worth it. Ignored
    /// once closing has begun.
    #[inline]
    pub(crate) fn send(&mut self, out: &mut Out, opcode: OpCode, payload: &[u8]) {
        if !self.is_open() {
            return;
        }
        if matches!(opcode, OpCode::Text | OpCode::Binary) {
            out.counters.messages_out.add(1);
            if self.deflate.is_some() && self.send_deflated(out, opcode, payload) {
                return;
            }
        }
        if payload.len() >= UNCOPIED {
            return self.send_uncopied(out, opcode, payload);
        }
        encode(&mut out.cork, opcode, payload, None);
    }

    /// `false` when the payload is not worth compressing.
    fn send_deflated(&mut self, out: &mut Out, opcode: OpCode, payload: &[u8]) -> bool {
        let (Some(deflate), Some(options)) = (self.deflate, &self.policy.deflate) else {
            return false;
        };
        if payload.len() < options.threshold {
            return false;
        }
        let outgoing = deflate.outgoing(Role::Server);
        let Out { squeezed, deflaters, cork, .. } = out;
        squeezed.clear();
        if outgoing.takeover {
            let rare = self.rare.get_or_insert_default();
            let deflater = rare.deflater.get_or_insert_with(|| {
                Deflater::new(options.level, options.mem_level, outgoing.window_bits)
            });
            // Once in the context, it must be sent.
            deflater.compress_with_context(payload, squeezed);
        } else {
            deflaters.get(options, outgoing.window_bits).compress(payload, squeezed);
            if squeezed.len() >= payload.len() {
                return false;
            }
        }
        encode_compressed(cork, opcode, squeezed, None);
        true
    }

    /// A large message: written from where it lies, together with what is corked.
    fn send_uncopied(&mut self, out: &mut Out, opcode: OpCode, payload: &[u8]) {
        let head = header(true, false, opcode, payload.len(), None);
        let parts = [out.cork.as_slice(), head.as_slice(), payload];
        let total: usize = parts.iter().map(|part| part.len()).sum();
        out.counters.bytes_out.add(total as u64);
        let mut written = 0;
        if self.outbox.is_none() {
            match self.transport.write_vectored(&parts.map(IoSlice::new)) {
                Ok(n) => written = n,
                Err(error) if is_transient(&error) => {}
                Err(_) => return self.kill(),
            }
        }
        if written < total {
            let mut rest = Vec::with_capacity(total - written);
            for part in parts {
                let skip = written.min(part.len());
                rest.extend_from_slice(&part[skip..]);
                written -= skip;
            }
            self.enqueue(rest.into());
        }
        out.cork.clear();
    }

    /// Writes what the connection has answered.
    #[inline]
    pub(crate) fn flush_cork(&mut self, out: &mut Out) {
        if out.cork.is_empty() {
            return;
        }
        out.counters.bytes_out.add(out.cork.len() as u64);
        let written = match self.write_now(&out.cork) {
            Ok(written) => written,
            Err(_) => {
                out.cork.clear();
                return self.kill();
            }
        };
        if written < out.cork.len() {
            self.enqueue(Bytes::copy_from_slice(&out.cork[written..]));
        }
        out.cork.clear();
    }

    /// One attempt to write, unless something already waits. Returns how much was taken.
    #[inline]
    pub(crate) fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.outbox.is_some() {
            return Ok(0);
        }
        match self.transport.write(bytes) {
            Ok(written) => Ok(written),
            Err(error) if is_transient(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Adds to what waits for the socket to become writable.
    pub(crate) fn enqueue(&mut self, bytes: Bytes) {
        self.outbox.get_or_insert_default().push(bytes);
        self.mirror_buffered();
    }

    /// Adds a frame made elsewhere; it is tried at the end of the turn.
    pub(crate) fn post_frame(&mut self, frame: Bytes, out: &mut Out) {
        if !self.is_open() {
            return;
        }
        let is_control = frame.first().is_some_and(|first| first & 0x08 != 0);
        if !is_control {
            if self.buffered() > self.policy.outbox {
                return self.too_slow(1, out);
            }
            out.counters.messages_out.add(1);
        }
        self.posted |= self.outbox.is_none();
        out.counters.bytes_out.add(frame.len() as u64);
        self.enqueue(frame);
    }

    /// Frames that do not fit into the outbox meet the endpoint's policy.
    #[cold]
    pub(crate) fn too_slow(&mut self, frames: u64, out: &mut Out) {
        match self.policy.slow {
            SlowPolicy::Drop => out.counters.dropped.add(frames),
            SlowPolicy::Disconnect => {
                out.counters.slow_disconnects.add(1);
                self.begin_close(out, TOO_SLOW, "too slow a reader");
                self.flush_cork(out);
            }
        }
    }

    /// The socket takes more.
    pub(crate) fn writable(&mut self, out: &Out) {
        let Some(outbox) = &mut self.outbox else { return };
        let before = outbox.bytes();
        match outbox.write_to(&mut self.transport) {
            Ok(true) => self.outbox = None,
            Ok(false) => {}
            Err(_) => return self.kill(),
        }
        if self.buffered() < before {
            self.heard = out.coarse;
        }
        self.mirror_buffered();
        if let (Phase::Failing(_), None) = (self.phase, &self.outbox) {
            self.transport.finish();
        }
    }

    /// Whether the peer was paused and has taken half of what it was owed.
    pub(crate) fn may_resume(&self) -> bool {
        self.reading == Reading::Paused && self.buffered() <= self.policy.outbox / 2
    }

    fn mirror_buffered(&self) {
        if let Some(shared) = self.rare.as_ref().and_then(|rare| rare.shared_buffered.as_ref()) {
            shared.store(self.buffered(), Ordering::Relaxed);
        }
    }

    /// Starts the closing handshake, unless it has begun. `reason` is cut to 123 bytes.
    pub(crate) fn begin_close(&mut self, out: &mut Out, code: CloseCode, reason: &str) {
        self.begin_close_within(out, code, reason, CLOSE_PATIENCE);
    }

    /// The same with a patience of its own for the peer's answer.
    pub(crate) fn begin_close_within(
        &mut self,
        out: &mut Out,
        code: CloseCode,
        reason: &str,
        patience: Coarse,
    ) {
        if self.is_open() {
            encode_close_cut(&mut out.cork, Some(code), reason);
            self.phase = Phase::Closing(out.coarse + patience);
        }
    }

    /// Sends a ping of ours and remembers when.
    pub(crate) fn heartbeat(&mut self, out: &mut Out) {
        self.pinged = out.coarse;
        self.send(out, OpCode::Ping, &[]);
        self.flush_cork(out);
    }

    /// Ends the connection without another word.
    pub(crate) fn kill(&mut self) {
        self.phase = Phase::Dead;
    }

    /// `true` the first time: the connection is then no longer a member of anything.
    pub(crate) fn part(&mut self) -> bool {
        !std::mem::replace(&mut self.parted, true)
    }

    /// Tries what was posted, and turns a finished connection dead once everything is written.
    #[inline]
    pub(crate) fn settle(&mut self, out: &Out) {
        if std::mem::take(&mut self.posted) {
            self.writable(out);
        }
        if matches!(self.phase, Phase::Finishing(_)) && self.outbox.is_none() {
            self.phase = Phase::Dead;
        }
    }
}

fn encode_close_cut(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    // Infallible: the reason fits.
    let _ = encode_close(out, code, &reason[..end], None);
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Conn>() <= 208, "{}", size_of::<Conn>());
        assert!(size_of::<Option<Permit>>() <= 32, "{}", size_of::<Option<Permit>>());
    }
}
