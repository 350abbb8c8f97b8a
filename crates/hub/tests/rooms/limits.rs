//! How much may be said, kept and opened.

use std::sync::Arc;
use std::time::Duration;

use throng_hub::{Budget, Crowded, History, Hub, Rate, Rule, Space, Start, Timestamp};
use throng_protocol::Code;

use crate::support::{Memory, all, author, hub, in_memory, message, say, say_ref, somebody};

fn limited(rate: Rate, volatile: bool) -> Hub {
    hub(Rule { rate: Some(rate), volatile, ..Rule::default() })
}

#[test]
fn all_members_share_the_rate_of_their_room() {
    for volatile in [false, true] {
        let hub = limited(Rate::per_second(10).with_burst(3), volatile);
        let room = hub.room(Space::ROOMS, "lobby", Timestamp(1000));
        let mut order = room.order();
        for (reference, user) in [(1, "s_1"), (2, "s_2"), (3, "s_1")] {
            let _ = say_ref(&mut order, user, reference, 1000).unwrap();
        }
        let refused = say_ref(&mut order, "s_3", 4, 1000).unwrap_err();
        assert_eq!(refused.code, Code::RateLimited);
        assert_eq!((refused.reference, refused.retry_after), (Some(4), Some(100)));
        assert!(say_ref(&mut order, "s_3", 4, 1099).is_err());
        let _ = say_ref(&mut order, "s_3", 4, 1100).unwrap();
        assert!(say_ref(&mut order, "s_3", 5, 1100).is_err());
        assert_eq!(hub.budget().rate_limited(), 3);
        let other = hub.room(Space::ROOMS, "other", Timestamp(1100));
        say(&mut other.order(), 1100);
    }
}

#[test]
fn what_was_published_before_costs_nothing() {
    let hub = limited(Rate::per_second(1).with_burst(1), false);
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1000));
    let mut order = room.order();
    let _ = say_ref(&mut order, "s_1", 1, 1000).unwrap();
    for _ in 0..5 {
        let _ = say_ref(&mut order, "s_1", 1, 1000).unwrap();
    }
    assert!(say_ref(&mut order, "s_1", 2, 1000).is_err());
}

#[test]
fn a_clock_that_goes_back_closes_no_room() {
    let hub = limited(Rate::per_second(2), false);
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1000));
    let mut order = room.order();
    say(&mut order, 1_000_000);
    say(&mut order, 1_000_000);
    for now in [5000, 5000, 5500, 6000] {
        say_ref(&mut order, "s_1", now, now)
            .map(|_| ())
            .unwrap_or_else(|e| assert_eq!(now, 5000, "{e}"));
    }
}

#[test]
fn what_rooms_remember_is_counted_and_given_back() {
    let budget = Arc::new(Budget::new(1 << 20));
    let history = History { size: 50, ..History::default() };
    let hub = Hub::new(1, all(Rule { history, ..Rule::default() }), in_memory(Memory::new(1)))
        .with_limits(usize::MAX, Arc::clone(&budget));
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let ada = somebody("u_1");
    room.order().join(&ada, 0, &Start::NOW, Timestamp(1)).unwrap();
    assert_eq!(budget.used(), 0);
    for n in 0..50 {
        say(&mut room.order(), 10 + n);
    }
    let full = budget.used();
    assert!((50 * 100..50 * 300).contains(&full), "{full}");
    for n in 0..50 {
        say(&mut room.order(), 100 + n);
    }
    assert!(budget.used().abs_diff(full) < 500, "as many again took the place of the first");
    let _ = say_ref(&mut room.order(), "s_1", 1, 200).unwrap();
    assert!(budget.used() > full);
    // Too old: let go when somebody looks.
    let late = 200 + history.ttl.as_millis() as u64 + 1;
    let page = room.order().history(throng_hub::Span::Newest, 9, 999, None, Timestamp(late));
    assert!(page.unwrap().messages.is_empty() && budget.used() < 500);
    room.order().leave(&ada, 0, throng_hub::Ending::Orderly, Timestamp(late));
    assert!(hub.release(&room));
    assert_eq!(budget.used(), 0);
    // What the backend has kept is counted again when the room is.
    let again = hub.room(Space::ROOMS, "lobby", Timestamp(late));
    assert!(budget.used() > 0 && again.order().seq() == 101);
}

#[test]
fn nothing_is_kept_when_nothing_is_left() {
    let budget = Arc::new(Budget::new(1000));
    let hub = Hub::new(1, all(Rule::default()), in_memory(Memory::new(1)))
        .with_limits(usize::MAX, Arc::clone(&budget));
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let chat = message(r#"{"type":"chat","ref":7}"#);
    let mut order = room.order();
    let _ = order.publish(&author("u_1", "s_1"), &chat, Timestamp(1)).unwrap();
    budget.change(0, 1000);
    let refused = order.publish(&author("u_2", "s_2"), &chat, Timestamp(2)).unwrap_err();
    assert_eq!((refused.code, refused.reference), (Code::Overloaded, Some(7)));
    assert_eq!((order.seq(), budget.overloaded()), (1, 1));
    budget.change(1000, 0);
    let _ = order.publish(&author("u_2", "s_2"), &chat, Timestamp(3)).unwrap();
}

#[test]
fn so_many_rooms_and_no_more() {
    let budget = Arc::new(Budget::new(1000));
    let hub = Hub::new(1, all(Rule::default()), in_memory(Memory::new(1)))
        .with_limits(2, Arc::clone(&budget));
    let open = |name| hub.open(Space::ROOMS, name, Timestamp(1));
    let one = open("one").unwrap();
    open("two").unwrap();
    assert_eq!(open("three").unwrap_err(), Crowded::Rooms);
    assert!(Arc::ptr_eq(&one, &open("one").unwrap()));
    hub.room(Space(9), "of a handler", Timestamp(1)); // whatever the limits
    assert_eq!((hub.room_count(), budget.rooms_refused()), (3, 1));
    assert!(hub.release(&one));
    assert!(open("three").is_err());
    assert!(hub.release(&open("two").unwrap()));
    open("three").unwrap();
    budget.change(0, 900);
    assert_eq!(open("four").unwrap_err(), Crowded::Memory);
    open("three").unwrap();
    assert_eq!(hub.room_count(), 2);
}

#[test]
fn many_threads_do_not_open_one_too_many() {
    let hub = Hub::new(1, all(Rule::default()), in_memory(Memory::new(1)))
        .with_limits(100, Arc::default());
    let opened = std::thread::scope(|scope| {
        let open = |thread: usize| {
            let hub = &hub;
            move || {
                let names = (0..100).map(|n| format!("{thread}-{n}"));
                names.filter(|name| hub.open(Space::ROOMS, name, Timestamp(1)).is_ok()).count()
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(open(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!((opened, hub.room_count()), (100, 100));
}

#[test]
fn a_pause_is_told_in_full_milliseconds() {
    let fault = throng_protocol::Fault::new(Code::RateLimited);
    assert_eq!(fault.with_retry_after(Duration::from_nanos(1)).retry_after, Some(1));
}
