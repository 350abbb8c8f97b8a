//! Pages of the past.

use std::sync::Arc;
use std::time::Duration;

use throng_hub::{History, Order, Page, Room, Rule, Space, Span, Timestamp};
use throng_protocol::Code;

use crate::support::{hub, say};

/// So many of the last 9 messages, one a second from 1000 ms on.
fn room(history: History) -> Arc<Room> {
    let hub = hub(Rule { history, ..Rule::default() });
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    for n in 1..=9 {
        say(&mut room.order(), n * 1000);
    }
    room
}

fn seven() -> Arc<Room> {
    room(History { size: 7, ..History::default() })
}

const ENOUGH: usize = 1 << 18;

fn page(order: &mut Order<'_>, span: Span, limit: usize) -> (Vec<u64>, bool) {
    numbers(&order.history(span, limit, ENOUGH, None, Timestamp(9000)).unwrap())
}

fn numbers(page: &Page) -> (Vec<u64>, bool) {
    let number = |text: &bytes::Bytes| {
        let message: serde_json::Value = serde_json::from_slice(text).unwrap();
        message["seq"].as_u64().unwrap()
    };
    (page.messages.iter().map(number).collect(), page.more)
}

#[test]
fn the_newest() {
    let room = seven();
    let mut order = room.order();
    assert_eq!(page(&mut order, Span::Newest, 3), (vec![7, 8, 9], true));
    assert_eq!(page(&mut order, Span::Newest, 6), ((4..=9).collect(), true));
    assert_eq!(page(&mut order, Span::Newest, 7), ((3..=9).collect(), false));
    assert_eq!(page(&mut order, Span::Newest, 200), ((3..=9).collect(), false));
}

#[test]
fn before_a_number() {
    let room = seven();
    let mut order = room.order();
    assert_eq!(page(&mut order, Span::Before(7), 2), (vec![5, 6], true));
    assert_eq!(page(&mut order, Span::Before(5), 2), (vec![3, 4], false));
    assert_eq!(page(&mut order, Span::Before(4), 2), (vec![3], false));
    assert_eq!(page(&mut order, Span::Before(3), 2), (vec![], false));
    assert_eq!(page(&mut order, Span::Before(0), 2), (vec![], false));
    assert_eq!(page(&mut order, Span::Before(10), 2), (vec![8, 9], true));
    assert_eq!(page(&mut order, Span::Before((1 << 53) - 1), 1), (vec![9], true));
}

#[test]
fn after_a_number() {
    let room = seven();
    let mut order = room.order();
    assert_eq!(page(&mut order, Span::After(6), 2), (vec![7, 8], true));
    assert_eq!(page(&mut order, Span::After(7), 2), (vec![8, 9], false));
    assert_eq!(page(&mut order, Span::After(9), 2), (vec![], false));
    assert_eq!(page(&mut order, Span::After((1 << 53) - 1), 2), (vec![], false));
    assert_eq!(page(&mut order, Span::After(0), 2), (vec![3, 4], true), "the first that is kept");
}

#[test]
fn page_by_page_is_everything_in_both_directions() {
    let room = seven();
    let mut order = room.order();
    for limit in 1..=8 {
        let (mut backwards, mut before) = (Vec::new(), Span::Newest);
        loop {
            let (mut seqs, more) = page(&mut order, before, limit);
            seqs.extend(backwards);
            backwards = seqs;
            if !more {
                break;
            }
            before = Span::Before(backwards[0]);
        }
        assert_eq!(backwards, (3..=9).collect::<Vec<_>>());
        let (mut forwards, mut after) = (Vec::new(), 0);
        loop {
            let (seqs, more) = page(&mut order, Span::After(after), limit);
            forwards.extend(seqs);
            after = *forwards.last().unwrap();
            if !more {
                break;
            }
        }
        assert_eq!(forwards, (3..=9).collect::<Vec<_>>());
    }
}

#[test]
fn a_page_has_so_many_bytes_and_at_least_one_message() {
    let room = seven();
    let mut order = room.order();
    let mut with_bytes =
        |span, bytes| numbers(&order.history(span, 200, bytes, None, Timestamp(9000)).unwrap());
    let (all, _) = with_bytes(Span::Newest, ENOUGH);
    assert_eq!(all.len(), 7);
    assert_eq!(with_bytes(Span::Newest, 0), (vec![9], true));
    assert_eq!(with_bytes(Span::After(0), 1), (vec![3], true));
    assert_eq!(with_bytes(Span::Before(9), 1), (vec![8], true));
    let (some, more) = with_bytes(Span::Newest, 300);
    assert!(more && (2..7).contains(&some.len()), "{some:?}");
    assert!(some.ends_with(&[8, 9]));
}

#[test]
fn messages_are_as_they_were_live() {
    let room = seven();
    let mut order = room.order();
    let live = say(&mut order, 9500);
    let page = order.history(Span::Newest, 1, ENOUGH, None, Timestamp(9500)).unwrap();
    assert_eq!(page.messages[0], live.payload());
}

#[test]
fn messages_of_every_length_are_whole() {
    let room = seven();
    for len in [0, 10, 125, 126, 127, 65_400, 65_536, 70_000] {
        let text = format!(r#"{{"type":"chat","text":"{}"}}"#, "x".repeat(len));
        let mut order = room.order();
        let author = crate::support::author("u_x", "");
        let published = order.publish(&author, &crate::support::message(&text), Timestamp(9000));
        let Ok(throng_hub::Published::Now { frame, .. }) = published else { panic!() };
        let page = order.history(Span::Newest, 1, ENOUGH, None, Timestamp(9000)).unwrap();
        assert_eq!(page.messages[0], frame.payload());
    }
}

#[test]
fn a_page_of_another_epoch_is_refused() {
    let room = seven();
    let mut order = room.order();
    let own = order.epoch().to_string();
    let stale = order.history(Span::Newest, 1, ENOUGH, Some("0000000000000"), Timestamp(9000));
    assert_eq!(stale.unwrap_err().code, Code::StaleEpoch);
    let page = order.history(Span::Newest, 1, ENOUGH, Some(&own), Timestamp(9000)).unwrap();
    assert_eq!(page.messages.len(), 1);
}

#[test]
fn an_empty_room_has_an_empty_page() {
    let hub = hub(Rule::default());
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    for span in [Span::Newest, Span::Before(5), Span::After(0)] {
        assert_eq!(page(&mut order, span, 50), (vec![], false));
    }
    let stale = order.history(Span::Newest, 1, ENOUGH, Some("0000000000000"), Timestamp(1));
    assert_eq!(stale.unwrap_err().code, Code::StaleEpoch);
}

#[test]
fn what_has_expired_is_not_shown() {
    let room = room(History { ttl: Duration::from_secs(3), ..History::default() });
    let mut order = room.order();
    let mut at =
        |now| numbers(&order.history(Span::Newest, 200, ENOUGH, None, Timestamp(now)).unwrap()).0;
    assert_eq!(at(9000), [6, 7, 8, 9]);
    assert_eq!(at(10_001), [8, 9]);
    assert_eq!(at(13_000), [] as [u64; 0]);
}

#[test]
fn without_history_there_are_only_empty_pages() {
    let room = room(History::NONE);
    for span in [Span::Newest, Span::Before(5), Span::After(0)] {
        assert_eq!(page(&mut room.order(), span, 50), (vec![], false));
    }
}
