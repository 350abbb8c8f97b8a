//! Rooms that other nodes have, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use throng_hub::{
    Append, Asker, Backend, Closed, Draft, Elsewhere, Ending, Epoch, History, Hub, Identity, Keep,
    Kept, Log, Opened, Opening, Outcome, Past, Pattern, Presence, Refused, Renewed, Room, Rule,
    Rules, Sink, Space, Span, Start, Stored, Timestamp,
};
use throng_protocol::{Body, Code};
use throng_wire::OpCode;

use crate::support::{author, json, message, somebody};

/// Other nodes, as far as a hub can see: it writes down what it is told.
#[derive(Clone, Debug, Default)]
struct Cluster {
    told: Arc<Mutex<Vec<String>>>,
    away: Arc<AtomicBool>,
}

impl Backend for Cluster {
    fn start(&self, _: Arc<dyn Sink>) {}

    fn open(&self, _: &Arc<Room>, _: Timestamp) -> Opening {
        Opening::Ready(Opened {
            epoch: Epoch(7),
            seq: 10,
            time: Timestamp(100),
            past: Past::None,
            refs: Vec::new(),
            elsewhere: vec![somebody("u_far")],
            log: Box::new(self.clone()),
        })
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl Cluster {
    fn note(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Log for Cluster {
    fn append(&mut self, draft: &Draft<'_>, _: Timestamp) -> Append {
        self.note(format!("append {}", draft.reference));
        Append::Later
    }

    fn cast(&mut self, _: OpCode, payload: &[u8]) {
        self.note(format!("cast {}", String::from_utf8_lossy(payload)));
    }

    fn seat(&mut self, who: &Arc<Identity>) {
        self.note(format!("+{}", who.user_id()));
    }

    fn unseat(&mut self, user_id: &str) {
        self.note(format!("-{user_id}"));
    }

    fn look(&mut self) {
        self.note("look".into());
    }

    fn is_current(&self) -> bool {
        !self.away.load(Ordering::Relaxed)
    }

    fn close(self: Box<Self>, _: Kept) {
        self.note("close".into());
    }
}

fn stage(rule: Rule) -> (Cluster, Hub, Arc<Room>) {
    let cluster = Cluster::default();
    let keep = Keep { memory: Arc::new(cluster.clone()), durable: None };
    let hub = Hub::new(1, Rules::new([(Pattern::new("*"), rule)]), keep);
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(100));
    (cluster, hub, room)
}

fn stored(seq: u64, session: &str, reference: u64) -> Stored {
    let body = Body::new("lobby", "u_far", &message(r#"{"type":"chat","text":"hi"}"#));
    Stored { seq, timestamp: Timestamp(200 + seq), session: session.into(), reference, body }
}

fn join(room: &Room, who: &Arc<Identity>) -> throng_hub::Joined {
    room.order().join(who, 0, &Start::NOW, Timestamp(100)).unwrap()
}

fn asker(token: u64) -> Asker {
    Asker { worker: 0, token }
}

#[test]
fn messages_of_other_nodes_take_their_place() {
    let (_, _hub, room) = stage(Rule::default());
    join(&room, &somebody("u_1"));
    let mut messages = vec![stored(11, "s_far", 1), stored(12, "s_far", 2)];
    let frames = room.order().arrived(&mut messages);
    let seqs: Vec<_> = frames.iter().map(|frame| json(frame)["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [11, 12]);
    let mut order = room.order();
    assert_eq!(order.seq(), 12);
    let page = order.history(Span::Newest, 10, 1 << 20, None, Timestamp(300)).unwrap();
    assert_eq!(page.messages.len(), 2);
    // The session has moved here, and repeats what it sent there.
    let again = r#"{"type":"chat","text":"hi","ref":2}"#;
    let before = order.publish(&author("u_far", "s_far"), &message(again), Timestamp(300));
    let Ok(throng_hub::Published::Before { seq: 12, .. }) = before else { panic!("{before:?}") };
}

#[test]
fn what_was_stored_before_is_acknowledged_and_not_delivered() {
    let (cluster, _hub, room) = stage(Rule::default());
    join(&room, &somebody("u_1"));
    let text = r#"{"type":"chat","text":"hi","ref":5}"#;
    let later = room.order().publish(&author("u_1", "s_1"), &message(text), Timestamp(100));
    assert!(matches!(later, Ok(throng_hub::Published::Later)));
    assert_eq!(cluster.take().last().unwrap(), "append 5");
    let outcome = Outcome {
        room: room.clone(),
        asker: asker(3),
        session: "s_1".into(),
        reference: 5,
        body: stored(4, "", 0).body,
        result: Ok((4, Timestamp(90))),
        duplicate: true,
    };
    let mut order = room.order();
    let completed = order.complete(&outcome);
    assert_eq!(completed.stored, Some((4, Timestamp(90))));
    assert!(completed.frame.is_none());
    assert_eq!((completed.askers, order.seq()), (vec![asker(3)], 10));
    let before = order.publish(&author("u_1", "s_1"), &message(text), Timestamp(100));
    assert!(matches!(before, Ok(throng_hub::Published::Before { seq: 4, .. })));
}

#[test]
fn who_is_on_several_nodes_comes_and_goes_once() {
    let (cluster, _hub, room) = stage(Rule { grace: Duration::ZERO, ..Rule::default() });
    let joined = join(&room, &somebody("u_1"));
    assert_eq!(joined.user_count, 2, "with the one elsewhere");
    let far = somebody("u_far");
    assert!(join(&room, &far).announcement.is_none(), "known from elsewhere");
    assert_eq!(cluster.take(), ["+u_1", "+u_far"]);
    let mut order = room.order();
    let news = |change| vec![change];
    let due = order.elsewhere(news(Elsewhere::Gone("u_far".into())), Timestamp(101));
    assert!(due.frames.is_empty(), "still here");
    let due = order.elsewhere(news(Elsewhere::Here(somebody("u_1"))), Timestamp(101));
    assert!(due.frames.is_empty(), "was here");
    let due = order.elsewhere(news(Elsewhere::Here(somebody("u_3"))), Timestamp(101));
    assert_eq!(json(&due.frames[0])["type"], "user_joined");
    assert_eq!(json(&due.frames[0])["userCount"], 3);
    let left = order.leave(&somebody("u_1"), 0, Ending::Orderly, Timestamp(102));
    assert!(left.announcement.is_none(), "still elsewhere");
    assert_eq!(cluster.take(), ["-u_1"]);
    let exact = vec![somebody("u_3"), somebody("u_4")];
    let due = order.elsewhere(news(Elsewhere::All(exact)), Timestamp(103));
    let told: Vec<_> = due.frames.iter().map(|frame| json(frame)["userId"].clone()).collect();
    assert_eq!(told, ["u_1", "u_4"]);
    assert_eq!(order.user_count(), 3, "u_far, u_3, u_4");
}

#[test]
fn who_was_lost_is_here_for_the_grace_even_alone() {
    let (cluster, hub, room) = stage(Rule::default());
    let who = somebody("u_1");
    join(&room, &who);
    let left = room.order().leave(&who, 0, Ending::Lost, Timestamp(1000));
    assert!(left.empty);
    assert_eq!(left.wake, Some(Timestamp(11_000)));
    assert!(!hub.release(&room), "other nodes have not been told yet");
    assert_eq!(cluster.take(), ["+u_1"]);
    room.order().handle_timeout(Timestamp(11_000));
    assert!(hub.release(&room));
    assert_eq!(cluster.take(), ["-u_1", "close"]);
}

#[test]
fn a_room_that_begins_anew_says_so() {
    let (_, _hub, room) = stage(Rule::default());
    join(&room, &somebody("u_1"));
    room.order().arrived(&mut vec![stored(11, "s_far", 1)]);
    let renewed = Renewed {
        epoch: Epoch(8),
        seq: 3,
        time: Timestamp(500),
        past: vec![stored(2, "s_far", 9), stored(3, "", 0)],
    };
    let mut order = room.order();
    let frame = order.renew(renewed).unwrap();
    let told = json(&frame);
    assert_eq!((&told["type"], told.get("ref")), (&"resumed".into(), None));
    let told = &told["rooms"]["lobby"];
    assert_eq!((&told["recovered"], &told["seq"]), (&false.into(), &3.into()));
    assert_eq!(told["epoch"], Epoch(8).to_string());
    assert_eq!((order.epoch(), order.seq(), order.oldest()), (Epoch(8), 3, 1));
    // What was published in the epoch before may be lost: the backend knows.
    let lost = r#"{"type":"chat","text":"hi","ref":1}"#;
    let asked = order.publish(&author("u_far", "s_far"), &message(lost), Timestamp(600)).unwrap();
    assert!(matches!(asked, throng_hub::Published::Later));
}

#[test]
fn a_position_from_another_node_is_waited_for() {
    let (cluster, hub, room) = stage(Rule::default());
    let epoch = Epoch(7).to_string();
    let mut order = room.order();
    assert_eq!(order.reach("other", 99, asker(1)), Ok(()), "another epoch is not to be waited for");
    assert_eq!(order.reach(&epoch, 10, asker(1)), Ok(()));
    assert_eq!(order.reach(&epoch, 11, asker(1)), Err(Closed::Opening));
    assert_eq!(order.reach(&epoch, 12, asker(2)), Err(Closed::Opening));
    assert_eq!(cluster.take(), ["look", "look"]);
    drop(order);
    assert!(!hub.release(&room), "somebody waits");
    room.order().arrived(&mut vec![stored(11, "", 0)]);
    let mut order = room.order();
    assert_eq!(order.looked(), Some(asker(1)), "each look is told of");
    assert_eq!(order.reach(&epoch, 11, asker(1)), Ok(()));
    assert_eq!(order.reach(&epoch, 12, asker(2)), Err(Closed::Opening));
    assert_eq!(order.looked(), Some(asker(2)));
    assert_eq!(order.looked(), None);
    assert_eq!(order.reach(&epoch, 12, asker(2)), Ok(()), "there is no such message");
    let start = Start { since: Some((&epoch, 12)), rewind: 0 };
    let refused = order.join(&somebody("u_2"), 0, &start, Timestamp(300)).unwrap_err();
    assert_eq!(refused, Refused::Future);
    cluster.away.store(true, Ordering::Relaxed);
    assert_eq!(order.reach(&epoch, 13, asker(3)), Err(Closed::Unavailable));
}

#[test]
fn while_others_may_know_more_nobody_is_told_less() {
    let (cluster, _hub, room) = stage(Rule::default());
    join(&room, &somebody("u_1"));
    cluster.away.store(true, Ordering::Relaxed);
    let mut order = room.order();
    let page = order.history(Span::Newest, 10, 1 << 20, None, Timestamp(300)).unwrap_err();
    assert_eq!(page.code, Code::Unavailable);
    let list = order.presence(&mut Vec::new(), Some(4)).unwrap_err();
    assert_eq!((list.code, list.reference), (Code::Unavailable, Some(4)));
}

#[test]
fn volatile_messages_are_passed_on() {
    let rule =
        Rule { volatile: true, presence: Presence::Off, history: History::NONE, ..Rule::default() };
    let (cluster, _hub, room) = stage(rule);
    let text = message(r#"{"type":"chat","text":"hi"}"#);
    let _ = room.order().publish(&author("u_1", ""), &text, Timestamp(100)).unwrap();
    room.order().pass_on(OpCode::Binary, b"raw");
    let told = cluster.take();
    assert!(told[0].starts_with(r#"cast {"type":"chat","room":"lobby","from":"u_1","#), "{told:?}");
    assert_eq!(told[1], "cast raw");
}
