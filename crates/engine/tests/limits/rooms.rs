//! How many rooms there may be, how much may be said in one, and who is told who comes.

use std::sync::Arc;

use throng_engine::{Config, Opening, Policy, Rate, Rooms, Space, Visitor};
use throng_hub::{Access, Grants, Pattern, Rule, Rules};

use crate::rig::{Rig, keep, number, plain};

#[test]
fn one_room_too_many() {
    let rig = Rig::with(|config| config.max_total_rooms = 3, Rules::default());
    let policy = Policy::default();
    let mut full = rig.connect(Opening::Full(Visitor::default()), &policy);
    full.expect("\"type\":\"connected\""); // and in a room of its own
    full.text(r#"{"type":"join","room":"a","ref":1}"#);
    full.expect("\"type\":\"joined\",\"ref\":1");
    let mut plain_one = rig.join("b", &policy);
    full.text(r#"{"type":"join","room":"c","ref":2}"#);
    assert!(full.expect("\"ref\":2").contains("\"code\":\"too_many_rooms\""));
    full.text(r#"{"type":"join","room":"b","ref":3}"#);
    full.expect("\"type\":\"joined\",\"ref\":3");
    let mut late = rig.connect(plain("d", Visitor::default()), &policy);
    late.expect("\"code\":\"too_many_rooms\"");
    let mut relay = rig.connect(Opening::Relay(Space(7), "e".into()), &policy);
    assert_eq!(relay.expect_close().0, 1013);
    assert_eq!((rig.stats().refused_rooms, rig.stats().rooms), (3, 3));
    // A room that is left makes room for another.
    full.text(r#"{"type":"leave","room":"a","ref":4}"#);
    full.expect("\"type\":\"left\"");
    rig.await_stats(|stats| stats.rooms == 2);
    full.text(r#"{"type":"join","room":"c","ref":5}"#);
    full.expect("\"type\":\"joined\",\"ref\":5");
    plain_one.is_served();
}

#[test]
fn one_address_opens_so_many_rooms() {
    let rig = Rig::with(|config| config.max_rooms_per_ip = 2, Rules::default());
    let policy = Policy::default();
    let from = |ip: &str| Some(rig.admission().admit(Some(ip.parse().unwrap())).ok().unwrap());
    let mut eve = rig.connect_with(Opening::Full(Visitor::default()), &policy, from("192.0.2.1"));
    eve.expect("\"type\":\"connected\""); // her own room does not count
    for (room, answer) in [("a", "joined"), ("b", "joined"), ("c", "too_many_rooms")] {
        eve.text(&format!(r#"{{"type":"join","room":"{room}","ref":1}}"#));
        let told = eve.expect("\"ref\":1");
        assert!(told.contains(&format!("\"{answer}\"")), "{room}: {told}");
    }
    // Nor on another connection, nor by a relay; but others do, and what is there she may join.
    let mut again = rig.connect_with(plain("d", Visitor::default()), &policy, from("192.0.2.1"));
    again.expect("\"code\":\"too_many_rooms\"");
    let relay = Opening::Relay(Space(7), "e".into());
    assert_eq!(rig.connect_with(relay, &policy, from("192.0.2.1")).expect_close().0, 1013);
    let mut bob = rig.connect_with(plain("c", Visitor::default()), &policy, from("192.0.2.2"));
    bob.is_served();
    eve.text(r#"{"type":"join","room":"c","ref":2}"#);
    eve.expect("\"type\":\"joined\",\"ref\":2");
    assert_eq!(rig.stats().refused_rooms_per_ip, 3);
    // It counts for as long as there is the room, whoever is in it.
    let mut carl = rig.connect_with(plain("a", Visitor::default()), &policy, from("192.0.2.3"));
    carl.is_served();
    eve.text(r#"{"type":"leave","room":"a","ref":3}"#);
    eve.expect("\"ref\":3");
    eve.text(r#"{"type":"join","room":"f","ref":4}"#);
    assert!(eve.expect("\"ref\":4").contains("too_many_rooms"));
    eve.text(r#"{"type":"leave","room":"b","ref":5}"#);
    eve.expect("\"ref\":5");
    rig.await_stats(|stats| stats.rooms == 3);
    eve.text(r#"{"type":"join","room":"f","ref":6}"#);
    eve.expect("\"type\":\"joined\",\"ref\":6");
}

#[test]
fn too_much_in_one_room() {
    for volatile in [false, true] {
        let rate = Some(Rate::per_hour(1).with_burst(3));
        let rule = Rule { rate, volatile, ..Rule::default() };
        let rig = Rig::with(|_| {}, Rules::new([(Pattern::new("narrow"), rule)]));
        let mut ada = rig.join("narrow", &Policy::default());
        let mut bob = rig.join("narrow", &Policy::default());
        let mut eve = rig.join("wide", &Policy::default());
        for n in 1..=3 {
            let peer = if n == 2 { &mut bob } else { &mut ada };
            peer.text(&format!(r#"{{"type":"chat","ref":{n}}}"#));
            peer.expect(&format!("\"type\":\"ack\",\"ref\":{n}"));
        }
        bob.text(r#"{"type":"chat","ref":4}"#);
        let refused = bob.expect("\"code\":\"rate_limited\"");
        assert_eq!(number(&refused, "ref"), 4);
        assert!(number(&refused, "retryAfter") > 3_500_000);
        bob.is_served();
        for n in 1..=10 {
            eve.text(&format!(r#"{{"type":"chat","ref":{n}}}"#));
            eve.expect(&format!("\"type\":\"ack\",\"ref\":{n}"));
        }
        let stats = rig.stats();
        assert_eq!((stats.room_rate_limited, stats.rate_limited), (1, 0));
        if !volatile {
            // What was published before is acknowledged once more, and costs nothing.
            ada.text(r#"{"type":"chat","ref":3}"#);
            ada.expect("\"duplicate\":true");
        }
    }
}

#[test]
fn who_may_not_see_presence_is_not_told_who_comes() {
    let grants = Grants::from_words(["lobby=join,send"]).unwrap();
    let mut rooms = Rooms::new(Rules::default(), keep()).unwrap();
    rooms.access = Arc::new(Access::new(grants, Grants::default()));
    let rig = Rig::start(Config { workers: 1, ..Config::default() }, rooms);
    let sighted = |user: &str, session: &str| {
        let pass = throng_hub::Pass {
            grants: Grants::from_words(["lobby"]).unwrap(),
            ..throng_hub::Pass::default()
        };
        let who = throng_hub::Identity::known(user, session, None, None).unwrap();
        Visitor { who: throng_engine::Who::Known(who), pass: Some(Arc::new(pass)) }
    };
    let mut blind = rig.join("lobby", &Policy::default());
    let mut ada = rig.join_as("lobby", sighted("ada", "s_1"), &Policy::default());
    for n in 0..50 {
        let mut guest =
            rig.join_as("lobby", sighted("bob", &format!("s_b{n}")), &Policy::default());
        guest.text(&format!(r#"{{"type":"chat","n":{n}}}"#));
        guest.expect("\"type\":\"chat\"");
        guest.raw(&crate::rig::frame(throng_wire::OpCode::Close, &1000u16.to_be_bytes()));
        ada.expect("\"type\":\"user_joined\"");
        ada.expect("\"type\":\"chat\"");
        ada.expect("\"type\":\"user_left\"");
    }
    // It gets every message, in order, and nothing else.
    for n in 0..50 {
        let text = blind.expect("");
        assert!(text.contains("\"type\":\"chat\""), "{text}");
        assert_eq!(number(&text, "n"), n);
    }
}
