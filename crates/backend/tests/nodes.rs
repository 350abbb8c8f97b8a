//! What two nodes on the same Redis have in common, as seen through their hubs.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod world;

use std::thread;
use std::time::{Duration, Instant};

use throng_backend::{Redis, RedisOptions};
use throng_hub::History;
use throng_redis_rig::{Cluster, Data, Sentinels, Server, Setup};
use world::redis::{OnRedis, Rig};
use world::{ALL, World, now, state};

macro_rules! shared_contract {
    ($($name:ident: $rig:ty { $($test:ident)* })*) => {$(
        mod $name {
            $(#[test] fn $test() { super::$test::<$rig>(); })*
        }
    )*};
    ($($name:ident: $rig:ty),*) => {
        shared_contract! {$($name: $rig {
            nodes_have_one_order
            refs_are_known_to_other_nodes
            a_room_outlives_its_node
        })*}
    };
}

shared_contract! {
    redis: crate::Server, redis_sentinel: crate::Sentinels,
    redis_cluster: crate::Cluster
}

fn nodes_have_one_order<R: Rig>() {
    const EACH: u64 = 200;
    let first = OnRedis::<R>::new();
    let second = first.beside();
    let worlds = [&first, &second].map(|node| World::new(node.redis.clone(), ALL));
    let rooms = [0, 1].map(|node: usize| worlds[node].room("lobby"));
    assert_eq!(state(&rooms[0]), state(&rooms[1]));
    thread::scope(|scope| {
        for thread in 0..4 {
            let (world, room) = (&worlds[thread % 2], &rooms[thread % 2]);
            scope.spawn(move || {
                for n in 1..=EACH {
                    let text = format!("{thread}-{n}");
                    world.send(room, &format!("s_{thread}"), n, &text, now()).unwrap();
                }
            });
        }
    });
    for (world, room) in worlds.iter().zip(&rooms) {
        let reports = world.results.wait(2 * EACH as usize);
        assert!(reports.iter().all(|report| report.result.is_some() && !report.duplicate));
        world.wait_for_seq(room, 4 * EACH);
        assert!(world.seqs(room).into_iter().eq(1..=4 * EACH));
    }
    assert_eq!(worlds[0].past(&rooms[0]), worlds[1].past(&rooms[1]), "the same, to the byte");
}

fn refs_are_known_to_other_nodes<R: Rig>() {
    let first = OnRedis::<R>::new();
    let second = first.beside();
    let [here, there] =
        [&first, &second].map(|node| World::new(node.redis.clone(), History::default()));
    let (room, far) = (here.room("lobby"), there.room("lobby"));
    let result = here.publish_at(&room, "s_1", 7, "once", now());
    assert_eq!(result.map(|(seq, _)| seq), Some(1));
    // At once: perhaps before the other node has heard of it.
    assert_eq!(there.publish_at(&far, "s_1", 7, "once", now()), result);
    assert_eq!(there.publish(&far, "s_2", 7, "of another session"), Some(2));
    here.wait_for_seq(&room, 2);
    assert_eq!(here.publish(&room, "s_2", 7, "of another session"), Some(2));
    for (world, room) in [(&here, &room), (&there, &far)] {
        assert_eq!(world.seqs(room), [1, 2]);
    }
}

fn a_room_outlives_its_node<R: Rig>() {
    let first = OnRedis::<R>::new();
    let world = World::new(first.redis.clone(), History::default());
    let room = world.room("lobby");
    for n in 1..=5 {
        assert_eq!(world.publish(&room, "s_1", n, "hi"), Some(n));
    }
    let (known, past) = (state(&room), world.past(&room));
    let second = first.beside();
    first.redis.close();
    let world = World::new(second.redis.clone(), History::default());
    let room = world.room("lobby");
    assert_eq!((state(&room), world.past(&room)), (known, past));
    assert_eq!(world.publish(&room, "s_1", 5, "hi"), Some(5), "known by its `ref`");
    assert_eq!(world.publish(&room, "s_1", 6, "hi"), Some(6));
}

/// A server that comes back with its data may have lost some of it, and only its operator knows better.
#[test]
fn epochs_end_with_a_restart_unless_it_is_trusted() {
    for trust_restarts in [false, true] {
        let mut server = Server::start(Setup::durable()).unwrap();
        let urls = vec![server.url()];
        let options = RedisOptions { urls, trust_restarts, ..RedisOptions::default() };
        let redis = Redis::connect(options).unwrap();
        let world = World::new(redis.clone(), History::default());
        let room = world.room("lobby");
        assert_eq!(world.publish(&room, "s_1", 1, "hi"), Some(1));
        let (epoch, _) = state(&room);
        server.kill();
        server.start_again(Data::Kept).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let again = loop {
            // Refused while the server is away.
            if let Some(again) = world.publish(&room, "s_1", 2, "hi") {
                break again;
            }
            assert!(Instant::now() < end, "it is refused for ever");
            thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(again, 2, "the numbers go on");
        if !trust_restarts {
            assert_ne!(world.results.wait_for_renewal("lobby", epoch), epoch);
        }
        assert_eq!(state(&room).0 == epoch, trust_restarts);
        assert_eq!(world.publish(&room, "s_1", 1, "hi"), Some(1), "known by its `ref`");
        assert_eq!(world.seqs(&room), [1, 2]);
        // Asked before: the room may begin anew before this thread goes on.
        let (last, _) = state(&room);
        server.start_again(Data::Lost).unwrap();
        let renewed = world.results.wait_for_renewal("lobby", last);
        assert_ne!(renewed, epoch, "without its data it is another room in any case");
        redis.close();
    }
}
