//! The HTTP API: what it does, and every way in which it says no.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::io::Write as _;

use serde_json::{Value, json};
use support::api::{KEY, KEY_B, server};
use support::{Server, answer};

/// The messages of a room's history.
fn history(server: &Server, room: &str, query: &str) -> Vec<Value> {
    let page = server.read(&format!("/rooms/{room}/history{query}"));
    assert_eq!(page.status, 200, "{page:?}");
    page.json()["messages"].as_array().unwrap().clone()
}

#[test]
fn a_message_reaches_the_room_and_stays_in_its_past() {
    let server = server("");
    let mut reader = server.plain("/ws/chat:1");
    let sent = server.post("/rooms/chat%3A1/messages", r#"{"type":"chat","text":"hi","n":1.0}"#);
    assert_eq!((sent.status, sent.header("content-type")), (200, "application/json"));
    assert_eq!(sent.header("cache-control"), "no-store");
    let sent = sent.json();
    assert_eq!((&sent["room"], &sent["seq"]), (&json!("chat:1"), &json!(1)));
    assert!(sent.get("duplicate").is_none(), "{sent}");

    let got = reader.next_of("chat");
    let expected = json!({"type":"chat","room":"chat:1","from":"server","seq":1,
        "timestamp": sent["timestamp"], "text":"hi", "n": 1.0});
    assert_eq!(got, expected);
    assert_eq!(history(&server, "chat:1", ""), [expected]);

    let from =
        server.post("/rooms/chat:1/messages", r#"{"from":"u_1","type":"chat","room":"chat:1"}"#);
    assert_eq!(from.json()["seq"], 2);
    assert_eq!(reader.next_of("chat")["from"], "u_1");
    let slash = server.post("/rooms/a%2Fb/messages", r#"{"type":"chat"}"#);
    assert_eq!(slash.json()["room"], "a/b");
    assert_eq!(history(&server, "a%2fb", "").len(), 1);
}

#[test]
fn the_same_idempotency_key_publishes_once() {
    let server = server("");
    let post = |room: &str, key: &str, text: &str| {
        let body = json!({"type": "chat", "text": text}).to_string();
        let answer = server.post_once(&format!("/rooms/{room}/messages"), &body, Some(key));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let long = "x".repeat(5000);
    for key in ["order-4711", &long, "a b:c"] {
        let first = post("a", key, "one");
        let again = post("a", key, "two");
        assert_eq!(again["duplicate"], true, "{again}");
        assert_eq!((&again["seq"], &again["timestamp"]), (&first["seq"], &first["timestamp"]));
        assert!(post("b", key, "another room").get("duplicate").is_none());
    }
    assert!(post("a", &format!("{long}y"), "another long key").get("duplicate").is_none());
    assert_eq!(history(&server, "a", "").len(), 4);

    let other = [
        ("authorization", &*format!("Bearer {KEY_B}")),
        ("content-type", "application/json"),
        ("idempotency-key", "order-4711"),
    ];
    let other = server.send("POST", "/api/v1/rooms/a/messages", &other, br#"{"type":"chat"}"#);
    assert_eq!((other.status, &other.json()["seq"]), (200, &json!(5)), "keys do not share them");

    let user = |text: &str| {
        let body = json!({"type": "note", "text": text}).to_string();
        server.post_once("/users/u_1/messages", &body, Some("k")).json()
    };
    assert_eq!((&user("1")["room"], &user("2")["duplicate"]), (&json!("@u_1"), &json!(true)));
    for wrong in ["", "ä"] {
        let refused = server.post_once("/rooms/a/messages", r#"{"type":"chat"}"#, Some(wrong));
        assert_eq!(refused.refusal(), (400, "bad_message".into()), "{wrong:?}");
    }
}

#[test]
fn a_refused_message_does_not_use_its_idempotency_key_up() {
    let server = server("");
    let refused = server.post_once("/rooms/a/messages", r#"{"type":""}"#, Some("k"));
    assert_eq!(refused.refusal().0, 400);
    let sent = server.post_once("/rooms/a/messages", r#"{"type":"chat"}"#, Some("k")).json();
    assert!(sent.get("duplicate").is_none(), "{sent}");
}

#[test]
fn a_batch_is_published_in_order_with_a_result_for_each() {
    let server = server("[[room]]\nmatch = \"secret:*\"\nallow = false\n");
    let messages = [
        json!({"room": "a", "type": "chat", "n": 1}),
        json!({"room": "secret:1", "type": "chat"}),
        json!({"to": "u_1", "type": "note", "from": "u_2"}),
        json!({"room": "a", "to": "u_1", "type": "chat"}),
        json!({"type": "chat"}),
        json!({"room": "a", "type": "chat", "seq": 5}),
        json!(7),
        json!({"room": "a b", "type": "chat"}),
        json!({"room": "a", "type": "chat", "text": "x".repeat(70_000)}),
        json!({"room": "a", "type": "chat", "n": 2}),
    ];
    let answer = server.post("/messages", &json!({ "messages": messages }).to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let results = body["results"].as_array().unwrap();
    let told: Vec<String> = results
        .iter()
        .map(|result| match result["error"]["code"].as_str() {
            Some(code) => code.to_owned(),
            None => format!("{} {}", result["room"].as_str().unwrap(), result["seq"]),
        })
        .collect();
    let expected = [
        "a 1",
        "unknown_room",
        "@u_1 1",
        "bad_message",
        "bad_message",
        "reserved_field",
        "bad_message",
        "unknown_room",
        "too_large",
        "a 2",
    ];
    assert_eq!(told, expected);
    assert_eq!(
        history(&server, "a", "").iter().map(|m| m["n"].clone()).collect::<Vec<_>>(),
        [1, 2]
    );
}

#[test]
fn a_full_batch_keeps_its_order_and_can_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let on_disk = format!("data = {:?}\n", data.to_str().unwrap());
    let body = |count: u32| {
        let each = (0..count).map(|n| json!({"room": "a", "type": "n", "n": n}));
        json!({"messages": each.collect::<Vec<_>>()}).to_string()
    };
    let seqs = |sent: &Value| -> Vec<u64> {
        let results = sent["results"].as_array().unwrap().iter();
        results.map(|result| result["seq"].as_u64().unwrap_or_else(|| panic!("{result}"))).collect()
    };
    for file in ["", &on_disk] {
        let server = server(file);
        let sent = server.post_once("/messages", &body(1000), Some("k")).json();
        assert_eq!(seqs(&sent), (1..=1000).collect::<Vec<_>>());
        let last = history(&server, "a", "?limit=200&after=500");
        assert_eq!((last.len(), &last[0]["n"], &last[199]["n"]), (200, &json!(500), &json!(699)));

        let again = server.post_once("/messages", &body(1000), Some("k")).json();
        assert_eq!(seqs(&again), seqs(&sent));
        let results = again["results"].as_array().unwrap();
        assert!(results.iter().all(|result| result["duplicate"] == true), "{again}");

        assert_eq!(server.post("/messages", &body(1001)).refusal(), (413, "too_large".into()));
        assert_eq!(server.post("/messages", r#"{"messages":[]}"#).json(), json!({"results": []}));
    }
    // Into a room that has to be opened first, which takes a while: all of them wait.
    let server = server(&on_disk);
    let sent = server.post("/messages", &body(1000)).json();
    assert_eq!(seqs(&sent), (1001..=2000).collect::<Vec<_>>());
    let numbers: Vec<u64> = (0..5)
        .flat_map(|page| history(&server, "a", &format!("?limit=200&after={}", 1000 + 200 * page)))
        .map(|message| message["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    let again = server.post_once("/messages", &body(1), Some("k")).json();
    let told = &again["results"][0];
    assert!(told["duplicate"] == true || told["seq"] == 2001, "{told}");
}

#[test]
fn rooms_users_and_counts_can_be_seen() {
    let server = server("");
    assert_eq!(server.read("/rooms").json(), json!({"rooms": []}));
    let counts = server.read("/counts").json();
    assert_eq!(counts, json!({"connections": 0, "users": 0, "rooms": 0}));

    let mut clients: Vec<_> =
        ["a", "a", "b", "c"].map(|room| server.plain(&format!("/ws/{room}"))).into();
    clients[0].ask(json!({"type": "chat"}));
    let page = server.read("/rooms?limit=2").json();
    let a = json!({"room": "a", "userCount": 2, "connections": 2, "seq": 1});
    let b = json!({"room": "b", "userCount": 1, "connections": 1, "seq": 0});
    assert_eq!(page, json!({"rooms": [a, b], "next": "b"}));
    let page = server.read("/rooms?limit=2&after=b").json();
    assert_eq!(page, json!({"rooms": [{"room": "c", "userCount": 1, "connections": 1, "seq": 0}]}));
    assert_eq!(server.read("/rooms/a").json(), a);
    assert_eq!(server.read("/rooms/nobody").refusal(), (404, "unknown_room".into()));
    assert_eq!(server.read("/counts").json()["users"], 4);

    let presence = server.read("/rooms/a/presence").json();
    assert_eq!((&presence["type"], &presence["userCount"]), (&json!("presence"), &json!(2)));
    let ids: Vec<&Value> =
        presence["users"].as_array().unwrap().iter().map(|u| &u["userId"]).collect();
    assert!(ids.contains(&&clients[0].connected["userId"]), "{presence}");
    assert_eq!(server.read("/rooms/nobody/presence").json()["userCount"], 0);

    for query in ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit="] {
        assert_eq!(server.read(&format!("/rooms?{query}")).refusal().1, "bad_message", "{query}");
    }
}

#[test]
fn users_get_messages_and_are_sent_away() {
    let server = server("");
    let mut tabs = [server.full(""), server.full("")];
    let id = tabs[0].connected["userId"].as_str().unwrap().to_owned();
    let sent = server.post(&format!("/users/{id}/messages"), r#"{"type":"note","text":"psst"}"#);
    assert_eq!(sent.json()["room"], format!("@{id}"));
    let note = tabs[0].next_of("note");
    assert_eq!((&note["text"], &note["from"]), (&json!("psst"), &json!("server")));

    let path = format!("/users/{id}/disconnect");
    let closed = server.post(&path, r#"{"code":4401,"reason":"bye"}"#);
    assert_eq!(closed.json(), json!({"closed": 1}));
    assert_eq!(tabs[0].closed(), (4401, "bye".into()));
    let other = tabs[1].connected["userId"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {KEY}");
    let path = format!("/users/{other}/disconnect");
    let plain = server.send("POST", &format!("/api/v1{path}"), &[("authorization", &bearer)], b"");
    assert_eq!(plain.json(), json!({"closed": 1}), "a body is not needed");
    assert_eq!(tabs[1].closed().0, 4403);
    assert_eq!(server.post("/users/nobody/disconnect", "{}").json(), json!({"closed": 0}));
    let long = json!({"reason": "x".repeat(124)}).to_string();
    for wrong in [
        r#"{"code":1005}"#,
        r#"{"code":1002}"#,
        r#"{"code":"x"}"#,
        r#"{"code":70000}"#,
        "[]",
        &long,
    ] {
        assert_eq!(server.post(&path, wrong).refusal(), (400, "bad_message".into()), "{wrong}");
    }
    assert_eq!(server.post(&path, "{").refusal(), (400, "bad_json".into()));
}

#[test]
fn the_past_is_read_in_pages() {
    let server = server("");
    for n in 0..10 {
        server.post("/rooms/a/messages", &json!({"type": "n", "n": n}).to_string());
    }
    let numbers = |query: &str| -> Vec<u64> {
        history(&server, "a", query).iter().map(|m| m["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("").len(), 10);
    assert_eq!(numbers("?limit=3"), [8, 9, 10]);
    assert_eq!(numbers("?limit=3&before=8"), [5, 6, 7]);
    assert_eq!(numbers("?limit=3&after=0"), [1, 2, 3]);
    assert!(numbers("?before=0").is_empty() && numbers("?after=10").is_empty());
    assert!(numbers("?before=1").is_empty());
    let page = server.read("/rooms/a/history?limit=9").json();
    assert_eq!(page["more"], true);
    let epoch = page["epoch"].as_str().unwrap();
    assert_eq!(numbers(&format!("?epoch={epoch}")).len(), 10);
    for (query, refusal) in [
        ("limit=0", (400, "bad_message")),
        ("limit=201", (400, "bad_message")),
        ("limit=99999999999999999999999", (400, "bad_message")),
        ("before=x", (400, "bad_message")),
        ("before=-1", (400, "bad_message")),
        ("after=9007199254740992", (400, "bad_message")),
        ("before=5&after=2", (400, "bad_message")),
        ("epoch=another", (410, "stale_epoch")),
    ] {
        let refused = server.read(&format!("/rooms/a/history?{query}")).refusal();
        assert_eq!((refused.0, refused.1.as_str()), refusal, "{query}");
    }
    let large = json!({"type": "n", "x": "x".repeat(60_000)}).to_string();
    for _ in 0..10 {
        assert_eq!(server.post("/rooms/large/messages", &large).status, 200);
    }
    let page = server.read("/rooms/large/history?limit=200");
    assert!(page.body.len() < 400 << 10, "{}", page.body.len());
    assert_eq!(page.json()["more"], true, "a page is bounded by its bytes, too");
}

#[test]
fn every_refusal_has_its_status_and_code() {
    let rules = "[[room]]\nmatch = \"no:*\"\nallow = false\n\
        [[room]]\nmatch = \"strict\"\nother_types = false\n[room.types.chat]\n\
        schema = { required = [\"text\"], properties = { text = { type = \"string\" } } }\n";
    let server = server(rules);
    let fields: String = (0..300).map(|n| format!(",\"f{n}\":1")).collect();
    let many = format!("{{\"type\":\"chat\"{fields}}}");
    let deep = format!("{{\"type\":\"chat\",\"x\":{}{}}}", "[".repeat(65), "]".repeat(65));
    let abyss = format!("{{\"type\":\"chat\",\"x\":{}", "[".repeat(60_000));
    let large = format!("{{\"type\":\"chat\",\"x\":\"{}\"}}", "x".repeat(65 << 10));
    for (path, body, status, code) in [
        ("/rooms/a/messages", "", 400, "bad_json"),
        ("/rooms/a/messages", "{\"type\":\"chat\"", 400, "bad_json"),
        ("/rooms/a/messages", r#"{"type":"chat","x":"\ud800"}"#, 400, "bad_json"),
        ("/rooms/a/messages", r#"{"type":"chat","\ud800":1}"#, 400, "bad_json"),
        ("/rooms/a/messages", "{\"type\":\"chat\",\"x\":01}", 400, "bad_json"),
        ("/rooms/a/messages", &abyss, 400, "bad_json"),
        ("/rooms/a/messages", "[]", 400, "bad_message"),
        ("/rooms/a/messages", "{}", 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":""}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":7}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":"chat","type":"chat"}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":"chat","x":1,"x":2}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":"chat","room":"b"}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":"chat","to":"b"}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":"chat","ref":1}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":"chat","from":"a b"}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":"chat","from":7}"#, 400, "bad_message"),
        ("/rooms/a/messages", r#"{"type":"auth"}"#, 400, "bad_message"),
        ("/rooms/a/messages", &many, 400, "bad_message"),
        ("/rooms/a/messages", &deep, 400, "bad_message"),
        ("/users/a%20b/messages", r#"{"type":"chat"}"#, 400, "bad_message"),
        ("/users/u/messages", r#"{"type":"chat","to":"v"}"#, 400, "bad_message"),
        ("/messages", "[]", 400, "bad_message"),
        ("/messages", r#"{"messages":7}"#, 400, "bad_message"),
        ("/messages", "{", 400, "bad_json"),
        ("/rooms/a/messages", r#"{"type":"join","room":"a"}"#, 400, "reserved_field"),
        ("/rooms/a/messages", r#"{"type":"ack"}"#, 400, "reserved_field"),
        ("/rooms/a/messages", r#"{"type":"chat","seq":1}"#, 400, "reserved_field"),
        ("/rooms/a/messages", r#"{"type":"chat","timestamp":1}"#, 400, "reserved_field"),
        ("/rooms/no:1/messages", r#"{"type":"chat"}"#, 404, "unknown_room"),
        ("/rooms/a%20b/messages", r#"{"type":"chat"}"#, 404, "unknown_room"),
        ("/rooms/%C3%A9/messages", r#"{"type":"chat"}"#, 404, "unknown_room"),
        ("/rooms/a%00b/messages", r#"{"type":"chat"}"#, 404, "unknown_room"),
        ("/rooms/a%0Ab/messages", r#"{"type":"chat"}"#, 404, "unknown_room"),
        ("/rooms/%2a/messages", r#"{"type":"chat"}"#, 404, "unknown_room"),
        ("/rooms/%ff/messages", r#"{"type":"chat"}"#, 404, "not_found"),
        ("/rooms//messages", r#"{"type":"chat"}"#, 404, "not_found"),
        ("/nothing", "{}", 404, "not_found"),
        ("/counts", "{}", 405, "method_not_allowed"),
        ("/rooms/strict/messages", r#"{"type":"chat"}"#, 422, "invalid_payload"),
        ("/rooms/strict/messages", r#"{"type":"chat","text":7}"#, 422, "invalid_payload"),
        ("/rooms/strict/messages", r#"{"type":"other"}"#, 403, "forbidden"),
        ("/rooms/a/messages", &large, 413, "too_large"),
    ] {
        let refused = server.post(path, body).refusal();
        let shown = &body[..body.len().min(80)];
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{path} {shown}");
    }
    let name = "x".repeat(129);
    let refused = server.post(&format!("/rooms/{name}/messages"), r#"{"type":"chat"}"#);
    assert_eq!(refused.refusal(), (404, "unknown_room".into()));
    let batch = vec![b' '; (1 << 20) + 1];
    let refused = server.post("/messages", std::str::from_utf8(&batch).unwrap());
    assert_eq!(refused.refusal(), (413, "too_large".into()));
    assert_eq!(server.post("/rooms/strict/messages", r#"{"type":"chat","text":"x"}"#).status, 200);
    assert!(history(&server, "a", "").is_empty(), "nothing of all that was published");
    // A number that no double can hold is the client's own text: it arrives as it was sent.
    let huge = server
        .post("/rooms/h/messages", r#"{"type":"n","n":1e400,"m":123456789012345678901234567890}"#);
    assert_eq!(huge.status, 200);
    let page = server.read("/rooms/h/history");
    assert!(page.text().contains(r#""n":1e400,"m":123456789012345678901234567890"#), "{page:?}");

    for (path, allow) in [("/counts", "GET, HEAD"), ("/messages", "POST")] {
        let wrong = server.ask("DELETE", &format!("/api/v1{path}"), &[]);
        assert_eq!((wrong.status, wrong.header("allow")), (405, allow));
    }
    for path in ["/api", "/api/", "/api/v1", "/api/v2/rooms"] {
        assert_eq!(server.get(path).refusal(), (404, "not_found".into()), "{path}");
    }
    assert!(server.metric("throng_api_requests_total{status=\"400\"}") > 10);
    assert!(server.metric("throng_api_requests_total{status=\"422\"}") == 2);
}

#[test]
fn only_json_is_understood() {
    let server = server("");
    let bearer = format!("Bearer {KEY}");
    let post = |kind: Option<&str>| {
        let mut headers = vec![("authorization", &*bearer)];
        headers.extend(kind.map(|kind| ("content-type", kind)));
        server.send("POST", "/api/v1/rooms/a/messages", &headers, br#"{"type":"chat"}"#)
    };
    for wrong in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        assert_eq!(post(wrong).refusal(), (415, "unsupported_data".into()), "{wrong:?}");
    }
    assert_eq!(post(Some("application/json; charset=utf-8")).status, 200);
    let latin = [("authorization", &*bearer), ("content-type", "application/json")];
    let refused = server.send("POST", "/api/v1/rooms/a/messages", &latin, b"{\"type\":\"\xe9\"}");
    assert_eq!(refused.refusal(), (400, "bad_json".into()));
}

#[test]
fn nobody_comes_in_without_a_key() {
    let closed = Server::start(&[]);
    let refused = closed.read("/counts");
    assert_eq!(refused.refusal(), (401, "unauthorized".into()));
    assert!(refused.text().contains("`throng key new`"), "{refused:?}");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    assert_eq!(closed.get("/api/v1/openapi.json").status, 200);

    let server = server("");
    for (name, value) in [
        ("authorization", "Bearer tk_wrong".to_owned()),
        ("authorization", format!("Basic {KEY}")),
        ("authorization", KEY.to_owned()),
        ("x-other", String::new()),
        ("cookie", format!("key={KEY}")),
    ] {
        let refused = server.ask("GET", "/api/v1/rooms", &[(name, &value)]);
        assert_eq!(refused.refusal(), (401, "unauthorized".into()), "{name}: {value}");
    }
    let in_query = server.get(&format!("/api/v1/rooms?key={KEY}&authorization=Bearer%20{KEY}"));
    assert_eq!(in_query.status, 401);
    assert!(server.metric("throng_api_requests_total{status=\"401\"}") == 6);
}

#[test]
fn keys_and_messages_are_never_logged() {
    let file = format!("[api]\nkeys = [\"{}\"]\n", support::api::LINE);
    // Even at the finest level of our own.
    let log = "--log=info,throng=trace,throng_server=trace,throng_hub=trace,throng_engine=trace";
    let mut server = Server::start_with(&["--listen", "127.0.0.1:0", log], &file);
    assert_eq!(server.post("/rooms/a/messages", r#"{"type":"chat","text":"psst"}"#).status, 200);
    let wrong = [("authorization", "Bearer tk_almost")];
    assert_eq!(server.ask("GET", "/api/v1/rooms", &wrong).status, 401);
    server.signal(rustix::process::Signal::TERM);
    let (_, log) = server.wait();
    assert!(log.contains("\"bye\""), "{log}");
    for secret in [KEY, "tk_almost", "psst"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let file = "[limits]\nhandshake_timeout = \"3s\"\n";
    let server = server(file);
    let head = format!(
        "POST /api/v1/rooms/a/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\n"
    );
    let mut half = server.connect();
    half.write_all(format!("{head}content-length: 100\r\n\r\n{{\"type\":").as_bytes()).unwrap();
    let refused = answer(half);
    assert_eq!(refused.refusal(), (408, "request_timeout".into()));

    // Announced as too large, it is not even read.
    let mut large = server.connect();
    large.write_all(format!("{head}content-length: 99999999999\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(answer(large).refusal(), (413, "too_large".into()));
    // Not announced, it is read up to the limit.
    let mut chunked = server.connect();
    chunked.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    while chunked.write_all(chunk.as_bytes()).is_ok() {}
    server.until_metric("throng_api_requests_total{status=\"413\"}", |count| count == 2);
}

#[test]
fn a_listener_can_do_without_the_api_and_events() {
    let file = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         api = false\nsse = false\n[api]\nkeys = [\"{}\"]\n",
        support::api::LINE
    );
    let mut server = Server::start_with(&[], &file);
    assert_eq!(server.read("/counts").status, 200);
    server.addresses.swap(0, 1);
    assert_eq!(server.read("/counts").status, 404);
    assert_eq!(server.get("/api/v1/openapi.json").status, 404);
    assert_eq!(server.get("/sse?room=a").status, 404);
}
