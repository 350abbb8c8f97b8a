//! The end: orderly with the first signal, at once with the second.

mod support;

use std::io::Read as _;

use rustix::process::Signal;
use support::{Server, next};
use tungstenite::Message;

#[test]
fn clients_are_told_to_go_and_the_exit_code_is_0() {
    for (signal, code) in [(Signal::TERM, 1012), (Signal::INT, 1001)] {
        let mut server = Server::start(&[]);
        let mut sockets = [server.websocket("/echo"), server.websocket("/relay")];
        for socket in &mut sockets {
            socket.send(Message::text("x")).unwrap();
            assert_eq!(next(socket), Message::text("x"));
        }
        server.signal(signal);
        for socket in &mut sockets {
            match next(socket) {
                Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code),
                other => panic!("{other:?}"),
            }
            // Answers the close; the server hangs up.
            while socket.read().is_ok() {}
        }
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("\"bye\""), "{log}");
    }
}

#[test]
fn a_server_that_drains_says_so_and_does_not_wait_for_ever() {
    // Takes part in nothing: the server has to wait for it.
    let start = |grace: &str| {
        let server = Server::start(&["--set", grace]);
        let mut deaf = server.websocket("/echo");
        deaf.send(Message::text("x")).unwrap();
        assert_eq!(next(&mut deaf), Message::text("x"), "a worker has it");
        (server, deaf)
    };
    let (mut server, _deaf) = start("shutdown_grace=1h");
    assert_eq!(server.get("/readyz").status, 200);
    server.signal(Signal::TERM);
    server.until_logged("shutting down");
    let ready = (0..1000).map(|_| server.get("/readyz")).find(|ready| ready.status != 200).unwrap();
    assert_eq!((ready.status, ready.text()), (503, "draining\n"));
    assert_eq!(server.get("/healthz").status, 200, "it is alive");
    let refused = server.upgrade("/echo", &[]);
    assert_eq!(refused.status, 503);
    assert_ne!(refused.header("retry-after"), "");

    let (mut server, mut deaf) = start("shutdown_grace=1s");
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let mut rest = Vec::new();
    let _ = deaf.get_mut().read_to_end(&mut rest);
    assert_eq!(&rest[..4], &[0x88, rest[1], 0x03, 0xf4], "a close frame with 1012");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&["--set", "shutdown_grace=1h"]);
    let mut deaf = server.websocket("/echo");
    deaf.send(Message::text("x")).unwrap();
    assert_eq!(next(&mut deaf), Message::text("x"), "a worker has it");
    server.signal(Signal::TERM);
    server.until_logged("shutting down");
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log}");
}
