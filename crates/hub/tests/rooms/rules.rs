//! What the rule of a room changes.

use std::collections::HashMap;
use std::sync::Arc;

use throng_hub::{
    History, Hub, Keep, Pattern, Published, Rule, Rules, Schema, Space, Span, Start, Timestamp,
    Types,
};
use throng_protocol::Code;

use crate::support::{
    Disk, Memory, Slow, author, hub, in_memory, json, message, presence_of, say_ref, somebody,
};

#[test]
fn volatile_rooms_number_nothing_and_remember_nothing() {
    let hub = hub(Rule { volatile: true, ..Rule::default() });
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    let chat = message(r#"{"type":"chat"}"#);
    let published = order.publish(&author("u_1", "s_1"), &chat, Timestamp(5)).unwrap();
    let Published::Now { frame, seq: None, timestamp: Timestamp(5) } = published else { panic!() };
    assert_eq!(json(&frame).get("seq"), None);
    assert_eq!(order.seq(), 0);
    let page = order.history(Span::Newest, 50, 1000, None, Timestamp(5)).unwrap();
    assert!(page.messages.is_empty() && !page.more);
    let start = Start { since: None, rewind: 10 };
    let joined = order.join(&somebody("u_1"), 0, &start, Timestamp(6)).unwrap();
    assert_eq!((joined.seq, joined.after, joined.recovered), (0, 0, true));
}

#[test]
fn times_in_volatile_rooms_do_not_go_back() {
    let hub = hub(Rule { volatile: true, ..Rule::default() });
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let times = [7, 3, 8].map(|now| match say_ref(&mut room.order(), "s_1", now, now).unwrap() {
        Published::Now { timestamp, .. } => timestamp.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(times, [7, 7, 8]);
}

#[test]
fn volatile_rooms_need_no_backend() {
    let slow = Slow::new(&Disk::default());
    let hub = crate::support::slow_hub(Rule { volatile: true, ..Rule::default() }, &slow);
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    room.order().join(&somebody("u_1"), 0, &Start::NOW, Timestamp(1)).unwrap();
    assert_eq!(slow.openings(), 0);
}

#[test]
fn a_volatile_room_forgotten_and_made_anew_has_another_epoch() {
    let hub = hub(Rule { volatile: true, ..Rule::default() });
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let old = room.order().epoch();
    assert!(hub.release(&room));
    assert_ne!(hub.room(Space::ROOMS, "lobby", Timestamp(1)).order().epoch(), old);
}

#[test]
fn only_durable_rooms_go_to_the_durable_backend() {
    let slow = Slow::new(&Disk::default());
    let rules = Rules::new([(Pattern::new("m:*"), Rule { durable: false, ..Rule::default() })]);
    let keep = Keep { memory: Arc::new(Memory::new(1)), durable: Some(slow.clone()) };
    let hub = Hub::new(1, rules, keep);
    for (name, openings) in [("m:1", 0), ("live:1", 0), ("chat", 1), ("@u_1", 2)] {
        hub.room(Space::ROOMS, name, Timestamp(1));
        assert_eq!(slow.openings(), openings, "{name}");
    }
    hub.room(Space(1), "chat", Timestamp(1));
    assert_eq!(slow.openings(), 2, "relays are not kept");
}

#[test]
fn presence_can_be_off() {
    let hub = hub(Rule { presence: throng_hub::Presence::Off, ..Rule::default() });
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    for who in [&ada, &bob, &bob] {
        let joined = order.join(who, 0, &Start::NOW, Timestamp(2)).unwrap();
        assert!(joined.announcement.is_none() && joined.wake.is_none());
    }
    assert_eq!(order.user_count(), 3, "connections, where users are not known");
    let refused = order.presence(&mut Vec::new(), Some(4)).unwrap_err();
    assert_eq!((refused.code, refused.reference), (Code::Forbidden, Some(4)));
    assert!(order.listed_users().is_none());
    for ending in [throng_hub::Ending::Lost, throng_hub::Ending::Orderly] {
        let left = order.leave(&bob, 0, ending, Timestamp(3));
        assert!(left.announcement.is_none() && left.wake.is_none() && !left.empty);
    }
    assert!(order.leave(&ada, 0, throng_hub::Ending::Lost, Timestamp(3)).empty);
}

fn typed(others: bool) -> Hub {
    let schema = r#"{"type":"object","required":["text"],"properties":{"text":{"maxLength":3}}}"#;
    let chat = Some(Arc::new(Schema::compile(schema).unwrap()));
    let known = HashMap::from([("chat".to_owned(), chat), ("ping2".to_owned(), None)]);
    hub(Rule { types: Types { known, others }, ..Rule::default() })
}

#[test]
fn types_that_are_not_listed_are_allowed_or_not() {
    for (others, expected) in [(true, None), (false, Some(Code::Forbidden))] {
        let room = typed(others).room(Space::ROOMS, "lobby", Timestamp(1));
        let code = |text| room.check(&message(text)).err().map(|fault| fault.code);
        assert_eq!(code(r#"{"type":"ping2","x":[1]}"#), None);
        assert_eq!(code(r#"{"type":"other"}"#), expected);
        assert_eq!(code(r#"{"type":"Chat"}"#), expected, "as it is written");
        assert_eq!(code(r#"{"type":"\u0063hat","text":"hi"}"#), None, "however it is written");
    }
}

#[test]
fn payload_must_match_the_schema_of_its_type() {
    let room = typed(true).room(Space::ROOMS, "lobby", Timestamp(1));
    assert!(room.check(&message(r#"{"type":"chat","text":"abc","ref":1}"#)).is_ok());
    for text in [r#"{"type":"chat","text":"abcd","ref":7}"#, r#"{"type":"chat","ref":7}"#] {
        let fault = room.check(&message(text)).unwrap_err();
        assert_eq!((fault.code, fault.reference), (Code::InvalidPayload, Some(7)));
        assert!(fault.message.contains("text"), "{}", fault.message);
    }
}

#[test]
fn rules_are_found_by_name_and_only_for_rooms() {
    let off = Rule { presence: throng_hub::Presence::Off, allow: false, ..Rule::default() };
    let rules = Rules::new([(Pattern::new("quiet:*"), off)]);
    let hub = Hub::new(1, rules, in_memory(Memory::new(1)));
    assert!(!hub.rule("quiet:1").allow && hub.rule("loud:1").allow);
    let room = hub.room(Space::ROOMS, "loud:1", Timestamp(1));
    room.order().join(&somebody("u_1"), 0, &Start::NOW, Timestamp(1)).unwrap();
    assert_eq!(presence_of(&room.order())["userCount"], 1);
    let relay = hub.room(Space(3), "quiet:1", Timestamp(1));
    assert!(relay.rule().allow && relay.rule().volatile);
    assert_eq!(relay.rule().history, History::NONE);
}
