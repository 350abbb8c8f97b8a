//! Neither side is sent more than it takes.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use support::by_hand;
use throng_client::{Client, CloseCode, Error, Message};

#[tokio::test]
async fn sending_waits_for_a_peer_that_does_not_read() {
    const MESSAGE: usize = 64 << 10;
    const BUFFER: usize = 256 << 10;
    let (read, may_read) = mpsc::channel::<()>();
    let may_read = std::sync::Mutex::new(may_read);
    let server = by_hand(move |stream| {
        may_read.lock().unwrap().recv().unwrap();
        let mut total = 0;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            total += len;
        }
        assert!(total > 100 * MESSAGE, "{total}");
    });
    let client = Client::new(&server.url()).unwrap().send_buffer(BUFFER);
    let ws = client.connect().await.unwrap();
    let message = vec![7; MESSAGE];
    let mut sent = 0;
    let mut most = 0;
    // What the kernel takes depends on the machine; then our buffer fills, then it waits.
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(200), ws.send(message.clone())).await
    {
        result.unwrap();
        sent += 1;
        most = most.max(ws.buffered_amount());
        assert!(sent < 10_000, "sending never waited");
    }
    assert!(ws.buffered_amount() >= BUFFER - MESSAGE, "it waits only when the buffer is full");
    assert!(most <= BUFFER + MESSAGE + 14, "{most}");
    read.send(()).unwrap();
    for _ in 0..200 {
        ws.send(message.clone()).await.unwrap();
    }
    ws.flush().await.unwrap();
    assert_eq!(ws.buffered_amount(), 0);
    ws.terminate();
    server.done().await;
}

#[tokio::test]
async fn a_peer_comes_to_a_stop_when_we_do_not_read() {
    const MESSAGE: usize = 60_000;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let server = by_hand(move |stream| {
        let mut frame = Vec::new();
        throng_wire::encode(&mut frame, throng_wire::OpCode::Binary, &[1; MESSAGE], None);
        for _ in 0..2000 {
            stream.write_all(&frame).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
        stream.write_all(b"\x88\x00").unwrap();
        assert_eq!(support::read_frame(stream).0, 0x88);
    });
    let mut ws = Client::new(&server.url()).unwrap().connect().await.unwrap();
    // Wait until nothing moves any more, which is long before all is written.
    let mut last = usize::MAX;
    while last != written.load(Ordering::SeqCst) {
        last = written.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(last < 2000, "120 MB went somewhere");
    let mut received = 0;
    while let Some(message) = ws.next().await.unwrap() {
        assert_eq!(message.as_bytes().len(), MESSAGE);
        received += 1;
    }
    assert_eq!(received, 2000);
    server.done().await;
}

#[tokio::test]
async fn messages_sent_by_many_tasks_are_whole_and_in_each_ones_order() {
    let server = support::echo();
    let client = Client::new(&server.url()).unwrap().send_buffer(1000);
    let (sender, mut receiver) = client.connect().await.unwrap().split();
    for task in 0..8 {
        let sender = sender.clone();
        tokio::spawn(async move {
            for i in 0..200 {
                sender.send(format!("{task} {i} {}", "x".repeat(i))).await.unwrap();
            }
        });
    }
    let mut next = [0; 8];
    for _ in 0..8 * 200 {
        let message = receiver.next().await.unwrap().unwrap();
        let mut words = message.as_text().unwrap().split(' ');
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let (task, i) = (number(), number());
        assert_eq!(i, next[task]);
        assert_eq!(words.next().unwrap().len(), i);
        next[task] += 1;
    }
    sender.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(receiver.next().await.unwrap(), None);
    server.done().await;
}

#[tokio::test]
async fn a_flood_of_pings_takes_no_memory() {
    let server = by_hand(|stream| {
        // Pongs are not read, so they pile up in the client.
        let ping = [&b"\x89\x7d"[..], &[9; 125]].concat();
        for _ in 0..100_000 {
            stream.write_all(&ping).unwrap();
        }
        stream.write_all(b"\x81\x04done").unwrap();
        support::drain(stream);
    });
    let client = Client::new(&server.url()).unwrap().send_buffer(4096);
    let mut ws = client.connect().await.unwrap();
    let mut pings = 0;
    loop {
        match ws.next().await.unwrap().unwrap() {
            Message::Ping(_) => pings += 1,
            Message::Text(_) => break,
            other => panic!("{other:?}"),
        }
        assert!(ws.buffered_amount() <= 4096 + 131 + 131, "{}", ws.buffered_amount());
    }
    assert_eq!(pings, 100_000);
    ws.terminate();
    server.done().await;
}

#[tokio::test]
async fn a_dropped_send_has_sent_nothing() {
    let (read, may_read) = mpsc::channel::<()>();
    let may_read = std::sync::Mutex::new(may_read);
    let server = by_hand(move |stream| {
        may_read.lock().unwrap().recv().unwrap();
        let mut ws = tungstenite::WebSocket::from_raw_socket(
            stream,
            tungstenite::protocol::Role::Server,
            None,
        );
        let mut last = None;
        while let Ok(tungstenite::Message::Binary(message)) = ws.read() {
            let number = message[0];
            assert!(message.iter().all(|&b| b == number), "a message in pieces");
            assert!(last < Some(number), "{last:?} {number}");
            last = Some(number);
        }
        assert_eq!(last, Some(255));
    });
    let client = Client::new(&server.url()).unwrap().send_buffer(1);
    let mut ws = client.connect().await.unwrap();
    let mut given_up = false;
    for number in 0..255u8 {
        let send = ws.send(vec![number; 300_000]);
        given_up |= tokio::time::timeout(Duration::from_millis(1), send).await.is_err();
    }
    assert!(given_up);
    read.send(()).unwrap();
    ws.send(vec![255; 300_000]).await.unwrap();
    let closed = ws.close(CloseCode::NORMAL, "").await;
    assert!(matches!(closed, Ok(()) | Err(Error::Lost)), "{closed:?}");
    server.done().await;
}
