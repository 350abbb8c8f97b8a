//! The connections of a run and the loop that serves them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::interrupt;
use super::report::Failure;
use super::target::Request;

/// All connections, with one poll and one read buffer between them.
#[derive(Debug)]
pub(super) struct Fleet {
    poll: Poll,
    events: Events,
    links: Vec<Link>,
    buffer: Vec<u8>,
    /// Which the connections have in turn.
    targets: Vec<(SocketAddr, Request)>,
    sources: u8,
    started: Instant,
    open: usize,
    /// Connections that ended during the last turn, with the reason.
    pub(super) ended: Vec<(usize, String)>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: Option<TcpStream>,
    phase: Phase,
    /// What the socket did not take yet, or the part of an answer to the handshake.
    pending: Vec<u8>,
    /// When it was begun, in nanoseconds of the fleet's clock.
    pub(super) since: u64,
    closing: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ended,
    Connecting,
    Shaking,
    Open,
}

/// What a workload does with what happens.
pub(super) trait Work {
    /// The handshake is complete.
    fn opened(&mut self, index: usize, link: &mut Link, now: u64);
    /// Bytes after the handshake; an error ends the connection.
    fn received(
        &mut self,
        index: usize,
        link: &mut Link,
        data: &mut [u8],
        now: u64,
    ) -> Result<(), String>;
}

/// Handshakes under way at once while a fleet is opened.
const AT_ONCE: usize = 64;
/// A handshake that takes longer ends the run.
const PATIENCE: u64 = 10 * SECOND;
/// In nanoseconds, the unit of the fleet's clock.
pub(super) const SECOND: u64 = 1_000_000_000;
/// An answer to the handshake must not be larger.
const LARGEST_HEAD: usize = 16 * 1024;

impl Fleet {
    const READ_BUFFER: usize = 512 * 1024;

    /// Prepares `connections` connections; none is begun.
    pub(super) fn new(
        targets: Vec<(SocketAddr, Request)>,
        connections: usize,
        sources: u8,
    ) -> Result<Self, Failure> {
        let local = |address: &SocketAddr| address.is_ipv4() && address.ip().is_loopback();
        if sources > 1 && !targets.iter().all(|(address, _)| local(address)) {
            return Err(Failure::new("several source addresses need a 127.0.0.x target"));
        }
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            links: (0..connections).map(|_| Link::new()).collect(),
            buffer: vec![0; Self::READ_BUFFER],
            targets,
            sources,
            started: Instant::now(),
            open: 0,
            ended: Vec::new(),
        })
    }

    /// Nanoseconds since the fleet was made.
    pub(super) fn now(&self) -> u64 {
        nanoseconds(self.started)
    }

    pub(super) fn link(&mut self, index: usize) -> &mut Link {
        &mut self.links[index]
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Begins a connection, or begins it again.
    pub(super) fn begin(&mut self, index: usize) -> Result<(), Failure> {
        let address = self.targets[index % self.targets.len()].0;
        let stream = self
            .connect(index, address)
            .map_err(|error| Failure::new(format!("cannot connect to {address}: {error}")))?;
        let since = self.now();
        let link = &mut self.links[index];
        *link = Link { stream: Some(stream), phase: Phase::Connecting, since, ..Link::new() };
        if let Some(stream) = &mut link.stream {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(stream, Token(index), interest)?;
        }
        Ok(())
    }

    fn connect(&self, index: usize, address: SocketAddr) -> io::Result<TcpStream> {
        if self.sources <= 1 {
            return TcpStream::connect(address);
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let last = u8::try_from(index % usize::from(self.sources)).unwrap_or(0) + 1;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    /// Opens all connections, a few at a time.
    pub(super) fn open_all(
        &mut self,
        work: &mut impl Work,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let (mut begun, mut checked) = (0, self.now());
        while self.open < self.links.len() {
            while begun < self.links.len() && begun < self.open + AT_ONCE {
                self.begin(begun)?;
                begun += 1;
            }
            self.turn(Some(Duration::from_millis(100)), work)?;
            bar.set_position(self.open as u64);
            if let Some((_, reason)) = self.ended.pop() {
                return Err(Failure::new(reason));
            }
            if interrupt::requested() {
                return Err(Failure::new("interrupted while connecting"));
            }
            let now = self.now();
            if now - checked > SECOND {
                checked = now;
                let late = |link: &Link| !link.is_open() && now - link.since > PATIENCE;
                if self.links[..begun].iter().any(late) {
                    return Err(Failure::new("a handshake took more than ten seconds"));
                }
            }
        }
        Ok(())
    }

    /// Waits for events, no longer than `timeout`, and handles them.
    pub(super) fn turn(
        &mut self,
        timeout: Option<Duration>,
        work: &mut impl Work,
    ) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let index = event.token().0;
            let link = &mut self.links[index];
            if link.stream.is_none() {
                continue;
            }
            let request = &self.targets[index % self.targets.len()].1;
            let was_open = link.is_open();
            let mut result = Ok(());
            if event.is_writable() {
                result = link.writable(request);
            }
            if result.is_ok() && event.is_readable() {
                result = loop {
                    match link.read(index, &mut self.buffer, request, self.started, work) {
                        Ok(true) => {}
                        // The end may have come together with the last bytes.
                        Ok(false) if !event.is_read_closed() => break Ok(()),
                        Ok(false) => {}
                        Err(reason) => break Err(reason),
                    }
                };
            }
            if let Err(reason) = result {
                let reason = link.closing.take().unwrap_or(reason);
                *link = Link { since: link.since, ..Link::new() };
                self.ended.push((index, reason));
            }
            match (was_open, link.is_open()) {
                (false, true) => self.open += 1,
                (true, false) => self.open -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Link {
    /// One that has not begun.
    pub(super) fn new() -> Self {
        Self { stream: None, phase: Phase::Ended, pending: Vec::new(), since: 0, closing: None }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Remembers the server's close frame as the reason for the end that follows.
    pub(super) fn close_seen(&mut self, frame: Option<(u16, String)>) {
        self.closing = Some(match frame {
            Some((code, reason)) => format!("the server closed with {code} {reason:?}"),
            None => "the server closed without a code".to_owned(),
        });
    }

    /// Whether the server's close frame has come.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Sends what the socket takes and keeps the rest for when it takes more.
    pub(super) fn send(&mut self, data: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        let mut sent = 0;
        while self.pending.is_empty() && sent < data.len() {
            match stream.write(&data[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A broken socket is reported by the next read.
                Err(_) => break,
            }
        }
        self.pending.extend_from_slice(&data[sent..]);
    }

    fn writable(&mut self, request: &Request) -> Result<(), String> {
        match self.phase {
            Phase::Connecting => {
                let Some(stream) = &mut self.stream else { return Ok(()) };
                if let Ok(Some(error)) | Err(error) = stream.take_error() {
                    return Err(format!("cannot connect: {error}"));
                }
                if stream.peer_addr().is_err() {
                    return Ok(());
                }
                let _ = stream.set_nodelay(true);
                self.phase = Phase::Shaking;
                let bytes = request.next()?;
                match stream.write(&bytes) {
                    Ok(written) if written == bytes.len() => Ok(()),
                    _ => Err("the server did not take the handshake".to_owned()),
                }
            }
            Phase::Open if !self.pending.is_empty() => {
                let pending = std::mem::take(&mut self.pending);
                self.send(&pending);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads once; whether there may be more.
    fn read(
        &mut self,
        index: usize,
        buffer: &mut [u8],
        request: &Request,
        started: Instant,
        work: &mut impl Work,
    ) -> Result<bool, String> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let received = match stream.read(buffer) {
            Ok(0) => return Err("the server ended the connection".to_owned()),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(format!("the connection broke: {error}")),
        };
        let now = nanoseconds(started);
        let more = received == buffer.len();
        let data = &mut buffer[..received];
        if self.phase == Phase::Open {
            work.received(index, self, data, now)?;
            return Ok(more);
        }
        self.pending.extend_from_slice(data);
        let Some(end) = self.pending.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return if self.pending.len() < LARGEST_HEAD {
                Ok(more)
            } else {
                Err("the server's answer has no end".to_owned())
            };
        };
        let mut answer = std::mem::take(&mut self.pending);
        request.check(&answer[..end]).map_err(|failure| failure.to_string())?;
        self.phase = Phase::Open;
        work.opened(index, self, now);
        let rest = &mut answer[end + 4..];
        if !rest.is_empty() {
            work.received(index, self, rest, now)?;
        }
        Ok(more)
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
