//! Rooms without WebSockets: events, the way back, and who may use them.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::events::Events;
use support::{Answer, CUT, Server, eventually};

/// `POST /send` with a token.
fn send(server: &Server, token: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    server.send("POST", "/send", &headers, body.to_string().as_bytes())
}

/// Reads the first events, and returns the token.
fn greeted(events: &mut Events, rooms: &[&str]) -> String {
    let connected = events.next().unwrap();
    assert_eq!(connected["type"], "connected");
    assert!(connected.get("room").is_none(), "{connected}");
    for room in rooms {
        let joined = events.next_of("joined");
        assert_eq!(joined["room"], *room);
    }
    connected["resume"].as_str().unwrap().to_owned()
}

#[test]
fn events_are_the_same_messages_as_on_a_websocket() {
    let server = Server::start(&[]);
    let mut events = server.events("room=a&room=b&name=Ada", &[]);
    for header in [
        "content-type: text/event-stream\r\n",
        "cache-control: no-store\r\n",
        "x-accel-buffering: no\r\n",
        "x-content-type-options: nosniff\r\n",
    ] {
        assert!(events.head.contains(header), "{}", events.head);
    }
    let connected = events.next().unwrap();
    assert_eq!(connected["info"]["name"], "Ada", "{connected}");
    assert_eq!(events.next_of("joined")["room"], "a");
    assert_eq!(events.next_of("joined")["room"], "b");

    let mut client = server.plain("/ws/b");
    assert_eq!(events.next_of("user_joined")["userId"], client.connected["userId"]);
    client.say(
        r#"{"type":"chat","text":"line\nbreak","x":{
        "y":1}}"#,
    );
    let here = client.next_of("chat");
    assert_eq!(events.next_of("chat"), here);
    let id = events.id.clone();
    assert_eq!(id.split(',').count(), 2, "{id}");
    assert!(id.ends_with(".1"), "{id}");
    assert_eq!(server.metric("throng_sse_streams"), 1);
    drop(events);
    server.until_metric("throng_sse_streams", |streams| streams == 0);
}

#[test]
fn the_way_back_answers_as_a_websocket_does() {
    let server = Server::start(&[]);
    let mut events = server.events("room=a", &[]);
    let connected = events.next().unwrap();
    let token = connected["resume"].as_str().unwrap();
    events.next_of("joined");

    let ack = send(&server, token, &json!({"type":"chat","room":"a","text":"hi","ref":1}));
    assert_eq!(ack.status, 200, "{ack:?}");
    let ack = ack.json();
    assert_eq!((&ack["type"], &ack["ref"], &ack["seq"]), (&json!("ack"), &json!(1), &json!(1)));
    let got = events.next_of("chat");
    assert_eq!((&got["from"], &got["text"]), (&connected["userId"], &json!("hi")));

    let again = send(&server, token, &json!({"type":"chat","room":"a","text":"hi","ref":1})).json();
    assert_eq!((&again["duplicate"], &again["timestamp"]), (&json!(true), &ack["timestamp"]));
    let id = connected["userId"].as_str().unwrap();
    let direct = send(&server, token, &json!({"type":"note","to":id})).json();
    assert_eq!(direct["room"], format!("@{id}"));
    assert!(direct.get("ref").is_none(), "{direct}");

    let in_query = server.send(
        "POST",
        &format!("/send?resume={token}"),
        &[("content-type", "application/json")],
        br#"{"type":"chat","room":"a"}"#,
    );
    assert_eq!(in_query.status, 200, "{in_query:?}");

    for (body, status, code, reference) in [
        (json!({"type":"chat","room":"a","seq":1,"ref":7}), 400, "reserved_field", Some(7)),
        (json!({"type":"chat","room":"a","from":"u_1"}), 400, "reserved_field", None),
        (json!({"type":"join","room":"a","ref":8}), 400, "reserved_field", Some(8)),
        (json!({"type":"chat","room":"a b","ref":9}), 400, "bad_message", Some(9)),
        (json!({"type":"chat"}), 400, "bad_message", None),
        (json!({"type":"chat","room":"a","to":"u_1"}), 400, "bad_message", None),
        (json!({"type":"chat","room":"a","ref":0}), 400, "bad_message", None),
        (json!([]), 400, "bad_message", None),
        (json!({"type":"chat","room":"a","x":"x".repeat(66_000)}), 413, "too_large", None),
    ] {
        let refused = send(&server, token, &body);
        let error = refused.json();
        assert_eq!(
            (refused.status, &error["type"], &error["code"]),
            (status, &json!("error"), &json!(code))
        );
        if let Some(reference) = reference {
            assert_eq!(error["ref"], reference, "{error}");
        }
    }
    let bearer = format!("Bearer {token}");
    let text = server.send("POST", "/send", &[("authorization", &bearer)], b"{}");
    assert_eq!((text.status, &text.json()["code"]), (415, &json!("unsupported_data")));
    for wrong in ["", "x", &token[1..], &format!("{token}x")] {
        let refused = send(&server, wrong, &json!({"type":"chat","room":"a"}));
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (401, &json!("unauthorized")),
            "{wrong}"
        );
    }
    let wrong = server.get("/send");
    assert_eq!((wrong.status, wrong.header("allow")), (405, "POST, OPTIONS"));
}

#[test]
fn the_last_event_id_brings_back_what_was_missed() {
    let directory = tempfile::tempdir().unwrap();
    let data = format!("data={}", directory.path().join("data").display());
    let start = || Server::start(&["--set", &data]);
    let mut server = start();
    let mut writer = server.plain("/ws/a");
    let mut events = server.events("room=a&room=live:x&room=b", &[]);
    let token = greeted(&mut events, &["a", "live:x", "b"]);
    for n in 1..=3 {
        writer.ask(json!({"type": "n", "n": n}));
    }
    assert_eq!(events.next_of("n")["n"], 1);
    let id = events.id.clone();
    assert_eq!(id.split(',').nth(1), Some("0"), "{id}");
    drop(events);

    let numbers = |events: &mut Events, count: usize| -> Vec<Value> {
        (0..count).map(|_| events.next_of("n")["n"].clone()).collect()
    };
    let query = "room=a&room=live:x&room=b";
    let mut back = server.events(&format!("{query}&resume={token}"), &[("last-event-id", &id)]);
    assert_eq!(back.next().unwrap()["resumed"], true);
    assert_eq!(numbers(&mut back, 2), [2, 3]);
    let mut by_query = server.events(&format!("{query}&lastEventId={id}"), &[]);
    assert_eq!(by_query.next().unwrap()["resumed"], false);
    assert_eq!(numbers(&mut by_query, 2), [2, 3]);
    // The header is newer than the query, which an EventSource repeats for ever.
    let last = back.id.clone();
    let mut both = server.events(&format!("{query}&lastEventId={id}"), &[("last-event-id", &last)]);
    greeted(&mut both, &["a", "live:x", "b"]);
    writer.ask(json!({"type": "n", "n": 4}));
    assert_eq!(numbers(&mut both, 1), [4]);

    drop(writer); // it would not answer the close
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0.code(), Some(0));
    let server = start();
    let mut after = server.events(query, &[("last-event-id", &id)]);
    assert_eq!(after.next().unwrap()["type"], "connected");
    assert_eq!(after.next_of("joined")["recovered"], true, "it survives a restart");
    assert_eq!(numbers(&mut after, 3), [2, 3, 4]);

    for odd in ["x", ",,,", "a.b.c,0,0", "zzzzzzzzzzzzz.1", "9.99999999999999999999,1,2,3"] {
        let mut events = server.events("room=a", &[("last-event-id", odd)]);
        assert_eq!(events.next().unwrap()["type"], "connected", "{odd}");
        assert_eq!(events.next_of("joined")["room"], "a", "{odd}");
    }
    let mut rewound = server.events("room=a&rewind=2", &[]);
    assert_eq!(numbers(&mut rewound, 2), [3, 4]);
}

#[test]
fn a_stream_that_was_lost_before_its_first_message_misses_nothing() {
    let server = Server::start(&[]);
    let mut events = server.events("room=a&room=b", &[]);
    greeted(&mut events, &["a", "b"]);
    let id = events.id.clone();
    assert_eq!(id.split(',').filter(|position| position.ends_with(".0")).count(), 2, "{id}");
    drop(events);
    server.plain("/ws/b").ask(json!({"type": "n", "n": 1}));
    let mut back = server.events("room=a&room=b", &[("last-event-id", &id)]);
    assert_eq!(back.next_of("n")["n"], 1);
}

#[test]
fn what_cannot_be_a_stream_is_refused() {
    let server = Server::start_with(
        &["--listen", "127.0.0.1:0"],
        "[[room]]\nmatch = \"no:*\"\nallow = false\n",
    );
    let many: Vec<String> = (0..33).map(|n| format!("room=r{n}")).collect();
    for (query, status, code) in [
        ("", 400, "bad_message"),
        ("room=", 404, "unknown_room"),
        ("room=a%20b", 404, "unknown_room"),
        ("room=%ff", 404, "unknown_room"),
        ("room=no:1", 404, "unknown_room"),
        ("room=a&room=a", 400, "bad_message"),
        (&many.join("&"), 400, "bad_message"),
        ("room=a&rewind=1001", 400, "bad_message"),
        ("room=a&rewind=-1", 400, "bad_message"),
        ("room=@u_somebody", 401, "unauthorized"),
    ] {
        let refused = server.get(&format!("/sse?{query}")).refusal();
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{query}");
    }
    for method in ["POST", "HEAD", "DELETE"] {
        let refused = server.send(method, "/sse?room=a", &[], b"");
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, OPTIONS"), "{method}");
    }
    assert_eq!(server.metric("throng_sse_streams"), 0);
}

#[test]
fn only_pages_that_may_use_it_can() {
    let server = Server::start(&["--set", "rooms.origins=https://app.example"]);
    let ours = [("origin", "https://app.example")];
    let others = [("origin", "https://other.example")];
    let mut events = server.events("room=a", &ours);
    assert!(events.head.contains("access-control-allow-origin: https://app.example\r\n"));
    assert!(events.head.contains("vary: origin\r\n"), "{}", events.head);
    let token = greeted(&mut events, &["a"]);

    let refused = server.ask("GET", "/sse?room=a", &others);
    assert_eq!(refused.refusal(), (403, "forbidden".into()));
    assert_eq!(refused.header("access-control-allow-origin"), "");
    let body = br#"{"type":"chat","room":"a"}"#;
    let bearer = format!("Bearer {token}");
    let post = |origin: &str| {
        let headers =
            [("origin", origin), ("authorization", &bearer), ("content-type", "application/json")];
        server.send("POST", "/send", &headers, body)
    };
    assert_eq!(post("https://other.example").status, 403);
    let sent = post("https://app.example");
    assert_eq!(
        (sent.status, sent.header("access-control-allow-origin")),
        (200, "https://app.example")
    );

    let asked = server.ask("OPTIONS", "/send", &ours);
    assert_eq!(
        (asked.status, asked.header("access-control-allow-methods")),
        (204, "POST, OPTIONS")
    );
    assert!(asked.header("access-control-allow-headers").contains("authorization"));
    let asked = server.ask("OPTIONS", "/send", &others);
    assert_eq!((asked.status, asked.header("access-control-allow-methods")), (204, ""));

    let own = Server::start(&[]);
    let same = format!("http://{}", own.address());
    assert!(own.events("room=a", &[("origin", &same)]).next().is_some());
    assert_eq!(own.ask("GET", "/sse?room=a", &others).status, 403);
}

#[test]
fn a_silent_stream_stays_and_a_stuck_one_goes() {
    let server = Server::start(&["--set", CUT]);
    let mut quiet = server.events("room=quiet", &[]);
    greeted(&mut quiet, &["quiet"]);
    // A connection that does nothing is cut after the same time: when it has gone, the time has passed.
    for _ in 0..2 {
        let mut idle = server.connect();
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    }
    server.plain("/ws/quiet").say(r#"{"type":"chat"}"#);
    assert_eq!(quiet.next_of("chat")["room"], "quiet");

    let mut stuck = server.connect();
    stuck.write_all(b"GET /sse?room=loud HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    server.until_metric("throng_sse_streams", |streams| streams == 2);
    let mut loud = server.plain("/ws/loud");
    let text = json!({"type": "x", "x": "x".repeat(60_000)}).to_string();
    // More than the buffers of the system between here and there take.
    for _ in 0..300 {
        loud.say(text.clone());
        loud.next_of("x");
    }
    server.until_metric("throng_sse_streams", |streams| streams == 1);
}

#[test]
fn who_keeps_reading_is_never_cut() {
    let server = Server::start(&["--set", CUT]);
    let mut events = server.events("room=a", &[]);
    greeted(&mut events, &["a"]);
    let mut writer = server.plain("/ws/a");
    let text = json!({"type": "x", "x": "x".repeat(40_000)}).to_string();
    let (mut last, mut cut) = (0, 0);
    // Three times as long as it takes to cut somebody else there is more than it reads.
    for _ in 0..3 {
        let idle = server.connect();
        idle.set_nonblocking(true).unwrap();
        cut += 1;
        loop {
            for _ in 0..10 {
                writer.say(text.clone());
            }
            std::thread::sleep(Duration::from_millis(100));
            for _ in 0..10 {
                last += 1;
                assert_eq!(events.next_of("x")["seq"], last);
                writer.next_of("x");
            }
            match (&idle).read(&mut [0]) {
                Ok(read) => break assert_eq!(read, 0),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
    }
    assert_eq!(server.metric("throng_http_timeouts_total"), cut);
}

#[test]
fn a_full_room_is_told_and_ends_the_stream() {
    let rules = "[[room]]\nmatch = \"small\"\nmax_members = 1\n";
    let server = Server::start_with(&["--listen", "127.0.0.1:0"], rules);
    let mut first = server.events("room=small", &[]);
    greeted(&mut first, &["small"]);
    let mut second = server.events("room=a&room=small", &[]);
    greeted(&mut second, &["a"]);
    let error = second.next_of("error");
    assert_eq!((&error["code"], &error["room"]), (&json!("room_full"), &json!("small")));
    assert_eq!(second.next(), None);
    server.until_metric("throng_sse_streams", |streams| streams == 1);
}

#[test]
fn streams_do_not_use_up_what_http_may_have() {
    let server = Server::start(&["--set", "limits.max_http_connections=3"]);
    let mut streams: Vec<Events> = (0..10)
        .map(|_| {
            let mut events = server.events("room=a", &[]);
            greeted(&mut events, &["a"]);
            events
        })
        .collect();
    assert_eq!(server.get("/").status, 200);
    server.until_metric("throng_sse_streams", |streams| streams == 10);
    // The one that asks, when those before it are gone.
    server.until_metric("throng_http_connections", |connections| connections == 1);
    assert_eq!(streams[0].next_of("user_joined")["type"], "user_joined");

    for limit in ["limits.max_connections=2", "limits.max_connections_per_ip=2"] {
        let server = Server::start(&["--set", limit, "--set", "limits.exempt="]);
        let mut streams = [server.events("room=a", &[]), server.events("room=a", &[])];
        for events in &mut streams {
            greeted(events, &["a"]);
        }
        let refused = server.get("/sse?room=a");
        assert_eq!(refused.status, 429, "{limit} {refused:?}");
        assert_ne!(refused.header("retry-after"), "", "{limit}");
        drop(streams);
        eventually(limit, || server.get("/").status == 200);
    }
}

#[test]
fn streams_end_when_the_server_does() {
    let mut server = Server::start(&[]);
    let mut events = server.events("room=a", &[]);
    greeted(&mut events, &["a"]);
    server.signal(Signal::TERM);
    while events.next().is_some() {}
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"bye\""), "{log}");
}

#[test]
fn a_server_that_drains_takes_no_new_streams() {
    let mut server = Server::start(&["--set", "shutdown_grace=1h"]);
    let mut deaf = server.websocket("/echo");
    deaf.send(tungstenite::Message::text("x")).unwrap();
    support::next(&mut deaf);
    server.signal(Signal::TERM);
    server.until_logged("shutting down");
    let refused = (0..1000).map(|_| server.get("/sse?room=a")).find(|answer| answer.status != 200);
    assert_eq!(refused.unwrap().refusal(), (503, "unavailable".into()));
    server.signal(Signal::TERM);
    server.wait();
}

#[test]
fn plain_curl_will_do() {
    let works =
        Command::new("curl").arg("--version").output().is_ok_and(|out| out.status.success());
    if !works {
        eprintln!("curl is not installed: nothing was tested");
        return;
    }
    let server = Server::start(&[]);
    let mut writer = server.plain("/ws/a");
    writer.ask(json!({"type": "chat", "text": "one"}));
    let url = |path: &str| format!("http://{}{path}", server.address());
    let mut curl = Command::new("curl")
        .args(["--no-buffer", "--silent", "--noproxy", "*", &url("/sse?room=a&rewind=1")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(curl.stdout.take().unwrap()));
    let mut next = |start: &str| {
        let found = lines.find(|line| line.as_ref().unwrap().starts_with(start));
        found.unwrap().unwrap()[start.len()..].to_owned()
    };
    assert_eq!(next("retry: "), "2000");
    let connected: Value = serde_json::from_str(&next("data: ")).unwrap();
    let token = connected["resume"].as_str().unwrap();
    assert!(next("data: {\"type\":\"chat\"").contains("\"text\":\"one\""));
    let sent = Command::new("curl")
        .args([
            "--silent",
            "--noproxy",
            "*",
            "--json",
            r#"{"type":"chat","room":"a","text":"two"}"#,
        ])
        .args(["-H", &format!("authorization: Bearer {token}"), &url("/send")])
        .output()
        .unwrap();
    let ack: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!((&ack["type"], &ack["seq"]), (&json!("ack"), &json!(2)));
    assert!(next("data: {\"type\":\"chat\"").contains("\"text\":\"two\""));
    curl.kill().unwrap();
    curl.wait().unwrap();
}
