//! Sessions over real sockets: connecting, coming back, ending.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use support::script::Peer;
use support::{Nobody, Server};
use throng_client::{
    CloseReason, JoinOptions, RoomEvent, Session, SessionBuilder, SessionError, Status,
};

/// As soon as possible, so that no test waits.
const SOON: Duration = Duration::from_millis(20);

fn session(server: &Server) -> SessionBuilder {
    Session::builder(&server.url()).backoff(SOON, SOON)
}

#[tokio::test]
async fn messages_go_out_and_come_in() {
    let server = Server::new(1, |_, stream| {
        let mut peer = Peer::greet(stream, false);
        assert_eq!(peer.uri, "/?name=Ada+L.");
        let join = peer.let_in(4);
        assert_eq!(join["room"], "chat:1");
        assert_eq!(join["presence"], true);
        peer.chat("chat:1", 5);
        let chat = peer.expect("chat");
        assert_eq!(chat["text"], "hi");
        peer.ack(&chat, 6);
        let direct = peer.expect("note");
        assert_eq!((&direct["to"], &direct["room"]), (&json!("bob"), &json!(null)));
        peer.send(&json!({"type": "error", "ref": direct["ref"], "code": "forbidden",
            "message": "No.", "temporary": false}));
        peer.chat("@ada", 1);
        let leave = peer.expect("leave");
        peer.send(&json!({"type": "left", "ref": leave["ref"], "room": "chat:1"}));
        assert_eq!(peer.closed(), Some(1000));
    });
    let session = session(&server).name("Ada L.").connect().unwrap();
    assert_eq!(session.online().await.unwrap().user_id, "ada");
    let mut me = session.me().await.unwrap();
    let mut room = session.join("chat:1", JoinOptions::default().presence(true)).await.unwrap();
    assert!(matches!(room.next().await, Some(RoomEvent::Joined(joined)) if joined.recovered));
    let message = room.next_message().await.unwrap();
    assert_eq!((&*message.from, message.seq), ("bob", Some(5)));
    assert_eq!(room.position().unwrap().seq, 5);
    let sent = room.send(&json!({"type": "chat", "text": "hi"})).await.unwrap();
    assert_eq!((sent.seq, sent.timestamp.0, sent.duplicate), (Some(6), 7, false));
    let error = session.direct("bob").unwrap().send(&json!({"type": "note"})).await.unwrap_err();
    assert!(matches!(error, SessionError::Refused(refusal) if refusal.message == "No."));
    assert_eq!(me.next_message().await.unwrap().seq, Some(1));
    let publisher = room.publisher();
    room.leave().await;
    let error = publisher.send(&json!({"type": "chat"})).await.unwrap_err();
    assert_eq!(error, SessionError::Left);
    session.close().await;
    assert_eq!(session.status(), Status::Closed(CloseReason::Ours));
    let closed = SessionError::Closed(CloseReason::Ours);
    assert_eq!(session.join("x", JoinOptions::default()).await.unwrap_err(), closed);
    assert!(matches!(me.next().await, Some(RoomEvent::Ended(error)) if error == closed));
    assert_eq!(me.next().await, None);
    server.done().await;
}

#[tokio::test]
async fn each_attempt_goes_to_the_next_address() {
    let first = Server::new(2, |number, stream| match number {
        0 => {
            let mut peer = Peer::greet(stream, false);
            peer.let_in(0);
            peer.reconnect_and_chat(50, "a", 1);
            while peer.receive().is_some() {}
        }
        _ => {
            let mut peer = Peer::greet(stream, true);
            peer.let_back_in(3);
            peer.chat("a", 3);
            assert_eq!(peer.closed(), Some(1000));
        }
    });
    let second = Server::new(1, |_, stream| {
        let mut peer = Peer::greet(stream, true);
        assert_eq!(peer.credential.as_deref(), Some("resume.token"));
        peer.let_back_in(2);
        peer.chat("a", 2);
        peer.close(1012);
    });
    let nobody = Nobody::new();
    let nowhere = format!("ws://{}/", nobody.addr);
    let session = session(&first).urls([second.url(), nowhere]).connect().unwrap();
    let mut room = session.join("a", JoinOptions::default()).await.unwrap();
    for seq in 1..=3 {
        assert_eq!(room.next_message().await.unwrap().seq, Some(seq));
    }
    session.close().await;
    first.done().await;
    second.done().await;
    let wrong = Session::builder("ws://127.0.0.1:1/").urls(["mailto:somebody"]).connect();
    assert!(wrong.is_err());
}

#[tokio::test]
async fn a_broken_connection_is_resumed() {
    let server = Server::new(3, |number, mut stream| match number {
        0 => {
            let mut peer = Peer::greet(stream, false);
            peer.let_in(0);
            peer.chat("a", 1);
            // Published, but the answer never leaves.
            peer.expect("chat");
        }
        1 => {
            // A proxy that has lost its server.
            support::Request::read(&mut stream);
            stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
        _ => {
            let mut peer = Peer::greet(stream, true);
            assert_eq!((&*peer.uri, peer.credential.as_deref()), ("/", Some("resume.token")));
            let resume = peer.let_back_in(3);
            assert_eq!(resume["rooms"]["a"], json!({"epoch": "e", "seq": 1}));
            assert_eq!(resume["rooms"]["@ada"], json!({"epoch": "e", "seq": 0}));
            peer.chat("a", 2);
            peer.chat("a", 3);
            let chat = peer.expect("chat");
            peer.send(&json!({"type": "ack", "ref": chat["ref"], "room": "a", "seq": 2,
                "timestamp": 1, "duplicate": true}));
            assert_eq!(peer.closed(), Some(1000));
        }
    });
    let session = session(&server).connect().unwrap();
    let mut watch = session.watch();
    let mut room = session.join("a", JoinOptions::default()).await.unwrap();
    let sent = room.send(&json!({"type": "chat", "n": 1})).await.unwrap();
    assert_eq!((sent.seq, sent.duplicate), (Some(2), true));
    for seq in 1..=3 {
        assert_eq!(room.next_message().await.unwrap().seq, Some(seq));
    }
    // The statuses between may have passed unseen.
    while !matches!(watch.get(), Status::Online(identity) if identity.resumed) {
        watch.changed().await.unwrap();
    }
    // Without handles it closes by itself.
    drop((session, room));
    server.done().await;
    while !matches!(watch.changed().await, Some(Status::Closed(CloseReason::Ours)) | None) {}
}

#[tokio::test]
async fn a_session_taken_over_elsewhere_stays_closed() {
    let server = Server::new(1, |_, stream| {
        let mut peer = Peer::greet(stream, false);
        peer.let_in(0);
        peer.close(4409);
    });
    let session = session(&server).connect().unwrap();
    let mut room = session.join("a", JoinOptions::default()).await.unwrap();
    let reason = CloseReason::Code { code: 4409, reason: "because".to_owned() };
    loop {
        match room.next().await.unwrap() {
            RoomEvent::Joined(_) => {}
            event => {
                assert_eq!(event, RoomEvent::Ended(SessionError::Closed(reason.clone())));
                break;
            }
        }
    }
    assert_eq!(room.next().await, None);
    assert_eq!(session.online().await, Err(SessionError::Closed(reason.clone())));
    session.close().await;
    assert_eq!(session.status(), Status::Closed(reason));
    server.done().await;
}

#[tokio::test]
async fn an_answer_that_cannot_get_better_is_final() {
    let server =
        Server::answering(|_| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into());
    let session = session(&server).connect().unwrap();
    let error = SessionError::Closed(CloseReason::Status(404));
    assert_eq!(session.online().await, Err(error.clone()));
    assert_eq!(session.me().await.unwrap_err(), error);
    server.done().await;
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_final() {
    let client = throng_client::Client::new("ws://127.0.0.1:1/").unwrap().proxy("nonsense");
    let session = client.session().connect().unwrap();
    let Err(SessionError::Closed(CloseReason::Settings(_))) = session.online().await else {
        panic!("{session:?}")
    };
    assert!(Session::builder("nonsense").connect().is_err());
}

#[tokio::test]
async fn tickets_are_fetched_for_new_sessions_only() {
    let server = Server::new(4, |number, mut stream| match number {
        0 => {
            let peer = Peer::greet(stream, false);
            assert_eq!((&*peer.uri, peer.credential.as_deref()), ("/", Some("ticket.T1")));
        }
        1 => {
            let peer = Peer::greet(stream, true);
            assert_eq!((&*peer.uri, peer.credential.as_deref()), ("/", Some("resume.token")));
            peer.close(4401);
        }
        2 => {
            let request = support::Request::read(&mut stream);
            assert_eq!(request.line, "GET / HTTP/1.1", "nothing for an access log");
            assert_eq!(request.field("sec-websocket-protocol"), Some("throng.v1, ticket.T2"));
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
        _ => {
            let mut peer = Peer::greet(stream, false);
            assert_eq!(peer.credential.as_deref(), Some("ticket.T4"));
            peer.let_in(0);
            assert_eq!(peer.closed(), Some(1000));
        }
    });
    let count = Arc::new(AtomicU32::new(0));
    let session = session(&server)
        .ticket(move || {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            // The third time there is none.
            async move { if number == 3 { Err(()) } else { Ok(format!("T{number}")) } }
        })
        .connect()
        .unwrap();
    session.join("a", JoinOptions::default()).await.unwrap();
    session.close().await;
    server.done().await;
}

#[tokio::test]
async fn a_token_is_shown_until_it_is_refused() {
    let server = Server::new(3, |number, mut stream| match number {
        0 => {
            let peer = Peer::greet(stream, false);
            assert_eq!((&*peer.uri, peer.credential.as_deref()), ("/", Some("token.ey.J.w-_")));
        }
        1 => {
            let peer = Peer::greet(stream, true);
            assert_eq!(peer.credential.as_deref(), Some("resume.token"));
            peer.close(4401);
        }
        _ => {
            let request = support::Request::read(&mut stream);
            assert_eq!(request.field("sec-websocket-protocol"), Some("throng.v1, token.ey.J.w-_"));
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    let session = session(&server).token("ey.J.w-_").connect().unwrap();
    let mut watch = session.watch();
    while let Some(status) = watch.changed().await {
        if let Status::Closed(reason) = status {
            assert_eq!(reason, CloseReason::Status(401));
        }
    }
    server.done().await;
}

#[tokio::test]
async fn what_is_no_subprotocol_is_shown_elsewhere() {
    let server = Server::new(2, |number, mut stream| {
        let request = support::Request::read(&mut stream);
        assert_eq!(request.field("sec-websocket-protocol"), Some("throng.v1"));
        if number == 0 {
            let long = request.field("authorization").and_then(|it| it.strip_prefix("Bearer "));
            assert_eq!(long, Some(&*"j".repeat(4000)));
        } else {
            assert_eq!(request.line, "GET /?ticket=a%26b+%2C HTTP/1.1");
        }
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let refused = Err(SessionError::Closed(CloseReason::Status(403)));
    let one = session(&server).token("j".repeat(4000)).connect().unwrap();
    assert_eq!(one.online().await, refused);
    let ticket = || async { Ok::<_, Infallible>("a&b ,".to_owned()) };
    let other = session(&server).ticket(ticket).connect().unwrap();
    assert_eq!(other.online().await, refused);
    server.done().await;
}

#[tokio::test]
async fn a_session_is_renewed_in_place() {
    let server = Server::new(2, |number, stream| {
        if number == 1 {
            assert_eq!(Peer::greet(stream, true).closed(), Some(1000));
            return;
        }
        let mut peer = Peer::accept(stream);
        peer.send(&json!({"type": "connected", "userId": "ada", "sessionId": "s", "userCount": 1,
            "resume": "token", "timestamp": 1, "heartbeat": 25_000, "expiresAt": 5000}));
        for answer in [json!({"expiresAt": 9000}), json!({})] {
            let auth = peer.expect("auth");
            assert_eq!(auth["ticket"], "T2");
            let mut authed = json!({"type": "authed", "ref": auth["ref"]});
            authed.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
            peer.send(&authed);
        }
        let auth = peer.expect("auth");
        peer.send(&json!({"type": "error", "ref": auth["ref"], "code": "unauthorized",
            "message": "No.", "temporary": false}));
        // The connection breaks before the answer to another one.
        peer.expect("auth");
    });
    let session = session(&server).connect().unwrap();
    let identity = session.online().await.unwrap();
    assert_eq!(identity.expires_at.map(|at| at.0), Some(5000));
    let expires = session.authenticate("T2").await.unwrap();
    assert_eq!(expires.map(|at| at.0), Some(9000));
    assert_eq!(session.authenticate("T2").await, Ok(None));
    let error = session.authenticate("T3").await.unwrap_err();
    assert!(matches!(error, SessionError::Refused(refusal) if refusal.code == "unauthorized"));
    assert_eq!(session.authenticate("T4").await, Err(SessionError::Offline));
    let mut watch = session.watch();
    while !matches!(watch.get(), Status::Online(identity) if identity.resumed) {
        watch.changed().await.unwrap();
    }
    session.close().await;
    let closed = Err(SessionError::Closed(CloseReason::Ours));
    assert_eq!(session.authenticate("T5").await, closed);
    server.done().await;
}

#[tokio::test]
async fn what_is_too_fast_is_sent_again() {
    let server = Server::new(1, |_, stream| {
        let mut peer = Peer::greet(stream, false);
        peer.let_in(0);
        let first = peer.expect("chat");
        peer.send(&json!({"type": "error", "ref": first["ref"], "room": "a",
            "code": "rate_limited", "message": "", "temporary": true, "retryAfter": 30}));
        let again = peer.expect("chat");
        assert_eq!(again["text"], first["text"]);
        assert_ne!(again["ref"], first["ref"]);
        peer.ack(&again, 1);
        assert_eq!(peer.closed(), Some(1000));
    });
    let session = session(&server).connect().unwrap();
    let room = session.join("a", JoinOptions::default()).await.unwrap();
    let started = std::time::Instant::now();
    let sent = room.send(&json!({"type": "chat", "text": "hi"})).await.unwrap();
    assert_eq!(sent.seq, Some(1));
    assert!(started.elapsed() >= Duration::from_millis(30), "not before it may");
    session.close().await;
    server.done().await;
}

#[tokio::test]
async fn debug_output_tells_no_secrets() {
    let server = Server::new(1, |_, stream| {
        assert_eq!(Peer::greet(stream, false).closed(), Some(1000));
    });
    let builder = Session::builder(&format!("{}?ticket=hunter2", server.url())).token("hunter2");
    let text = format!("{builder:?}");
    assert!(text.contains("?…") && !text.contains("hunter2"), "{text}");
    let session = builder.connect().unwrap();
    session.online().await.unwrap();
    let text = format!("{session:?}");
    assert!(text.contains("ada") && !text.contains("token"), "{text}");
    session.close().await;
    server.done().await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let (silent, may_end) = std::sync::mpsc::channel::<()>();
    let may_end = std::sync::Mutex::new(may_end);
    let server = Server::new(2, move |number, stream| {
        if number == 0 {
            let mut peer = Peer::accept(stream);
            peer.connected(false, 50);
            // Says no more, but stays open: the client gives up first.
            assert_eq!(peer.closed(), None);
            may_end.lock().unwrap().recv().unwrap();
        } else {
            assert_eq!(Peer::greet(stream, true).closed(), Some(1000));
        }
    });
    let session = session(&server).connect().unwrap();
    silent.send(()).unwrap();
    let mut watch = session.watch();
    while !matches!(watch.get(), Status::Online(identity) if identity.resumed) {
        watch.changed().await.unwrap();
    }
    session.close().await;
    server.done().await;
}

#[tokio::test]
async fn a_join_that_nobody_waits_for_is_taken_back() {
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let asked = std::sync::Mutex::new(Some(asked));
    let (given_up, may_answer) = std::sync::mpsc::channel();
    let may_answer = std::sync::Mutex::new(may_answer);
    let server = Server::new(1, move |_, stream| {
        let mut peer = Peer::greet(stream, false);
        let join = peer.expect("join");
        asked.lock().unwrap().take().unwrap().send(()).unwrap();
        may_answer.lock().unwrap().recv().unwrap();
        peer.send(&json!({"type": "joined", "ref": join["ref"], "room": "a", "epoch": "e",
            "seq": 0, "recovered": true, "userCount": 1}));
        assert_eq!(peer.expect("leave")["room"], "a");
        peer.close(4403);
    });
    let session = session(&server).connect().unwrap();
    tokio::select! {
        room = session.join("a", JoinOptions::default()) => panic!("{room:?}"),
        asked = was_asked => asked.unwrap(),
    }
    given_up.send(()).unwrap();
    let mut watch = session.watch();
    while !matches!(watch.changed().await.unwrap(), Status::Closed(_)) {}
    server.done().await;
}

#[tokio::test]
async fn the_end_of_the_runtime_is_no_riddle() {
    let server = Server::new(1, |_, stream| {
        let mut peer = Peer::greet(stream, false);
        peer.let_in(0);
        peer.closed();
    });
    let builder = session(&server);
    let (session, mut room) = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = builder.connect().unwrap();
            let room = session.join("a", JoinOptions::default()).await.unwrap();
            (session, room)
        })
    })
    .await
    .unwrap();
    while let Some(event) = room.next().await {
        assert!(matches!(event, RoomEvent::Joined(_)), "{event:?}");
    }
    let error = room.send(&json!({"type": "chat"})).await.unwrap_err();
    assert_eq!(error, SessionError::Closed(CloseReason::Gone));
    session.close().await;
    server.done().await;
}

/// What the builder takes.
#[test]
fn tickets_may_come_from_anywhere() {
    let _ = Session::builder("ws://h/").ticket(|| async { Ok::<_, Infallible>("T".to_owned()) });
}
