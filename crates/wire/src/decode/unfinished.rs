//! What a connection keeps while a frame or message is incomplete.

use crate::error::ProtocolError;
use crate::frame::{Kind, MAX_CONTROL, OpCode, Role};
use crate::mask;

/// An incomplete frame, an incomplete message, or both.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) stage: Stage,
    /// The message under way.
    pub(super) message: Option<Message>,
    /// Its payload so far, unmasked.
    pub(super) buffer: Vec<u8>,
    /// The part of a header or control frame that `stage` speaks of.
    pub(super) kept: [u8; MAX_CONTROL],
}

/// Where in a frame we are.
///
/// ```text
///            ┌────────┐  control    ┌─────────┐
///      ┌────►│ Header ├────────────►│ Control ├──┐
///      │     └─┬──────┘             └─────────┘  │
///      │       │ data               ┌──────┐     │
///      │       └───────────────────►│ Data ├─────┤
///      │                            └──────┘     │
///      └─────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// In its header, of which `kept` bytes have come. Between two frames if that is 0.
    Header { kept: usize },
    /// In a control frame's payload, of which `kept` bytes of `len` have come.
    Control { opcode: OpCode, key: [u8; 4], len: usize, kept: usize },
    /// In a data frame's payload; `key` begins with the byte for the next one.
    Data { fin: bool, key: [u8; 4], remaining: usize },
}

/// A message whose last frame is not complete.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) compressed: bool,
    /// Frames so far, with the one under way.
    pub(super) fragments: u32,
    /// How much of the buffer is known to be UTF-8. What comes after it is the beginning of a
    /// character. Always 0 if the message is compressed or binary.
    valid: usize,
}

impl Message {
    pub(super) fn new(kind: Kind, compressed: bool) -> Self {
        Self { kind, compressed, fragments: 1, valid: 0 }
    }

    fn is_checked(&self) -> bool {
        self.kind == Kind::Text && !self.compressed
    }
}

impl Unfinished {
    /// Unmasks further bytes of the message and adds them.
    ///
    /// `most` is how long the buffer can become, as far as known: there is no use in
    /// allocating more. Fails at the first byte that cannot be UTF-8.
    pub(super) fn append(
        &mut self,
        role: Role,
        bytes: &mut [u8],
        key: [u8; 4],
        most: usize,
    ) -> Result<(), ProtocolError> {
        let ascii = match role {
            Role::Server => mask::apply_ascii(bytes, key),
            Role::Client => bytes.is_ascii(),
        };
        let start = self.buffer.len();
        let end = start + bytes.len();
        if end > self.buffer.capacity() {
            let capacity = end.max(most.min(2 * self.buffer.capacity()));
            self.buffer.reserve_exact(capacity - start);
        }
        self.buffer.extend_from_slice(bytes);
        match &mut self.message {
            Some(message) if message.is_checked() => {
                if ascii && message.valid == start {
                    message.valid = end;
                } else {
                    message.valid += valid_prefix(&self.buffer[message.valid..])?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the message could end here.
    pub(super) fn is_valid(&self) -> bool {
        self.message.as_ref().is_none_or(|m| !m.is_checked() || m.valid == self.buffer.len())
    }

    /// Ends the message. Its payload.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.message = None;
        std::mem::take(&mut self.buffer)
    }

    /// Ends a control frame. The length of its payload, which goes to `payload`.
    pub(super) fn take_kept(&mut self, payload: &mut [u8; MAX_CONTROL]) -> usize {
        let Stage::Control { len, .. } = self.stage else { return 0 };
        payload[..len].copy_from_slice(&self.kept[..len]);
        self.stage = Stage::Header { kept: 0 };
        len
    }

    /// Its own memory and the buffer's.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.buffer.capacity()
    }

    pub(super) fn clear(&mut self) {
        self.stage = Stage::Header { kept: 0 };
        self.message = None;
        self.buffer = Vec::new();
    }
}

impl Default for Unfinished {
    fn default() -> Self {
        Self {
            stage: Stage::Header { kept: 0 },
            message: None,
            buffer: Vec::new(),
            kept: [0; MAX_CONTROL],
        }
    }
}

/// How many bytes are complete characters, if the rest is the beginning of one.
fn valid_prefix(bytes: &[u8]) -> Result<usize, ProtocolError> {
    match simdutf8::compat::from_utf8(bytes) {
        Ok(text) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(ProtocolError::Utf8),
    }
}
