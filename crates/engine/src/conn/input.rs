//! What comes in on a connection: bytes become events, events go to the session.

use std::io::{self, Read};

use throng_wire::decode::Event;
use throng_wire::{CloseCode, CloseFrame, Kind, OpCode, ProtocolError, Scratch};

use super::output::encode_close_cut;
use super::{CLOSE_PATIENCE, Conn, Farewell, More, Phase, Reading};
use crate::engine::Shared;
use crate::session::Session;
use crate::tick::{Out, Tick};
use crate::wheel::Coarse;

/// Answers gathered beyond this are written before the next message is handled.
const CORK_LIMIT: usize = 64 << 10;
/// Payload of this many bytes is handled in one go; then it is the others' turn. Matters where a
/// little input is a lot of payload, that is, with compression.
const TURN_LIMIT: usize = 1 << 20;

impl Conn {
    /// Reads once and handles what came; answers leave in one write. One read, so that nobody
    /// keeps the worker from the others.
    ///
    /// `hung_up`: the peer may have sent FIN behind what is read, so that a short read is not
    /// the end.
    pub(crate) fn readable(&mut self, tick: &mut Tick, shared: &Shared, hung_up: bool) -> More {
        match self.reading {
            Reading::On => {}
            Reading::Paused | Reading::Parked | Reading::Throttled => return More::No,
            Reading::Deferred => {
                self.ingest_stash(tick, shared);
                return self.more();
            }
        }
        let mut buffer = std::mem::take(&mut tick.read);
        let read = loop {
            match self.transport.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let more = match read {
            // What it is still owed after both close frames is written first.
            Ok(0) if matches!(self.phase, Phase::Finishing(_)) && self.is_waiting() => More::No,
            Ok(0) => {
                self.phase = Phase::Dead;
                More::No
            }
            Ok(read) => {
                self.heard = tick.out.coarse;
                tick.out.counters.bytes_in.add(read as u64);
                self.ingest(&mut buffer[..read], tick, shared);
                let short = read < buffer.len() && !hung_up && !self.transport.has_more();
                if short && self.reading == Reading::On { More::No } else { self.more() }
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.phase = Phase::Dead;
                }
                if self.transport.has_more() { self.more() } else { More::No }
            }
        };
        tick.read = buffer;
        more
    }

    fn more(&self) -> More {
        let held_back =
            matches!(self.reading, Reading::Paused | Reading::Parked | Reading::Throttled);
        if self.phase == Phase::Dead || held_back { More::No } else { More::Maybe }
    }

    /// Whether input waits that was read but not handled, for its turn to come.
    pub(crate) fn is_deferred(&self) -> bool {
        self.reading == Reading::Deferred
    }

    /// It is not read from for reasons of ours, which must not count as its silence.
    pub(crate) fn excuse(&mut self, now: Coarse) {
        self.heard = now;
        if self.partial != 0 {
            self.partial = now.max(1);
        }
    }

    /// Handles bytes from the peer, unmasking them in place.
    pub(crate) fn ingest(&mut self, chunk: &mut [u8], tick: &mut Tick, shared: &Shared) {
        let Tick { scratch, out, .. } = tick;
        let rest = self.handle_chunk(chunk, scratch, out, shared);
        if !rest.is_empty() {
            if self.reading == Reading::On {
                self.reading = Reading::Deferred;
            }
            let stash = &mut self.rare.get_or_insert_default().stash;
            debug_assert!(stash.is_empty());
            stash.extend_from_slice(rest);
        }
        self.check_partial(out, shared);
        Session::catch_up(self, out, shared);
        self.flush_cork(out);
        self.check_taken(out);
    }

    /// Puts a message aside that cannot be handled before [`Conn::unpark`]. What comes behind it waits,
    /// too.
    pub(crate) fn park(&mut self, message: Option<&[u8]>) {
        self.reading = Reading::Parked;
        if let Some(message) = message {
            self.rare.get_or_insert_default().parked = Some(message.to_vec());
        }
    }

    /// What the session waits for is there, or is not to come. Read the socket afterwards, for what came in
    /// between announced itself in vain.
    pub(crate) fn unpark(&mut self, tick: &mut Tick, shared: &Shared) {
        if self.reading != Reading::Parked {
            return;
        }
        self.reading = Reading::On;
        let parked = self.rare.as_mut().and_then(|rare| rare.parked.take());
        // A connection that is closing has left its rooms, and must not come into any again.
        if self.is_open() {
            match parked {
                Some(mut message) => {
                    self.paid = true;
                    Session::message(self, Kind::Text, &mut message, &mut tick.out, shared);
                    self.paid = false;
                }
                None => Session::reopen(self, &mut tick.out, shared),
            }
        }
        if self.reading == Reading::On {
            self.ingest_stash(tick, shared);
        }
        Session::catch_up(self, &mut tick.out, shared);
        self.flush_cork(&mut tick.out);
    }

    /// Hands out more of the past, now that the peer has taken some.
    pub(crate) fn catch_up(&mut self, tick: &mut Tick, shared: &Shared) {
        if self.session.is_behind() {
            Session::catch_up(self, &mut tick.out, shared);
            self.flush_cork(&mut tick.out);
        }
    }

    /// Handles what was put aside.
    fn ingest_stash(&mut self, tick: &mut Tick, shared: &Shared) {
        self.reading = Reading::On;
        let stash = self.rare.as_mut().map(|rare| std::mem::take(&mut rare.stash));
        self.ingest(&mut stash.unwrap_or_default(), tick, shared);
    }

    /// Returns what was left unhandled because the peer does not take its answers, because it is
    /// the others' turn, or because the workers can't keep up with what is published.
    fn handle_chunk<'a>(
        &mut self,
        mut chunk: &'a mut [u8],
        scratch: &mut Scratch,
        out: &mut Out,
        shared: &Shared,
    ) -> &'a mut [u8] {
        let mut handled = 0;
        while !chunk.is_empty() {
            if matches!(self.phase, Phase::Failing(_) | Phase::Finishing(_) | Phase::Dead) {
                return &mut [];
            }
            if matches!(self.reading, Reading::Parked | Reading::Throttled) {
                return chunk;
            }
            let consumed = match self.decoder.next(&self.policy.limits, chunk, scratch) {
                Ok(step) => {
                    let consumed = step.consumed;
                    match step.event {
                        Some(event) => {
                            if let Event::Message { payload, .. } = &event {
                                handled += payload.len();
                            }
                            self.handle_event(event, out, shared);
                        }
                        None => {
                            self.pay_slivers(out);
                            return &mut [];
                        }
                    }
                    self.pay_slivers(out);
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
            if handled > TURN_LIMIT || shared.congestion.any() && self.session.publishes() {
                return chunk;
            }
        }
        chunk
    }

    #[inline]
    fn handle_event(&mut self, event: Event<'_>, out: &mut Out, shared: &Shared) {
        match event {
            Event::Message { kind, payload } => {
                out.counters.messages_in.add(1);
                self.partial = 0;
                if self.is_open() {
                    // A client of the typed protocol pays for what it turns out to be.
                    if !self.unlimited && !self.session.refuses() {
                        self.pay(1, payload.len(), out);
                    }
                    Session::message(self, kind, payload, out, shared);
                }
            }
            Event::Ping(payload) | Event::Pong(payload) if !self.pay_control(payload, out) => {}
            Event::Ping(payload) => {
                self.answer_ping(payload, out);
                Session::ping(self, payload, out, shared);
            }
            Event::Pong(payload) => Session::pong(self, payload, out, shared),
            Event::Close(frame) => self.handle_close(frame, out),
        }
    }

    /// Whether a control frame is to be handled.
    fn pay_control(&mut self, payload: &[u8], out: &mut Out) -> bool {
        let paid = self.is_open() && self.pay(1, payload.len(), out);
        if !paid && self.is_open() {
            out.counters.control_ignored.add(1);
        }
        paid
    }

    /// At most one pong waits for a peer: an older one answers for the newer ones (RFC 6455 §5.5.3).
    fn answer_ping(&mut self, payload: &[u8], out: &mut Out) {
        if self.outbox.is_some() && (self.pong_waits || out.pong_corked) {
            out.counters.control_ignored.add(1);
        } else {
            self.send(out, OpCode::Pong, payload);
            out.pong_corked = true;
        }
    }

    /// Parts of messages that are so small that they cost more than they carry.
    #[inline]
    fn pay_slivers(&mut self, out: &mut Out) {
        let slivers = self.decoder.take_slivers();
        if slivers > 0 && self.is_open() {
            self.pay(slivers, 0, out);
        }
    }

    fn handle_close(&mut self, frame: Option<CloseFrame<'_>>, out: &mut Out) {
        if self.is_open() {
            // Echo the code, as is customary (RFC 6455 §5.5.1).
            let code = frame.as_ref().map(|frame| frame.code);
            encode_close_cut(&mut out.cork, code, "");
        }
        self.farewell = match frame.as_ref().map(|frame| u16::from(frame.code)) {
            Some(1001) => Farewell::Away,
            None | Some(1000) => Farewell::Over,
            Some(_) => Farewell::Lost,
        };
        if self.session.wants_farewell() {
            let farewell = frame
                .map_or((1005, Box::default()), |frame| (frame.code.into(), frame.reason.into()));
            self.rare.get_or_insert_default().farewell = Some(farewell);
        }
        self.phase = Phase::Finishing(out.coarse + CLOSE_PATIENCE);
    }

    /// The peer broke the protocol or a limit: says so, sends FIN and reads no more messages
    /// (RFC 6455 §7.1.7).
    pub(super) fn fail(&mut self, error: &ProtocolError, out: &mut Out, shared: &Shared) {
        out.counters.protocol_errors.add(1);
        if self.is_open() {
            Session::error(self, error, out, shared);
        }
        self.break_off(out, error.close_code(), &error.to_string());
    }

    /// The same for other reasons to hear no more of a peer: says so, sends FIN and throws away what still
    /// comes.
    pub(super) fn break_off(&mut self, out: &mut Out, code: CloseCode, reason: &str) {
        if self.is_open() {
            encode_close_cut(&mut out.cork, Some(code), reason);
        }
        self.flush_cork(out);
        if self.phase != Phase::Dead {
            if self.outbox.is_none() {
                self.transport.finish();
            }
            self.phase = Phase::Failing(out.coarse + CLOSE_PATIENCE);
        }
        // What still comes is read, to be thrown away.
        self.reading = Reading::On;
        if let Some(rare) = &mut self.rare {
            (rare.stash, rare.parked) = (Vec::new(), None);
        }
    }

    /// Goes on with a peer that has paid. `More::Maybe`: as [`Conn::resume`].
    pub(crate) fn unthrottle(&mut self, tick: &mut Tick, shared: &Shared) -> More {
        self.excuse(tick.out.coarse);
        self.ingest_stash(tick, shared);
        self.more()
    }

    /// Goes on with a peer that has taken what it was owed. `More::Maybe`: read the socket too,
    /// for what came in between announced itself in vain.
    pub(crate) fn resume(&mut self, tick: &mut Tick, shared: &Shared) -> More {
        if self.reading != Reading::Paused {
            return More::No;
        }
        self.ingest_stash(tick, shared);
        self.more()
    }

    /// Stops reading while more than the outbox may hold waits for the peer.
    fn check_taken(&mut self, out: &Out) {
        let reading = matches!(self.reading, Reading::On | Reading::Deferred);
        // Only what waits for the peer can make it wait: nothing else would wake it again.
        let full = self.owed() > self.policy.outbox || self.is_waiting() && self.is_over_budget();
        if reading && full {
            self.reading = Reading::Paused;
            out.counters.paused.add(1);
        }
    }
}
