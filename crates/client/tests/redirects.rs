//! Redirects and proxies.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};

use support::{Request, Server, drain, echo, proxy};
use throng_client::{Client, CloseCode, Error, Fault, Message};

async fn failure(client: &Client) -> Error {
    client.connect().await.unwrap_err()
}

/// Answers requests with what `respond` makes of them; an empty answer accepts.
fn site(
    connections: usize,
    respond: impl Fn(usize, &Request) -> String + Send + 'static,
) -> Server {
    Server::new(connections, move |number, mut stream| {
        let request = Request::read(&mut stream);
        let mut response = respond(number, &request);
        if response.is_empty() {
            response = request.accepted("");
        }
        stream.write_all(response.as_bytes()).unwrap();
    })
}

fn to(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn every_kind_of_redirect_is_followed_up_to_the_limit() {
    let follow = |limit| async move {
        let server = site(6, |number, request| {
            assert_eq!(request.line, format!("GET /{number} HTTP/1.1"));
            assert_eq!(request.field("authorization"), Some("secret"));
            match [301, 302, 303, 307, 308].get(number) {
                Some(status) => to(*status, &format!("{}#top", number + 1)),
                None => String::new(),
            }
        });
        let url = format!("ws://{}/0", server.addr);
        let client =
            Client::new(&url).unwrap().max_redirects(limit).header("authorization", "secret");
        (server, client.connect().await)
    };
    let (server, ws) = follow(5).await;
    assert_eq!(ws.unwrap().url(), format!("ws://{}/5", server.addr));
    server.done().await;

    let (_server, ws) = follow(4).await;
    assert!(matches!(ws, Err(Error::TooManyRedirects(4))));

    let (_server, ws) = follow(0).await;
    assert_eq!(ws.unwrap_err().status().unwrap(), 301, "none is followed by default");
}

#[tokio::test]
async fn credentials_stay_with_their_server() {
    let other = site(1, |_, request| {
        assert_eq!(request.field("sec-websocket-protocol"), Some("throng.v1"));
        String::new()
    });
    let there = format!("http://{}/there", other.addr);
    let first = site(2, move |number, request| {
        let offered = request.field("sec-websocket-protocol");
        assert_eq!(offered, Some("throng.v1, ticket.hunter2"));
        to(307, if number == 0 { "/again" } else { &there })
    });
    let client = Client::new(&format!("{}?ticket=hunter2", first.url()))
        .unwrap()
        .max_redirects(9)
        .subprotocol("throng.v1")
        .subprotocol("ticket.hunter2")
        .require_subprotocol(false);
    let ws = client.connect().await.unwrap();
    assert_eq!(ws.url(), format!("ws://{}/there", other.addr));
    let text = format!("{client:?} {ws:?}");
    assert!(text.contains("throng.v1") && !text.contains("hunter2"), "{text}");
    drop(ws);
    // Nor are they in errors.
    let error = failure(&client.subprotocol("token.hunter2 ")).await;
    assert!(matches!(error, Error::Io(_) | Error::Request(_)));
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    first.done().await;
    other.done().await;
}

#[tokio::test]
async fn secrets_stay_with_their_server() {
    let other = site(1, |_, request| {
        assert_eq!(request.line, "GET /there HTTP/1.1");
        for secret in ["authorization", "cookie"] {
            assert_eq!(request.field(secret), None);
        }
        assert_eq!(request.field("x-open"), Some("1"));
        String::new()
    });
    let there = format!("http://{}/there", other.addr);
    let first = site(3, move |number, request| {
        assert_eq!(request.field("authorization"), Some("Basic dTpw"));
        assert_eq!(request.field("cookie"), Some("a=b"));
        match number {
            0 => to(302, "/again"),
            1 => to(308, &format!("http://{}/absolute", request.field("host").unwrap())),
            _ => to(307, &there),
        }
    });
    let client = Client::new(&format!("ws://u:p@{}/", first.addr))
        .unwrap()
        .header("cookie", "a=b")
        .header("x-open", "1")
        .max_redirects(3);
    assert_eq!(client.connect().await.unwrap().url(), format!("ws://{}/there", other.addr));
    first.done().await;
    other.done().await;
}

#[tokio::test]
async fn redirects_that_must_not_be_followed() {
    for (response, want) in [
        (to(302, "ftp://127.0.0.1/"), "its scheme is none of ws, wss, http and https"),
        (to(302, "ws://["), "its Location is no URL"),
        ("HTTP/1.1 302 Found\r\n\r\n".to_owned(), "it has no Location"),
    ] {
        let server = site(1, move |_, _| response.clone());
        let error = failure(&Client::new(&server.url()).unwrap().max_redirects(1)).await;
        assert!(matches!(&error, Error::Redirect(why) if *why == want), "{error}");
        assert_eq!(error.fault(), Fault::Server);
        server.done().await;
    }
    let server = site(1, |_, _| "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned());
    let error = failure(&Client::new(&server.url()).unwrap().max_redirects(1)).await;
    assert_eq!(error.status().unwrap(), 304);
    server.done().await;
}

#[tokio::test]
async fn through_a_proxy() {
    for (credentials, authorization) in [("", None), ("me:p%40ss@", Some("Basic bWU6cEBzcw=="))] {
        let (server, proxy) = (echo(), proxy(authorization));
        let client = Client::new(&server.url())
            .unwrap()
            .proxy(&format!("http://{credentials}{}", proxy.addr));
        let mut ws = client.connect().await.unwrap();
        assert_eq!(ws.peer_addr(), Some(proxy.addr));
        ws.send("hello").await.unwrap();
        assert_eq!(ws.next().await.unwrap(), Some(Message::text("hello")));
        ws.close(CloseCode::NORMAL, "").await.unwrap();
        drop(ws);
        server.done().await;
        proxy.done().await;
    }
}

#[tokio::test]
async fn proxies_that_let_nobody_through() {
    let respond = |response: &'static str| {
        Server::new(1, move |_, mut stream| {
            Request::read(&mut stream);
            stream.write_all(response.as_bytes()).unwrap();
            drain(&mut stream);
        })
    };
    let failing = |server: &Server| {
        let proxy = format!("http://{}", server.addr);
        Client::new("ws://nobody.invalid/").unwrap().proxy(&proxy)
    };
    let server = respond("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let error = failure(&failing(&server)).await;
    assert!(matches!(error, Error::ProxyRefused(status) if status == 407), "{error}");
    assert_eq!(error.fault(), Fault::Way);
    server.done().await;

    let server = respond("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Smuggled\r\n\r\n");
    let error = failure(&failing(&server)).await;
    assert!(matches!(error, Error::ProxyResponse("there is something behind its head")), "{error}");
    server.done().await;

    let server = respond("\x15\x03\x03");
    let error = failure(&failing(&server)).await;
    assert!(matches!(error, Error::ProxyResponse("it is not HTTP/1")), "{error}");
    server.done().await;

    let server = Server::new(1, |_, mut stream| {
        let _ = stream.read(&mut [0; 1024]);
    });
    let error = failure(&failing(&server)).await;
    assert!(matches!(error, Error::ProxyResponse(_) | Error::Io(_)), "{error}");
    server.done().await;
}
