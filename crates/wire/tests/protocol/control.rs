//! RFC 6455 §5.5: control frames.

use throng_wire::frame::Role;
use throng_wire::{CloseCode, Limits, ProtocolError};

use crate::peer::{CLOSE, PING, PONG, Receiver, Seen, accepted, frame, refused};

#[test]
fn pings_and_pongs_carry_up_to_125_bytes() {
    for len in [0, 1, 8, 124, 125] {
        let payload: Vec<u8> = (0..len).collect();
        assert_eq!(accepted(&frame(PING, &payload)), [Seen::Ping(payload.clone())]);
        assert_eq!(accepted(&frame(PONG, &payload)), [Seen::Pong(payload)]);
    }
}

#[test]
fn a_payload_need_not_be_utf8() {
    assert_eq!(accepted(&frame(PING, b"\xff\x00\xfe")), [Seen::Ping(b"\xff\x00\xfe".to_vec())]);
}

#[test]
fn control_frames_are_short() {
    for first in [PING, PONG, CLOSE] {
        for len in [126, 127, 70_000] {
            let error = refused(&frame(first, &vec![0; len]));
            assert_eq!(error, ProtocolError::ControlTooLong);
            assert_eq!(error.close_code(), CloseCode::PROTOCOL);
        }
    }
}

#[test]
fn control_frames_are_whole() {
    for first in [PING, PONG, CLOSE] {
        assert_eq!(refused(&frame(first & 0x0f, b"")), ProtocolError::FragmentedControl);
        let bytes = [frame(0x01, b"a"), frame(first & 0x0f, b"")].concat();
        assert_eq!(refused(&bytes), ProtocolError::FragmentedControl);
    }
    assert_eq!(ProtocolError::FragmentedControl.close_code(), CloseCode::PROTOCOL);
}

#[test]
fn limits_for_messages_do_not_hold_for_control_frames() {
    let limits = Limits { max_frame: 1, max_message: 1, max_fragments: 1 };
    let mut receiver = Receiver::new(Role::Server, None, &limits);
    let bytes = frame(PING, &[1; 125]);
    receiver.receive(&bytes).unwrap();
    receiver.receive(&bytes[..50]).unwrap();
    receiver.receive(&bytes[50..]).unwrap();
    assert_eq!(receiver.seen, [Seen::Ping(vec![1; 125]), Seen::Ping(vec![1; 125])]);
    assert!(receiver.decoder.is_idle());
}
