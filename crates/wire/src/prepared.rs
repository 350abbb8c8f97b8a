//! Messages encoded once for many receivers.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::deflate::Deflater;
use crate::frame::{OpCode, encode, encode_compressed};

/// A message as a server sends it: one frame, shared by all its receivers.
///
/// Cloning costs a reference count. The compressed form is made when it is first
/// [asked for](Self::deflated), and shared too.
#[derive(Clone)]
pub struct Prepared(Arc<Inner>);

struct Inner {
    frame: Bytes,
    header: usize,
    opcode: OpCode,
    deflated: OnceLock<Option<Bytes>>,
}

impl Prepared {
    /// Encodes a whole message, or a control frame of at most 125 bytes.
    ///
    /// Cost: two allocations, one copy of the payload.
    pub fn new(opcode: OpCode, payload: &[u8]) -> Self {
        let mut frame = Vec::with_capacity(10 + payload.len());
        encode(&mut frame, opcode, payload, None);
        let header = frame.len() - payload.len();
        Self(Arc::new(Inner { frame: frame.into(), header, opcode, deflated: OnceLock::new() }))
    }

    /// A text message.
    pub fn text(text: &str) -> Self {
        Self::new(OpCode::Text, text.as_bytes())
    }

    /// A binary message.
    pub fn binary(payload: &[u8]) -> Self {
        Self::new(OpCode::Binary, payload)
    }

    /// The frame to send, header and payload.
    pub fn frame(&self) -> &Bytes {
        &self.0.frame
    }

    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        &self.0.frame[self.0.header..]
    }

    /// What kind of frame it is.
    pub fn opcode(&self) -> OpCode {
        self.0.opcode
    }

    /// The frame to send to receivers that agreed to compression; `None` if the message is
    /// shorter than `threshold`, a control frame, or compression does not make it smaller.
    ///
    /// It refers to no other message, so every such receiver can read it, with two conditions:
    /// the `deflater`'s window is no larger than agreed with the receiver, and the receiver's
    /// connection has no compressor of its own whose context the message would be missing from.
    ///
    /// Cost: compresses on the first call; a second thread that comes at the same moment waits
    /// for the first. The first call's `deflater` decides how well.
    pub fn deflated(&self, deflater: &mut Deflater, threshold: usize) -> Option<&Bytes> {
        let payload = self.payload();
        if payload.len() < threshold.max(1) || self.0.opcode.is_control() {
            return None;
        }
        let deflate = || {
            let mut deflated = Vec::new();
            deflater.compress(payload, &mut deflated);
            (deflated.len() < payload.len()).then(|| {
                let mut frame = Vec::with_capacity(10 + deflated.len());
                encode_compressed(&mut frame, self.0.opcode, &deflated, None);
                frame.into()
            })
        };
        self.0.deflated.get_or_init(deflate).as_ref()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("opcode", &self.0.opcode)
            .field("len", &self.payload().len())
            .finish_non_exhaustive()
    }
}
