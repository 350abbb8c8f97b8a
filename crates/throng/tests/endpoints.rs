//! The endpoints of a server, over real sockets.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;

use rig::{Rig, text};
use throng::{Endpoint, Origins, Server};
use tungstenite::Message;

fn standard() -> Rig {
    Rig::start(
        Server::builder()
            .workers(2)
            .endpoint("/ws", Endpoint::rooms("lobby"))
            .endpoint("/relay", Endpoint::relay("lobby"))
            .endpoint("/other", Endpoint::relay("lobby"))
            .endpoint("/echo", Endpoint::echo())
            .endpoint("/proto", Endpoint::echo().subprotocols(["b", "a"])),
    )
}

#[test]
fn echo_gives_back_what_came_with_its_kind() {
    let rig = standard();
    let mut socket = rig.connect("/echo");
    for size in [0, 1, 125, 126, 65535, 65536, 300_000, 16 << 20] {
        let message = Message::binary(vec![size as u8; size]);
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "{size}");
        let message = Message::text("ä".repeat(size / 2));
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "{size}");
    }
    let stats = rig.server.stats();
    assert_eq!((stats.messages_in, stats.messages_out), (16, 16));
}

#[test]
fn a_message_over_the_limit_is_1009() {
    let rig = Rig::start(Server::builder().endpoint("/echo", Endpoint::echo().max_message(1000)));
    let mut socket = rig.connect("/echo");
    socket.send(Message::binary(vec![0; 1000])).unwrap();
    assert_eq!(socket.read().unwrap().len(), 1000);
    socket.send(Message::binary(vec![0; 1001])).unwrap();
    assert_eq!(rig::drain(&mut socket), Some(1009));
    assert_eq!(rig.server.stats().protocol_errors, 1);
}

#[test]
fn relay_reaches_everybody_in_the_room_and_nobody_else() {
    let rig = standard();
    let mut here: Vec<_> = (0..5).map(|_| rig.connect("/relay")).collect();
    let mut elsewhere = [rig.connect("/relay/other"), rig.connect("/other"), rig.connect("/ws")];
    text(&mut elsewhere[2]); // connected
    rig::eventually("all are in", || rig.server.stats().connections == 8);
    // Each hears itself, so each has joined.
    for i in 0..here.len() {
        here[i].send(Message::text(format!("m{i}"))).unwrap();
        for socket in &mut here {
            assert_eq!(text(socket), format!("m{i}"));
        }
    }
    here[0].send(Message::binary(vec![0, 255])).unwrap();
    for socket in &mut here {
        assert_eq!(socket.read().unwrap(), Message::binary(vec![0, 255]));
    }
    for socket in &mut elsewhere {
        socket.send(Message::text(r#"{"type":"ping"}"#)).unwrap();
        let first = text(socket);
        assert!(first.contains("ping") || first.contains("pong"), "leaked: {first}");
    }
}

#[test]
fn typed_chat_from_connect_to_leave() {
    let rig = standard();
    let mut ada = rig.connect("/ws?name=Ada%20L");
    let hello = text(&mut ada);
    for part in [
        r#"{"type":"connected","userId":"u_"#,
        r#""sessionId":"s_"#,
        r#""info":{"name":"Ada L"}"#,
        r#""userCount":1"#,
        r#""room":"lobby""#,
        r#""heartbeat":25000"#,
        r#""resumed":false,"resumeWindow":120000"#,
        r#""limits":{"maxPayload":65536,"maxRooms":128,"refWindow":256}"#,
    ] {
        assert!(hello.contains(part), "{part} in {hello}");
    }
    let mut bob = rig.connect("/ws/lobby?name=Bob");
    assert!(text(&mut bob).contains(r#""userCount":2"#));
    let joined = text(&mut ada);
    assert!(joined.starts_with(r#"{"type":"user_joined","room":"lobby""#), "{joined}");
    assert!(joined.contains(r#""info":{"name":"Bob"},"userCount":2"#), "{joined}");

    bob.send(Message::text(r#"{"type":"chat","text":"hi","ref":7}"#)).unwrap();
    let seen = text(&mut ada);
    assert!(seen.starts_with(r#"{"type":"chat","room":"lobby","from":"u_"#), "{seen}");
    assert!(seen.contains(r#""seq":1,"timestamp":1"#) && seen.ends_with(r#","text":"hi"}"#));
    let (ack, own) = (text(&mut bob), text(&mut bob));
    assert!(ack.starts_with(r#"{"type":"ack","ref":7,"room":"lobby","seq":1"#), "{ack}");
    assert_eq!(own, seen);

    ada.send(Message::text(r#"{"type":"presence","ref":1}"#)).unwrap();
    let presence = text(&mut ada);
    assert!(presence.contains(r#""userCount":2"#), "{presence}");
    assert!(presence.contains("Ada L") && presence.contains("Bob"), "{presence}");
    ada.send(Message::text(r#"{"type":"ping","sent":12.5}"#)).unwrap();
    assert!(text(&mut ada).starts_with(r#"{"type":"pong","sent":12.5,"timestamp":1"#));

    bob.close(None).unwrap();
    let left = text(&mut ada);
    assert!(left.starts_with(r#"{"type":"user_left","room":"lobby","userId":"u_"#), "{left}");
    assert!(left.contains(r#""userCount":1"#), "{left}");
}

#[test]
fn errors_are_told_and_lose_nothing() {
    let rig = standard();
    let mut socket = rig.connect("/ws");
    text(&mut socket);
    for (sent, code) in [
        ("nonsense", "bad_json"),
        ("[]", "bad_message"),
        (r#"{"text":"no type"}"#, "bad_message"),
        (r#"{"type":"chat","from":"somebody"}"#, "reserved_field"),
        (r#"{"type":"chat","room":"elsewhere"}"#, "not_joined"),
        (r#"{"type":"join","room":"elsewhere"}"#, "bad_message"),
    ] {
        socket.send(Message::text(sent)).unwrap();
        let error = text(&mut socket);
        assert!(error.contains(&format!(r#""code":"{code}""#)), "{sent}: {error}");
    }
    socket.send(Message::binary(vec![1])).unwrap();
    assert!(text(&mut socket).contains(r#""code":"unsupported_data""#));
    socket.send(Message::text(r#"{"type":"chat","text":"still here"}"#)).unwrap();
    assert!(text(&mut socket).contains(r#""seq":1"#));
}

#[test]
fn refusals_come_before_the_101() {
    let rig = standard();
    assert_eq!(rig.refusal("/ws/no%20room", &[]).0, 404);
    assert_eq!(rig.refusal("/ws", &[("origin", "http://evil.test")]).0, 403);
    let same = format!("http://{}", rig.address);
    rig.try_connect("/ws", &[("origin", &same)]).unwrap();
    rig.try_connect("/relay", &[("origin", "http://evil.test")]).unwrap();
    let (status, headers) = rig.refusal("/ws", &[("sec-websocket-version", "8")]);
    assert_eq!((status, headers["sec-websocket-version"].as_bytes()), (426, &b"13"[..]));
    let stats = rig.server.stats();
    assert_eq!((stats.refused_origin, stats.refused_handshake), (1, 1));
    assert!(
        Origins::List(vec!["http://a.test".into()]).allow(
            &[(http::header::ORIGIN, "http://a.test".parse().unwrap())].into_iter().collect()
        )
    );
}

#[test]
fn caps_are_429_and_come_back() {
    let rig =
        Rig::start(Server::builder().max_connections_per_ip(2).endpoint("/echo", Endpoint::echo()));
    let first = rig.connect("/echo");
    let _second = rig.connect("/echo");
    let (status, headers) = rig.refusal("/echo", &[]);
    assert_eq!(status, 429);
    assert!(headers.contains_key("retry-after"));
    drop(first);
    rig::eventually("the place is free again", || rig.try_connect("/echo", &[]).is_ok());
    assert!(rig.server.stats().refused_per_ip >= 1);
}

#[test]
fn subprotocols_are_agreed_in_the_clients_order() {
    let rig = standard();
    let agreed = |offer: &str| {
        let mut request = tungstenite::client::IntoClientRequest::into_client_request(format!(
            "ws://{}/proto",
            rig.address
        ))
        .unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offer.parse().unwrap());
        let stream = std::net::TcpStream::connect(rig.address).unwrap();
        let (_, response) = tungstenite::client(request, stream).unwrap();
        response.headers()["sec-websocket-protocol"].to_str().unwrap().to_owned()
    };
    assert_eq!(agreed("x, a, b"), "a");
    assert_eq!(agreed("b"), "b");
}

#[test]
fn frames_right_behind_the_handshake_are_read() {
    use std::io::{Read, Write};
    let rig = standard();
    let mut stream = std::net::TcpStream::connect(rig.address).unwrap();
    let mut bytes =
        b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
    bytes.extend_from_slice(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0]);
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&[0x81, 2, b'h', b'i', 0x88, 0]), "{answer:?}");
}
