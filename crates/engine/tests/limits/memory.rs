//! How much may be kept: for one connection, and for all.

use throng_engine::{Full, Opening, Policy, SlowPolicy, Space, Visitor};
use throng_hub::Rules;
use throng_wire::frame::header;
use throng_wire::{Limits, OpCode};

use crate::rig::{Got, Peer, Rig, frame, part, plain};

const MIB: usize = 1 << 20;

/// Sends all of a message but its last byte.
fn hold(peer: &mut Peer, bytes: usize) {
    peer.raw(header(true, false, OpCode::Binary, bytes + 1, Some([0; 4])).as_slice());
    peer.raw(&vec![7; bytes]);
}

fn tight(memory: usize) -> Rig {
    Rig::with(|config| config.memory_budget = memory, Rules::default())
}

#[test]
fn an_incomplete_message_beyond_the_budget_of_a_connection() {
    let rig = Rig::new();
    let policy = Policy { budget: 10_000, ..Policy::default() };
    let mut bob = rig.connect(Opening::Echo, &policy);
    for fragmented in [false, true] {
        let mut ada = rig.connect(Opening::Echo, &policy);
        if fragmented {
            ada.raw(&part(false, OpCode::Binary, &[1; 6000]));
            rig.await_stats(|stats| stats.memory >= 6000);
            ada.raw(&part(false, OpCode::Continuation, &[1; 6000]));
        } else {
            hold(&mut ada, 20_000);
        }
        assert_eq!(ada.expect_close().0, 1009);
    }
    let stats = rig.await_stats(|stats| stats.memory == 0);
    assert_eq!((stats.budget_exceeded, stats.protocol_errors), (2, 2));
    // What is whole when it comes is not kept.
    bob.raw(&frame(OpCode::Binary, &[2; 20_000]));
    assert!(matches!(bob.next(), Got::Binary(_) | Got::Close(1009, _)));
}

#[test]
fn an_outbox_beyond_the_budget_of_a_connection() {
    // Of one worker, so that nothing waits between two: what she gets back, the other one has been given.
    let rig = Rig::of_one_worker(|_| {}, Rules::default());
    let policy = Policy { budget: 200_000, slow: SlowPolicy::Disconnect, ..Policy::default() };
    let relay = || Opening::Relay(Space(7), "a".into());
    let mut lazy = rig.connect_tight(relay(), &policy);
    rig.await_stats(|stats| stats.opened == 1);
    let mut ada = rig.connect(relay(), &Policy::default());
    let message = frame(OpCode::Binary, &[7; 60_000]);
    while rig.stats().slow_disconnects == 0 {
        ada.raw(&message);
        assert_eq!(ada.next(), Got::Binary(vec![7; 60_000]));
        assert!(rig.stats().memory < 400_000, "an outbox of 1 MiB is not used up");
    }
    assert_eq!(lazy.expect_close().0, 4508);
    rig.await_stats(|stats| stats.memory == 0);
}

#[test]
fn nobody_new_when_nine_tenths_are_used_and_everybody_when_it_is_free_again() {
    let rig = tight(MIB);
    let mut resident = rig.connect(Opening::Full(Visitor::default()), &Policy::default());
    let mut inside = rig.join("inside", &Policy::default());
    assert!(rig.engine.admission().admit(None).is_ok());
    let mut holders: Vec<Peer> = (0..2)
        .map(|_| {
            let mut peer = rig.connect(Opening::Echo, &Policy::default());
            hold(&mut peer, 500 << 10);
            peer
        })
        .collect();
    let stats = rig.await_stats(|stats| stats.memory >= 1000 << 10);
    assert_eq!((stats.memory_budget, stats.memory_closed), (MIB as u64, 0));
    // No connections, no rooms; those there are go on.
    assert_eq!(rig.engine.admission().admit(None).err(), Some(Full::Memory));
    resident.text(r#"{"type":"join","room":"new","ref":1}"#);
    let refused = resident.expect("\"ref\":1");
    assert!(refused.contains("\"code\":\"overloaded\"") && refused.contains("retryAfter"));
    resident.text(r#"{"type":"join","room":"inside","ref":2}"#);
    resident.expect("\"type\":\"joined\",\"ref\":2");
    let mut late = rig.connect(plain("another", Visitor::default()), &Policy::default());
    assert_eq!(late.expect_close().0, 1013);
    inside.is_served();
    let stats = rig.stats();
    assert!(stats.refused_memory == 1 && stats.refused_rooms >= 2, "{stats:?}");
    // A message that ends needs no memory any more.
    for mut holder in holders.drain(..) {
        holder.raw(&[7]);
        assert!(matches!(holder.next(), Got::Binary(_)));
    }
    rig.await_stats(|stats| stats.memory < 100 << 10);
    assert!(rig.engine.admission().admit(None).is_ok());
    resident.text(r#"{"type":"join","room":"new","ref":3}"#);
    resident.expect("\"type\":\"joined\",\"ref\":3");
}

#[test]
fn who_would_keep_more_when_nothing_is_left_is_closed() {
    let rig = tight(MIB);
    let mut bob = rig.join("lobby", &Policy::default());
    let limits = Limits { max_frame: 8 * MIB, max_message: 8 * MIB, ..Limits::default() };
    let policy = Policy { limits, ..Policy::default() };
    let mut ada = rig.connect(Opening::Echo, &policy);
    hold(&mut ada, 4 * MIB);
    assert_eq!(ada.expect_close(), (1013, "the server is out of memory".into()));
    let stats = rig.await_stats(|stats| stats.memory < 100 << 10);
    assert_eq!(stats.memory_closed, 1);
    bob.is_served();
}

#[test]
fn slow_readers_are_let_go_when_nothing_is_left() {
    // Of one worker: another one that falls behind would be given many messages in one turn, and count them behind it.
    let rig = Rig::of_one_worker(|config| config.memory_budget = 2 * MIB, Rules::default());
    let policy = Policy { outbox: 64 * MIB, ..Policy::default() };
    let relay = || Opening::Relay(Space(7), "a".into());
    let mut lazy: Vec<Peer> = (0..8).map(|_| rig.connect_tight(relay(), &policy)).collect();
    rig.await_stats(|stats| stats.opened == 8);
    let mut ada = rig.connect(relay(), &policy);
    let message = frame(OpCode::Binary, &[7; 60_000]);
    for _ in 0..100 {
        ada.raw(&message);
        assert_eq!(ada.next(), Got::Binary(vec![7; 60_000]));
        assert!(rig.stats().memory < 4 * MIB as u64, "{:?}", rig.stats());
    }
    // Whole frames first, then the reason.
    let mut closed = 0;
    for peer in &mut lazy {
        loop {
            match peer.next() {
                Got::Binary(payload) => assert_eq!(payload, [7; 60_000]),
                Got::Close(code, _) => {
                    // As too slow when memory is short, for want of it when nothing is left.
                    assert!([1013, 4508].contains(&code), "{code}");
                    closed += 1;
                    break;
                }
                Got::End => break, // it had not taken anything for five seconds
                other => panic!("{other:?}"),
            }
        }
    }
    let stats = rig.stats();
    assert!(closed > 0 && stats.memory_closed + stats.slow_disconnects >= closed, "{stats:?}");
}

#[test]
fn a_past_is_not_kept_when_nothing_is_left() {
    let rig = tight(64 << 10);
    let mut live = rig.join("live:now", &Policy::default());
    let mut ada = rig.join("lobby", &Policy::default());
    let text = "x".repeat(1000);
    let mut published = 0;
    let refused = loop {
        ada.text(&format!(r#"{{"type":"chat","text":"{text}","ref":{}}}"#, published + 1));
        let answer = ada.expect("\"ref\"");
        if !answer.contains("\"type\":\"ack\"") {
            break answer;
        }
        published += 1;
        assert!(published < 100);
    };
    assert!(refused.contains("\"code\":\"overloaded\"") && published > 40, "{published}");
    assert_eq!(rig.stats().overloaded, 1);
    live.text(r#"{"type":"move","ref":1}"#);
    live.expect("\"type\":\"ack\"");
    // The room is forgotten with its last member.
    drop(ada);
    rig.await_stats(|stats| stats.memory == 0);
}
