//! Rooms, one behaviour at a time.

#![allow(clippy::unwrap_used)] // a test

use std::sync::Arc;

use throng_hub::{Forgotten, Hub, Identity, MAX_LISTED, Order, Space, Timestamp};
use throng_protocol::{Command, Publish, parse};
use throng_wire::{OpCode, Prepared};

fn somebody(user_id: &str, name: Option<&str>) -> Arc<Identity> {
    Arc::new(Identity::anonymous(user_id, "s_1", name))
}

fn chat(text: &str) -> Publish<'_> {
    match parse(text.as_bytes()) {
        Ok(Command::Publish(publish)) => publish,
        other => panic!("{other:?}"),
    }
}

fn text(frame: &Prepared) -> &str {
    assert_eq!(frame.opcode(), OpCode::Text);
    std::str::from_utf8(frame.payload()).unwrap()
}

fn workers(order: &Order<'_>) -> Vec<usize> {
    order.workers().collect()
}

#[test]
fn what_members_see() {
    let hub = Hub::new(1);
    let lobby = hub.room(Space(0), "lobby");
    let (craig, dora) = (somebody("u_c", Some("Craig")), somebody("u_d", None));
    let mut order = lobby.order();

    let joined = order.join(&craig, 2, Timestamp(10)).unwrap();
    assert!(joined.announcement.is_none(), "nobody is there to be told");
    assert_eq!((joined.user_count, joined.seq, joined.timestamp), (1, 0, Timestamp(10)));
    let joined = order.join(&dora, 0, Timestamp(11)).unwrap();
    assert_eq!(
        text(&joined.announcement.unwrap()),
        r#"{"type":"user_joined","room":"lobby","userId":"u_d","userCount":2,"timestamp":11}"#
    );
    let published = order.publish(&craig, &chat(r#"{"type":"chat","text":"hi"}"#), Timestamp(12));
    assert_eq!((published.seq, published.timestamp), (1, Timestamp(12)));
    assert_eq!(
        text(&published.frame),
        r#"{"type":"chat","room":"lobby","from":"u_c","seq":1,"timestamp":12,"text":"hi"}"#
    );
    assert_eq!(workers(&order), [0, 2]);
    let left = order.leave(&craig, 2, Timestamp(13));
    assert_eq!(
        text(&left.announcement.unwrap()),
        r#"{"type":"user_left","room":"lobby","userId":"u_c","info":{"name":"Craig"},"userCount":1,"timestamp":13}"#
    );
    assert_eq!((left.user_count, left.empty), (1, false));
    assert_eq!(workers(&order), [0]);
    let left = order.leave(&dora, 0, Timestamp(14));
    assert!(left.announcement.is_none() && left.empty);
    assert!(workers(&order).is_empty());
}

#[test]
fn presence_lists_users_not_connections() {
    let hub = Hub::new(1);
    let lobby = hub.room(Space(0), "lobby");
    let mut order = lobby.order();
    for (worker, session) in ["s_1", "s_2"].into_iter().enumerate() {
        let tab = Arc::new(Identity::anonymous("u_c", session, Some("Craig")));
        order.join(&tab, worker, Timestamp(1)).unwrap();
    }
    assert_eq!((order.user_count(), order.member_count()), (1, 2));
    let mut out = Vec::new();
    order.presence(&mut out, Some(3));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"type":"presence","ref":3,"room":"lobby","userCount":1,"users":[{"userId":"u_c","info":{"name":"Craig"}}]}"#
    );
}

#[test]
fn crowds_are_counted_not_listed() {
    let hub = Hub::new(1);
    let lobby = hub.room(Space(0), "lobby");
    let mut order = lobby.order();
    let told = |order: &Order<'_>| {
        let mut out = Vec::new();
        order.presence(&mut out, None);
        let presence: serde_json::Value = serde_json::from_slice(&out).unwrap();
        (presence["userCount"].as_u64(), presence["users"].as_array().map(Vec::len))
    };
    for user in 0..MAX_LISTED {
        order.join(&somebody(&format!("u_{user}"), None), 0, Timestamp(1)).unwrap();
    }
    assert_eq!(told(&order), (Some(1000), Some(1000)));
    order.join(&somebody("u_more", None), 0, Timestamp(1)).unwrap();
    assert_eq!(told(&order), (Some(1001), None));
}

#[test]
fn who_is_not_here_cannot_leave() {
    let hub = Hub::new(1);
    let lobby = hub.room(Space(0), "lobby");
    let mut order = lobby.order();
    order.join(&somebody("u_c", None), 0, Timestamp(1)).unwrap();
    let left = order.leave(&somebody("u_x", None), 0, Timestamp(2));
    assert!(left.announcement.is_none() && !left.empty);
    assert!(!order.detach(7), "no such worker");
    assert_eq!((workers(&order), order.member_count()), (vec![0], 1));
}

#[test]
fn relays_pass_frames_on_as_they_are() {
    let hub = Hub::new(1);
    let relay = hub.room(Space(1), "lobby");
    let mut order = relay.order();
    order.attach(3).unwrap();
    order.attach(3).unwrap();
    let frame = order.relay(OpCode::Binary, b"\0\xff{");
    assert_eq!((frame.opcode(), frame.payload()), (OpCode::Binary, &b"\0\xff{"[..]));
    assert_eq!((workers(&order), order.user_count()), (vec![3], 0));
    assert!(!order.detach(3));
    assert!(order.detach(3));
    drop(order);
    assert!(hub.release(&relay));
}

#[test]
fn spaces_have_nothing_in_common() {
    let hub = Hub::new(1);
    let (a, b) = (hub.room(Space(0), "lobby"), hub.room(Space(1), "lobby"));
    assert_ne!(a.id(), b.id());
    a.order().join(&somebody("u_c", None), 0, Timestamp(1)).unwrap();
    assert!(b.order().is_empty());
    assert!(hub.release(&b));
    assert!(hub.find(Space(1), "lobby").is_none());
    assert_eq!(hub.find(Space(0), "lobby").unwrap().id(), a.id());
    assert_eq!(hub.room_count(), 1);
}

#[test]
fn forgotten_rooms_take_no_members() {
    let hub = Hub::new(1);
    let old = hub.room(Space(0), "lobby");
    let same = hub.room(Space(0), "lobby");
    assert_eq!(old.id(), same.id());
    assert!(hub.release(&old));
    assert!(!hub.release(&same), "only once");
    assert_eq!(hub.room_count(), 0);

    let craig = somebody("u_c", None);
    assert_eq!(same.order().join(&craig, 0, Timestamp(1)).unwrap_err(), Forgotten);
    assert_eq!(same.order().attach(0).unwrap_err(), Forgotten);
    assert!(same.order().is_empty());

    let new = hub.room(Space(0), "lobby");
    assert_ne!(new.id(), old.id());
    let joined = new.order().join(&craig, 0, Timestamp(1)).unwrap();
    assert_ne!(joined.epoch, old.order().epoch(), "another epoch: seq starts again");
    assert!(!hub.release(&old), "the name belongs to another room now");
    assert!(!hub.release(&new), "somebody is there");
    assert_eq!(hub.find(Space(0), "lobby").unwrap().id(), new.id());
}

#[test]
fn a_panic_does_not_take_a_room_down() {
    let hub = Hub::new(1);
    let lobby = hub.room(Space(0), "lobby");
    lobby.order().join(&somebody("u_c", None), 0, Timestamp(1)).unwrap();
    let clone = lobby.clone();
    let panicked = std::thread::spawn(move || {
        let _order = clone.order();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    let mut order = lobby.order();
    assert_eq!(order.user_count(), 1);
    let published = order.publish(&somebody("u_c", None), &chat(r#"{"type":"a"}"#), Timestamp(2));
    assert_eq!(published.seq, 1);
}

#[test]
fn users_are_counted_over_all_rooms() {
    let hub = Hub::new(1);
    let (craig, tab, dora) = (somebody("u_c", None), somebody("u_c", None), somebody("u_d", None));
    assert!(hub.arrive(&craig));
    assert!(!hub.arrive(&tab));
    assert!(hub.arrive(&dora));
    assert_eq!(hub.user_count(), 2);
    assert!(!hub.depart(&craig));
    assert!(hub.depart(&tab));
    assert!(!hub.depart(&tab), "not here any more");
    assert_eq!(hub.user_count(), 1);
}
