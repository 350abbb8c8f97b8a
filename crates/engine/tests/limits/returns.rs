//! Coming back to rooms while others leave them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use throng_engine::{Config, Opening, Policy, Rooms, Visitor, Who};
use throng_hub::{Backend, Identity, Keep, Opening as Open, Room, Rules, Sink, Timestamp};

use crate::rig::{PATIENCE, Rig, keep};

/// Opens rooms at once, but `slow` when it is told to, and `lobby` once only: after that it is for ever being
/// opened.
#[derive(Debug)]
struct Doorman {
    rooms: Arc<dyn Backend>,
    lobby: Mutex<Option<Arc<Room>>>,
    asked: Sender<()>,
    told: Mutex<Receiver<()>>,
}

impl Backend for Doorman {
    fn start(&self, sink: Arc<dyn Sink>) {
        self.rooms.start(sink);
    }

    fn open(&self, room: &Arc<Room>, now: Timestamp) -> Open {
        if room.name() == "slow" {
            self.asked.send(()).unwrap();
            self.told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        let before = match room.name() {
            "lobby" => self.lobby.lock().unwrap().replace(Arc::clone(room)),
            _ => None,
        };
        if before.is_some() { Open::Later } else { self.rooms.open(room, now) }
    }
}

/// All rooms of a `resume` frame are open before the first is joined. Should the last member of one leave just
/// then, it is not forgotten: its backend may need time to open it again.
#[test]
fn a_room_is_there_although_its_last_member_leaves_in_between() {
    let ((asked, is_asked), (tell, told)) = (channel(), channel());
    let (rooms, lobby, told) = (keep().memory, Mutex::default(), Mutex::new(told));
    let doorman = Arc::new(Doorman { rooms, lobby, asked, told });
    let memory: Arc<dyn Backend> = Arc::clone(&doorman) as _;
    let rooms = Rooms::new(Rules::default(), Keep { memory, durable: None }).unwrap();
    let rig = Rig::start(Config { workers: 2, ..Config::default() }, rooms);
    let policy = Policy::default();
    let ada = rig.join("lobby", &policy);
    let lobby = doorman.lobby.lock().unwrap().clone().unwrap();
    let mut bob = rig.connect(Opening::Full(Visitor::default()), &policy); // on the other worker
    bob.expect("\"type\":\"joined\"");

    bob.text(r#"{"type":"resume","rooms":{"lobby":{},"slow":{}},"ref":1}"#);
    is_asked.recv_timeout(PATIENCE).unwrap(); // so the lobby was found open
    drop(ada);
    let end = Instant::now() + PATIENCE;
    while !lobby.order().is_empty() {
        assert!(Instant::now() < end, "she is still there");
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(50)); // time enough to forget the room
    tell.send(()).unwrap();
    let resumed = bob.expect("\"type\":\"resumed\"");
    assert!(!resumed.contains("error"), "{resumed}");
    assert!(!lobby.is_forgotten());

    bob.text(r#"{"type":"leave","room":"lobby","ref":2}"#);
    bob.expect("\"type\":\"left\"");
    assert!(lobby.is_forgotten(), "it is not held for ever");
}

/// A client is where it was told that it is, and nowhere else: it will try again to come into its own room.
#[test]
fn an_own_room_that_could_not_be_joined_is_not_joined_unseen() {
    let mut rooms = Rooms::new(Rules::default(), keep()).unwrap();
    rooms.max_rooms = 1;
    let rig = Rig::start(Config { workers: 1, ..Config::default() }, rooms);
    let who = Who::Resumed(Identity::anonymous("u_1", "s_1", None));
    let visitor = Visitor { who, pass: None };
    let mut ada = rig.connect(Opening::Full(visitor), &Policy::default());
    ada.text(r#"{"type":"resume","rooms":{"a":{},"@u_1":{}},"ref":1}"#);
    let resumed = ada.expect("\"type\":\"resumed\"");
    assert!(resumed.contains(r#""@u_1":{"error":"too_many_rooms"}"#), "{resumed}");
    ada.text(r#"{"type":"history","room":"@u_1","ref":2}"#);
    let answer = ada.expect("\"ref\":2");
    assert!(answer.contains("\"code\":\"not_joined\""), "{answer}");
}
