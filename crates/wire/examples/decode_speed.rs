//! How long the decoder takes per frame: `cargo run --release --example decode_speed`.
//!
//! Frames are decoded from one buffer after the other, as a server finds them after a read that
//! returned many. Unmasking changes the buffer, so each round begins with a fresh copy of it,
//! whose cost is measured alone and subtracted.

use std::hint::black_box;
use std::time::{Duration, Instant};

use throng_wire::{
    Decoder, Deflate, Deflater, Event, Limits, OpCode, Role, Scratch, encode, encode_compressed,
};

fn main() {
    println!("{:<34} {:>10} {:>10}", "frames from a client", "ns/frame", "GB/s");
    for len in [16, 32, 125, 128, 1024, 4096, 16384] {
        row(&format!("binary {len} B"), len, None, |out| {
            encode(out, OpCode::Binary, &vec![0xa5; len], Some([1, 2, 3, 4]));
        });
    }
    for len in [32, 128, 1024, 16384] {
        row(&format!("ASCII text {len} B"), len, None, |out| {
            encode(out, OpCode::Text, &vec![b'x'; len], Some([1, 2, 3, 4]));
        });
    }
    for len in [32, 128, 1024, 16384] {
        let text = "é".repeat(len / 2);
        row(&format!("other text {len} B"), len, None, |out| {
            encode(out, OpCode::Text, text.as_bytes(), Some([1, 2, 3, 4]));
        });
    }
    // Longer than a read, so gathered from two.
    row("binary 100 KB", 100_000, None, |out| {
        encode(out, OpCode::Binary, &[0xa5; 100_000], Some([1, 2, 3, 4]));
    });
    row("ping 16 B", 16, None, |out| encode(out, OpCode::Ping, &[7; 16], Some([1, 2, 3, 4])));
    for (takeover, name) in [(false, "deflated text 2048 B"), (true, "the same, with history")] {
        let deflate = Deflate {
            server_no_context_takeover: true,
            client_no_context_takeover: !takeover,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        };
        let text: String =
            (0..2048 / 32).map(|i| format!("{{\"seq\":{i:>6},\"type\":\"chat\"}}  \n")).collect();
        let mut deflated = Vec::new();
        Deflater::new(3, 8, 15).compress(text.as_bytes(), &mut deflated);
        row(name, text.len(), Some(deflate), |out| {
            encode_compressed(out, OpCode::Text, &deflated, Some([1, 2, 3, 4]));
        });
    }
}

/// Times frames that `frame` appends, and prints it. `len` is the payload's length.
fn row(name: &str, len: usize, deflate: Option<Deflate>, frame: impl Fn(&mut Vec<u8>)) {
    let (mut source, mut frames) = (Vec::new(), 0_u32);
    while frames == 0 || source.len() + source.len() / frames as usize <= READ {
        frame(&mut source);
        frames += 1;
    }
    let mut buffer = source.clone();
    let mut decoder = Decoder::new(Role::Server, deflate);
    let (limits, mut scratch) = (Limits::default(), Scratch::new());
    let (mut copying, mut both) = (Duration::MAX, Duration::MAX);
    let deadline = Instant::now() + Duration::from_millis(150);
    while Instant::now() < deadline {
        let start = Instant::now();
        buffer.copy_from_slice(black_box(&source));
        black_box(&mut buffer);
        copying = copying.min(start.elapsed());

        let start = Instant::now();
        buffer.copy_from_slice(black_box(&source));
        let mut seen = 0;
        for chunk in buffer.chunks_mut(READ) {
            let mut at = 0;
            while at < chunk.len() {
                let step = decoder
                    .next(&limits, &mut chunk[at..], &mut scratch)
                    .expect("it was encoded here");
                at += step.consumed;
                match step.event {
                    Some(Event::Message { payload, .. }) => seen += black_box(payload).len(),
                    Some(Event::Ping(payload)) => seen += black_box(payload).len(),
                    _ => {}
                }
            }
        }
        both = both.min(start.elapsed());
        assert_eq!(seen, len * frames as usize);
    }
    let nanos = both.saturating_sub(copying).as_nanos() as f64 / f64::from(frames);
    println!("{name:<34} {nanos:>10.1} {:>10.2}", len as f64 / nanos);
}

/// What a server reads at once.
const READ: usize = 64 << 10;
