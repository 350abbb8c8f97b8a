//! Members that cannot keep up, by the policy of their room.

use std::collections::BTreeMap;
use std::ops::Range;

use throng_engine::{Policy, SlowPolicy, Visitor};
use throng_hub::{Pattern, Rule, Rules};

use crate::rig::{Peer, Rig, number, plain};

fn rig(slow: Option<SlowPolicy>, slow_key: &str) -> Rig {
    let rule = Rule { slow, slow_key: slow_key.into(), ..Rule::default() };
    Rig::of_one_worker(|_| {}, Rules::new([(Pattern::new("world"), rule)]))
}

/// Somebody in the room who does not read.
fn lazy(rig: &Rig, policy: &Policy) -> Peer {
    let peer = rig.connect_tight(plain("world", Visitor::default()), policy);
    rig.await_stats(|stats| stats.connections == 1);
    peer
}

/// Publishes so many positions of ten things, and reads its own. Then everybody has been given them, or it is
/// counted why not.
fn publish(peer: &mut Peer, count: u64) {
    publish_some(peer, 0..count);
    peer.is_served(); // the turn of the last one is over
}

fn publish_some(peer: &mut Peer, numbers: Range<u64>) {
    let pad = "x".repeat(1000);
    for n in numbers {
        peer.text(&format!(r#"{{"type":"move","id":"thing{}","n":{n},"pad":"{pad}"}}"#, n % 10));
        if n % 20 == 19 {
            while number(&peer.expect("\"type\":\"move\""), "n") < n {}
        }
    }
}

/// What a slow member gets to see until the newest message: by thing, the last position.
fn see(peer: &mut Peer, last: u64) -> (u64, BTreeMap<u64, u64>) {
    let (mut seen, mut count, mut before) = (BTreeMap::new(), 0, 0);
    loop {
        let text = peer.expect("\"type\":\"move\"");
        let (n, seq) = (number(&text, "n"), number(&text, "seq"));
        assert!(seq > before, "{seq} after {before}");
        before = seq;
        count += 1;
        seen.insert(n % 10, n);
        if n == last {
            return (count, seen);
        }
    }
}

#[test]
fn the_latest_of_each_key() {
    let rig = rig(Some(SlowPolicy::Latest), "id");
    let mut slow = lazy(&rig, &Policy::default());
    let mut ada = rig.join("world", &Policy::default());
    publish(&mut ada, 4000); // 4 MB, where the outbox ends at 1 MiB
    let (count, seen) = see(&mut slow, 3999);
    assert!(count < 2000, "{count} of 4000 were sent");
    let newest: BTreeMap<u64, u64> = (0..10).map(|thing| (thing, 3990 + thing)).collect();
    assert_eq!(seen, newest);
    let stats = rig.stats();
    assert!(
        stats.replaced > 2000 && stats.slow_disconnects == 0 && stats.dropped == 0,
        "{stats:?}"
    );
    // And from then on everything, as anybody else.
    publish(&mut ada, 20);
    for n in 0..20 {
        assert_eq!(number(&slow.expect("\"type\":\"move\""), "n"), n);
    }
    slow.is_served();
    rig.await_stats(|stats| stats.connections == 2);
}

#[test]
fn without_a_key_by_sender_and_type() {
    let rig = rig(Some(SlowPolicy::Latest), "");
    let mut slow = lazy(&rig, &Policy::default());
    let (mut ada, mut bob) =
        (rig.join("world", &Policy::default()), rig.join("world", &Policy::default()));
    publish(&mut ada, 2000);
    bob.text(r#"{"type":"wave","n":1}"#);
    bob.expect("\"type\":\"wave\"");
    publish(&mut ada, 100);
    let mut texts: Vec<String> = Vec::new();
    while texts.last().is_none_or(|text| number(text, "seq") < 2101) {
        texts.push(slow.expect("\"seq\":"));
    }
    assert!(texts.len() < 1500, "{}", texts.len());
    let waves = texts.iter().filter(|text| text.contains("\"type\":\"wave\"")).count();
    assert_eq!(waves, 1, "another sender's and type's message is kept beside");
}

#[test]
fn pings_reach_a_member_that_lags() {
    let rig = rig(Some(SlowPolicy::Latest), "id");
    let mut slow = lazy(&rig, &Policy::default());
    let mut ada = rig.join("world", &Policy::default());
    publish(&mut ada, 2000);
    slow.raw(&crate::rig::frame(throng_wire::OpCode::Ping, b"still there?"));
    assert_eq!(slow.expect_pong(), b"still there?");
}

#[test]
fn a_member_that_lags_may_go() {
    let rig = rig(Some(SlowPolicy::Latest), "id");
    let slow = lazy(&rig, &Policy::default());
    let mut ada = rig.join("world", &Policy::default());
    publish(&mut ada, 1000);
    let full = rig.stats();
    assert!(full.replaced > 0, "{full:?}");
    drop(slow);
    rig.await_stats(|stats| stats.connections == 1 && stats.memory < full.memory);
    publish(&mut ada, 100);
    assert_eq!(rig.stats().replaced, full.replaced, "nothing is kept for nobody");
}

#[test]
fn the_room_decides_before_the_endpoint() {
    for (room, endpoint, code) in [
        (Some(SlowPolicy::Disconnect), SlowPolicy::Drop, Some(4508)),
        (Some(SlowPolicy::Drop), SlowPolicy::Disconnect, None),
        (None, SlowPolicy::Disconnect, Some(4508)),
        (None, SlowPolicy::Drop, None),
        (None, SlowPolicy::Latest, None),
    ] {
        let rig = rig(room, "");
        let policy = Policy { slow: endpoint, outbox: 100_000, ..Policy::default() };
        let mut slow = lazy(&rig, &policy);
        let mut ada = rig.join("world", &Policy::default());
        // Whoever is closed has five seconds to see why: it is not kept waiting for what does not concern it.
        let mut told = 0;
        while told < 1000 && rig.stats().slow_disconnects == 0 {
            publish_some(&mut ada, told..told + 20);
            told += 20;
        }
        ada.is_served();
        let stats = rig.stats();
        match code {
            Some(code) => {
                assert_eq!(slow.expect_close().0, code);
                assert_eq!((stats.slow_disconnects, stats.dropped), (1, 0));
            }
            None if endpoint == SlowPolicy::Latest => {
                assert!(stats.replaced > 0);
                see(&mut slow, 999);
            }
            None => {
                assert!(stats.dropped > 0 && stats.slow_disconnects == 0);
                slow.is_served();
            }
        }
    }
}
