//! What waits for a peer that could not take it at once.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

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

    /// Appends; empty pieces are ignored.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.queue.push_back(piece);
        }
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
