//! A room with more users than fit in anything small, over two nodes.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "redis/node.rs"]
mod node;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node::{Node, now, wait};
use throng_backend::RedisOptions;
use throng_hub::{Ending, Identity, Room};
use throng_redis_rig::{Server, Setup};

/// Users on each node.
const EACH: usize = 4000;

/// Exactly these are there.
fn sees(room: &Room, wanted: &HashSet<String>) -> bool {
    let order = room.order();
    order.users().len() == wanted.len() && order.users().all(|who| wanted.contains(who.user_id()))
}

fn bytes(server: &Server, words: &[&str]) -> usize {
    usize::try_from(server.ask(words).unwrap().number().unwrap()).unwrap()
}

/// Memory of this process: the most there ever was, in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[test]
fn eight_thousand_users() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let options = RedisOptions {
        urls: vec![server.url()],
        probe: Duration::from_secs(1),
        ..RedisOptions::default()
    };
    let (a, b) = (Node::new(options.clone()), Node::new(options.clone()));
    let (here, there) = (a.room("hall"), b.room("hall"));
    let (start, empty) = (Instant::now(), peak());
    let mut all = HashSet::new();
    let mut come = |node: &Node, room: &Room, side: &str| -> Vec<Arc<Identity>> {
        let names = (0..EACH).map(|n| format!("u_{side}{n}"));
        names
            .map(|name| {
                all.insert(name.clone());
                node.join(room, &name)
            })
            .collect()
    };
    let (mine, theirs) = (come(&a, &here, "a"), come(&b, &there, "b"));
    wait("everybody is seen on both", || sees(&here, &all) && sees(&there, &all));
    let (took, grown) = (start.elapsed(), peak().saturating_sub(empty));
    // Redis has it once, and was not asked once for each of them.
    let roll = bytes(&server, &["MEMORY", "USAGE", "throng:{hall}:n", "SAMPLES", "0"]);
    let commands = a.redis.status().commands + b.redis.status().commands;
    println!(
        "{} users: {took:?}, {commands} commands, {roll} bytes in Redis, {grown} KiB here",
        2 * EACH
    );
    assert!(roll < 2 * EACH * 300, "{roll}");
    assert!(commands < 2000, "{commands}");

    // Somebody who comes later, and somebody who has not heard anything for a while, learn it in one piece.
    let asked = Instant::now();
    let c = Node::new(options);
    let room = c.room("hall");
    wait("all are seen", || sees(&room, &all));
    println!("a third node knows them after {:?}", asked.elapsed());
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();

    // Half of each go, and some of them come back.
    for (room, users) in [(&here, &mine), (&there, &theirs)] {
        for (n, who) in users.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
            room.order().leave(who, 0, Ending::Orderly, now());
            all.remove(who.user_id());
            if n % 10 == 0 {
                let node = if Arc::ptr_eq(room, &here) { &a } else { &b };
                node.join(room, who.user_id());
                all.insert(who.user_id().to_owned());
            }
        }
    }
    wait("all agree", || sees(&here, &all) && sees(&there, &all) && sees(&room, &all));

    // A node goes with all of its users.
    drop(b);
    all.retain(|user| user.starts_with("u_a"));
    wait("they are gone", || sees(&here, &all) && sees(&room, &all));
    wait("nothing is left of them but who was here", || {
        let left = bytes(&server, &["HLEN", "throng:{hall}:n"]);
        (all.len()..all.len() + 5).contains(&left)
    });
    let commands = a.redis.status().commands + c.redis.status().commands;
    println!("{} users are left after {commands} commands", all.len());
    assert!(commands < 4000, "{commands}");
}
