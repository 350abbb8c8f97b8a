//! Members, kicks and bans through the HTTP API, as the people concerned see them.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use serde_json::json;
use support::api::{closed_server, server};
use support::rooms::Client;
use support::{Server, connect};
use tungstenite::{ClientRequestBuilder, Message};

fn signed_in(server: &Server, user: &str) -> Client {
    let ticket = server.ticket(json!({ "userId": user }));
    server.full(&format!("?ticket={ticket}"))
}

/// Waits until the server says that one has been put out of a room.
fn put_out(client: &mut Client, room: &str) {
    let left = client.next_of("left");
    assert_eq!((&left["room"], left.get("ref")), (&json!(room), None), "{left}");
}

#[test]
fn members_may_be_where_others_may_not() {
    let server = closed_server("[[room]]\nmatch = \"club:*\"\nmembership = true\n");
    let mut ann = signed_in(&server, "ann");
    let join = json!({"type": "join", "room": "club:1"});
    assert_eq!(ann.ask(join.clone())["code"], "forbidden");

    let rights = r#"{"rights":["presence","join"]}"#;
    let member = server.call("PUT", "/rooms/club:1/members/ann", rights);
    assert_eq!(member.json(), json!({"userId": "ann", "rights": ["join", "presence"]}));
    ann.join("club:1");
    let chat = json!({"type": "chat", "room": "club:1"});
    assert_eq!(ann.ask(chat.clone())["code"], "forbidden");
    let member = server.call("PUT", "/rooms/club:1/members/ann", "");
    let all = json!(["join", "send", "presence", "history"]);
    assert_eq!(member.json()["rights"], all);
    assert_eq!(ann.ask(chat)["type"], "ack");

    server.call("PUT", "/rooms/club:1/members/bob", "{}");
    let ann_row = json!({"userId": "ann", "rights": all});
    let page = server.read("/rooms/club:1/members?limit=1").json();
    assert_eq!(page, json!({"members": [ann_row], "next": "ann"}));
    let page = server.read("/rooms/club:1/members?after=ann").json();
    assert_eq!(page, json!({"members": [{"userId": "bob", "rights": all}]}));
    assert_eq!(server.read("/rooms/club:2/members").json(), json!({"members": []}));

    let removed = server.call("DELETE", "/rooms/club:1/members/ann", "");
    assert_eq!(removed.json(), json!({"removed": 1}));
    put_out(&mut ann, "club:1");
    assert_eq!(ann.ask(join)["code"], "forbidden");
    let again = server.call("DELETE", "/rooms/club:1/members/ann", "");
    assert_eq!(again.json(), json!({"removed": 0}));

    for wrong in [
        r#"{"rights":[]}"#,
        r#"{"rights":["fly"]}"#,
        r#"{"rights":["send:chat"]}"#,
        r#"{"rights":"join"}"#,
        r#"{"right":["join"]}"#,
        "[]",
    ] {
        let refused = server.call("PUT", "/rooms/club:1/members/ann", wrong);
        assert_eq!(refused.refusal(), (400, "bad_message".into()), "{wrong}");
    }
    let refused = server.call("PUT", "/rooms/club:1/members/a%20b", "");
    assert_eq!(refused.refusal(), (400, "bad_message".into()));
    let refused = server.call("PUT", "/rooms/a%20b/members/ann", "");
    assert_eq!(refused.refusal(), (404, "unknown_room".into()));
}

#[test]
fn a_kick_is_for_now_and_a_ban_for_longer() {
    let server = server("");
    let (mut ann, mut bob) = (signed_in(&server, "ann"), signed_in(&server, "bob"));
    ann.join("a");
    ann.join("b");
    bob.join("a");
    let kicked = server.post("/rooms/a/kick", r#"{"user":"ann"}"#);
    assert_eq!(kicked.json(), json!({"kicked": 1}));
    put_out(&mut ann, "a");
    assert_eq!(ann.ask(json!({"type": "chat", "room": "a"}))["code"], "not_joined");
    ann.join("a");

    let ban = server.post("/rooms/a/bans", r#"{"user":"ann","reason":"spam"}"#);
    let expected = json!({"user": "ann", "room": "a", "reason": "spam"});
    assert_eq!(ban.json(), expected);
    put_out(&mut ann, "a");
    let join = json!({"type": "join", "room": "a"});
    assert_eq!(ann.ask(join.clone())["code"], "forbidden");
    assert_eq!(ann.ask(json!({"type": "chat", "room": "b"}))["type"], "ack", "only that room");
    assert_eq!(bob.ask(json!({"type": "chat", "room": "a"}))["type"], "ack", "only her");
    assert_eq!(server.read("/rooms/a/bans").json(), json!({"bans": [expected]}));
    assert_eq!(server.read("/rooms/b/bans").json(), json!({"bans": []}));
    assert_eq!(server.read("/bans").json(), json!({"bans": []}));
    let lifted = server.call("DELETE", "/rooms/a/bans/ann", "");
    assert_eq!(lifted.json(), json!({"lifted": 1}));
    assert_eq!(ann.ask(join)["type"], "joined");
    assert_eq!(server.call("DELETE", "/rooms/a/bans/ann", "").json(), json!({"lifted": 0}));
}

/// How a connection ends whose handshake is not to be refused by a status.
fn told(server: &Server, ticket: &str) -> (u16, String) {
    let address = server.address();
    let uri = format!("ws://{address}/ws?refusal=close").parse().unwrap();
    let request = ClientRequestBuilder::new(uri)
        .with_sub_protocol("throng.v1")
        .with_sub_protocol(format!("ticket.{ticket}"));
    let (mut socket, _) = tungstenite::client(request, connect(address)).unwrap();
    let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close frame") };
    while socket.read().is_ok() {}
    (close.code.into(), close.reason.as_str().to_owned())
}

#[test]
fn a_ban_from_the_server_ends_everything() {
    let server = server("");
    let mut ann = signed_in(&server, "ann");
    let left = server.ticket(json!({"userId": "ann"}));
    let [late, plain, foreign] = [(); 3].map(|()| server.ticket(json!({"userId": "ann"})));
    let until = 4_102_444_800_000_u64;
    let ban = json!({"user": "ann", "until": until, "reason": "spam"});
    assert_eq!(server.post("/bans", &ban.to_string()).json(), ban);
    assert_eq!(ann.closed().0, 4403);
    let protocols = format!("throng.v1, ticket.{left}");
    let knock = || server.upgrade("/ws", &[("sec-websocket-protocol", &protocols)]).status;
    assert_eq!(knock(), 403);
    let refused = server.post("/tickets", r#"{"userId":"ann"}"#);
    assert_eq!(refused.refusal(), (403, "forbidden".into()));
    // Whoever cannot see a status asks to be told by the connection.
    assert_eq!(told(&server, &late), (4403, "banned".into()));
    assert_eq!(told(&server, &late), (4401, "unauthorized".into()), "it was good once");
    let asking = |ticket: &str, more: &[(&str, &str)]| {
        let headers = [&[("sec-websocket-protocol", ticket)], more].concat();
        server.upgrade("/ws?refusal=close", &headers).status
    };
    assert_eq!(asking(&format!("ticket.{plain}"), &[]), 403, "only who speaks the protocol");
    let foreign = format!("throng.v1, ticket.{foreign}");
    assert_eq!(asking(&foreign, &[("origin", "https://evil.example")]), 403, "not other sites");
    assert_eq!(server.read("/bans").json(), json!({"bans": [ban]}));
    assert_eq!(server.call("DELETE", "/bans/ann", "").json(), json!({"lifted": 1}));
    signed_in(&server, "ann");

    let long = json!({"user": "ann", "reason": "x".repeat(124)}).to_string();
    for wrong in [
        "{}",
        "[]",
        r#"{"user":7}"#,
        r#"{"user":"a b"}"#,
        r#"{"user":"ann","until":1}"#,
        r#"{"user":"ann","til":4102444800000}"#,
        &long,
    ] {
        for path in ["/bans", "/rooms/a/bans"] {
            let refused = server.post(path, wrong);
            assert_eq!(refused.refusal(), (400, "bad_message".into()), "{path} {wrong}");
        }
    }
    for (n, user) in ["c", "a", "b"].iter().enumerate() {
        let ban = json!({"user": user, "reason": n.to_string()}).to_string();
        assert_eq!(server.post("/bans", &ban).status, 200);
    }
    let page = server.read("/bans?limit=2").json();
    let users: Vec<_> =
        page["bans"].as_array().unwrap().iter().map(|b| b["user"].clone()).collect();
    assert_eq!((users, &page["next"]), (vec![json!("a"), json!("b")], &json!("b")));
    assert_eq!(server.read("/bans?after=b").json()["bans"][0]["user"], "c");
}
