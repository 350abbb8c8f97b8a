//! What a peer may cost us.

use throng_wire::frame::{OpCode, Role, header};
use throng_wire::{CloseCode, Limits, ProtocolError};

use crate::peer::{
    BINARY, FIRST_BINARY, KEY, LAST, MORE, Outcome, PING, Receiver, Seen, decode_with, frame,
};

fn limited(limits: &Limits, bytes: &[u8]) -> Outcome {
    decode_with(Role::Server, None, limits, bytes)
}

#[test]
fn the_defaults_are_those_documented() {
    let want = Limits { max_frame: 16 << 20, max_message: 16 << 20, max_fragments: 131_072 };
    assert_eq!(Limits::default(), want);
}

#[test]
fn a_frame_may_be_as_long_as_the_limit() {
    for max_frame in [0, 10, 125, 126, 300, 70_000] {
        let limits = Limits { max_frame, ..Limits::default() };
        let payload = vec![1; max_frame];
        assert_eq!(limited(&limits, &frame(BINARY, &payload)).0, [Seen::Binary(payload)]);
        let (seen, error) = limited(&limits, &frame(BINARY, &vec![1; max_frame + 1]));
        let announced = max_frame as u64 + 1;
        assert_eq!(seen, []);
        assert_eq!(error, Some(ProtocolError::FrameTooBig { announced, limit: max_frame }));
        assert_eq!(error.unwrap().close_code(), CloseCode::TOO_BIG);
    }
}

#[test]
fn a_message_may_be_as_long_as_the_limit_however_it_is_cut() {
    let limits = Limits { max_message: 100, ..Limits::default() };
    let error = ProtocolError::MessageTooBig { limit: 100 };
    assert_eq!(error.close_code(), CloseCode::TOO_BIG);
    let error = Some(error);
    let fits = [frame(FIRST_BINARY, &[1; 60]), frame(MORE, &[1; 30]), frame(LAST, &[1; 10])];
    assert_eq!(limited(&limits, &fits.concat()).0, [Seen::Binary(vec![1; 100])]);
    assert_eq!(limited(&limits, &frame(BINARY, &[1; 100])).0, [Seen::Binary(vec![1; 100])]);
    assert_eq!(limited(&limits, &frame(BINARY, &[1; 101])).1, error);
    let over = [frame(FIRST_BINARY, &[1; 60]), frame(LAST, &[1; 41])];
    assert_eq!(limited(&limits, &over.concat()).1, error);
}

#[test]
fn a_message_that_will_be_too_long_fails_before_it_is() {
    let limits = Limits { max_message: 1000, ..Limits::default() };
    let mut receiver = Receiver::new(Role::Server, None, &limits);
    receiver.receive(&frame(FIRST_BINARY, &[1; 500])).unwrap();
    let announced = header(true, false, OpCode::Continuation, 501, Some(KEY));
    let error = receiver.receive(announced.as_slice());
    assert_eq!(error, Err(ProtocolError::MessageTooBig { limit: 1000 }));
}

#[test]
fn fragments_count_even_if_they_are_empty() {
    let limits = Limits { max_fragments: 4, ..Limits::default() };
    let error = ProtocolError::TooManyFragments { limit: 4 };
    assert_eq!(error.close_code(), CloseCode::POLICY);
    let error = Some(error);
    let message = |count: usize| {
        let mut bytes = frame(FIRST_BINARY, b"");
        for _ in 0..count - 2 {
            bytes.extend(frame(PING, b""));
            bytes.extend(frame(MORE, b""));
        }
        bytes.extend(frame(LAST, b"x"));
        bytes
    };
    let (seen, none) = limited(&limits, &message(4));
    assert_eq!((seen.last(), none), (Some(&Seen::Binary(b"x".to_vec())), None));
    assert_eq!(limited(&limits, &message(5)).1, error);
    // The next message has its own count.
    assert_eq!(limited(&limits, &[message(4), message(4)].concat()).1, None);
}

#[test]
fn an_announced_length_costs_nothing() {
    let limits = Limits { max_frame: usize::MAX, max_message: usize::MAX, ..Limits::default() };
    for (len, masked) in [(1 << 20, true), (16 << 20, false), (isize::MAX as usize, true)] {
        let (role, key) = if masked { (Role::Server, Some(KEY)) } else { (Role::Client, None) };
        for (fin, opcode) in [(true, OpCode::Binary), (false, OpCode::Text)] {
            let mut receiver = Receiver::new(role, None, &limits);
            let announced = header(fin, false, opcode, len, key);
            receiver.receive(announced.as_slice()).unwrap();
            assert!(receiver.decoder.buffered() < 300, "{}", receiver.decoder.buffered());
        }
    }
}

#[test]
fn memory_follows_the_bytes_received() {
    // `Receiver` checks the bound after every chunk.
    let payload = vec![7; 3 << 20];
    let bytes = frame(BINARY, &payload);
    let mut receiver = Receiver::new(Role::Server, None, &Limits::default());
    for chunk in bytes[..bytes.len() - 1].chunks(10_007) {
        receiver.receive(chunk).unwrap();
    }
    assert!(receiver.decoder.buffered() <= payload.len() + 300, "the length caps the growth");
    receiver.receive(&bytes[bytes.len() - 1..]).unwrap();
    assert_eq!(receiver.seen, [Seen::Binary(payload)]);
    assert_eq!(receiver.decoder.buffered(), 0);
}

#[test]
fn many_fragments_are_gathered_without_copying_each_time() {
    let mut bytes = frame(FIRST_BINARY, b"");
    for _ in 0..100_000 {
        bytes.extend(frame(MORE, b"x"));
    }
    bytes.extend(frame(LAST, b""));
    let mut receiver = Receiver::new(Role::Server, None, &Limits::default());
    for chunk in bytes.chunks(4096) {
        receiver.receive(chunk).unwrap();
    }
    assert_eq!(receiver.seen, [Seen::Binary(vec![b'x'; 100_000])]);
}

#[test]
fn a_flood_of_empty_fragments_ends() {
    let empty = frame(MORE, b"").repeat(1000);
    let mut receiver = Receiver::new(Role::Server, None, &Limits::default());
    receiver.receive(&frame(FIRST_BINARY, b"")).unwrap();
    let error = (0..200).find_map(|_| receiver.receive(&empty).err());
    assert_eq!(error, Some(ProtocolError::TooManyFragments { limit: 131_072 }));
}
