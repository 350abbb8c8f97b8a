//! Rooms over real sockets: slow readers, history, presence, many messages.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::Server;
use support::script::Peer;
use throng_client::{HistoryQuery, JoinOptions, RoomEvent, Session, SessionError, User};

const SOON: Duration = Duration::from_millis(20);

fn message(room: &str, seq: u64) -> Value {
    json!({"type": "chat", "room": room, "from": "bob", "seq": seq, "timestamp": 1,
        "text": "x".repeat(500)})
}

/// Serves the room's history, which has `count` messages, until the client closes.
fn serve(peer: &mut Peer, count: u64) -> u32 {
    let mut pages = 0;
    while let Some(command) = peer.receive() {
        match command["type"].as_str().unwrap() {
            "history" => {
                pages += 1;
                assert_eq!(command["epoch"], "e");
                let after = command["after"].as_u64().unwrap();
                let last = count.min(after + command["limit"].as_u64().unwrap());
                let messages: Vec<_> = (after + 1..=last).map(|seq| message("a", seq)).collect();
                peer.send(&json!({"type": "history", "ref": command["ref"], "room": "a",
                    "epoch": "e", "messages": messages, "more": last < count}));
            }
            _ => peer.ack(&command, 1),
        }
    }
    pages
}

#[tokio::test]
async fn a_slow_reader_misses_nothing_and_holds_up_nobody() {
    const COUNT: u64 = 5000;
    let server = Server::new(1, |_, stream| {
        let mut peer = Peer::greet(stream, false);
        peer.let_in(0);
        for seq in 1..=COUNT {
            peer.send(&message("a", seq));
        }
        let pages = serve(&mut peer, COUNT);
        assert!(pages >= 10, "{pages}: it did not fit into the buffer");
    });
    let session = Session::builder(&server.url()).buffer(64 << 10).connect().unwrap();
    let mut room = session.join("a", JoinOptions::default()).await.unwrap();
    // The answer comes behind all messages, while nobody reads them.
    let friend = session.direct("friend").unwrap();
    friend.send(&json!({"type": "chat"})).await.unwrap();
    for seq in 1..=COUNT {
        assert_eq!(room.next_message().await.unwrap().seq, Some(seq));
    }
    session.close().await;
    server.done().await;
}

#[tokio::test]
async fn a_hole_is_filled_from_the_history() {
    let server = Server::new(1, |_, stream| {
        let mut peer = Peer::greet(stream, false);
        peer.let_in(0);
        for seq in [1, 2, 5, 6] {
            peer.send(&message("a", seq));
        }
        let history = peer.expect("history");
        assert_eq!((&history["after"], &history["epoch"]), (&json!(2), &json!("e")));
        // 3 is gone.
        let messages: Vec<_> = (4..=6).map(|seq| message("a", seq)).collect();
        peer.send(&json!({"type": "history", "ref": history["ref"], "room": "a", "epoch": "e",
            "messages": messages, "more": false}));
        peer.send(&message("a", 7));
        assert_eq!(peer.closed(), Some(1000));
    });
    let session = Session::builder(&server.url()).connect().unwrap();
    let mut room = session.join("a", JoinOptions::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&7) {
        match room.next().await.unwrap() {
            RoomEvent::Message(message) => seen.push(message.seq.unwrap()),
            RoomEvent::Lost(position) => {
                assert_eq!((&*seen, position.seq), (&[1, 2][..], 3));
            }
            event => assert!(matches!(event, RoomEvent::Joined(_)), "{event:?}"),
        }
    }
    assert_eq!(seen, [1, 2, 4, 5, 6, 7]);
    session.close().await;
    server.done().await;
}

#[tokio::test]
async fn the_past_can_be_asked_for() {
    let server = Server::new(1, |_, stream| {
        let mut peer = Peer::greet(stream, false);
        let join = peer.let_in(9);
        assert_eq!((&join["rewind"], &join["echo"]), (&json!(3), &json!(false)));
        for seq in 7..=9 {
            peer.send(&message("a", seq));
        }
        let history = peer.expect("history");
        assert_eq!((&history["before"], &history["limit"]), (&json!(7), &json!(2)));
        peer.send(&json!({"type": "history", "ref": history["ref"], "room": "a", "epoch": "e",
            "messages": [message("a", 5), message("a", 6)], "more": true}));
        let history = peer.expect("history");
        peer.send(&json!({"type": "error", "ref": history["ref"], "code": "forbidden",
            "message": "", "temporary": false}));
        assert_eq!(peer.closed(), Some(1000));
    });
    let session = Session::builder(&server.url()).connect().unwrap();
    let options = JoinOptions::default().rewind(3).echo(false);
    let mut room = session.join("a", options).await.unwrap();
    for seq in 7..=9 {
        assert_eq!(room.next_message().await.unwrap().seq, Some(seq));
    }
    let page = room.history(HistoryQuery::before(7).limit(2)).await.unwrap();
    assert!(page.more && page.epoch == "e");
    assert_eq!(
        page.messages.iter().map(|message| message.seq).collect::<Vec<_>>(),
        [Some(5), Some(6)]
    );
    let error = room.history(HistoryQuery::newest()).await.unwrap_err();
    assert!(matches!(error, SessionError::Refused(_)));
    session.close().await;
    server.done().await;
}

#[tokio::test]
async fn the_list_of_users_is_exact_after_a_resume() {
    let passage = |kind: &str, user: &str, count: u64, seq: u64| {
        json!({"type": kind, "room": "a", "userId": user, "userCount": count,
            "presenceSeq": seq, "timestamp": 1})
    };
    let server = Server::new(2, move |number, stream| {
        if number == 0 {
            let mut peer = Peer::greet(stream, false);
            let join = peer.expect("join");
            peer.send(&json!({"type": "joined", "ref": join["ref"], "room": "a", "epoch": "e",
                "seq": 0, "recovered": true, "userCount": 2, "presenceSeq": 4,
                "users": [{"userId": "ada", "info": {"name": "Ada"}}, {"userId": "bob"}]}));
            // The first is older than the list.
            peer.send(&passage("user_left", "ada", 1, 4));
            peer.send(&passage("user_joined", "cyd", 3, 5));
            peer.send(&passage("user_left", "bob", 2, 6));
            peer.expect("ping");
        } else {
            let mut peer = Peer::greet(stream, true);
            let resume = peer.expect("resume");
            assert_eq!(resume["rooms"]["a"]["presenceSeq"], 6);
            peer.send(&json!({"type": "resumed", "ref": resume["ref"], "rooms": {
                "a": {"recovered": true, "epoch": "e", "seq": 0, "userCount": 1,
                    "presenceSeq": 8},
                "@ada": {"recovered": true, "epoch": "e", "seq": 0, "userCount": 1}}}));
            // Comes before the list, which has it already.
            peer.send(&passage("user_joined", "dan", 2, 7));
            peer.send(&json!({"type": "presence", "room": "a", "userCount": 1,
                "presenceSeq": 8, "users": [{"userId": "dan"}]}));
            assert_eq!(peer.closed(), Some(1000));
        }
    });
    let session = Session::builder(&server.url()).backoff(SOON, SOON).connect().unwrap();
    let mut room = session.join("a", JoinOptions::default().presence(true)).await.unwrap();
    let ids = |room: &throng_client::Room| -> Vec<String> {
        room.users().into_iter().flatten().map(|user: &User| user.id.clone()).collect()
    };
    room.next().await.unwrap();
    assert_eq!(ids(&room), ["ada", "bob"]);
    let ada = room.users().unwrap().next().unwrap();
    assert_eq!(ada.info.as_deref(), Some(r#"{"name":"Ada"}"#));
    room.next().await.unwrap();
    assert_eq!(ids(&room), ["ada", "bob", "cyd"]);
    room.next().await.unwrap();
    assert_eq!((ids(&room), room.user_count()), (vec!["ada".to_owned(), "cyd".to_owned()], 2));
    assert_eq!(session.ping().await, Err(SessionError::Offline));
    assert!(matches!(room.next().await, Some(RoomEvent::Joined(_))));
    assert!(matches!(room.next().await, Some(RoomEvent::Presence { .. })));
    assert_eq!((ids(&room), room.user_count()), (vec!["dan".to_owned()], 1));
    session.close().await;
    server.done().await;
}

#[tokio::test]
async fn thousands_of_messages_survive_a_connection_that_breaks_all_the_time() {
    const COUNT: u64 = 2000;
    // The room: what the server has published, by `ref`.
    let published = std::sync::Mutex::new(Vec::<(u64, u64)>::new());
    let server = Server::new(41, move |number, stream| {
        let mut peer = Peer::greet(stream, number > 0);
        let mut published = published.lock().unwrap();
        let seq = published.len() as u64;
        let mut seen = 0;
        if number == 0 {
            peer.let_in(0);
        } else {
            let resume = peer.let_back_in(seq);
            seen = resume["rooms"]["a"]["seq"].as_u64().unwrap();
        }
        for seq in seen + 1..=seq {
            peer.send(&message("a", seq));
        }
        let mut left = if number == 40 { usize::MAX } else { 37 };
        while left > 0
            && let Some(command) = peer.receive()
        {
            left -= 1;
            let reference = command["ref"].as_u64().unwrap();
            let known = published.iter().position(|(it, _)| *it == reference);
            let seq = known.map_or_else(
                || {
                    let n = command["n"].as_u64().unwrap();
                    assert_eq!(n, published.len() as u64, "out of order");
                    published.push((reference, n));
                    published.len() as u64
                },
                |place| place as u64 + 1,
            );
            // The last of a connection are published, and nobody is told.
            if left > 10 {
                peer.send(&json!({"type": "ack", "ref": reference, "room": "a", "seq": seq,
                    "timestamp": 1, "duplicate": known.is_some()}));
                if known.is_none() {
                    peer.send(&message("a", seq));
                }
            }
        }
        if number == 40 {
            assert_eq!(published.len() as u64, COUNT);
        }
    });
    let session = Session::builder(&server.url())
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .outbox(COUNT as usize, 1 << 20)
        .connect()
        .unwrap();
    let mut room = session.join("a", JoinOptions::default()).await.unwrap();
    let publisher = room.publisher();
    let sending = tokio::spawn(async move {
        let sends = (0..COUNT).map(|n| {
            let publisher = publisher.clone();
            async move { publisher.send(&json!({"type": "chat", "n": n})).await.unwrap().seq }
        });
        futures_util::future::join_all(sends).await
    });
    for seq in 1..=COUNT {
        assert_eq!(room.next_message().await.unwrap().seq, Some(seq));
    }
    let seqs = sending.await.unwrap();
    assert_eq!(seqs, (1..=COUNT).map(Some).collect::<Vec<_>>());
    session.close().await;
    server.done().await;
}
