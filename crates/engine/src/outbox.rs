//! What waits for a peer that could not take it at once.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::{Buf, Bytes};

use crate::transport::Transport;

/// Whole frames, or the rest of one, in the order they must leave.
///
/// Exists only while something waits; most connections never have one. The pieces are
/// references to buffers shared with other receivers wherever possible.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same with what the pieces cost beside their bytes.
    pub(crate) fn weight(&self) -> usize {
        self.bytes + self.queue.len() * PIECE_COST
    }

    /// Appends; empty pieces are ignored.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.queue.push_back(piece);
        }
    }

    /// Lets go of everything but the piece a part of which may have left. Each piece ends where a frame
    /// ends.
    pub(crate) fn shed(&mut self) {
        self.queue.truncate(1);
        self.queue.shrink_to_fit();
        self.bytes = self.queue.iter().map(Bytes::len).sum();
    }

    /// Writes what the socket takes, several pieces to a system call. `Ok(true)` when
    /// nothing is left.
    pub(crate) fn write_to(&mut self, transport: &mut Transport) -> io::Result<bool> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            match transport.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(piece) = self.queue.front_mut() {
            if piece.len() > written {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.queue.pop_front();
        }
    }
}

const MAX_SLICES: usize = 64;
/// A place in the queue, and the header of a shared buffer.
const PIECE_COST: usize = 96;

/// How much waits for a peer, as handles on other threads see it.
pub(crate) struct Backlog {
    /// Sent through handles, on its way to the worker.
    posted: AtomicUsize,
    /// In the outbox, as of the last change.
    outbox: AtomicUsize,
    ended: AtomicBool,
}

impl Backlog {
    pub(crate) fn new(outbox: usize) -> Self {
        let ended = AtomicBool::new(false);
        Self { posted: AtomicUsize::new(0), outbox: AtomicUsize::new(outbox), ended }
    }

    /// A handle posts a frame.
    pub(crate) fn post(&self, bytes: usize) {
        self.posted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The worker has the frame.
    pub(crate) fn arrived(&self, bytes: usize) {
        self.posted.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_outbox(&self, bytes: usize) {
        self.outbox.store(bytes, Ordering::Relaxed);
    }

    /// The connection is gone: nothing waits any more.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> usize {
        if self.ended.load(Ordering::Relaxed) {
            return 0;
        }
        self.posted.load(Ordering::Relaxed) + self.outbox.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn partial_writes_keep_order_and_count() {
        let (ours, mut theirs) = mio::net::UnixStream::pair().unwrap();
        let mut transport = Transport::Pair(ours);
        let mut outbox = Outbox::default();
        let mut sent = Vec::new();
        for i in 0..4096u32 {
            let piece: Vec<u8> = i.to_le_bytes().repeat(64 + i as usize % 7);
            sent.extend_from_slice(&piece);
            outbox.push(piece.into());
        }
        assert_eq!(outbox.bytes(), sent.len());
        let mut got = Vec::new();
        let mut buf = [0; 30_000];
        loop {
            let empty = outbox.write_to(&mut transport).unwrap();
            while let Ok(n) = theirs.read(&mut buf) {
                got.extend_from_slice(&buf[..n]);
            }
            assert_eq!(outbox.bytes(), sent.len() - got.len());
            if empty {
                break;
            }
        }
        assert!(got == sent);
    }
}
