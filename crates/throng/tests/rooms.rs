//! Full clients of the typed protocol on real sockets: joining, coming back, missing nothing.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;

use std::time::Duration;

use futures_util::StreamExt;
use rig::{Rig, Socket, drain};
use serde_json::{Value, json};
use throng::{
    Access, Author, CloseCode, Code, Endpoint, History, Page, Pattern, Rule, Rules, Server,
    Subscription, Target,
};
use tungstenite::Message;

const FULL: (&str, &str) = ("sec-websocket-protocol", "throng.v1");
const NOBODY: Author<'_> = Author { user_id: "server", session: "", reference: 0 };

fn rooms(builder: throng::Builder) -> Rig {
    let rooms = Endpoint::rooms("lobby").outbox(256 << 10);
    Rig::start(builder.access(Access::open()).endpoint("/ws", rooms))
}

/// A full client, greeted.
struct Client {
    socket: Socket,
    hello: Value,
}

impl Client {
    fn new(rig: &Rig, query: &str) -> Self {
        let mut socket = rig.try_connect(&format!("/ws{query}"), &[FULL]).unwrap();
        let hello = next(&mut socket);
        if hello["resumed"] == false {
            assert_eq!(next(&mut socket)["type"], "joined", "its own room");
        }
        Self { socket, hello }
    }

    fn say(&mut self, command: Value) {
        self.socket.send(Message::text(command.to_string())).unwrap();
    }

    fn next(&mut self) -> Value {
        next(&mut self.socket)
    }

    /// The answer to a command, which comes next.
    fn ask(&mut self, command: Value) -> Value {
        self.say(command);
        self.next()
    }

    fn token(&self) -> &str {
        self.hello["resume"].as_str().unwrap()
    }
}

fn next(socket: &mut Socket) -> Value {
    serde_json::from_str(&rig::text(socket)).unwrap()
}

/// What is there until a `pong`: everything that was sent before it was asked for.
fn until_pong(client: &mut Client) -> Vec<Value> {
    client.say(json!({"type": "ping"}));
    std::iter::from_fn(|| Some(client.next()).filter(|message| message["type"] != "pong")).collect()
}

#[test]
fn a_client_that_comes_back_gets_exactly_what_it_missed() {
    for disk in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Server::builder();
        let rig = rooms(if disk { builder.data(dir.path()) } else { builder });
        let (mut ada, mut bob) = (Client::new(&rig, "?name=Ada"), Client::new(&rig, "?name=Bob"));
        for client in [&mut ada, &mut bob] {
            assert_eq!(client.ask(json!({"type": "join", "room": "chat:1"}))["recovered"], true);
        }
        assert_eq!(ada.next()["type"], "user_joined");
        let joined = ada.hello.clone();
        bob.say(json!({"type": "chat", "room": "chat:1", "n": 1}));
        let seen = ada.next();
        assert_eq!((&seen["seq"], &seen["n"]), (&json!(1), &json!(1)));
        let epoch = bob.ask(json!({"type": "history", "room": "chat:1"}));
        let epoch = if epoch["type"] == "history" { epoch } else { bob.next() }["epoch"].clone();

        let token = ada.token().to_owned();
        drop(ada); // without a word
        for n in 2..=4 {
            bob.say(json!({"type": "chat", "room": "chat:1", "n": n, "ref": n}));
        }
        while bob.next()["seq"] != 4 {}

        let mut ada = Client::new(&rig, &format!("?resume={token}"));
        assert_eq!(
            (&ada.hello["resumed"], &ada.hello["userId"]),
            (&json!(true), &joined["userId"])
        );
        let resumed = ada.ask(json!({
            "type": "resume", "ref": 1, "rooms": {"chat:1": {"epoch": epoch, "seq": 1}},
        }));
        assert_eq!(resumed["rooms"]["chat:1"]["recovered"], true, "{resumed}");
        bob.say(json!({"type": "chat", "room": "chat:1", "n": 5}));
        let numbers: Vec<_> = (0..4).map(|_| ada.next()["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [2, 3, 4, 5]);
        // Nobody noticed: she was back within the grace.
        let noticed = until_pong(&mut bob);
        assert!(noticed.iter().all(|m| m["type"] == "chat" || m["type"] == "ack"), "{noticed:?}");
    }
}

#[test]
fn what_is_sent_again_is_published_once_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let publish = json!({"type": "chat", "room": "r", "ref": 7, "text": "once"});
    let (token, first) = {
        let rig = rooms(Server::builder().data(dir.path()));
        let mut ada = Client::new(&rig, "");
        ada.ask(json!({"type": "join", "room": "r", "echo": false}));
        let first = ada.ask(publish.clone());
        assert_eq!((&first["type"], &first["seq"]), (&json!("ack"), &json!(1)));
        let token = ada.token().to_owned();
        rig.block_on(rig.server.shutdown(Duration::from_secs(1)));
        (token, first)
    };
    let rig = rooms(Server::builder().data(dir.path()));
    let mut ada = Client::new(&rig, &format!("?resume={token}"));
    assert_eq!(ada.hello["resumed"], true);
    let resumed = ada.ask(json!({"type": "resume", "rooms": {"r": {}}}));
    assert_eq!(resumed["rooms"]["r"]["seq"], 1);
    let again = ada.ask(publish);
    assert_eq!(again["duplicate"], true);
    assert_eq!((&again["seq"], &again["timestamp"]), (&first["seq"], &first["timestamp"]));
}

#[test]
fn forged_and_foreign_tokens_begin_a_new_session() {
    let rig = rooms(Server::builder());
    let ada = Client::new(&rig, "");
    let token = ada.token();
    let forged = format!("{}A{}", &token[..20], &token[21..]);
    let forged =
        if forged == token { format!("{}B{}", &token[..20], &token[21..]) } else { forged };
    let other = rooms(Server::builder());
    for (rig, token) in [(&rig, forged.as_str()), (&rig, "x"), (&rig, ""), (&other, token)] {
        let client = Client::new(rig, &format!("?resume={token}"));
        assert_eq!(client.hello["resumed"], false, "{token}");
        assert_ne!(client.hello["userId"], ada.hello["userId"]);
    }
}

#[test]
fn a_position_from_the_future_is_lost_or_an_error() {
    let rig = rooms(Server::builder());
    let mut ada = Client::new(&rig, "");
    let epoch = ada.ask(json!({"type": "join", "room": "r"}))["epoch"].clone();
    let future = json!({"epoch": epoch, "seq": 9});
    let mut bob = Client::new(&rig, "");
    let refused = bob.ask(json!({"type": "join", "room": "r", "since": future}));
    assert_eq!(refused["code"], "bad_message");
    let resumed = bob.ask(json!({"type": "resume", "rooms": {"r": future}}));
    assert_eq!(resumed["rooms"]["r"]["recovered"], false, "{resumed}");
    let plain = format!("/ws/r?since={}.9", epoch.as_str().unwrap());
    let hello = next(&mut rig.connect(&plain));
    assert_eq!((&hello["type"], &hello["recovered"]), (&json!("connected"), &json!(false)));
}

/// A room on the disk that nobody is in is read for whoever comes, once.
#[test]
fn a_position_from_the_future_is_lost_where_nobody_is() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rooms(Server::builder().data(dir.path()));
    let message = br#"{"type":"x"}"#;
    rig.block_on(rig.server.publish(Target::Room("r"), NOBODY, message)).unwrap();
    let page = rig.block_on(rig.server.history("r", &Page::default())).unwrap();
    let epoch = serde_json::from_slice::<Value>(&page).unwrap()["epoch"].clone();
    let loaded = || rig.server.storage().unwrap().loaded;
    let (before, nobody) = (loaded(), || rig.server.counts().rooms == 0);
    rig::eventually("the room is forgotten", nobody);
    let plain = format!("/ws/r?since={}.9", epoch.as_str().unwrap());
    let hello = next(&mut rig.connect(&plain));
    assert_eq!((&hello["recovered"], &hello["seq"]), (&json!(false), &json!(1)));
    rig::eventually("the room is forgotten", nobody);
    let mut bob = Client::new(&rig, "");
    let future = json!({"epoch": epoch, "seq": 9});
    let resumed = bob.ask(json!({"type": "resume", "rooms": {"r": future}}));
    assert_eq!(resumed["rooms"]["r"]["recovered"], false, "{resumed}");
    assert_eq!(loaded() - before, 2);
}

#[test]
fn the_newer_connection_of_a_session_replaces_the_older() {
    let rig = rooms(Server::builder());
    let mut first = Client::new(&rig, "");
    let mut second = Client::new(&rig, &format!("?resume={}", first.token()));
    assert_eq!(second.hello["sessionId"], first.hello["sessionId"]);
    assert_eq!(drain(&mut first.socket), Some(4409));
    assert_eq!(second.ask(json!({"type": "ping", "sent": 1}))["type"], "pong");
}

#[test]
fn a_long_past_is_handed_out_as_fast_as_it_is_read() {
    let rig = rooms(Server::builder());
    let text = "x".repeat(2000);
    let mut epoch = String::new();
    for n in 1..=400 {
        let message = json!({"type": "chat", "n": n, "text": text}).to_string();
        rig.block_on(rig.server.publish(Target::Room("r"), NOBODY, message.as_bytes())).unwrap();
    }
    let page = rig.block_on(rig.server.history("r", &Page::default())).unwrap();
    epoch.push_str(serde_json::from_slice::<Value>(&page).unwrap()["epoch"].as_str().unwrap());
    let mut ada = Client::new(&rig, "");
    // 800 KB against an outbox of 256 KiB, and live messages behind.
    let since = json!({"epoch": epoch, "seq": 1});
    ada.say(json!({"type": "join", "room": "r", "since": since}));
    rig::eventually("she has joined", || {
        rig.server.room("r").is_some_and(|room| room.connections == 1)
    });
    for n in 401..=410 {
        let message = json!({"type": "chat", "n": n}).to_string();
        rig.block_on(rig.server.publish(Target::Room("r"), NOBODY, message.as_bytes())).unwrap();
    }
    let joined = ada.next();
    assert_eq!((&joined["recovered"], &joined["seq"]), (&json!(true), &json!(400)));
    for n in 2..=410 {
        let message = ada.next();
        assert_eq!((&message["n"], &message["seq"]), (&json!(n), &json!(n)));
    }
}

#[test]
fn who_is_too_slow_for_the_past_comes_back_later() {
    let history = History { size: 20, ..History::default() };
    let rules = Rules::new([(Pattern::new("*"), Rule { history, ..Rule::default() })]);
    let rig = rooms(Server::builder().rules(rules));
    let text = "x".repeat(60_000);
    let message = json!({"type": "chat", "text": text}).to_string();
    let publish = || {
        rig.block_on(rig.server.publish(Target::Room("r"), NOBODY, message.as_bytes())).unwrap();
    };
    (0..17).for_each(|_| publish());
    let mut readers: Vec<_> = (0..12).map(|_| Client::new(&rig, "")).collect();
    for reader in &mut readers {
        reader.say(json!({"type": "join", "room": "r", "rewind": 1000}));
        reader.say(json!({"type": "join", "room": "r2"})); // has come when the first join has
    }
    rig::eventually("all have joined", || {
        rig.server.room("r").is_some_and(|room| room.connections == 12)
    });
    (0..60).for_each(|_| publish());
    for reader in &mut readers {
        let mut last = 0;
        let code = loop {
            match reader.socket.read() {
                Ok(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if let (Some(seq), "chat") =
                        (message["seq"].as_u64(), message["type"].as_str().unwrap())
                    {
                        assert!(last == 0 || seq == last + 1, "a hole: {last}, {seq}");
                        last = seq;
                    }
                    if last == 77 {
                        break None; // its kernel took everything in time
                    }
                }
                Ok(Message::Close(frame)) => break frame.map(|frame| u16::from(frame.code)),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert!(code.is_none() || code == Some(4508), "{code:?}");
    }
}

#[test]
fn own_messages_come_back_only_if_wanted() {
    let rig = rooms(Server::builder());
    let (mut ada, mut bob) = (Client::new(&rig, ""), Client::new(&rig, ""));
    ada.ask(json!({"type": "join", "room": "r", "echo": false}));
    bob.ask(json!({"type": "join", "room": "r"}));
    assert_eq!(ada.next()["type"], "user_joined");
    for n in 0..50 {
        ada.say(json!({"type": "chat", "room": "r", "n": n, "by": "ada"}));
        bob.say(json!({"type": "chat", "room": "r", "n": n, "by": "bob"}));
    }
    let mut last = 0;
    for n in 0..50 {
        let message = ada.next();
        assert_eq!((&message["by"], &message["n"]), (&json!("bob"), &json!(n)));
        let seq = message["seq"].as_u64().unwrap();
        assert!(seq > last);
        last = seq;
    }
    let seqs: Vec<_> = (0..100).map(|_| bob.next()["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
}

#[test]
fn leaving_and_joining_again_in_one_breath() {
    let rig = rooms(Server::builder());
    let mut ada = Client::new(&rig, "");
    for _ in 0..20 {
        ada.say(json!({"type": "join", "room": "r"}));
        ada.say(json!({"type": "chat", "room": "r"}));
        ada.say(json!({"type": "leave", "room": "r"}));
    }
    ada.say(json!({"type": "join", "room": "r"}));
    ada.say(json!({"type": "chat", "room": "r", "last": true}));
    let mut seen = Vec::new();
    loop {
        let message = ada.next();
        if message["type"] == "chat" {
            seen.push(message["seq"].as_u64().unwrap());
            if message["last"] == true {
                break;
            }
        }
    }
    assert_eq!(seen.last(), Some(&21));
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert_eq!(rig.server.room("r").unwrap().connections, 1);
}

#[test]
fn messages_to_a_user_arrive_in_its_own_room() {
    let rig = rooms(Server::builder());
    let (mut ada, mut bob) = (Client::new(&rig, "?name=Ada"), Client::new(&rig, ""));
    let id = ada.hello["userId"].as_str().unwrap().to_owned();
    let ack = bob.ask(json!({"type": "dm", "to": id, "text": "psst", "ref": 1}));
    assert_eq!(ack["room"], format!("@{id}"));
    let message = ada.next();
    assert_eq!((&message["text"], &message["from"]), (&json!("psst"), &bob.hello["userId"]));
    let refused = bob.ask(json!({"type": "join", "room": format!("@{id}")}));
    assert_eq!(refused["code"], "forbidden");
    assert_eq!(rig.refusal(&format!("/ws/@{id}"), &[]).0, 401);
}

#[test]
fn the_embedder_publishes_looks_and_sends_away() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rooms(Server::builder().data(dir.path()));
    let mut ada = Client::new(&rig, "?name=Ada");
    ada.ask(json!({"type": "join", "room": "r"}));
    let author = Author { user_id: "api", session: "key:1", reference: 1 };
    let send =
        |text: &str| rig.block_on(rig.server.publish(Target::Room("r"), author, text.as_bytes()));
    let sent = send(r#"{"type":"news","n":1}"#).unwrap();
    assert_eq!((sent.seq, sent.duplicate), (Some(1), false));
    let again = send(r#"{"type":"news","n":1}"#).unwrap();
    assert_eq!((again.seq, again.duplicate, again.timestamp), (Some(1), true, sent.timestamp));
    assert_eq!(ada.next()["n"], 1);
    // Repeated while the first is still being stored.
    let author = Author { reference: 2, ..author };
    let both = rig.block_on(async {
        let send = || rig.server.publish(Target::Room("r"), author, br#"{"type":"news","n":2}"#);
        futures_util::future::join(send(), send()).await
    });
    let (first, second) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!((first.seq, second.seq), (Some(2), Some(2)));
    assert_eq!((first.duplicate, second.duplicate), (false, true));
    for (bad, code) in [
        ("nonsense", Code::BadJson),
        (r#"{"type":"ping"}"#, Code::ReservedField),
        (r#"{"type":"x","room":"elsewhere"}"#, Code::BadMessage),
        (r#"{"type":"x","seq":1}"#, Code::ReservedField),
    ] {
        assert_eq!(send(bad).unwrap_err().code, code, "{bad}");
    }
    let presence = rig.block_on(rig.server.presence("r")).unwrap();
    assert!(String::from_utf8(presence).unwrap().contains(r#""info":{"name":"Ada"}"#));
    assert_eq!(rig.server.counts().users, 1);
    let id = ada.hello["userId"].as_str().unwrap();
    assert_eq!(rig.server.disconnect(id, CloseCode::new(4403).unwrap(), "go"), 1);
    assert_eq!(drain(&mut ada.socket), Some(4403));
    rig::eventually("she is gone", || rig.server.room("r").is_none());
    assert!(
        rig.block_on(rig.server.session(ada.token())).unwrap().is_none(),
        "sent away, not lost"
    );
}

/// Each look opens the room and lets it go, in the midst of the others'.
#[test]
fn many_look_at_once_at_a_room_that_nobody_is_in() {
    for disk in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Server::builder();
        let rig = rooms(if disk { builder.data(dir.path()) } else { builder });
        let message = br#"{"type":"x","n":7}"#;
        rig.block_on(rig.server.publish(Target::Room("r"), NOBODY, message)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let page = rig.block_on(rig.server.history("r", &Page::default())).unwrap();
                        let page = String::from_utf8(page).unwrap();
                        assert!(page.contains("\"n\":7"), "{page}");
                    }
                });
            }
        });
        rig::eventually("the room is forgotten", || rig.server.counts().rooms == 0);
    }
}

#[test]
fn an_event_stream_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rooms(Server::builder().data(dir.path()));
    let publish = |n: u64| {
        let message = format!(r#"{{"type":"x","n":{n}}}"#);
        rig.block_on(rig.server.publish(Target::Room("a"), NOBODY, message.as_bytes())).unwrap();
    };
    let subscribe = |last: Option<&str>| Subscription {
        rooms: vec!["a".into(), "live:b".into()],
        last_event_id: last.map(str::to_owned),
        anonymous: true,
        ..Subscription::default()
    };
    let read = |events: &mut throng::Events, until: &str| {
        let mut all = String::new();
        while !all.contains(until) {
            let piece = rig.block_on(async {
                tokio::time::timeout(Duration::from_secs(20), events.next()).await
            });
            all.push_str(std::str::from_utf8(&piece.unwrap().unwrap()).unwrap());
        }
        all
    };
    let mut events = rig.block_on(async { rig.server.subscribe(subscribe(None)).await.unwrap() });
    read(&mut events, r#""room":"live:b""#);
    publish(1);
    let text = read(&mut events, r#""n":1"#);
    let id = text.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    assert!(id.ends_with(".1,0"), "{id}");
    drop(events);
    publish(2);
    publish(3);
    let mut events =
        rig.block_on(async { rig.server.subscribe(subscribe(Some(&id))).await.unwrap() });
    let text = read(&mut events, r#""n":3"#);
    assert!(text.contains(r#""recovered":true"#) && text.contains(r#""n":2"#), "{text}");
    assert!(!text.contains(r#""n":1"#), "{text}");
    drop(events);
    rig::eventually("the stream has left", || rig.server.counts().connections == 0);
}
