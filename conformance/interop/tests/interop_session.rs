//! Our sessions talk to throng, through a network that breaks.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::serve::ListenerExt as _;
use futures_util::future::join_all;
use throng::{Access, Endpoint, Server};
use throng_client::{
    HistoryQuery, JoinOptions, Room, RoomEvent, RoomMessage, Session, SessionBuilder,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// throng in this process, with rooms.
async fn throng() -> u16 {
    let server = Server::builder().workers(2).access(Access::open());
    let server = server.endpoint("/ws", Endpoint::rooms("lobby")).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, server.routes::<()>()).await });
    port
}

/// A way to a server that can be cut.
struct Way {
    port: u16,
    cut: Arc<Notify>,
    cuts: Arc<AtomicUsize>,
}

impl Way {
    /// Every connection breaks when the server has said so many bytes; what has been read from
    /// either side and not passed on is lost.
    async fn to(server: u16, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, cuts) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let way = Self { port, cut: Arc::clone(&cut), cuts: Arc::clone(&cuts) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (cut, cuts) = (Arc::clone(&cut), Arc::clone(&cuts));
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, server, bytes) => {}
                        () = cut.notified() => {}
                    }
                    cuts.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        way
    }

    fn cut(&self) {
        self.cut.notify_waiters();
    }

    fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, mut left: usize) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let back = async {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = from_server.read(&mut buffer).await {
            let len = len.min(left);
            left -= len;
            if to_client.write_all(&buffer[..len]).await.is_err() || left == 0 {
                break;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = back => {}
    }
}

fn session(port: u16) -> SessionBuilder {
    let soon = Duration::from_millis(2);
    Session::builder(&format!("ws://127.0.0.1:{port}/ws")).backoff(soon, soon)
}

fn chat(text: impl ToString) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("type", "chat".to_owned()), ("text", text.to_string())])
}

fn has_text(message: &RoomMessage, text: impl ToString) -> bool {
    message.json.contains(&format!(r#""text":"{}""#, text.to_string()))
}

/// Reads until the room has been resumed.
async fn resumed(room: &mut Room) {
    while !matches!(room.next().await.unwrap(), RoomEvent::Joined(_)) {}
}

fn ids(room: &Room) -> Vec<String> {
    room.users().unwrap().map(|user| user.id.clone()).collect()
}

#[tokio::test]
async fn messages_arrive_once_and_in_order_whatever_breaks() {
    const COUNT: u64 = 1000;
    let server = throng().await;
    let way = Way::to(server, 9000).await;
    let (ada, bob) = (session(way.port).connect().unwrap(), session(server).connect().unwrap());
    let mut to = ada.join("chat:1", JoinOptions::default()).await.unwrap();
    let mut from = bob.join("chat:1", JoinOptions::default()).await.unwrap();

    let publisher = to.publisher();
    let sending = tokio::spawn(async move {
        let sends = (1..=COUNT).map(|n| {
            let publisher = publisher.clone();
            async move { publisher.send(&chat(n)).await.unwrap().seq }
        });
        join_all(sends).await
    });
    // The one whose connection breaks sees the same as the other one.
    for room in [&mut to, &mut from] {
        for n in 1..=COUNT {
            let message = loop {
                match room.next().await.unwrap() {
                    RoomEvent::Message(message) => break message,
                    RoomEvent::Lost(position) => panic!("lost up to {position:?} at {n}"),
                    _ => {}
                }
            };
            assert_eq!(message.seq, Some(n));
            assert!(has_text(&message, n), "{message:?} instead of {n}");
        }
    }
    assert_eq!(sending.await.unwrap(), (1..=COUNT).map(Some).collect::<Vec<_>>());
    assert!(way.cuts() > 10, "only {} connections", way.cuts());
    ada.close().await;
    bob.close().await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_from_the_history() {
    let server = throng().await;
    let slow = session(server).buffer(8 << 10).connect().unwrap();
    let mut room = slow.join("a", JoinOptions::default()).await.unwrap();
    let fast = session(server).connect().unwrap();
    let other = fast.join("a", JoinOptions::default()).await.unwrap();
    join_all((1..=900).map(|n| {
        let publisher = other.publisher();
        async move { publisher.send(&chat(n)).await.unwrap() }
    }))
    .await;
    // Its own answers are not behind what it has not read.
    assert_eq!(room.send(&chat("last")).await.unwrap().seq, Some(901));
    for n in 1..=901 {
        assert_eq!(room.next_message().await.unwrap().seq, Some(n));
    }
}

#[tokio::test]
async fn the_list_of_users_is_exact_after_a_break() {
    let server = throng().await;
    let way = Way::to(server, usize::MAX).await;
    let ada = session(way.port).name("Ada").connect().unwrap();
    let bob = session(server).connect().unwrap();
    let ada_id = ada.online().await.unwrap().user_id.clone();
    let bob_id = bob.online().await.unwrap().user_id.clone();
    let options = || JoinOptions::default().presence(true);
    let bobs = bob.join("a", options()).await.unwrap();
    let mut room = ada.join("a", options()).await.unwrap();
    resumed(&mut room).await;
    let mut both = [ada_id.clone(), bob_id];
    both.sort();
    assert_eq!(ids(&room), both);
    let me = room.users().unwrap().find(|user| user.id == ada_id).unwrap();
    assert!(me.info.as_deref().unwrap().contains("Ada"));

    way.cut();
    bobs.leave().await;
    let cyd = session(server).connect().unwrap();
    let cyd_id = cyd.online().await.unwrap().user_id.clone();
    let _room = cyd.join("a", options()).await.unwrap();
    let mut now = vec![ada_id, cyd_id];
    now.sort();
    while ids(&room) != now {
        room.next().await.unwrap();
    }
    assert_eq!(room.user_count(), 2);
}

#[tokio::test]
async fn direct_messages_arrive_after_a_break() {
    let server = throng().await;
    let way = Way::to(server, usize::MAX).await;
    let (ada, bob) = (session(way.port).connect().unwrap(), session(server).connect().unwrap());
    let mut me = ada.me().await.unwrap();
    let id = ada.online().await.unwrap().user_id.clone();
    let to_ada = bob.direct(&id).unwrap();
    for n in 1..=20 {
        way.cut();
        to_ada.send(&chat(n)).await.unwrap();
        let message = me.next_message().await.unwrap();
        assert!(has_text(&message, n) && message.seq == Some(n), "{message:?}");
        assert_eq!(message.from, bob.online().await.unwrap().user_id);
    }
}

#[tokio::test]
async fn the_past_of_a_room() {
    let server = throng().await;
    let session = session(server).connect().unwrap();
    let first = session.join("a", JoinOptions::default().echo(false)).await.unwrap();
    for n in 1..=30 {
        first.send(&chat(n)).await.unwrap();
    }
    let page = first.history(HistoryQuery::before(21).limit(10)).await.unwrap();
    let seqs: Vec<_> = page.messages.iter().filter_map(|message| message.seq).collect();
    assert_eq!((seqs, page.more), ((11..=20).collect(), true));
    first.leave().await;

    let mut room = session.join("a", JoinOptions::default().rewind(5)).await.unwrap();
    for n in 26..=28 {
        assert_eq!(room.next_message().await.unwrap().seq, Some(n));
    }
    let position = room.position().unwrap().clone();
    room.leave().await;
    let mut room = session.join("a", JoinOptions::default().since(position)).await.unwrap();
    for n in 29..=30 {
        assert_eq!(room.next_message().await.unwrap().seq, Some(n));
    }
}

#[tokio::test]
async fn own_messages_that_do_not_come_back_are_no_holes() {
    let server = throng().await;
    let way = Way::to(server, 4000).await;
    let (ada, bob) = (session(way.port).connect().unwrap(), session(server).connect().unwrap());
    let mut to = ada.join("a", JoinOptions::default().echo(false)).await.unwrap();
    let from = bob.join("a", JoinOptions::default()).await.unwrap();
    let (mut seen, mut own) = (Vec::new(), 0);
    for n in 0..200 {
        let (ours, theirs) = (chat("ada"), chat(n));
        let (ours, theirs) = tokio::join!(to.send(&ours), from.send(&theirs));
        ours.unwrap();
        theirs.unwrap();
    }
    while seen.len() < 200 {
        match to.next().await.unwrap() {
            RoomEvent::Message(message) if has_text(&message, "ada") => own += 1,
            RoomEvent::Message(message) => seen.push(message.seq),
            RoomEvent::Lost(position) => panic!("{position:?}"),
            _ => {}
        }
    }
    assert!(seen.is_sorted());
    // One was under way at each break: until its answer is repeated, nobody knows whose it is.
    assert!(own <= way.cuts(), "{own} own messages after {} breaks", way.cuts());
    assert!(way.cuts() > 2, "only {} connections", way.cuts());
}
