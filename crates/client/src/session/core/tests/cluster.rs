//! What several nodes with one storage behind them bring about.

use std::time::Duration;

use serde_json::json;

use super::world::{World, settings};
use crate::session::core::{Output, Settings};
use crate::session::error::SessionError;
use crate::session::event::{HistoryQuery, JoinOptions, Position, RoomEvent};
use crate::session::status::Status;

const HOUR: Duration = Duration::from_secs(3600);

/// Online and in the room `a`, whose first events have been read.
fn world(options: JoinOptions) -> World {
    let mut world = World::new(settings());
    world.join("a", options);
    world.settle();
    world
}

fn publish(world: &mut World, count: usize) {
    for _ in 0..count {
        world.publish("a");
        world.deliver(9);
        world.read(99);
    }
}

#[test]
fn a_room_that_is_renewed_goes_on_from_there_and_tells_what_is_lost() {
    let mut world = world(JoinOptions::default());
    publish(&mut world, 5);
    world.server.renew("a", 2, None);
    world.deliver(9);
    let place = Position { epoch: "1".to_owned(), seq: 3 };
    let buffer = &world.reader("a").buffer;
    assert_eq!(buffer[0], RoomEvent::Lost(place.clone()));
    let RoomEvent::Joined(joined) = &buffer[1] else { panic!("{buffer:?}") };
    assert!(!joined.recovered && joined.position == place && joined.start == place);
    publish(&mut world, 3);
    world.drop_connection();
    world.publish("a");
    world.settle();
    // `World` checks that they are those of the new epoch.
    assert_eq!((world.reader("a").ids.len(), world.reader("a").lost), (9, 1));
    assert_eq!(world.attempts.len(), 2);
}

#[test]
fn only_rooms_that_are_joined_are_renewed() {
    let mut world = world(JoinOptions::default());
    world.me();
    world.settle();
    let place = |seq: u64| json!({"recovered": false, "epoch": "7", "seq": seq, "userCount": 1, "presenceSeq": 1});
    world.push(json!({"type": "resumed", "rooms": {"zzz": place(5), "a": {"error": "forbidden"}}}));
    assert!(world.reader("a").buffer.is_empty());
    world.push(json!({"type": "resumed", "rooms": {"zzz": place(5), "@u0": place(40)}}));
    assert!(world.reader("a").buffer.is_empty());
    let own = world.reader("@").buffer.pop_front();
    assert_eq!(own, Some(RoomEvent::Lost(Position { epoch: "7".to_owned(), seq: 40 })));
    // One that is to be joined is not moved by what is said of it.
    world.join("b", JoinOptions::default().since(Position { epoch: "0".to_owned(), seq: 3 }));
    world.push(json!({"type": "resumed", "rooms": {"b": place(5)}}));
    assert_eq!(world.commands("join")[0]["since"], json!({"epoch": "0", "seq": 3}));
    assert!(matches!(world.status, Some(Status::Online(_))));
}

#[test]
fn who_is_there_is_asked_once_and_again_until_it_is_known() {
    let mut world = world(JoinOptions::default().presence(true));
    world.server.renew("a", 0, None);
    world.deliver(9);
    assert!(world.commands("presence").is_empty(), "nothing has changed");
    world.server.renew("a", 0, Some("eve"));
    world.deliver(9);
    assert_eq!(world.commands("presence").len(), 1);
    world.server.refuse_questions = 3;
    for _ in 0..3 {
        world.serve(9);
        world.deliver(9);
        assert!(world.commands("presence").is_empty());
        assert!(world.advance(HOUR));
        assert_eq!(world.commands("presence").len(), 1);
    }
    world.settle();
    let users = world.reader("a").users.clone().unwrap();
    assert!(users.contains("eve"));

    // Nobody wants to know.
    let mut world = self::world(JoinOptions::default());
    world.server.renew("a", 0, Some("eve"));
    world.deliver(9);
    assert!(world.commands("presence").is_empty());
}

#[test]
fn the_storage_is_away_and_messages_are_held_in_their_order() {
    let mut world = world(JoinOptions::default());
    let tokens: Vec<_> = (0..5).map(|_| world.send("a").unwrap()).collect();
    // Of these, the first, the third and the fifth are stored all the same.
    world.server.away = 5;
    world.serve(5);
    world.deliver(99);
    let later = world.send("a").unwrap();
    assert!(world.commands("chat").is_empty() && world.answers.is_empty());
    for (token, reference) in tokens.iter().zip(2u64..) {
        // One at a time, in their order and under their numbers.
        while world.commands("chat").is_empty() {
            assert!(world.advance(HOUR));
        }
        let commands = world.commands("chat");
        assert_eq!((commands.len(), &commands[0]["id"]), (1, &json!(token.0)));
        assert_eq!(commands[0]["ref"], reference);
        if reference == 3 {
            // Refused again, and not stored this time.
            world.server.away = 2;
            world.serve(1);
            world.deliver(99);
            world.server.away = 0;
            assert!(world.commands("chat").is_empty());
            while world.commands("chat").is_empty() {
                assert!(world.advance(HOUR));
            }
            assert_eq!(world.commands("chat")[0]["ref"], reference);
        }
        world.serve(1);
        world.deliver(99);
        let stored = reference % 2 == 0;
        assert_eq!(world.answers[token].as_ref().unwrap().duplicate, stored);
    }
    world.settle();
    assert!(!world.answers[&later].as_ref().unwrap().duplicate);
    let ids: Vec<_> = world.server.rooms["a"].log[&0].iter().map(|entry| entry.id).collect();
    let sent = |at: usize| tokens[at].0;
    assert_eq!(ids, [sent(0), sent(2), sent(4), sent(1), sent(3), later.0]);
    assert_eq!(world.reader("a").ids, ids);
}

#[test]
fn held_without_a_session_nobody_knows_whether_it_is_stored() {
    for resend in [false, true] {
        let mut world = World::new(Settings { resend, ..settings() });
        world.join("a", JoinOptions::default());
        world.settle();
        let (held, slow) = (world.send("a").unwrap(), world.send("a").unwrap());
        world.server.away = 1;
        world.server.refuse = 1;
        world.serve(2);
        world.deliver(9);
        world.server.expire();
        world.drop_connection();
        world.settle();
        assert!(world.answers[&slow].is_ok());
        match resend {
            false => assert_eq!(world.answers[&held], Err(SessionError::Uncertain)),
            true => assert!(world.answers[&held].is_ok()),
        }
    }
}

#[test]
fn a_past_that_cannot_be_had_now_is_a_temporary_refusal() {
    let mut world = world(JoinOptions::default());
    let (token, key) = (world.token(), world.key("a").unwrap());
    world.core.handle_history(token, key, HistoryQuery::newest());
    let command = loop {
        match world.core.poll_transmit(world.now) {
            Some(text) if text.contains("history") => break text,
            Some(_) => {}
            None => panic!("nothing is asked"),
        }
    };
    let command: serde_json::Value = serde_json::from_str(&command).unwrap();
    let refusal = json!({"type": "error", "ref": command["ref"], "room": "a",
        "code": "unavailable", "message": "", "temporary": true, "retryAfter": 1000});
    world.core.handle_text(world.now, &refusal.to_string());
    let Some(Output::Answer(_, Err(SessionError::Refused(refusal)))) = world.core.poll_output()
    else {
        panic!("no answer")
    };
    assert_eq!((refusal.temporary, refusal.retry_after), (true, Some(Duration::from_secs(1))));
    // What is missing in between is asked for until it can be had.
    for _ in 0..40 {
        world.publish("a");
    }
    world.deliver(99);
    world.server.refuse_questions = 3;
    world.read(99);
    for _ in 0..3 {
        world.serve(9);
        world.deliver(99);
        assert!(world.advance(Duration::from_secs(40)));
    }
    assert_eq!(world.server.refuse_questions, 0);
    world.settle();
    assert_eq!((world.reader("a").ids.len(), world.reader("a").lost), (40, 0));
}

#[test]
fn what_was_asked_before_a_renewal_says_nothing_after_it() {
    for stale in [false, true] {
        let mut world = world(JoinOptions::default());
        // The reader has no room, so that the rest has to be asked for.
        for _ in 0..40 {
            world.publish("a");
        }
        world.deliver(99);
        world.read(99);
        world.turn();
        let asked = world.commands("history");
        assert_eq!(asked.len(), 1);
        if !stale {
            // The answer is on its way.
            world.serve(9);
        }
        let connection = world.server.connection.as_mut().unwrap();
        let answers = std::mem::take(&mut connection.to_client);
        world.server.renew("a", 0, None);
        world.server.connection.as_mut().unwrap().to_client.extend(answers);
        world.publish("a");
        world.settle();
        assert_eq!(world.attempts.len(), 1, "that is no reason to leave");
        assert_eq!(world.reader("a").lost, 1);
        let last = world.reader("a").ids.last().copied();
        assert_eq!(last, Some(world.server.rooms["a"].log[&1][40].id));
    }
}

#[test]
fn a_rewind_that_has_not_begun_ends_with_the_past() {
    let mut world = World::new(settings());
    world.join("b", JoinOptions::default());
    world.settle();
    for _ in 0..10 {
        world.publish("a");
    }
    world.join("a", JoinOptions::default().rewind(5));
    world.serve(9);
    // Only that it is joined has come.
    assert_eq!(world.deliver(1), 1);
    assert!(world.key("a").is_some());
    let connection = world.server.connection.as_mut().unwrap();
    connection.to_client.clear();
    world.server.renew("a", 1, None);
    publish(&mut world, 2);
    world.settle();
    assert_eq!((world.reader("a").ids.len(), world.reader("a").lost), (2, 1));
}

#[test]
fn a_slot_loses_and_doubles_nothing() {
    let mut world = world(JoinOptions::default().presence(true));
    world.server.slot(300_000);
    world.deliver(9);
    let before = world.now;
    let first = world.send("a").unwrap();
    world.serve(9);
    world.deliver(9);
    assert!(world.answers[&first].is_ok(), "it goes on working");
    world.core.handle_sign(world.now + Duration::from_secs(290));
    // At the very moment something is under way in both directions.
    let tokens = [world.send("a").unwrap(), world.send("a").unwrap()];
    world.serve(1);
    world.publish("a");
    assert!(world.advance(HOUR));
    assert_eq!(world.now, before + Duration::from_secs(300));
    world.settle();
    assert_eq!(world.now, before + Duration::from_secs(300), "it does not wait");
    assert_eq!(world.attempts, [None, Some("t0".to_owned())]);
    assert!(world.answers[&tokens[0]].as_ref().unwrap().duplicate);
    assert!(!world.answers[&tokens[1]].as_ref().unwrap().duplicate);
    let log: Vec<_> = world.server.rooms["a"].log[&0].iter().map(|entry| entry.id).collect();
    assert_eq!((log.len(), world.reader("a").lost), (4, 0));
    assert_eq!(world.reader("a").ids, log);
}
