//! Threads that come and go at once: nobody ends up in a room the hub does not know.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use throng_hub::{Closed, Ending, Refused, Rule, Space, Start, Timestamp};

use support::{Answer, Disk, Slow, author, hub, message, place, slow_hub, somebody};

#[test]
fn joining_races_with_forgetting() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 3_000;
    let hub = hub(Rule::default());
    let retries = AtomicUsize::new(0);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (hub, retries, barrier) = (&hub, &retries, &barrier);
            scope.spawn(move || {
                let who = somebody(&format!("u_{worker}"));
                barrier.wait();
                for round in 0..ROUNDS {
                    let now = Timestamp(round as u64);
                    let room = loop {
                        let room = hub.room(Space::ROOMS, "lobby", now);
                        thread::yield_now(); // here the others may forget it
                        let joined = room.order().join(&who, worker, &Start::NOW, now);
                        match joined {
                            Ok(_) => break room,
                            Err(Refused::Closed(Closed::Forgotten)) => {
                                retries.fetch_add(1, Ordering::Relaxed)
                            }
                            Err(refused) => panic!("{refused:?}"),
                        };
                    };
                    // While I am here, this is the room everybody finds.
                    assert_eq!(hub.find(Space::ROOMS, "lobby").unwrap().id(), room.id());
                    assert!(!hub.release(&room));
                    assert!(room.order().users().any(|user| user.user_id() == who.user_id()));
                    let left = room.order().leave(&who, worker, Ending::Orderly, now);
                    if left.empty {
                        hub.release(&room);
                    }
                }
            });
        }
    });
    println!("{} joins met a forgotten room", retries.into_inner());
    assert_eq!(hub.room_count(), 0);
    assert!(hub.find(Space::ROOMS, "lobby").is_none());
}

#[test]
fn messages_of_many_threads_have_one_order() {
    const THREADS: usize = 4;
    const MESSAGES: u64 = 500;
    let hub = hub(Rule::default());
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(0));
    // The queue of a worker, filled under the order lock as the hub asks for.
    let queue = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (room, queue) = (&room, &queue);
            scope.spawn(move || {
                let user = format!("u_{worker}");
                let message = message(r#"{"type":"chat"}"#);
                for n in 0..MESSAGES {
                    let mut order = room.order();
                    // Each thread has a clock of its own.
                    let now = Timestamp(n * (worker as u64 + 1));
                    let published = order.publish(&author(&user, ""), &message, now).unwrap();
                    queue.lock().unwrap().push(place(&published));
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

/// The backend answers on a thread of its own, sometimes badly, while others join, publish and leave.
#[test]
fn opening_and_storing_race_with_everything_else() {
    const THREADS: usize = 3;
    const ROUNDS: usize = 500;
    let slow = Slow::new(&Disk::default());
    let hub = slow_hub(Rule::default(), &slow);
    let busy = AtomicUsize::new(THREADS);
    let published = AtomicUsize::new(0);
    let stored = AtomicUsize::new(0);
    let end = Instant::now() + Duration::from_secs(120);
    thread::scope(|scope| {
        let (slow, hub, busy, published, stored) = (&slow, &hub, &busy, &published, &stored);
        for worker in 0..THREADS {
            scope.spawn(move || {
                let user = format!("u_{worker}");
                let who = somebody(&user);
                for _ in 0..ROUNDS {
                    let room = loop {
                        let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
                        let joined = room.order().join(&who, worker, &Start::NOW, Timestamp(1));
                        match joined {
                            Ok(_) => break room,
                            Err(Refused::Closed(_)) => {
                                assert!(Instant::now() < end, "it is never opened");
                                thread::yield_now();
                            }
                            Err(refused) => panic!("{refused:?}"),
                        }
                    };
                    let chat = message(r#"{"type":"chat"}"#);
                    let author = author(&user, "");
                    let later = room.order().publish(&author, &chat, Timestamp(1)).unwrap();
                    assert!(matches!(later, throng_hub::Published::Later));
                    published.fetch_add(1, Ordering::Relaxed);
                    if room.order().leave(&who, worker, Ending::Orderly, Timestamp(2)).empty {
                        hub.release(&room);
                    }
                }
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        scope.spawn(move || {
            let mut round = 0;
            loop {
                let ending = busy.load(Ordering::Acquire) == 0;
                round += 1;
                let well = round % 7 != 0;
                let answer = slow.answer_append(0, well).or_else(|| slow.answer_opening(well));
                match answer {
                    Some(Answer::Opened(room, result)) => {
                        hub.opened(&room, result);
                        hub.release(&room); // unless somebody is there
                    }
                    Some(Answer::Appended(outcome)) => {
                        let completed = outcome.room.order().complete(&outcome);
                        stored
                            .fetch_add(usize::from(completed.stored.is_some()), Ordering::Relaxed);
                        hub.release(&outcome.room);
                    }
                    None if ending => break,
                    None => {
                        assert!(Instant::now() < end, "somebody does not come to an end");
                        thread::yield_now();
                    }
                }
            }
        });
    });
    assert_eq!(published.into_inner(), THREADS * ROUNDS);
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(3));
    slow.open_all(&hub);
    assert_eq!(room.order().seq() as usize, stored.into_inner(), "what was stored, without holes");
    assert!(hub.release(&room));
    assert_eq!(hub.room_count(), 0);
}
