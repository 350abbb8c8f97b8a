//! A TLS connection on a worker: rustls between the socket and the frames.
//!
//! It looks like a socket to the connection above. Bytes count as written when the socket has taken their
//! ciphertext; until then the last one of them is not acknowledged. So whoever writes keeps something to
//! write and comes back when the socket is writable. Nothing else has to know of ciphertext that waits.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use bytes::Bytes;
use mio::net::TcpStream;
use rustls::ServerConnection;

/// A socket and its TLS state, after the handshake.
pub(crate) struct Tls {
    socket: TcpStream,
    state: ServerConnection,
    /// The first byte of what is written next is encrypted already.
    owes: bool,
    /// The last read ended although the socket may have more.
    cut_short: bool,
    /// We have said that nothing more comes.
    finished: bool,
    end: End,
}

/// Whether the peer still sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Not,
    /// Close_notify, or FIN: WebSockets say themselves whether they are complete.
    Orderly,
    /// What came is not TLS, or the socket failed.
    Broken,
}

impl Tls {
    /// Takes over a connection after its handshake, and returns what is decrypted already, which belongs
    /// behind `read_ahead`. The socket must be non-blocking.
    pub(crate) fn new(
        socket: TcpStream,
        mut state: ServerConnection,
        read_ahead: Bytes,
    ) -> (Self, Bytes) {
        state.set_buffer_limit(Some(CHUNK));
        let (owes, cut_short, finished, end) = (false, false, false, End::Not);
        let mut tls = Self { socket, state, owes, cut_short, finished, end };
        let mut decrypted = read_ahead.to_vec();
        loop {
            let filled = decrypted.len();
            decrypted.resize(filled + RECORD, 0);
            let mut drained = 0;
            let outcome = tls.drain(&mut decrypted[filled..], &mut drained);
            decrypted.truncate(filled + drained);
            if let Err(end) = outcome {
                tls.end = end;
            }
            if drained == 0 {
                break;
            }
        }
        match decrypted.len() == read_ahead.len() {
            true => (tls, read_ahead),
            false => (tls, decrypted.into()),
        }
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Whether reading once more finds something, although the socket may never announce it.
    pub(crate) fn has_more(&self) -> bool {
        self.cut_short || self.end != End::Not
    }

    /// Sends close_notify and FIN. If the socket does not take all of the former, FIN alone says it.
    pub(crate) fn finish(&mut self) {
        self.notify();
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn notify(&mut self) {
        let finished = std::mem::replace(&mut self.finished, true);
        // Behind half a record nothing can be said.
        if !finished && !self.owes && self.end != End::Broken {
            self.state.send_close_notify();
            let _ = self.send();
        }
    }

    /// Writes ciphertext. `Ok(true)` when none is left, `Ok(false)` when the socket takes no more.
    fn send(&mut self) -> io::Result<bool> {
        while self.state.wants_write() {
            match self.state.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Encrypts and writes, a chunk at a time, until the socket takes no more.
    fn encrypt(&mut self, mut rest: &mut [IoSlice<'_>]) -> io::Result<usize> {
        if self.end == End::Broken || self.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.send()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        IoSlice::advance_slices(&mut rest, 0);
        if rest.is_empty() {
            return Ok(0);
        }
        let mut written = usize::from(std::mem::take(&mut self.owes));
        IoSlice::advance_slices(&mut rest, written);
        while let Some(first) = rest.first() {
            let taken = match rest.len() {
                1 => self.state.writer().write(first)?,
                _ => self.state.writer().write_vectored(rest)?,
            };
            written += taken;
            IoSlice::advance_slices(&mut rest, taken);
            if !self.send()? {
                self.owes = true;
                return match written.saturating_sub(1) {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    written => Ok(written),
                };
            }
        }
        Ok(written)
    }

    /// Reads and decrypts until `into` is full, the socket has nothing more, or it has had its share.
    fn fill(&mut self, into: &mut [u8], filled: &mut usize) -> Result<(), End> {
        self.drain(into, filled)?;
        let mut share = into.len().max(CHUNK);
        while *filled < into.len() {
            let half = (into.len() - *filled) / 2;
            let (read, asked) = if half > 2 * RECORD {
                // The far half takes ciphertext, the near one what it says. That is never more, but for the
                // beginning of a record that came before.
                let (near, far) = into.split_at_mut(*filled + half);
                let asked = half - RECORD;
                let read = self.socket.read(&mut far[..asked]);
                if let Ok(read @ 1..) = read {
                    self.feed(&far[..read], near, filled)?;
                }
                (read, asked)
            } else {
                // What does not fit any more waits inside; it is little, as little is read.
                let read = self.state.read_tls(&mut self.socket);
                if let Ok(1..) = read {
                    self.decrypt(into, filled)?;
                }
                (read, 1)
            };
            match read {
                Ok(0) => return Err(End::Orderly),
                // A short read tells that there is no more. Where nothing has come of it, FIN may be next.
                Ok(read) if read < asked && *filled > 0 => return Ok(()),
                // Records may be empty; no peer keeps the worker busy with them.
                Ok(read) if read >= share => {
                    self.cut_short = true;
                    return Ok(());
                }
                Ok(read) => share -= read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Broken),
            }
        }
        Ok(())
    }

    fn feed(&mut self, mut input: &[u8], into: &mut [u8], filled: &mut usize) -> Result<(), End> {
        while !input.is_empty() {
            // Takes at most 4 KiB at a time.
            match self.state.read_tls(&mut input) {
                Ok(0) | Err(_) => return Err(End::Broken),
                Ok(_) => self.decrypt(into, filled)?,
            }
        }
        Ok(())
    }

    fn decrypt(&mut self, into: &mut [u8], filled: &mut usize) -> Result<(), End> {
        let outcome = self.state.process_new_packets();
        let drained = self.drain(into, filled);
        if outcome.is_err() {
            let _ = self.send(); // the alert that says why
            return Err(End::Broken);
        }
        drained
    }

    /// Moves decrypted bytes to `into[*filled..]`.
    fn drain(&mut self, into: &mut [u8], filled: &mut usize) -> Result<(), End> {
        while *filled < into.len() {
            match self.state.reader().read(&mut into[*filled..]) {
                Ok(0) => return Err(End::Orderly),
                Ok(read) => *filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(End::Orderly), // FIN without close_notify
            }
        }
        Ok(())
    }
}

impl Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        self.cut_short = false;
        if self.end == End::Not
            && let Err(end) = self.fill(into, &mut filled)
        {
            self.end = end;
        }
        match self.end {
            _ if filled > 0 => Ok(filled),
            End::Not => Err(io::ErrorKind::WouldBlock.into()),
            End::Orderly => Ok(0),
            End::Broken => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encrypt(&mut [IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut copies = [IoSlice::new(&[]); MAX_SLICES];
        let count = slices.len().min(MAX_SLICES);
        copies[..count].copy_from_slice(&slices[..count]);
        self.encrypt(&mut copies[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Tls {
    /// Close_notify, if it has not been sent and the socket takes it at once.
    fn drop(&mut self) {
        self.notify();
    }
}

/// This much is encrypted at a time, and at most waits for the socket beside the outbox.
const CHUNK: usize = 32 << 10;
/// No record holds more.
const RECORD: usize = 17 << 10;
/// As many as an outbox writes at once.
const MAX_SLICES: usize = 64;

#[cfg(test)]
mod tests;
