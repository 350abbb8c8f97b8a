//! RFC 6455 §5.4: messages in parts.

use throng_wire::frame::Role;
use throng_wire::{CloseCode, Limits, ProtocolError};

use crate::peer::{
    BINARY, FIRST_BINARY, FIRST_TEXT, LAST, MORE, PING, PONG, Receiver, Seen, TEXT, accepted,
    frame, refused,
};

#[test]
fn parts_become_one_message() {
    let bytes = [frame(FIRST_TEXT, b"Hel"), frame(MORE, b"lo"), frame(LAST, b", you")].concat();
    assert_eq!(accepted(&bytes), [Seen::text("Hello, you")]);
    let bytes = [frame(FIRST_BINARY, &[1; 200]), frame(LAST, &[2; 70_000])].concat();
    let want = [vec![1; 200], vec![2; 70_000]].concat();
    assert_eq!(accepted(&bytes), [Seen::Binary(want)]);
}

#[test]
fn parts_may_be_empty() {
    let bytes = [frame(FIRST_TEXT, b""), frame(MORE, b""), frame(LAST, b"")].concat();
    assert_eq!(accepted(&bytes), [Seen::text("")]);
    let bytes =
        [frame(FIRST_BINARY, b""), frame(MORE, b"x"), frame(MORE, b""), frame(LAST, b"")].concat();
    assert_eq!(accepted(&bytes), [Seen::Binary(b"x".to_vec())]);
}

#[test]
fn control_frames_may_come_between_parts() {
    let bytes = [
        frame(FIRST_TEXT, b"a"),
        frame(PING, b"p"),
        frame(MORE, b"b"),
        frame(PONG, b""),
        frame(PING, &[7; 125]),
        frame(LAST, b"c"),
        frame(BINARY, b"d"),
    ]
    .concat();
    let want = [
        Seen::Ping(b"p".to_vec()),
        Seen::Pong(vec![]),
        Seen::Ping(vec![7; 125]),
        Seen::text("abc"),
        Seen::Binary(b"d".to_vec()),
    ];
    assert_eq!(accepted(&bytes), want);
}

#[test]
fn a_close_between_parts_is_reported() {
    let bytes = [frame(FIRST_TEXT, b"a"), frame(0x88, b"\x03\xe8"), frame(LAST, b"b")].concat();
    assert_eq!(accepted(&bytes), [Seen::Close(Some((1000, String::new())))]);
}

#[test]
fn a_continuation_continues_something() {
    for first in [MORE, LAST] {
        assert_eq!(refused(&frame(first, b"x")), ProtocolError::UnexpectedContinuation);
        let bytes = [frame(FIRST_TEXT, b"a"), frame(LAST, b"b"), frame(first, b"c")].concat();
        assert_eq!(refused(&bytes), ProtocolError::UnexpectedContinuation);
        let bytes = [frame(TEXT, b"a"), frame(first, b"b")].concat();
        assert_eq!(refused(&bytes), ProtocolError::UnexpectedContinuation);
    }
    assert_eq!(ProtocolError::UnexpectedContinuation.close_code(), CloseCode::PROTOCOL);
}

#[test]
fn messages_do_not_interleave() {
    for first in [TEXT, BINARY, FIRST_TEXT, FIRST_BINARY] {
        let bytes = [frame(FIRST_TEXT, b"a"), frame(first, b"b")].concat();
        assert_eq!(refused(&bytes), ProtocolError::InterleavedMessage);
        let bytes = [frame(FIRST_TEXT, b"a"), frame(PING, b""), frame(first, b"b")].concat();
        assert_eq!(refused(&bytes), ProtocolError::InterleavedMessage);
    }
    assert_eq!(ProtocolError::InterleavedMessage.close_code(), CloseCode::PROTOCOL);
}

#[test]
fn nothing_is_kept_after_the_last_part() {
    let mut receiver = Receiver::new(Role::Server, None, &Limits::default());
    receiver.receive(&frame(FIRST_BINARY, &[1; 10_000])).unwrap();
    assert!(!receiver.decoder.is_idle());
    receiver.receive(&frame(LAST, &[2; 10_000])).unwrap();
    assert!(receiver.decoder.is_idle());
    assert_eq!(receiver.decoder.buffered(), 0);
    assert_eq!(receiver.seen.len(), 1);
}

#[test]
fn small_parts_are_counted() {
    use throng_wire::frame::{OpCode, Role, header};
    use throng_wire::{Decoder, Limits, Scratch};
    let part = |fin, opcode, len| {
        let mut bytes = header(fin, false, opcode, len, Some([0; 4])).as_slice().to_vec();
        bytes.resize(bytes.len() + len, b'x');
        bytes
    };
    let mut bytes = part(true, OpCode::Text, 5); // whole
    bytes.extend(part(false, OpCode::Text, 255));
    bytes.extend(part(false, OpCode::Continuation, 256));
    bytes.extend(part(true, OpCode::Ping, 0));
    for _ in 0..10 {
        bytes.extend(part(false, OpCode::Continuation, 0));
    }
    bytes.extend(part(true, OpCode::Continuation, 1)); // the last
    for chunk in [1, 7, bytes.len()] {
        let (mut decoder, mut scratch) = (Decoder::new(Role::Server, None), Scratch::new());
        let (mut slivers, mut most) = (0, 0);
        for piece in bytes.chunks(chunk) {
            let mut piece = piece.to_vec();
            let mut rest = &mut piece[..];
            while !rest.is_empty() {
                let used = decoder.next(&Limits::default(), rest, &mut scratch).unwrap().consumed;
                rest = &mut rest[used..];
                slivers += decoder.take_slivers();
                most = most.max(decoder.held());
            }
        }
        assert_eq!((slivers, decoder.take_slivers(), decoder.held()), (11, 0, 0));
        assert!((512..4096).contains(&most), "{most}");
    }
}
