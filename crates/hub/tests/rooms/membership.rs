//! Who is in a room, and which rooms there are.

use std::sync::Arc;

use throng_hub::{Closed, Ending, Hub, Identity, Refused, Rule, Rules, Space, Start, Timestamp};
use throng_wire::OpCode;

use crate::support::{
    Memory, all, author, hub, in_memory, message, place, presence_of, say, somebody, text, workers,
};

fn plain_hub() -> Hub {
    hub(Rule::default())
}

#[test]
fn what_members_see() {
    let hub = plain_hub();
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(9));
    let craig = Arc::new(Identity::anonymous("u_c", "s_c", Some("Craig")));
    let dora = somebody("u_d");
    let mut order = lobby.order();

    let joined = order.join(&craig, 2, &Start::NOW, Timestamp(10)).unwrap();
    assert!(joined.announcement.is_none(), "nobody is there to be told");
    assert_eq!((joined.user_count, joined.seq, joined.timestamp), (1, 0, Timestamp(10)));
    let joined = order.join(&dora, 0, &Start::NOW, Timestamp(11)).unwrap();
    let seq = joined.presence_seq;
    assert_eq!(
        text(&joined.announcement.unwrap()),
        format!(
            r#"{{"type":"user_joined","room":"lobby","userId":"u_d","userCount":2,"presenceSeq":{seq},"timestamp":11}}"#
        )
    );
    let chat = message(r#"{"type":"chat","text":"hi"}"#);
    let published = order.publish(&author("u_c", "s_c"), &chat, Timestamp(12)).unwrap();
    assert_eq!(place(&published), (1, 12));
    let throng_hub::Published::Now { frame, .. } = published else { panic!() };
    assert_eq!(
        text(&frame),
        r#"{"type":"chat","room":"lobby","from":"u_c","seq":1,"timestamp":12,"text":"hi"}"#
    );
    assert_eq!(workers(&order), [0, 2]);
    let left = order.leave(&craig, 2, Ending::Orderly, Timestamp(13));
    let seq = seq + 1;
    assert_eq!(
        text(&left.announcement.unwrap()),
        format!(
            r#"{{"type":"user_left","room":"lobby","userId":"u_c","info":{{"name":"Craig"}},"userCount":1,"presenceSeq":{seq},"timestamp":13}}"#
        )
    );
    assert_eq!((left.user_count, left.empty), (1, false));
    assert_eq!(workers(&order), [0]);
    let left = order.leave(&dora, 0, Ending::Orderly, Timestamp(14));
    assert!(left.announcement.is_none() && left.empty);
    assert!(workers(&order).is_empty());
}

#[test]
fn presence_lists_users_not_connections() {
    let hub = plain_hub();
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = lobby.order();
    let mut seq = 0;
    for (worker, session) in ["s_1", "s_2"].into_iter().enumerate() {
        let tab = Arc::new(Identity::anonymous("u_c", session, Some("Craig")));
        seq = order.join(&tab, worker, &Start::NOW, Timestamp(1)).unwrap().presence_seq;
    }
    assert_eq!((order.user_count(), order.member_count()), (1, 2));
    let mut out = Vec::new();
    order.presence(&mut out, Some(3)).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!(
            r#"{{"type":"presence","ref":3,"room":"lobby","userCount":1,"presenceSeq":{seq},"users":[{{"userId":"u_c","info":{{"name":"Craig"}}}}]}}"#
        )
    );
}

#[test]
fn crowds_are_counted_not_listed() {
    let hub = plain_hub();
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = lobby.order();
    for user in 0..throng_hub::MAX_LISTED {
        let who = somebody(&format!("u_{user}"));
        order.join(&who, 0, &Start::NOW, Timestamp(1)).unwrap();
    }
    let told = presence_of(&order);
    assert_eq!((&told["userCount"], told["users"].as_array().unwrap().len()), (&1000.into(), 1000));
    order.join(&somebody("u_more"), 0, &Start::NOW, Timestamp(1)).unwrap();
    let told = presence_of(&order);
    assert_eq!((&told["userCount"], told.get("users")), (&1001.into(), None));
}

#[test]
fn who_is_not_here_cannot_leave() {
    for ending in [Ending::Orderly, Ending::Lost] {
        let hub = plain_hub();
        let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
        let mut order = lobby.order();
        order.join(&somebody("u_c"), 0, &Start::NOW, Timestamp(1)).unwrap();
        let left = order.leave(&somebody("u_x"), 0, ending, Timestamp(2));
        assert!(left.announcement.is_none() && left.wake.is_none() && !left.empty);
        assert_eq!((workers(&order), order.member_count()), (vec![0], 1));
    }
}

#[test]
fn relays_pass_frames_on_as_they_are() {
    let hub = plain_hub();
    let relay = hub.room(Space(1), "lobby", Timestamp(1));
    let mut order = relay.order();
    order.attach(3).unwrap();
    order.attach(3).unwrap();
    let frame = order.relay(OpCode::Binary, b"\0\xff{");
    assert_eq!((frame.opcode(), frame.payload()), (OpCode::Binary, &b"\0\xff{"[..]));
    assert_eq!(workers(&order), [3]);
    assert!(!order.detach(7), "no such worker");
    assert!(!order.detach(3));
    assert!(order.detach(3));
    drop(order);
    assert!(hub.release(&relay));
}

#[test]
fn spaces_have_nothing_in_common() {
    let hub = plain_hub();
    let a = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let b = hub.room(Space(1), "lobby", Timestamp(1));
    assert_ne!(a.id(), b.id());
    a.order().join(&somebody("u_c"), 0, &Start::NOW, Timestamp(1)).unwrap();
    assert!(b.order().is_empty());
    assert!(hub.release(&b));
    assert!(hub.find(Space(1), "lobby").is_none());
    assert_eq!(hub.find(Space::ROOMS, "lobby").unwrap().id(), a.id());
    assert_eq!(hub.room_count(), 1);
}

#[test]
fn forgotten_rooms_take_no_members() {
    let hub = plain_hub();
    let old = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let same = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    assert_eq!(old.id(), same.id());
    assert!(hub.release(&old));
    assert!(!hub.release(&same), "only once");
    assert_eq!(hub.room_count(), 0);

    let craig = somebody("u_c");
    let forgotten = Refused::Closed(Closed::Forgotten);
    let refused = same.order().join(&craig, 0, &Start::NOW, Timestamp(1));
    assert_eq!(refused.unwrap_err(), forgotten);
    assert_eq!(same.order().attach(0).unwrap_err(), forgotten);
    assert_eq!(same.order().ready(throng_hub::Asker::NOBODY), Err(Closed::Forgotten));
    assert!(same.order().is_empty());

    let new = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    assert_ne!(new.id(), old.id());
    new.order().join(&craig, 0, &Start::NOW, Timestamp(1)).unwrap();
    assert!(!hub.release(&old), "the name belongs to another room now");
    assert!(!hub.release(&new), "somebody is there");
    assert_eq!(hub.find(Space::ROOMS, "lobby").unwrap().id(), new.id());
}

#[test]
fn a_room_that_is_held_is_not_forgotten() {
    let hub = plain_hub();
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    lobby.order().hold();
    lobby.order().hold();
    assert!(!hub.release(&lobby), "two are about to join");
    assert!(lobby.order().let_go());
    assert!(!hub.release(&lobby), "one is");
    lobby.order().join(&somebody("u_c"), 0, &Start::NOW, Timestamp(1)).unwrap();
    assert!(!lobby.order().let_go(), "somebody is there");
    assert!(!lobby.order().let_go(), "once too often changes nothing");
    lobby.order().leave(&somebody("u_c"), 0, Ending::Orderly, Timestamp(2));
    assert!(hub.release(&lobby));
}

#[test]
fn nothing_is_published_in_a_forgotten_room() {
    let hub = plain_hub();
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    assert!(hub.release(&lobby));
    let chat = message(r#"{"type":"chat","ref":1}"#);
    let refused = lobby.order().publish(&author("u_c", "s_c"), &chat, Timestamp(1)).unwrap_err();
    assert_eq!(refused.code, throng_protocol::Code::Unavailable);
    assert_eq!(refused.reference, Some(1));
}

#[test]
fn a_room_goes_on_where_it_was_forgotten_if_it_is_kept() {
    let hub = plain_hub();
    let craig = somebody("u_c");
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    let epoch = order.join(&craig, 0, &Start::NOW, Timestamp(1)).unwrap().epoch;
    say(&mut order, 2);
    say(&mut order, 7);
    assert!(order.leave(&craig, 0, Ending::Orderly, Timestamp(8)).empty);
    drop(order);
    assert!(hub.release(&room));

    let room = hub.room(Space::ROOMS, "lobby", Timestamp(3));
    let mut order = room.order();
    let since = epoch.to_string();
    let start = Start { since: Some((&since, 1)), rewind: 0 };
    let joined = order.join(&craig, 0, &start, Timestamp(3)).unwrap();
    assert_eq!((joined.epoch, joined.seq, joined.after), (epoch, 2, 1));
    assert!(joined.recovered);
    assert_eq!(joined.timestamp, Timestamp(8), "its time goes on, too");
    assert_eq!(crate::support::seq_of(say(&mut order, 9).frame()), 3);
}

#[test]
fn a_room_that_is_not_kept_starts_again_in_another_epoch() {
    let hub = Hub::new(1, all(Rule::default()), in_memory(Memory::forgetful(1)));
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    say(&mut room.order(), 1);
    let old = room.order().epoch();
    assert!(hub.release(&room));
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    assert_ne!(room.order().epoch(), old);
    assert_eq!(room.order().seq(), 0);
}

#[test]
fn a_panic_does_not_take_a_room_down() {
    let hub = plain_hub();
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    lobby.order().join(&somebody("u_c"), 0, &Start::NOW, Timestamp(1)).unwrap();
    let clone = lobby.clone();
    let panicked = std::thread::spawn(move || {
        let _order = clone.order();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    let mut order = lobby.order();
    assert_eq!(order.user_count(), 1);
    assert_eq!(crate::support::seq_of(say(&mut order, 2).frame()), 1);
}

#[test]
fn time_never_goes_back() {
    let hub = plain_hub();
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = lobby.order();
    order.join(&somebody("u_c"), 0, &Start::NOW, Timestamp(100)).unwrap();
    let times = [50, 120, 110].map(|now| {
        let frame = say(&mut order, now);
        crate::support::json(&frame)["timestamp"].as_u64().unwrap()
    });
    assert_eq!(times, [100, 120, 120]);
}

#[test]
fn a_room_takes_so_many_connections_and_no_more() {
    let hub = hub(Rule { max_members: 2, ..Rule::default() });
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = lobby.order();
    let craig = somebody("u_c");
    order.join(&craig, 0, &Start::NOW, Timestamp(1)).unwrap();
    let tab = order.join(&craig, 0, &Start::NOW, Timestamp(1)).unwrap();
    let refused = order.join(&somebody("u_d"), 1, &Start::NOW, Timestamp(1)).unwrap_err();
    assert_eq!(refused, Refused::Full);
    assert_eq!((order.user_count(), order.member_count(), workers(&order)), (1, 2, vec![0]));
    assert_eq!(order.presence_seq(), tab.presence_seq, "nothing has changed");
    order.leave(&craig, 0, Ending::Orderly, Timestamp(2));
    order.join(&somebody("u_d"), 1, &Start::NOW, Timestamp(2)).unwrap();
}

#[test]
fn who_comes_back_to_a_full_room_is_let_in_while_the_old_connection_still_counts() {
    let hub = hub(Rule { max_members: 2, ..Rule::default() });
    let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = lobby.order();
    let craig = somebody("u_c");
    order.join(&craig, 0, &Start::NOW, Timestamp(1)).unwrap();
    order.join(&somebody("u_d"), 0, &Start::NOW, Timestamp(1)).unwrap();
    order.join(&craig, 1, &Start::NOW, Timestamp(2)).unwrap();
    order.leave(&craig, 0, Ending::Lost, Timestamp(3));
    assert_eq!((order.user_count(), order.member_count()), (2, 2));
}

#[test]
fn rooms_are_listed_by_name() {
    let hub = Hub::new(1, Rules::default(), in_memory(Memory::new(1)));
    for name in ["d", "b", "a", "c"] {
        hub.room(Space::ROOMS, name, Timestamp(1));
    }
    hub.room(Space(1), "bb", Timestamp(1));
    let names = |after, limit| {
        let rooms = hub.list(Space::ROOMS, after, limit);
        rooms.iter().map(|room| room.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 9), ["a", "b", "c", "d"]);
    assert_eq!(names(None, 2), ["a", "b"]);
    assert_eq!(names(Some("b"), 2), ["c", "d"]);
    assert_eq!(names(Some("bx"), 1), ["c"]);
    assert!(names(Some("d"), 2).is_empty());
}

#[test]
fn many_rooms_are_listed_page_by_page() {
    let hub = plain_hub();
    let mut all: Vec<_> = (0..6000).map(|n| format!("r{n}")).collect();
    for name in &all {
        hub.room(Space::ROOMS, name, Timestamp(1));
    }
    all.sort();
    let mut listed: Vec<String> = Vec::new();
    loop {
        let page = hub.list(Space::ROOMS, listed.last().map(String::as_str), 1000);
        if page.is_empty() {
            break;
        }
        listed.extend(page.iter().map(|room| room.name().to_owned()));
    }
    assert_eq!(listed, all);
}
