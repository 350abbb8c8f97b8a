//! The opening handshake as the server sees it, and every way it can go wrong.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write as _;
use std::time::Duration;

use support::{Nobody, Request, Server, drain};
use throng_client::{Client, DeflateOptions, Error, Fault, HandshakeError, InvalidRequest};

async fn refused(client: Client) -> Error {
    client.connect().await.unwrap_err()
}

fn client(server: &Server) -> Client {
    Client::new(&server.url()).unwrap()
}

#[tokio::test]
async fn what_the_caller_asked_for_is_what_the_server_gets() {
    let server = Server::answering(|request| {
        assert_eq!(request.line, "GET /chat?room=a%20b HTTP/1.1");
        assert!(request.field("host").unwrap().starts_with("127.0.0.1:"));
        assert_eq!(request.field("origin"), Some("https://example.org"));
        assert_eq!(request.field("x-one"), Some("1"));
        assert_eq!(request.headers.get_all("cookie").iter().count(), 2);
        assert_eq!(request.field("authorization"), Some("Basic dXNlcjpwdw=="));
        assert_eq!(request.field("sec-websocket-protocol"), Some("b, a"));
        let offer = request.field("sec-websocket-extensions").unwrap();
        assert!(offer.starts_with("permessage-deflate; "), "{offer}");
        request.accepted("sec-websocket-protocol: a\r\nset-cookie: c=d\r\n")
    });
    let ws = Client::new(&format!("ws://user:pw@{}/chat?room=a b", server.addr))
        .unwrap()
        .origin("https://example.org")
        .header("x-one", "1")
        .header("cookie", "a=b")
        .header("cookie", "e=f")
        .subprotocol("b")
        .subprotocol("a")
        .deflate(DeflateOptions::default())
        .connect()
        .await
        .unwrap();
    assert_eq!(ws.subprotocol(), Some("a"));
    assert_eq!(ws.deflate(), None, "the server did not take it");
    assert_eq!(ws.response().headers()["set-cookie"], "c=d");
    assert_eq!(ws.url(), format!("ws://{}/chat?room=a%20b", server.addr));
    assert_eq!(ws.peer_addr(), Some(server.addr));
    assert!(ws.local_addr().unwrap().ip().is_loopback());
    drop(ws);
    server.done().await;
}

#[tokio::test]
async fn every_key_is_another() {
    let (keys, seen) = std::sync::mpsc::channel();
    let server = Server::new(2, move |_, mut stream| {
        let request = Request::read(&mut stream);
        keys.send(request.field("sec-websocket-key").unwrap().to_owned()).unwrap();
        stream.write_all(request.accepted("").as_bytes()).unwrap();
    });
    let client = client(&server);
    drop(client.connect().await.unwrap());
    drop(client.connect().await.unwrap());
    server.done().await;
    let seen: Vec<String> = seen.iter().collect();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn each_broken_answer_has_its_error() {
    let ok = "HTTP/1.1 101 Switching Protocols\r\n";
    type Answer = fn(&str) -> String;
    let cases: [(Answer, HandshakeError); 7] = [
        (|a| a.replace("upgrade: websocket\r\n", ""), HandshakeError::Upgrade),
        (|a| a.replace("connection: Upgrade\r\n", ""), HandshakeError::Connection),
        (
            |a| a.replace("sec-websocket-accept: ", "sec-websocket-accept: A"),
            HandshakeError::Accept,
        ),
        (|a| a.replace("HTTP/1.1", "HTTP/1.0"), HandshakeError::HttpVersion),
        (
            |a| a.replace("\r\n\r\n", "\r\nsec-websocket-protocol: x\r\n\r\n"),
            HandshakeError::SubprotocolUnsolicited,
        ),
        (
            |a| a.replace("\r\n\r\n", "\r\nsec-websocket-extensions: x\r\n\r\n"),
            HandshakeError::ExtensionUnsolicited,
        ),
        (
            |a| a.replace("\r\n\r\n", "\r\nsec-websocket-extensions: x;\r\n\r\n"),
            HandshakeError::ExtensionsMalformed,
        ),
    ];
    for (answer, want) in cases {
        let server = Server::answering(move |request| {
            let good = request.accepted("");
            assert!(good.starts_with(ok));
            let bad = answer(&good);
            assert_ne!(bad, good);
            bad
        });
        let error = refused(client(&server)).await;
        assert_eq!(error.fault(), Fault::Server);
        assert!(matches!(&error, Error::Handshake(found) if *found == want), "{error}");
        server.done().await;
    }
}

#[tokio::test]
async fn a_subprotocol_is_required_unless_it_is_not() {
    let server = Server::answering(|request| request.accepted(""));
    let error = refused(client(&server).subprotocol("a")).await;
    let missing = HandshakeError::SubprotocolMissing;
    assert!(matches!(&error, Error::Handshake(found) if *found == missing), "{error}");
    server.done().await;

    let server = Server::answering(|request| request.accepted(""));
    let client = client(&server).subprotocol("a").require_subprotocol(false);
    assert_eq!(client.connect().await.unwrap().subprotocol(), None);
    server.done().await;
}

#[tokio::test]
async fn deflate_has_to_answer_the_offer() {
    let server = Server::answering(|request| {
        request.accepted("sec-websocket-extensions: permessage-deflate\r\n")
    });
    let error = refused(client(&server).deflate(DeflateOptions::default())).await;
    let parameters = HandshakeError::DeflateParameters;
    assert!(matches!(&error, Error::Handshake(found) if *found == parameters), "{error}");
    server.done().await;
}

#[tokio::test]
async fn answers_that_are_no_http() {
    let long = format!("HTTP/1.1 101 A\r\nx: {}", "y".repeat(20_000));
    for (answer, want) in [
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "it is not HTTP/1"),
        (long, "its head is longer than 16 KiB"),
    ] {
        let server = Server::answering(move |_| answer.clone());
        let error = refused(client(&server)).await;
        assert!(matches!(&error, Error::Response(why) if *why == want), "{error}");
        server.done().await;
    }
    let server = Server::new(1, |_, mut stream| drop(Request::read(&mut stream)));
    let error = refused(client(&server)).await;
    assert!(matches!(error, Error::Response("there is none")), "{error}");
    server.done().await;
}

#[tokio::test]
async fn a_refusal_comes_with_its_head_and_body() {
    let server = Server::answering(|_| {
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nslow down"
            .to_owned()
    });
    let error = refused(client(&server)).await;
    assert_eq!(error.status().unwrap(), 429);
    assert_eq!(error.to_string(), "the server refused the connection with 429 Too Many Requests");
    let Error::Refused(response) = error else { panic!("{error}") };
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(&response.body()[..], b"slow down");
    server.done().await;
}

#[tokio::test]
async fn the_body_of_a_refusal_is_bounded() {
    let server = Server::new(1, |_, mut stream| {
        Request::read(&mut stream);
        let head = "HTTP/1.1 500 No\r\ncontent-length: 99999999\r\n\r\n";
        let body = "x".repeat(1 << 20);
        // The client hangs up early.
        let _ = stream.write_all((head.to_owned() + &body).as_bytes());
    });
    let Error::Refused(response) = refused(client(&server)).await else { panic!() };
    assert_eq!(response.body().len(), 16 << 10);
    server.done().await;
}

#[tokio::test]
async fn a_server_that_is_silent_or_slow_is_given_up() {
    for slowly in [false, true] {
        let server = Server::new(1, move |_, mut stream| {
            Request::read(&mut stream);
            if slowly {
                // A byte at a time, for as long as the client listens.
                let head = b"HTTP/1.1 101 Switching Protocols\r\nx: ".iter();
                for byte in head.chain(std::iter::repeat_n(&b'y', 3000)) {
                    if stream.write_all(&[*byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            drain(&mut stream);
        });
        // Time enough to send the request, on a busy machine as well.
        let error = refused(client(&server).handshake_timeout(Duration::from_secs(3))).await;
        assert!(matches!(error, Error::HandshakeTimeout), "{error}");
        assert_eq!(error.fault(), Fault::Way);
        server.done().await;
    }
}

#[tokio::test]
async fn nobody_listens() {
    let nobody = Nobody::new();
    let error = refused(Client::new(&format!("ws://{}/", nobody.addr)).unwrap()).await;
    assert!(matches!(&error, Error::Io(_)), "{error}");
    assert_eq!(error.fault(), Fault::Way);
}

#[tokio::test]
async fn the_callers_mistakes_are_found_before_anything_is_dialled() {
    let nowhere = || Client::new("ws://127.0.0.1:9/").unwrap();
    let mistakes = [
        refused(nowhere().header("a b", "c")).await,
        refused(nowhere().header("a", "b\r\nc: d")).await,
        refused(nowhere().origin("a\nb")).await,
        refused(nowhere().proxy("socks5://127.0.0.1:1")).await,
        Client::new("ftp://127.0.0.1/").unwrap_err(),
    ];
    for error in mistakes {
        assert_eq!(error.fault(), Fault::Caller, "{error}");
        assert!(!matches!(error, Error::Io(_)), "{error}");
    }
    let server = Server::new(1, |_, mut stream| drop(drain(&mut stream)));
    let error = refused(client(&server).header("host", "example.org")).await;
    assert!(matches!(error, Error::Request(InvalidRequest::ReservedHeader(_))), "{error}");
    server.done().await;
}
