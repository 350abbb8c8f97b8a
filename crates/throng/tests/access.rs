//! Who comes in and what they may do, on real sockets: tickets, tokens, rights, revocations, bans.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rig::{Rig, Socket, drain, eventually};
use serde_json::{Value, json};
use throng::{
    Access, Authenticate, Code, Denied, Endpoint, Grants, NewTicket, Pattern, Rights, Rule, Rules,
    Server, Target, Verdict, Via, Visa, Visit,
};
use tungstenite::Message;

const FULL: (&str, &str) = ("sec-websocket-protocol", "throng.v1");

fn closed(builder: throng::Builder) -> Rig {
    let access = Access::new(Grants::from_words(["lobby"]).unwrap(), Grants::NONE);
    Rig::start(builder.access(access).endpoint("/ws", Endpoint::rooms("lobby")))
}

fn grants(json: &str) -> Grants {
    Grants::from_json(json).unwrap()
}

fn ticket(rig: &Rig, user: &str, rooms: &str) -> String {
    let new = NewTicket { user_id: user.into(), grants: grants(rooms), ..NewTicket::default() };
    rig.block_on(rig.server.issue_ticket(new)).unwrap().ticket
}

/// A full client with this ticket, greeted, in its own room.
fn sign_in(rig: &Rig, user: &str, rooms: &str) -> (Socket, Value) {
    let path = format!("/ws?ticket={}", ticket(rig, user, rooms));
    let mut socket = rig.try_connect(&path, &[FULL]).unwrap();
    let hello = next(&mut socket);
    assert_eq!(next(&mut socket)["type"], "joined", "its own room");
    (socket, hello)
}

fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("not text: {other:?}"),
        }
    }
}

fn ask(socket: &mut Socket, command: Value) -> Value {
    socket.send(Message::text(command.to_string())).unwrap();
    next(socket)
}

fn code(socket: &mut Socket, command: Value) -> String {
    let answer = ask(socket, command);
    assert_eq!(answer["type"], "error", "{answer}");
    answer["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_ticket_says_who_and_is_good_once() {
    let rig = closed(Server::builder());
    let new = NewTicket {
        user_id: "ada".into(),
        info: Some(r#"{"name":"Ada","team":7}"#.into()),
        session_ttl: Some(Duration::from_secs(3600)),
        ..NewTicket::default()
    };
    let ticket = rig.block_on(rig.server.issue_ticket(new)).unwrap();
    assert!(!format!("{ticket:?}").contains(&ticket.ticket), "no secret in logs");
    let path = format!("/ws?ticket={}", ticket.ticket);
    let mut socket = rig.try_connect(&path, &[FULL]).unwrap();
    let hello = next(&mut socket);
    assert_eq!(hello["userId"], "ada");
    assert_eq!(hello["info"], json!({"name": "Ada", "team": 7}));
    let (expires, now) =
        (hello["expiresAt"].as_u64().unwrap(), hello["timestamp"].as_u64().unwrap());
    assert!((3_590_000..=3_600_000).contains(&(expires - now)), "{}", expires - now);

    let (status, headers) = rig.refusal(&path, &[FULL]);
    assert_eq!(status, 401);
    assert_eq!(headers["www-authenticate"], "Bearer");
    for wrong in ["t_", "x", &"t_".repeat(40), &format!("t_{}", "0".repeat(32))] {
        assert_eq!(rig.refusal(&format!("/ws?ticket={wrong}"), &[FULL]).0, 401, "{wrong}");
    }
    assert_eq!(rig.server.stats().refused_ticket, 5);
}

#[test]
fn a_ticket_travels_in_the_subprotocol_too() {
    let rig = closed(Server::builder());
    let offered = format!("throng.v1, ticket.{}", ticket(&rig, "ada", "{}"));
    let mut socket = rig.try_connect("/ws", &[("sec-websocket-protocol", &offered)]).unwrap();
    assert_eq!(next(&mut socket)["userId"], "ada");
    assert_eq!(
        next(&mut socket)["room"],
        "@ada",
        "a full client, whatever comes first in the list"
    );
    // A plain client that offers nothing else is agreed with, as browsers want it.
    let offered = format!("ticket.{}", ticket(&rig, "bob", "{}"));
    let mut socket = rig.try_connect("/ws", &[("sec-websocket-protocol", &offered)]).unwrap();
    assert_eq!(next(&mut socket)["room"], "lobby");
    let first = format!("ticket.{}, throng.v1", ticket(&rig, "eve", "{}"));
    let mut socket = rig.try_connect("/ws", &[("sec-websocket-protocol", &first)]).unwrap();
    assert!(next(&mut socket)["room"].is_null());
}

#[test]
fn a_ticket_can_be_bound_to_an_address() {
    let rig = closed(Server::builder());
    let bound = |ip: &str| {
        let ip = Some(ip.parse().unwrap());
        let new = NewTicket { user_id: "ada".into(), ip, ..NewTicket::default() };
        rig.block_on(rig.server.issue_ticket(new)).unwrap().ticket
    };
    let (ours, theirs) = (bound("127.0.0.1"), bound("192.0.2.1"));
    assert_eq!(rig.refusal(&format!("/ws?ticket={theirs}"), &[FULL]).0, 401);
    assert_eq!(
        rig.refusal(&format!("/ws?ticket={theirs}"), &[FULL]).0,
        401,
        "still good elsewhere"
    );
    assert_eq!(rig.server.stats().refused_address, 2);
    rig.try_connect(&format!("/ws?ticket={ours}"), &[FULL]).unwrap();
}

#[test]
fn a_ticket_expires() {
    let rig = closed(Server::builder());
    let new = NewTicket {
        user_id: "ada".into(),
        ttl: Some(Duration::from_millis(20)),
        ..NewTicket::default()
    };
    let ticket = rig.block_on(rig.server.issue_ticket(new)).unwrap();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    eventually("it is too late", || now().as_millis() as u64 > ticket.expires_at);
    assert_eq!(rig.refusal(&format!("/ws?ticket={}", ticket.ticket), &[FULL]).0, 401);
}

#[test]
fn what_cannot_be_is_no_ticket() {
    let rig = closed(Server::builder());
    let issue = |new: NewTicket| rig.block_on(rig.server.issue_ticket(new)).unwrap_err().code;
    let ada = || NewTicket { user_id: "ada".into(), ..NewTicket::default() };
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(issue(NewTicket::default()), Code::BadMessage);
    assert_eq!(issue(NewTicket { info: Some("{".into()), ..ada() }), Code::BadMessage);
    assert_eq!(issue(NewTicket { ttl: Some(Duration::ZERO), ..ada() }), Code::BadMessage);
    assert_eq!(issue(NewTicket { ttl: Some(2 * day), ..ada() }), Code::BadMessage);
    assert_eq!(issue(NewTicket { session_ttl: Some(999 * day), ..ada() }), Code::BadMessage);
}

#[test]
fn nothing_is_open_that_was_not_opened() {
    let rig = closed(Server::builder());
    rig.connect("/ws/lobby");
    assert_eq!(rig.refusal("/ws/orders", &[]).0, 401, "nobody in particular");
    let path = format!("/ws/orders?ticket={}", ticket(&rig, "ada", "{}"));
    assert_eq!(rig.refusal(&path, &[]).0, 403, "ada may not");
    let path = format!("/ws/orders?ticket={}", ticket(&rig, "ada", r#"{"orders":["join"]}"#));
    let mut ada = rig.connect(&path);
    assert_eq!(next(&mut ada)["room"], "orders");
    assert_eq!(code(&mut ada, json!({"type": "chat", "ref": 1})), "forbidden");
    assert_eq!(code(&mut ada, json!({"type": "presence", "ref": 2})), "forbidden");
    assert_eq!(code(&mut ada, json!({"type": "history", "ref": 3})), "forbidden");

    let mut nobody = rig.try_connect("/ws", &[FULL]).unwrap();
    next(&mut nobody);
    next(&mut nobody);
    assert_eq!(code(&mut nobody, json!({"type": "join", "room": "orders", "ref": 1})), "forbidden");
    assert_eq!(code(&mut nobody, json!({"type": "join", "room": "@ada", "ref": 2})), "forbidden");
    assert_eq!(code(&mut nobody, json!({"type": "chat", "to": "ada", "ref": 3})), "forbidden");
    assert_eq!(rig.refusal("/ws/@ada", &[]).0, 401);
}

#[test]
fn rights_are_of_types_too() {
    let rig = closed(Server::builder());
    let rooms = r#"{"game":["join","send:move"],"@bob":["send:poke"]}"#;
    let (mut ada, _) = sign_in(&rig, "ada", rooms);
    ask(&mut ada, json!({"type": "join", "room": "game", "ref": 1}));
    assert_eq!(code(&mut ada, json!({"type": "chat", "room": "game", "ref": 2})), "forbidden");
    ask(&mut ada, json!({"type": "move", "room": "game", "x": 1, "ref": 3}));
    next(&mut ada); // its answer, and the message itself
    assert_eq!(code(&mut ada, json!({"type": "chat", "to": "bob", "ref": 5})), "forbidden");
    let (mut bob, _) = sign_in(&rig, "bob", "{}");
    ada.send(Message::text(json!({"type": "poke", "to": "bob"}).to_string())).unwrap();
    assert_eq!(next(&mut bob)["type"], "poke");
}

#[test]
fn the_past_is_for_those_who_may_read_it() {
    let rig = closed(Server::builder());
    let (mut ada, _) = sign_in(&rig, "ada", r#"{"news":["join","send","history"]}"#);
    ask(&mut ada, json!({"type": "join", "room": "news", "ref": 1}));
    ada.send(Message::text(r#"{"type":"chat","room":"news","text":"old","ref":2}"#)).unwrap();
    next(&mut ada);
    next(&mut ada);
    let (mut bob, _) = sign_in(&rig, "bob", r#"{"news":["join"]}"#);
    let joined = ask(
        &mut bob,
        json!({"type": "join", "room": "news", "rewind": 10, "presence": true, "ref": 1}),
    );
    assert!(joined["users"].is_null(), "{joined}");
    let epoch = joined["epoch"].clone();
    let left = ask(&mut bob, json!({"type": "leave", "room": "news", "ref": 2}));
    assert_eq!(left["type"], "left");
    let since = json!({"epoch": epoch, "seq": 0});
    let joined = ask(&mut bob, json!({"type": "join", "room": "news", "since": since, "ref": 3}));
    assert_eq!(joined["recovered"], false);
    let pong = ask(&mut bob, json!({"type": "ping", "ref": 4}));
    assert_eq!(pong["type"], "pong", "nothing of the past in between");
}

#[test]
fn endpoints_can_want_a_ticket() {
    let rig = Rig::start(
        Server::builder()
            .access(Access::open())
            .endpoint("/ws", Endpoint::rooms("lobby").anonymous(false))
            .endpoint("/relay", Endpoint::relay("lobby").anonymous(false))
            .endpoint("/echo", Endpoint::echo().anonymous(false)),
    );
    for path in ["/ws", "/relay", "/echo"] {
        assert_eq!(rig.refusal(path, &[]).0, 401, "{path}");
        rig.connect(&format!("{path}?ticket={}", ticket(&rig, "ada", "{}")));
    }
    assert_eq!(rig.server.stats().refused_anonymous, 3);
}

#[test]
fn whoever_is_turned_away_leaves_nothing_behind() {
    let rig = closed(Server::builder().authenticate(Arc::new(Oracle(AtomicUsize::new(0)))));
    for _ in 0..10 {
        assert_eq!(rig.refusal("/ws/orders?token=good:ada", &[]).0, 403);
    }
    let kept = || rig.server.vault().stats().sessions;
    eventually("no session is kept", || kept() == 0);
    let mut socket = rig.try_connect("/ws?token=good:ada", &[FULL]).unwrap();
    next(&mut socket);
    assert_eq!(kept(), 1);
    socket.close(None).unwrap();
    drain(&mut socket);
    eventually("it is over", || kept() == 0);
}

#[test]
fn a_relay_behind_a_ticket_closes_with_the_session() {
    let relay = Endpoint::relay("lobby").anonymous(false);
    let rig = Rig::start(Server::builder().endpoint("/relay", relay));
    let mut ada = rig.connect(&format!("/relay?ticket={}", ticket(&rig, "ada", "{}")));
    let mut bob = rig.connect(&format!("/relay?ticket={}", ticket(&rig, "bob", "{}")));
    eventually("both are known", || rig.server.sessions(None, None, 10).len() == 2);
    assert_eq!(rig.block_on(rig.server.revoke_user("ada")).unwrap(), 1);
    assert_eq!(drain(&mut ada), Some(4401));
    bob.send(Message::text("still here")).unwrap();
    assert_eq!(rig::text(&mut bob), "still here");
}

#[test]
fn somebody_sent_away_while_away_stays_out_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let start = || closed(Server::builder().data(folder.path()));
    let rig = start();
    let (ada, hello) = sign_in(&rig, "ada", "{}");
    drop(ada); // lost
    eventually("she is away", || !rig.server.sessions(None, None, 1)[0].is_connected);
    rig.server.disconnect("ada", throng::CloseCode::new(4403).unwrap(), "go");
    rig.block_on(rig.server.shutdown(Duration::from_secs(5)));
    let rig = start();
    let path = format!("/ws?resume={}", hello["resume"].as_str().unwrap());
    let mut socket = rig.try_connect(&path, &[FULL]).unwrap();
    assert_eq!(next(&mut socket)["resumed"], false);
}

#[test]
fn a_revoked_session_is_closed_and_stays_out() {
    let rig = closed(Server::builder());
    let (mut ada, hello) = sign_in(&rig, "ada", "{}");
    let (mut bob, _) = sign_in(&rig, "bob", "{}");
    let session = hello["sessionId"].as_str().unwrap();
    let listed = rig.server.sessions(None, None, 10);
    assert_eq!(listed.len(), 2);
    let mine = listed.iter().find(|listed| listed.session_id == session).unwrap();
    assert_eq!((mine.user_id.as_str(), mine.via, mine.is_connected), ("ada", Some("ticket"), true));
    assert!(rig.block_on(rig.server.revoke_session(session)).unwrap());
    assert_eq!(drain(&mut ada), Some(4401));
    assert!(!rig.block_on(rig.server.revoke_session(session)).unwrap());
    let path = format!("/ws?resume={}", hello["resume"].as_str().unwrap());
    let mut stranger = rig.try_connect(&path, &[FULL]).unwrap();
    let hello = next(&mut stranger);
    assert!(hello["userId"] != "ada" && hello["resumed"] == false, "{hello}");
    assert_eq!(ask(&mut bob, json!({"type": "ping", "ref": 1}))["type"], "pong");
}

#[test]
fn revoking_a_user_ends_all_there_is() {
    let rig = closed(Server::builder());
    let (mut one, _) = sign_in(&rig, "ada", "{}");
    let (mut two, _) = sign_in(&rig, "ada", "{}");
    let unused = ticket(&rig, "ada", "{}");
    assert_eq!(rig.block_on(rig.server.revoke_user("ada")).unwrap(), 2);
    assert_eq!((drain(&mut one), drain(&mut two)), (Some(4401), Some(4401)));
    assert_eq!(rig.refusal(&format!("/ws?ticket={unused}"), &[FULL]).0, 401);
    sign_in(&rig, "ada", "{}"); // with a new ticket
}

#[test]
fn a_session_ends_in_time_unless_it_is_refreshed() {
    let rig = closed(Server::builder());
    let short = |user: &str, rooms: &str| {
        let new = NewTicket {
            user_id: user.into(),
            grants: grants(rooms),
            session_ttl: Some(Duration::from_secs(8)), // until ada has her new one
            ..NewTicket::default()
        };
        rig.block_on(rig.server.issue_ticket(new)).unwrap().ticket
    };
    let connect = |ticket: String| {
        let mut socket = rig.try_connect(&format!("/ws?ticket={ticket}"), &[FULL]).unwrap();
        next(&mut socket);
        next(&mut socket);
        socket
    };
    let (mut ada, mut bob) = (connect(short("ada", "{}")), connect(short("bob", "{}")));
    let new = ticket(&rig, "ada", r#"{"orders":["join"]}"#);
    let authed = ask(&mut ada, json!({"type": "auth", "ticket": new, "ref": 1}));
    assert_eq!((&authed["type"], &authed["ref"]), (&json!("authed"), &json!(1)));
    assert!(authed["expiresAt"].is_u64());
    let others = ticket(&rig, "bob", "{}");
    assert_eq!(code(&mut ada, json!({"type": "auth", "ticket": others, "ref": 2})), "unauthorized");
    assert_eq!(code(&mut ada, json!({"type": "auth", "ticket": new, "ref": 3})), "unauthorized");
    assert_eq!(drain(&mut bob), Some(4401));
    let joined = ask(&mut ada, json!({"type": "join", "room": "orders", "ref": 4}));
    assert_eq!(joined["type"], "joined", "its new rights");
    assert_eq!(rig.server.stats().sessions_expired, 1);
}

#[test]
fn anonymous_visitors_cannot_become_somebody() {
    let rig = closed(Server::builder());
    let mut nobody = rig.try_connect("/ws", &[FULL]).unwrap();
    next(&mut nobody);
    next(&mut nobody);
    let ticket = ticket(&rig, "ada", "{}");
    assert_eq!(
        code(&mut nobody, json!({"type": "auth", "ticket": ticket, "ref": 1})),
        "unauthorized"
    );
}

#[test]
fn fewer_rights_put_somebody_out() {
    let rig = closed(Server::builder());
    let (mut ada, _) = sign_in(&rig, "ada", r#"{"a":["join"],"b":["join"]}"#);
    ask(&mut ada, json!({"type": "join", "room": "a", "ref": 1}));
    ask(&mut ada, json!({"type": "join", "room": "b", "ref": 2}));
    let fewer = ticket(&rig, "ada", r#"{"b":["join"]}"#);
    assert_eq!(ask(&mut ada, json!({"type": "auth", "ticket": fewer, "ref": 3}))["type"], "authed");
    let error = next(&mut ada);
    assert_eq!((&error["code"], &error["room"]), (&json!("forbidden"), &json!("a")));
    assert_eq!(next(&mut ada), json!({"type": "left", "room": "a"}));
    assert_eq!(ask(&mut ada, json!({"type": "ping", "ref": 4}))["type"], "pong");
}

#[test]
fn members_kicks_and_bans() {
    let rules = Rules::new([(Pattern::new("club"), Rule { membership: true, ..Rule::default() })]);
    let rig = closed(Server::builder().rules(rules));
    let (mut ada, _) = sign_in(&rig, "ada", "{}");
    let join = json!({"type": "join", "room": "club", "ref": 1});
    assert_eq!(code(&mut ada, join.clone()), "forbidden");
    let set = |rights| rig.block_on(rig.server.set_member("club", "ada", rights)).unwrap();
    set(Some(Rights::JOIN | Rights::SEND));
    assert_eq!(ask(&mut ada, join.clone())["type"], "joined");
    assert_eq!(rig.server.members("club"), [("ada".to_owned(), Rights::JOIN | Rights::SEND)]);

    assert_eq!(rig.server.kick("club", "ada"), 1);
    assert_eq!(next(&mut ada)["code"], "forbidden");
    assert_eq!(next(&mut ada)["type"], "left");
    assert_eq!(ask(&mut ada, join.clone())["type"], "joined", "a kick is no ban");

    let ban = |room, until| rig.block_on(rig.server.ban(room, "ada", until, "spam")).unwrap();
    ban(Some("club"), None);
    assert_eq!(next(&mut ada)["code"], "forbidden");
    assert_eq!(next(&mut ada)["type"], "left");
    assert_eq!(code(&mut ada, join.clone()), "forbidden");
    assert!(rig.block_on(rig.server.lift_ban(Some("club"), "ada")).unwrap());
    assert_eq!(ask(&mut ada, join.clone())["type"], "joined");
    set(None);
    assert_eq!(next(&mut ada)["code"], "forbidden", "no member any more");

    let kept = ticket(&rig, "ada", "{}");
    ban(None, None);
    assert_eq!(drain(&mut ada), Some(4403));
    assert_eq!(rig.refusal(&format!("/ws?ticket={kept}"), &[FULL]).0, 403);
    assert_eq!(rig.server.bans().len(), 1);
}

#[test]
fn sessions_and_bans_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let start = || closed(Server::builder().data(folder.path()));
    let stop = |rig: Rig| rig.block_on(rig.server.shutdown(Duration::from_secs(5)));
    let rig = start();
    let (ada, hello) = sign_in(&rig, "ada", r#"{"orders":["join"]}"#);
    let (eve, evil) = sign_in(&rig, "eve", "{}");
    drop((ada, eve)); // lost
    rig.block_on(rig.server.ban(Some("orders"), "mallory", None, "")).unwrap();
    rig.block_on(rig.server.revoke_user("eve")).unwrap();
    let unused = ticket(&rig, "bob", "{}");
    stop(rig);

    let rig = start();
    let resume = |hello: &Value| {
        let path = format!("/ws?resume={}", hello["resume"].as_str().unwrap());
        let mut socket = rig.try_connect(&path, &[FULL]).unwrap();
        let hello = next(&mut socket);
        (socket, hello)
    };
    let (mut ada, again) = resume(&hello);
    assert_eq!((&again["userId"], &again["resumed"]), (&json!("ada"), &json!(true)));
    let joined = ask(&mut ada, json!({"type": "resume", "rooms": {"orders": {}}, "ref": 1}));
    assert_eq!(joined["type"], "resumed", "{joined}");
    assert!(joined["rooms"]["orders"]["epoch"].is_string(), "with her rights: {joined}");
    let (_, other) = resume(&evil);
    assert_eq!(other["resumed"], false, "revoked");
    assert_eq!(rig.server.bans()[0].user, "mallory");
    rig.connect(&format!("/ws?ticket={unused}"));
    stop(rig);
}

/// `user` for a token `good:user`.
struct Oracle(AtomicUsize);

impl Authenticate for Oracle {
    fn authenticate(&self, token: String, visit: Visit) -> Verdict {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            assert_eq!(visit.ip, Some([127, 0, 0, 1].into()));
            let (kind, user) = token.split_once(':').ok_or(Denied::Unauthorized)?;
            match kind {
                "good" => Ok(Visa {
                    user_id: user.to_owned(),
                    token_id: Some(format!("jti-{user}")),
                    issued: Some(visit_time()),
                    via: Via::Token,
                    ..Visa::default()
                }),
                "old" => Ok(Visa {
                    user_id: user.to_owned(),
                    expires: Some(visit_time() - 1),
                    via: Via::Token,
                    ..Visa::default()
                }),
                "banned" => Err(Denied::Forbidden),
                "later" => Err(Denied::Unavailable),
                _ => Err(Denied::Unauthorized),
            }
        })
    }
}

fn visit_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn tokens_are_looked_at_by_whoever_can() {
    let rig = closed(Server::builder().authenticate(Arc::new(Oracle(AtomicUsize::new(0)))));
    for (path, headers) in [
        ("/ws?token=good:ada", &[FULL][..]),
        ("/ws", &[FULL, ("authorization", "Bearer good:ada")]),
    ] {
        let mut socket = rig.try_connect(path, headers).unwrap();
        assert_eq!(next(&mut socket)["userId"], "ada", "{path}");
    }
    let offered = ("sec-websocket-protocol", "throng.v1, token.good%3Aada");
    assert_eq!(rig.refusal("/ws", &[offered]).0, 401, "a subprotocol is not decoded");
    for (token, status) in
        [("bad", 401), ("bad:x", 401), ("old:x", 401), ("banned:x", 403), ("later:x", 503)]
    {
        assert_eq!(rig.refusal(&format!("/ws?token={token}"), &[FULL]).0, status, "{token}");
    }
    rig.block_on(rig.server.revoke_token("jti-bob", visit_time() + 60_000)).unwrap();
    assert_eq!(rig.refusal("/ws?token=good:bob", &[FULL]).0, 401, "revoked by its id");
    rig.block_on(rig.server.revoke_user("ada")).unwrap();
    let none = closed(Server::builder());
    assert_eq!(none.refusal("/ws?token=good:ada", &[FULL]).0, 401, "nobody looks at tokens there");
}

#[test]
fn whoever_sends_by_http_has_the_rights_of_the_session() {
    let rig = closed(Server::builder());
    let (_ada, hello) = sign_in(&rig, "ada", r#"{"orders":["send:note"]}"#);
    rig.block_on(async {
        let session = rig.server.session(hello["resume"].as_str().unwrap()).await.unwrap().unwrap();
        let send = |room, text: &'static str| {
            rig.server.publish_as(&session, Target::Room(room), 0, text.as_bytes())
        };
        assert!(send("orders", r#"{"type":"note"}"#).await.is_ok());
        let code = send("orders", r#"{"type":"chat"}"#).await.unwrap_err().code;
        assert_eq!(code, Code::Forbidden);
        assert_eq!(send("other", r#"{"type":"note"}"#).await.unwrap_err().code, Code::Forbidden);
    });
}
