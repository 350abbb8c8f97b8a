//! Streams of frames, in chunks.

use throng_wire::frame::Role;
use throng_wire::{Decoder, Deflate, Limits};

use crate::outcome::{Seen, decode};

/// Decodes a stream in several ways, which have to come to the same.
///
/// The first byte is the settings (see [`settings`]), the second one seeds the lengths of the
/// chunks; the rest is the stream.
pub fn decoder(data: &[u8]) {
    let &[flags, seed, ref stream @ ..] = data else { return };
    let (role, deflate, limits) = settings(flags);
    let fresh = || Decoder::new(role, deflate);
    let whole = decode(fresh(), &limits, stream, std::iter::empty());
    for seen in &whole.0 {
        match seen {
            Seen::Text(text) => assert!(text.len() <= limits.max_message),
            Seen::Binary(payload) => assert!(payload.len() <= limits.max_message),
            Seen::Ping(payload) | Seen::Pong(payload) => assert!(payload.len() <= 125),
            Seen::Close(Some((_, reason))) => assert!(reason.len() <= 123),
            Seen::Close(None) => {}
        }
    }
    assert_eq!(decode(fresh(), &limits, stream, lengths(seed)), whole, "in chunks");
    if stream.len() < 1000 {
        assert_eq!(decode(fresh(), &limits, stream, std::iter::repeat(1)), whole, "byte by byte");
    }
}

/// Bit 0: the role. Bits 1 and 2: no deflate, without takeover, with it, with it and a small
/// window. Bit 3: narrow limits.
fn settings(flags: u8) -> (Role, Option<Deflate>, Limits) {
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let agreed = |takeover: bool, bits| Deflate {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: bits,
        client_max_window_bits: bits,
    };
    let deflate = match flags >> 1 & 3 {
        0 => None,
        1 => Some(agreed(false, 15)),
        2 => Some(agreed(true, 15)),
        _ => Some(agreed(true, 9)),
    };
    let limits = if flags & 8 == 0 {
        Limits { max_frame: 1 << 16, max_message: 1 << 16, ..Limits::default() }
    } else {
        Limits { max_frame: 100, max_message: 160, max_fragments: 4 }
    };
    (role, deflate, limits)
}

fn lengths(seed: u8) -> impl Iterator<Item = usize> {
    let mut state = u32::from(seed) * 2 + 1;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        1 + (state >> 16) as usize % (2 << (state >> 29))
    })
}
