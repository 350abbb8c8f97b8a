//! `throng-instructions CASE TIMES`: does one thing a number of times, for
//! `bench/instructions/run` to count the instructions of; without arguments it lists the cases.

use std::hint::black_box;
use std::process::ExitCode;

use http::{HeaderMap, HeaderValue, Method, Version};
use throng_wire::frame::apply_mask;
use throng_wire::handshake::server::{ServerOptions, accept};
use throng_wire::{Decoder, Event, Limits, OpCode, Prepared, Role, Scratch, encode};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const NO_MASK: [u8; 4] = [0; 4];

/// A name, and what does the thing so many times.
type Case = (&'static str, fn(usize));

const CASES: [Case; 10] = [
    ("decode-text-32", |times| decode(OpCode::Text, 32, times)),
    ("decode-text-128", |times| decode(OpCode::Text, 128, times)),
    ("decode-text-16k", |times| decode(OpCode::Text, 16384, times)),
    ("decode-binary-32", |times| decode(OpCode::Binary, 32, times)),
    ("decode-split-128", decode_split),
    ("encode-32", |times| encode_frames(32, times)),
    ("encode-1k", |times| encode_frames(1024, times)),
    ("prepare-128", prepare),
    ("mask-16k", mask),
    ("handshake", handshake),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let times = arguments.next().and_then(|times| times.parse().ok());
    let case = CASES.iter().find(|(case, _)| *case == name);
    let (Some(times), Some((_, case))) = (times, case) else {
        eprintln!("usage: throng-instructions [CASE TIMES]");
        return ExitCode::from(2);
    };
    case(times);
    ExitCode::SUCCESS
}

/// ASCII, as most of what travels is.
fn payload(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size).collect()
}

/// Whole masked frames, as a server gets them. The key is zero, which costs the same as any other
/// and leaves the frame as it was for the next turn.
fn decode(opcode: OpCode, size: usize, times: usize) {
    let mut frame = Vec::new();
    encode(&mut frame, opcode, &payload(size), Some(NO_MASK));
    let mut decoder = Decoder::new(Role::Server, None);
    let (limits, mut scratch) = (Limits::default(), Scratch::new());
    for _ in 0..times {
        let step = decoder.next(&limits, black_box(&mut frame), &mut scratch);
        let Ok(Some(Event::Message { payload, .. })) = step.map(|step| step.event) else {
            panic!("invariant: the frame is whole and valid");
        };
        black_box(payload);
    }
}

/// A frame that comes in two reads.
fn decode_split(times: usize) {
    let mut frame = Vec::new();
    encode(&mut frame, OpCode::Text, &payload(128), Some(NO_MASK));
    let mut decoder = Decoder::new(Role::Server, None);
    let (limits, mut scratch) = (Limits::default(), Scratch::new());
    for _ in 0..times {
        let (first, second) = frame.split_at_mut(50);
        let step = decoder.next(&limits, black_box(first), &mut scratch);
        assert!(step.is_ok_and(|step| step.event.is_none()));
        let step = decoder.next(&limits, black_box(second), &mut scratch);
        assert!(step.is_ok_and(|step| step.event.is_some()));
    }
}

fn encode_frames(size: usize, times: usize) {
    let payload = payload(size);
    let mut out = Vec::with_capacity(size + 16);
    for _ in 0..times {
        out.clear();
        encode(&mut out, OpCode::Text, black_box(&payload), None);
        black_box(&out);
    }
}

fn prepare(times: usize) {
    let payload = payload(128);
    for _ in 0..times {
        black_box(Prepared::new(OpCode::Text, black_box(&payload)));
    }
}

fn mask(times: usize) {
    let mut data = payload(16384);
    for _ in 0..times {
        apply_mask(black_box(&mut data), MASK);
    }
}

fn handshake(times: usize) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "127.0.0.1"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let options = ServerOptions { subprotocols: &[], deflate: None };
    for _ in 0..times {
        let accepted = accept(&Method::GET, Version::HTTP_11, black_box(&headers), &options);
        assert!(black_box(accepted).is_ok());
    }
}
