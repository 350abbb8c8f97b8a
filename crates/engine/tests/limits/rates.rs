//! How often and how much a connection may send.

use std::sync::Arc;
use std::time::{Duration, Instant};

use throng_engine::{Opening, Policy, Rate, Visitor, Who};
use throng_hub::{Identity, Pass, Pattern, Rule, Rules, Space};
use throng_wire::OpCode;

use crate::rig::{Got, Peer, Rig, frame, number, part, plain};

/// So many and no more while a test runs.
fn only(burst: u32) -> Option<Rate> {
    Some(Rate::per_hour(1).with_burst(burst))
}

fn messages(burst: u32) -> Policy {
    Policy { rate: only(burst), ..Policy::default() }
}

fn say(peer: &mut Peer, n: u64) {
    peer.text(&format!(r#"{{"type":"chat","text":"hi","ref":{n}}}"#));
}

#[test]
fn too_many_messages_are_refused_one_by_one_and_then_the_connection() {
    let rig = Rig::new();
    let mut bob = rig.join("lobby", &Policy::default());
    let mut ada = rig.join("lobby", &messages(3));
    for n in 1..=6 {
        say(&mut ada, n);
    }
    for n in 1..=3 {
        ada.expect(&format!("\"type\":\"ack\",\"ref\":{n},"));
    }
    for n in 4..=6 {
        let refused = ada.expect("\"code\":\"rate_limited\"");
        assert_eq!(number(&refused, "ref"), n);
        let wait = number(&refused, "retryAfter");
        assert!((3_500_000..=3_600_000).contains(&wait), "{wait} ms: an hour for one");
    }
    assert_eq!((rig.stats().rate_limited, rig.stats().rate_closed), (3, 0));
    // As many again were refused: whoever goes on does not listen.
    say(&mut ada, 7);
    assert_eq!(ada.expect_close().0, 4429);
    assert_eq!((rig.stats().rate_limited, rig.stats().rate_closed), (4, 1));
    // Nothing of what was refused was published, and the others go on.
    say(&mut bob, 1);
    let heard: Vec<u64> = (0..4).map(|_| number(&bob.expect("\"type\":\"chat\""), "seq")).collect();
    assert_eq!(heard, [1, 2, 3, 4]);
}

#[test]
fn who_waits_as_told_may_go_on() {
    let rig = Rig::new();
    let policy = Policy { rate: Some(Rate::per_second(20).with_burst(4)), ..Policy::default() };
    let mut ada = rig.join("lobby", &policy);
    let (mut sent, mut refused) = (0, 0);
    while sent < 9 {
        ada.text(r#"{"type":"ping","ref":1}"#);
        let answer = ada.expect("\"ref\":1");
        if answer.contains("rate_limited") {
            refused += 1;
            std::thread::sleep(Duration::from_millis(number(&answer, "retryAfter")));
        } else {
            sent += 1;
        }
    }
    assert!(refused < 20, "{refused}");
    assert_eq!(rig.stats().rate_closed, 0);
}

#[test]
fn commands_cost_what_they_are_worth() {
    let rig = Rig::new();
    for (command, answer, cost) in [
        (r#"{"type":"ping","ref":1}"#, "\"type\":\"pong\"", 1),
        (r#"{"type":"chat","ref":1}"#, "\"type\":\"ack\"", 1),
        (r#"{"type":"presence","ref":1}"#, "\"type\":\"presence\"", 5),
        (r#"{"type":"history","ref":1}"#, "\"type\":\"history\"", 5),
        (r#"{"type":"auth","ticket":"t_x","ref":1}"#, "\"type\":\"error\"", 10),
        (r#"{"type":"no room","room":"elsewhere","ref":1}"#, "not_joined", 1),
        ("not json", "bad_json", 1),
    ] {
        let mut ada = rig.join("lobby", &messages(20));
        for _ in 0..20 / cost {
            ada.text(command);
            let answered = ada.expect(answer);
            assert!(!answered.contains("rate_limited"), "{command}: {answered}");
        }
        ada.text(command);
        ada.expect("rate_limited");
    }
    let mut ada = rig.connect(Opening::Full(Visitor::default()), &messages(9));
    ada.text(r#"{"type":"join","room":"a","ref":1}"#);
    ada.expect("\"type\":\"joined\",\"ref\":1");
    ada.text(r#"{"type":"resume","rooms":{"b":{},"c":{}},"ref":2}"#);
    let answer = ada.expect("\"ref\":2");
    assert!(answer.contains("\"type\":\"resumed\""), "{answer}");
    ada.text(r#"{"type":"leave","room":"a","ref":3}"#);
    ada.expect("\"type\":\"left\"");
    ada.text(r#"{"type":"join","room":"a","ref":4}"#);
    ada.expect("\"type\":\"joined\",\"ref\":4");
    ada.text(r#"{"type":"ping","ref":5}"#);
    ada.expect("rate_limited");
}

#[test]
fn a_type_may_cost_more() {
    let rule = Rule { costs: [("draw".into(), 4)].into(), ..Rule::default() };
    let rig = Rig::with(|_| {}, Rules::new([(Pattern::new("lobby"), rule)]));
    let mut ada = rig.join("lobby", &messages(9));
    for n in [1, 2] {
        ada.text(&format!(r#"{{"type":"draw","ref":{n}}}"#));
        ada.expect(&format!("\"type\":\"ack\",\"ref\":{n}"));
    }
    ada.text(r#"{"type":"draw","ref":3}"#);
    ada.expect("rate_limited");
    ada.is_served(); // the last token
}

#[test]
fn bytes_count_too() {
    let rig = Rig::new();
    let policy = Policy { bytes_rate: only(2000), ..Policy::default() };
    let mut ada = rig.join("lobby", &policy);
    let large = format!(r#"{{"type":"chat","text":"{}","ref":1}}"#, "x".repeat(1200));
    ada.text(&large);
    ada.expect("\"type\":\"ack\"");
    ada.text(&large);
    ada.expect("rate_limited");
    ada.is_served();
    for _ in 0..2 {
        ada.text(&large);
    }
    assert_eq!(ada.expect_close().0, 4429);
}

#[test]
fn all_connections_of_a_user_together() {
    let rig = Rig::new();
    let policy = Policy { user_rate: only(4), ..Policy::default() };
    let visit = |user: &str, session: &str| Visitor {
        who: Who::Known(Identity::known(user, session, None, None).unwrap()),
        pass: Some(Arc::new(Pass::default())),
    };
    let mut one = rig.join_as("lobby", visit("ada", "s_1"), &policy);
    let mut two = rig.join_as("lobby", visit("ada", "s_2"), &policy);
    let mut bob = rig.join_as("lobby", visit("bob", "s_3"), &policy);
    for _ in 0..2 {
        one.is_served();
        two.is_served();
    }
    one.text(r#"{"type":"ping","ref":1}"#);
    assert_eq!(number(&one.expect("rate_limited"), "ref"), 1);
    two.text(r#"{"type":"ping","ref":2}"#);
    two.expect("rate_limited");
    bob.is_served();
    // Coming back is no fresh start.
    let mut three = rig.join_as("lobby", visit("ada", "s_4"), &policy);
    three.text(r#"{"type":"ping","ref":3}"#);
    three.expect("rate_limited");
    assert_eq!(rig.stats().rate_limited, 3);
}

#[test]
fn pings_cost_and_are_not_answered_beyond() {
    let rig = Rig::new();
    let mut ada = rig.join("lobby", &messages(5));
    let mut bob = rig.join("lobby", &messages(5));
    for n in 0..5 {
        ada.raw(&frame(OpCode::Ping, &[n]));
        assert_eq!(ada.expect_pong(), [n]);
    }
    for n in 5..10 {
        ada.raw(&frame(OpCode::Ping, &[n]));
    }
    let stats = rig.await_stats(|stats| stats.control_ignored == 5);
    assert_eq!(stats.rate_closed, 0);
    ada.raw(&frame(OpCode::Pong, b"unasked"));
    assert_eq!(ada.expect_close().0, 4429);
    bob.is_served();
}

#[test]
fn slivers_cost() {
    let rig = Rig::new();
    let mut ada = rig.join("lobby", &messages(50));
    let mut small = part(false, OpCode::Text, b"{\"type\":");
    for _ in 0..48 {
        small.extend(part(false, OpCode::Continuation, b""));
    }
    small.extend(part(true, OpCode::Continuation, br#""ping","ref":1}"#));
    ada.raw(&small);
    ada.expect("\"ref\":1");
    ada.text(r#"{"type":"ping","ref":2}"#);
    assert!(ada.expect("\"ref\":2").contains("rate_limited"), "49 parts and one message were 50");
    ada.raw(&small);
    ada.raw(&small);
    assert_eq!(ada.expect_close().0, 4429);
    // Parts of some size cost only their bytes.
    let mut bob = rig.join("lobby", &messages(2));
    let mut large = part(false, OpCode::Text, b"{\"type\":\"ping\",\"ref\":1,\"x\":\"");
    for _ in 0..20 {
        large.extend(part(false, OpCode::Continuation, &[b'x'; 256]));
    }
    large.extend(part(true, OpCode::Continuation, b"\"}"));
    bob.raw(&large);
    bob.expect("\"ref\":1");
}

#[test]
fn an_echo_is_slowed_down_and_loses_nothing() {
    let rig = Rig::new();
    let rate = Some(Rate::per_second(100).with_burst(5));
    let mut fast = rig.connect(Opening::Echo, &Policy { rate, ..Policy::default() });
    let mut other = rig.connect(Opening::Echo, &Policy { rate, ..Policy::default() });
    let begin = Instant::now();
    let all: Vec<u8> =
        (0..40).flat_map(|n| frame(OpCode::Text, format!("{n}").as_bytes())).collect();
    fast.raw(&all);
    other.text("me too");
    assert_eq!(other.next(), Got::Text("me too".into()));
    for n in 0..40 {
        assert_eq!(fast.next(), Got::Text(format!("{n}")));
    }
    // 35 of them at 100 a second; one is paid for afterwards.
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    let stats = rig.stats();
    assert!(stats.throttled >= 2 && stats.rate_limited == 0 && stats.rate_closed == 0, "{stats:?}");
}

#[test]
fn a_relay_is_slowed_down_by_bytes_too() {
    let rig = Rig::new();
    let bytes_rate = Some(Rate::per_second(100_000).with_burst(10_000));
    let policy = Policy { bytes_rate, ..Policy::default() };
    let relay = || Opening::Relay(Space(7), "a".into());
    let mut ear = rig.connect(relay(), &Policy::default());
    rig.await_stats(|stats| stats.opened == 1);
    let mut mouth = rig.connect(relay(), &policy);
    let begin = Instant::now();
    // All at once: whoever takes its time is not slowed down.
    let all: Vec<u8> = (0..50u8).flat_map(|n| frame(OpCode::Binary, &[n; 1000])).collect();
    mouth.raw(&all);
    for n in 0..50u8 {
        assert_eq!(ear.next(), Got::Binary(vec![n; 1000]));
    }
    assert!(begin.elapsed() >= Duration::from_millis(350), "{:?}", begin.elapsed());
    assert!(rig.stats().throttled >= 2);
}

#[test]
fn a_pause_ends_with_the_connection() {
    let rig = Rig::new();
    let mut ada = rig.connect(Opening::Echo, &messages(1));
    let all: Vec<u8> = (0..3).flat_map(|_| frame(OpCode::Text, b"x")).collect();
    ada.raw(&all);
    rig.await_stats(|stats| stats.throttled == 1);
    assert_eq!((ada.next(), ada.next()), (Got::Text("x".into()), Got::Text("x".into())));
    drop(rig); // the goodbye reaches it nevertheless
    assert_eq!(ada.expect_close().0, 1001);
}

#[test]
fn one_pong_waits_at_most() {
    let rig = Rig::new();
    let policy = Policy { outbox: 64 << 20, ..Policy::default() };
    let mut ada = rig.connect_tight(Opening::Echo, &policy);
    // More than the socket takes: the rest waits in the outbox, and everything later behind it.
    ada.raw(&frame(OpCode::Binary, &[7; 4 << 20]));
    let pings: Vec<u8> = (0..1000u32).flat_map(|n| frame(OpCode::Ping, &n.to_be_bytes())).collect();
    ada.raw(&pings);
    rig.await_stats(|stats| stats.control_ignored == 999);
    ada.text("end");
    assert_eq!(ada.next(), Got::Binary(vec![7; 4 << 20]));
    assert_eq!(ada.next(), Got::Pong(0u32.to_be_bytes().to_vec()));
    assert_eq!(ada.next(), Got::Text("end".into()));
    ada.raw(&frame(OpCode::Ping, b"again"));
    assert_eq!(ada.next(), Got::Pong(b"again".to_vec()));
}

#[test]
fn no_limit_no_refusal() {
    let rig = Rig::new();
    let mut ada = rig.join("lobby", &Policy::default());
    for n in 1..=3000 {
        ada.text(&format!(r#"{{"type":"ping","ref":{n}}}"#));
    }
    ada.expect("\"ref\":3000");
    let mut full = rig.connect(plain("lobby", Visitor::default()), &Policy::default());
    full.is_served();
    let stats = rig.stats();
    assert_eq!((stats.rate_limited, stats.throttled, stats.control_ignored), (0, 0, 0));
}
