//! Handlers: what an embedder's code sees and does.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;

use std::sync::{Arc, Mutex};

use rig::{Rig, eventually, text};
use throng::{
    CloseCode, Endpoint, Handle, Handler, Message as Received, Peer, ProtocolError, Server,
};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

type Log = Arc<Mutex<Vec<String>>>;

struct Diary {
    log: Log,
    handles: Arc<Mutex<Vec<Handle>>>,
}

impl Diary {
    fn note(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }
}

impl Handler for Diary {
    fn open(&mut self, peer: &mut Peer<'_>) {
        self.note("open");
        self.handles.lock().unwrap().push(peer.handle());
        peer.send("welcome");
    }

    fn message(&mut self, peer: &mut Peer<'_>, message: Received<'_>) {
        self.note(format!("{:?} {}", message.kind(), message.as_bytes().len()));
        match message {
            Received::Text("panic") => panic!("asked to"),
            Received::Text("terminate") => peer.terminate(),
            Received::Text("close") => {
                peer.close(CloseCode::new(4001).unwrap(), "why not").unwrap()
            }
            Received::Text("too long") => {
                assert!(peer.close(CloseCode::NORMAL, &"x".repeat(124)).is_err());
            }
            Received::Text("ping me") => peer.ping(b"you"),
            Received::Text("join") => peer.join("hall"),
            Received::Text("leave") => peer.leave("hall"),
            Received::Text(text) if text.starts_with("say ") => peer.broadcast("hall", &text[4..]),
            other => peer.send(other),
        }
    }

    fn ping(&mut self, _: &mut Peer<'_>, payload: &[u8]) {
        self.note(format!("ping {}", payload.len()));
    }

    fn pong(&mut self, _: &mut Peer<'_>, payload: &[u8]) {
        self.note(format!("pong {}", String::from_utf8_lossy(payload)));
    }

    fn error(&mut self, _: &mut Peer<'_>, error: &ProtocolError) {
        self.note(format!("error {}", error.close_code().get()));
    }

    fn close(&mut self, code: u16, reason: &str) {
        self.note(format!("close {code} {reason}"));
    }
}

struct Study {
    rig: Rig,
    log: Log,
    handles: Arc<Mutex<Vec<Handle>>>,
}

impl Study {
    fn start() -> Self {
        let (log, handles) = (Log::default(), Arc::<Mutex<Vec<Handle>>>::default());
        let (to_log, to_handles) = (log.clone(), handles.clone());
        let diary =
            Endpoint::handler(move |_| Diary { log: to_log.clone(), handles: to_handles.clone() });
        let rig = Rig::start(Server::builder().workers(2).endpoint("/", diary));
        Self { rig, log, handles }
    }

    fn connect(&self) -> rig::Socket {
        let mut socket = self.rig.connect("/");
        assert_eq!(text(&mut socket), "welcome");
        socket
    }

    fn expect(&self, lines: &[&str]) {
        eventually(&format!("{lines:?}"), || self.log.lock().unwrap().len() >= lines.len());
        assert_eq!(*self.log.lock().unwrap(), lines);
    }
}

#[test]
fn a_handler_sees_the_whole_life_of_a_connection() {
    let study = Study::start();
    let mut socket = study.connect();
    socket.send(Message::text("hi")).unwrap();
    assert_eq!(text(&mut socket), "hi");
    socket.send(Message::Ping(vec![1, 2, 3].into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(vec![1, 2, 3].into()));
    socket.send(Message::text("ping me")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Ping(b"you".as_slice().into()));
    socket.flush().unwrap(); // the pong
    socket.send(Message::text("too long")).unwrap();
    socket.send(Message::binary(vec![9])).unwrap();
    assert_eq!(socket.read().unwrap(), Message::binary(vec![9]));
    let bye = CloseFrame { code: 4321.into(), reason: "done".into() };
    socket.close(Some(bye)).unwrap();
    assert_eq!(rig::drain(&mut socket), Some(4321));
    study.expect(&[
        "open",
        "Text 2",
        "ping 3",
        "Text 7",
        "pong you",
        "Text 8",
        "Binary 1",
        "close 4321 done",
    ]);
}

#[test]
fn closes_from_our_side_and_without_a_frame() {
    let study = Study::start();
    let mut socket = study.connect();
    socket.send(Message::text("close")).unwrap();
    assert_eq!(rig::drain(&mut socket), Some(4001));
    study.expect(&["open", "Text 5", "close 4001 why not"]);

    study.log.lock().unwrap().clear();
    let mut socket = study.connect();
    socket.send(Message::text("terminate")).unwrap();
    assert_eq!(rig::drain(&mut socket), None);
    study.expect(&["open", "Text 9", "close 1006 "]);

    study.log.lock().unwrap().clear();
    drop(study.connect());
    study.expect(&["open", "close 1006 "]);
}

#[test]
fn a_shutdown_tells_every_handler() {
    let study = Study::start();
    let stubborn = study.connect(); // never answers the close
    let handle = study.handles.lock().unwrap()[0].clone();
    let server = study.rig.server.clone();
    study.rig.block_on(server.shutdown(std::time::Duration::from_millis(200)));
    study.expect(&["open", "close 1006 "]);
    assert_eq!(server.stats().connections, 0);
    handle.send("to nobody");
    assert_eq!(handle.buffered_amount(), 0);
    drop(stubborn);
}

#[test]
fn errors_of_the_peer_are_told() {
    use std::io::Write;
    let study = Study::start();
    let mut socket = study.connect();
    socket.get_mut().write_all(&[0x83, 0x80, 0, 0, 0, 0]).unwrap(); // a reserved opcode
    assert_eq!(rig::drain(&mut socket), Some(1002));
    study.expect(&["open", "error 1002", "close 1006 "]);
}

#[test]
fn a_panic_closes_its_own_connection_only() {
    let study = Study::start();
    let mut bystanders: Vec<_> = (0..4).map(|_| study.connect()).collect();
    let mut socket = study.connect();
    socket.send(Message::text("panic")).unwrap();
    assert_eq!(rig::drain(&mut socket), Some(1011));
    assert_eq!(study.rig.server.stats().handler_panics, 1);
    for socket in &mut bystanders {
        socket.send(Message::text("alive?")).unwrap();
        assert_eq!(text(socket), "alive?");
    }
}

#[test]
fn rooms_of_handlers() {
    let study = Study::start();
    let mut sockets: Vec<_> = (0..3).map(|_| study.connect()).collect();
    for socket in &mut sockets[..2] {
        socket.send(Message::text("join")).unwrap();
        socket.send(Message::text("join")).unwrap(); // twice is once
        socket.send(Message::text("in")).unwrap();
        assert_eq!(text(socket), "in");
    }
    sockets[2].send(Message::text("say one")).unwrap();
    assert_eq!(text(&mut sockets[0]), "one");
    assert_eq!(text(&mut sockets[1]), "one");
    sockets[0].send(Message::text("leave")).unwrap();
    sockets[0].send(Message::text("out")).unwrap();
    assert_eq!(text(&mut sockets[0]), "out");
    study.rig.server.broadcast("hall", "two");
    assert_eq!(text(&mut sockets[1]), "two");
    for at in [0, 2] {
        sockets[at].send(Message::text("nothing else?")).unwrap();
        assert_eq!(text(&mut sockets[at]), "nothing else?");
    }
    // Joined and left in one turn: what is left is nothing.
    sockets[2].send(Message::text("join")).unwrap();
    sockets[2].send(Message::text("leave")).unwrap();
    sockets[2].send(Message::text("done")).unwrap();
    assert_eq!(text(&mut sockets[2]), "done");
    study.rig.server.broadcast("hall", "three");
    assert_eq!(text(&mut sockets[1]), "three");
    sockets[2].send(Message::text("quiet")).unwrap();
    assert_eq!(text(&mut sockets[2]), "quiet");
}

#[test]
fn handles_work_from_other_threads_in_order() {
    let study = Study::start();
    let mut socket = study.connect();
    let handle = study.handles.lock().unwrap()[0].clone();
    let sender = std::thread::spawn({
        let handle = handle.clone();
        move || {
            for i in 0..10_000 {
                handle.send(&i.to_string());
                // As `ws` users do: not more than the peer takes.
                while handle.buffered_amount() > 100_000 {
                    std::thread::yield_now();
                }
            }
            handle.ping(b"!");
            handle.close(CloseCode::NORMAL, "all said").unwrap();
        }
    });
    for i in 0..10_000 {
        assert_eq!(text(&mut socket), i.to_string());
    }
    assert_eq!(socket.read().unwrap(), Message::Ping(b"!".as_slice().into()));
    assert_eq!(rig::drain(&mut socket), Some(1000));
    sender.join().unwrap();
    eventually("the connection is gone", || study.rig.server.stats().connections == 0);
    handle.send("to nobody");
    handle.terminate();
    assert!(handle.close(CloseCode::NORMAL, &"x".repeat(124)).is_err());

    let mut socket = study.connect();
    let handle = study.handles.lock().unwrap()[1].clone();
    handle.terminate();
    assert_eq!(rig::drain(&mut socket), None);
}
