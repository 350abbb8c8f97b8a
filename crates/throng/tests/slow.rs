//! Peers that do not read, do not answer, or do not go; and the end of the server.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;

use std::io::Write;
use std::time::Duration;

use rig::{Rig, eventually, text};
use throng::{Endpoint, Server, SlowPolicy};
use tungstenite::Message;

#[test]
fn an_echo_peer_that_does_not_read_is_not_read_from_and_loses_nothing() {
    const MESSAGES: usize = 3_000;
    let rig = Rig::start(
        Server::builder().workers(1).endpoint("/echo", Endpoint::echo().outbox(100_000)),
    );
    let mut socket = rig.connect("/echo");
    let mut writer = socket.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for i in 0..MESSAGES {
            let mut frame = vec![0x82, 0xfe, 0x27, 0x10, 0, 0, 0, 0]; // 10,000 bytes
            frame.resize(8 + 10_000, i as u8);
            writer.write_all(&frame).unwrap();
        }
    });
    eventually("it is paused", || rig.server.stats().paused > 0);
    // Another peer on the same worker does not notice.
    let mut other = rig.connect("/echo");
    other.send(Message::text("hi")).unwrap();
    assert_eq!(text(&mut other), "hi");
    for i in 0..MESSAGES {
        let message = socket.read().unwrap().into_data();
        assert_eq!((message.len(), message[9_999]), (10_000, i as u8));
    }
    sender.join().unwrap();
}

fn flood(slow: SlowPolicy) -> (Rig, rig::Socket, Vec<rig::Socket>) {
    let endpoint = Endpoint::relay("r").outbox(200_000).slow(slow);
    let rig = Rig::start(Server::builder().workers(1).endpoint("/relay", endpoint));
    let lazy = rig.connect("/relay");
    let mut keen: Vec<_> = (0..2).map(|_| rig.connect("/relay")).collect();
    rig::eventually("all are in", || rig.server.stats().connections == 3);
    let message = vec![7; 50_000];
    for i in 0..400u32 {
        let mut message = message.clone();
        message[..4].copy_from_slice(&i.to_le_bytes());
        keen[0].send(Message::binary(message)).unwrap();
        for socket in &mut keen {
            let got = socket.read().unwrap().into_data();
            assert_eq!(got[..4], i.to_le_bytes());
        }
    }
    // Answered in a turn behind that in which the last message was for the lazy one.
    keen[0].send(Message::Ping(vec![1].into())).unwrap();
    assert_eq!(keen[0].read().unwrap(), Message::Pong(vec![1].into()));
    (rig, lazy, keen)
}

#[test]
fn a_slow_member_is_closed_with_4508() {
    let (rig, mut lazy, _keen) = flood(SlowPolicy::Disconnect);
    assert_eq!(rig.server.stats().slow_disconnects, 1);
    assert_eq!(rig::drain(&mut lazy), Some(4508));
}

#[test]
fn or_its_messages_are_dropped_whole() {
    let (rig, mut lazy, mut keen) = flood(SlowPolicy::Drop);
    let dropped = rig.server.stats().dropped;
    assert!(dropped > 0);
    let mut last = None;
    for _ in 0..400 - dropped {
        let got = lazy.read().unwrap().into_data();
        assert_eq!(got.len(), 50_000);
        let number = u32::from_le_bytes(got[..4].try_into().unwrap());
        assert!(last < Some(number), "{last:?} then {number}");
        last = Some(number);
    }
    keen[0].send(Message::text("caught up")).unwrap();
    assert_eq!(text(&mut lazy), "caught up");
}

#[test]
fn silent_peers_are_pinged_and_dead_ones_terminated() {
    let heartbeat = Duration::from_secs(3); // the time to answer in
    let rig = Rig::start(
        Server::builder().workers(1).heartbeat(heartbeat).endpoint("/echo", Endpoint::echo()),
    );
    let mut alive = rig.connect("/echo");
    let dead = rig.connect("/echo"); // never reads, so never answers
    for _ in 0..4 {
        // Reading answers the ping.
        assert!(matches!(alive.read().unwrap(), Message::Ping(_)));
        alive.flush().unwrap();
    }
    eventually("the dead one is gone", || rig.server.stats().heartbeat_timeouts == 1);
    alive.send(Message::text("here")).unwrap();
    while alive.read().unwrap() != Message::text("here") {}
    drop(dead);
}

#[test]
fn shutdown_closes_with_1001_and_terminates_who_stays() {
    let rig = Rig::start(
        Server::builder()
            .workers(2)
            .endpoint("/ws", Endpoint::rooms("lobby"))
            .endpoint("/echo", Endpoint::echo()),
    );
    let mut polite: Vec<_> = (0..4).map(|_| rig.connect("/echo")).collect();
    polite.push(rig.connect("/ws"));
    let stubborn = rig.connect("/echo"); // never reads
    eventually("all are in", || rig.server.stats().connections == 6);
    let server = rig.server.clone();
    let readers: Vec<_> = polite
        .into_iter()
        .map(|mut socket| std::thread::spawn(move || rig::drain(&mut socket)))
        .collect();
    std::thread::scope(|scope| {
        let long = scope.spawn(|| rig.block_on(server.shutdown(Duration::from_secs(60))));
        for reader in readers {
            assert_eq!(reader.join().unwrap(), Some(1001));
        }
        eventually("only the stubborn one is left", || server.stats().connections == 1);
        assert!(!long.is_finished(), "it is waited for");
        rig.block_on(server.shutdown(Duration::from_millis(500)));
        long.join().unwrap();
    });
    assert_eq!(server.stats().connections, 0);
    let (status, headers) = rig.refusal("/echo", &[]);
    assert_eq!((status, headers.contains_key("retry-after")), (503, true));
    drop(stubborn);
}

#[test]
fn a_shutdown_waits_for_connections_on_their_way_to_a_worker() {
    let rig = Rig::start(Server::builder().workers(2).endpoint("/echo", Endpoint::echo()));
    let sockets: Vec<_> = (0..20).map(|_| rig.connect("/echo")).collect();
    // The last has its 101, and may not have reached its worker.
    let server = rig.server.clone();
    let readers: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| std::thread::spawn(move || rig::drain(&mut socket)))
        .collect();
    rig.block_on(server.shutdown(Duration::from_secs(10)));
    for reader in readers {
        assert_eq!(reader.join().unwrap(), Some(1001));
    }
    assert_eq!(rig.server.stats().connections, 0);
}
