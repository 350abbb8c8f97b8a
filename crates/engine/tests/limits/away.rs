//! Rooms that other nodes have, too, while what keeps them cannot be reached.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use throng_engine::{Config, Opening, Policy, Rooms, Start, Visitor};
use throng_hub::{
    Append, Backend, Draft, Epoch, Keep, Kept, Log, Opened, Opening as Open, Past, Renewed, Room,
    Rules, Sink, Stored, Timestamp, Unavailable,
};
use throng_protocol::{Body, Command, parse};
use throng_wire::OpCode;

use crate::rig::{Got, PATIENCE, Rig, frame, number};

/// All rooms are in this epoch.
const EPOCH: Epoch = Epoch(5);

/// A backend that is somewhere else. Its rooms begin with five messages that nobody has kept.
#[derive(Clone, Debug, Default)]
struct Far(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sink: Option<Arc<dyn Sink>>,
    rooms: HashMap<String, Arc<Room>>,
    /// Those that nobody needs at the moment.
    kept: HashMap<String, Kept>,
    /// Nothing can be opened, and nobody knows what there is.
    away: bool,
    /// The rooms in which somebody waits for what others have.
    looks: Vec<Arc<Room>>,
    /// Told of each message of the room `den`, and waited for.
    den: Option<(Sender<()>, Receiver<()>)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("away", &self.away).finish_non_exhaustive()
    }
}

impl Far {
    fn set_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    fn sink(&self) -> Arc<dyn Sink> {
        self.0.lock().unwrap().sink.clone().unwrap()
    }

    fn room(&self, name: &str) -> Arc<Room> {
        self.0.lock().unwrap().rooms[name].clone()
    }

    /// Waits until somebody wants to know what others have.
    fn asked(&self) -> Arc<Room> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(room) = self.0.lock().unwrap().looks.pop() {
                return room;
            }
            assert!(Instant::now() < end, "nobody asks");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Backend for Far {
    fn start(&self, sink: Arc<dyn Sink>) {
        self.0.lock().unwrap().sink = Some(sink);
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn open(&self, room: &Arc<Room>, time: Timestamp) -> Open {
        let mut state = self.0.lock().unwrap();
        if state.away {
            let (sink, room) = (state.sink.clone().unwrap(), room.clone());
            thread::spawn(move || sink.opened(&room, Err(Unavailable)));
            return Open::Later;
        }
        state.rooms.insert(room.name().to_owned(), room.clone());
        let kept = state.kept.remove(room.name());
        let seq = kept.as_ref().map_or(5, Kept::seq);
        let log = Box::new(FarLog { far: self.clone(), name: room.name().to_owned(), seq });
        let past = kept.map_or(Past::None, |kept| Past::Kept(Box::new(kept)));
        let (refs, elsewhere) = (Vec::new(), Vec::new());
        Open::Ready(Opened { epoch: EPOCH, seq, time, past, refs, elsewhere, log })
    }
}

#[derive(Debug)]
struct FarLog {
    far: Far,
    name: String,
    seq: u64,
}

impl Log for FarLog {
    fn append(&mut self, _: &Draft<'_>, timestamp: Timestamp) -> Append {
        let den = match self.name.as_str() {
            "den" => self.far.0.lock().unwrap().den.take(),
            _ => None,
        };
        if let Some((begun, go)) = den {
            begun.send(()).unwrap();
            go.recv_timeout(PATIENCE).unwrap();
        }
        self.seq += 1;
        Append::Done { seq: self.seq, timestamp }
    }

    fn look(&mut self) {
        let mut state = self.far.0.lock().unwrap();
        let room = state.rooms[&self.name].clone();
        state.looks.push(room);
    }

    fn is_current(&self) -> bool {
        !self.far.0.lock().unwrap().away
    }

    fn close(self: Box<Self>, kept: Kept) {
        self.far.0.lock().unwrap().kept.insert(self.name, kept);
    }
}

fn stage() -> (Far, Rig) {
    let far = Far::default();
    let keep = Keep { memory: Arc::new(far.clone()), durable: None };
    let config = Config { workers: 1, ..Config::default() };
    (far, Rig::start(config, Rooms::new(Rules::default(), keep).unwrap()))
}

/// A plain client that was at this message of the lobby.
fn since(seq: u64) -> Opening {
    let start = Start { since: Some((EPOCH.to_string(), seq)), ..Start::default() };
    Opening::Plain("lobby".into(), start, Visitor::default())
}

#[test]
fn a_room_of_ones_own_is_entered_as_soon_as_it_can_be() {
    let (far, rig) = stage();
    far.set_away(true);
    let mut ada = rig.connect(Opening::Full(Visitor::default()), &Policy::default());
    let greeting = ada.expect("\"type\":\"connected\"");
    ada.is_served();
    let user = greeting.split("\"userId\":\"").nth(1).unwrap().split('"').next().unwrap();
    let mut bob = rig.connect(Opening::Full(Visitor::default()), &Policy::default());
    bob.expect("\"type\":\"connected\"");
    far.set_away(false);
    // Perhaps before she is in, perhaps not.
    let letter = format!(r#"{{"type":"chat","to":"{user}","text":"there you are","ref":1}}"#);
    let end = Instant::now() + PATIENCE;
    loop {
        bob.text(&letter);
        if bob.expect("\"ref\":1").contains("\"type\":\"ack\"") {
            break;
        }
        assert!(Instant::now() < end, "the room cannot be opened");
        thread::sleep(Duration::from_millis(2));
    }
    let joined = ada.expect("\"type\":\"joined\"");
    assert!(joined.contains(&format!("\"room\":\"@{user}\"")), "{joined}");
    let seq = number(&joined, "seq");
    let sent = ada.expect("there you are");
    assert_eq!(number(&sent, "seq"), seq + 1, "nothing is missing");
}

#[test]
fn who_knows_more_than_this_node_waits_for_it() {
    let (far, rig) = stage();
    let mut bob = rig.join("lobby", &Policy::default());
    let mut ada = rig.connect(since(7), &Policy::default());
    let room = far.asked();
    let Ok(Command::Publish(said)) = parse(br#"{"type":"chat","text":"from elsewhere"}"#) else {
        panic!("this is a message")
    };
    let stored = |seq| Stored {
        seq,
        timestamp: Timestamp(1),
        session: "s_1".into(),
        reference: 0,
        body: Body::new("lobby", "u_far", &said),
    };
    far.sink().arrived(&room, &mut vec![stored(6), stored(7)]);
    far.sink().looked(&room);
    let greeting = ada.expect("\"type\":\"connected\"");
    assert!(
        greeting.contains("\"seq\":7") && greeting.contains("\"recovered\":true"),
        "{greeting}"
    );
    bob.expect("\"seq\":7");
    far.set_away(true);
    let mut cid = rig.connect(since(9), &Policy::default());
    cid.expect("\"code\":\"unavailable\"");
    assert_eq!(cid.expect_close().0, 1013, "not: it is lost");
}

#[test]
fn who_comes_back_meanwhile_has_the_list_from_which_changes_count() {
    let (far, rig) = stage();
    let _bob = rig.join("lobby", &Policy::default());
    let mut ada = rig.connect(Opening::Full(Visitor::default()), &Policy::default());
    ada.expect("\"type\":\"joined\"");
    far.set_away(true);
    let room = format!(r#"{{"epoch":"{EPOCH}","seq":5,"presenceSeq":1}}"#);
    ada.text(&format!(r#"{{"type":"resume","rooms":{{"lobby":{room}}}}}"#));
    let back = ada.expect("\"type\":\"resumed\"");
    assert!(back.contains("\"recovered\":true"), "{back}");
    let list = ada.expect("\"type\":\"presence\"");
    assert_eq!(list.matches("\"userId\"").count(), 2, "{list}");
    ada.text(r#"{"type":"presence","room":"lobby","ref":1}"#);
    ada.expect("\"code\":\"unavailable\"");
}

#[test]
fn who_has_left_is_not_told_that_the_room_begins_anew() {
    let (far, rig) = stage();
    let mut bob = rig.join("lobby", &Policy::default());
    let mut ada = rig.connect(Opening::Full(Visitor::default()), &Policy::default());
    for room in ["lobby", "den"] {
        ada.text(&format!(r#"{{"type":"join","room":"{room}"}}"#));
        ada.expect(&format!("\"room\":\"{room}\""));
    }
    let (begun, has_begun) = channel();
    let (go, goes) = channel();
    far.0.lock().unwrap().den = Some((begun, goes));
    // All of it is one turn of the worker, in the middle of which the lobby begins anew.
    let turn = [
        r#"{"type":"chat","room":"den","text":"wait"}"#,
        r#"{"type":"leave","room":"lobby"}"#,
        r#"{"type":"join","room":"lobby"}"#,
        r#"{"type":"leave","room":"lobby"}"#,
        r#"{"type":"ping","ref":1}"#,
    ];
    let turn: Vec<u8> = turn.iter().flat_map(|text| frame(OpCode::Text, text.as_bytes())).collect();
    ada.raw(&turn);
    has_begun.recv_timeout(PATIENCE).unwrap();
    let renewed = Renewed { epoch: Epoch(77), seq: 3, time: Timestamp(1), past: Vec::new() };
    far.sink().renewed(&far.room("lobby"), renewed);
    go.send(()).unwrap();
    bob.expect("\"type\":\"resumed\"");
    ada.expect("\"type\":\"pong\"");
    ada.text(r#"{"type":"ping","ref":2}"#);
    loop {
        match ada.next() {
            Got::Text(text) if text.contains("\"ref\":2") => break,
            Got::Text(text) => assert!(!text.contains("\"resumed\""), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    // And who is a member is told, whatever came before.
    ada.text(r#"{"type":"join","room":"lobby"}"#);
    ada.expect("\"type\":\"joined\"");
    let renewed = Renewed { epoch: Epoch(78), seq: 3, time: Timestamp(1), past: Vec::new() };
    far.sink().renewed(&far.room("lobby"), renewed);
    ada.expect("\"type\":\"resumed\"");
}
