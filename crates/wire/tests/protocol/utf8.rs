//! RFC 6455 §8.1: text is UTF-8, and what is not fails as soon as it can be told.

use throng_wire::frame::Role;
use throng_wire::{CloseCode, Limits, ProtocolError};

use crate::peer::{BINARY, FIRST_TEXT, LAST, MORE, Receiver, Seen, TEXT, accepted, frame, refused};

const GOOD: [&str; 9] = [
    "",
    "ASCII",
    "κόσμε",
    "\0\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}",
    "\u{d7ff}\u{e000}\u{fffd}\u{fffe}",
    "𝒳𝒴𝒵 and 日本語",
    "é",
    "🦀",
    "a long one, to get past the block that is looked at in one go: ééééééééééééééééééééééééé🦀",
];

const BAD: [&[u8]; 16] = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"\xc3(",
    b"\xe2\x82(",
];

#[test]
fn good_text_is_accepted_in_any_parts() {
    for text in GOOD {
        assert_eq!(accepted(&frame(TEXT, text.as_bytes())), [Seen::text(text)]);
        for split in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(split);
            let bytes = [frame(FIRST_TEXT, head), frame(MORE, b""), frame(LAST, tail)].concat();
            assert_eq!(accepted(&bytes), [Seen::text(text)]);
        }
        let mut bytes = frame(FIRST_TEXT, b"");
        for byte in text.bytes() {
            bytes.extend(frame(MORE, &[byte]));
        }
        bytes.extend(frame(LAST, b""));
        let mut receiver = Receiver::new(Role::Server, None, &Limits::default());
        receiver.receive(&bytes).unwrap();
        assert_eq!(receiver.seen, [Seen::text(text)]);
    }
}

#[test]
fn bad_text_is_refused_wherever_it_is() {
    for bad in BAD {
        for before in [&b""[..], b"fine", &[b'x'; 100], "é".as_bytes()] {
            for after in [&b""[..], b"fine", &[b'x'; 100]] {
                let text = [before, bad, after].concat();
                assert_eq!(refused(&frame(TEXT, &text)), ProtocolError::Utf8, "{text:x?}");
                let (head, tail) = text.split_at(text.len() / 2);
                let bytes = [frame(FIRST_TEXT, head), frame(LAST, tail)].concat();
                assert_eq!(refused(&bytes), ProtocolError::Utf8, "{text:x?}");
            }
        }
    }
    assert_eq!(ProtocolError::Utf8.close_code(), CloseCode::INVALID_PAYLOAD);
}

#[test]
fn a_message_does_not_end_within_a_character() {
    for character in ["é", "€", "🦀"] {
        for len in 1..character.len() {
            let part = &character.as_bytes()[..len];
            assert_eq!(refused(&frame(TEXT, part)), ProtocolError::Utf8);
            let bytes = [frame(FIRST_TEXT, part), frame(LAST, b"")].concat();
            assert_eq!(refused(&bytes), ProtocolError::Utf8);
        }
    }
}

/// Receives `good`, then `bad` byte by byte, and returns how many of its bytes were accepted.
fn accepted_before_failing(good: &[u8], bad: &[u8]) -> usize {
    let mut receiver = Receiver::new(Role::Server, None, &Limits::default());
    receiver.receive(good).expect("nothing is wrong yet");
    for (count, byte) in bad.iter().enumerate() {
        if let Err(error) = receiver.receive(&[*byte]) {
            assert_eq!(error, ProtocolError::Utf8);
            return count;
        }
    }
    panic!("it was accepted");
}

#[test]
fn bad_text_fails_at_the_first_impossible_byte_of_an_incomplete_frame() {
    for (text, at) in [
        (&b"ok\xff...."[..], 2),
        (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80", 12),
        (b"\xed\xa0\x80", 1),
        (b"\xf0\x80\x80\x80", 1),
        (b"\xc3(", 1),
        (b"\xe2\x82(", 2),
    ] {
        let bytes = frame(TEXT, text);
        assert_eq!(accepted_before_failing(&bytes[..6], &bytes[6..]), at, "{text:x?}");
    }
}

#[test]
fn bad_text_fails_in_its_part_and_not_in_the_last() {
    let mut receiver = Receiver::new(Role::Server, None, &Limits::default());
    receiver.receive(&frame(FIRST_TEXT, b"\xf4")).unwrap();
    assert_eq!(receiver.receive(&frame(MORE, b"\x90")), Err(ProtocolError::Utf8));
    let mut receiver = Receiver::new(Role::Server, None, &Limits::default());
    assert_eq!(receiver.receive(&frame(FIRST_TEXT, b"abc\x80")), Err(ProtocolError::Utf8));
}

#[test]
fn binary_messages_are_any_bytes() {
    for bad in BAD {
        assert_eq!(accepted(&frame(BINARY, bad)), [Seen::Binary(bad.to_vec())]);
        let bytes = [frame(0x02, bad), frame(LAST, bad)].concat();
        assert_eq!(accepted(&bytes), [Seen::Binary(bad.repeat(2))]);
    }
}
