//! Clients of the typed protocol over WebSockets.

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use super::{Server, next};

/// A client that says and hears JSON.
pub(crate) struct Client {
    pub(crate) socket: WebSocket<TcpStream>,
    pub(crate) connected: Value,
    last_ref: u64,
}

impl Server {
    /// A plain client: no subprotocol, joined to the room of the path.
    pub(crate) fn plain(&self, path: &str) -> Client {
        Client::of(self.websocket(path))
    }

    /// A client of `throng.v1`, in no room but its own.
    pub(crate) fn full(&self, query: &str) -> Client {
        let mut request =
            format!("ws://{}/ws{query}", self.address()).into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "throng.v1".parse().unwrap());
        let (socket, _) = tungstenite::client(request, self.connect()).unwrap();
        Client::of(socket)
    }
}

impl Client {
    fn of(socket: WebSocket<TcpStream>) -> Self {
        let mut client = Self { socket, connected: Value::Null, last_ref: 1_000_000 };
        client.connected = client.next();
        assert_eq!(client.connected["type"], "connected");
        client
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Value {
        match next(&mut self.socket) {
            Message::Text(text) => serde_json::from_str(&text).expect(&text),
            other => panic!("{other:?}"),
        }
    }

    /// The next message of a type; others are skipped.
    pub(crate) fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The code and reason with which the server closes; messages before are skipped.
    pub(crate) fn closed(&mut self) -> (u16, String) {
        loop {
            match next(&mut self.socket) {
                Message::Close(Some(frame)) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Close(None) => panic!("no code"),
                _ => {}
            }
        }
    }

    /// Sends a text.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).unwrap();
    }

    /// The answer to a command, whatever else comes before.
    pub(crate) fn ask(&mut self, mut command: Value) -> Value {
        self.last_ref += 1;
        let reference = command["ref"].as_u64().unwrap_or(self.last_ref);
        command["ref"] = json!(reference);
        self.say(command.to_string());
        loop {
            let message = self.next();
            if message["ref"] == reference {
                return message;
            }
        }
    }

    /// Joins a room.
    pub(crate) fn join(&mut self, room: &str) -> Value {
        let joined = self.ask(json!({"type": "join", "room": room}));
        assert_eq!(joined["type"], "joined", "{joined}");
        joined
    }

    /// The code of the error that answers a text.
    pub(crate) fn refusal(&mut self, text: impl Into<String>) -> String {
        self.say(text);
        let error = self.next_of("error");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        assert!(error["temporary"].is_boolean(), "{error}");
        error["code"].as_str().unwrap().to_owned()
    }
}
