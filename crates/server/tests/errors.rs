//! Every code of the table of errors, provoked on a WebSocket, and what must not break anything.
//!
//! Three codes are not here: `unauthorized` is said before there is a WebSocket (see `api.rs` and `sse.rs`),
//! `rate_limited` and `overloaded` belong to limits that this version does not have, and `internal` to faults
//! that nobody knows how to provoke. `too_large` is close code 1009 on a WebSocket.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::rooms::Client;
use support::{Server, isolate};
use tungstenite::Message;

const RULES: &str = "\
[[room]]
match = \"no:*\"
allow = false
[[room]]
match = \"small\"
max_members = 1
[[room]]
match = \"strict\"
other_types = false
[room.types.chat]
schema = { required = [\"text\"], properties = { text = { type = \"string\" } } }
[[room]]
match = \"short\"
history = 5
";

fn server() -> Server {
    Server::start_with(&["--listen", "127.0.0.1:0"], RULES)
}

/// What shows that a connection is whole: it can still talk, and nothing else is waiting.
fn is_well(client: &mut Client) {
    client.say(r#"{"type":"ping","sent":42}"#);
    let pong = client.next();
    assert_eq!((&pong["type"], &pong["sent"]), (&json!("pong"), &json!(42)), "{pong}");
}

#[test]
fn bad_json_and_bad_message() {
    let server = server();
    let mut client = server.plain("/ws/a");
    let mut other = server.plain("/ws/a");
    let fields: String = (0..300).map(|n| format!(",\"f{n}\":1")).collect();
    let many = format!("{{\"type\":\"chat\"{fields}}}");
    let deep = format!("{{\"type\":\"chat\",\"x\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let abyss = format!("{{\"type\":\"chat\",\"x\":{}", "[".repeat(60_000));
    let long = format!("{{\"type\":{:?}}}", "x".repeat(65));
    for (text, code) in [
        ("", "bad_json"),
        ("hello", "bad_json"),
        ("{\"type\":\"chat\"", "bad_json"),
        ("{\"type\":\"chat\"}{}", "bad_json"),
        ("{\"type\":\"chat\",}", "bad_json"),
        ("{'type':'chat'}", "bad_json"),
        ("{\"type\":\"chat\",\"x\":01}", "bad_json"),
        ("{\"type\":\"chat\",\"x\":NaN}", "bad_json"),
        ("{\"type\":\"chat\",\"x\":\"\t\"}", "bad_json"),
        (r#"{"type":"chat","x":"\ud800"}"#, "bad_json"),
        (r#"{"type":"chat","x":["\udc00\ud800"]}"#, "bad_json"),
        (r#"{"type":"chat","\ud800":1}"#, "bad_json"),
        (&abyss, "bad_json"),
        ("null", "bad_message"),
        ("[]", "bad_message"),
        ("7", "bad_message"),
        ("\"chat\"", "bad_message"),
        ("{}", "bad_message"),
        (r#"{"type":null}"#, "bad_message"),
        (r#"{"type":""}"#, "bad_message"),
        (r#"{"type":"a\u0000b"}"#, "bad_message"),
        (&long, "bad_message"),
        (r#"{"type":"chat","type":"chat"}"#, "bad_message"),
        (r#"{"type":"chat","t\u0079pe":"chat"}"#, "bad_message"),
        (r#"{"type":"chat","x":1,"\u0078":2}"#, "bad_message"),
        (r#"{"type":"chat","ref":0}"#, "bad_message"),
        (r#"{"type":"chat","ref":-1}"#, "bad_message"),
        (r#"{"type":"chat","ref":1.5}"#, "bad_message"),
        (r#"{"type":"chat","ref":"1"}"#, "bad_message"),
        (r#"{"type":"chat","ref":9007199254740992}"#, "bad_message"),
        (r#"{"type":"chat","ref":1e400}"#, "bad_message"),
        (r#"{"type":"chat","room":"a","to":"b"}"#, "bad_message"),
        (r#"{"type":"chat","room":"a b"}"#, "bad_message"),
        (r#"{"type":"chat","room":""}"#, "bad_message"),
        (r#"{"type":"chat","room":"é"}"#, "bad_message"),
        (r#"{"type":"chat","room":"a\u0000"}"#, "bad_message"),
        (r#"{"type":"chat","room":["a"]}"#, "bad_message"),
        (r#"{"type":"chat","to":"a\nb"}"#, "bad_message"),
        (r#"{"type":"ping","sent":"x"}"#, "bad_message"),
        (r#"{"type":"auth","ticket":1}"#, "bad_message"),
        (r#"{"type":"history","limit":0}"#, "bad_message"),
        (r#"{"type":"history","limit":201}"#, "bad_message"),
        (r#"{"type":"history","limit":1e9}"#, "bad_message"),
        (r#"{"type":"history","before":1,"after":1}"#, "bad_message"),
        (r#"{"type":"history","before":-1}"#, "bad_message"),
        (r#"{"type":"join"}"#, "bad_message"),
        (r#"{"type":"join","room":"b","rewind":0}"#, "bad_message"),
        (r#"{"type":"join","room":"b","rewind":1001}"#, "bad_message"),
        (r#"{"type":"join","room":"b","since":7}"#, "bad_message"),
        (r#"{"type":"join","room":"b","since":{"epoch":"x","seq":-1}}"#, "bad_message"),
        (r#"{"type":"join","room":"b","since":{"epoch":"x","seq":1,"seq":2}}"#, "bad_message"),
        (r#"{"type":"join","room":"b","echo":"yes"}"#, "bad_message"),
        (r#"{"type":"resume","rooms":[]}"#, "bad_message"),
        (r#"{"type":"resume","rooms":{"a b":{}}}"#, "bad_message"),
        (&many, "bad_message"),
        (&deep, "bad_message"),
    ] {
        let shown = &text[..text.len().min(80)];
        assert_eq!(client.refusal(text), code, "{shown}");
    }
    client.say(r#"{"type":"done"}"#);
    assert_eq!(other.next_of("done")["seq"], 1, "nothing of all that was published");
    client.next_of("done");
    is_well(&mut client);
    let error = client.ask(json!({"type": "", "ref": 7}));
    assert_eq!((&error["code"], &error["ref"]), (&json!("bad_message"), &json!(7)));
}

#[test]
fn reserved_field() {
    let server = server();
    let mut client = server.plain("/ws/a");
    for text in [
        r#"{"type":"chat","seq":1}"#,
        r#"{"type":"chat","from":"u_1"}"#,
        r#"{"type":"chat","fr\u006fm":"u_1"}"#,
        r#"{"type":"chat","timestamp":1}"#,
        r#"{"type":"ack"}"#,
        r#"{"type":"connected"}"#,
        r#"{"type":"error","code":"internal"}"#,
        r#"{"type":"user_left","userId":"u_1"}"#,
    ] {
        assert_eq!(client.refusal(text), "reserved_field", "{text}");
    }
    is_well(&mut client);
}

#[test]
fn unknown_room_forbidden_and_room_full() {
    let server = server();
    let (mut one, mut two) = (server.full(""), server.full(""));
    let id = two.connected["userId"].clone();
    let code = |client: &mut Client, room: &str| {
        client.ask(json!({"type": "join", "room": room}))["code"].as_str().map(str::to_owned)
    };
    assert_eq!(code(&mut one, "no:1").as_deref(), Some("unknown_room"));
    let own = format!("@{}", id.as_str().unwrap());
    assert_eq!(code(&mut one, &own).as_deref(), Some("forbidden"));
    assert_eq!(code(&mut one, "small"), None);
    let full = two.ask(json!({"type": "join", "room": "small"}));
    assert_eq!((&full["code"], &full["temporary"]), (&json!("room_full"), &json!(true)));
    one.ask(json!({"type": "leave", "room": "small"}));
    assert_eq!(code(&mut two, "small"), None, "there is room again");
    let resumed = one.ask(json!({"type": "resume", "rooms": {"no:1": {}, "small": {}, "a": {}}}));
    assert_eq!(resumed["rooms"]["no:1"]["error"], "unknown_room", "{resumed}");
    assert_eq!(resumed["rooms"]["small"]["error"], "room_full", "{resumed}");
    assert_eq!(resumed["rooms"]["a"]["recovered"], true, "{resumed}");
}

#[test]
fn not_joined_and_already_joined() {
    let server = server();
    let mut client = server.full("");
    for command in ["leave", "history", "presence", "chat"] {
        let error = client.ask(json!({"type": command, "room": "a"}));
        assert_eq!(error["code"], "not_joined", "{command}: {error}");
    }
    client.join("a");
    assert_eq!(client.ask(json!({"type": "join", "room": "a"}))["code"], "already_joined");
    let resumed = client.ask(json!({"type": "resume", "rooms": {"a": {}}}));
    assert_eq!(resumed["rooms"]["a"]["error"], "already_joined", "{resumed}");
    assert_eq!(client.ask(json!({"type": "chat", "room": "a"}))["type"], "ack");
    client.ask(json!({"type": "leave", "room": "a"}));
    assert_eq!(client.ask(json!({"type": "chat", "room": "a"}))["code"], "not_joined");
}

#[test]
fn invalid_payload() {
    let server = server();
    let mut client = server.plain("/ws/strict");
    for text in
        [r#"{"type":"chat"}"#, r#"{"type":"chat","text":7}"#, r#"{"type":"chat","text":null}"#]
    {
        assert_eq!(client.refusal(text), "invalid_payload", "{text}");
    }
    assert_eq!(client.refusal(r#"{"type":"other","text":"x"}"#), "forbidden");
    client.say(r#"{"type":"chat","text":"x"}"#);
    assert_eq!(client.next_of("chat")["seq"], 1);
}

#[test]
fn too_many_rooms() {
    let server = Server::start(&["--set", "limits.max_rooms=10"]);
    let mut client = server.full("");
    assert_eq!(client.connected["limits"]["maxRooms"], 10);
    let refused: Vec<bool> = (0..20)
        .map(|n| {
            client.ask(json!({"type": "join", "room": format!("r{n}")}))["code"] == "too_many_rooms"
        })
        .collect();
    // The user's own room is one of the ten.
    assert_eq!(refused.iter().filter(|refused| !**refused).count(), 9, "{refused:?}");
    client.ask(json!({"type": "leave", "room": "r0"}));
    client.join("r19");
    let many: serde_json::Map<String, Value> =
        (0..30).map(|n| (format!("s{n}"), json!({}))).collect();
    let resumed = client.ask(json!({"type": "resume", "rooms": many}));
    let rooms = resumed["rooms"].as_object().unwrap();
    assert_eq!(rooms.len(), 30);
    assert!(rooms.values().all(|room| room["error"] == "too_many_rooms"), "{resumed}");
}

#[test]
fn ten_thousand_joins_are_answered_and_bounded() {
    let server = server();
    let mut client = server.full("");
    let (mut joined, mut refused) = (0, 0);
    for n in 0..10_000 {
        let answer = client.ask(json!({"type": "join", "room": format!("r{n}"), "ref": n + 1}));
        match (answer["type"].as_str(), answer["code"].as_str()) {
            (Some("joined"), None) => joined += 1,
            (Some("error"), Some("too_many_rooms")) => refused += 1,
            _ => panic!("{answer}"),
        }
    }
    assert_eq!((joined, refused), (127, 9873), "its own room is the 128th");
    assert!(server.metric("throng_rooms") <= 128, "refused rooms are not kept");
    assert_eq!(client.ask(json!({"type": "chat", "room": "r126"}))["type"], "ack");
}

#[test]
fn stale_epoch() {
    let server = server();
    let mut client = server.plain("/ws/a");
    let epoch = client.connected["epoch"].clone();
    let ask = |client: &mut Client, epoch: &Value| {
        client.ask(json!({"type": "history", "room": "a", "before": 1, "epoch": epoch}))
    };
    assert_eq!(ask(&mut client, &epoch)["type"], "history");
    assert_eq!(ask(&mut client, &json!("another"))["code"], "stale_epoch");
}

#[test]
fn unsupported_data_and_too_large() {
    let server = server();
    let mut client = server.plain("/ws/a");
    client.socket.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(client.next_of("error")["code"], "unsupported_data");
    is_well(&mut client);
    client.say(format!("{{\"type\":\"chat\",\"x\":\"{}\"}}", "x".repeat(65 << 10)));
    assert_eq!(client.closed().0, 1009);
}

#[test]
fn positions_that_cannot_be_are_told_and_harm_nobody() {
    let server = server();
    let mut writer = server.plain("/ws/short");
    let epoch = writer.connected["epoch"].clone();
    for n in 0..10 {
        writer.ask(json!({"type": "n", "n": n, "ref": n + 1}));
    }
    let mut client = server.full("");
    let mut join = |since: Value| {
        let answer = client.ask(json!({"type": "join", "room": "short", "since": since}));
        if answer["type"] == "joined" {
            client.ask(json!({"type": "leave", "room": "short"}));
        }
        (answer["code"].clone(), answer["recovered"].clone())
    };
    assert_eq!(join(json!({"epoch": epoch, "seq": 11})).0, "bad_message", "the future");
    assert_eq!(join(json!({"epoch": epoch, "seq": 9_007_199_254_740_991_u64})).0, "bad_message");
    assert_eq!(join(json!({"epoch": epoch, "seq": 10})).1, true);
    assert_eq!(join(json!({"epoch": epoch, "seq": 5})).1, true);
    assert_eq!(join(json!({"epoch": epoch, "seq": 4})).1, false, "beyond the history");
    assert_eq!(join(json!({"epoch": "another", "seq": 5})).1, false);
    assert_eq!(join(json!({"epoch": "x".repeat(60), "seq": 5})).1, false);
    let resumed =
        client.ask(json!({"type": "resume", "rooms": {"short": {"epoch": epoch, "seq": 99}}}));
    assert_eq!(resumed["rooms"]["short"]["recovered"], false, "{resumed}");
    writer.ask(json!({"type": "n", "n": 10, "ref": 11}));
    assert_eq!(client.next_of("n")["seq"], 11);
}

#[test]
fn forged_tokens_give_a_new_session() {
    let server = server();
    let mut first = server.full("");
    let token = first.connected["resume"].as_str().unwrap().to_owned();
    first.join("a");
    let mut flipped = token.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let longer = format!("{token}AAAA");
    for forged in ["x", "", "%00", &token[..token.len() - 4], &longer, &flipped, &"A".repeat(2000)]
    {
        let other = server.full(&format!("?resume={forged}"));
        assert_eq!(other.connected["resumed"], false, "{forged}");
        assert_ne!(other.connected["userId"], first.connected["userId"], "{forged}");
    }
    is_well(&mut first);
    let again = server.full(&format!("?resume={token}"));
    assert_eq!(again.connected["resumed"], true);
    assert_eq!(again.connected["sessionId"], first.connected["sessionId"]);
    assert_eq!(first.closed().0, 4409);
}

#[test]
fn a_ref_is_published_once() {
    let server = server();
    let mut client = server.plain("/ws/a");
    let token = client.connected["resume"].as_str().unwrap().to_owned();
    let first = client.ask(json!({"type": "n", "ref": 1}));
    assert_eq!((&first["seq"], &first["duplicate"]), (&json!(1), &Value::Null));
    for _ in 0..3 {
        let again = client.ask(json!({"type": "other", "ref": 1}));
        assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)), "{again}");
        assert_eq!(again["timestamp"], first["timestamp"]);
    }
    let refused = client.ask(json!({"type": "n", "seq": 1, "ref": 2}));
    assert_eq!(refused["code"], "reserved_field");
    assert_eq!(
        client.ask(json!({"type": "n", "ref": 2}))["seq"],
        2,
        "a refused ref can be used again"
    );
    drop(client);
    let mut client = server.plain(&format!("/ws/a?resume={token}"));
    assert_eq!(client.connected["resumed"], true);
    let again = client.ask(json!({"type": "n", "ref": 1}));
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)), "{again}");
    assert_eq!(client.ask(json!({"type": "n", "ref": 3}))["seq"], 3);
    for n in 4..=300 {
        assert_eq!(client.ask(json!({"type": "n", "ref": n}))["seq"], n);
    }
    let old = client.ask(json!({"type": "n", "ref": 1}));
    let told = old["duplicate"] == true && old["seq"] == 1 || old["code"] == "bad_message";
    assert!(told, "an old one is found or refused, never published again: {old}");
    assert_eq!(client.ask(json!({"type": "n", "ref": 301}))["seq"], 301);
}

#[test]
fn unavailable_when_the_disk_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    isolate(&mut command, directory.path());
    // A file cannot grow beyond so many blocks; the write fails, as on a full disk.
    let script = "trap '' XFSZ && ulimit -f 2000 && exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_throng"), "--listen", "127.0.0.1:0"]);
    command.args(["--data", "data", "--workers", "1", "--log-format", "json"]);
    command.args(["--set", &format!("api.keys={}", support::api::LINE)]);
    command.args(["--set", "access.anonymous=*", "--set", "rooms.rate=off"]);
    let server = Server::spawn(command, directory);
    let mut client = server.plain("/ws/a");
    let mut reader = server.plain("/ws/a");
    let text = "x".repeat(30_000);
    let mut stored = 0_u64;
    let error = loop {
        let answer = client.ask(json!({"type": "n", "x": text, "ref": stored + 1}));
        if answer["type"] != "ack" {
            break answer;
        }
        stored += 1;
        assert_eq!(answer["seq"], stored);
        assert!(stored < 1000, "the disk is never full");
    };
    assert_eq!(
        (&error["code"], &error["temporary"]),
        (&json!("unavailable"), &json!(true)),
        "{error}"
    );
    // What was too large for what is left may be followed by something that fits.
    let body = json!({"type": "n", "x": text}).to_string();
    let refused = (0..1000).find_map(|_| {
        let answer = server.post("/rooms/a/messages", &body);
        stored += u64::from(answer.status == 200);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.unwrap().refusal(), (503, "unavailable".into()));
    for seq in 1..=stored {
        assert_eq!(reader.next_of("n")["seq"], seq, "what was acknowledged was delivered");
    }
    for client in [&mut reader, &mut client] {
        assert_eq!(client.ask(json!({"type": "ping"}))["type"], "pong");
    }
    let live = server.post("/rooms/live:x/messages", r#"{"type":"n"}"#);
    assert_eq!(live.status, 200, "rooms that are not on the disk go on");
    assert_eq!(server.get("/healthz").status, 200);
}
