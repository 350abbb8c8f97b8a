//! What was published is not published again.

use std::sync::Arc;

use throng_hub::{Asker, History, Hub, Order, Published, REF_WINDOW, Room, Rule, Space, Timestamp};
use throng_protocol::Code;

use crate::support::{Answer, Disk, Slow, hub, say_ref, say_ref_as, slow_hub};

fn one() -> Hub {
    hub(Rule::default())
}

/// The place a `ref` was given before.
fn before(order: &mut Order<'_>, session: &str, reference: u64, now: u64) -> Option<(u64, u64)> {
    match say_ref(order, session, reference, now) {
        Ok(Published::Before { seq, timestamp }) => Some((seq, timestamp.0)),
        Ok(Published::Now { .. }) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repeated_ref_gets_the_first_answer() {
    let hub = one();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    assert_eq!(before(&mut order, "s_1", 1, 10), None);
    assert_eq!(before(&mut order, "s_1", 2, 11), None);
    for now in [12, 13] {
        assert_eq!(before(&mut order, "s_1", 1, now), Some((1, 10)));
        assert_eq!(before(&mut order, "s_1", 2, now), Some((2, 11)));
    }
    assert_eq!(order.seq(), 2);
}

#[test]
fn refs_may_come_in_any_order() {
    let hub = one();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    for reference in [9, 3, 7] {
        assert_eq!(before(&mut order, "s_1", reference, 1), None);
    }
    assert_eq!(before(&mut order, "s_1", 3, 1), Some((2, 1)));
    assert_eq!(before(&mut order, "s_1", 5, 1), None, "never used");
}

#[test]
fn refs_of_other_sessions_and_rooms_are_others() {
    let hub = one();
    let [a, b] = ["a", "b"].map(|name| hub.room(Space::ROOMS, name, Timestamp(1)));
    assert_eq!(before(&mut a.order(), "s_1", 1, 1), None);
    assert_eq!(before(&mut a.order(), "s_2", 1, 1), None);
    assert_eq!(before(&mut b.order(), "s_1", 1, 1), None);
    assert_eq!(a.order().seq(), 2);
    assert_eq!(b.order().seq(), 1);
    assert_eq!(before(&mut a.order(), "s_2", 1, 1), Some((2, 1)));
}

#[test]
fn without_a_session_every_message_is_a_new_one() {
    let hub = one();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    assert_eq!(before(&mut order, "", 1, 1), None);
    assert_eq!(before(&mut order, "", 1, 1), None);
    assert_eq!(order.seq(), 2);
}

#[test]
fn a_ref_that_is_too_old_is_refused() {
    let hub = one();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    let last = REF_WINDOW as u64 + 10;
    for reference in 1..=last {
        assert_eq!(before(&mut order, "s_1", reference, reference), None);
    }
    assert_eq!(before(&mut order, "s_1", 11, 999), Some((11, 11)), "the oldest that is known");
    let refused = say_ref(&mut order, "s_1", 10, 999).unwrap_err();
    assert_eq!((refused.code, refused.reference), (Code::BadMessage, Some(10)));
    assert_eq!(order.seq(), last, "nothing is published");
    assert_eq!(before(&mut order, "s_2", 10, 999), None, "of another session");
}

#[test]
fn refs_are_known_when_the_messages_are_no_longer() {
    for history in [History::NONE, History { size: 1, ..History::default() }] {
        let hub = hub(Rule { history, ..Rule::default() });
        let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
        let mut order = room.order();
        for reference in 1..=5 {
            assert_eq!(before(&mut order, "s_1", reference, 1), None);
        }
        assert_eq!(before(&mut order, "s_1", 1, 1), Some((1, 1)));
    }
}

#[test]
fn refs_are_known_when_the_room_was_forgotten_in_between() {
    let hub = one();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    assert_eq!(before(&mut room.order(), "s_1", 1, 5), None);
    assert!(hub.release(&room));
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(9));
    assert_eq!(before(&mut room.order(), "s_1", 1, 9), Some((1, 5)));
}

#[test]
fn refs_of_sessions_that_cannot_come_back_are_let_go() {
    let hub = one();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    for session in 0..100 {
        assert_eq!(before(&mut order, &format!("s_{session}"), 1, 1), None);
    }
    let hours = 60 * 60 * 1000;
    for session in 100..1000 {
        assert_eq!(before(&mut order, &format!("s_{session}"), 1, 3 * hours), None);
    }
    assert_eq!(before(&mut order, "s_5", 1, 3 * hours), None, "let go");
    assert_eq!(before(&mut order, "s_500", 1, 3 * hours), Some((501, 3 * hours)), "kept");
}

/// A room on a backend that answers later.
struct Later {
    slow: Arc<Slow>,
    hub: Hub,
    room: Arc<Room>,
}

fn later() -> Later {
    let slow = Slow::new(&Disk::default());
    let hub = slow_hub(Rule { history: History::NONE, ..Rule::default() }, &slow);
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    slow.open_all(&hub);
    Later { slow, hub, room }
}

impl Later {
    /// Publishes for somebody who waits.
    fn say(&self, reference: u64, token: u64) -> Result<Published, throng_protocol::Fault> {
        let asker = Asker { worker: 0, token };
        say_ref_as(&mut self.room.order(), "s_1", reference, asker, 5)
    }

    /// The backend answers: the number, and who is told.
    fn answer(&self, well: bool) -> (Option<u64>, Vec<u64>) {
        let Some(Answer::Appended(outcome)) = self.slow.answer_append(0, well) else { panic!() };
        let completed = self.room.order().complete(&outcome);
        let tokens = completed.askers.iter().map(|asker| asker.token).collect();
        (completed.stored.map(|(seq, _)| seq), tokens)
    }
}

#[test]
fn who_repeats_a_ref_that_is_being_stored_is_answered_too() {
    let room = later();
    assert!(matches!(room.say(1, 70), Ok(Published::Later)));
    assert!(matches!(room.say(2, 71), Ok(Published::Later)));
    assert!(matches!(room.say(1, 80), Ok(Published::Later)), "from another connection");
    assert!(matches!(room.say(1, 81), Ok(Published::Later)));
    assert_eq!(room.slow.appends(), 2, "only what is new is stored");
    assert_eq!(room.answer(true), (Some(1), vec![70, 80, 81]));
    assert_eq!(room.answer(true), (Some(2), vec![71]));
    assert!(matches!(room.say(1, 82), Ok(Published::Before { seq: 1, .. })));
}

#[test]
fn who_repeats_a_ref_that_cannot_be_stored_is_told_too() {
    let room = later();
    assert!(matches!(room.say(1, 70), Ok(Published::Later)));
    assert!(matches!(room.say(1, 80), Ok(Published::Later)));
    assert_eq!(room.answer(false), (None, vec![70, 80]));
}

#[test]
fn a_ref_that_was_refused_may_be_used_again() {
    let room = later();
    assert!(matches!(room.say(1, 70), Ok(Published::Later)));
    assert_eq!(room.answer(false), (None, vec![70]));
    assert!(matches!(room.say(1, 71), Ok(Published::Later)), "a new try");
    assert_eq!(room.answer(true), (Some(1), vec![71]));
    room.slow.refuse(true);
    assert_eq!(room.say(2, 72).unwrap_err().code, Code::Unavailable);
    room.slow.refuse(false);
    assert!(matches!(room.say(2, 73), Ok(Published::Later)));
    assert_eq!(room.answer(true), (Some(2), vec![73]));
    assert!(matches!(room.say(1, 74), Ok(Published::Before { seq: 1, .. })));
}

#[test]
fn a_full_window_under_way_is_remembered() {
    let room = later();
    let window = REF_WINDOW as u64;
    for reference in 1..=window {
        assert!(matches!(room.say(reference, reference), Ok(Published::Later)));
    }
    for reference in 1..=window {
        assert!(matches!(room.say(reference, 1000 + reference), Ok(Published::Later)));
    }
    assert_eq!(room.slow.appends() as u64, window);
    for reference in 1..=window {
        assert_eq!(room.answer(true), (Some(reference), vec![reference, 1000 + reference]));
    }
}

#[test]
fn repeats_that_wait_are_bounded() {
    let room = later();
    assert!(matches!(room.say(1, 0), Ok(Published::Later)));
    let waiting = (0..5000).take_while(|token| room.say(1, *token).is_ok()).count();
    assert!((REF_WINDOW..5000).contains(&waiting), "{waiting}");
    assert_eq!(room.say(1, 0).unwrap_err().code, Code::Unavailable);
    assert_eq!(room.answer(true).1.len(), waiting + 1);
}

#[test]
fn one_session_takes_a_window_and_no_more() {
    let room = later();
    for reference in 1..=20 * REF_WINDOW as u64 {
        assert!(room.say(reference, 0).is_ok());
        room.answer(true);
    }
    assert!(room.hub.release(&room.room));
    assert!(room.slow.kept_bytes() < 64 * REF_WINDOW, "{} bytes", room.slow.kept_bytes());
}

#[test]
fn what_was_never_stored_takes_nothing() {
    let room = later();
    for session in 0..2000 {
        let session = format!("s_{session}");
        assert!(say_ref(&mut room.room.order(), &session, 1, 5).is_ok());
        assert_eq!(room.answer(false).0, None);
    }
    assert!(room.hub.release(&room.room));
    assert!(room.slow.kept_bytes() < 1000, "{} bytes", room.slow.kept_bytes());
}
