//! An engine, and peers at the other end of real sockets, after their handshakes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use throng_engine::{
    Admission, Config, Engine, Handover, Opening, Permit, Policy, Rooms, Start, Stats, Visitor,
};
use throng_hub::{
    Append, Backend, Draft, Epoch, Keep, Kept, Log, Opened, Opening as Open, Past, Room, Rules,
    Sink, Timestamp,
};
use throng_wire::frame::header;
use throng_wire::{Decoder, Event, Kind, Limits, OpCode, Role, Scratch, encode};

/// Nothing a test waits for takes so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Rig {
    pub engine: Engine,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {}, Rules::default())
    }

    pub fn with(adjust: impl FnOnce(&mut Config), rules: Rules) -> Self {
        let mut config = Config { workers: 2, ..Config::default() };
        adjust(&mut config);
        Self::start(config, Rooms::new(rules, keep()).unwrap())
    }

    /// All connections on one worker: what one of them has been sent, all others have been given, or it is counted
    /// why not.
    pub fn of_one_worker(adjust: impl FnOnce(&mut Config), rules: Rules) -> Self {
        let one = |config: &mut Config| {
            config.workers = 1;
            adjust(config);
        };
        Self::with(one, rules)
    }

    pub fn start(config: Config, rooms: Rooms) -> Self {
        Self { engine: Engine::start(config, rooms, || {}).unwrap() }
    }

    fn handover(opening: Opening, policy: &Policy) -> Handover {
        Handover {
            read_ahead: Default::default(),
            opening,
            policy: Arc::new(policy.clone()),
            deflate: None,
            permit: None,
            companion: None,
        }
    }

    /// A peer over TCP.
    pub fn connect(&self, opening: Opening, policy: &Policy) -> Peer {
        self.connect_with(opening, policy, None)
    }

    /// A peer over TCP, for whom this is counted.
    pub fn connect_with(&self, opening: Opening, policy: &Policy, permit: Option<Permit>) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        self.engine.adopt(server, Handover { permit, ..Self::handover(opening, policy) });
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        Peer::new(Box::new(client))
    }

    /// A peer over a pair of sockets whose buffers are small.
    pub fn connect_tight(&self, opening: Opening, policy: &Policy) -> Peer {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        self.engine.adopt_pair(theirs, Self::handover(opening, policy));
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer::new(Box::new(ours))
    }

    /// A client of the typed protocol in a room, greeted.
    pub fn join(&self, room: &str, policy: &Policy) -> Peer {
        self.join_as(room, Visitor::default(), policy)
    }

    pub fn join_as(&self, room: &str, visitor: Visitor, policy: &Policy) -> Peer {
        let mut peer = self.connect(plain(room, visitor), policy);
        peer.expect("\"type\":\"connected\"");
        peer
    }

    pub fn admission(&self) -> &Arc<Admission> {
        self.engine.admission()
    }

    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Waits until what is counted is as it should be.
    pub fn await_stats(&self, is_so: impl Fn(&Stats) -> bool) -> Stats {
        let end = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats();
            if is_so(&stats) {
                return stats;
            }
            assert!(Instant::now() < end, "{stats:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.engine.shutdown(Duration::ZERO, || {});
    }
}

pub fn plain(room: &str, visitor: Visitor) -> Opening {
    Opening::Plain(room.into(), Start::default(), visitor)
}

pub trait Socket: Read + Write + Send {}
impl<S: Read + Write + Send> Socket for S {}

pub struct Peer {
    socket: Box<dyn Socket>,
    decoder: Decoder,
    scratch: Scratch,
    unread: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The connection has ended without more.
    End,
}

impl Peer {
    fn new(socket: Box<dyn Socket>) -> Self {
        let decoder = Decoder::new(Role::Client, None);
        Self { socket, decoder, scratch: Scratch::new(), unread: Vec::new() }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub fn text(&mut self, text: &str) {
        self.raw(&frame(OpCode::Text, text.as_bytes()));
    }

    /// The next thing that comes.
    pub fn next(&mut self) -> Got {
        loop {
            let limits = Limits { max_frame: 1 << 30, max_message: 1 << 30, ..Limits::default() };
            let step = self.decoder.next(&limits, &mut self.unread, &mut self.scratch).unwrap();
            let got = step.event.map(|event| match event {
                Event::Message { kind: Kind::Text, payload } => {
                    Got::Text(String::from_utf8(payload.to_vec()).unwrap())
                }
                Event::Message { kind: Kind::Binary, payload } => Got::Binary(payload.to_vec()),
                Event::Ping(payload) => Got::Ping(payload.to_vec()),
                Event::Pong(payload) => Got::Pong(payload.to_vec()),
                Event::Close(Some(frame)) => Got::Close(frame.code.into(), frame.reason.into()),
                Event::Close(None) => Got::Close(1005, String::new()),
            });
            let consumed = step.consumed;
            self.unread.drain(..consumed);
            if let Some(got) = got {
                return got;
            }
            let mut chunk = [0; 65536];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Got::End,
                Ok(read) => self.unread.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Got::End;
                }
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Skips to the first text with this in it.
    pub fn expect(&mut self, part: &str) -> String {
        loop {
            match self.next() {
                Got::Text(text) if text.contains(part) => return text,
                Got::Close(..) | Got::End => panic!("closed before {part}"),
                _ => {}
            }
        }
    }

    /// Skips to the next pong.
    pub fn expect_pong(&mut self) -> Vec<u8> {
        loop {
            match self.next() {
                Got::Pong(payload) => return payload,
                Got::Text(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Skips to the close frame.
    pub fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.next() {
                Got::Close(code, reason) => return (code, reason),
                Got::End => panic!("no close frame"),
                _ => {}
            }
        }
    }

    /// Shows that the server still serves this peer of the typed protocol.
    pub fn is_served(&mut self) {
        self.text(r#"{"type":"ping","ref":4711}"#);
        self.expect("\"ref\":4711");
    }
}

/// A whole frame of a client.
pub fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, opcode, payload, Some([0; 4]));
    bytes
}

/// A part of a message of a client.
pub fn part(fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(fin, false, opcode, payload.len(), Some([0; 4])).as_slice().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// The number in a field of a message.
pub fn number(text: &str, field: &str) -> u64 {
    let start = text.find(&format!("\"{field}\":")).unwrap() + field.len() + 3;
    let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
    text[start..start + digits].parse().unwrap()
}

pub fn keep() -> Keep {
    Keep { memory: Arc::new(Forgetful), durable: None }
}

/// Rooms in memory, for as long as they are open.
#[derive(Debug)]
struct Forgetful;

#[derive(Debug)]
struct Count(u64);

impl Backend for Forgetful {
    fn start(&self, _: Arc<dyn Sink>) {}

    fn open(&self, room: &Arc<Room>, time: Timestamp) -> Open {
        let epoch = Epoch(room.id().0);
        let log = Box::new(Count(0));
        Open::Ready(Opened {
            epoch,
            seq: 0,
            time,
            past: Past::None,
            refs: Vec::new(),
            elsewhere: Vec::new(),
            log,
        })
    }
}

impl Log for Count {
    fn append(&mut self, _: &Draft<'_>, timestamp: Timestamp) -> Append {
        self.0 += 1;
        Append::Done { seq: self.0, timestamp }
    }

    fn close(self: Box<Self>, _: Kept) {}
}
