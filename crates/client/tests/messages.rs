//! Messages there and back.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write as _;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use support::{Server, by_hand, drain, echo, read_frame};
use throng_client::{Client, CloseCode, DeflateOptions, Error, Limits, Message, ProtocolError};

async fn connect(server: &Server) -> throng_client::WebSocket {
    Client::new(&server.url()).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn all_sizes_come_back_from_tungstenite() {
    let server = echo();
    let mut ws = connect(&server).await;
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let text = "\u{e4}".repeat(len / 2) + &"x".repeat(len % 2);
        ws.send(text.as_str()).await.unwrap();
        assert_eq!(ws.next().await.unwrap(), Some(Message::Text(text)));
        let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        ws.send(bytes.clone()).await.unwrap();
        assert_eq!(ws.next().await.unwrap(), Some(Message::binary(bytes)));
    }
    ws.close(CloseCode::NORMAL, "").await.unwrap();
    assert_eq!(ws.next().await.unwrap(), None);
    server.done().await;
}

#[tokio::test]
async fn sixteen_mebibytes_come_back_from_tungstenite() {
    let server = echo();
    let mut ws = connect(&server).await;
    let bytes: Bytes = (0..16u32 << 20).map(|i| (i ^ (i >> 9)) as u8).collect::<Vec<_>>().into();
    ws.send(bytes.clone()).await.unwrap();
    assert!(ws.next().await.unwrap() == Some(Message::Binary(bytes)));
    ws.close(CloseCode::NORMAL, "").await.unwrap();
    server.done().await;
}

#[tokio::test]
async fn many_messages_keep_their_order_through_both_halves() {
    const COUNT: usize = 20_000;
    let server = echo();
    let (sender, mut receiver) = connect(&server).await.split();
    let sending = tokio::spawn(async move {
        for i in 0..COUNT {
            sender.send_text(&format!("message {i}")).await.unwrap();
        }
        sender
    });
    for i in 0..COUNT {
        let message = receiver.next().await.unwrap().unwrap();
        assert_eq!(message.as_text(), Some(format!("message {i}").as_str()));
    }
    let sender = sending.await.unwrap();
    sender.close(CloseCode::NORMAL, "enough").unwrap();
    assert_eq!(receiver.next().await.unwrap(), None);
    assert_eq!(receiver.closed().unwrap().code, Some(CloseCode::NORMAL));
    assert!(matches!(sender.send("late").await, Err(Error::Closed)));
    server.done().await;
}

#[tokio::test]
async fn tokio_websockets_understands_us_and_we_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap().0;
        let (_, mut ws) = tokio_websockets::ServerBuilder::new().accept(stream).await.unwrap();
        ws.send(tokio_websockets::Message::text("welcome")).await.unwrap();
        while let Some(message) = ws.next().await {
            let message = message.unwrap();
            if message.is_text() || message.is_binary() {
                ws.send(message).await.unwrap();
            }
        }
    });
    let mut ws = Client::new(&url).unwrap().connect().await.unwrap();
    assert_eq!(ws.next().await.unwrap(), Some(Message::text("welcome")));
    for len in [0, 1, 126, 65_536, 1 << 20] {
        let text = "\u{20ac}".repeat(len / 3);
        ws.send(text.as_str()).await.unwrap();
        assert_eq!(ws.next().await.unwrap(), Some(Message::Text(text)));
    }
    ws.ping(b"there?").await.unwrap();
    assert_eq!(ws.next().await.unwrap(), Some(Message::Pong(Bytes::from_static(b"there?"))));
    ws.close(CloseCode::new(4321).unwrap(), "bye").await.unwrap();
    assert_eq!(ws.closed().unwrap().code, CloseCode::new(4321));
    server.await.unwrap();
}

#[tokio::test]
async fn what_came_with_the_handshake_is_not_lost() {
    let server = Server::new(1, |_, mut stream| {
        let request = support::Request::read(&mut stream);
        let mut bytes = request.accepted("").into_bytes();
        bytes.extend_from_slice(b"\x81\x05first\x01\x02se\x00\x02co\x80\x02nd");
        stream.write_all(&bytes).unwrap();
        drain(&mut stream);
    });
    let mut ws = connect(&server).await;
    assert_eq!(ws.next().await.unwrap(), Some(Message::text("first")));
    assert_eq!(ws.next().await.unwrap(), Some(Message::text("second")));
    drop(ws);
    server.done().await;
}

#[tokio::test]
async fn pings_are_answered_in_the_middle_of_a_message() {
    let server = by_hand(|stream| {
        stream.write_all(b"\x01\x02he\x89\x02hi\x80\x03llo").unwrap();
        assert_eq!(read_frame(stream), (0x8a, b"hi".to_vec()));
        drain(stream);
    });
    let mut ws = connect(&server).await;
    assert_eq!(ws.next().await.unwrap(), Some(Message::Ping(Bytes::from_static(b"hi"))));
    assert_eq!(ws.next().await.unwrap(), Some(Message::text("hello")));
    drop(ws);
    server.done().await;
}

#[tokio::test]
async fn long_control_payloads_are_refused() {
    let server = echo();
    let mut ws = connect(&server).await;
    ws.ping(&[0; 125]).await.unwrap();
    assert!(matches!(ws.ping(&[0; 126]).await, Err(Error::ControlTooLong(126))));
    let pong = Message::Pong(vec![0; 200].into());
    assert!(matches!(ws.send(pong).await, Err(Error::ControlTooLong(200))));
    assert_eq!(ws.next().await.unwrap(), Some(Message::Pong(vec![0; 125].into())));
    ws.close(CloseCode::NORMAL, "").await.unwrap();
    server.done().await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_is_told_so() {
    let cases: [(&[u8], u16); 6] = [
        (b"\x81\x85\0\0\0\0hello", 1002),
        (b"\x83\x00", 1002),
        (b"\xc1\x01x", 1002),
        (b"\x80\x00", 1002),
        (b"\x81\x02\xff\xff", 1007),
        (b"\x82\x7f\0\0\0\0\x10\0\0\0", 1009),
    ];
    for (frame, code) in cases {
        let server = by_hand(move |stream| {
            stream.write_all(frame).unwrap();
            assert_eq!(read_frame(stream), (0x88, code.to_be_bytes().to_vec()), "{frame:?}");
            drain(stream);
        });
        let mut ws = connect(&server).await;
        let Err(Error::Protocol(error)) = ws.next().await else { panic!("{frame:?}") };
        assert_eq!(error.close_code().get(), code);
        assert_eq!(ws.next().await.unwrap(), None);
        assert!(matches!(ws.send("late").await, Err(Error::Closed)));
        server.done().await;
    }
}

#[tokio::test]
async fn limits_are_ours_to_set() {
    let server = by_hand(|stream| {
        stream.write_all(b"\x82\x03abc\x82\x04abcd").unwrap();
        assert_eq!(read_frame(stream).1, 1009u16.to_be_bytes());
        drain(stream);
    });
    let limits = Limits { max_message: 3, ..Limits::default() };
    let mut ws = Client::new(&server.url()).unwrap().limits(limits).connect().await.unwrap();
    assert_eq!(ws.next().await.unwrap(), Some(Message::binary(&b"abc"[..])));
    assert!(matches!(
        ws.next().await,
        Err(Error::Protocol(ProtocolError::MessageTooBig { limit: 3 }))
    ));
    server.done().await;
}

#[tokio::test]
async fn dropping_the_future_of_next_loses_nothing() {
    let server = by_hand(|stream| {
        for part in [&b"\x81"[..], b"\x0a0123", b"45", b"6789\x81", b"\x01x"] {
            stream.write_all(part).unwrap();
            // The client says when it has seen that part.
            read_frame(stream);
        }
        drain(stream);
    });
    let mut ws = connect(&server).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let wait = std::time::Duration::from_millis(20);
        if let Ok(message) = tokio::time::timeout(wait, ws.next()).await {
            seen.push(message.unwrap().unwrap());
        }
        ws.send("go on").await.unwrap();
    }
    while seen.len() < 2 {
        seen.push(ws.next().await.unwrap().unwrap());
    }
    assert_eq!(seen, [Message::text("0123456789"), Message::text("x")]);
    drop(ws);
    server.done().await;
}

/// A server over `wire` that echoes, compressed if the client agreed to that.
fn deflating_echo(options: DeflateOptions) -> Server {
    use throng_wire::handshake::server::ServerOptions;
    use throng_wire::{Decoder, Deflater, Event, Role, Scratch, encode_close, encode_compressed};

    Server::new(1, move |_, mut stream| {
        let request = support::Request::read(&mut stream);
        let accepted =
            request.accept(&ServerOptions { subprotocols: &[], deflate: Some(&options) });
        stream.write_all(support::encode(&accepted, "").as_bytes()).unwrap();
        let agreed = accepted.deflate.unwrap();
        let outgoing = agreed.outgoing(Role::Server);
        let mut decoder = Decoder::new(Role::Server, Some(agreed));
        let mut deflater = Deflater::new(options.level, options.mem_level, outgoing.window_bits);
        let (limits, mut scratch) = (Limits::default(), Scratch::new());
        let (mut buffer, mut compressed, mut seen) = (vec![0; 4096], Vec::new(), 0);
        loop {
            let len = std::io::Read::read(&mut stream, &mut buffer).unwrap();
            let (mut at, mut out) = (0, Vec::new());
            while at < len {
                seen |= buffer[at];
                let step = decoder.next(&limits, &mut buffer[at..len], &mut scratch).unwrap();
                at += step.consumed;
                match step.event {
                    Some(Event::Message { kind, payload }) => {
                        compressed.clear();
                        if outgoing.takeover {
                            deflater.compress_with_context(payload, &mut compressed);
                        } else {
                            deflater.compress(payload, &mut compressed);
                        }
                        encode_compressed(&mut out, kind.into(), &compressed, None);
                    }
                    Some(Event::Close(frame)) => {
                        let code = frame.map(|frame| frame.code);
                        encode_close(&mut out, code, "", None).unwrap();
                        stream.write_all(&out).unwrap();
                        assert_eq!(seen & 0x40, 0x40, "nothing came compressed");
                        return;
                    }
                    _ => {}
                }
            }
            assert!(len > 0, "the client closes first");
            stream.write_all(&out).unwrap();
        }
    })
}

#[tokio::test]
async fn compressed_messages_come_back() {
    let takeover = DeflateOptions {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        threshold: 0,
        ..DeflateOptions::default()
    };
    let narrow = DeflateOptions {
        server_max_window_bits: 9,
        client_max_window_bits: 9,
        threshold: 0,
        ..takeover.clone()
    };
    for options in [DeflateOptions::default(), takeover, narrow] {
        let server = deflating_echo(options.clone());
        let client = Client::new(&server.url()).unwrap().deflate(options.clone());
        let mut ws = client.connect().await.unwrap();
        let agreed = ws.deflate().unwrap();
        assert_eq!(agreed.client_no_context_takeover, options.client_no_context_takeover);
        assert_eq!(agreed.server_max_window_bits, options.server_max_window_bits);
        for len in [0, 10, 1023, 1024, 5000, 5000, 300_000] {
            let text: String = "so it goes, ".chars().cycle().take(len).collect();
            ws.send(text.as_str()).await.unwrap();
            assert_eq!(ws.next().await.unwrap(), Some(Message::Text(text)));
            // Bytes that do not get smaller.
            let mut state = 1u32;
            let noise: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            ws.send(noise.clone()).await.unwrap();
            assert_eq!(ws.next().await.unwrap(), Some(Message::binary(noise)));
        }
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        server.done().await;
    }
}

#[tokio::test]
async fn a_bomb_goes_off_outside() {
    let server = Server::new(1, |_, mut stream| {
        let request = support::Request::read(&mut stream);
        let answer = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover\r\n";
        stream.write_all(request.accepted(answer).as_bytes()).unwrap();
        let mut compressed = Vec::new();
        throng_wire::Deflater::new(9, 9, 15).compress(&vec![0; 64 << 20], &mut compressed);
        assert!(compressed.len() < 100_000);
        let mut frame = Vec::new();
        throng_wire::encode_compressed(&mut frame, throng_wire::OpCode::Binary, &compressed, None);
        stream.write_all(&frame).unwrap();
        assert_eq!(read_frame(&mut stream).1, 1009u16.to_be_bytes());
        drain(&mut stream);
    });
    let client = Client::new(&server.url()).unwrap().deflate(DeflateOptions::default());
    let mut ws = client.connect().await.unwrap();
    let error = ws.next().await.unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::MessageTooBig { .. })), "{error}");
    server.done().await;
}
