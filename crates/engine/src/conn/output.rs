//! What goes out on a connection: the cork, the outbox, and the closing handshake.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;
use throng_hub::SlowPolicy;
use throng_wire::frame::{encode, encode_close, encode_compressed, header};
use throng_wire::{CloseCode, Deflater, OpCode, Role};

use super::{CLOSE_PATIENCE, Conn, Phase, Reading};
use crate::policy::TOO_SLOW;
use crate::tick::Out;
use crate::wheel::Coarse;

/// What may wait for a slow reader while the server's memory is short.
const TIGHT: usize = 64 << 10;

/// Messages from this size on are written straight from where they lie.
const UNCOPIED: usize = 8 << 10;

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
            self.pong_waits |= out.pong_corked;
        }
        out.pong_corked = false;
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
                out.pong_corked = false;
                return self.kill();
            }
        };
        if written < out.cork.len() {
            self.enqueue(Bytes::copy_from_slice(&out.cork[written..]));
            self.pong_waits |= out.pong_corked;
        }
        out.pong_corked = false;
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
        if let Some(backlog) = self.rare.as_ref().and_then(|rare| rare.backlog.as_ref()) {
            backlog.arrived(frame.len());
        }
        if !self.is_open() {
            return;
        }
        let is_control = frame.first().is_some_and(|first| first & 0x08 != 0);
        if !is_control {
            if self.is_overfull(out) {
                return self.too_slow(self.policy.slow, 1, out);
            }
            out.counters.messages_out.add(1);
        }
        self.posted |= self.outbox.is_none();
        out.counters.bytes_out.add(frame.len() as u64);
        self.enqueue(frame);
    }

    /// Adds an answer made elsewhere; it is tried at the end of the turn.
    pub(crate) fn post_answer(&mut self, frame: Bytes, out: &mut Out) {
        if self.is_open() {
            out.counters.messages_out.add(1);
            out.counters.bytes_out.add(frame.len() as u64);
            self.post_batch(frame);
        }
    }

    /// Adds what a room owes; it is tried at the end of the turn.
    pub(crate) fn post_batch(&mut self, batch: Bytes) {
        self.posted |= self.outbox.is_none();
        self.enqueue(batch);
    }

    /// Sends frames made elsewhere, as they are. Ignored once closing has begun.
    pub(crate) fn send_frame(&mut self, out: &mut Out, frame: &Bytes) {
        if !self.is_open() {
            return;
        }
        out.counters.messages_out.add(1);
        if self.outbox.is_some() && out.cork.is_empty() {
            out.counters.bytes_out.add(frame.len() as u64);
            return self.enqueue(frame.clone());
        }
        out.cork.extend_from_slice(frame);
    }

    /// Whether more of the past may be handed to the peer: it is owed less than half of what it may be.
    pub(crate) fn takes_more(&self, out: &Out) -> bool {
        self.is_open() && self.owed() + out.cork.len() <= self.policy.outbox / 2
    }

    /// Whether no more may wait for the peer. What was posted and not tried yet is tried first.
    pub(crate) fn is_overfull(&mut self, out: &Out) -> bool {
        // When memory gets short, those who hold it pay, not those who come.
        let tight = if out.budget.is_tight() { TIGHT } else { usize::MAX };
        let is_over = |conn: &Self| {
            conn.owed() > conn.policy.outbox.min(tight)
                || conn.outbox.is_some() && conn.is_over_budget()
        };
        if !is_over(self) {
            return false;
        }
        if std::mem::take(&mut self.posted) {
            self.writable(out);
        }
        is_over(self)
    }

    /// Frames that do not fit into the outbox meet the policy of their room or the endpoint.
    #[cold]
    pub(crate) fn too_slow(&mut self, policy: SlowPolicy, frames: u64, out: &mut Out) {
        match policy {
            SlowPolicy::Drop | SlowPolicy::Latest => out.counters.dropped.add(frames),
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
            Ok(true) => {
                self.outbox = None;
                self.pong_waits = false;
            }
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
        self.reading == Reading::Paused && self.owed() <= self.policy.outbox / 2
    }

    fn mirror_buffered(&self) {
        if let Some(backlog) = self.rare.as_ref().and_then(|rare| rare.backlog.as_ref()) {
            backlog.set_outbox(self.buffered());
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

pub(super) fn encode_close_cut(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
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
