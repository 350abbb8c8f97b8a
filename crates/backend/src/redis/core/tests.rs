//! Small scenes: what a history would only meet by chance.

use std::sync::Arc;

use throng_hub::{Epoch, Identity, Timestamp};

use super::sim::body_of;
use super::*;
use crate::redis::step::{At, Change, Entry, Failure, Placed, Record, Roll, What};

const EPOCH: Epoch = Epoch(7);
const LIMITS: Limits = Limits { size: 100, bytes: 1 << 20, ttl: 60_000, replicas: 0 };

type Rooms = Core<u32, u64>;

/// A core with one open room of six messages.
fn open() -> Rooms {
    let mut core = core();
    open_again(&mut core, 1);
    core
}

fn core() -> Rooms {
    Core::new("here".into(), 5)
}

fn open_again(core: &mut Rooms, handle: u32) {
    begin(core, handle, Kind::Kept);
    core.handle_subscribed("r", 0);
    let (ask, what) = ask(core, 0);
    assert!(matches!(what, What::Open { .. }), "{what:?}");
    core.handle_told(ask, told(6, 50, Vec::new(), Some(Roll::default())), 0);
    assert!(matches!(core.poll_effect(), Some(Effect::Opened { result: Ok(_), .. })));
    assert!(matches!(core.poll_effect(), Some(Effect::Current { current: true, .. })));
}

fn begin(core: &mut Rooms, handle: u32, kind: Kind) {
    core.open("r".into(), handle, Held { limits: LIMITS, kind }, 0);
    while core.poll_channel().is_some() {}
}

fn ask(core: &mut Rooms, now: u64) -> (AskId, What) {
    let (id, ask) = core.poll_ask(now).expect("a question");
    (id, ask.what)
}

fn told(seq: u64, seats: u64, past: Vec<Record>, roll: Option<Roll>) -> Told {
    Told::Read { at: At { epoch: EPOCH, seq, time: Timestamp(seq), seats }, past, roll }
}

fn record(seq: u64, origin: (&str, u64)) -> Record {
    let origin = (origin.0.into(), origin.1);
    let entry = Entry { origin, session: "".into(), reference: 0, body: body_of(seq) };
    Record { seq, timestamp: Timestamp(seq), entry }
}

fn stored(records: Vec<Record>) -> Event {
    Event::Stored { epoch: EPOCH, records }
}

fn append(core: &mut Rooms, token: u64, now: u64) {
    let draft = Draft { session: "".into(), reference: 0, body: body_of(token), token };
    core.append("r", draft, now).expect("an open room");
}

fn placed(seq: u64) -> Told {
    let place = Placed { seq, timestamp: Timestamp(seq), duplicate: false };
    Told::Appended { epoch: EPOCH, placed: vec![place] }
}

/// All effects, in short.
fn effects(core: &mut Rooms) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(effect) = core.poll_effect() {
        all.push(match effect {
            Effect::Stored { outcomes, .. } => {
                let outcome = |outcome: &Outcome<u64>| {
                    let seq = outcome.result.map(|(seq, _)| seq);
                    format!("{}: {seq:?} {}", outcome.token, outcome.duplicate)
                };
                outcomes.iter().map(outcome).collect::<Vec<_>>().join(", ")
            }
            Effect::Arrived { messages, .. } => {
                format!("{:?}", messages.iter().map(|message| message.seq).collect::<Vec<_>>())
            }
            Effect::Opened { result, .. } => format!("opened {}", result.is_ok()),
            Effect::Renewed { renewed, .. } => format!("renewed at {}", renewed.seq),
            Effect::Elsewhere { news, .. } => format!("{} news", news.len()),
            Effect::Current { current, .. } => format!("current {current}"),
            Effect::Looked { .. } => "looked".into(),
            Effect::Cast { .. } => "cast".into(),
        });
    }
    all
}

fn who(user: &str) -> Arc<Identity> {
    Arc::new(Identity::anonymous(user, "", None))
}

#[test]
fn an_answer_and_its_event_in_either_order_are_one_message() {
    for event_first in [true, false] {
        let mut core = open();
        append(&mut core, 1, 0);
        let (id, _) = ask(&mut core, 0);
        let event = stored(vec![record(7, ("here", 1))]);
        if event_first {
            core.handle_event("r", event, 0);
            core.handle_told(id, placed(7), 0);
        } else {
            core.handle_told(id, placed(7), 0);
            core.handle_event("r", event, 0);
        }
        assert_eq!(effects(&mut core), ["1: Ok(7) false"]);
        assert!(core.poll_ask(0).is_none(), "one command for one message");
    }
}

#[test]
fn an_answer_that_overtakes_events_waits_for_them() {
    let mut core = open();
    append(&mut core, 1, 0);
    let (id, _) = ask(&mut core, 0);
    core.handle_told(id, placed(8), 10);
    assert_eq!(effects(&mut core), [""; 0], "7 is missing");
    assert!(core.poll_ask(29).is_none(), "it may be on its way");
    core.handle_event("r", stored(vec![record(7, ("there", 1))]), 29);
    assert_eq!(effects(&mut core), ["[7]", "1: Ok(8) false"]);
    core.handle_timeout(40);
    assert!(core.poll_ask(40).is_none(), "it has come");
}

#[test]
fn a_hole_is_read_at_once() {
    let mut core = open();
    core.handle_event("r", stored(vec![record(9, ("there", 3))]), 0);
    let (id, what) = ask(&mut core, 0);
    assert!(matches!(what, What::Read { after: 6, .. }), "{what:?}");
    let past = (7..=9).map(|seq| record(seq, ("there", seq - 6))).collect();
    core.handle_told(id, told(9, 50, past, None), 0);
    assert_eq!(effects(&mut core), ["[7, 8, 9]"]);
}

#[test]
fn a_hole_that_is_no_longer_kept_begins_the_room_anew() {
    let mut core = open();
    core.handle_event("r", stored(vec![record(9, ("there", 3))]), 0);
    let (id, _) = ask(&mut core, 0);
    core.handle_told(id, told(9, 50, vec![record(9, ("there", 3))], None), 0);
    let (id, what) = ask(&mut core, 0);
    assert!(matches!(what, What::Open { .. }), "{what:?}");
    core.handle_told(id, told(9, 50, vec![record(9, ("there", 3))], Some(Roll::default())), 0);
    assert_eq!(effects(&mut core), ["renewed at 9"]);
}

#[test]
fn a_message_whose_answer_is_lost_is_asked_again_as_the_same() {
    let mut core = open();
    append(&mut core, 1, 0);
    let (id, first) = ask(&mut core, 0);
    core.handle_told(id, Told::Failed(Failure::Unknown), 0);
    assert_eq!(effects(&mut core), [""; 0]);
    let due = core.poll_timeout().expect("a timer");
    core.handle_timeout(due);
    let (id, second) = ask(&mut core, due);
    let origin = |what| match what {
        What::Append { entries, .. } => entries[0].origin.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(origin(first), origin(second));
    core.handle_told(id, Told::Failed(Failure::Unknown), due);
    core.handle_timeout(10_000);
    assert_eq!(effects(&mut core), ["1: Err(Unavailable) false"], "not for ever");
    core.handle_event("r", stored(vec![record(7, ("here", 1))]), 11_000);
    assert_eq!(effects(&mut core), ["[7]"], "it was stored all the same");
}

#[test]
fn what_is_refused_is_answered_at_once() {
    for failure in [Failure::Refused, Failure::Away] {
        let mut core = open();
        append(&mut core, 1, 0);
        let (id, _) = ask(&mut core, 0);
        core.handle_told(id, Told::Failed(failure), 0);
        assert_eq!(effects(&mut core), ["1: Err(Unavailable) false"]);
    }
}

#[test]
fn away_and_back() {
    let mut core = open();
    append(&mut core, 1, 0);
    let (id, _) = ask(&mut core, 0);
    append(&mut core, 2, 0);
    core.handle_away(|_| true, 0);
    assert_eq!(effects(&mut core), ["2: Err(Unavailable) false", "current false"]);
    append(&mut core, 3, 0);
    assert_eq!(effects(&mut core), ["3: Err(Unavailable) false"]);
    core.handle_told(id, Told::Failed(Failure::Unknown), 5);
    assert!(core.poll_ask(100).is_none());
    core.handle_back(|_| true, 200);
    let (id, what) = ask(&mut core, 200);
    assert!(matches!(what, What::Append { .. }), "{what:?}");
    core.handle_told(id, placed(7), 200);
    let (id, _) = ask(&mut core, 200);
    core.handle_told(id, told(7, 50, vec![record(7, ("here", 1))], None), 200);
    assert_eq!(effects(&mut core), ["1: Ok(7) false", "current true"]);
}

#[test]
fn answers_for_an_earlier_life_count_for_nothing() {
    let mut core = open();
    core.handle_event("r", stored(vec![record(9, ("there", 3))]), 0);
    append(&mut core, 1, 0);
    let (append, _) = ask(&mut core, 0);
    let (read, _) = ask(&mut core, 0);
    core.close("r", 0);
    assert_eq!(effects(&mut core), ["1: Err(Unavailable) false"]);
    assert_eq!((core.rooms(), core.asks()), (0, 0));
    open_again(&mut core, 2);
    core.handle_told(append, placed(7), 0);
    core.handle_told(read, told(9, 50, Vec::new(), None), 0);
    assert_eq!(effects(&mut core), [""; 0]);
}

#[test]
fn whoever_looks_waits_for_a_look_that_begins_later() {
    let mut core = open();
    core.look("r", 0);
    let (first, _) = ask(&mut core, 0);
    core.look("r", 0);
    assert!(core.poll_ask(0).is_none(), "one at a time");
    core.handle_told(first, told(7, 50, vec![record(7, ("there", 1))], None), 0);
    assert_eq!(effects(&mut core), ["[7]", "looked"]);
    let (second, _) = ask(&mut core, 0);
    core.handle_told(second, Told::Failed(Failure::Unknown), 0);
    assert_eq!(effects(&mut core), ["looked"], "it cannot be had");
}

#[test]
fn rooms_without_messages_open_without_redis() {
    for (kind, expected) in [(Kind::Kept, "opened false"), (Kind::Seen, "opened true")] {
        let mut core = core();
        begin(&mut core, 1, kind);
        core.handle_away(|_| true, 0);
        assert_eq!(effects(&mut core), [expected]);
        assert_eq!(core.rooms(), usize::from(kind == Kind::Seen));
    }
    let mut core = core();
    begin(&mut core, 1, Kind::Kept);
    core.handle_timeout(5000);
    assert_eq!(effects(&mut core), ["opened false"], "nobody has answered");
    begin(&mut core, 1, Kind::Cast);
    core.handle_subscribed("r", 0);
    assert_eq!(effects(&mut core), ["opened true", "current true"]);
    assert!(core.poll_ask(0).is_none(), "only heard");
}

#[test]
fn seats_are_said_until_they_are_done() {
    let mut core = open();
    core.seat("r", who("ada"), 0);
    let (id, what) = ask(&mut core, 0);
    assert!(matches!(&what, What::Seat { changes, .. } if changes.len() == 1), "{what:?}");
    core.handle_told(id, Told::Failed(Failure::Away), 0);
    core.close("r", 0);
    assert_eq!(core.rooms(), 1, "ada may be there");
    core.handle_timeout(100);
    let (id, what) = ask(&mut core, 100);
    let What::Seat { changes, .. } = what else { panic!("{what:?}") };
    assert!(matches!(&changes[..], [Change::Gone(user)] if **user == *"ada"), "{changes:?}");
    core.handle_told(id, Told::Seated { seats: 51 }, 100);
    core.handle_timeout(10_100);
    let (id, _) = ask(&mut core, 10_100); // once more: a server may have lost it
    core.handle_told(id, Told::Seated { seats: 52 }, 10_100);
    assert_eq!((core.rooms(), core.asks()), (0, 0));
}

#[test]
fn a_fenced_node_seats_nobody_until_it_has_another_id() {
    let mut core = open();
    core.seat("r", who("ada"), 0);
    let (id, _) = ask(&mut core, 0);
    core.handle_told(id, Told::Buried, 0);
    assert!(core.poll_fenced());
    assert!(!core.poll_fenced(), "told once");
    core.handle_timeout(60_000);
    while let Some((id, ask)) = core.poll_ask(60_000) {
        assert!(matches!(ask.what, What::Read { .. }), "{ask:?}");
        core.handle_told(id, Told::Failed(Failure::Away), 60_000);
    }
    core.handle_reborn("here again".into(), 61_000);
    let (_, what) = ask(&mut core, 61_000);
    assert!(matches!(&what, What::Seat { node, .. } if **node == *"here again"), "{what:?}");
    let bury = std::iter::from_fn(|| core.poll_ask(61_000));
    let bury: Vec<_> = bury.filter(|(_, ask)| matches!(ask.what, What::Bury { .. })).collect();
    assert_eq!(bury.len(), 1, "what is left of the old one");
}

#[test]
fn nothing_waits_without_bound() {
    let mut core = open();
    let (id, _) = {
        append(&mut core, 0, 0);
        ask(&mut core, 0)
    };
    for token in 1..1000 {
        append(&mut core, token, 0);
    }
    let refused = effects(&mut core).join(", ").matches("Err").count();
    assert_eq!(refused, 1000 - shared::MAX_LINE);
    for seq in (1000..3000).rev() {
        core.handle_event("r", stored(vec![record(seq, ("there", seq))]), 0);
    }
    assert!(effects(&mut core).is_empty());
    core.handle_told(id, placed(7), 0);
    assert_eq!(effects(&mut core).len(), 1);
}

#[test]
fn a_server_that_does_not_answer_is_owed_only_so_many_casts() {
    let mut core = core();
    begin(&mut core, 1, Kind::Cast);
    core.handle_subscribed("r", 0);
    let mut under_way = Vec::new();
    let mut cast = |core: &mut Rooms, size: usize| {
        core.cast("r", OpCode::Text, Bytes::from(vec![b'x'; size]), 0);
        under_way.extend(std::iter::from_fn(|| core.poll_ask(0)).map(|(id, _)| id));
        under_way.len()
    };
    for _ in 0..100 {
        cast(&mut core, 10);
    }
    assert_eq!(cast(&mut core, 10), shared::MAX_CASTS, "the others wait, or are dropped");
    while let Some(id) = under_way.pop() {
        core.handle_told(id, Told::Done, 0);
        core.handle_told(id, Told::Done, 0); // once is enough
    }
    let mut sent = 0;
    while let Some((id, _)) = core.poll_ask(0) {
        sent += 1;
        core.handle_told(id, Told::Failed(Failure::Unknown), 0);
    }
    assert_eq!(sent, shared::MAX_CASTS, "those that waited");
    // By their size as well; one that is larger than all may be goes alone.
    let mut casts = |size: usize| {
        core.cast("r", OpCode::Text, Bytes::from(vec![b'x'; size]), 0);
        core.poll_ask(0).map(|(id, _)| id)
    };
    let large = casts(shared::MAX_CAST_BYTES + 1).expect("nothing else is under way");
    assert!(casts(1).is_none());
    core.handle_told(large, Told::Done, 0);
    assert!(core.poll_ask(0).is_some());
}

#[test]
fn who_comes_and_goes_while_redis_is_away_leaves_nothing_behind() {
    let mut core = open();
    core.seat("r", who("ada"), 0);
    let (id, _) = ask(&mut core, 0);
    core.handle_told(id, Told::Seated { seats: 51 }, 0);
    core.handle_away(|_| true, 0);
    for n in 0..1000 {
        core.seat("r", who(&format!("u{n}")), 1);
        core.unseat("r", &format!("u{n}"), 1);
    }
    core.seat("r", who("bob"), 1);
    core.unseat("r", "ada", 1);
    core.handle_back(|_| true, 2);
    let mut said = Vec::new();
    while let Some((id, ask)) = core.poll_ask(2) {
        let What::Seat { changes, .. } = ask.what else { continue };
        said.extend(changes.iter().map(|change| match change {
            Change::Here(who) => format!("+{}", who.user_id()),
            Change::Gone(user) => format!("-{user}"),
        }));
        core.handle_told(id, Told::Seated { seats: 53 }, 2);
    }
    assert_eq!(said, ["-ada", "+bob"]);

    // A room that Redis never heard of is gone with the last of them.
    let mut core = self::core();
    begin(&mut core, 1, Kind::Seen);
    core.handle_away(|_| true, 0);
    core.seat("r", who("ada"), 0);
    core.close("r", 0);
    assert_eq!((core.rooms(), core.asks()), (0, 0));
}

#[test]
fn nonsense_does_no_harm() {
    let mut core = open();
    append(&mut core, 1, 0);
    let (id, _) = ask(&mut core, 0);
    core.handle_told(id, Told::Buried, 0);
    let last = record(u64::MAX, ("there", 1));
    core.handle_event("r", stored(vec![last.clone(), last.clone()]), 0);
    core.handle_event("r", stored(Vec::new()), 0);
    let changes = vec![Change::Gone("nobody".into())];
    core.handle_event("r", Event::Seats { node: "x".into(), seats: u64::MAX, changes }, 0);
    core.handle_event("r", Event::Buried { dead: "x".into(), seats: 0 }, 0);
    core.handle_event("nowhere", Event::Buried { dead: "x".into(), seats: 0 }, 0);
    core.handle_told(AskId(99), Told::Done, 0);
    core.handle_told(id, Told::Done, 0);
    let (id, _) = ask(&mut core, 0);
    core.handle_told(id, told(u64::MAX, u64::MAX, vec![last.clone(), last], None), 0);
    let (id, what) = ask(&mut core, 0);
    assert!(matches!(what, What::Open { .. }), "{what:?}");
    core.handle_told(id, told(u64::MAX, u64::MAX, vec![record(1, ("there", 1))], None), 0);
    core.handle_event("r", stored(vec![record(u64::MAX, ("there", 2))]), 0);
    core.unseat("r", "nobody", 0);
    core.handle_timeout(u64::MAX / 2);
    core.close("r", u64::MAX / 2);
    assert_eq!(core.rooms(), 0);
}

#[test]
fn only_so_many_rooms_are_looked_at_at_a_time() {
    let mut core = core();
    let names: Vec<Name> = (0..50).map(|n| format!("r{n}").into()).collect();
    for name in &names {
        core.open(name.clone(), 0, Held { limits: LIMITS, kind: Kind::Kept }, 0);
        core.handle_subscribed(name, 0);
    }
    while let Some((id, _)) = core.poll_ask(0) {
        core.handle_told(id, told(6, 50, Vec::new(), Some(Roll::default())), 0);
    }
    for name in &names {
        core.handle_unsubscribed(name, 0);
        core.handle_subscribed(name, 0);
    }
    let (mut looked, mut under_way) = (Vec::new(), Vec::new());
    loop {
        while let Some((id, ask)) = core.poll_ask(0) {
            under_way.push(id);
            looked.push(ask.room);
        }
        assert!(under_way.len() <= shared::MAX_PACED);
        let Some(id) = under_way.pop() else { break };
        core.handle_told(id, told(6, 50, Vec::new(), None), 0);
    }
    looked.sort();
    let mut names = names;
    names.sort();
    assert_eq!(looked, names, "each of them once");
}
