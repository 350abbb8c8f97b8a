//! What came of some bytes.

use throng_wire::{Decoder, Event, Kind, Limits, ProtocolError, Scratch};

/// An [`Event`] that outlives its chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind: Kind::Text, payload } => {
                Self::Text(String::from_utf8(payload.to_vec()).expect("text is valid UTF-8"))
            }
            Event::Message { kind: Kind::Binary, payload } => Self::Binary(payload.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(frame) => {
                Self::Close(frame.map(|frame| (frame.code.get(), frame.reason.to_owned())))
            }
        }
    }
}

/// The events, and the error that ended them, if any.
pub(crate) type Outcome = (Vec<Seen>, Option<ProtocolError>);

/// Decodes `bytes` in chunks of the given lengths, up to a close frame, as a connection would.
pub(crate) fn decode(
    mut decoder: Decoder,
    limits: &Limits,
    bytes: &[u8],
    mut lengths: impl Iterator<Item = usize>,
) -> Outcome {
    let (mut scratch, mut seen) = (Scratch::new(), Vec::new());
    let (mut rest, mut received) = (bytes, 0);
    while !rest.is_empty() {
        let len = lengths.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let (part, more) = rest.split_at(len);
        rest = more;
        received += len;
        let mut chunk = part.to_vec();
        let mut at = 0;
        while at < chunk.len() {
            let left = chunk.len() - at;
            let step = match decoder.next(limits, &mut chunk[at..], &mut scratch) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(decoder.buffered(), 0, "an error frees what was kept");
                    assert!(!error.to_string().is_empty());
                    assert!((1002..=1009).contains(&error.close_code().get()));
                    return (seen, Some(error));
                }
            };
            assert!(step.consumed > 0 && step.consumed <= left);
            at += step.consumed;
            match step.event {
                Some(event) => seen.push(event.into()),
                None => assert_eq!(at, chunk.len()),
            }
            if let Some(Seen::Close(_)) = seen.last() {
                return (seen, None);
            }
        }
        let buffered = decoder.buffered();
        assert!(buffered <= 2 * received + 300, "{buffered} bytes kept of {received}");
        assert!(buffered <= 2 * limits.max_message + 300, "{buffered} bytes kept");
        assert_eq!(decoder.is_idle(), buffered == 0);
    }
    (seen, None)
}
