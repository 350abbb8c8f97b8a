//! Starts the example as a reader would and talks to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Error, Message, WebSocket};

type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

struct Example {
    child: Child,
    address: String,
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Example {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embed"));
        let mut child = command.env("PORT", "0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address }
    }

    fn connect(&self, name: Option<&str>) -> Result<Socket, Error> {
        let mut request = format!("ws://{}/live", self.address).into_client_request()?;
        if let Some(name) = name {
            let cookie = format!("theme=dark; user={name}").parse().unwrap();
            request.headers_mut().insert("cookie", cookie);
        }
        tungstenite::connect(request).map(|(socket, _)| patient(socket))
    }

    fn http(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// A test that waits this long for something to read has failed.
fn patient(socket: Socket) -> Socket {
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    }
    socket
}

/// The next text that is not the reminder, which comes at its own time.
fn next(socket: &mut Socket) -> String {
    loop {
        let text = socket.read().unwrap().into_text().unwrap();
        if text != "still there?" {
            return text.to_string();
        }
    }
}

#[test]
fn the_application_decides_before_the_101() {
    let example = Example::start();
    match example.connect(None) {
        Err(Error::Http(response)) => assert_eq!(response.status(), 401),
        other => panic!("{other:?}"),
    }
    assert!(example.http("GET /chat").starts_with("HTTP/1.1 426"));
}

#[test]
fn visitors_hear_each_other_the_application_and_its_tasks() {
    let example = Example::start();
    let mut ada = example.connect(Some("Ada")).unwrap();
    assert_eq!(next(&mut ada), "Ada came in");
    assert_eq!(ada.read().unwrap(), Message::text("still there?"));
    let mut bob = example.connect(Some("Bob")).unwrap();
    assert_eq!(next(&mut ada), "Bob came in");
    assert_eq!(next(&mut bob), "Bob came in");
    bob.send(Message::text("hi")).unwrap();
    assert_eq!(next(&mut ada), "Bob: hi");
    assert!(example.http("GET /").ends_with("\r\n\r\n2"));
    assert!(example.http("POST /announce/tea").starts_with("HTTP/1.1 204"));
    assert_eq!(next(&mut ada), "announcement: tea");
    ada.send(Message::text("bye")).unwrap();
    match ada.read().unwrap() {
        Message::Close(Some(frame)) => {
            assert_eq!(u16::from(frame.code), 1000);
            assert_eq!(frame.reason.as_str(), "after 1 messages");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn typed_chat_shares_the_port() {
    let example = Example::start();
    let url = format!("ws://{}/chat/demo:garden?name=Ada", example.address);
    let mut socket = patient(tungstenite::connect(url).unwrap().0);
    let greeting = next(&mut socket);
    assert!(greeting.starts_with(r#"{"type":"connected""#), "{greeting}");
    assert!(greeting.contains(r#""room":"demo:garden""#), "{greeting}");
}
