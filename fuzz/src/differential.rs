//! Streams of frames, compared with tungstenite.

use std::io::{self, Cursor, Read, Write};

use throng_wire::frame::Role;
use throng_wire::{Decoder, Limits, ProtocolError};
use tungstenite::protocol::{Message, WebSocket, WebSocketConfig};

use crate::outcome::{Seen, decode};

/// Decodes a stream with both, which have to see the same messages or both fail.
///
/// The first byte is the role, the rest the stream. The known and wanted differences:
///
/// - throng refuses lengths that are not in their shortest form, and control frames whose length
///   has a long form; tungstenite reads on.
/// - throng refuses close codes that must not travel; tungstenite reports them as 1002. It also
///   does so with 1014, which was registered after the RFC.
/// - throng fails as soon as it can tell, tungstenite when the frame is complete.
/// - throng limits the number of fragments and knows deflate; not here.
pub fn differential(data: &[u8]) {
    let &[role, ref stream @ ..] = data else { return };
    let role = if role & 1 == 0 { Role::Server } else { Role::Client };
    let limits = Limits { max_frame: LIMIT, max_message: LIMIT, max_fragments: u32::MAX };
    let (mut ours, error) = decode(Decoder::new(role, None), &limits, stream, std::iter::empty());
    let (theirs, failed) = tungstenite(role, stream);
    match error {
        None => {
            if let Some(Seen::Close(Some((1014, _)))) = ours.last() {
                ours.pop();
                ours.push(violation());
            }
            assert_eq!((ours, false), (theirs, failed));
        }
        Some(ProtocolError::LengthNotMinimal | ProtocolError::ControlTooLong) => {
            assert!(theirs.starts_with(&ours));
        }
        Some(ProtocolError::CloseCode { .. }) if !failed => {
            ours.push(violation());
            assert_eq!(ours, theirs);
        }
        Some(error) => {
            assert_eq!(ours, theirs, "before {error}");
            if !failed {
                // We did not wait for the end of the frame. It cannot end well.
                let completed = [stream, &[0; LIMIT + 14]].concat();
                let (theirs, failed) = tungstenite(role, &completed);
                assert!(failed && ours == theirs, "tungstenite sees nothing of: {error}");
            }
        }
    }
}

const LIMIT: usize = 4096;

/// What tungstenite reports for a close code that must not travel.
fn violation() -> Seen {
    Seen::Close(Some((1002, "Protocol violation".to_owned())))
}

/// The messages, and whether tungstenite found the stream wrong. An early end is not wrong here.
fn tungstenite(role: Role, stream: &[u8]) -> (Vec<Seen>, bool) {
    let role = match role {
        Role::Server => tungstenite::protocol::Role::Server,
        Role::Client => tungstenite::protocol::Role::Client,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_message_size(Some(LIMIT))
        .max_frame_size(Some(LIMIT));
    let mut socket = WebSocket::from_raw_socket(Replay(Cursor::new(stream)), role, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_str().to_owned()),
            Ok(Message::Binary(payload)) => Seen::Binary(payload.to_vec()),
            Ok(Message::Ping(payload)) => Seen::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Seen::Pong(payload.to_vec()),
            Ok(Message::Close(frame)) => {
                let frame = frame.map(|f| (f.code.into(), f.reason.as_str().to_owned()));
                seen.push(Seen::Close(frame));
                return (seen, false);
            }
            Ok(Message::Frame(_)) => unreachable!("only for writing"),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (seen, false),
            Err(_) => return (seen, true),
        });
    }
}

/// A stream that has bytes to read and forgets what is written.
struct Replay<'a>(Cursor<&'a [u8]>);

impl Read for Replay<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Replay<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
