//! Rooms in arrangements of several servers: Sentinel and Cluster.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "redis/node.rs"]
mod node;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use node::{Node, wait};
use throng_backend::{RedisMode, RedisOptions};
use throng_redis_rig::{Cluster, NAME, Sentinels};

#[test]
fn sentinels_name_another_primary() {
    // Nobody takes over before it was seen what happens without.
    let mut sentinels = Sentinels::start().and_then(Sentinels::calm).unwrap();
    let options = RedisOptions {
        urls: sentinels.urls(),
        mode: RedisMode::Sentinel { master: NAME.to_owned(), auth: None },
        probe: Duration::from_secs(1),
        ..RedisOptions::default()
    };
    let (a, b) = (Node::new(options.clone()), Node::new(options));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    a.join(&here, "u_anna");
    a.publish(&here, "s", 1, "one");
    wait("it is there", || b.delivered("lobby").len() == 1);
    let epoch = here.order().epoch();
    let old = sentinels.kill_primary().unwrap();
    wait("it is noticed", || !a.redis.status().servers.iter().any(|server| server.connected));
    wait("messages are refused", || !a.send(&here, "s", 77, "no"));
    sentinels.alert().unwrap();
    sentinels.wait_for_another(old).unwrap();
    let seq = a.publish(&here, "s", 2, "two");
    wait("it is there", || b.knows(&there, "two"));
    wait("both are in the same epoch", || here.order().epoch() == there.order().epoch());
    assert_ne!(here.order().epoch(), epoch);
    assert!(a.renewed() > 0 && b.renewed() > 0);
    assert!(seq >= 1);
    wait("anna is seen", || there.order().users().any(|who| who.user_id() == "u_anna"));
    // The old one comes back as a replica and changes nothing.
    sentinels.bring_back(old).unwrap();
    b.publish(&there, "t", 3, "three");
    wait("it is there", || a.knows(&here, "three"));
}

#[test]
fn slots_move_and_primaries_die() {
    let mut cluster = Cluster::start().unwrap();
    let options = RedisOptions {
        urls: cluster.urls(),
        mode: RedisMode::Cluster,
        probe: Duration::from_secs(1),
        ..RedisOptions::default()
    };
    let (a, b) = (Node::new(options.clone()), Node::new(options));
    let names: Vec<_> = (0..12).map(|n| format!("room{n}")).collect();
    let rooms: Vec<_> = names.iter().map(|name| (a.room(name), b.room(name))).collect();
    for (n, (here, there)) in rooms.iter().enumerate() {
        assert_eq!(a.publish(here, "s", 10 + n as u64, "x"), 1);
        assert_eq!(b.publish(there, "t", 10 + n as u64, "y"), 2);
        wait("both have both", || {
            a.delivered(&names[n]).len() == 2 && b.delivered(&names[n]).len() == 2
        });
    }

    // A slot moves while messages are published: all of them are there, once.
    let key = "throng:{room0}";
    let from = cluster.owner_of(key).unwrap();
    let to = (0..3).find(|server| *server != from).unwrap();
    let done = AtomicBool::new(false);
    let mut sent = 0;
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) || n < 50 {
                n += 1;
                a.publish(&rooms[0].0, "busy", n, &format!("busy{n}"));
            }
            n
        });
        thread::sleep(Duration::from_millis(200));
        cluster.move_slot(key, to).unwrap();
        thread::sleep(Duration::from_millis(500));
        done.store(true, Ordering::Relaxed);
        sent = publisher.join().unwrap();
    });
    assert_eq!(cluster.owner_of(key).unwrap(), to);
    let wanted: HashSet<_> = (1..=sent).map(|n| format!("busy{n}")).collect();
    for (node, room) in [(&a, &rooms[0].0), (&b, &rooms[0].1)] {
        wait("all messages are there", || room.order().seq() == sent + 2);
        node.wait_until_current(room);
        assert_eq!(node.numbers(room).len() as u64, (sent + 2).min(1000));
        let delivered: Vec<_> = node.delivered("room0").into_iter().map(|(_, text)| text).collect();
        let busy: Vec<_> = delivered.iter().filter(|text| text.starts_with("busy")).collect();
        let once: HashSet<_> = busy.iter().map(|text| text.to_string()).collect();
        assert_eq!(busy.len(), once.len(), "nothing is delivered twice");
        assert!(once.is_subset(&wanted));
    }
    b.publish(&rooms[0].1, "after", 1, "after");
    wait("it is heard at the new place", || a.knows(&rooms[0].0, "after"));

    // One primary dies, and its replica takes over.
    cluster.server_mut(to).kill();
    cluster.wait_for_another(key, to).unwrap();
    b.publish(&rooms[0].1, "after", 2, "later");
    wait("it is heard there", || a.knows(&rooms[0].0, "later"));
    for (n, (here, there)) in rooms.iter().enumerate() {
        a.publish(here, "end", 100 + n as u64, "end");
        b.publish(there, "end2", 100 + n as u64, "end2");
        wait("everything is there", || {
            let both = [(&a, here), (&b, there)];
            both.iter().all(|(node, room)| node.knows(room, "end") && node.knows(room, "end2"))
        });
    }
}
