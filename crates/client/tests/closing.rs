//! The end of a connection, in all the ways there are.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write as _;
use std::time::Duration;

use support::{Server, by_hand, drain, echo, read_frame};
use throng_client::{Client, Close, CloseCode, Error, Message};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode as TheirCode;

async fn connect(server: &Server) -> throng_client::WebSocket {
    Client::new(&server.url()).unwrap().connect().await.unwrap()
}

fn payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[tokio::test]
async fn our_code_and_reason_reach_tungstenite() {
    for (code, reason) in [(1000, "bye"), (1001, ""), (3000, "\u{e4}"), (4999, &"x".repeat(123))] {
        let want = reason.to_owned();
        let server = Server::new(1, move |_, stream| {
            let mut ws = tungstenite::accept(stream).unwrap();
            let tungstenite::Message::Close(Some(frame)) = ws.read().unwrap() else { panic!() };
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code, want.as_str()));
            while ws.read().is_ok() {}
        });
        let mut ws = connect(&server).await;
        let code = CloseCode::new(code).unwrap();
        ws.close(code, reason).await.unwrap();
        assert_eq!(ws.closed().unwrap().code, Some(code), "the answer has the same code");
        assert_eq!(ws.next().await.unwrap(), None);
        assert!(matches!(ws.send("late").await, Err(Error::Closed)));
        ws.close(code, "again").await.unwrap();
        server.done().await;
    }
}

#[tokio::test]
async fn their_code_and_reason_reach_us() {
    for (code, reason) in [(1000, "done"), (1012, ""), (4000, "\u{20ac}")] {
        let server = Server::new(1, move |_, stream| {
            let mut ws = tungstenite::accept(stream).unwrap();
            ws.send(tungstenite::Message::text("last words")).unwrap();
            let frame = CloseFrame { code: TheirCode::from(code), reason: reason.into() };
            ws.close(Some(frame)).unwrap();
            // The answer ends it.
            let answer = std::iter::from_fn(|| ws.read().ok()).last();
            let Some(tungstenite::Message::Close(Some(frame))) = answer else { panic!() };
            assert_eq!(u16::from(frame.code), code);
        });
        let mut ws = connect(&server).await;
        assert_eq!(ws.next().await.unwrap(), Some(Message::text("last words")));
        assert_eq!(ws.closed(), None);
        assert_eq!(ws.next().await.unwrap(), None);
        let close = Close { code: CloseCode::new(code), reason: reason.to_owned() };
        assert_eq!(ws.closed(), Some(&close));
        server.done().await;
    }
}

#[tokio::test]
async fn a_close_frame_may_say_nothing() {
    let server = by_hand(|stream| {
        stream.write_all(b"\x88\x00").unwrap();
        assert_eq!(read_frame(stream), (0x88, Vec::new()));
    });
    let mut ws = connect(&server).await;
    assert_eq!(ws.next().await.unwrap(), None);
    assert_eq!(ws.closed(), Some(&Close { code: None, reason: String::new() }));
    server.done().await;
}

#[tokio::test]
async fn a_peer_that_ends_its_direction_with_its_close_is_answered() {
    for _ in 0..20 {
        let server = by_hand(|stream| {
            stream.write_all(b"\x88\x02\x03\xe8").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read_frame(stream), (0x88, payload(1000, "")));
        });
        let mut ws = connect(&server).await;
        // Time for the end of the stream to come as well.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(ws.next().await.unwrap(), None);
        server.done().await;
    }
}

#[tokio::test]
async fn a_long_reason_is_an_error_and_closes_nothing() {
    let server = echo();
    let mut ws = connect(&server).await;
    let error = ws.close(CloseCode::NORMAL, &"x".repeat(124)).await.unwrap_err();
    assert!(matches!(error, Error::ReasonTooLong(_)), "{error}");
    ws.send("still here").await.unwrap();
    assert_eq!(ws.next().await.unwrap(), Some(Message::text("still here")));
    ws.close(CloseCode::NORMAL, &"x".repeat(123)).await.unwrap();
    server.done().await;
}

#[tokio::test]
async fn a_stream_that_just_ends_is_lost() {
    let server = by_hand(|stream| stream.write_all(b"\x81\x02hi\x81\x05half").unwrap());
    let mut ws = connect(&server).await;
    assert_eq!(ws.next().await.unwrap(), Some(Message::text("hi")));
    assert!(matches!(ws.next().await, Err(Error::Lost)));
    assert_eq!(ws.next().await.unwrap(), None, "an error comes once");
    assert!(matches!(ws.send("late").await, Err(Error::Closed)));
    server.done().await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_close_is_cut_off() {
    let server = by_hand(|stream| {
        assert_eq!(read_frame(stream), (0x88, payload(1000, "well?")));
        // Not a word, until the client gives up.
        drain(stream);
    });
    let client = Client::new(&server.url()).unwrap().close_timeout(Duration::from_millis(50));
    let mut ws = client.connect().await.unwrap();
    let error = ws.close(CloseCode::NORMAL, "well?").await.unwrap_err();
    assert!(matches!(error, Error::CloseTimeout), "{error}");
    server.done().await;
}

#[tokio::test]
async fn a_peer_that_keeps_the_stream_open_after_closing_is_cut_off() {
    let server = by_hand(|stream| {
        stream.write_all(b"\x88\x02\x03\xe9").unwrap();
        assert_eq!(read_frame(stream), (0x88, payload(1001, "")));
        drain(stream);
    });
    let client = Client::new(&server.url()).unwrap().close_timeout(Duration::from_millis(50));
    let mut ws = client.connect().await.unwrap();
    assert_eq!(ws.next().await.unwrap(), None, "the closing handshake was complete");
    assert_eq!(ws.closed().unwrap().code, Some(CloseCode::GOING_AWAY));
    server.done().await;
}

#[tokio::test]
async fn what_crosses_our_close_is_still_received_by_the_other_half() {
    let server = by_hand(|stream| {
        assert_eq!(read_frame(stream).0, 0x88);
        stream.write_all(b"\x81\x04late\x88\x02\x03\xe8").unwrap();
    });
    let (sender, mut receiver) = connect(&server).await.split();
    sender.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(receiver.next().await.unwrap(), Some(Message::text("late")));
    assert_eq!(receiver.next().await.unwrap(), None);
    server.done().await;
}

#[tokio::test]
async fn dropping_a_connection_sends_what_was_sent_and_says_goodbye() {
    let server = by_hand(|stream| {
        assert_eq!(read_frame(stream), (0x81, b"last words".to_vec()));
        assert_eq!(read_frame(stream), (0x88, payload(1001, "")));
        drain(stream);
    });
    let ws = connect(&server).await;
    ws.send("last words").await.unwrap();
    drop(ws);
    server.done().await;
}

#[tokio::test]
async fn one_half_keeps_the_connection() {
    let server = echo();
    let (sender, receiver) = connect(&server).await.split();
    let other = sender.clone();
    drop(sender);
    drop(receiver);
    other.send("nobody will read the answer").await.unwrap();
    other.flush().await.unwrap();
    assert_eq!(other.buffered_amount(), 0);
    drop(other);
    server.done().await;
}

#[tokio::test]
async fn terminate_ends_both_halves_at_once() {
    let server = by_hand(|stream| {
        // No Close frame, only the end.
        assert_eq!(drain(stream), b"");
    });
    let (sender, mut receiver) = connect(&server).await.split();
    let waiting = tokio::spawn(async move { receiver.next().await });
    tokio::task::yield_now().await;
    sender.terminate();
    assert_eq!(waiting.await.unwrap().unwrap(), None);
    assert!(matches!(sender.send("late").await, Err(Error::Closed)));
    assert!(matches!(sender.flush().await, Err(Error::Closed)));
    server.done().await;
}
