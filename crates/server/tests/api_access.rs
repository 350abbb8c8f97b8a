//! Tickets, sessions, revocations, and what keys are good for, through the HTTP API.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use serde_json::{Value, json};
use support::Server;
use support::api::{KEY, LINE, closed_server, server};

/// The status of a handshake with a ticket.
fn handshake(server: &Server, ticket: &str) -> u16 {
    let protocols = format!("throng.v1, ticket.{ticket}");
    server.upgrade("/ws", &[("sec-websocket-protocol", &protocols)]).status
}

#[test]
fn a_ticket_opens_one_session_with_its_rights() {
    let server = closed_server("");
    let wanted = json!({"userId": "ann", "name": "Ann", "rooms": {"team:*": ["join", "send:chat"]},
        "ttl": 60_000, "sessionTtl": 3_600_000});
    let issued = server.post("/tickets", &wanted.to_string());
    assert_eq!((issued.status, issued.header("cache-control")), (200, "no-store"));
    let issued = issued.json();
    let ticket = issued["ticket"].as_str().unwrap();
    assert!(ticket.starts_with("t_") && ticket.len() >= 28, "{issued}");
    assert!(issued["expiresAt"].as_u64().unwrap() > 1_700_000_000_000, "milliseconds");

    let mut ann = server.full(&format!("?ticket={ticket}"));
    assert_eq!(ann.connected["userId"], "ann");
    ann.join("team:1");
    assert_eq!(ann.ask(json!({"type": "chat", "room": "team:1"}))["type"], "ack");
    let refused = ann.ask(json!({"type": "other", "room": "team:1"}));
    assert_eq!(refused["code"], "forbidden");
    assert_eq!(ann.ask(json!({"type": "join", "room": "lobby"}))["code"], "forbidden");

    assert_eq!(handshake(&server, ticket), 401, "a ticket is good once");
    let elsewhere = json!({"userId": "ann", "ip": "192.0.2.1"});
    let elsewhere = server.ticket(elsewhere);
    assert_eq!(handshake(&server, &elsewhere), 401, "it is bound to another address");
    let here = server.ticket(json!({"userId": "ann", "ip": "127.0.0.1"}));
    assert_eq!(handshake(&server, &here), 101);
}

#[test]
fn a_ticket_that_cannot_be_is_refused() {
    let server = server("");
    let many: serde_json::Map<String, Value> =
        (0..65).map(|n| (format!("r{n}"), json!(["join"]))).collect();
    let info = "x".repeat(4096);
    for wanted in [
        json!({}),
        json!([]),
        json!(["ann"]),
        json!({"userId": ""}),
        json!({"userId": "a b"}),
        json!({"userId": "x".repeat(128)}),
        json!({"userId": 7}),
        json!({"userId": "ann", "user": "bob"}),
        json!({"userId": "ann", "session_ttl": 1}),
        json!({"userId": "ann", "ttl": "30s"}),
        json!({"userId": "ann", "ttl": 0}),
        json!({"userId": "ann", "ttl": -1}),
        json!({"userId": "ann", "ttl": 86_400_001}),
        json!({"userId": "ann", "sessionTtl": -1}),
        json!({"userId": "ann", "sessionTtl": u64::MAX}),
        json!({"userId": "ann", "ip": "localhost"}),
        json!({"userId": "ann", "info": info}),
        json!({"userId": "ann", "rooms": ["a"]}),
        json!({"userId": "ann", "rooms": {"a": "join"}}),
        json!({"userId": "ann", "rooms": {"a": ["fly"]}}),
        json!({"userId": "ann", "rooms": {"a b": ["join"]}}),
        json!({"userId": "ann", "rooms": many}),
    ] {
        let refused = server.post("/tickets", &wanted.to_string());
        assert_eq!(refused.refusal(), (400, "bad_message".into()), "{wanted}");
    }
    let twice = server.post("/tickets", r#"{"userId":"ann","userId":"bob"}"#);
    assert_eq!(twice.refusal(), (400, "bad_message".into()));
    for broken in ["", "{", r#"{"userId":"ann""#, r#"{"userId":7,}"#, r#"{"user":"a"} x"#] {
        let refused = server.post("/tickets", broken);
        assert_eq!(refused.refusal(), (400, "bad_json".into()), "{broken}");
    }
    let large = json!({"userId": "ann", "name": "x".repeat(33 << 10)}).to_string();
    assert_eq!(server.post("/tickets", &large).refusal(), (413, "too_large".into()));
    assert_eq!(handshake(&server, "t_nonsense"), 401);
    assert!(server.metric("throng_refused_upgrades_total{reason=\"ticket\"}") >= 1);
}

#[test]
fn sessions_are_listed_and_ended() {
    let server = server("");
    let mut tabs: Vec<_> = (0..3)
        .map(|_| {
            let ticket = server.ticket(json!({"userId": "ann", "name": "Ann"}));
            server.full(&format!("?ticket={ticket}"))
        })
        .collect();
    let visitor = server.full("");
    let of_ann = server.read("/sessions?user=ann").json();
    let sessions = of_ann["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3, "{of_ann}");
    assert_eq!(server.read("/users/ann/sessions").json(), of_ann);
    for session in sessions {
        assert_eq!((&session["userId"], &session["name"]), (&json!("ann"), &json!("Ann")));
        assert_eq!((&session["via"], &session["state"]), (&json!("ticket"), &json!("connected")));
        assert_eq!(session["ip"], "127.0.0.1");
        let (start, end) = (&session["startedAt"], &session["expiresAt"]);
        let lasts = end.as_u64().unwrap() - start.as_u64().unwrap();
        assert!((86_340_000..=86_400_000).contains(&lasts), "{session}");
    }
    let ids: Vec<&str> = sessions.iter().map(|s| s["sessionId"].as_str().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let all = server.read("/sessions").json();
    let anonymous = |s: &&Value| s["userId"] == visitor.connected["userId"];
    let anonymous = all["sessions"].as_array().unwrap().iter().find(anonymous).unwrap().clone();
    assert_eq!(anonymous["via"], "anonymous");
    assert!(anonymous.get("ip").is_none() && anonymous.get("expiresAt").is_none());

    let page = server.read("/sessions?user=ann&limit=2").json();
    assert_eq!((page["sessions"].as_array().unwrap().len(), &page["next"]), (2, &json!(ids[1])));
    let page = server.read(&format!("/sessions?user=ann&limit=2&after={}", ids[1])).json();
    assert_eq!(page, json!({"sessions": [sessions[2]]}));
    for wrong in ["user=a%20b", "limit=0", "limit=1001"] {
        assert_eq!(server.read(&format!("/sessions?{wrong}")).refusal().0, 400, "{wrong}");
    }

    let of = |tab: &support::rooms::Client| tab.connected["sessionId"].as_str().unwrap().to_owned();
    let revoked = server.call("DELETE", &format!("/sessions/{}", of(&tabs[0])), "");
    assert_eq!(revoked.json(), json!({"revoked": 1}));
    let mut first = tabs.remove(0);
    assert_eq!(first.closed(), (4401, "session revoked".into()));
    let again = server.call("DELETE", &format!("/sessions/{}", of(&first)), "");
    assert_eq!(again.json(), json!({"revoked": 0}));
    assert_eq!(server.call("DELETE", "/sessions/a%00b", "").json(), json!({"revoked": 0}));
    let token = first.connected["resume"].as_str().unwrap();
    let resumed = server.full(&format!("?resume={token}"));
    assert_ne!(resumed.connected["sessionId"], first.connected["sessionId"], "it is over");
    assert_ne!(resumed.connected["userId"], "ann");

    let left = server.ticket(json!({"userId": "ann"}));
    assert_eq!(server.call("POST", "/users/ann/revoke", "").json(), json!({"revoked": 2}));
    for tab in &mut tabs {
        assert_eq!(tab.closed(), (4401, "session revoked".into()));
    }
    assert_eq!(handshake(&server, &left), 401, "a ticket of before is void");
    let fresh = server.ticket(json!({"userId": "ann"}));
    assert_eq!(handshake(&server, &fresh), 101, "one of after is not");
    assert_eq!(server.read("/sessions?user=nobody").json(), json!({"sessions": []}));
    assert_eq!(server.metric("throng_sessions_ended_total{reason=\"revoked\"}"), 3);
}

#[test]
fn a_session_ends_when_its_time_is_over() {
    let server = server("");
    let ticket = server.ticket(json!({"userId": "ann", "sessionTtl": 1000}));
    let mut ann = server.full(&format!("?ticket={ticket}"));
    assert_eq!(ann.closed(), (4401, "session expired".into()));
    server.until_metric("throng_sessions_ended_total{reason=\"expired\"}", |count| count == 1);
    assert_eq!(server.read("/sessions?user=ann").json(), json!({"sessions": []}));
}

#[test]
fn a_session_may_have_no_end() {
    let server = server("");
    let ticket = server.ticket(json!({"userId": "ann", "sessionTtl": 0}));
    let _ann = server.full(&format!("?ticket={ticket}"));
    let listed = server.read("/users/ann/sessions").json();
    assert!(listed["sessions"][0].get("expiresAt").is_none(), "{listed}");
}

#[test]
fn tokens_are_refused_by_their_id() {
    let server = server("");
    let until = json!({"until": 4_102_444_800_000_u64});
    let revoked = server.post("/tokens/a%2Fb%20c/revoke", &until.to_string()).json();
    assert_eq!(revoked, json!({"token": "a/b c", "until": 4_102_444_800_000_u64}));
    let revoked = server.call("POST", "/tokens/17/revoke", "").json();
    assert!(revoked["until"].as_u64().unwrap() > 1_800_000_000_000, "{revoked}");
    let long = "x".repeat(257);
    for (id, body) in [("17", r#"{"until":1}"#), ("17", r#"{"until":"x"}"#), (&*long, "{}")] {
        let refused = server.post(&format!("/tokens/{id}/revoke"), body);
        assert_eq!(refused.refusal(), (400, "bad_message".into()), "{body}");
    }
}

#[test]
fn a_key_may_do_what_its_scopes_say() {
    let needed = |operation: &str| match operation {
        "publishToRoom" | "publishBatch" | "publishToUser" => "publish",
        "listRooms" | "showRoom" | "showHistory" | "showPresence" | "showCounts" | "listNodes"
        | "showNode" => "read",
        "drainNode" | "undrainNode" => "nodes",
        "issueTicket" => "tickets",
        "listSessions" | "listSessionsOfUser" | "revokeSession" | "revokeUser" | "revokeToken"
        | "disconnectUser" | "listBans" | "ban" | "liftBan" => "sessions",
        "listMembers" | "setMember" | "removeMember" | "kick" | "listBansOfRoom"
        | "banFromRoom" | "liftBanOfRoom" => "rooms",
        other => panic!("{other}"),
    };
    for scope in ["publish", "read", "tickets", "sessions", "rooms", "nodes", "read+publish"] {
        let file = format!("[api]\nkeys = [\"{LINE}:{scope}\"]\n");
        let server = Server::start_with(&["--listen", "127.0.0.1:0"], &file);
        let document = server.get("/api/v1/openapi.json").json();
        let mut tried = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let open = operation["security"].is_array();
                let Some(id) = operation["operationId"].as_str().filter(|_| !open) else {
                    continue;
                };
                let path = path.replace(['{', '}'], "");
                // What is allowed need not be right: it only has to come through.
                let answer = server.call(&method.to_uppercase(), &path, "");
                let lacks = answer.status == 403
                    && answer.json()["error"]["message"].as_str().unwrap().contains("it lacks");
                let may = scope.split('+').any(|scope| scope == needed(id));
                assert_eq!(!lacks, may, "{id} with {scope}: {answer:?}");
                tried += 1;
            }
        }
        assert_eq!(tried, 29);
    }
}

#[test]
fn keys_of_the_file_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, format!("{}\n", support::api::LINE_B)).unwrap();
    let file = format!("[api]\nkeys_file = {:?}\n", keys.to_str().unwrap());
    let mut server = Server::start_with(&["--listen", "127.0.0.1:0"], &file);
    let with = |server: &Server, key: &str| {
        let bearer = format!("Bearer {key}");
        server.ask("GET", "/api/v1/counts", &[("authorization", &bearer)]).status
    };
    let both = |server: &Server| (with(server, KEY), with(server, support::api::KEY_B));
    assert_eq!(both(&server), (401, 200));
    std::fs::write(&keys, format!("{LINE}\n")).unwrap();
    assert_eq!(both(&server), (401, 200), "nobody has asked yet");
    server.signal(rustix::process::Signal::HUP);
    server.until_logged("API keys are read again");
    assert_eq!(both(&server), (200, 401));
    std::fs::write(&keys, KEY).unwrap();
    server.signal(rustix::process::Signal::HUP);
    server.until_logged("the API keys stay as they were");
    assert_eq!(both(&server), (200, 401));
}
