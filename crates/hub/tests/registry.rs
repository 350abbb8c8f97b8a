//! Threads that come and go at once: nobody ends up in a room the hub does not know.

#![allow(clippy::unwrap_used)] // a test

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use throng_hub::{Forgotten, Hub, Identity, Space, Timestamp};

#[test]
fn joining_races_with_forgetting() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 3_000;
    let hub = Hub::new(3);
    let retries = AtomicUsize::new(0);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (hub, retries, barrier) = (&hub, &retries, &barrier);
            scope.spawn(move || {
                let who = Arc::new(Identity::anonymous(&format!("u_{worker}"), "s", None));
                barrier.wait();
                for round in 0..ROUNDS {
                    let now = Timestamp(round as u64);
                    let room = loop {
                        let room = hub.room(Space(0), "lobby");
                        thread::yield_now(); // here the others may forget it
                        let joined = room.order().join(&who, worker, now);
                        match joined {
                            Ok(_) => break room,
                            Err(Forgotten) => retries.fetch_add(1, Ordering::Relaxed),
                        };
                    };
                    // While I am here, this is the room everybody finds.
                    assert_eq!(hub.find(Space(0), "lobby").unwrap().id(), room.id());
                    assert!(!hub.release(&room));
                    assert!(room.order().users().any(|user| user.user_id() == who.user_id()));
                    let left = room.order().leave(&who, worker, now);
                    if left.empty {
                        hub.release(&room);
                    }
                }
            });
        }
    });
    println!("{} joins met a forgotten room", retries.into_inner());
    assert_eq!(hub.room_count(), 0);
    assert!(hub.find(Space(0), "lobby").is_none());
}

#[test]
fn messages_of_many_threads_have_one_order() {
    const THREADS: usize = 4;
    const MESSAGES: u64 = 500;
    let hub = Hub::new(3);
    let room = hub.room(Space(0), "lobby");
    // The queue of a worker, filled under the order lock as the hub asks for.
    let queue = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (room, queue) = (&room, &queue);
            scope.spawn(move || {
                let who = Identity::anonymous(&format!("u_{worker}"), "s", None);
                let message = br#"{"type":"chat"}"#;
                for n in 0..MESSAGES {
                    let Ok(throng_protocol::Command::Publish(message)) =
                        throng_protocol::parse(message)
                    else {
                        panic!("not an application message");
                    };
                    let mut order = room.order();
                    // Each thread has a clock of its own.
                    let now = Timestamp(n * (worker as u64 + 1));
                    let published = order.publish(&who, &message, now);
                    queue.lock().unwrap().push((published.seq, published.timestamp));
                }
            });
        }
    });
    let queue = queue.into_inner().unwrap();
    assert_eq!(queue.len() as u64, THREADS as u64 * MESSAGES);
    for (expected, &(seq, _)) in (1..).zip(&queue) {
        assert_eq!(seq, expected);
    }
    assert!(queue.is_sorted_by_key(|&(_, timestamp)| timestamp));
}
