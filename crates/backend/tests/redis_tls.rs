//! Arrangements of several servers that let only those in who have papers: TLS on all sides, and users with a password.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "redis/node.rs"]
mod node;
mod world;

use std::time::Duration;

use node::{Node, wait};
use throng_backend::{RedisMode, RedisOptions};
use throng_redis_rig::{Cluster, NAME, Sentinels};
use world::redis::{Guarded, Rig as _};

fn of_sentinels(guarded: &Guarded<Sentinels>) -> RedisOptions {
    RedisOptions { probe: Duration::from_secs(1), ..guarded.options() }
}

fn of_cluster(guarded: &Guarded<Cluster>) -> RedisOptions {
    RedisOptions { probe: Duration::from_secs(1), ..guarded.options() }
}

/// Why the first server that cannot be reached cannot.
fn trouble(node: &Node) -> String {
    let status = node.redis.status();
    let of_servers = status.servers.into_iter().find_map(|server| server.trouble);
    of_servers.or(status.trouble.map(|(_, why)| why)).unwrap_or_default()
}

#[test]
fn sentinels_name_another_primary() {
    // Everybody is told by name, and certificates are for this name alone.
    let mut it = Guarded::start("localhost", "localhost", Sentinels::guarded).unwrap();
    let options = of_sentinels(&it);
    let (a, b) = (Node::new(options.clone()), Node::new(options));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    a.join(&here, "u_anna");
    a.publish(&here, "s", 1, "one");
    wait("it is there", || b.delivered("lobby").len() == 1);
    let address = a.redis.status().servers[0].address.clone();
    assert!(address.starts_with("localhost:"), "{address}");
    let epoch = here.order().epoch();
    let old = it.rig.kill_primary().unwrap();
    it.rig.wait_for_another(old).unwrap();
    a.publish(&here, "s", 2, "two");
    wait("it is there", || b.knows(&there, "two"));
    wait("both are in the same epoch", || here.order().epoch() == there.order().epoch());
    assert_ne!(here.order().epoch(), epoch);
    wait("anna is seen", || there.order().users().any(|who| who.user_id() == "u_anna"));
    // Nothing that is shown has a password.
    let shown = format!("{:?} {:?}", a.redis, a.redis.status());
    assert!(!shown.contains(it.papers.password), "{shown}");
}

#[test]
fn slots_move_and_primaries_die() {
    let mut it = Guarded::start("localhost", "localhost", Cluster::guarded).unwrap();
    let options = of_cluster(&it);
    let (a, b) = (Node::new(options.clone()), Node::new(options));
    let rooms: Vec<_> = (0..6).map(|n| format!("room{n}")).collect();
    let rooms: Vec<_> = rooms.iter().map(|name| (a.room(name), b.room(name))).collect();
    let publish = |reference, text: &str| {
        for (here, there) in &rooms {
            a.publish(here, "s", reference, text);
            wait("it is there", || b.knows(there, text));
        }
    };
    publish(1, "one");
    let key = "throng:{room0}";
    let from = it.rig.owner_of(key).unwrap();
    let to = (0..3).find(|server| *server != from).unwrap();
    it.rig.move_slot(key, to).unwrap();
    publish(2, "two");
    it.rig.server_mut(to).kill();
    it.rig.wait_for_another(key, to).unwrap();
    publish(3, "three");
    let servers = a.redis.status().servers;
    assert!(servers.iter().all(|server| server.address.starts_with("localhost:")), "{servers:?}");
}

#[test]
fn certificates_for_another_name() {
    // The servers tell addresses, and have certificates for a name.
    let name = "redis.example";
    let sentinels = Guarded::start("127.0.0.1", name, Sentinels::guarded).unwrap();
    let cluster = Guarded::start("127.0.0.1", name, Cluster::guarded).unwrap();
    for options in [of_sentinels(&sentinels), of_cluster(&cluster)] {
        let wrong = Node::new(options.clone());
        wait("it is said", || trouble(&wrong).contains("certificate"));
        assert!(wrong.try_room("lobby").is_none());
        let named = |name: &str| {
            let mut options = options.clone();
            options.tls.name = Some(name.to_owned());
            options
        };
        let wrong = Node::new(named("other.example"));
        wait("it is said", || trouble(&wrong).contains("certificate"));
        let (a, b) = (Node::new(named(name)), Node::new(named(name)));
        let (here, there) = (a.room("lobby"), b.room("lobby"));
        a.publish(&here, "s", 1, "one");
        wait("it is there", || b.knows(&there, "one"));
    }
}

#[test]
fn sentinels_let_in_who_has_their_password() {
    let it = Guarded::start("127.0.0.1", "127.0.0.1", Sentinels::guarded).unwrap();
    let without = RedisOptions {
        mode: RedisMode::Sentinel { master: NAME.to_owned(), auth: None },
        ..of_sentinels(&it)
    };
    let error = throng_backend::Redis::connect(without).unwrap_err();
    assert!(matches!(error, throng_backend::RedisError::Denied { .. }), "{error}");
    let node = Node::new(of_sentinels(&it));
    assert_eq!(node.publish(&node.room("lobby"), "s", 1, "one"), 1);
}
