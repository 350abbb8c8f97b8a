//! The same bytes mean the same to tungstenite.

use std::io::{self, Cursor, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use throng_wire::frame::Role;
use throng_wire::{Limits, encode, encode_close};
use tungstenite::protocol::{Message, WebSocket, WebSocketConfig};

use crate::peer::{Receiver, Seen, frame_from};

/// A stream that has bytes to read and forgets what is written.
struct Replay(Cursor<Vec<u8>>);

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Replay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of bytes: the messages, and whether it found them wrong. That they end
/// without a close frame is not wrong here.
fn tungstenite(role: Role, bytes: &[u8]) -> (Vec<Seen>, bool) {
    let role = match role {
        Role::Server => tungstenite::protocol::Role::Server,
        Role::Client => tungstenite::protocol::Role::Client,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(16 << 20))
        .max_frame_size(Some(16 << 20));
    let stream = Replay(Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(stream, role, Some(config));
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

fn throng(role: Role, bytes: &[u8]) -> (Vec<Seen>, bool) {
    let limits = Limits { max_fragments: u32::MAX, ..Limits::default() };
    let (seen, error) = Receiver::new(role, None, &limits).receive_in(bytes, &[]);
    (seen, error.is_some())
}

/// Frames, many of which follow the rules. Not among them, because tungstenite lets them pass or
/// sees them only when the whole frame has come: lengths in a longer form than needed, frames
/// that are wrong and incomplete, and codes that must not travel.
fn frames(sender: Role) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        1 => any::<u8>().prop_filter("close frames have their own test", |b| b & 0x0f != 8),
    ];
    let payload = prop_oneof![
        vec(any::<u8>(), 0..130),
        "[a-zé€🦀]{0,60}".prop_map(String::into_bytes),
        vec(prop::sample::select(vec![0xf0, 0x9f, 0xa6, 0x80, 0xc3, 0xa9, b'a']), 0..6),
    ];
    vec((first, payload), 0..8).prop_map(move |frames| {
        frames.iter().flat_map(|(first, payload)| frame_from(sender, *first, payload)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_server_sees_what_tungstenite_sees(bytes in frames(Role::Client)) {
        prop_assert_eq!(throng(Role::Server, &bytes), tungstenite(Role::Server, &bytes));
    }

    #[test]
    fn a_client_sees_what_tungstenite_sees(bytes in frames(Role::Server)) {
        prop_assert_eq!(throng(Role::Client, &bytes), tungstenite(Role::Client, &bytes));
    }

    #[test]
    fn tungstenite_reads_what_we_write(
        messages in vec((any::<bool>(), ".{0,200}"), 0..5),
        key in any::<[u8; 4]>(),
    ) {
        for (reader, mask) in [(Role::Server, Some(key)), (Role::Client, None)] {
            let (mut bytes, mut want) = (Vec::new(), Vec::new());
            for (text, payload) in &messages {
                let kind = if *text { throng_wire::Kind::Text } else { throng_wire::Kind::Binary };
                encode(&mut bytes, kind.into(), payload.as_bytes(), mask);
                want.push(match text {
                    true => Seen::Text(payload.clone()),
                    false => Seen::Binary(payload.clone().into_bytes()),
                });
            }
            encode_close(&mut bytes, throng_wire::CloseCode::new(4000), "bye", mask).unwrap();
            want.push(Seen::Close(Some((4000, "bye".to_owned()))));
            prop_assert_eq!(tungstenite(reader, &bytes), (want, false));
        }
    }
}

#[test]
fn both_read_the_same_close_codes() {
    for code in (1000..=1003).chain(1007..=1013).chain([3000, 4999]) {
        let bytes = frame_from(Role::Client, 0x88, &[&u16::to_be_bytes(code)[..], b"why"].concat());
        let want = (vec![Seen::Close(Some((code, "why".to_owned())))], false);
        assert_eq!(throng(Role::Server, &bytes), want);
        assert_eq!(tungstenite(Role::Server, &bytes), want);
    }
}
