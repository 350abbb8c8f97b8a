//! Backends that answer later, or not well.

use std::sync::Arc;

use throng_hub::{
    Asker, Closed, Ending, History, Hub, Published, Refused, Room, Rule, Space, Start, Timestamp,
};
use throng_protocol::Code;

use crate::support::{
    Answer, Disk, Slow, author, json, message, replayed, say_ref, slow_hub, somebody,
};

struct Stage {
    disk: Disk,
    slow: Arc<Slow>,
    hub: Hub,
}

fn stage() -> Stage {
    Stage::on(&Disk::default(), Rule::default())
}

impl Stage {
    fn on(disk: &Disk, rule: Rule) -> Self {
        let slow = Slow::new(disk);
        Self { disk: disk.clone(), hub: slow_hub(rule, &slow), slow }
    }

    /// The lobby, being opened.
    fn opening(&self) -> Arc<Room> {
        self.hub.room(Space::ROOMS, "lobby", Timestamp(1))
    }

    fn open(&self) -> Arc<Room> {
        let room = self.opening();
        self.slow.open_all(&self.hub);
        room
    }

    /// The backend answers for an opening: who waits for it.
    fn opened(&self, well: bool) -> Vec<u64> {
        let Some(Answer::Opened(room, result)) = self.slow.answer_opening(well) else { panic!() };
        self.hub.opened(&room, result).iter().map(|asker| asker.token).collect()
    }

    /// The backend answers for a message: number, time and payload if it is stored.
    fn answer(&self, well: bool) -> Option<(u64, u64, serde_json::Value)> {
        let Some(Answer::Appended(outcome)) = self.slow.answer_append(0, well) else { panic!() };
        let completed = outcome.room.order().complete(&outcome);
        completed
            .stored
            .zip(completed.frame)
            .map(|((seq, timestamp), frame)| (seq, timestamp.0, json(&frame)))
    }
}

/// Publishes something whose answer comes later.
fn say_later(room: &Room, n: u64, now: u64) {
    let text = format!(r#"{{"type":"chat","n":{n}}}"#);
    let mut order = room.order();
    let later = order.publish(&author("u_x", "s_x"), &message(&text), Timestamp(now)).unwrap();
    assert!(matches!(later, Published::Later));
}

fn asker(token: u64) -> Asker {
    Asker { worker: 0, token }
}

#[test]
fn a_room_that_is_being_opened_takes_nobody_in() {
    let stage = stage();
    let room = stage.opening();
    let refused = room.order().join(&somebody("u_1"), 0, &Start::NOW, Timestamp(1)).unwrap_err();
    assert_eq!(refused, Refused::Closed(Closed::Opening));
    assert_eq!(room.order().attach(0).unwrap_err(), Refused::Closed(Closed::Opening));
    let fault = say_ref(&mut room.order(), "s_1", 1, 1).unwrap_err();
    assert_eq!(fault.code, Code::Unavailable);
    assert!(!stage.hub.release(&room), "its backend is at it");
    assert_eq!(stage.hub.room(Space::ROOMS, "lobby", Timestamp(1)).id(), room.id());
    assert_eq!(stage.slow.openings(), 1, "once");
}

#[test]
fn who_waits_for_a_room_is_told() {
    let stage = stage();
    let room = stage.opening();
    assert_eq!(room.order().ready(asker(1)), Err(Closed::Opening));
    assert_eq!(room.order().ready(asker(2)), Err(Closed::Opening));
    assert_eq!(stage.opened(true), [1, 2]);
    assert_eq!(room.order().ready(asker(3)), Ok(()));
    room.order().join(&somebody("u_1"), 0, &Start::NOW, Timestamp(1)).unwrap();
}

#[test]
fn who_waits_for_a_room_that_cannot_be_opened_is_told_too() {
    let stage = stage();
    let room = stage.opening();
    assert_eq!(room.order().ready(asker(1)), Err(Closed::Opening));
    assert_eq!(stage.opened(false), [1]);
    assert_eq!(room.order().ready(asker(1)), Err(Closed::Unavailable));
    let refused = room.order().join(&somebody("u_1"), 0, &Start::NOW, Timestamp(1)).unwrap_err();
    assert_eq!(refused, Refused::Closed(Closed::Unavailable));
    assert_eq!(stage.opening().id(), room.id(), "everybody finds it failed");
    assert_eq!(stage.slow.openings(), 0, "and it is not tried again and again");
    assert!(stage.hub.release(&room));
    assert_eq!(stage.hub.room_count(), 0);
}

#[test]
fn a_room_that_could_not_be_opened_is_tried_again() {
    let stage = stage();
    let failed = stage.opening();
    stage.opened(false);
    assert!(stage.hub.release(&failed));
    let room = stage.opening();
    assert_ne!(room.id(), failed.id());
    stage.opened(true);
    room.order().join(&somebody("u_1"), 0, &Start::NOW, Timestamp(1)).unwrap();
    assert_eq!(stage.hub.room_count(), 1);
}

#[test]
fn a_room_that_nobody_waits_for_any_more_is_released() {
    let stage = stage();
    let room = stage.opening();
    assert!(stage.opened(true).is_empty());
    assert!(stage.hub.release(&room));
    let room = stage.open(); // the backend asserts that it was closed before
    assert!(stage.hub.release(&room));
}

#[test]
fn messages_are_delivered_when_they_are_stored() {
    let stage = stage();
    let room = stage.open();
    say_later(&room, 7, 5);
    assert_eq!(room.order().seq(), 0);
    assert_eq!(stage.disk.len("lobby"), 0);
    let (seq, timestamp, frame) = stage.answer(true).unwrap();
    assert_eq!((seq, timestamp), (1, 5));
    assert_eq!(
        (&frame["seq"], &frame["timestamp"], &frame["n"]),
        (&1.into(), &5.into(), &7.into())
    );
    assert_eq!((&frame["from"], &frame["room"]), (&"u_x".into(), &"lobby".into()));
    assert_eq!((room.order().seq(), stage.disk.len("lobby")), (1, 1));
}

#[test]
fn a_message_that_cannot_be_stored_leaves_no_hole() {
    let stage = stage();
    let room = stage.open();
    for n in 1..=5 {
        say_later(&room, n, n);
    }
    let answers = [true, false, true, false, true].map(|well| stage.answer(well));
    let numbers = answers.map(|answer| answer.map(|(seq, _, frame)| (seq, frame["n"].as_u64())));
    assert_eq!(numbers, [Some((1, Some(1))), None, Some((2, Some(3))), None, Some((3, Some(5)))]);
    let mut order = room.order();
    assert_eq!(order.seq(), 3);
    let start = Start { since: None, rewind: 10 };
    let joined = order.join(&somebody("u_1"), 0, &start, Timestamp(9)).unwrap();
    assert_eq!(replayed(&order, joined.after), [1, 2, 3]);
}

#[test]
fn a_backend_that_refuses_at_once_leaves_no_hole() {
    let stage = stage();
    let room = stage.open();
    say_later(&room, 1, 1);
    stage.slow.refuse(true);
    let chat = message(r#"{"type":"chat"}"#);
    let refused = room.order().publish(&author("u_x", ""), &chat, Timestamp(1)).unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);
    stage.slow.refuse(false);
    say_later(&room, 3, 1);
    assert_eq!(stage.answer(true).unwrap().0, 1);
    assert_eq!(stage.answer(true).unwrap().0, 2);
}

#[test]
fn times_do_not_go_back_while_messages_are_on_their_way() {
    let stage = stage();
    let room = stage.open();
    for (n, now) in [(1, 50), (2, 20), (3, 60)] {
        say_later(&room, n, now);
    }
    let times: Vec<_> = (0..3).map(|_| stage.answer(true).unwrap().1).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn who_joins_while_a_message_is_on_its_way_gets_it_once() {
    let stage = stage();
    let room = stage.open();
    say_later(&room, 1, 1);
    let start = Start { since: None, rewind: 10 };
    let joined = room.order().join(&somebody("u_1"), 0, &start, Timestamp(2)).unwrap();
    assert_eq!((joined.seq, joined.after), (0, 0), "live from here on");
    assert_eq!(stage.answer(true).unwrap().0, 1);
    assert_eq!(room.order().workers().collect::<Vec<_>>(), [0], "delivered to the new member");
}

#[test]
fn a_room_is_not_forgotten_while_something_is_on_its_way() {
    let stage = stage();
    let room = stage.open();
    let ada = somebody("u_a");
    room.order().join(&ada, 0, &Start::NOW, Timestamp(1)).unwrap();
    say_later(&room, 1, 1);
    assert!(room.order().leave(&ada, 0, Ending::Orderly, Timestamp(1)).empty);
    assert!(!stage.hub.release(&room));
    assert_eq!(stage.opening().id(), room.id());
    stage.answer(true).unwrap();
    assert!(stage.hub.release(&room), "now it is");
}

#[test]
fn a_room_whose_last_message_failed_is_forgotten() {
    let stage = stage();
    let room = stage.open();
    say_later(&room, 1, 1);
    assert!(!stage.hub.release(&room));
    assert!(stage.answer(false).is_none());
    assert!(stage.hub.release(&room));
}

#[test]
fn a_durable_room_survives_the_process() {
    let disk = Disk::default();
    let history = History { size: 3, ..History::default() };
    let rule = Rule { history, ..Rule::default() };
    let stage = Stage::on(&disk, rule.clone());
    let room = stage.open();
    for reference in 1..=4 {
        assert!(say_ref(&mut room.order(), "s_1", reference, 1000 + reference).is_ok());
        stage.answer(true).unwrap();
    }
    let epoch = room.order().epoch();
    drop((room, stage));

    let stage = Stage::on(&disk, rule);
    let room = stage.open();
    let mut order = room.order();
    assert_eq!((order.epoch(), order.seq()), (epoch, 4));
    let text = epoch.to_string();
    for (since, expected) in [(1, (true, vec![2, 3, 4])), (0, (false, vec![])), (4, (true, vec![]))]
    {
        let start = Start { since: Some((&text, since)), rewind: 0 };
        let joined = order.join(&somebody("u_1"), 0, &start, Timestamp(5)).unwrap();
        assert_eq!((joined.recovered, replayed(&order, joined.after)), expected, "since {since}");
    }
    for reference in 2..=4 {
        let again = say_ref(&mut order, "s_1", reference, 5).unwrap();
        let Published::Before { seq, timestamp } = again else { panic!("{reference}: {again:?}") };
        assert_eq!((seq, timestamp.0), (reference, 1000 + reference));
    }
    drop(order);
    say_later(&room, 5, 7); // the clock is behind
    let (seq, timestamp, _) = stage.answer(true).unwrap();
    assert_eq!((seq, timestamp >= 1004), (5, true));
}

#[test]
fn what_was_stored_and_not_acknowledged_is_recognised_after_a_crash() {
    let disk = Disk::default();
    let stage = Stage::on(&disk, Rule::default());
    let room = stage.open();
    for reference in [1, 2] {
        assert!(matches!(say_ref(&mut room.order(), "s_1", reference, 1), Ok(Published::Later)));
    }
    stage.slow.crash(1);
    drop((room, stage));

    let stage = Stage::on(&disk, Rule::default());
    let room = stage.open();
    let first = say_ref(&mut room.order(), "s_1", 1, 2).unwrap();
    assert!(matches!(first, Published::Before { seq: 1, .. }), "{first:?}");
    assert!(matches!(say_ref(&mut room.order(), "s_1", 2, 2), Ok(Published::Later)));
    assert_eq!(stage.answer(true).unwrap().0, 2);
}
