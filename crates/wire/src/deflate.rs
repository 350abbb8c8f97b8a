//! Compressing and decompressing messages (RFC 7692 §7.2).
//!
//! Contexts are large (an [`Inflater`] some 45 KiB, a [`Deflater`] 130 to 370 KiB), so they belong
//! to threads and not to connections. Where the peer takes its context over from one message to
//! the next, only a [`History`] is kept for its connection: the last bytes that it sent, which
//! are all there is to an inflate context between two messages.

use zlib_rs::{DeflateConfig, DeflateFlush, InflateFlush, Status};

use crate::error::ProtocolError;

/// Compresses messages to send.
///
/// All messages of a thread can go through the same one as long as each begins with an empty
/// context ([`compress`](Self::compress)). A connection that takes its context over needs one of
/// its own ([`compress_with_context`](Self::compress_with_context)); the two must not be mixed
/// on one connection.
pub struct Deflater {
    context: zlib_rs::Deflate,
}

impl Deflater {
    /// A compressor of the given effort (0 to 9), memory (1 to 9) and window (9 to 15, as a
    /// power of two of bytes); other values count as the nearest.
    ///
    /// Asked for a window of 8 bits it has one of 9, whose references nevertheless reach back
    /// less than 256 bytes. Cost: allocates 130 to 370 KiB.
    pub fn new(level: u8, mem_level: u8, window_bits: u8) -> Self {
        let config = DeflateConfig {
            level: i32::from(level.min(9)),
            mem_level: i32::from(mem_level.clamp(1, 9)),
            // Negative for a stream without zlib's header.
            window_bits: -i32::from(window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS)),
            ..DeflateConfig::default()
        };
        Self { context: zlib_rs::Deflate::new_with_config(config) }
    }

    /// Appends to `out` the compressed form of a message that refers to no other, ready to be
    /// [framed](crate::encode_compressed).
    ///
    /// Cost: clearing the context (some microseconds) and the compression itself.
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.context.reset();
        self.compress_with_context(payload, out);
    }

    /// Appends to `out` the compressed form of a message that may refer to the ones before it.
    pub fn compress_with_context(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let (mut end, mut input) = (start, payload);
        loop {
            // Rarely too little. Below seven bytes zlib would repeat the flush's mark.
            out.resize(end + input.len() + input.len() / 64 + 64, 0);
            let (taken, given) = (self.context.total_in(), self.context.total_out());
            self.context
                .compress(input, &mut out[end..], DeflateFlush::SyncFlush)
                .expect("invariant: a valid deflate context does not fail");
            input = &input[(self.context.total_in() - taken) as usize..];
            end += (self.context.total_out() - given) as usize;
            // A flush that leaves room is complete.
            if input.is_empty() && end < out.len() {
                break;
            }
        }
        out.truncate(end);
        if out[start..].ends_with(&TAIL) {
            out.truncate(end - TAIL.len());
        }
        if out.len() == start {
            // Nothing to say and nothing to flush (RFC 7692 §7.2.3.6).
            out.push(0);
        }
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

/// Decompresses received messages, within bounds. One serves all connections of a thread.
///
/// Its window is always the largest, whatever was agreed: it reads what smaller ones wrote.
pub struct Inflater {
    context: zlib_rs::Inflate,
    /// Zeroed once, then reused: its length is what may be written to.
    output: Vec<u8>,
}

impl Inflater {
    /// Cost: allocates some 45 KiB.
    pub fn new() -> Self {
        Self { context: zlib_rs::Inflate::new(false, MAX_WINDOW_BITS), output: Vec::new() }
    }

    /// The message that `data` is the compressed form of, at most `limit` bytes long.
    ///
    /// With a `history` the message may refer to the ones before it, and is added to them.
    ///
    /// Fails with [`Deflate`](ProtocolError::Deflate) if the data are corrupt or end in the
    /// middle of a block, and with [`MessageTooBig`](ProtocolError::MessageTooBig) as soon as a
    /// byte more than `limit` comes out. The result stays valid until the next call.
    ///
    /// Cost: the decompression; memory for up to twice the output, never more than `limit` + 1,
    /// kept until [`trim`](Self::trim).
    pub fn inflate(
        &mut self,
        data: &[u8],
        history: Option<&mut History>,
        limit: usize,
    ) -> Result<&mut [u8], ProtocolError> {
        self.context.reset(false);
        if let Some(history) = &history
            && !history.bytes.is_empty()
        {
            self.context.set_dictionary(&history.bytes).map_err(|_| ProtocolError::Deflate)?;
        }
        let mut len = 0;
        let end = self.feed(data, true, &mut len, limit)?;
        if end != End::Stream && self.feed(&CLOSING, false, &mut len, limit)? != End::Stream {
            return Err(ProtocolError::Deflate);
        }
        let message = &mut self.output[..len];
        if let Some(history) = history {
            history.push(message);
        }
        Ok(message)
    }

    /// Gives back output memory above `keep` bytes.
    pub fn trim(&mut self, keep: usize) {
        if self.output.len() > keep {
            self.output = Vec::new();
        }
    }

    /// Decompresses all of `input` to `output[len..]`.
    ///
    /// A block may say that it is the stream's last one (RFC 7692 §7.2.3.4). If `several`, what
    /// follows it is a new stream.
    fn feed(
        &mut self,
        mut input: &[u8],
        several: bool,
        len: &mut usize,
        limit: usize,
    ) -> Result<End, ProtocolError> {
        loop {
            // One byte more than allowed, to tell a message that just fits from one that does not.
            let most = limit.saturating_add(1);
            if *len == self.output.len() {
                let more = (2 * self.output.len()).max(3 * input.len()).max(SMALLEST_OUTPUT);
                self.output.resize(more.min(most), 0);
            }
            let room = self.output.len().min(most);
            let (taken, given) = (self.context.total_in(), self.context.total_out());
            let status = self
                .context
                .decompress(input, &mut self.output[*len..room], InflateFlush::SyncFlush)
                .map_err(|_| ProtocolError::Deflate)?;
            let taken = (self.context.total_in() - taken) as usize;
            let given = (self.context.total_out() - given) as usize;
            input = &input[taken..];
            *len += given;
            if *len > limit {
                return Err(ProtocolError::MessageTooBig { limit });
            }
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(End::Stream),
                Status::StreamEnd if several => self.context.reset(false),
                Status::StreamEnd => return Err(ProtocolError::Deflate),
                // There may be more to come without further input.
                Status::Ok | Status::BufError if *len == room => {}
                Status::Ok | Status::BufError if input.is_empty() => return Ok(End::Input),
                Status::Ok if taken > 0 || given > 0 => {}
                Status::Ok | Status::BufError => return Err(ProtocolError::Deflate),
            }
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("output", &self.output.len()).finish_non_exhaustive()
    }
}

/// The last bytes of one connection's earlier messages, which its next compressed one may refer
/// to. As large as what was received, at most the agreed window.
#[derive(Clone, Debug)]
pub struct History {
    bytes: Vec<u8>,
    window: usize,
}

impl History {
    /// For a peer that compresses with a window of so many bits, 9 to 15; other values count as
    /// the nearest, because no zlib really has a window of 8 bits.
    pub fn new(window_bits: u8) -> Self {
        let window = 1 << window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        Self { bytes: Vec::new(), window }
    }

    /// The heap memory it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn push(&mut self, message: &[u8]) {
        let message = &message[message.len().saturating_sub(self.window)..];
        let surplus = (self.bytes.len() + message.len()).saturating_sub(self.window);
        self.bytes.drain(..surplus);
        let len = self.bytes.len() + message.len();
        if len > self.bytes.capacity() {
            let capacity = len.max(2 * self.bytes.capacity()).min(self.window);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(message);
    }
}

/// Why decompression came to a stop.
#[derive(PartialEq, Eq)]
enum End {
    Stream,
    Input,
}

/// What a sender removes from every message and a receiver puts back (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// [`TAIL`] and then an empty last block. The stream ends with it exactly if the message ended
/// between two blocks, as it has to.
const CLOSING: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];
/// A window of 8 bits is in the RFC, but no zlib has one.
const MIN_WINDOW_BITS: u8 = 9;
const MAX_WINDOW_BITS: u8 = 15;
/// The first buffer for output.
const SMALLEST_OUTPUT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_allocated_for_the_limit_and_one_byte_at_most() {
        let mut bomb = Vec::new();
        Deflater::new(9, 8, 15).compress(&vec![0; 1 << 20], &mut bomb);
        for limit in [0, 1, 1000, 4095, 4096, 50_000] {
            let mut inflater = Inflater::new();
            let error = inflater.inflate(&bomb, None, limit);
            assert_eq!(error, Err(ProtocolError::MessageTooBig { limit }));
            assert!(inflater.output.len() <= limit + 1, "{} for {limit}", inflater.output.len());
        }
    }

    #[test]
    fn a_buffer_that_has_grown_serves_narrower_limits() {
        let (mut large, mut small) = (Vec::new(), Vec::new());
        let mut deflater = Deflater::new(6, 8, 15);
        deflater.compress(&[7; 100_000], &mut large);
        deflater.compress(&[8; 100], &mut small);
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&large, None, 100_000), Ok(&mut [7; 100_000][..]));
        assert_eq!(inflater.inflate(&small, None, 100), Ok(&mut [8; 100][..]));
        let error = Err(ProtocolError::MessageTooBig { limit: 99 });
        assert_eq!(inflater.inflate(&small, None, 99), error);
        inflater.trim(1000);
        assert_eq!(inflater.output.capacity(), 0);
        assert_eq!(inflater.inflate(&small, None, 100), Ok(&mut [8; 100][..]));
        inflater.trim(1 << 20);
        assert!(!inflater.output.is_empty(), "that is within bounds");
    }

    #[test]
    fn an_error_leaves_nothing_behind() {
        let mut inflater = Inflater::new();
        let mut deflated = Vec::new();
        Deflater::new(6, 8, 15).compress(b"good", &mut deflated);
        for bad in [&b"\x07"[..], &deflated[..2], b"\x00\x09\x00\xf6\xff\x48"] {
            assert_eq!(inflater.inflate(bad, None, 100), Err(ProtocolError::Deflate));
            assert_eq!(inflater.inflate(&deflated, None, 100), Ok(&mut b"good".to_owned()[..]));
        }
    }

    #[test]
    fn a_history_is_the_last_window_and_no_more() {
        for bits in [0, 8, 9, 10, 15, 200] {
            let mut history = History::new(bits);
            let window = 1 << bits.clamp(9, 15);
            assert_eq!(history.capacity(), 0);
            let mut all = Vec::new();
            for len in [0, 1, 7, 300, 511, 512, 513, 1, 5000, 40_000, 32_768, 3, 20_000, 20_000] {
                let message: Vec<u8> = (0..len).map(|i| (i + all.len()) as u8).collect();
                all.extend(&message);
                history.push(&message);
                assert_eq!(history.bytes, all[all.len().saturating_sub(window)..]);
                assert!(history.capacity() <= window);
                assert!(history.capacity() <= 2 * all.len());
            }
        }
    }

    #[test]
    fn what_does_not_compress_hardly_grows() {
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(100_000)
        .collect();
        for level in 0..=9 {
            let mut out = vec![1, 2, 3];
            Deflater::new(level, 8, 15).compress(&noise, &mut out);
            assert_eq!(out[..3], [1, 2, 3], "what was there stays");
            assert!(
                out.len() < noise.len() + noise.len() / 8 + 100,
                "level {level}: {}",
                out.len()
            );
            let mut inflater = Inflater::new();
            assert_eq!(inflater.inflate(&out[3..], None, noise.len()).unwrap(), noise);
        }
    }
}
