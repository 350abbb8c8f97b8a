//! RFC 7692: permessage-deflate.

use throng_wire::deflate::{Deflater, Inflater};
use throng_wire::frame::Role;
use throng_wire::{CloseCode, Deflate, Limits, ProtocolError, encode_compressed};

use crate::peer::{
    BINARY, FIRST_TEXT, KEY, LAST, MORE, Outcome, PING, RSV1, Receiver, Seen, TEXT, decode_with,
    frame,
};

fn agreed(takeover: bool, bits: u8) -> Deflate {
    Deflate {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: bits,
        client_max_window_bits: bits,
    }
}

fn decode(bytes: &[u8]) -> Outcome {
    decode_with(Role::Server, Some(agreed(false, 15)), &Limits::default(), bytes)
}

fn takeover(bytes: &[u8]) -> Outcome {
    decode_with(Role::Server, Some(agreed(true, 15)), &Limits::default(), bytes)
}

fn hello(count: usize) -> Outcome {
    (vec![Seen::text("Hello"); count], None)
}

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn the_examples_of_the_rfc() {
    // RFC 7692 §7.2.3.1: one block, whole and in two frames.
    assert_eq!(decode(&frame(TEXT | RSV1, &HELLO)), hello(1));
    let parts = [frame(FIRST_TEXT | RSV1, &HELLO[..3]), frame(LAST, &HELLO[3..])].concat();
    assert_eq!(decode(&parts), hello(1));
    // §7.2.3.2: sharing the window.
    let second = frame(TEXT | RSV1, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
    let both = [frame(TEXT | RSV1, &HELLO), second].concat();
    assert_eq!(takeover(&both), hello(2));
    let (seen, error) = decode(&both);
    assert_eq!((seen.len(), error), (1, Some(ProtocolError::Deflate)));
    // §7.2.3.3: a block without compression.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(decode(&frame(TEXT | RSV1, &stored)), hello(1));
    // §7.2.3.4: a last block.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(decode(&frame(TEXT | RSV1, &last)), hello(1));
    assert_eq!(takeover(&frame(TEXT | RSV1, &last).repeat(3)), hello(3));
    // What follows a last block is a new stream; without anything it is the end.
    let twice = [&last[..7], &HELLO].concat();
    let want = (vec![Seen::text("HelloHello")], None);
    assert_eq!(decode(&frame(TEXT | RSV1, &twice)), want);
    assert_eq!(decode(&frame(TEXT | RSV1, &last[..7])), hello(1));
    // §7.2.3.5: two blocks.
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(decode(&frame(TEXT | RSV1, &two)), hello(1));
    // §7.2.3.6: an empty message.
    assert_eq!(decode(&frame(TEXT | RSV1, &[0x00])), (vec![Seen::text("")], None));
}

#[test]
fn each_message_says_whether_it_is_compressed() {
    let bytes = [
        frame(TEXT, b"plain"),
        frame(TEXT | RSV1, &HELLO),
        frame(BINARY, b"\xff"),
        frame(FIRST_TEXT | RSV1, &HELLO[..1]),
        frame(PING, b"between"),
        frame(MORE, &HELLO[1..]),
        frame(LAST, b""),
    ]
    .concat();
    let want = vec![
        Seen::text("plain"),
        Seen::text("Hello"),
        Seen::Binary(vec![0xff]),
        Seen::Ping(b"between".to_vec()),
        Seen::text("Hello"),
    ];
    assert_eq!(decode(&bytes), (want.clone(), None));
    assert_eq!(takeover(&bytes), (want, None));
}

#[test]
fn only_the_first_frame_of_a_message_says_so() {
    let bytes = [frame(FIRST_TEXT | RSV1, &HELLO[..3]), frame(LAST | RSV1, &HELLO[3..])].concat();
    assert_eq!(decode(&bytes).1, Some(ProtocolError::ReservedBits));
    for first in [PING, 0x8a, 0x88] {
        assert_eq!(decode(&frame(first | RSV1, b"")).1, Some(ProtocolError::ReservedBits));
    }
    for bits in [0x10, 0x20] {
        assert_eq!(decode(&frame(TEXT | RSV1 | bits, b"")).1, Some(ProtocolError::ReservedBits));
    }
}

#[test]
fn corrupt_data_are_refused() {
    for data in [
        &b""[..],                     // Not even an empty block.
        &HELLO[..3],                  // Ends within a block.
        &HELLO[..6],                  // The byte that the flush's mark completes is missing.
        b"\x07\x00",                  // A block of the reserved kind.
        b"\x00\x05\x00\x00\x00Hello", // A length that is not its complement's.
        b"\x02\x03\xff\xff\xff\xff",
        b"\xf2\x00\x11\x00\x00", // Refers to what was before the message.
    ] {
        let (seen, error) = decode(&frame(TEXT | RSV1, data));
        assert_eq!((seen, error), (vec![], Some(ProtocolError::Deflate)), "{data:x?}");
    }
    assert_eq!(ProtocolError::Deflate.close_code(), CloseCode::INVALID_PAYLOAD);
}

#[test]
fn compressed_text_is_utf8_too() {
    let mut deflated = Vec::new();
    Deflater::new(6, 8, 15).compress(b"not \xff text", &mut deflated);
    assert_eq!(decode(&frame(TEXT | RSV1, &deflated)).1, Some(ProtocolError::Utf8));
    let want = vec![Seen::Binary(b"not \xff text".to_vec())];
    assert_eq!(decode(&frame(BINARY | RSV1, &deflated)), (want, None));
}

#[test]
fn a_zip_bomb_goes_off_at_the_limit() {
    let mut bomb = Vec::new();
    Deflater::new(9, 9, 15).compress(&vec![0; 20 << 20], &mut bomb);
    assert!(bomb.len() < 25_000, "{}", bomb.len());
    let limits = Limits { max_message: 50_000, ..Limits::default() };
    let bytes = frame(BINARY | RSV1, &bomb);
    let error = decode_with(Role::Server, Some(agreed(false, 15)), &limits, &bytes).1.unwrap();
    assert_eq!(error, ProtocolError::MessageTooBig { limit: 50_000 });
    assert_eq!(error.close_code(), CloseCode::TOO_BIG);
}

#[test]
fn the_limit_is_for_what_travels_as_well() {
    let limits = Limits { max_message: 4, ..Limits::default() };
    let deflate = Some(agreed(false, 15));
    let error = decode_with(Role::Server, deflate, &limits, &frame(TEXT | RSV1, &HELLO)).1;
    assert_eq!(error, Some(ProtocolError::MessageTooBig { limit: 4 }));
    // Beyond what deflate may add to data it can't compress.
    let limits = Limits { max_frame: 6, ..Limits::default() };
    let error = decode_with(Role::Server, deflate, &limits, &frame(TEXT | RSV1, &[0; 71])).1;
    assert_eq!(error, Some(ProtocolError::FrameTooBig { announced: 71, limit: 6 }));
}

#[test]
fn a_message_may_be_exactly_as_long_as_the_limit() {
    let mut deflated = Vec::new();
    for len in [1, 2, 4095, 4096, 4097, 10_000, 12_288, 65_536] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        deflated.clear();
        Deflater::new(6, 8, 15).compress(&payload, &mut deflated);
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&deflated, None, len).unwrap(), payload);
        let error = inflater.inflate(&deflated, None, len - 1).unwrap_err();
        assert_eq!(error, ProtocolError::MessageTooBig { limit: len - 1 });
        assert_eq!(inflater.inflate(&deflated, None, usize::MAX).unwrap(), payload);
    }
}

#[test]
fn contexts_are_taken_over_through_every_window() {
    for bits in 8..=15 {
        for level in [1, 3, 6, 9] {
            let mut deflater = Deflater::new(level, 8, bits);
            let mut receiver =
                Receiver::new(Role::Server, Some(agreed(true, bits)), &Limits::default());
            let mut sent = Vec::new();
            let mut sizes = Vec::new();
            for round in 0..40_usize {
                // Some refer back a little, some as far as a window reaches, some span it.
                let len = [10, 200, 3000, 40_000][round % 4];
                let payload: Vec<u8> =
                    (0..len).map(|i| ((i / 7) * 31 + (i * i) % 11 + round / 8) as u8).collect();
                let mut deflated = Vec::new();
                deflater.compress_with_context(&payload, &mut deflated);
                sizes.push(deflated.len());
                let mut bytes = Vec::new();
                encode_compressed(&mut bytes, throng_wire::OpCode::Binary, &deflated, Some(KEY));
                receiver.receive(&bytes).unwrap();
                sent.push(Seen::Binary(payload));
            }
            assert_eq!(receiver.seen, sent, "{bits} bits, level {level}");
            assert!(receiver.decoder.is_idle());
        }
    }
}

#[test]
fn taking_over_pays() {
    let message = br#"{"type":"chat","from":"somebody","text":"something or other"}"#;
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    let mut deflater = Deflater::new(6, 8, 15);
    for _ in 0..3 {
        deflater.compress(message, &mut alone);
    }
    let mut deflater = Deflater::new(6, 8, 15);
    for _ in 0..3 {
        deflater.compress_with_context(message, &mut together);
    }
    assert!(together.len() < alone.len() / 2, "{} {}", together.len(), alone.len());
}

#[test]
fn an_empty_message_is_one_byte_with_or_without_context() {
    let mut deflater = Deflater::new(6, 8, 15);
    for _ in 0..3 {
        let mut out = Vec::new();
        deflater.compress(b"", &mut out);
        assert_eq!(out, [0]);
    }
    let mut receiver = Receiver::new(Role::Server, Some(agreed(true, 15)), &Limits::default());
    for text in ["", "", "a", "", "a", ""] {
        let mut out = Vec::new();
        deflater.compress_with_context(text.as_bytes(), &mut out);
        receiver.receive(&frame(TEXT | RSV1, &out)).unwrap();
        assert_eq!(receiver.seen.pop(), Some(Seen::text(text)));
    }
}

#[test]
fn one_scratch_serves_connections_that_take_over_and_others() {
    let mut scratch = throng_wire::Scratch::new();
    let limits = Limits::default();
    let mut peers: Vec<_> = [true, false, true]
        .map(|takeover| {
            (
                takeover,
                Deflater::new(6, 8, 15),
                throng_wire::Decoder::new(Role::Server, Some(agreed(takeover, 15))),
            )
        })
        .into();
    for round in 0..20 {
        for (peer, (takeover, deflater, decoder)) in peers.iter_mut().enumerate() {
            let text = format!("peer {peer} says the same in every round, as in {round}");
            let mut deflated = Vec::new();
            if *takeover {
                deflater.compress_with_context(text.as_bytes(), &mut deflated);
            } else {
                deflater.compress(text.as_bytes(), &mut deflated);
            }
            let mut bytes = frame(TEXT | RSV1, &deflated);
            let step = decoder.next(&limits, &mut bytes, &mut scratch).unwrap();
            assert_eq!(Seen::new(step.event.unwrap()), Seen::Text(text));
        }
        scratch.trim();
    }
}

#[test]
fn what_cannot_be_compressed_may_be_a_little_longer_than_the_limit_as_it_travels() {
    let mut state = 7u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(1 << 18)
    .collect();
    let mut data = Vec::new();
    Deflater::new(4, 8, 15).compress(&noise, &mut data);
    assert!(data.len() > noise.len(), "{}", data.len());
    let mut bytes = Vec::new();
    encode_compressed(&mut bytes, throng_wire::OpCode::Binary, &data, Some(KEY));
    let receive = |limit: usize| {
        let limits = Limits { max_frame: limit, max_message: limit, ..Limits::default() };
        decode_with(Role::Server, Some(agreed(false, 15)), &limits, &bytes)
    };
    let (seen, error) = receive(noise.len());
    assert!(error.is_none() && seen.len() == 1, "{error:?}");
    let (seen, error) = receive(noise.len() - 1);
    assert!(seen.is_empty());
    assert_eq!(error.map(|error| error.close_code()), Some(CloseCode::TOO_BIG));
}
