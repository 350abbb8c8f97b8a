//! Rooms of many nodes, with real servers that are cut off, stopped and restarted.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "redis/node.rs"]
mod node;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use node::{LONG, Node, Said, wait};
use throng_backend::{Redis, RedisError, RedisMode, RedisOptions, RedisTls};
use throng_hub::{Presence, Room, Rule, Space};
use throng_redis_rig::{Data, Server, Setup};
use throng_wire::OpCode;

fn options(server: &Server) -> RedisOptions {
    RedisOptions {
        urls: vec![server.url()],
        probe: Duration::from_secs(1),
        ..RedisOptions::default()
    }
}

/// Waits until both have been given exactly these, in order.
fn agree(nodes: &[&Node], room: &str, count: u64) {
    for node in nodes {
        wait("everything is delivered", || node.delivered(room).len() as u64 >= count);
        let numbers: Vec<u64> = node.delivered(room).iter().map(|(seq, _)| *seq).collect();
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
        assert_eq!(node.delivered(room), nodes[0].delivered(room));
    }
}

#[test]
fn two_nodes_share_a_room() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let (a, b) = (Node::new(options(&server)), Node::new(options(&server)));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    let threads = [(&a, &here, "s_a"), (&b, &there, "s_b")];
    thread::scope(|scope| {
        for (node, room, session) in threads {
            scope.spawn(move || {
                for n in 1..=200 {
                    wait("there is room", || node.send(room, session, n, &format!("{session}{n}")));
                }
            });
        }
    });
    agree(&[&a, &b], "lobby", 400);
    assert!(a.answers().iter().all(|(_, result, duplicate)| result.is_some() && !duplicate));
    // Each session's in their order.
    let texts: Vec<_> = b.delivered("lobby").into_iter().map(|(_, text)| text).collect();
    let own: Vec<_> = texts.iter().filter(|text| text.starts_with("s_a")).cloned().collect();
    assert_eq!(own, (1..=200).map(|n| format!("s_a{n}")).collect::<Vec<_>>());
    // The server has forgotten the scripts.
    server.order(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(a.publish(&here, "s_a", 1000, "x"), 401);
    // A third one finds all of it, and so does a later run.
    let c = Node::new(options(&server));
    let room = c.room("lobby");
    assert_eq!(c.numbers(&room), (1..=401).collect::<Vec<_>>());
    assert_eq!(room.order().epoch(), here.order().epoch());
    wait("the status says so", || {
        let status = a.redis.status();
        status.servers[0].connected && status.servers[0].subscribed && status.stored == 201
    });
    let status = a.redis.status();
    assert!(status.appends <= 201 && status.failed == 0, "{status:?}");
}

#[test]
fn what_is_sent_again_to_another_node_or_run_is_stored_once() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let (a, b) = (Node::new(options(&server)), Node::new(options(&server)));
    assert_eq!(a.publish(&a.room("lobby"), "s", 5, "x"), 1);
    drop(a);
    let there = b.room("lobby");
    assert!(b.send(&there, "t", 5, "y"));
    let c = Node::new(options(&server));
    assert_eq!(c.publish(&c.room("lobby"), "s", 5, "x"), 1);
    wait("the other one's", || b.delivered("lobby").len() == 1);
    let third = c.publish(&c.room("lobby"), "s", 6, "z");
    assert_eq!(third, 3);
}

#[test]
fn nothing_is_missed_when_channels_are_cut() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let (a, b) = (Node::new(options(&server)), Node::new(options(&server)));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    let sent = busy(&server, "pubsub", &[(&a, &here), (&b, &there)]);
    agree(&[&a, &b], "lobby", sent);
    assert_eq!(a.renewed() + b.renewed(), 0);
}

#[test]
fn nothing_is_lost_or_doubled_when_commands_are_cut() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let (a, b) = (Node::new(options(&server)), Node::new(options(&server)));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    let sent = busy(&server, "normal", &[(&a, &here), (&b, &there)]);
    // What was published without success is published again with the same ref: exactly once each.
    agree(&[&a, &b], "lobby", sent);
    assert_eq!(a.renewed() + b.renewed(), 0);
}

/// Publishes from both while connections are cut. How many.
fn busy(server: &Server, cut: &str, nodes: &[(&Node, &Arc<Room>)]) -> u64 {
    const EACH: u64 = 150;
    let until = Instant::now() + Duration::from_secs(3);
    thread::scope(|scope| {
        for (n, (node, room)) in nodes.iter().enumerate() {
            scope.spawn(move || {
                let session = format!("s_{n}");
                for reference in 1..=EACH {
                    node.publish(room, &session, reference, &format!("{session}-{reference}"));
                    thread::sleep(Duration::from_millis(10));
                }
            });
        }
        // For some time, and as often as it takes for each to be cut off several times.
        let is_cut = |(node, _): &(&Node, _)| node.redis.status().cuts > 3;
        while Instant::now() < until || !nodes.iter().all(is_cut) {
            assert!(Instant::now() < until + LONG, "nobody is cut off");
            let _ = server.ask(&["CLIENT", "KILL", "TYPE", cut, "SKIPME", "yes"]);
            thread::sleep(Duration::from_millis(150));
        }
    });
    EACH * nodes.len() as u64
}

#[test]
fn a_server_that_hangs() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let (a, b) = (Node::new(options(&server)), Node::new(options(&server)));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    a.publish(&here, "s", 1, "before");
    server.pause();
    let began = Instant::now();
    a.send(&here, "s", 2, "meanwhile");
    wait("it is noticed", || {
        let status = a.redis.status();
        !status.servers[0].connected && !status.servers[0].subscribed
    });
    println!("noticed after {:?}", began.elapsed());
    // Now it says no at once.
    wait("messages are refused", || !a.send(&here, "s", 3, "no"));
    assert!(a.try_room("new").is_none());
    assert!(here.order().history(throng_hub::Span::Newest, 1, 999, None, node::now()).is_err());
    server.go_on();
    let seq = b.publish(&there, "t", 9, "after");
    a.publish(&here, "s", 2, "meanwhile");
    a.publish(&here, "s", 4, "on");
    agree(&[&a, &b], "lobby", 4);
    assert!(seq == 2 || seq == 3);
    assert_eq!(a.renewed() + b.renewed(), 0);
    a.wait_until_current(&here);
}

#[test]
fn a_server_that_forgets() {
    let mut server = Server::start(Setup::in_memory()).unwrap();
    let (a, b) = (Node::new(options(&server)), Node::new(options(&server)));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    for n in 1..=3 {
        a.publish(&here, "s", n, "x");
    }
    let epoch = here.order().epoch();
    server.start_again(Data::Lost).unwrap();
    wait("both begin anew", || a.renewed() > 0 && b.renewed() > 0);
    assert_eq!(a.publish(&here, "s", 9, "new"), 1);
    wait("it is there", || b.delivered("lobby").last().is_some_and(|(seq, _)| *seq == 1));
    assert_eq!(here.order().epoch(), there.order().epoch());
    assert_ne!(here.order().epoch(), epoch);
    // What was published before may be lost, and is stored again.
    assert_eq!(a.publish(&here, "s", 3, "x"), 2);
}

#[test]
fn a_server_that_restarts_with_its_data() {
    let always = ["--appendfsync", "always"];
    for trusting in [false, true] {
        let mut server = Server::start(Setup::durable().with(always)).unwrap();
        let options = RedisOptions { trust_restarts: trusting, ..options(&server) };
        let (a, b) = (Node::new(options.clone()), Node::new(options));
        let (here, there) = (a.room("lobby"), b.room("lobby"));
        for n in 1..=3 {
            a.publish(&here, "s", n, &format!("m{n}"));
        }
        let epoch = here.order().epoch();
        wait("they have come", || b.delivered("lobby").len() == 3);
        server.start_again(Data::Kept).unwrap();
        assert_eq!(a.publish(&here, "s", 4, "m4"), 4);
        assert_eq!(b.publish(&there, "s", 2, "m2"), 2);
        wait("both are where they were", || {
            let (here, there) = (here.order(), there.order());
            (here.epoch(), here.seq()) == (there.epoch(), there.seq()) && here.seq() == 4
        });
        a.wait_until_current(&here);
        assert_eq!(a.numbers(&here), [1, 2, 3, 4]);
        assert_eq!(here.order().epoch() == epoch, trusting);
        assert_eq!(a.renewed() > 0, !trusting);
    }
}

#[test]
fn full_memory() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let (a, b) = (Node::new(options(&server)), Node::new(options(&server)));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    a.publish(&here, "s", 1, "x");
    wait("it is heard", || b.delivered("lobby").len() == 1);
    server.order(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    assert!(a.send(&here, "s", 2, "y"));
    wait("it is refused", || a.answers().contains(&(2, None, false)));
    // A room can be opened and read.
    assert_eq!(b.numbers(&there), [1]);
    assert_eq!(Node::new(options(&server)).room("lobby").order().seq(), 1);
    server.order(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(a.publish(&here, "s", 2, "y"), 2);
    agree(&[&a, &b], "lobby", 2);
}

#[test]
fn users_on_other_nodes() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let (a, b) = (Node::new(options(&server)), Node::new(options(&server)));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    a.join(&here, "u_anna");
    wait("anna is seen", || there.order().users().any(|who| who.user_id() == "u_anna"));
    b.join(&there, "u_bert");
    wait("bert is seen", || here.order().users().any(|who| who.user_id() == "u_bert"));
    // Channels are cut, and one goes meanwhile; a third node knows as much.
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    let c = Node::new(options(&server));
    let room = c.room("lobby");
    assert_eq!(room.order().user_count(), 2);
    drop(b);
    wait("bert is gone", || here.order().user_count() == 1 && room.order().user_count() == 1);
    // The server has forgotten everything: whoever is here is seated again.
    server.order(&["FLUSHALL"]).unwrap();
    wait("anna is back", || {
        let d = Node::new(options(&server));
        let count = d.room("lobby").order().user_count();
        count == 1
    });
}

#[test]
fn frames_for_relays_and_volatile_rooms() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let rule = Rule { volatile: true, presence: Presence::Off, ..Rule::default() };
    let (a, b) =
        (Node::with_rule(options(&server), rule.clone()), Node::with_rule(options(&server), rule));
    for space in [Space::ROOMS, Space(3)] {
        let here = a.hub.room(space, "live", node::now());
        let there = b.hub.room(space, "live", node::now());
        assert!(here.order().ready(throng_hub::Asker::NOBODY).is_ok());
        let payload = format!("\0{}", space.0).into_bytes();
        wait("it is heard", || {
            here.order().relay(OpCode::Binary, &payload);
            let said = Said::Cast(OpCode::Binary, payload.clone().into());
            b.ears.said().contains(&said)
        });
        drop(there);
    }
    assert!(a.ears.said().is_empty(), "nobody hears what he says");
}

#[test]
fn several_servers_share_the_rooms() {
    let servers = [(); 3].map(|()| Server::start(Setup::in_memory()).unwrap());
    let urls = || servers.iter().map(Server::url).collect::<Vec<_>>();
    let options = RedisOptions { urls: urls(), ..options(&servers[0]) };
    let mut turned = options.clone();
    turned.urls.reverse();
    let (a, b) = (Node::new(options), Node::new(turned));
    for n in 0..30 {
        let name = format!("room{n}");
        let (here, there) = (a.room(&name), b.room(&name));
        a.publish(&here, "s", n + 1, "x");
        b.publish(&there, "t", n + 1, "y");
        agree(&[&a, &b], &name, 2);
    }
    for server in &servers {
        let reply = server.ask(&["DBSIZE"]).unwrap();
        assert!(matches!(reply, throng_redis_rig::Reply::Number(n) if n > 3), "{reply:?}");
    }
}

#[test]
fn the_end_answers_everything() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let a = Node::new(options(&server));
    let room = a.room("lobby");
    a.join(&room, "u_anna");
    let sent = (1..=500).filter(|n| a.send(&room, "s", *n, "x")).count();
    a.redis.close();
    assert_eq!(a.answers().len(), sent);
    assert!(a.answers().iter().all(|(_, result, _)| result.is_some()));
    assert!(!a.send(&room, "s", 501, "x"));
    assert!(a.try_room("other").is_none());
    let b = Node::new(options(&server));
    assert_eq!(b.room("lobby").order().user_count(), 0);
    // With a server that hangs as well.
    let c = Node::new(options(&server));
    let room = c.room("lobby");
    server.pause();
    let sent = (1..=50).filter(|n| c.send(&room, "t", *n, "x")).count();
    let began = Instant::now();
    c.redis.close();
    assert!(began.elapsed() < LONG);
    assert_eq!(c.answers().len(), sent);
    server.go_on();
}

#[test]
fn tls_and_users() {
    let server = Server::start(Setup::in_memory().secured()).unwrap();
    let papers = server.papers().unwrap();
    let tls = RedisTls {
        ca: Some(papers.authority.clone()),
        cert: Some(papers.certificate.clone()),
        key: Some(papers.key.clone()),
        name: None,
    };
    let options = RedisOptions { tls, ..options(&server) };
    let (a, b) = (Node::new(options.clone()), Node::new(options.clone()));
    let (here, there) = (a.room("lobby"), b.room("lobby"));
    a.publish(&here, "s", 1, &"x".repeat(50_000));
    b.publish(&there, "t", 1, "y");
    agree(&[&a, &b], "lobby", 2);
    // Nothing that is shown has the password.
    let shown = format!("{:?} {:?} {:?}", options, a.redis, a.redis.status());
    assert!(!shown.contains(papers.password), "{shown}");
    let error = |change: fn(&mut RedisOptions)| {
        let mut options = options.clone();
        change(&mut options);
        refusal(&options)
    };
    let wrong = error(|options| options.urls[0] = options.urls[0].replacen("://", "://x", 1));
    assert!(matches!(wrong, RedisError::Denied { .. }), "{wrong}");
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let error = |options: RedisOptions| refusal(&options);
    let cluster = RedisOptions { mode: RedisMode::Cluster, ..options(&server) };
    assert!(matches!(error(cluster), RedisError::Mode { .. }));
    let main = server.port().to_string();
    let replica = Setup::in_memory().with(["--replicaof", "127.0.0.1", &main]);
    let replica = Server::start(replica).unwrap();
    assert!(matches!(error(options(&replica)), RedisError::Mode { .. }));
    for (url, prefix) in [
        ("http://127.0.0.1", "t"),
        ("redis://", "t"),
        ("redis://127.0.0.1/x", "t"),
        ("redis://a@127.0.0.1", "t"),
        ("redis://127.0.0.1", "{t}"),
        ("redis://127.0.0.1", ""),
    ] {
        let urls = vec![url.to_owned()];
        let options = RedisOptions { urls, prefix: prefix.to_owned(), ..RedisOptions::default() };
        assert!(matches!(error(options), RedisError::Option { .. }), "{url} {prefix}");
    }
    // One that is away may come.
    let mut server = server;
    server.kill();
    let a = Node::new(options(&server));
    assert!(a.try_room("lobby").is_none());
    assert!(matches!(Redis::visit(options(&server)), Err(RedisError::Away { .. })));
    server.start_again(Data::Lost).unwrap();
    assert_eq!(a.publish(&a.room("lobby"), "s", 1, "x"), 1);
    wait("it answers a visitor in time", || Redis::visit(options(&server)).is_ok());
}

/// What is wrong. A server that does not answer in two seconds counts as one that may come, and is asked again.
fn refusal(options: &RedisOptions) -> RedisError {
    let mut error = None;
    wait("it is refused", || {
        error = Redis::connect(options.clone()).map(|redis| redis.close()).err();
        error.is_some()
    });
    error.unwrap()
}
