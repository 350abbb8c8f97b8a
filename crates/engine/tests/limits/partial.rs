//! Messages that do not come to an end.

use std::time::{Duration, Instant};

use throng_engine::{Opening, Policy};
use throng_wire::OpCode;
use throng_wire::frame::header;

use crate::rig::{Got, PATIENCE, Rig, frame, part};

fn impatient(timeout: u64) -> Policy {
    Policy { partial_timeout: Duration::from_millis(timeout), ..Policy::default() }
}

/// The header of a text frame of so many bytes.
fn announce(len: usize) -> Vec<u8> {
    header(true, false, OpCode::Text, len, Some([0; 4])).as_slice().to_vec()
}

#[test]
fn a_frame_that_stops_half_way() {
    let rig = Rig::new();
    let mut ada = rig.connect(Opening::Echo, &impatient(200));
    let mut bob = rig.connect(Opening::Echo, &impatient(200));
    ada.raw(&announce(1000));
    ada.raw(b"half");
    assert_eq!(ada.expect_close(), (1008, "the message took too long".into()));
    assert_eq!(ada.next(), Got::End);
    assert_eq!(rig.stats().partial_timeouts, 1);
    bob.text("still here");
    assert_eq!(bob.next(), Got::Text("still here".into()));
}

#[test]
fn a_header_or_a_control_frame_that_stops_half_way() {
    let rig = Rig::new();
    for begun in [&[0x81][..], &[0x82, 0xff, 0, 0], &[0x89, 0x85, 0, 0, 0, 0, 1]] {
        let mut ada = rig.connect(Opening::Echo, &impatient(150));
        ada.raw(begun);
        assert_eq!(ada.expect_close().0, 1008);
    }
    assert_eq!(rig.stats().partial_timeouts, 3);
}

#[test]
fn parts_and_pings_in_between_do_not_help() {
    let rig = Rig::new();
    let mut ada = rig.connect(Opening::Echo, &impatient(300));
    ada.raw(&part(false, OpCode::Text, b"a"));
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "they do help");
        ada.raw(&part(false, OpCode::Continuation, b"b"));
        ada.raw(&frame(OpCode::Ping, b""));
        match ada.next() {
            Got::Pong(_) => std::thread::sleep(Duration::from_millis(20)),
            Got::Close(code, _) => break assert_eq!(code, 1008),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.stats().partial_timeouts, 1);
}

#[test]
fn slow_but_in_time() {
    let rig = Rig::new();
    // Much more than one takes on a busy machine; together they take longer than one may.
    let mut ada = rig.connect(Opening::Echo, &impatient(8000));
    for _ in 0..10 {
        for part in [part(false, OpCode::Text, b"a"), part(true, OpCode::Continuation, b"b")] {
            std::thread::sleep(Duration::from_millis(420));
            ada.raw(&part);
        }
        assert_eq!(ada.next(), Got::Text("ab".into()));
    }
    assert_eq!(rig.stats().partial_timeouts, 0);
}

#[test]
fn what_we_do_not_read_is_not_their_fault() {
    let rig = Rig::new();
    // Much more than our own part takes on a busy machine.
    let policy = Policy { outbox: 1 << 16, ..impatient(5000) };
    let mut ada = rig.connect_tight(Opening::Echo, &policy);
    ada.raw(&frame(OpCode::Binary, &[7; 1 << 20]));
    ada.raw(&announce(4));
    rig.await_stats(|stats| stats.paused == 1);
    std::thread::sleep(Duration::from_millis(5500)); // longer than it may take
    assert_eq!(ada.next(), Got::Binary(vec![7; 1 << 20]));
    ada.raw(b"late");
    assert_eq!(ada.next(), Got::Text("late".into()));
    assert_eq!(rig.stats().partial_timeouts, 0);
}
