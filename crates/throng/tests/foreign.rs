//! Streams that are not plain TCP sockets: TLS of the host, pipes.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;

use std::time::Duration;

use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rig::eventually;
use throng::{Endpoint, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::ServiceExt;

/// A pipe with the server's routes at the other end, after the opening handshake.
async fn open(server: &Server) -> DuplexStream {
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let routes = server.routes();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        routes.clone().oneshot(request.map(Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(theirs), service)
        .with_upgrades();
    tokio::spawn(connection);
    let request = "GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    ours.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(ours.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    ours
}

fn server(heartbeat: Duration) -> Server {
    Server::builder()
        .workers(1)
        .max_connections(2)
        .heartbeat(heartbeat)
        .endpoint("/echo", Endpoint::echo())
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_close_pass_through() {
    let server = server(Duration::from_secs(3600)); // nothing in between
    let mut pipe = open(&server).await;
    let mut frames = vec![0x82, 0xfe, 0x27, 0x10, 0, 0, 0, 0];
    frames.resize(8 + 10_000, 7); // more than the pipe holds
    frames.extend_from_slice(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let writing = tokio::spawn(async move {
        writer.write_all(&frames).await.unwrap();
        writer
    });
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).await.unwrap();
    let echo = answer.len() - 4;
    assert_eq!(answer[..4], [0x82, 126, 0x27, 0x10]);
    assert!(answer[4..echo].iter().all(|byte| *byte == 7) && echo == 10_004);
    assert_eq!(answer[echo..], [0x88, 2, 0x03, 0xe8]);
    pipe = reader.unsplit(writing.await.unwrap());
    drop(pipe);
    eventually("the connection is gone", || server.stats().connections == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_stays_open_keeps_its_place_only_for_a_while() {
    let server = server(Duration::from_millis(200));
    // Neither reads nor writes nor closes: the heartbeat ends the connections, not the pipes.
    let pipes = [open(&server).await, open(&server).await];
    eventually("the heartbeat has ended both", || server.stats().heartbeat_timeouts == 2);
    // What pumps them still counts, until its patience is over.
    eventually("both places are free", || server.stats().admitted == 0);
    drop(pipes);
}
