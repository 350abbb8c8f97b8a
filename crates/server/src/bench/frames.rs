//! The messages of a run, as frames that differ only in their stamp.

use throng_wire::{Decoder, Event, Kind, Limits, OpCode, Role, Scratch};

use super::fleet::Link;
use super::report::Failure;

/// The key all our frames are masked with; RFC 6455 §5.7 uses it too.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Bytes of a stamp: 16 hexadecimal digits, 5 of the sender and 11 of its counter.
pub(super) const STAMP: usize = 16;

/// Messages of one size and form; only the stamp changes.
#[derive(Debug)]
pub(super) struct Template {
    kind: Kind,
    payload: Vec<u8>,
    /// Where the stamp is in the payload.
    at: usize,
    /// Stamp and padding, which a typed delivery contains as they are.
    text: usize,
    masked: Vec<u8>,
    mask: [u8; STAMP],
    plain: Vec<u8>,
}

/// The slow path: the real decoder, for whatever is not exactly as expected.
#[derive(Debug)]
pub(super) struct SlowPath {
    limits: Limits,
    scratch: Scratch,
}

/// What [`SlowPath::step`] found.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// Nothing yet; the chunk is used up.
    Nothing,
    /// A ping, pong or close; pings were answered. With its length.
    Control(usize),
    /// A message, seen by the caller's closure. With the length of what it took of the chunk.
    Message(usize, T),
}

impl Template {
    /// A message of `size` bytes: `form` with its `{}` replaced by a stamp and padding.
    pub(super) fn new(form: &str, size: usize, kind: Kind) -> Result<Self, Failure> {
        let (before, after) = form
            .split_once("{}")
            .ok_or_else(|| Failure::new("the template needs {} where the counter goes"))?;
        let least = before.len() + STAMP + after.len();
        let padding = size.checked_sub(least).ok_or_else(|| {
            Failure::new(format!("messages of this form have at least {least} bytes"))
        })?;
        let mut payload = before.as_bytes().to_vec();
        let at = payload.len();
        payload.extend([b'0'; STAMP]);
        payload.extend((b'a'..=b'z').cycle().take(padding));
        payload.extend(after.as_bytes());

        let opcode = if kind == Kind::Text { OpCode::Text } else { OpCode::Binary };
        let (mut masked, mut plain) = (Vec::new(), Vec::new());
        throng_wire::encode(&mut masked, opcode, &payload, Some(MASK));
        throng_wire::encode(&mut plain, opcode, &payload, None);
        let mask = std::array::from_fn(|index| MASK[(at + index) % 4]);
        Ok(Self { kind, payload, at, text: STAMP + padding, masked, mask, plain })
    }

    /// Bytes of a message.
    pub(super) fn size(&self) -> usize {
        self.payload.len()
    }

    /// Appends the frame that a client sends.
    pub(super) fn send(&mut self, stamp: [u8; STAMP], out: &mut Vec<u8>) {
        let start = self.masked.len() - self.payload.len() + self.at;
        let masked = u128::from_ne_bytes(stamp) ^ u128::from_ne_bytes(self.mask);
        self.masked[start..start + STAMP].copy_from_slice(&masked.to_ne_bytes());
        out.extend_from_slice(&self.masked);
    }

    /// The frame in which a server passes the message on unchanged.
    pub(super) fn expect(&mut self, stamp: [u8; STAMP]) -> &[u8] {
        let start = self.plain.len() - self.payload.len() + self.at;
        self.plain[start..start + STAMP].copy_from_slice(&stamp);
        &self.plain
    }

    /// The counter of an unchanged message of `sender`.
    pub(super) fn verbatim(&self, kind: Kind, payload: &[u8], sender: u32) -> Option<u64> {
        let end = self.at + STAMP;
        let same = kind == self.kind
            && payload.len() == self.payload.len()
            && payload[..self.at] == self.payload[..self.at]
            && payload[end..] == self.payload[end..];
        if same { read_stamp(&payload[self.at..end], sender) } else { None }
    }

    /// The counter of a message of `sender` inside what the server made of it.
    pub(super) fn inside(&self, kind: Kind, payload: &[u8], sender: u32) -> Option<u64> {
        if kind != self.kind {
            return None;
        }
        let padding = &self.payload[self.at + STAMP..self.at + self.text];
        payload.windows(self.text).find_map(|window| {
            if window[STAMP..] == *padding { read_stamp(&window[..STAMP], sender) } else { None }
        })
    }
}

impl SlowPath {
    pub(super) fn new() -> Self {
        Self { limits: Limits::default(), scratch: Scratch::new() }
    }

    /// A decoder for one connection.
    pub(super) fn decoder() -> Box<Decoder> {
        Box::new(Decoder::new(Role::Client, None))
    }

    /// Handles one event; a message is handed to `look`.
    pub(super) fn step<T>(
        &mut self,
        decoder: &mut Decoder,
        link: &mut Link,
        chunk: &mut [u8],
        look: impl FnOnce(Kind, &[u8]) -> T,
    ) -> Result<Found<T>, String> {
        let step = decoder
            .next(&self.limits, chunk, &mut self.scratch)
            .map_err(|error| format!("the server broke the protocol: {error}"))?;
        let consumed = step.consumed;
        Ok(match step.event {
            None => Found::Nothing,
            Some(Event::Message { kind, payload }) => Found::Message(consumed, look(kind, payload)),
            Some(Event::Ping(data)) => {
                let mut pong = Vec::new();
                throng_wire::encode(&mut pong, OpCode::Pong, data, Some(MASK));
                link.send(&pong);
                Found::Control(consumed)
            }
            Some(Event::Pong(_)) => Found::Control(consumed),
            Some(Event::Close(frame)) => {
                link.close_seen(frame.map(|frame| (frame.code.get(), frame.reason.to_owned())));
                Found::Control(consumed)
            }
        })
    }
}

/// The close frame with which a client ends a connection: code 1000.
pub(super) fn close_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    throng_wire::encode(&mut frame, OpCode::Close, &1000_u16.to_be_bytes(), Some(MASK));
    frame
}

/// The digits of a sender's message.
pub(super) fn stamp(sender: u32, counter: u64) -> [u8; STAMP] {
    const DIGITS: [[u8; 2]; 256] = {
        let hex = b"0123456789abcdef";
        let mut digits = [[0; 2]; 256];
        let mut byte = 0;
        while byte < 256 {
            digits[byte] = [hex[byte >> 4], hex[byte & 15]];
            byte += 1;
        }
        digits
    };
    let value = (u64::from(sender) << 44) | (counter & ((1 << 44) - 1));
    let mut out = [0; STAMP];
    for (pair, byte) in out.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        pair.copy_from_slice(&DIGITS[usize::from(byte)]);
    }
    out
}

fn read_stamp(digits: &[u8], sender: u32) -> Option<u64> {
    let lowercase = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !digits.iter().all(lowercase) {
        return None;
    }
    let value = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (value >> 44 == u64::from(sender)).then_some(value & ((1 << 44) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back() {
        assert_eq!(&stamp(0xabcde, 0x123), b"abcde00000000123");
        for counter in [0, 1, 0xffff_ffff, (1 << 44) - 1] {
            assert_eq!(read_stamp(&stamp(77, counter), 77), Some(counter));
            assert_eq!(read_stamp(&stamp(77, counter), 78), None);
        }
        assert_eq!(read_stamp(b"ABCDE00000000123", 0xabcde), None);
        assert_eq!(read_stamp(b"+000000000000123", 0), None);
    }

    #[test]
    fn frames_carry_the_message() {
        let mut template = Template::new(r#"{"text":"{}"}"#, 40, Kind::Text).expect("large enough");
        let mut sent = Vec::new();
        template.send(stamp(3, 9), &mut sent);
        let mut decoder = Decoder::new(Role::Server, None);
        let (limits, mut scratch) = (Limits::default(), Scratch::new());
        let step = decoder.next(&limits, &mut sent, &mut scratch).expect("valid");
        let Some(Event::Message { kind: Kind::Text, payload }) = step.event else { panic!() };
        assert_eq!(payload, br#"{"text":"0000300000000009abcdefghijklm"}"#);
        assert_eq!(template.verbatim(Kind::Text, payload, 3), Some(9));
        assert_eq!(template.verbatim(Kind::Binary, payload, 3), None);
        assert_eq!(template.verbatim(Kind::Text, payload, 4), None);
        assert_eq!(template.expect(stamp(3, 9))[2..], *payload);

        let typed = br#"{"from":"u_1","seq":9,"text":"0000300000000009abcdefghijklm"}"#;
        assert_eq!(template.verbatim(Kind::Text, typed, 3), None);
        assert_eq!(template.inside(Kind::Text, typed, 3), Some(9));
        let altered = br#"{"from":"u_1","seq":9,"text":"0000300000000009abcdefghijklX"}"#;
        assert_eq!(template.inside(Kind::Text, altered, 3), None);
    }

    #[test]
    fn a_template_must_have_room() {
        assert!(Template::new("{}", 15, Kind::Text).is_err());
        assert!(Template::new("{}", 16, Kind::Text).is_ok());
        assert!(Template::new("no place", 100, Kind::Text).is_err());
    }
}
