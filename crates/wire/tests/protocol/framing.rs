//! RFC 6455 §5.1–5.3: headers, lengths, masks.

use throng_wire::frame::{Role, header};
use throng_wire::{
    CloseCode, Decoder, Event, Kind, Limits, OpCode, ProtocolError, Scratch, encode,
};

use crate::peer::{
    BINARY, CLOSE, KEY, PING, PONG, RSV1, Seen, TEXT, accepted, decode_with, frame, frame_from,
    refused,
};

#[test]
fn every_form_of_length_is_read() {
    for len in [0, 1, 31, 32, 33, 125, 126, 127, 128, 0xffff, 0x1_0000, 0x1_0001, 200_000] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        assert_eq!(accepted(&frame(BINARY, &payload)), [Seen::Binary(payload)], "{len}");
    }
}

#[test]
fn frames_that_follow_each_other_are_told_apart() {
    let bytes =
        [frame(TEXT, b"one"), frame(BINARY, &[2; 300]), frame(PING, b"3"), frame(TEXT, b"")]
            .concat();
    let want =
        [Seen::text("one"), Seen::Binary(vec![2; 300]), Seen::Ping(b"3".to_vec()), Seen::text("")];
    assert_eq!(accepted(&bytes), want);
}

#[test]
fn a_whole_frame_is_unmasked_in_place_and_nothing_is_kept() {
    for (role, mask) in [(Role::Server, Some(KEY)), (Role::Client, None)] {
        for (opcode, kind) in [(OpCode::Text, Kind::Text), (OpCode::Binary, Kind::Binary)] {
            for len in [0, 5, 125, 126, 5_000, 70_000] {
                let mut bytes = Vec::new();
                encode(&mut bytes, opcode, &vec![b'a'; len], mask);
                let size = bytes.len();
                let place = bytes.as_ptr_range();
                let mut decoder = Decoder::new(role, None);
                let mut scratch = Scratch::new();
                let step = decoder.next(&Limits::default(), &mut bytes, &mut scratch).unwrap();
                assert_eq!(step.consumed, size);
                let Some(Event::Message { kind: got, payload }) = step.event else {
                    panic!("a message of {len}");
                };
                assert_eq!(got, kind);
                assert_eq!(payload, vec![b'a'; len]);
                assert_eq!(payload.as_ptr_range().end, place.end, "in place");
                assert!(decoder.is_idle());
                assert_eq!(decoder.buffered(), 0);
            }
        }
    }
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 24, "{}", size_of::<Decoder>());
}

#[test]
fn nothing_received_is_no_event() {
    let mut decoder = Decoder::new(Role::Server, None);
    let mut scratch = Scratch::new();
    let step = decoder.next(&Limits::default(), &mut [], &mut scratch).unwrap();
    assert_eq!(step.consumed, 0);
    assert_eq!(step.event, None);
    assert!(decoder.is_idle());
}

#[test]
fn clients_mask_and_servers_do_not() {
    assert_eq!(refused(&frame_from(Role::Server, TEXT, b"hi")), ProtocolError::Unmasked);
    assert_eq!(refused(&frame_from(Role::Server, PING, b"")), ProtocolError::Unmasked);
    let limits = Limits::default();
    let masked = frame_from(Role::Client, TEXT, b"hi");
    let (seen, error) = decode_with(Role::Client, None, &limits, &masked);
    assert_eq!((seen, error), (vec![], Some(ProtocolError::Masked)));
    let plain = frame_from(Role::Server, TEXT, b"hi");
    assert_eq!(decode_with(Role::Client, None, &limits, &plain), (vec![Seen::text("hi")], None));
}

#[test]
fn a_mask_of_zeros_is_a_mask() {
    assert_eq!(accepted(b"\x81\x82\0\0\0\0hi"), [Seen::text("hi")]);
}

#[test]
fn reserved_bits_have_no_meaning_without_an_extension() {
    for bits in 1..8 {
        for first in [TEXT, BINARY, PING, PONG, CLOSE, 0x01, 0x80] {
            let error = refused(&frame(first | bits << 4, b""));
            assert_eq!(error, ProtocolError::ReservedBits, "{bits:03b} {first:#x}");
        }
    }
    assert_eq!(refused(&frame(TEXT | RSV1, b"x")).close_code(), CloseCode::PROTOCOL);
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in (3..8).chain(11..16) {
        for fin in [0, 0x80] {
            let error = refused(&frame(fin | opcode, b"x"));
            assert_eq!(error, ProtocolError::ReservedOpcode { opcode });
            assert_eq!(error.close_code(), CloseCode::PROTOCOL);
        }
    }
}

#[test]
fn lengths_are_in_their_shortest_form() {
    for len in [0_u16, 1, 125] {
        let mut bytes = vec![BINARY, 0x80 | 126];
        bytes.extend(len.to_be_bytes());
        bytes.extend([0; 4 + 125]);
        assert_eq!(refused(&bytes), ProtocolError::LengthNotMinimal, "{len}");
    }
    for len in [0_u64, 125, 126, 0xffff] {
        let mut bytes = vec![BINARY, 0x80 | 127];
        bytes.extend(len.to_be_bytes());
        bytes.extend([0; 4]);
        assert_eq!(refused(&bytes), ProtocolError::LengthNotMinimal, "{len}");
    }
}

#[test]
fn a_length_has_63_bits() {
    for len in [1_u64 << 63, u64::MAX] {
        let mut bytes = vec![BINARY, 0x80 | 127];
        bytes.extend(len.to_be_bytes());
        bytes.extend([0; 4]);
        assert_eq!(refused(&bytes), ProtocolError::LengthTopBit);
    }
}

#[test]
fn a_broken_rule_is_reported_before_the_payload_comes() {
    // Two bytes of header are enough.
    let mut receiver = crate::peer::Receiver::new(Role::Server, None, &Limits::default());
    assert_eq!(receiver.receive(&[0x83, 0xff]), Err(ProtocolError::ReservedOpcode { opcode: 3 }));
    let mut receiver = crate::peer::Receiver::new(Role::Server, None, &Limits::default());
    assert_eq!(receiver.receive(&[PING, 0xfe]), Err(ProtocolError::ControlTooLong));
}

#[test]
fn what_came_before_a_broken_rule_is_reported() {
    let bytes = [frame(TEXT, b"good"), frame(PING, b""), frame(0x83, b"bad")].concat();
    let (seen, error) = crate::peer::decode(&bytes);
    assert_eq!(seen, [Seen::text("good"), Seen::Ping(vec![])]);
    assert_eq!(error, Some(ProtocolError::ReservedOpcode { opcode: 3 }));
}

#[test]
fn an_error_frees_what_was_kept() {
    let mut receiver = crate::peer::Receiver::new(Role::Server, None, &Limits::default());
    receiver.receive(&frame(0x01, &[b'x'; 1000])).unwrap();
    assert!(receiver.decoder.buffered() >= 1000);
    receiver.receive(&frame(0x83, b"")).unwrap_err();
    assert_eq!(receiver.decoder.buffered(), 0);
    // Also where it is not the frame but what it says that is wrong.
    let mut receiver = crate::peer::Receiver::new(Role::Server, None, &Limits::default());
    receiver.receive(&frame(0x01, &[b'x'; 1000])).unwrap();
    receiver.receive(&frame(CLOSE, b"\x00\x00")).unwrap_err();
    assert_eq!(receiver.decoder.buffered(), 0);
}

#[test]
fn headers_are_as_short_as_can_be() {
    for (len, size) in [(125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10)] {
        assert_eq!(header(true, false, OpCode::Binary, len, None).as_slice().len(), size);
        assert_eq!(header(true, false, OpCode::Binary, len, Some(KEY)).as_ref().len(), size + 4);
    }
}
