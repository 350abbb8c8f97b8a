//! The two ends of a connection: frames as a test wants them, and what a decoder makes of them.

use throng_wire::frame::{Role, apply_mask};
use throng_wire::{Decoder, Deflate, Event, Kind, Limits, ProtocolError, Scratch};

/// An [`Event`] that outlives its chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl Seen {
    pub(crate) fn new(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind: Kind::Text, payload } => Self::utf8(payload),
            Event::Message { kind: Kind::Binary, payload } => Self::Binary(payload.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(frame) => {
                Self::Close(frame.map(|frame| (frame.code.get(), frame.reason.to_owned())))
            }
        }
    }

    pub(crate) fn utf8(text: &[u8]) -> Self {
        Self::Text(String::from_utf8(text.to_vec()).expect("text is valid UTF-8"))
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// All that came of some bytes: the events, and the error that ended them, if any.
pub(crate) type Outcome = (Vec<Seen>, Option<ProtocolError>);

/// One end of a connection.
pub(crate) struct Receiver {
    pub(crate) decoder: Decoder,
    pub(crate) limits: Limits,
    pub(crate) scratch: Scratch,
    pub(crate) seen: Vec<Seen>,
    received: usize,
}

impl Receiver {
    pub(crate) fn new(role: Role, deflate: Option<Deflate>, limits: &Limits) -> Self {
        Self {
            decoder: Decoder::new(role, deflate),
            limits: limits.clone(),
            scratch: Scratch::new(),
            seen: Vec::new(),
            received: 0,
        }
    }

    /// Handles what one read brought. Stops at a close frame, as a connection does.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let mut chunk = bytes.to_vec();
        let mut at = 0;
        while at < chunk.len() && !matches!(self.seen.last(), Some(Seen::Close(_))) {
            let step = self.decoder.next(&self.limits, &mut chunk[at..], &mut self.scratch)?;
            assert!(step.consumed > 0, "a decoder always goes on");
            at += step.consumed;
            match step.event {
                Some(event) => self.seen.push(Seen::new(event)),
                None => assert_eq!(at, chunk.len(), "all is used before more is asked for"),
            }
        }
        self.received += bytes.len();
        let buffered = self.decoder.buffered();
        assert!(buffered <= 2 * self.received + 300, "{buffered} for {}", self.received);
        assert_eq!(self.decoder.is_idle(), buffered == 0);
        Ok(())
    }

    /// [`receive`](Self::receive) in chunks of the given lengths, the last for all the rest.
    pub(crate) fn receive_in(mut self, bytes: &[u8], lengths: &[usize]) -> Outcome {
        let (mut rest, mut lengths) = (bytes, lengths.iter());
        while !rest.is_empty() {
            let len = lengths.next().map_or(rest.len(), |len| (*len).clamp(1, rest.len()));
            let (chunk, more) = rest.split_at(len);
            if let Err(error) = self.receive(chunk) {
                return (self.seen, Some(error));
            }
            rest = more;
        }
        (self.seen, None)
    }
}

/// What a decoder makes of `bytes`: in one chunk, byte by byte, and in any two chunks. All must
/// come to the same.
pub(crate) fn decode_with(
    role: Role,
    deflate: Option<Deflate>,
    limits: &Limits,
    bytes: &[u8],
) -> Outcome {
    let fresh = || Receiver::new(role, deflate, limits);
    let outcome = fresh().receive_in(bytes, &[]);
    let single = vec![1; bytes.len()];
    assert_eq!(fresh().receive_in(bytes, &single), outcome, "byte by byte");
    let step = bytes.len() / 200 + 1;
    for split in (1..bytes.len()).step_by(step) {
        assert_eq!(fresh().receive_in(bytes, &[split]), outcome, "split at {split}");
    }
    outcome
}

/// What a server without compression makes of frames from a client.
pub(crate) fn decode(bytes: &[u8]) -> Outcome {
    decode_with(Role::Server, None, &Limits::default(), bytes)
}

/// Frames that break no rule, as a server sees them.
pub(crate) fn accepted(bytes: &[u8]) -> Vec<Seen> {
    let (seen, error) = decode(bytes);
    assert_eq!(error, None);
    seen
}

/// Frames that break a rule, as a server sees them.
pub(crate) fn refused(bytes: &[u8]) -> ProtocolError {
    decode(bytes).1.expect("a rule is broken")
}

/// A frame with the given first byte, from a client, its length in the shortest form.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_from(Role::Client, first, payload)
}

/// A frame with the given first byte.
pub(crate) fn frame_from(sender: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let bit = if sender == Role::Client { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(bit | len as u8),
        len @ 126..0x1_0000 => {
            bytes.push(bit | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(bit | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mut payload = payload.to_vec();
    if sender == Role::Client {
        bytes.extend(KEY);
        apply_mask(&mut payload, KEY);
    }
    bytes.extend(payload);
    bytes
}

pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
pub(crate) const FIRST_TEXT: u8 = 0x01;
pub(crate) const FIRST_BINARY: u8 = 0x02;
pub(crate) const MORE: u8 = 0x00;
pub(crate) const LAST: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
