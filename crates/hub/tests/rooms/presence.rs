//! Who is told of whom, and when.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use throng_hub::{
    Due, Ending, Hub, Identity, Joined, Left, Order, Presence, Rule, Space, Start, Timestamp,
};
use throng_wire::Prepared;

use crate::support::{hub, json, presence_of, somebody};

fn graceful() -> Hub {
    hub(Rule { grace: Duration::from_secs(10), ..Rule::default() })
}

fn counting() -> Hub {
    let grace = Duration::from_secs(10);
    hub(Rule { presence: Presence::Count, grace, ..Rule::default() })
}

fn lobby(hub: &Hub) -> Arc<throng_hub::Room> {
    hub.room(Space::ROOMS, "lobby", Timestamp(1))
}

fn join(order: &mut Order<'_>, who: &Arc<Identity>, now: u64) -> Joined {
    order.join(who, 0, &Start::NOW, Timestamp(now)).unwrap()
}

fn lose(order: &mut Order<'_>, who: &Arc<Identity>, now: u64) -> Left {
    order.leave(who, 0, Ending::Lost, Timestamp(now))
}

fn leave(order: &mut Order<'_>, who: &Arc<Identity>, now: u64) -> Left {
    order.leave(who, 0, Ending::Orderly, Timestamp(now))
}

/// Who has left, and when the room wants to be looked at again.
fn gone(due: &Due) -> (Vec<String>, Option<u64>) {
    let user = |frame: &Prepared| {
        let frame = json(frame);
        assert_eq!(frame["type"], "user_left");
        frame["userId"].as_str().unwrap().to_owned()
    };
    (due.frames.iter().map(user).collect(), due.wake.map(|wake| wake.0))
}

fn nobody(wake: Option<u64>) -> (Vec<String>, Option<u64>) {
    (Vec::new(), wake)
}

fn timeout(order: &mut Order<'_>, now: u64) -> (Vec<String>, Option<u64>) {
    gone(&order.handle_timeout(Timestamp(now)))
}

#[test]
fn a_lost_user_leaves_when_the_grace_is_over() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    join(&mut order, &ada, 100);
    let before = join(&mut order, &bob, 100).presence_seq;
    let left = lose(&mut order, &bob, 1000);
    assert!(left.announcement.is_none() && !left.empty);
    assert_eq!((left.wake, left.user_count), (Some(Timestamp(11_000)), 2));
    assert_eq!(order.presence_seq(), before, "nobody has gone yet");
    assert_eq!(order.member_count(), 1);
    assert_eq!(timeout(&mut order, 10_999), nobody(None), "too early; 11 s is still arranged");
    let due = order.handle_timeout(Timestamp(11_000));
    let frame = json(&due.frames[0]);
    assert_eq!(gone(&due), (vec!["u_b".to_owned()], None));
    assert_eq!((&frame["userCount"], &frame["timestamp"]), (&1.into(), &11_000.into()));
    assert_eq!(frame["presenceSeq"], order.presence_seq());
    assert!(order.presence_seq() > before);
    assert_eq!(timeout(&mut order, 99_000), nobody(None), "once");
}

#[test]
fn an_orderly_end_is_told_at_once() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    let left = leave(&mut order, &bob, 200);
    assert_eq!(json(&left.announcement.unwrap())["type"], "user_left");
    assert_eq!((left.wake, left.user_count), (None, 1));
}

#[test]
fn who_comes_back_in_time_was_never_gone() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    join(&mut order, &ada, 100);
    let before = join(&mut order, &bob, 100).presence_seq;
    lose(&mut order, &bob, 1000);
    let back = join(&mut order, &bob, 10_999);
    assert!(back.announcement.is_none());
    assert_eq!((back.presence_seq, back.user_count), (before, 2));
    assert_eq!(timeout(&mut order, 11_000), nobody(None));
    assert_eq!(order.user_count(), 2);
}

#[test]
fn who_comes_back_after_the_grace_is_announced_again() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    join(&mut order, &ada, 100);
    let before = join(&mut order, &bob, 100).presence_seq;
    lose(&mut order, &bob, 1000);
    timeout(&mut order, 11_000);
    let back = join(&mut order, &bob, 11_001);
    assert_eq!(json(&back.announcement.unwrap())["type"], "user_joined");
    assert!(back.presence_seq >= before + 2, "a client that was away knows that something was");
}

#[test]
fn lost_twice_counts_from_the_second_time() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    lose(&mut order, &bob, 1000);
    join(&mut order, &bob, 5000);
    lose(&mut order, &bob, 6000);
    assert_eq!(timeout(&mut order, 11_000), nobody(Some(16_000)), "the first loss is forgotten");
    assert_eq!(timeout(&mut order, 16_000), (vec!["u_b".to_owned()], None));
}

#[test]
fn lost_twice_in_one_millisecond_leaves_once() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    for _ in 0..3 {
        lose(&mut order, &bob, 1000);
        join(&mut order, &bob, 1000);
    }
    lose(&mut order, &bob, 1000);
    assert_eq!(timeout(&mut order, 11_000), (vec!["u_b".to_owned()], None));
    assert_eq!(order.user_count(), 1);
}

#[test]
fn another_connection_keeps_a_user_there() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    let tab = Arc::new(Identity::anonymous("u_b", "s_tab", None));
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    join(&mut order, &tab, 100);
    let left = lose(&mut order, &bob, 1000);
    assert_eq!((left.wake, left.user_count), (None, 2), "nothing to wait for");
    assert_eq!(timeout(&mut order, 50_000), nobody(None));
    let left = leave(&mut order, &tab, 50_000);
    assert_eq!(json(&left.announcement.unwrap())["userId"], "u_b");
}

#[test]
fn another_connection_may_come_during_the_grace() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    let tab = Arc::new(Identity::anonymous("u_b", "s_tab", None));
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    lose(&mut order, &bob, 1000);
    assert!(join(&mut order, &tab, 2000).announcement.is_none());
    assert_eq!(timeout(&mut order, 11_000), nobody(None));
    let left = leave(&mut order, &tab, 12_000);
    assert!(left.announcement.is_some(), "the last one, and it is orderly");
    assert_eq!(order.user_count(), 1);
}

#[test]
fn who_was_lost_and_has_gone_cannot_leave_again() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    lose(&mut order, &bob, 1000);
    for ending in [Ending::Lost, Ending::Orderly] {
        let left = order.leave(&bob, 0, ending, Timestamp(1001));
        assert!(left.announcement.is_none() && left.wake.is_none() && !left.empty);
        assert_eq!((left.user_count, order.member_count()), (2, 1));
    }
}

#[test]
fn several_that_were_lost_leave_in_their_order() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let users: Vec<_> = (0..4).map(|n| somebody(&format!("u_{n}"))).collect();
    for who in &users {
        join(&mut order, who, 100);
    }
    assert_eq!(lose(&mut order, &users[2], 1000).wake, Some(Timestamp(11_000)));
    assert_eq!(lose(&mut order, &users[1], 2000).wake, None, "arranged already");
    assert_eq!(lose(&mut order, &users[3], 2500).wake, None);
    assert_eq!(timeout(&mut order, 11_500), (vec!["u_2".to_owned()], Some(12_000)));
    let due = order.handle_timeout(Timestamp(99_000));
    let frames: Vec<Value> = due.frames.iter().map(json).collect();
    assert_eq!(gone(&due).0, ["u_1", "u_3"]);
    assert_eq!((&frames[0]["userCount"], &frames[1]["userCount"]), (&2.into(), &1.into()));
    let seqs: Vec<_> = frames.iter().map(|frame| frame["presenceSeq"].as_u64().unwrap()).collect();
    assert!(seqs[0] < seqs[1] && seqs[1] == order.presence_seq());
}

#[test]
fn without_grace_a_loss_is_told_at_once() {
    let hub = hub(Rule { grace: Duration::ZERO, ..Rule::default() });
    let room = lobby(&hub);
    let mut order = room.order();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    let left = lose(&mut order, &bob, 1000);
    assert!(left.announcement.is_some() && left.wake.is_none());
}

#[test]
fn the_last_one_needs_no_grace() {
    let hub = graceful();
    let room = lobby(&hub);
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    let mut order = room.order();
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    lose(&mut order, &bob, 1000);
    let left = lose(&mut order, &ada, 1001);
    assert!(left.empty && left.announcement.is_none());
    drop(order);
    assert!(hub.release(&room), "who is lost keeps no room");
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1002));
    assert_eq!(join(&mut room.order(), &bob, 1002).user_count, 1);
}

#[test]
fn an_empty_room_that_stays_forgets_who_was_lost() {
    let hub = graceful();
    let room = lobby(&hub);
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    let mut order = room.order();
    join(&mut order, &ada, 100);
    join(&mut order, &bob, 100);
    assert_eq!(lose(&mut order, &bob, 1000).wake, Some(Timestamp(11_000)));
    lose(&mut order, &ada, 1001);
    order.handle_timeout(Timestamp(11_000));
    assert_eq!((order.user_count(), order.users().len()), (0, 0));
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_users_for_ever() {
    let hub = graceful();
    let room = lobby(&hub);
    let mut order = room.order();
    let [ada, bob, cyd] = ["u_a", "u_b", "u_c"].map(somebody);
    for who in [&ada, &bob, &cyd] {
        join(&mut order, who, 3_600_000);
    }
    assert_eq!(lose(&mut order, &bob, 3_600_000).wake, Some(Timestamp(3_610_000)));
    assert_eq!(lose(&mut order, &cyd, 1000).wake, Some(Timestamp(11_000)), "before the other");
    assert_eq!(timeout(&mut order, 11_000), (vec!["u_c".to_owned()], Some(3_610_000)));
    assert_eq!(timeout(&mut order, 3_610_000), (vec!["u_b".to_owned()], None));
}

/// The count that was told, and its number.
fn count(frame: &Prepared) -> (u64, u64) {
    let frame = json(frame);
    assert_eq!((&frame["type"], frame.get("users")), (&"presence".into(), None));
    (frame["userCount"].as_u64().unwrap(), frame["presenceSeq"].as_u64().unwrap())
}

#[test]
fn where_only_the_number_is_told_it_is_told_at_most_once_a_second() {
    let hub = counting();
    let room = lobby(&hub);
    let mut order = room.order();
    let users: Vec<_> = (0..5).map(|n| somebody(&format!("u_{n}"))).collect();
    assert!(join(&mut order, &users[0], 10_000).announcement.is_none());
    let joined = join(&mut order, &users[1], 10_100);
    assert_eq!(count(&joined.announcement.unwrap()), (2, order.presence_seq()));
    assert_eq!(joined.wake, None);
    let joined = join(&mut order, &users[2], 10_500);
    assert!(joined.announcement.is_none());
    assert_eq!(joined.wake, Some(Timestamp(11_100)));
    let left = leave(&mut order, &users[1], 11_099);
    assert!(left.announcement.is_none());
    assert_eq!(left.wake, None, "arranged already");
    let joined = join(&mut order, &users[3], 11_099);
    assert!(joined.announcement.is_none());
    let due = order.handle_timeout(Timestamp(11_100));
    assert_eq!(count(&due.frames[0]), (3, order.presence_seq()));
    assert_eq!((due.frames.len(), due.wake), (1, None));
    assert!(order.handle_timeout(Timestamp(20_000)).frames.is_empty(), "nothing has changed");
    let joined = join(&mut order, &users[4], 20_000);
    assert_eq!(count(&joined.announcement.unwrap()).0, 4);
}

#[test]
fn the_last_number_is_told_even_if_a_grace_ends_right_after_another() {
    let hub = counting();
    let room = lobby(&hub);
    let mut order = room.order();
    let [ada, bob, cyd] = ["u_a", "u_b", "u_c"].map(somebody);
    join(&mut order, &ada, 10_000);
    join(&mut order, &bob, 10_000);
    assert_eq!(lose(&mut order, &bob, 10_500).wake, Some(Timestamp(20_500)));
    let joined = join(&mut order, &cyd, 20_000);
    assert_eq!(count(&joined.announcement.unwrap()).0, 3);
    let due = order.handle_timeout(Timestamp(20_500));
    assert!(due.frames.is_empty(), "told half a second ago");
    assert_eq!(due.wake, Some(Timestamp(21_000)));
    let due = order.handle_timeout(Timestamp(21_000));
    assert_eq!(count(&due.frames[0]).0, 2);
    let left = lose(&mut order, &cyd, 30_000);
    assert_eq!(left.wake, Some(Timestamp(40_000)), "and the next grace is arranged");
}

#[test]
fn a_number_is_told_at_once_when_the_last_time_was_long_ago() {
    let hub = counting();
    let room = lobby(&hub);
    let mut order = room.order();
    let [ada, bob, cyd] = ["u_a", "u_b", "u_c"].map(somebody);
    for who in [&ada, &bob, &cyd] {
        join(&mut order, who, 10_000);
    }
    order.handle_timeout(Timestamp(11_000));
    lose(&mut order, &bob, 12_000);
    let due = order.handle_timeout(Timestamp(22_000));
    assert_eq!(due.frames.iter().map(count).collect::<Vec<_>>(), [(2, order.presence_seq())]);
    assert_eq!(due.wake, None);
}

#[test]
fn where_only_the_number_is_told_nobody_is_listed() {
    let hub = counting();
    let room = lobby(&hub);
    let mut order = room.order();
    join(&mut order, &somebody("u_a"), 10_000);
    let told = presence_of(&order);
    assert_eq!((&told["userCount"], told.get("users")), (&1.into(), None));
    assert!(order.listed_users().is_none());
}

#[test]
fn timers_do_not_multiply() {
    let hub = counting();
    let room = lobby(&hub);
    let mut order = room.order();
    let users: Vec<_> = (0..40).map(|n| somebody(&format!("u_{n}"))).collect();
    join(&mut order, &somebody("u_stays"), 10_000);
    // What a caller does: keeps every time it was asked for, and looks when it has come.
    let mut timers: Vec<u64> = Vec::new();
    let (mut most, mut looks) = (0, 0);
    for now in (10_000..60_000).step_by(50) {
        while let Some(at) = timers.iter().position(|due| *due <= now) {
            timers.swap_remove(at);
            looks += 1;
            timers.extend(order.handle_timeout(Timestamp(now)).wake.map(|wake| wake.0));
        }
        let who = &users[(now / 50) as usize % users.len()];
        timers.extend(join(&mut order, who, now).wake.map(|wake| wake.0));
        timers.extend(lose(&mut order, who, now).wake.map(|wake| wake.0));
        most = most.max(timers.len());
    }
    assert!(most <= 4, "{most} timers for one room");
    let losses = 50_000 / 50;
    assert!(looks <= losses + 50 + 4, "{looks} looks, for {losses} losses in 50 s");
}

#[test]
fn a_change_of_presence_is_never_numbered_as_before() {
    let hub = graceful();
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1000));
    let mut order = room.order();
    let mut seen = vec![join(&mut order, &ada, 1000).presence_seq];
    for _ in 0..500 {
        seen.push(join(&mut order, &bob, 1000).presence_seq);
        leave(&mut order, &bob, 1000);
        seen.push(order.presence_seq());
    }
    assert!(leave(&mut order, &ada, 1100).empty);
    drop(order);
    assert!(hub.release(&room));
    assert!(seen.is_sorted_by(|a, b| a < b));
    // The room is made anew, and another list must not look like the old one.
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1100));
    let mut order = room.order();
    for _ in 0..500 {
        let joined = join(&mut order, &bob, 1100);
        assert!(!seen.contains(&joined.presence_seq), "{} again", joined.presence_seq);
        order.leave(&bob, 0, Ending::Orderly, Timestamp(1100));
    }
}
