//! Messages encoded once.

use throng_wire::frame::Role;
use throng_wire::{Deflate, Deflater, Limits, OpCode, Prepared};

use crate::peer::{Seen, decode_with};

const AGREED: Deflate = Deflate {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

#[test]
fn every_client_reads_the_one_frame() {
    for len in [0, 5, 125, 126, 65_535, 65_536] {
        let text = "x".repeat(len);
        let prepared = Prepared::text(&text);
        assert_eq!(prepared.opcode(), OpCode::Text);
        assert_eq!(prepared.payload(), text.as_bytes());
        let seen = decode_with(Role::Client, None, &Limits::default(), prepared.frame());
        assert_eq!(seen, (vec![Seen::Text(text)], None));
    }
    let prepared = Prepared::binary(&[1, 2, 3]);
    assert_eq!(prepared.frame()[..], [0x82, 3, 1, 2, 3]);
}

#[test]
fn the_compressed_frame_is_made_once_and_reads_the_same() {
    let text = "the same again, ".repeat(200);
    let prepared = Prepared::text(&text);
    let other = prepared.clone();
    let mut deflater = Deflater::new(6, 8, 15);
    let frame = prepared.deflated(&mut deflater, 1024).unwrap().clone();
    assert!(frame.len() < 100, "{}", frame.len());
    let seen = decode_with(Role::Client, Some(AGREED), &Limits::default(), &frame);
    assert_eq!(seen, (vec![Seen::Text(text.clone())], None));
    let again = other.deflated(&mut Deflater::new(0, 8, 15), 1024).unwrap();
    assert_eq!(again.as_ptr(), frame.as_ptr(), "shared");
    assert_eq!(prepared.payload(), text.as_bytes(), "and the plain one is still there");
}

#[test]
fn compressed_frames_do_not_refer_to_each_other() {
    let mut deflater = Deflater::new(6, 8, 15);
    let text = "something to refer to, ".repeat(50);
    let first = Prepared::text(&text).deflated(&mut deflater, 0).unwrap().clone();
    let second = Prepared::text(&text).deflated(&mut deflater, 0).unwrap().clone();
    assert_eq!(first, second);
    let seen = decode_with(Role::Client, Some(AGREED), &Limits::default(), &second);
    assert_eq!(seen, (vec![Seen::Text(text)], None));
}

#[test]
fn what_is_short_or_does_not_get_shorter_is_left_alone() {
    let mut deflater = Deflater::new(6, 8, 15);
    let text = "a".repeat(1000);
    assert!(Prepared::text(&text).deflated(&mut deflater, 1001).is_none());
    assert!(Prepared::text(&text).deflated(&mut deflater, 1000).is_some());
    assert!(Prepared::text("").deflated(&mut deflater, 0).is_none());
    assert!(Prepared::text("abc").deflated(&mut deflater, 0).is_none());
    // A linear congruential generator's high bytes do not compress.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(5000)
    .collect();
    assert!(Prepared::binary(&noise).deflated(&mut deflater, 0).is_none());
    assert!(Prepared::new(OpCode::Ping, &[0; 125]).deflated(&mut deflater, 0).is_none());
}

#[test]
fn threads_share_one() {
    let prepared = Prepared::text(&"shared ".repeat(1000));
    let frames: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let prepared = prepared.clone();
                scope.spawn(move || {
                    let mut deflater = Deflater::new(6, 8, 15);
                    prepared.deflated(&mut deflater, 0).cloned().unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()));
}
