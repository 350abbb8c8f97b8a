//! Servers for the tests, on threads of their own.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod script;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use throng_wire::handshake::server::{self, ServerOptions};

/// A server that takes a number of connections, one after the other.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    thread: JoinHandle<()>,
    _watch: Watch,
}

impl Server {
    /// `serve` gets each connection with its number, from 0.
    pub(crate) fn new(
        connections: usize,
        serve: impl Fn(usize, TcpStream) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            for number in 0..connections {
                let stream = listener.accept().unwrap().0;
                // A test that goes wrong ends all the same.
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
                serve(number, stream);
            }
        });
        Self { addr, thread, _watch: Watch::new() }
    }

    /// A server that reads one request and answers with `response`.
    pub(crate) fn answering(response: impl Fn(&Request) -> String + Send + 'static) -> Self {
        Self::new(1, move |_, mut stream| {
            let request = Request::read(&mut stream);
            stream.write_all(response(&request).as_bytes()).unwrap();
            drain(&mut stream);
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.addr)
    }

    /// Waits for the end; a panic in the server becomes one in the test.
    pub(crate) async fn done(self) {
        tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap();
    }
}

/// Ends a test that waits in vain: no test of ours has a server for so long.
struct Watch(#[allow(dead_code)] Sender<()>);

impl Watch {
    fn new() -> Self {
        let (alive, over) = channel::<()>();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // What it waits for may be a task or a thread: there is no other way to end it.
                eprintln!("{test} waits for something that does not happen");
                std::process::abort();
            }
        });
        Self(alive)
    }
}

/// A place that nobody listens at and nobody else gets as long as this is kept.
pub(crate) struct Nobody {
    _socket: tokio::net::TcpSocket,
    pub(crate) addr: SocketAddr,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { addr: socket.local_addr().unwrap(), _socket: socket }
    }
}

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// The head of a request.
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let (line, fields) = head.split_once("\r\n").unwrap();
        let mut headers = HeaderMap::new();
        for field in fields.lines().filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Self { line: line.to_owned(), headers }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// What our own server answers.
    pub(crate) fn accept(&self, options: &ServerOptions<'_>) -> server::Accepted {
        server::accept(&Method::GET, Version::HTTP_11, &self.headers, options).unwrap()
    }

    /// The head of a correct answer, with `fields` added to it.
    pub(crate) fn accepted(&self, fields: &str) -> String {
        encode(&self.accept(&ServerOptions::default()), fields)
    }
}

/// The head of `accepted` as it travels, with `fields` added to it.
pub(crate) fn encode(accepted: &server::Accepted, fields: &str) -> String {
    let mut head = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (name, value) in accepted.response.headers() {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    head + fields + "\r\n"
}

/// Reads to the end.
pub(crate) fn drain(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// A server whose frames are written by hand: it shakes hands and calls `talk`.
pub(crate) fn by_hand(talk: impl Fn(&mut TcpStream) + Send + 'static) -> Server {
    Server::new(1, move |_, mut stream| {
        let request = Request::read(&mut stream);
        stream.write_all(request.accepted("").as_bytes()).unwrap();
        talk(&mut stream);
    })
}

/// The payload of a short frame from a client, unmasked, and the frame's first byte.
pub(crate) fn read_frame(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut header = [0; 6];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[1] & 0x80, 0x80, "a client masks");
    let len = usize::from(header[1] & 0x7f);
    assert!(len < 126, "only short frames here");
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).unwrap();
    throng_wire::frame::apply_mask(&mut payload, [header[2], header[3], header[4], header[5]]);
    (header[0], payload)
}

/// A tungstenite server that sends every message back until the end.
pub(crate) fn echo() -> Server {
    Server::new(1, |_, stream| {
        let config = tungstenite::protocol::WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let mut ws = tungstenite::accept_with_config(stream, Some(config)).unwrap();
        while let Ok(message) = ws.read() {
            if message.is_text() || message.is_binary() {
                ws.send(message).unwrap();
            }
        }
    })
}

/// A proxy that lets one connection through to where it is asked to go.
pub(crate) fn proxy(authorization: Option<&'static str>) -> Server {
    Server::new(1, move |_, mut stream| {
        let request = Request::read(&mut stream);
        assert_eq!(request.field("proxy-authorization"), authorization);
        let to = request.line.strip_prefix("CONNECT ").unwrap().strip_suffix(" HTTP/1.1").unwrap();
        assert_eq!(request.field("host"), Some(to));
        let upstream = TcpStream::connect(to).unwrap();
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let pipe = |mut from: TcpStream, mut to: TcpStream| {
            move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            }
        };
        let back = pipe(upstream.try_clone().unwrap(), stream.try_clone().unwrap());
        let back = std::thread::spawn(back);
        pipe(stream, upstream)();
        back.join().unwrap();
    })
}
