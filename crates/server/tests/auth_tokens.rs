//! JWTs and a webhook in front of a running server: handshakes, rights, SIGHUP, revocation.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::Server;
use support::api::closed_server;
use tempfile::TempDir;

const OLD: &str = "0123456789abcdef0123456789abcdef";
const NEW: &str = "another secret that is long enough";

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of `ada`, for rooms `team:*`, with these claims, too.
fn token(secret: &str, more: Value) -> String {
    let mut claims = json!({"sub": "ada", "exp": seconds() + 600, "iat": seconds() - 5,
        "aud": "chat", "jti": "j-1", "info": {"name": "Ada"},
        "rooms": {"team:*": ["join", "send:chat"]}});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn server(directory: &TempDir) -> Server {
    let file = directory.path().join("secret");
    std::fs::write(&file, OLD).unwrap();
    let file = file.display();
    closed_server(&format!(
        "[jwt]\nalgorithms = [\"HS256\"]\naudience = \"chat\"\nsecret_file = \"{file}\"\n"
    ))
}

fn by_protocol(server: &Server, token: &str) -> u16 {
    let protocols = format!("throng.v1, token.{token}");
    server.upgrade("/ws", &[("sec-websocket-protocol", &protocols)]).status
}

#[test]
fn a_jwt_opens_a_session_with_its_rights() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(&directory);
    let good = token(OLD, json!({}));
    let mut ada = server.full(&format!("?token={good}"));
    assert_eq!(ada.connected["userId"], "ada");
    assert!(ada.connected["expiresAt"].as_u64().unwrap() > seconds() * 1000);
    ada.join("team:1");
    assert_eq!(ada.ask(json!({"type": "chat", "room": "team:1"}))["type"], "ack");
    for (wrong, code) in [
        (json!({"type": "other", "room": "team:1"}), "forbidden"),
        (json!({"type": "join", "room": "lobby"}), "forbidden"),
        (json!({"type": "chat", "room": "lobby"}), "not_joined"),
    ] {
        assert_eq!(ada.ask(wrong)["code"], code);
    }

    assert_eq!(by_protocol(&server, &good), 101);
    let bearer = format!("Bearer {good}");
    assert_eq!(server.upgrade("/ws/team:1", &[("authorization", &bearer)]).status, 101);
    assert_eq!(server.upgrade("/ws/lobby", &[("authorization", &bearer)]).status, 403);

    let none = good.replacen(good.split('.').next().unwrap(), "eyJhbGciOiJub25lIn0", 1);
    for wrong in [
        token(NEW, json!({})),
        token(OLD, json!({"exp": seconds() - 31})),
        token(OLD, json!({"aud": "shop"})),
        token(OLD, json!({"sub": "a b"})),
        none.clone(),
        format!("{}.", none.rsplit_once('.').unwrap().0),
        "x".to_owned(),
    ] {
        assert_eq!(by_protocol(&server, &wrong), 401, "{wrong}");
        assert_eq!(server.upgrade(&format!("/ws?token={wrong}"), &[]).status, 401, "{wrong}");
    }

    // Whoever takes the token away ends what it opened, and keeps it from opening more.
    assert_eq!(server.post("/tokens/j-1/revoke", "{}").status / 100, 2);
    assert_eq!(ada.closed().0, 4401);
    assert_eq!(by_protocol(&server, &good), 401);
    assert_eq!(by_protocol(&server, &token(OLD, json!({"jti": "j-2"}))), 101);
}

#[test]
fn secrets_change_without_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = server(&directory);
    let [old, new] = [OLD, NEW].map(|secret| token(secret, json!({})));
    let taken = |server: &Server| [&old, &new].map(|token| by_protocol(server, token));
    assert_eq!(taken(&server), [101, 401]);
    for (file, logged, wanted) in [
        (format!("{NEW}\n{OLD}\n"), "of tokens are read again", [101, 101]),
        ("short".to_owned(), "of tokens stay as they were", [101, 101]),
        (format!("{NEW}\n"), "of tokens are read again", [401, 101]),
    ] {
        std::fs::write(directory.path().join("secret"), file).unwrap();
        server.signal(Signal::HUP);
        server.until_logged(logged);
        assert_eq!(taken(&server), wanted);
    }
}

/// A webhook that knows three tokens; until it is asked `count` times.
fn webhook(count: usize) -> (SocketAddr, std::thread::JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = std::thread::spawn(move || (0..count).map(|_| answer(&listener)).collect());
    (address, answers)
}

fn answer(listener: &TcpListener) -> Value {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    let asked: Value = loop {
        let read = stream.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| serde_json::from_str(body));
        if let Some(Ok(asked)) = body {
            break asked;
        }
    };
    let (status, body) = match asked["token"].as_str().unwrap() {
        "ada" => (200, json!({"userId": "ada", "rooms": {"team:*": ["join"]}}).to_string()),
        "bob" => (403, String::new()),
        "odd" => (200, "<html>".to_owned()),
        _ => (401, String::new()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    asked
}

#[test]
fn a_webhook_says_who_comes_in() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, OLD).unwrap();
    let (address, answers) = webhook(5);
    let file = format!(
        "[webhook]\nurl = \"http://{address}/\"\nallow = [\"127.0.0.0/8\"]\nretries = 0\n\
         secret_file = \"{}\"\n",
        file.display()
    );
    let server = closed_server(&file);
    let ada = server.full("?token=ada");
    assert_eq!(ada.connected["userId"], "ada");
    for (token, status) in [("bob", 403), ("odd", 503), ("eve", 401), ("ada", 101)] {
        let path = format!("/ws/team:1?token={token}");
        assert_eq!(server.upgrade(&path, &[("user-agent", "me")]).status, status, "{token}");
    }
    let asked = answers.join().unwrap();
    let last = asked.last().unwrap();
    assert_eq!((&last["token"], &last["room"]), (&json!("ada"), &json!("team:1")));
    assert_eq!((&last["ip"], &last["userAgent"]), (&json!("127.0.0.1"), &json!("me")));
    // Nobody listens there any more.
    assert_eq!(by_protocol(&server, "ada"), 503);
}

#[test]
fn a_webhook_inside_is_not_asked_unless_it_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, OLD).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (port, file) = (listener.local_addr().unwrap().port(), file.display());
    for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
        let url = format!("http://{host}:{port}/");
        let mut server =
            closed_server(&format!("[webhook]\nurl = \"{url}\"\nsecret_file = \"{file}\"\n"));
        assert_eq!(by_protocol(&server, "ada"), 503, "{host}");
        server.until_logged("webhook.allow says which others may be used");
        assert!(listener.accept().is_err(), "somebody has come to {host}");
    }
}
