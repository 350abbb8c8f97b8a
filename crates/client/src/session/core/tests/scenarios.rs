//! Single situations, by hand.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::world::{World, settings};
use crate::session::core::outbox::IN_FLIGHT;
use crate::session::core::{Admission, End, Settings, Target};
use crate::session::error::{CloseReason, SessionError};
use crate::session::event::{JoinOptions, RoomEvent};
use crate::session::outgoing::Body;
use crate::session::status::Status;

const HOUR: Duration = Duration::from_secs(3600);

/// Online and in the room `a`.
fn world() -> World {
    with(settings())
}

fn with(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.join("a", JoinOptions::default());
    world.settle();
    world
}

fn closed(code: u16) -> End {
    End::Closed { code: Some(code), reason: String::new() }
}

fn refused(status: u16) -> End {
    End::Refused { status, retry_after: None }
}

fn is_closed(world: &World) -> bool {
    matches!(world.status, Some(Status::Closed(_)))
}

fn retry_in(world: &World) -> Duration {
    match world.status {
        Some(Status::Offline { retry_in }) => retry_in,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn close_codes_say_whether_to_come_back() {
    for code in [1001, 1006, 1011, 1012, 1013, 3000, 4000, 4401, 4408, 4429, 4500, 4508, 4512] {
        let mut world = world();
        world.end(closed(code));
        assert!(!is_closed(&world), "{code}");
        world.settle();
    }
    for code in [1000, 1002, 1003, 1007, 1008, 1009, 1010, 4400, 4403, 4409, 4499] {
        let mut world = world();
        let token = world.send("a").unwrap();
        world.end(closed(code));
        let reason = CloseReason::Code { code, reason: String::new() };
        assert_eq!(world.status, Some(Status::Closed(reason.clone())));
        let error = SessionError::Closed(reason);
        assert_eq!(world.answers[&token], Err(error.clone()));
        world.read(99);
        assert_eq!(world.reader("a").ended, Some(error.clone()));
        assert_eq!(world.core.poll_timeout(), None);
        let late = world.join("b", JoinOptions::default());
        assert_eq!(world.answers[&late], Err(error));
    }
    let mut world = world();
    world.end(End::Closed { code: None, reason: String::new() });
    assert!(!is_closed(&world));
}

#[test]
fn statuses_say_whether_to_come_back() {
    for (status, stays) in [
        (400, false),
        (401, false),
        (403, false),
        (404, false),
        (426, false),
        (200, true),
        (302, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
    ] {
        let mut world = World::new(settings());
        // Now it has no token.
        world.end(closed(4401));
        world.reachable = false;
        world.core.handle_hurry(world.now);
        world.end(refused(status));
        assert_eq!(!is_closed(&world), stays, "{status}");
    }
}

#[test]
fn pauses_are_random_and_grow_and_are_those_of_the_seed() {
    let pauses = |seed| -> Vec<Duration> {
        let mut world = World::new(Settings { seed, ..settings() });
        world.reachable = false;
        world.drop_connection();
        (0..12)
            .map(|_| {
                let pause = retry_in(&world);
                assert!(world.advance(HOUR));
                pause
            })
            .collect()
    };
    let (one, other) = (pauses(1), pauses(2));
    assert_eq!(one, pauses(1));
    assert_ne!(one, other);
    for (attempt, pause) in one.iter().chain(&other).enumerate() {
        let bound = Duration::from_millis(500 << (attempt % 12).min(6)).min(HOUR / 120);
        assert!(*pause < bound, "{pause:?} at {attempt}");
    }
    // It never gives up.
    let mut world = World::new(settings());
    world.reachable = false;
    world.drop_connection();
    for _ in 0..10_000 {
        assert!(world.advance(Duration::from_secs(31)));
    }
    world.settle();
}

#[test]
fn a_server_that_is_overloaded_gets_its_pause() {
    for code in [1013, 4429] {
        let mut world = world();
        world.push(json!({"type": "error", "code": "rate_limited", "message": "",
            "temporary": true, "retryAfter": 7000}));
        world.end(closed(code));
        assert!(retry_in(&world) >= Duration::from_secs(7));
        world.settle();
        world.end(closed(code));
        assert!(retry_in(&world) >= settings().base);
    }
    let mut world = World::new(settings());
    world.end(closed(1001));
    world.reachable = false;
    world.core.handle_hurry(world.now);
    let retry_after = Some(Duration::from_secs(9));
    world.end(End::Refused { status: 503, retry_after });
    assert!(retry_in(&world) >= Duration::from_secs(9));
}

#[test]
fn silence_of_two_heartbeats_is_death() {
    let mut world = world();
    assert!(!world.advance(Duration::from_millis(49_999)));
    world.now += Duration::from_secs(30);
    world.core.handle_sign(world.now);
    assert!(!world.advance(Duration::from_millis(49_999)));
    assert!(world.advance(Duration::from_secs(50)));
    assert!(world.server.connection.is_none());
    world.settle();
    assert_eq!(world.attempts, [None, Some("t0".to_owned())]);
}

#[test]
fn a_draining_server_gives_the_time_to_come_back() {
    let mut world = world();
    world.push(json!({"type": "reconnect", "after": 3000}));
    // It lets us stay until then.
    assert!(!world.advance(Duration::from_millis(2999)));
    let before = world.now;
    assert!(world.advance(Duration::from_secs(3)));
    world.settle();
    assert_eq!(world.now, before + Duration::from_secs(3));

    // It does not let us stay.
    world.push(json!({"type": "reconnect", "after": 3000}));
    world.end(closed(1012));
    assert_eq!(retry_in(&world), Duration::from_secs(3));
    world.settle();
}

#[test]
fn so_many_of_a_room_are_on_their_way_and_no_more() {
    let mut world = world();
    world.join("b", JoinOptions::default());
    world.settle();
    for _ in 0..IN_FLIGHT + 10 {
        world.send("a");
    }
    world.send("b");
    assert_eq!(world.commands("chat").len(), IN_FLIGHT + 1);
    world.serve(2);
    world.deliver(4);
    assert_eq!(world.commands("chat").len(), IN_FLIGHT + 1);
    world.settle();
}

#[test]
fn what_may_have_been_published_is_uncertain_without_its_session() {
    for resend in [false, true] {
        let mut world = with(Settings { resend, ..settings() });
        let lost = world.send("a").unwrap();
        let published = world.send("a").unwrap();
        world.serve(2);
        world.server.expire();
        world.drop_connection();
        let unsent = world.send("a").unwrap();
        world.settle();
        for token in [lost, published] {
            match resend {
                false => assert_eq!(world.answers[&token], Err(SessionError::Uncertain)),
                true => assert!(world.answers[&token].is_ok()),
            }
        }
        assert!(world.answers[&unsent].is_ok());
        let log = &world.server.rooms["a"].log[&0];
        assert_eq!(log.len(), if resend { 5 } else { 3 });
    }
}

#[test]
fn an_answer_that_was_lost_is_repeated() {
    let mut world = world();
    let token = world.send("a").unwrap();
    world.serve(1);
    world.drop_connection();
    world.settle();
    let sent = world.answers[&token].clone().unwrap();
    assert_eq!((sent.seq, sent.duplicate), (Some(1), true));
    assert_eq!(world.reader("a").ids.len(), 1);
}

#[test]
fn what_is_refused_for_a_while_holds_back_those_behind_it() {
    let mut world = world();
    let first = world.send("a").unwrap();
    world.server.refuse = 1;
    world.serve(1);
    world.deliver(9);
    let second = world.send("a").unwrap();
    assert_eq!(world.commands("chat"), [] as [serde_json::Value; 0]);
    world.settle();
    assert_eq!(world.answers[&first].as_ref().unwrap().seq, Some(1));
    assert_eq!(world.answers[&second].as_ref().unwrap().seq, Some(2));
}

#[test]
fn the_outbox_has_an_end() {
    let mut world = with(Settings { outbox: 3, outbox_bytes: 70, ..settings() });
    world.reachable = false;
    world.drop_connection();
    let tokens: Vec<_> = (0..5).map(|_| world.send("a").unwrap()).collect();
    for token in &tokens[3..] {
        assert_eq!(world.answers[token], Err(SessionError::Full));
    }
    world.settle();
    assert!(tokens[..3].iter().all(|token| world.answers[token].is_ok()));

    let token = world.token();
    let body = Body::new(&json!({"type": "chat", "text": "x".repeat(70)})).unwrap();
    let target = Target::User(Arc::from("@u"));
    world.core.handle_publish(token, &target, body);
    world.turn();
    assert_eq!(world.answers[&token], Err(SessionError::Full));
}

#[test]
fn messages_longer_than_the_server_takes_are_not_sent() {
    let mut world = world();
    let token = world.token();
    let body = Body::new(&json!({"type": "chat", "text": "x".repeat(65_536)})).unwrap();
    let target = Target::User(Arc::from("@friend"));
    world.core.handle_publish(token, &target, body);
    world.turn();
    let Err(SessionError::TooLarge { len, limit: 65_536 }) = world.answers[&token] else {
        panic!("{:?}", world.answers[&token])
    };
    assert!(len > 65_536);
    let token = world.send_direct("friend");
    world.settle();
    assert!(world.answers[&token].is_ok());
}

#[test]
fn volatile_messages_are_sent_now_or_never() {
    let mut world = world();
    let target = Target::Room(world.key("a").unwrap());
    let body = Body::new(&json!({"type": "typing"})).unwrap();
    for _ in 0..200 {
        // As if the connection took nothing.
        world.core.handle_volatile(&target, &body);
    }
    world.turn();
    let sent = world.commands("typing");
    assert!((1..=64).contains(&sent.len()), "{}", sent.len());
    assert_eq!(sent[0], json!({"type": "typing", "room": "a"}));
    world.reachable = false;
    world.drop_connection();
    world.core.handle_volatile(&target, &body);
    world.reachable = true;
    world.settle();
    assert!(world.commands("typing").is_empty());
}

#[test]
fn tickets_are_for_new_sessions() {
    let settings = Settings { admission: Admission::Tickets, ..settings() };
    let token = || Some("t0".to_owned());
    // Within the window, the token will do.
    let mut world = with(settings.clone());
    world.drop_connection();
    world.settle();
    assert_eq!(world.attempts, [None, token()]);
    // The server does not know it any more, and would take us for anybody.
    world.server.expire();
    world.drop_connection();
    world.settle();
    assert_eq!(world.attempts[2..], [token(), None]);
    // Past the window it is not even tried.
    world.reachable = false;
    world.drop_connection();
    while world.attempts.last() != Some(&None) || world.attempts.len() < 7 {
        assert!(world.advance(HOUR));
    }
    world.settle();
    // Nor where the server says that it is over.
    let attempts = world.attempts.len();
    world.end(closed(4401));
    world.settle();
    assert_eq!(world.attempts[attempts..], [None]);
}

#[test]
fn a_token_is_shown_until_it_is_refused() {
    let settings = Settings { admission: Admission::Token, ..settings() };
    let token = || Some("t0".to_owned());
    let mut world = with(settings);
    world.drop_connection();
    world.settle();
    assert_eq!(world.attempts, [None, token()]);
    // The server would take us for anybody.
    world.server.expire();
    world.drop_connection();
    world.settle();
    assert_eq!(world.attempts[2..], [token(), None]);
    // The session is refused, which does not mean that the token is.
    world.reachable = false;
    world.drop_connection();
    world.core.handle_hurry(world.now);
    world.end(refused(401));
    assert!(!is_closed(&world));
    world.reachable = true;
    world.settle();
    assert_eq!(world.attempts.last(), Some(&None));
    world.reachable = false;
    world.end(closed(4401));
    world.core.handle_hurry(world.now);
    world.end(refused(401));
    assert_eq!(world.status, Some(Status::Closed(CloseReason::Status(401))));
}

#[test]
fn who_says_too_much_waits_for_a_while() {
    let mut world = world();
    world.end(closed(4429));
    assert!(retry_in(&world) >= Duration::from_secs(5));
    world.settle();
    world.push(json!({"type": "error", "code": "rate_limited", "message": "", "temporary": true,
        "retryAfter": 100}));
    world.end(closed(4429));
    assert!(retry_in(&world) >= Duration::from_secs(5));
}

#[test]
fn a_room_that_is_left_can_be_joined_again() {
    let mut world = world();
    let key = world.key("a").unwrap();
    for _ in 0..IN_FLIGHT {
        world.send("a");
    }
    let (unsent, left) = (world.send("a").unwrap(), world.token());
    world.core.handle_leave(key, Some(left));
    world.turn();
    assert_eq!(world.answers[&unsent], Err(SessionError::Left));
    world.sent.remove(&unsent);
    world.readers.remove(&key);
    world.join("a", JoinOptions::default());
    world.settle();
    assert!(world.left.contains(&left));
    assert_ne!(world.key("a"), Some(key));
    let token = world.send("a").unwrap();
    world.settle();
    assert!(world.answers[&token].is_ok());
}

#[test]
fn a_room_that_refuses_us_for_good_ends() {
    let mut world = world();
    world.drop_connection();
    let token = world.send("a").unwrap();
    world.advance(HOUR);
    world.deliver(1);
    let command = world.commands("resume").remove(0);
    world.push(json!({"type": "resumed", "ref": command["ref"],
        "rooms": {"a": {"error": "forbidden"}}}));
    world.read(9);
    let Some(SessionError::Refused(refusal)) = world.reader("a").ended.clone() else {
        panic!("{:?}", world.reader("a").ended)
    };
    assert_eq!(refusal.code, "forbidden");
    assert_eq!(world.answers[&token], Err(refusal.into()));
}

#[test]
fn names_are_checked_and_taken_once() {
    let mut world = world();
    for (name, error) in [
        ("", SessionError::Name),
        ("a b", SessionError::Name),
        ("a", SessionError::AlreadyJoined),
        ("@u0", SessionError::AlreadyJoined),
    ] {
        let token = world.join(name, JoinOptions::default());
        assert_eq!(world.answers[&token], Err(error), "{name}");
    }
}

#[test]
fn a_first_refusal_is_for_the_caller() {
    let mut world = World::new(settings());
    world.server.refuse_joins = 1;
    let token = world.join("a", JoinOptions::default());
    world.deliver(9);
    world.serve(9);
    world.deliver(9);
    let Err(SessionError::Refused(refusal)) = &world.answers[&token] else {
        panic!("{:?}", world.answers[&token])
    };
    assert!(refusal.temporary);
    world.join("a", JoinOptions::default());
    world.settle();
    assert!(world.key("a").is_some());
}

#[test]
fn a_reader_that_is_slow_gets_everything_and_takes_no_memory() {
    let mut world = world();
    for _ in 0..500 {
        world.publish("a");
        world.deliver(9);
    }
    // `World` checks the bound.
    assert!(world.reader("a").buffer.len() < 10);
    let token = world.send("a").unwrap();
    world.serve(1);
    world.deliver(9);
    assert!(world.answers[&token].is_ok(), "answers are not held up");
    world.settle();
    assert_eq!(world.reader("a").ids.len(), 501);
    assert_eq!(world.reader("a").lost, 0);
}

#[test]
fn what_the_history_has_not_is_lost_and_told() {
    let mut world = world();
    for _ in 0..50 {
        world.publish("a");
    }
    world.deliver(99);
    world.server.rooms.get_mut("a").unwrap().trimmed = 45;
    world.settle();
    assert_eq!(world.reader("a").lost, 1);
    assert!(world.reader("a").ids.len() < 20);
}

#[test]
fn refusals_without_a_number_are_told_in_their_room() {
    let mut world = world();
    world.read(9);
    world.push(json!({"type": "error", "room": "a", "code": "rate_limited", "message": "slow",
        "temporary": true}));
    let event = world.reader("a").buffer.pop_front();
    assert!(matches!(event, Some(RoomEvent::Refused(refusal)) if refusal.message == "slow"));
}

#[test]
fn what_the_server_makes_up_does_no_harm() {
    let mut world = world();
    for message in [
        json!({"type": "ack", "ref": 999, "room": "a", "seq": 1, "timestamp": 1}),
        json!({"type": "ack", "ref": 1, "room": "a", "seq": u64::MAX, "timestamp": 1}),
        json!({"type": "joined", "ref": 999, "room": "a"}),
        json!({"type": "joined", "room": "zzz"}),
        json!({"type": "left", "room": "zzz"}),
        json!({"type": "left", "room": "@u0"}),
        json!({"type": "resumed", "ref": 7, "rooms": {}}),
        json!({"type": "history", "ref": 9, "messages": []}),
        json!({"type": "chat", "room": "zzz", "from": "x", "seq": 1, "timestamp": 1}),
        json!({"type": "chat", "room": "a", "from": "x", "seq": 0, "timestamp": 1}),
        json!({"type": "chat", "room": "a", "from": "x", "seq": u64::MAX, "timestamp": u64::MAX}),
        json!({"type": "user_left", "room": "a", "userId": "x", "userCount": 0}),
        json!({"type": "presence", "room": "a", "userCount": 5}),
        json!({"type": "reconnect", "after": u64::MAX}),
        json!({"type": "error", "ref": 999, "code": "new", "retryAfter": u64::MAX}),
        json!({"type": "connected", "userId": "x", "sessionId": "x", "heartbeat": u64::MAX}),
    ] {
        world.push(message);
    }
    world.read(99);
    assert!(matches!(world.status, Some(Status::Online(_))));
}
