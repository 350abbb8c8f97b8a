//! All members of a room, on whatever worker, see one order; none sees a hole or a duplicate.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;

use rig::{Rig, text};
use throng::{Endpoint, Flush, Server};
use tungstenite::Message;

const MEMBERS: usize = 8;
const EACH: usize = 500;

fn everybody_talks(endpoint: Endpoint, frame: fn(usize, usize) -> String) -> Vec<Vec<String>> {
    let rig = Rig::start(Server::builder().workers(4).endpoint("/room", endpoint));
    let members: Vec<_> = (0..MEMBERS).map(|_| rig.connect("/room")).collect();
    rig::eventually("all are in", || rig.server.stats().connections == MEMBERS as u64);
    let threads: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(member, mut socket)| {
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                for number in 0..EACH {
                    socket.send(Message::text(frame(member, number))).unwrap();
                    if number % 10 == 9 {
                        seen.push(text(&mut socket));
                    }
                }
                while seen.iter().filter(|message| message.contains("\"n\"")).count()
                    < MEMBERS * EACH
                {
                    seen.push(text(&mut socket));
                }
                seen.retain(|message| message.contains("\"n\""));
                seen
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn check(seen: &[Vec<String>]) {
    assert_eq!(seen[0].len(), MEMBERS * EACH);
    for other in &seen[1..] {
        assert!(*other == seen[0], "two members saw different orders");
    }
    for member in 0..MEMBERS {
        let own = seen[0].iter().filter(|message| message.contains(&format!("\"m\":{member},")));
        let numbers: Vec<usize> = own
            .map(|message| {
                let at = message.find("\"n\":").unwrap() + 4;
                message[at..].trim_end_matches('}').parse().unwrap()
            })
            .collect();
        assert!(numbers.into_iter().eq(0..EACH), "member {member}");
    }
}

#[test]
fn relay_has_one_order() {
    let frame = |member, number| format!(r#"{{"m":{member},"n":{number}}}"#);
    check(&everybody_talks(Endpoint::relay("r"), frame));
}

#[test]
fn rooms_have_one_order_without_holes_whatever_is_held() {
    let frame = |member, number| format!(r#"{{"type":"x","m":{member},"n":{number}}}"#);
    let held = Flush::Every(std::time::Duration::from_millis(3));
    for flush in [Flush::Auto, held] {
        let seen = everybody_talks(Endpoint::rooms("lobby").flush(flush), frame);
        check(&seen);
        for (at, message) in seen[0].iter().enumerate() {
            assert!(message.contains(&format!("\"seq\":{},", at + 1)), "{message}");
        }
    }
}
