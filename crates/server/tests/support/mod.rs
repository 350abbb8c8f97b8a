//! Starts the built binary on free ports and talks to it over plain sockets.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "in a test, to panic is to say what is wrong")]

pub(crate) mod api;
pub(crate) mod events;
pub(crate) mod rooms;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Long enough for any machine: reaching it is a failure, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);
/// `limits.handshake_timeout` where it is waited for: nobody who is in time is cut, however late the machine lets
/// them.
pub(crate) const CUT: &str = "limits.handshake_timeout=3s";

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    /// The address of each listener.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where it runs: no `throng.toml` there but the test's own.
    _directory: TempDir,
}

/// An answer, its header names in lower case.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// The binary in an empty directory, with none of our variables.
pub(crate) fn throng(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
    isolate(&mut command, directory);
    command
}

/// Takes what could influence a server away from a command.
pub(crate) fn isolate(command: &mut Command, directory: &Path) {
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("THRONG_") {
            command.env_remove(name);
        }
    }
}

impl Server {
    /// Starts `throng` on a free port of 127.0.0.1.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut all = vec!["--listen", "127.0.0.1:0"];
        all.extend(arguments);
        Self::start_with(&all, "")
    }

    /// Starts `throng` with these arguments only, and this file. Unless they say otherwise, every room is open
    /// to everybody, at any rate.
    pub(crate) fn start_with(arguments: &[&str], file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if !file.is_empty() {
            std::fs::write(directory.path().join("throng.toml"), file).unwrap();
        }
        let mut command = throng(directory.path());
        for open in ["access.anonymous=*", "rooms.rate=off", "rooms.bytes_rate=off"] {
            command.args(["--set", open]);
        }
        command.args(arguments).args(["--workers", "1", "--log-format", "json"]);
        Self::spawn(command, directory)
    }

    /// Starts a command that becomes `throng` with a JSON log, and waits until it is ready.
    pub(crate) fn spawn(mut command: Command, directory: TempDir) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut addresses = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it was ready");
            let event: serde_json::Value = serde_json::from_str(&line).expect(&line);
            match event["message"].as_str() {
                Some("listening") => {
                    addresses.push(event["address"].as_str().unwrap().parse().unwrap())
                }
                Some("ready") => break,
                // What Redis is like is nobody's fault here.
                _ if event["target"]
                    .as_str()
                    .is_some_and(|of| of.starts_with("throng_backend")) => {}
                other => panic!("{other:?}: {line}"),
            }
        }
        Self { child, log, addresses, _directory: directory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address())
    }

    /// One request on a connection of its own, and the whole answer.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = self.connect();
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request += &format!("host: {}\r\n", self.address());
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            request += "connection: close\r\n";
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        // The server may answer and hang up before it has read everything.
        let _ = stream.write_all((request + "\r\n").as_bytes());
        answer(stream)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    /// A WebSocket handshake; with 101 only the head of the answer is read.
    pub(crate) fn upgrade(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        if !headers.iter().any(|(name, _)| *name == "sec-websocket-version") {
            all.push(("sec-websocket-version", "13"));
        }
        all.extend(headers);
        self.ask("GET", path, &all)
    }

    /// An open WebSocket.
    pub(crate) fn websocket(&self, path: &str) -> WebSocket<TcpStream> {
        let url = format!("ws://{}{path}", self.address());
        let (socket, response) = tungstenite::client(url, self.connect()).unwrap();
        assert_eq!(response.status().as_u16(), 101);
        socket
    }

    /// A number from `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let answer = self.get("/metrics");
        let text = answer.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Asks for a number until it is what it should be.
    pub(crate) fn until_metric(&self, name: &str, fits: impl Fn(u64) -> bool) {
        eventually(&format!("{name} is as expected"), || fits(self.metric(name)));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Reads the log until a line contains `text`.
    pub(crate) fn until_logged(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "it ended without {text:?}");
            if line.contains(text) {
                return;
            }
        }
    }

    /// Waits for the end, and returns the status and the rest of the log.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// The first header of this name, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(header, value)| (header == name).then_some(value))
            .unwrap_or_default()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Waits until something is so that a server brings about.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads an answer to its end (to the end of its head with 101).
pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let head_end = |bytes: &[u8]| Some(4 + bytes.windows(4).position(|four| four == b"\r\n\r\n")?);
    while !(bytes.starts_with(b"HTTP/1.1 101 ") && head_end(&bytes).is_some()) {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            // A reset after the answer: the server did not want to read the rest.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    let no_answer = || panic!("no answer: {:?}", String::from_utf8_lossy(&bytes));
    let body = bytes.split_off(head_end(&bytes).unwrap_or_else(no_answer));
    let head = String::from_utf8(bytes).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let lower = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
        None => format!("{line}\n"),
    };
    Answer { status, head: head.lines().map(lower).collect(), body }
}

/// The next data message.
pub(crate) fn next(socket: &mut WebSocket<TcpStream>) -> Message {
    loop {
        match socket.read().unwrap() {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}
