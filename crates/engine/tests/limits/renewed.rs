//! Rooms that begin anew while members are in them.

use std::sync::{Arc, Mutex};

use throng_engine::{Config, Policy, Rooms, SlowPolicy, Visitor};
use throng_hub::{Backend, Epoch, Keep, Opening as Open, Renewed, Room, Rules, Sink, Timestamp};

use crate::rig::{Got, Rig, keep, plain};

/// A backend that is in a test's hands.
#[derive(Debug)]
struct Puppet {
    rooms: Arc<dyn Backend>,
    strings: Mutex<Strings>,
}

#[derive(Default)]
struct Strings {
    sink: Option<Arc<dyn Sink>>,
    lobby: Option<Arc<Room>>,
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Strings")
    }
}

impl Backend for Puppet {
    fn start(&self, sink: Arc<dyn Sink>) {
        self.strings.lock().unwrap().sink = Some(sink.clone());
        self.rooms.start(sink);
    }

    fn open(&self, room: &Arc<Room>, now: Timestamp) -> Open {
        self.strings.lock().unwrap().lobby = Some(room.clone());
        self.rooms.open(room, now)
    }
}

impl Puppet {
    /// The lobby begins anew.
    fn renew(&self, epoch: u64) {
        let strings = self.strings.lock().unwrap();
        let (sink, lobby) = (strings.sink.clone().unwrap(), strings.lobby.clone().unwrap());
        drop(strings);
        let renewed = Renewed { epoch: Epoch(epoch), seq: 3, time: Timestamp(1), past: Vec::new() };
        sink.renewed(&lobby, renewed);
    }
}

fn stage() -> (Arc<Puppet>, Rig) {
    let puppet = Arc::new(Puppet { rooms: keep().memory, strings: Mutex::default() });
    let memory: Arc<dyn Backend> = Arc::clone(&puppet) as _;
    let rooms = Rooms::new(Rules::default(), Keep { memory, durable: None }).unwrap();
    (puppet, Rig::start(Config { workers: 2, ..Config::default() }, rooms))
}

#[test]
fn members_are_told_in_their_place() {
    let (puppet, rig) = stage();
    let mut ada = rig.join("lobby", &Policy::default());
    let mut bob = rig.join("lobby", &Policy::default());
    ada.text(r#"{"type":"chat","text":"before","ref":1}"#);
    ada.expect("\"type\":\"ack\"");
    puppet.renew(77);
    for peer in [&mut ada, &mut bob] {
        peer.expect("before");
        let told = peer.expect("\"type\":\"resumed\"");
        assert!(told.contains(r#""recovered":false"#), "{told}");
        assert!(told.contains(&format!(r#""epoch":"{}","seq":3"#, Epoch(77))), "{told}");
        assert!(!told.contains("\"ref\""), "{told}");
    }
}

/// Without knowing, it would take the numbers that follow for those it has had.
#[test]
fn who_cannot_be_told_is_closed_whatever_the_policy() {
    for slow in [SlowPolicy::Drop, SlowPolicy::Latest] {
        let (puppet, rig) = stage();
        let policy = Policy { slow, outbox: 1 << 16, ..Policy::default() };
        let mut lazy = rig.connect_tight(plain("lobby", Visitor::default()), &policy);
        lazy.expect("\"type\":\"connected\"");
        let mut ada = rig.join("lobby", &Policy::default());
        let long = format!(r#"{{"type":"chat","text":"{}","ref":1}}"#, "x".repeat(60_000));
        for _ in 0..40 {
            ada.text(&long.replace("\"ref\":1", "\"x\":1"));
            ada.expect("\"x\":1"); // she takes her own: what the system takes for her is not without end
        }
        ada.text(r#"{"type":"chat","text":"last","ref":2}"#);
        ada.expect("\"ref\":2");
        puppet.renew(77);
        ada.expect("\"type\":\"resumed\"");
        let end = loop {
            match lazy.next() {
                Got::Text(text) => assert!(!text.contains("\"type\":\"resumed\"")),
                other => break other,
            }
        };
        assert!(matches!(end, Got::Close(4508, _) | Got::End), "{slow:?}: {end:?}");
    }
}
