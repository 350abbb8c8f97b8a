//! Starts the example as a reader would, and talks through nginx.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster::Cluster;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

/// A member of the room `lobby`.
fn join(port: u16) -> Socket {
    let uri = format!("ws://127.0.0.1:{port}/ws").parse().unwrap();
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("throng.v1");
    let (mut socket, _) = tungstenite::connect(request).unwrap();
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    wait_for(&mut socket, r#""type":"connected""#);
    socket
        .send(Message::text(r#"{"type":"join","room":"lobby","presence":true,"ref":1}"#))
        .unwrap();
    wait_for(&mut socket, r#""ref":1"#);
    socket
}

/// Waits for a message with this in it.
fn wait_for(socket: &mut Socket, part: &str) {
    let mut heard = Vec::new();
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match socket.read() {
            Ok(Message::Text(text)) if text.contains(part) => return,
            Ok(other) => heard.push(other),
            Err(error) => panic!("{error} after {heard:?}"),
        }
    }
    panic!("{part} is not among {heard:?}");
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this comes by HTTP, while the answer may go on.
fn came(port: u16, path: &str, part: &str) -> bool {
    let url = format!("http://127.0.0.1:{port}{path}");
    let patience = PATIENCE.as_secs().to_string();
    let mut curl = Command::new("curl");
    curl.args(["-sN", "-m", &patience, &url]).stdout(Stdio::piped());
    let mut curl = curl.spawn().unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines();
    let came = lines.any(|line| line.unwrap().contains(part));
    curl.kill().unwrap();
    curl.wait().unwrap();
    came
}

fn say(socket: &mut Socket, text: &str) {
    let message = format!(r#"{{"type":"chat","room":"lobby","text":"{text}","ref":7}}"#);
    socket.send(Message::text(message)).unwrap();
}

#[test]
fn nodes_behind_nginx_are_one_server() {
    let cluster = Cluster::start().unwrap();
    let folder = cluster.folder.clone();
    // Through nginx, and at each node: whoever says something is heard by all.
    let mut members: Vec<Socket> = [0, 0, 1, 2, 3].map(|node| join(cluster.port + node)).into();
    for speaker in 0..members.len() {
        let text = format!("hello from {speaker}");
        say(&mut members[speaker], &text);
        for member in &mut members {
            wait_for(member, &text);
        }
    }
    // A page, as a browser gets it, and an event stream, which must not be held back.
    assert!(came(cluster.port, "/", "<html"));
    assert!(came(cluster.port, "/sse?room=lobby", r#""type":"joined""#));
    drop(cluster);
    assert!(!Path::new(&folder).exists(), "nothing is left behind");
}
