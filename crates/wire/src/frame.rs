//! Frames: their header, and whole frames to send (RFC 6455 §5).

use crate::close::CloseCode;
use crate::error::{ProtocolError, ReasonTooLong};
use crate::mask;

/// What a frame is (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// A further part of the message under way.
    Continuation = 0,
    /// A text message, or the first part of one.
    Text = 1,
    /// A binary message, or the first part of one.
    Binary = 2,
    /// The closing handshake.
    Close = 8,
    /// To be answered with a pong of the same payload.
    Ping = 9,
    /// The answer to a ping.
    Pong = 10,
}

impl OpCode {
    /// Whether this is a control frame: at most 125 bytes, never fragmented (RFC 6455 §5.5).
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

impl From<Kind> for OpCode {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
        }
    }
}

/// Which end of the connection we are. Clients mask what they send, servers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We accepted the connection; the peer is a client.
    Server,
    /// We opened the connection; the peer is a server.
    Client,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Its payload is UTF-8.
    Text,
    /// Its payload is any bytes.
    Binary,
}

/// A frame's header, on the stack. Made by [`header`].
#[derive(Clone, Copy, Debug)]
pub struct HeaderBytes {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl HeaderBytes {
    /// The 2 to 14 bytes to send in front of the payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for HeaderBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// The header of a frame of `len` payload bytes, in the shortest form (RFC 6455 §5.2).
///
/// The caller masks the payload with [`apply_mask`] if there is a `mask`, and answers for the
/// rules about control frames.
pub fn header(
    fin: bool,
    rsv1: bool,
    opcode: OpCode,
    len: usize,
    mask: Option<[u8; 4]>,
) -> HeaderBytes {
    let mut bytes = [0; MAX_HEADER];
    bytes[0] = u8::from(fin) << 7 | u8::from(rsv1) << 6 | opcode as u8;
    let mut end = match len {
        0..=125 => {
            bytes[1] = len as u8;
            2
        }
        126..=0xffff => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    };
    if let Some(key) = mask {
        bytes[1] |= 0x80;
        bytes[end..end + 4].copy_from_slice(&key);
        end += 4;
    }
    HeaderBytes { bytes, len: end as u8 }
}

/// Appends a whole, unfragmented frame to `out`, masked if there is a `mask`.
///
/// A control frame's payload must not exceed 125 bytes; for a [`Close`](OpCode::Close) there is
/// [`encode_close`]. Cost: one copy of the payload.
pub fn encode(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) {
    debug_assert!(!opcode.is_control() || payload.len() <= MAX_CONTROL);
    append(out, header(true, false, opcode, payload.len(), mask), payload, mask);
}

/// Appends a whole data frame whose payload is already [deflated](crate::Deflater), that is with
/// RSV1 set (RFC 7692 §7.2.1).
pub fn encode_compressed(
    out: &mut Vec<u8>,
    opcode: OpCode,
    deflated: &[u8],
    mask: Option<[u8; 4]>,
) {
    debug_assert!(!opcode.is_control());
    append(out, header(true, true, opcode, deflated.len(), mask), deflated, mask);
}

/// Appends a Close frame (RFC 6455 §5.5.1).
///
/// Without a code there is no place for a reason, and it is left out. Fails if the reason is
/// longer than 123 bytes; `out` is untouched then.
pub fn encode_close(
    out: &mut Vec<u8>,
    code: Option<CloseCode>,
    reason: &str,
    mask: Option<[u8; 4]>,
) -> Result<(), ReasonTooLong> {
    if reason.len() > MAX_REASON {
        return Err(ReasonTooLong { len: reason.len() });
    }
    let mut payload = [0; MAX_CONTROL];
    let len = match code {
        None => 0,
        Some(code) => {
            payload[..2].copy_from_slice(&code.get().to_be_bytes());
            payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
            2 + reason.len()
        }
    };
    encode(out, OpCode::Close, &payload[..len], mask);
    Ok(())
}

/// Masks `data` in place, or unmasks it: it is the same (RFC 6455 §5.3).
///
/// Cost: one pass, some 16 bytes per cycle.
pub fn apply_mask(data: &mut [u8], key: [u8; 4]) {
    mask::apply(data, key);
}

/// [`apply_mask`] for a part of a payload that begins `offset` bytes into it.
pub fn apply_mask_at(data: &mut [u8], key: [u8; 4], offset: usize) {
    mask::apply(data, mask::rotate(key, offset));
}

fn append(out: &mut Vec<u8>, header: HeaderBytes, payload: &[u8], mask: Option<[u8; 4]>) {
    let header = header.as_slice();
    out.reserve(header.len() + payload.len());
    out.extend_from_slice(header);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(&mut out[start..], key);
    }
}

/// A received header, as written. What it may say depends on the connection's state, which is
/// the [decoder](crate::Decoder)'s business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) rsv1: bool,
    pub(crate) opcode: OpCode,
    pub(crate) len: u64,
    /// Zero when there is none, which masks nothing.
    pub(crate) key: [u8; 4],
    /// Of the header itself.
    pub(crate) size: usize,
}

impl Header {
    /// Reads the header at the front of `bytes`; `None` while it is incomplete.
    ///
    /// Everything that is wrong whatever came before is an error, as soon as it shows.
    pub(crate) fn parse(bytes: &[u8], role: Role) -> Result<Option<Self>, ProtocolError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = OpCode::from_bits(first & 0x0f)
            .ok_or(ProtocolError::ReservedOpcode { opcode: first & 0x0f })?;
        let (fin, rsv1) = (first & 0x80 != 0, first & 0x40 != 0);
        if first & 0x30 != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let masked = second & 0x80 != 0;
        match role {
            Role::Server if !masked => return Err(ProtocolError::Unmasked),
            Role::Client if masked => return Err(ProtocolError::Masked),
            _ => {}
        }
        let short = second & 0x7f;
        if opcode.is_control() {
            if rsv1 {
                return Err(ProtocolError::ReservedBits);
            }
            if !fin {
                return Err(ProtocolError::FragmentedControl);
            }
            if usize::from(short) > MAX_CONTROL {
                return Err(ProtocolError::ControlTooLong);
            }
        }
        let (len, rest, extended) = match short {
            126 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*len)), rest, 2)
            }
            127 => {
                let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*len), rest, 8)
            }
            _ => (u64::from(short), rest, 0),
        };
        if len >> 63 != 0 {
            return Err(ProtocolError::LengthTopBit);
        }
        if (extended == 2 && len < 126) || (extended == 8 && len <= 0xffff) {
            return Err(ProtocolError::LengthNotMinimal);
        }
        let mut size = 2 + extended;
        let mut key = [0; 4];
        if masked {
            let Some(bytes) = rest.first_chunk() else { return Ok(None) };
            key = *bytes;
            size += 4;
        }
        Ok(Some(Self { fin, rsv1, opcode, len, key, size }))
    }
}

/// The longest payload of a control frame (RFC 6455 §5.5).
pub const MAX_CONTROL: usize = 125;
/// The longest reason of a Close frame, in bytes of UTF-8.
pub const MAX_REASON: usize = MAX_CONTROL - 2;
/// The longest header.
pub(crate) const MAX_HEADER: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 6455 §5.7.
        let mut out = Vec::new();
        encode(&mut out, OpCode::Text, b"Hello", None);
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        encode(&mut out, OpCode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        out.clear();
        encode(&mut out, OpCode::Ping, b"Hello", None);
        assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(header(false, false, OpCode::Text, 3, None).as_slice(), [0x01, 0x03]);
        assert_eq!(header(true, false, OpCode::Continuation, 2, None).as_slice(), [0x80, 0x02]);
        assert_eq!(
            header(true, false, OpCode::Binary, 256, None).as_slice(),
            [0x82, 0x7e, 0x01, 0x00]
        );
        assert_eq!(
            header(true, false, OpCode::Binary, 65536, None).as_slice(),
            [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let opcodes = [OpCode::Continuation, OpCode::Text, OpCode::Binary];
        for opcode in opcodes {
            for len in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, u32::MAX as usize] {
                for (fin, rsv1) in [(false, false), (false, true), (true, false), (true, true)] {
                    for (mask, role) in [(None, Role::Client), (Some([9, 8, 7, 6]), Role::Server)] {
                        let bytes = header(fin, rsv1, opcode, len, mask);
                        let size = bytes.as_slice().len();
                        let want = Header {
                            fin,
                            rsv1,
                            opcode,
                            len: len as u64,
                            key: mask.unwrap_or_default(),
                            size,
                        };
                        assert_eq!(Header::parse(bytes.as_slice(), role), Ok(Some(want)));
                        for part in 0..size {
                            assert_eq!(Header::parse(&bytes.as_slice()[..part], role), Ok(None));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        let mut out = Vec::new();
        encode_close(&mut out, Some(CloseCode::NORMAL), "bye", None).unwrap();
        assert_eq!(out, b"\x88\x05\x03\xe8bye");
        out.clear();
        encode_close(&mut out, None, "nowhere to put it", None).unwrap();
        assert_eq!(out, b"\x88\x00");
        out.clear();
        encode_close(&mut out, Some(CloseCode::NORMAL), &"x".repeat(123), None).unwrap();
        assert_eq!(out.len(), 2 + 125);
        out.clear();
        let error = encode_close(&mut out, Some(CloseCode::NORMAL), &"é".repeat(62), None);
        assert_eq!(error, Err(ReasonTooLong { len: 124 }));
        assert!(out.is_empty());
    }
}
