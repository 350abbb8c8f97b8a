//! The floor: what the kernel alone costs. A bare readiness loop that does no more than a valid
//! answer needs: it unmasks in place, answers pings and closes, and checks nothing else.
//!
//! `floor [--mode write|coalesce] [--hold-ms N]`. *write* sends every frame by itself; *coalesce*
//! writes once for each socket and turn of the loop, a broadcast from one buffer that all
//! receivers share. *hold* keeps two broadcasts at least N milliseconds apart, the first after a
//! pause leaving at once.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use base64::Engine;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use sha1::{Digest, Sha1};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const READ_BUFFER: usize = 512 * 1024;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned()
    };
    let coalesce = value("--mode").is_none_or(|mode| mode != "write");
    let hold = value("--hold-ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    Floor::new(coalesce, Duration::from_millis(hold))?.run()
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    read_buffer: Vec<u8>,
    /// Frames of the room that wait for the end of the turn.
    broadcast: Vec<u8>,
    last_broadcast: Option<Instant>,
    coalesce: bool,
    hold: Duration,
}

struct Connection {
    stream: TcpStream,
    state: State,
    /// An incomplete request or frame.
    partial: Vec<u8>,
    /// What the socket did not take.
    backlog: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    Echo,
    Relay,
}

impl Floor {
    fn new(coalesce: bool, hold: Duration) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        println!("ready {}", listener.local_addr()?.port());
        Ok(Self {
            poll,
            listener,
            connections: Slab::new(),
            read_buffer: vec![0; READ_BUFFER],
            broadcast: Vec::new(),
            last_broadcast: None,
            coalesce,
            hold,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, self.until_broadcast()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if event.token() == LISTENER { self.accept() } else { self.ready(event) }
            }
            if !self.broadcast.is_empty() && self.until_broadcast().is_none_or(|d| d.is_zero()) {
                self.flush_broadcast();
            }
        }
    }

    /// How long the broadcast has to wait; `None` when there is none, or nothing to wait for.
    fn until_broadcast(&self) -> Option<Duration> {
        if self.broadcast.is_empty() {
            return None;
        }
        let last = self.last_broadcast?;
        Some(self.hold.saturating_sub(last.elapsed()))
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let _ = stream.set_nodelay(true);
            let entry = self.connections.vacant_entry();
            let token = Token(entry.key());
            let connection = entry.insert(Connection {
                stream,
                state: State::Handshake,
                partial: Vec::new(),
                backlog: Vec::new(),
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut connection.stream, token, interest).is_err() {
                self.connections.remove(token.0);
            }
        }
    }

    fn ready(&mut self, event: &Event) {
        let key = event.token().0;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut alive = true;
        if event.is_writable() && !connection.backlog.is_empty() {
            let backlog = std::mem::take(&mut connection.backlog);
            alive = connection.send(&backlog);
        }
        while alive && event.is_readable() {
            match self.read(key) {
                Progress::More => {}
                // The end may have come together with the last bytes.
                Progress::Drained if event.is_read_closed() => {}
                Progress::Drained => break,
                Progress::Ended => alive = false,
            }
        }
        if !alive {
            self.connections.remove(key);
        }
    }

    fn read(&mut self, key: usize) -> Progress {
        let Some(connection) = self.connections.get_mut(key) else { return Progress::Drained };
        let kept = connection.partial.len();
        if self.read_buffer.len() < kept + READ_BUFFER / 2 {
            self.read_buffer.resize(kept + READ_BUFFER, 0);
        }
        self.read_buffer[..kept].copy_from_slice(&connection.partial);
        let received = match connection.stream.read(&mut self.read_buffer[kept..]) {
            Ok(0) => return Progress::Ended,
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Drained,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Progress::More,
            Err(_) => return Progress::Ended,
        };
        let drained = kept + received < self.read_buffer.len();
        let data = &mut self.read_buffer[..kept + received];
        let mut wrote = Vec::new();
        let (consumed, alive) = match connection.state {
            State::Handshake => connection.handshake(data),
            State::Echo => connection.echo(data, self.coalesce),
            State::Relay => connection.relay(data, &mut wrote),
        };
        connection.partial.clear();
        if consumed < data.len() {
            connection.partial.extend_from_slice(&data[consumed..]);
        } else if kept > 0 {
            connection.partial = Vec::new();
        }
        for frame in wrote {
            self.publish(&frame);
        }
        match (alive, drained) {
            (false, _) => Progress::Ended,
            (true, true) => Progress::Drained,
            (true, false) => Progress::More,
        }
    }

    fn publish(&mut self, frame: &[u8]) {
        self.broadcast.extend_from_slice(frame);
        if !self.coalesce {
            self.flush_broadcast();
        }
    }

    fn flush_broadcast(&mut self) {
        if !self.hold.is_zero() {
            self.last_broadcast = Some(Instant::now());
        }
        for (_, connection) in &mut self.connections {
            if connection.state == State::Relay && !connection.send(&self.broadcast) {
                // The poll reports the broken socket.
                connection.state = State::Handshake;
            }
        }
        self.broadcast.clear();
    }
}

enum Progress {
    More,
    Drained,
    Ended,
}

impl Connection {
    /// Writes what the socket takes and keeps the rest.
    fn send(&mut self, data: &[u8]) -> bool {
        if !self.backlog.is_empty() {
            self.backlog.extend_from_slice(data);
            return true;
        }
        let mut sent = 0;
        while sent < data.len() {
            match self.stream.write(&data[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.backlog.extend_from_slice(&data[sent..]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn handshake(&mut self, data: &[u8]) -> (usize, bool) {
        let Some(end) = data.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return (0, data.len() < 8192);
        };
        let head = String::from_utf8_lossy(&data[..end]);
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        });
        let Some(key) = key else { return (data.len(), false) };
        let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        let accept = base64::engine::general_purpose::STANDARD.encode(digest);
        self.state = if head.starts_with("GET /echo ") { State::Echo } else { State::Relay };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        (end + 4, self.send(answer.as_bytes()))
    }

    /// Turns the frames into their answers where they lie: an answer's header is four bytes
    /// shorter, so the first payload need not move at all.
    fn echo(&mut self, data: &mut [u8], coalesce: bool) -> (usize, bool) {
        let mut consumed = 0;
        let (mut start, mut end) = (4, 4);
        let mut alive = true;
        while let Some(frame) = Frame::parse(&data[consumed..]) {
            let payload = consumed + frame.header;
            let key = frame.key;
            unmask(&mut data[payload..payload + frame.length], key);
            let target = end + frame.header - 4;
            if target != payload {
                data.copy_within(payload..payload + frame.length, target);
            }
            data[end] = frame.answer();
            frame.write_length(&mut data[end + 1..target]);
            end = target + frame.length;
            consumed = payload + frame.length;
            if !coalesce || frame.opcode() == 8 {
                alive &= self.send(&data[start..end]);
                (start, end) = (consumed + 4, consumed + 4);
            }
            if frame.opcode() == 8 {
                alive = false;
                break;
            }
        }
        if end > start {
            alive &= self.send(&data[start..end]);
        }
        (consumed, alive)
    }

    fn relay(&mut self, data: &mut [u8], out: &mut Vec<Vec<u8>>) -> (usize, bool) {
        let mut consumed = 0;
        while let Some(frame) = Frame::parse(&data[consumed..]) {
            let payload = consumed + frame.header;
            let bytes = &mut data[payload..payload + frame.length];
            unmask(bytes, frame.key);
            let header = frame.header - 4;
            let mut answer = vec![0; header];
            answer[0] = frame.answer();
            frame.write_length(&mut answer[1..header]);
            answer.extend_from_slice(bytes);
            consumed = payload + frame.length;
            if frame.opcode() < 8 {
                out.push(answer);
            } else {
                let alive = self.send(&answer);
                if frame.opcode() == 8 || !alive {
                    return (consumed, false);
                }
            }
        }
        (consumed, true)
    }
}

/// A client's frame header.
struct Frame {
    first: u8,
    header: usize,
    length: usize,
    key: [u8; 4],
}

impl Frame {
    /// `None` until the whole frame is there.
    fn parse(data: &[u8]) -> Option<Self> {
        let (&first, &second) = (data.first()?, data.get(1)?);
        let (length, size) = match second & 127 {
            126 => (u64::from(u16::from_be_bytes(data.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(data.get(2..10)?.try_into().ok()?), 10),
            length => (u64::from(length), 2),
        };
        let length = usize::try_from(length).ok()?;
        let key = data.get(size..size + 4)?.try_into().ok()?;
        let frame = Self { first, header: size + 4, length, key };
        (data.len() - frame.header >= length).then_some(frame)
    }

    fn opcode(&self) -> u8 {
        self.first & 15
    }

    /// The first byte of the answer: a ping becomes a pong.
    fn answer(&self) -> u8 {
        if self.opcode() == 9 { self.first + 1 } else { self.first }
    }

    /// The length without the mask bit, as wide as it came.
    fn write_length(&self, out: &mut [u8]) {
        match out.len() {
            1 => out[0] = self.length as u8,
            3 => {
                out[0] = 126;
                out[1..].copy_from_slice(&(self.length as u16).to_be_bytes());
            }
            _ => {
                out[0] = 127;
                out[1..].copy_from_slice(&(self.length as u64).to_be_bytes());
            }
        }
    }
}

fn unmask(data: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut chunks = data.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word: &mut [u8; 8] = chunk.try_into().expect("invariant: chunks of eight");
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}
