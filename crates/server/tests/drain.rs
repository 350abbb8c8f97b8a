//! Sending everybody away in slots: by a signal, by the API, at once.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use support::rooms::Client;
use support::{Server, api, next};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

/// When a client is to leave, in milliseconds from now.
fn slot(client: &mut Client) -> u64 {
    client.next_of("reconnect")["after"].as_u64().unwrap()
}

/// Leaves as a client does that will be back.
fn leave(client: &mut Client) {
    let frame = CloseFrame { code: 4000.into(), reason: "".into() };
    client.socket.close(Some(frame)).unwrap();
    while client.socket.read().is_ok() {}
}

#[test]
fn every_client_gets_a_slot_of_its_own() {
    // Slots are told as the time that is left: so long that it does not matter how fast they are told.
    let mut server = Server::start(&["--set", "cluster.drain_spread=1h"]);
    let mut clients: Vec<Client> = (0..200).map(|_| server.plain("/ws/lobby")).collect();
    server.signal(Signal::TERM);
    server.until_logged("sending everybody away");
    let slots: Vec<u64> = clients.iter_mut().map(slot).collect();
    let distinct: HashSet<u64> = slots.iter().copied().collect();
    assert!(distinct.len() >= 195, "two have the same slot: {}", distinct.len());
    for eighth in 0..8 {
        let within = eighth * 450_000..(eighth + 1) * 450_000;
        let count = slots.iter().filter(|slot| within.contains(*slot)).count();
        assert!((10..=40).contains(&count), "{count} in {within:?} of {distinct:?}");
    }
}

#[test]
fn everybody_leaves_in_time() {
    let arguments = ["--set", "cluster.drain_spread=4s", "--set", "shutdown_grace=60s"];
    let mut server = Server::start(&arguments);
    let mut clients: Vec<Client> = (0..200)
        .map(|number| match number % 2 {
            0 => server.full(""),
            _ => server.plain("/ws/lobby"),
        })
        .collect();
    let mut others: Vec<_> = (0..20).map(|_| server.websocket("/relay")).collect();
    others.extend((0..20).map(|_| server.websocket("/echo")));
    for socket in &mut others[20..] {
        socket.send(Message::text("x")).unwrap();
        assert_eq!(next(socket), Message::text("x"), "a worker has it");
    }
    let mut streams: Vec<_> = (0..4).map(|_| server.events("room=lobby", &[])).collect();
    for stream in &mut streams {
        stream.next_of("joined");
    }
    server.until_metric("throng_connections", |count| count == 240);

    let began = Instant::now();
    server.signal(Signal::TERM);
    server.until_logged("sending everybody away");
    let mut slots: Vec<(u64, Client)> = clients.drain(..).map(|mut c| (slot(&mut c), c)).collect();

    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.text()), (503, "draining\n"));
    assert_eq!(server.get("/healthz").status, 200, "it is alive");
    for path in ["/ws/lobby", "/relay", "/echo"] {
        let refused = server.upgrade(path, &[]);
        assert_eq!(refused.status, 503, "{path}");
        assert_ne!(refused.header("retry-after"), "", "{path}");
    }
    assert_eq!(server.get("/sse?room=lobby").refusal(), (503, "unavailable".into()));
    assert_eq!(server.metric("throng_draining"), 1);
    assert_eq!(server.metric("throng_drain_connections"), 244);

    slots.sort_by_key(|(slot, _)| *slot);
    assert!(slots.iter().all(|(slot, _)| *slot <= 4000), "{:?}", slots.last().map(|last| last.0));

    // Three of four leave in their slots, the others have not understood.
    let mut deaf = Vec::new();
    for (number, (slot, mut client)) in slots.into_iter().enumerate() {
        if number % 4 == 3 {
            deaf.push(client);
            continue;
        }
        sleep(Duration::from_millis(slot).saturating_sub(began.elapsed()));
        leave(&mut client);
    }
    for mut client in deaf {
        assert_eq!(client.closed().0, 1012);
    }
    for socket in &mut others {
        match next(socket) {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1012),
            other => panic!("{other:?}"),
        }
        while socket.read().is_ok() {}
    }
    for stream in &mut streams {
        assert!(stream.next_of("reconnect")["after"].as_u64().unwrap() <= 4000);
        while stream.next().is_some() {}
    }
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"bye\""), "{log}");
}

#[test]
fn a_server_on_its_own_lets_go_at_once_and_says_when_to_come_back() {
    let mut server = Server::start(&[]);
    let mut clients = [server.full(""), server.plain("/ws/lobby"), server.full("")];
    let mut stream = server.events("room=lobby", &[]);
    stream.next_of("joined");
    server.signal(Signal::TERM);
    let mut slots = HashSet::new();
    for client in &mut clients {
        let slot = slot(client);
        assert!((900..=1100).contains(&slot), "after a second, close together: {slot}");
        slots.insert(slot);
        let (code, reason) = client.closed();
        assert_eq!((code, reason.as_str()), (1012, "the server is restarting"));
        while client.socket.read().is_ok() {}
    }
    assert!(slots.len() > 1, "{slots:?}");
    assert_eq!(stream.next_of("reconnect")["type"], "reconnect");
    assert!(stream.next().is_none());
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn an_interrupt_gives_no_slots() {
    let mut server = Server::start(&["--set", "cluster.drain_spread=1h"]);
    let mut client = server.full("");
    server.signal(Signal::INT);
    loop {
        match next(&mut client.socket) {
            Message::Text(text) => assert!(!text.contains("\"reconnect\""), "{text}"),
            Message::Close(Some(frame)) => {
                assert_eq!(u16::from(frame.code), 1001);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    while client.socket.read().is_ok() {}
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut server = Server::start(&["--set", "cluster.drain_spread=1h"]);
    // The second one, for the first slot is at once.
    let mut clients = [server.full(""), server.full("")];
    server.signal(Signal::TERM);
    server.until_logged("sending everybody away");
    assert!(clients.iter_mut().map(slot).any(|slot| slot > 1_000_000));
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log}");
}

#[test]
fn messages_go_on_while_clients_leave() {
    let mut server = Server::start(&["--set", "cluster.drain_spread=1h"]);
    let clients = [server.plain("/ws/lobby"), server.plain("/ws/lobby")];
    server.signal(Signal::TERM);
    server.until_logged("sending everybody away");
    // The other one has to go at once.
    let mut client = clients.into_iter().find_map(|mut c| (slot(&mut c) > 1_000_000).then_some(c));
    let client = client.as_mut().unwrap();
    client.say(json!({"type": "chat", "text": "still here", "ref": 7}).to_string());
    assert_eq!(client.next_of("ack")["ref"], 7);
    assert_eq!(client.next_of("chat")["text"], "still here");
}

#[test]
fn the_api_empties_a_server_that_goes_on() {
    let mut server = api::server("");
    let mut client = server.plain("/ws/lobby");
    for wrong in [r#"{"spread":-1}"#, r#"{"spread":3600001}"#, r#"{"spraed":1}"#, "[]"] {
        let refused = server.call("POST", "/nodes/self/drain", wrong);
        assert_eq!(refused.refusal(), (400, "bad_message".into()), "{wrong}");
    }
    let nobody = server.call("POST", "/nodes/nobody/drain", "");
    assert_eq!(nobody.refusal(), (404, "not_found".into()));
    assert_eq!(server.get("/readyz").status, 200, "nothing has begun");

    let begun = server.call("POST", "/nodes/self/drain", r#"{"spread":500}"#);
    assert_eq!(begun.status, 200, "{begun:?}");
    let begun = begun.json();
    assert_eq!((&begun["spread"], &begun["drain"]["total"]), (&json!(500), &json!(1)), "{begun}");
    assert!(slot(&mut client) <= 500);
    leave(&mut client);
    server.until_metric("throng_drain_left", |left| left == 0);
    let node = server.read("/nodes/self").json();
    assert_eq!((&node["draining"], &node["drain"]["left"]), (&json!(true), &json!(0)), "{node}");
    assert_eq!(node["id"], begun["node"]);
    assert_eq!((server.get("/readyz").status, server.get("/healthz").status), (503, 200));
    assert_eq!(server.upgrade("/ws/lobby", &[]).status, 503);
    assert_eq!(server.post("/rooms/lobby/messages", r#"{"type":"x"}"#).status, 200);
    let id = begun["node"].as_str().unwrap();
    let again = server.call("POST", &format!("/nodes/{id}/drain"), r#"{"spread":9000}"#);
    assert_eq!(again.json()["spread"], 500, "the first one goes on");
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_drain_of_the_api_can_be_taken_back() {
    let server = api::server("");
    let drain = |spread: u64| {
        let body = format!("{{\"spread\":{spread}}}");
        let begun = server.call("POST", "/nodes/self/drain", &body);
        assert_eq!(begun.status, 200, "{begun:?}");
    };
    let undrain = || server.call("DELETE", "/nodes/self/drain", "");
    assert_eq!(undrain().status, 200, "nothing to take back");
    assert_eq!(
        server.call("DELETE", "/nodes/nobody/drain", "").refusal(),
        (404, "not_found".into())
    );

    let clients = [server.plain("/ws/lobby"), server.plain("/ws/lobby")];
    drain(3_600_000);
    // One of them has to go at once.
    let mut clients: Vec<Client> =
        clients.into_iter().filter_map(|mut c| (slot(&mut c) > 1_000_000).then_some(c)).collect();
    let client = &mut clients[0];
    assert_eq!((server.get("/readyz").status, server.metric("throng_draining")), (503, 1));
    let back = undrain();
    assert_eq!(
        (back.status, &back.json()["node"]),
        (200, &server.read("/nodes/self").json()["id"])
    );
    assert_eq!((server.get("/readyz").status, server.metric("throng_draining")), (200, 0));
    let node = server.read("/nodes/self").json();
    assert_eq!((&node["draining"], node.get("drain")), (&json!(false), None));
    let mut other = server.plain("/ws/lobby");

    // Whoever has a slot keeps it, and gets no other one when it begins again; the others are told then.
    drain(3000);
    assert!(slot(&mut other) <= 3000);
    client.say(json!({"type": "chat", "text": "still here", "ref": 7}).to_string());
    loop {
        let message = client.next();
        assert_ne!(message["type"], "reconnect", "{message}");
        if message["type"] == "ack" {
            break;
        }
    }
    assert_eq!(undrain().status, 200);
    // Also when all is well again: it is closed 2 s behind its slot.
    assert_eq!(other.closed().0, 1012);
    client.say(json!({"type": "chat", "text": "still here", "ref": 8}).to_string());
    assert_eq!(client.next_of("ack")["ref"], 8);
}

#[test]
fn what_a_signal_has_begun_cannot_be_taken_back() {
    let keys = format!("api.keys={}", api::LINE);
    let mut server = Server::start(&["--set", "cluster.drain_spread=1h", "--set", &keys]);
    let _clients = [server.full(""), server.full("")];
    // Nor what the API has begun before.
    assert_eq!(server.call("POST", "/nodes/self/drain", r#"{"spread":3000000}"#).status, 200);
    server.signal(Signal::TERM);
    server.until_logged("sending everybody away");
    let refused = server.call("DELETE", "/nodes/self/drain", "");
    assert_eq!(refused.refusal(), (503, "unavailable".into()));
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.upgrade("/ws/lobby", &[]).status, 503);
}
