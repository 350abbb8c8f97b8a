//! Where somebody begins who joins, and what is handed out of the past.

use std::time::Duration;

use throng_hub::{
    Ending, History, Hub, Joined, Order, Refused, Replay, Rule, Space, Start, Timestamp,
};

use crate::support::{hub, replayed, say, say_ref, seq_of, somebody};

/// Five messages are kept.
fn five() -> Hub {
    hub(Rule { history: History { size: 5, ..History::default() }, ..Rule::default() })
}

/// With 9 messages, one a second from 1000 ms on.
fn with_nine(hub: &Hub) -> std::sync::Arc<throng_hub::Room> {
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    for n in 1..=9 {
        say(&mut room.order(), n * 1000);
    }
    room
}

fn try_join(
    order: &mut Order<'_>,
    since: Option<u64>,
    rewind: u32,
    now: u64,
) -> Result<Joined, Refused> {
    let epoch = order.epoch().to_string();
    let start = Start { since: since.map(|since| (epoch.as_str(), since)), rewind };
    order.join(&somebody("u_1"), 0, &start, Timestamp(now))
}

/// Whether nothing is missing, and the messages that are handed out.
fn start(order: &mut Order<'_>, since: Option<u64>, rewind: u32, now: u64) -> (bool, Vec<u64>) {
    let joined = try_join(order, since, rewind, now).unwrap();
    (joined.recovered, replayed(order, joined.after))
}

#[test]
fn who_asks_for_nothing_begins_with_the_next() {
    let room = with_nine(&five());
    let mut order = room.order();
    let joined = try_join(&mut order, None, 0, 9000).unwrap();
    assert_eq!((joined.recovered, joined.seq, joined.after), (true, 9, 9));
    assert_eq!(order.replay(joined.after, |_| panic!("nothing is owed")), Replay::Live);
}

#[test]
fn since_at_every_boundary() {
    let room = with_nine(&five());
    let mut order = room.order();
    for (since, expected) in [
        (9, (true, vec![])),
        (8, (true, vec![9])),
        (5, (true, vec![6, 7, 8, 9])),
        (4, (true, vec![5, 6, 7, 8, 9])), // the first that is kept is the next
        (3, (false, vec![])),             // one is missing
        (0, (false, vec![])),
    ] {
        assert_eq!(start(&mut order, Some(since), 0, 9000), expected, "since {since}");
    }
}

#[test]
fn since_zero_is_the_beginning_while_it_is_kept() {
    let hub = five();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    say(&mut order, 1);
    say(&mut order, 2);
    assert_eq!(start(&mut order, Some(0), 0, 3), (true, vec![1, 2]));
}

#[test]
fn the_future_is_refused_and_changes_nothing() {
    let room = with_nine(&five());
    let mut order = room.order();
    for since in [10, 11, (1 << 53) - 1, u64::MAX] {
        assert_eq!(try_join(&mut order, Some(since), 3, 9000).unwrap_err(), Refused::Future);
    }
    assert!(order.is_empty() && order.user_count() == 0);
}

#[test]
fn another_epoch_is_not_recovered() {
    let room = with_nine(&five());
    let mut order = room.order();
    let own = order.epoch().to_string();
    for epoch in ["0000000000000", "", "x", &format!("{own} "), &own[1..]] {
        for since in [0, 9, 10] {
            let start = Start { since: Some((epoch, since)), rewind: 0 };
            let joined = order.join(&somebody("u_1"), 0, &start, Timestamp(9000)).unwrap();
            assert_eq!((joined.recovered, joined.after), (false, 9), "{epoch} {since}");
        }
    }
}

#[test]
fn an_empty_room() {
    let hub = five();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    assert_eq!(start(&mut order, None, 7, 1), (true, vec![]));
    assert_eq!(start(&mut order, Some(0), 0, 1), (true, vec![]));
    assert_eq!(try_join(&mut order, Some(1), 0, 1).unwrap_err(), Refused::Future);
    let start = Start { since: Some(("0000000000000", 0)), rewind: 2 };
    let joined = order.join(&somebody("u_1"), 0, &start, Timestamp(1)).unwrap();
    assert_eq!((joined.recovered, joined.after), (false, 0));
}

#[test]
fn rewind_is_cut_to_what_is_kept() {
    let room = with_nine(&five());
    let mut order = room.order();
    assert_eq!(start(&mut order, None, 1, 9000), (true, vec![9]));
    assert_eq!(start(&mut order, None, 5, 9000), (true, vec![5, 6, 7, 8, 9]));
    assert_eq!(start(&mut order, None, 6, 9000), (true, vec![5, 6, 7, 8, 9]));
    assert_eq!(start(&mut order, None, 1000, 9000), (true, vec![5, 6, 7, 8, 9]));
    assert_eq!(start(&mut order, None, u32::MAX, 9000), (true, vec![5, 6, 7, 8, 9]));
}

#[test]
fn rewind_helps_where_since_does_not() {
    let room = with_nine(&five());
    let mut order = room.order();
    assert_eq!(start(&mut order, Some(8), 3, 9000), (true, vec![9]), "since is enough");
    assert_eq!(start(&mut order, Some(1), 3, 9000), (false, vec![7, 8, 9]));
    let other = Start { since: Some(("0000000000000", 4)), rewind: 2 };
    let joined = order.join(&somebody("u_1"), 0, &other, Timestamp(9000)).unwrap();
    assert_eq!((joined.recovered, replayed(&order, joined.after)), (false, vec![8, 9]));
}

#[test]
fn without_history_only_the_last_position_is_recovered() {
    let hub = hub(Rule { history: History::NONE, ..Rule::default() });
    let room = with_nine(&hub);
    let mut order = room.order();
    assert!(say_ref(&mut order, "s_1", 1, 9000).is_ok());
    assert_eq!(order.seq(), 10);
    assert_eq!(start(&mut order, Some(10), 0, 9000), (true, vec![]));
    assert_eq!(start(&mut order, Some(9), 0, 9000), (false, vec![]));
    assert_eq!(start(&mut order, Some(9), 5, 9000), (false, vec![]));
    assert_eq!(start(&mut order, None, 5, 9000), (true, vec![]));
    assert_eq!(try_join(&mut order, Some(11), 0, 9000).unwrap_err(), Refused::Future);
}

#[test]
fn the_past_expires() {
    let history = History { ttl: Duration::from_secs(3), ..History::default() };
    let hub = hub(Rule { history, ..Rule::default() });
    let room = with_nine(&hub); // the last one at 9000
    let mut order = room.order();
    assert_eq!(start(&mut order, Some(5), 0, 9000), (true, vec![6, 7, 8, 9]));
    assert_eq!(start(&mut order, Some(5), 0, 9001), (false, vec![]), "6 is older than 3 s");
    assert_eq!(start(&mut order, Some(6), 0, 9001), (true, vec![7, 8, 9]));
    assert_eq!(start(&mut order, None, 100, 11_500), (true, vec![9]));
    assert_eq!(start(&mut order, Some(8), 0, 12_000), (true, vec![9]), "to the millisecond");
    assert_eq!(start(&mut order, Some(8), 0, 12_001), (false, vec![]));
    assert_eq!(start(&mut order, Some(9), 0, 12_001), (true, vec![]), "nothing was missed");
}

#[test]
fn the_past_is_limited_in_bytes() {
    let history = History { bytes: 1000, ..History::default() };
    let hub = hub(Rule { history, ..Rule::default() });
    let room = with_nine(&hub);
    let mut order = room.order();
    let (recovered, rewound) = start(&mut order, None, 100, 9000);
    assert!(recovered);
    assert!((3..9).contains(&rewound.len()), "{rewound:?}");
    let first = rewound[0];
    assert_eq!(start(&mut order, Some(first - 1), 0, 9000), (true, rewound));
    assert_eq!(start(&mut order, Some(first - 2), 0, 9000), (false, vec![]));
}

#[test]
fn a_message_that_is_larger_than_the_history_leaves_no_hole() {
    let history = History { bytes: 1000, ..History::default() };
    let hub = hub(Rule { history, ..Rule::default() });
    let room = with_nine(&hub);
    let mut order = room.order();
    let text = format!(r#"{{"type":"chat","text":"{}"}}"#, "x".repeat(2000));
    let author = crate::support::author("u_x", "");
    let large = order.publish(&author, &crate::support::message(&text), Timestamp(9000)).unwrap();
    assert_eq!(crate::support::place(&large).0, 10);
    assert_eq!(start(&mut order, Some(9), 0, 9000), (false, vec![]));
    assert_eq!(start(&mut order, Some(8), 9, 9000), (false, vec![]));
    say(&mut order, 9000);
    assert_eq!(start(&mut order, Some(10), 0, 9000), (true, vec![11]));
    assert_eq!(start(&mut order, Some(9), 0, 9000), (false, vec![]));
}

#[test]
fn frames_are_handed_out_as_they_were_live() {
    let hub = five();
    let room = hub.room(Space::ROOMS, "lobby", Timestamp(1));
    let mut order = room.order();
    let live: Vec<_> = (1..=3).map(|now| say(&mut order, now).frame().clone()).collect();
    let mut again = Vec::new();
    let replay = order.replay(0, |frame| {
        again.push(frame.clone());
        true
    });
    assert_eq!((replay, again), (Replay::Live, live));
}

/// Hands out at most `chunk` messages.
fn piece(order: &Order<'_>, after: u64, chunk: usize) -> (Replay, Vec<u64>) {
    let mut seqs = Vec::new();
    let replay = order.replay(after, |frame| {
        seqs.push(seq_of(frame));
        seqs.len() < chunk
    });
    (replay, seqs)
}

#[test]
fn a_replay_goes_on_while_others_publish() {
    let room = with_nine(&five());
    let joined = try_join(&mut room.order(), Some(4), 0, 9000).unwrap();
    let (replay, seqs) = piece(&room.order(), joined.after, 2);
    assert_eq!((replay, seqs), (Replay::More(6), vec![5, 6]));
    say(&mut room.order(), 9001); // 10; 5 goes
    say(&mut room.order(), 9002); // 11; 6 goes
    let (replay, seqs) = piece(&room.order(), 6, 3);
    assert_eq!((replay, seqs), (Replay::More(9), vec![7, 8, 9]));
    let mut order = room.order();
    let (replay, seqs) = piece(&order, 9, 2);
    assert_eq!(
        (replay, seqs),
        (Replay::Live, vec![10, 11]),
        "the last piece is full, and the last"
    );
    // Live from here on, in the same order.
    assert_eq!(seq_of(say(&mut order, 9003).frame()), 12);
}

#[test]
fn a_replay_that_is_overtaken_is_lost() {
    let room = with_nine(&five());
    let joined = try_join(&mut room.order(), Some(4), 0, 9000).unwrap();
    let (replay, _) = piece(&room.order(), joined.after, 1);
    assert_eq!(replay, Replay::More(5));
    say(&mut room.order(), 9001); // 6 is still there
    assert_eq!(piece(&room.order(), 5, 1), (Replay::More(6), vec![6]));
    for now in 9002..9004 {
        say(&mut room.order(), now); // 7 and 8 go
    }
    let order = room.order();
    assert_eq!(piece(&order, 6, 9), (Replay::Lost, vec![]), "not one message behind a hole");
    assert_eq!(piece(&order, 7, 9).0, Replay::Live);
}

#[test]
fn a_replay_is_lost_when_the_rest_expires() {
    let history = History { ttl: Duration::from_secs(3), ..History::default() };
    let hub = hub(Rule { history, ..Rule::default() });
    let room = with_nine(&hub);
    let mut order = room.order();
    let joined = try_join(&mut order, Some(6), 0, 9000).unwrap();
    let (replay, _) = piece(&order, joined.after, 1);
    assert_eq!(replay, Replay::More(7));
    start(&mut order, None, 0, 1_000_000); // somebody comes much later
    assert_eq!(piece(&order, 7, 9), (Replay::Lost, vec![]));
}

#[test]
fn a_replay_does_not_miss_what_is_published_between_join_and_replay() {
    let room = with_nine(&five());
    let joined = try_join(&mut room.order(), Some(9), 0, 9000).unwrap();
    assert_eq!((joined.after, joined.seq), (9, 9));
    say(&mut room.order(), 9001);
    assert_eq!(piece(&room.order(), joined.after, 9), (Replay::Live, vec![10]));
}

#[test]
fn who_comes_back_after_leaving_gets_what_was_missed() {
    let room = with_nine(&five());
    let (ada, bob) = (somebody("u_a"), somebody("u_b"));
    let mut order = room.order();
    order.join(&ada, 0, &Start::NOW, Timestamp(9000)).unwrap();
    order.join(&bob, 0, &Start::NOW, Timestamp(9000)).unwrap();
    order.leave(&ada, 0, Ending::Lost, Timestamp(9001));
    say(&mut order, 9002);
    say(&mut order, 9003);
    let epoch = order.epoch().to_string();
    let back = Start { since: Some((&epoch, 9)), rewind: 0 };
    let joined = order.join(&ada, 0, &back, Timestamp(9004)).unwrap();
    assert_eq!((joined.recovered, replayed(&order, joined.after)), (true, vec![10, 11]));
}
