//! A server of `throng.v1` that does what a test tells it.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::CloseFrame;

/// The server's end of a connection.
pub(crate) struct Peer {
    ws: tungstenite::WebSocket<TcpStream>,
    /// Path and query of the handshake.
    pub(crate) uri: String,
    /// The subprotocol that was offered behind `throng.v1`.
    pub(crate) credential: Option<String>,
}

impl Peer {
    /// Shakes hands.
    pub(crate) fn accept(stream: TcpStream) -> Self {
        let (mut uri, mut credential) = (String::new(), None);
        #[allow(clippy::result_large_err)] // tungstenite's type
        let callback = |request: &Request, mut response: Response| {
            uri = request.uri().to_string();
            let offered = request.headers()["sec-websocket-protocol"].to_str().unwrap();
            let mut offered = offered.split(", ");
            assert_eq!(offered.next(), Some("throng.v1"));
            credential = offered.next().map(str::to_owned);
            assert_eq!(offered.next(), None);
            let protocol = HeaderValue::from_static("throng.v1");
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let ws = tungstenite::accept_hdr(stream, callback).unwrap();
        Self { ws, uri, credential }
    }

    /// The same, and says who the client is: user `ada`, token `token`.
    pub(crate) fn greet(stream: TcpStream, resumed: bool) -> Self {
        let mut peer = Self::accept(stream);
        peer.connected(resumed, 25_000);
        peer
    }

    pub(crate) fn connected(&mut self, resumed: bool, heartbeat: u64) {
        self.send(&json!({"type": "connected", "userId": "ada", "sessionId": "s", "userCount": 1,
            "resume": "token", "resumed": resumed, "resumeWindow": 120_000, "timestamp": 1,
            "heartbeat": heartbeat, "limits": {"maxPayload": 65_536, "maxRooms": 128}}));
        if !resumed {
            self.send(&json!({"type": "joined", "room": "@ada", "epoch": "e", "seq": 0,
                "recovered": true, "userCount": 1}));
        }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.ws.send(Message::text(message.to_string())).unwrap();
    }

    /// An application message in a room.
    pub(crate) fn chat(&mut self, room: &str, seq: u64) {
        self.send(&chat(room, seq));
    }

    /// Says that it is about to stop, and something else, in one piece: there is no time in between.
    pub(crate) fn reconnect_and_chat(&mut self, after: u64, room: &str, seq: u64) {
        for message in [json!({"type": "reconnect", "after": after}), chat(room, seq)] {
            self.ws.write(Message::text(message.to_string())).unwrap();
        }
        self.ws.flush().unwrap();
    }

    /// The next command; `None` when the client has closed.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        loop {
            match self.ws.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) => {
                    while self.ws.read().is_ok() {}
                    return None;
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next command, which has to be of this type.
    pub(crate) fn expect(&mut self, kind: &str) -> Value {
        let command = self.receive().unwrap();
        assert_eq!(command["type"], kind, "{command}");
        command
    }

    /// Lets the client into the room it asks for, which is at `seq`.
    pub(crate) fn let_in(&mut self, seq: u64) -> Value {
        let join = self.expect("join");
        self.send(&json!({"type": "joined", "ref": join["ref"], "room": join["room"],
            "epoch": "e", "seq": seq, "recovered": true, "userCount": 1, "presenceSeq": 1}));
        join
    }

    /// Lets the client back into all rooms it names, which are at `seq`.
    pub(crate) fn let_back_in(&mut self, seq: u64) -> Value {
        let resume = self.expect("resume");
        let mut rooms = json!({});
        for name in resume["rooms"].as_object().unwrap().keys() {
            rooms[name] = json!({"recovered": true, "epoch": "e", "userCount": 1,
                "seq": if name.starts_with('@') { 0 } else { seq }, "presenceSeq": 1});
        }
        self.send(&json!({"type": "resumed", "ref": resume["ref"], "rooms": rooms}));
        resume
    }

    pub(crate) fn ack(&mut self, command: &Value, seq: u64) {
        self.send(&json!({"type": "ack", "ref": command["ref"], "room": command["room"],
            "seq": seq, "timestamp": 7}));
    }

    /// Closes, and waits for the client's answer.
    pub(crate) fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "because".into() };
        self.ws.close(Some(frame)).unwrap();
        while self.ws.read().is_ok() {}
    }

    /// Waits for the client to close; its code.
    pub(crate) fn closed(mut self) -> Option<u16> {
        loop {
            match self.ws.read() {
                Ok(Message::Close(frame)) => {
                    while self.ws.read().is_ok() {}
                    return frame.map(|frame| frame.code.into());
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

fn chat(room: &str, seq: u64) -> Value {
    json!({"type": "chat", "room": room, "from": "bob", "seq": seq, "timestamp": 1,
        "text": format!("text {seq}")})
}
