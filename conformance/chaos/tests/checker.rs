//! The checker catches what a server can do wrong: a good log, and one fault sown into it each time.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use throng_chaos::check::{Check, Checker, Verdict};
use throng_chaos::record::{Event, Keeps, Position, Record, Return};

/// A run with three clients. 0 and 1 are in `a`, 2 is in `b` and visits `a`; 1 is cut once, and comes
/// back after a kill; 2 publishes to 0 directly; 3 departs.
fn good() -> Vec<Record> {
    let mut log = Story::default();
    let keeps = Keeps { durable: true, history: 3, little: false, shared: None };
    log.run(Event::Begun { seed: 1, clients: 4, command: "test".into(), keeps });
    log.run(Event::Started);
    for client in 0..4 {
        log.connected(client, false);
        log.joined(client, &format!("@u{client}"), 0, None);
    }
    log.joined(0, "a", 0, None);
    log.joined(1, "a", 0, None);
    log.joined(3, "a", 0, None);
    log.joined(2, "b", 0, None);
    for n in 1..=3 {
        log.sent(0, "a", &format!("0-{n}"), n);
        log.acked(0, "a", &format!("0-{n}"), n, false);
        for client in [0, 1, 3] {
            log.received(client, "a", n, 0, &format!("0-{n}"));
        }
    }
    log.sent(2, "@u0", "2-1", 9);
    log.acked(2, "@u0", "2-1", 1, false);
    log.received(0, "@u0", 1, 2, "2-1");
    log.joined(2, "a", 3, None);
    // 1 publishes and is cut before the answer; the others go on.
    log.sent(1, "a", "1-1", 5);
    log.client(1, Event::Lost { why: "cut".into() });
    for client in [3, 0, 2] {
        log.received(client, "a", 4, 1, "1-1");
    }
    log.sent(0, "a", "0-4", 4);
    log.acked(0, "a", "0-4", 5, false);
    for client in [3, 2, 0] {
        log.received(client, "a", 5, 0, "0-4");
    }
    log.client(2, Event::Left { room: "a".into() });
    log.run(Event::Killed);
    log.run(Event::Started);
    for client in [0, 2, 3] {
        log.client(client, Event::Lost { why: "reset".into() });
    }
    log.connected(1, true);
    log.resumed(1, &[("a", 3, 5), ("@u1", 0, 0)]);
    log.sent(1, "a", "1-1", 5);
    log.received(1, "a", 4, 1, "1-1");
    log.received(1, "a", 5, 0, "0-4");
    log.acked(1, "a", "1-1", 4, true);
    log.connected(0, true);
    log.resumed(0, &[("a", 5, 5), ("@u0", 1, 1)]);
    log.connected(2, true);
    log.resumed(2, &[("b", 0, 0), ("@u2", 0, 0)]);
    log.connected(3, true);
    log.resumed(3, &[("a", 5, 5), ("@u3", 0, 0)]);
    log.sent(0, "a", "0-5", 6);
    for client in [0, 1, 3] {
        log.received(client, "a", 6, 0, "0-5");
    }
    log.acked(0, "a", "0-5", 6, false);
    log.sent(0, "a", "0-5", 6);
    log.acked(0, "a", "0-5", 6, true);
    log.history(0, "a", 4..=6, &["1-1", "0-4", "0-5"]);
    log.client(3, Event::Departed { orderly: true });
    log.lists(0, "a", &["u0", "u1"]);
    log.lists(1, "a", &["u1", "u0"]);
    log.lists(2, "b", &["u2"]);
    log.run(Event::Finished { cuts: 1 });
    log.records
}

#[test]
fn a_good_run_is_good() {
    let verdict = judge(&good());
    assert!(verdict.holds(), "{:#?}", verdict.findings());
    assert_eq!(verdict.totals(), (Check::ALL.len() - 2, 0), "all but disk and pace");
}

/// Each: what is done to the good log, and which promise that breaks.
macro_rules! caught {
    ($($name:ident: $check:ident, $sow:expr;)+) => {$(
        #[test]
        fn $name() {
            let mut records = good();
            let sow: fn(&mut Vec<Record>) = $sow;
            sow(&mut records);
            assert_ne!(records, good(), "nothing was sown");
            let verdict = judge(&records);
            let found = verdict.findings().iter().any(|finding| finding.check == Check::$check);
            assert!(found, "not {}: {:#?}", stringify!($check), verdict.findings());
            assert!(!verdict.holds());
        }
    )+};
}

caught! {
    a_delivery_is_missing: Delivered, |log| { log.remove(find(log, |r| got(r, 3, "0-2"))); };
    the_last_delivery_is_missing: Delivered, |log| { log.remove(find(log, |r| got(r, 1, "0-5"))); };
    the_sender_does_not_get_its_own: Delivered, |log| { log.remove(find(log, |r| got(r, 0, "0-5"))); };
    a_direct_message_is_missing: Delivered, |log| { log.remove(find(log, |r| got(r, 0, "2-1"))); };
    what_was_missed_is_missing: Delivered, |log| { log.remove(find(log, |r| got(r, 1, "0-4"))); };
    a_delivery_comes_twice: Delivered, |log| {
        let at = find(log, |r| got(r, 0, "0-4"));
        log.insert(at + 1, log[at].clone());
    };
    a_delivery_comes_again_after_the_resume: Delivered, |log| {
        let mut again = log[find(log, |r| got(r, 1, "0-3"))].clone();
        again.connection = 2;
        let at = find(log, |r| r.client == Some(1) && matches!(r.event, Event::Resumed { .. }));
        log.insert(at + 1, again);
    };
    two_deliveries_are_swapped: Delivered, |log| {
        let (a, b) = (find(log, |r| got(r, 3, "0-1")), find(log, |r| got(r, 3, "0-2")));
        log.swap(a, b);
    };
    live_comes_before_what_was_missed: Delivered, |log| {
        let (a, b) = (find(log, |r| got(r, 1, "1-1")), find(log, |r| got(r, 1, "0-5")));
        let live = log.remove(b);
        log.insert(a, live);
    };
    two_members_see_another_order: Order, |log| {
        swap_ids(log, 3, "0-1", "0-2");
    };
    a_number_is_used_twice: Acks, |log| {
        // Acknowledged, lost by a kill, and the number given to another message.
        for record in log.iter_mut() {
            if let Event::Acked { id, seq, .. } = &mut record.event && id == "0-5" {
                *seq = Some(5);
            }
        }
    };
    a_number_is_left_out: Order, |log| {
        for record in log.iter_mut() {
            match &mut record.event {
                Event::Received { seq, room, .. } if room == "a" && *seq == 6 => *seq = 7,
                Event::Acked { seq, room, .. } if room == "a" && *seq == Some(6) => *seq = Some(7),
                Event::History { messages, .. } => messages.retain(|message| message.0 < 6),
                _ => {}
            }
        }
    };
    an_acknowledged_message_is_gone: Delivered, |log| {
        log.retain(|r| !matches!(&r.event, Event::Received { id, .. } if id == "0-5"));
        for record in log.iter_mut() {
            if let Event::History { messages, .. } = &mut record.event {
                messages.pop();
            }
        }
    };
    a_message_is_published_twice: Once, |log| {
        for client in [0, 1, 3] {
            let at = find(log, |r| got(r, client, "0-5"));
            let mut again = log[at].clone();
            if let Event::Received { seq, .. } = &mut again.event {
                *seq = 7;
            }
            log.insert(at + 1, again);
        }
    };
    an_unacknowledged_message_is_published_twice: Once, |log| {
        log.retain(|r| !matches!(&r.event, Event::Acked { id, .. } if id == "0-5"));
        for client in [0, 1, 3] {
            let at = find(log, |r| got(r, client, "0-5"));
            let mut again = log[at].clone();
            if let Event::Received { seq, .. } = &mut again.event {
                *seq = 7;
            }
            log.insert(at + 1, again);
        }
    };
    an_acknowledgement_has_another_time: Acks, |log| {
        let at = find(log, |r| matches!(&r.event, Event::Acked { id, .. } if id == "0-2"));
        if let Event::Acked { ts, .. } = &mut log[at].event {
            *ts += 1;
        }
    };
    an_acknowledgement_has_another_number: Acks, |log| {
        let at = find(log, |r| matches!(&r.event, Event::Acked { id, .. } if id == "0-2"));
        if let Event::Acked { seq, .. } = &mut log[at].event {
            *seq = Some(1);
        }
    };
    an_acknowledgement_has_no_number: Acks, |log| {
        let at = find(log, |r| matches!(&r.event, Event::Acked { id, .. } if id == "0-2"));
        if let Event::Acked { seq, .. } = &mut log[at].event {
            *seq = None;
        }
    };
    a_repeated_acknowledgement_differs: Acks, |log| {
        let at = find(log, |r| matches!(&r.event, Event::Acked { id, duplicate: true, .. } if id == "0-5"));
        if let Event::Acked { seq, .. } = &mut log[at].event {
            *seq = Some(7);
        }
    };
    a_repeated_acknowledgement_is_not_marked: Acks, |log| {
        let at = find(log, |r| matches!(&r.event, Event::Acked { id, duplicate: true, .. } if id == "0-5"));
        if let Event::Acked { duplicate, .. } = &mut log[at].event {
            *duplicate = false;
        }
    };
    a_first_acknowledgement_is_marked: Acks, |log| {
        let at = find(log, |r| matches!(&r.event, Event::Acked { id, .. } if id == "0-2"));
        if let Event::Acked { duplicate, .. } = &mut log[at].event {
            *duplicate = true;
        }
    };
    time_goes_back: Time, |log| {
        for record in log.iter_mut() {
            match &mut record.event {
                Event::Received { ts, seq: 6, .. } | Event::Acked { ts, seq: Some(6), .. } => *ts = 1,
                Event::History { messages, .. } => messages[2].1 = 1,
                _ => {}
            }
        }
    };
    two_members_see_other_times: Time, |log| {
        let at = find(log, |r| got(r, 3, "0-2"));
        if let Event::Received { ts, .. } = &mut log[at].event {
            *ts += 1;
        }
    };
    somebody_else_gets_a_message: Members, |log| {
        let at = find(log, |r| got(r, 1, "0-2"));
        let mut stray = log[at].clone();
        stray.client = Some(2);
        log.insert(at, stray);
    };
    somebody_else_gets_a_direct_message: Members, |log| {
        let at = find(log, |r| got(r, 0, "2-1"));
        let mut stray = log[at].clone();
        stray.client = Some(1);
        log.insert(at, stray);
    };
    a_visitor_gets_more_after_leaving: Members, |log| {
        let left = find(log, |r| matches!(r.event, Event::Left { .. }));
        let at = find(log, |r| got(r, 2, "0-4"));
        let late = log.remove(at);
        log.insert(left, late);
    };
    a_message_comes_before_the_join: Members, |log| {
        let resumed = find(log, |r| r.client == Some(1) && matches!(r.event, Event::Resumed { .. }));
        let at = find(log, |r| got(r, 1, "1-1"));
        let early = log.remove(at);
        log.insert(resumed, early);
    };
    a_sender_is_reordered: Senders, |log| {
        for client in [0, 1, 3] {
            swap_ids(log, client, "0-1", "0-2");
        }
    };
    somebody_is_missing_from_presence: Presence, |log| {
        edit_list(log, |users| users.retain(|user| user != "u1"));
    };
    somebody_who_left_is_in_presence: Presence, |log| {
        edit_list(log, |users| users.push("u3".into()));
    };
    somebody_is_in_presence_twice: Presence, |log| {
        edit_list(log, |users| users.push("u1".into()));
    };
    nobody_was_asked_about_presence: Presence, |log| {
        log.retain(|r| !matches!(&r.event, Event::Presence { room, .. } | Event::Roster { room, .. } if room == "b"));
    };
    a_roster_has_not_heard_of_somebody: Presence, |log| {
        let at = find(log, |r| matches!(r.event, Event::Roster { .. }));
        if let Event::Roster { users, .. } = &mut log[at].event {
            users.pop();
        }
    };
    a_session_is_forgotten: Recovery, |log| {
        let at = find(log, |r| matches!(r.event, Event::Connected { resumed: true, .. }));
        if let Event::Connected { resumed, .. } = &mut log[at].event {
            *resumed = false;
        }
    };
    a_session_becomes_somebody_else: Recovery, |log| {
        let at = find(log, |r| matches!(r.event, Event::Connected { resumed: true, .. }));
        if let Event::Connected { session, .. } = &mut log[at].event {
            *session = "s9".into();
        }
    };
    a_room_is_not_recovered: Recovery, |log| {
        edit_resumed(log, |back| if let Return::Back { recovered, .. } = back { *recovered = false });
    };
    a_room_cannot_be_resumed: Recovery, |log| {
        edit_resumed(log, |back| *back = Return::Error("unavailable".into()));
    };
    an_epoch_changes: Recovery, |log| {
        edit_resumed(log, |back| if let Return::Back { now, .. } = back { now.epoch = "f".into() });
    };
    a_room_goes_back: Recovery, |log| {
        edit_resumed(log, |back| if let Return::Back { now, .. } = back { now.seq = 2 });
    };
    a_payload_is_damaged: Content, |log| {
        let at = find(log, |r| got(r, 3, "0-2"));
        if let Event::Received { intact, .. } = &mut log[at].event {
            *intact = false;
        }
    };
    a_sender_is_wrong: Content, |log| {
        let at = find(log, |r| got(r, 3, "0-2"));
        if let Event::Received { from, .. } = &mut log[at].event {
            *from = "u1".into();
        }
    };
    a_message_comes_from_nowhere: Content, |log| {
        log.retain(|r| !matches!(&r.event, Event::Sent { id, .. } if id == "0-2"));
    };
    history_has_a_hole: History, |log| {
        let at = find(log, |r| matches!(r.event, Event::History { .. }));
        if let Event::History { messages, .. } = &mut log[at].event {
            messages.remove(1);
        }
    };
    history_says_something_else: History, |log| {
        let at = find(log, |r| matches!(r.event, Event::History { .. }));
        if let Event::History { messages, .. } = &mut log[at].event {
            messages[1].2 = "0-1".into();
        }
    };
    a_publish_is_never_answered: Progress, |log| {
        log.retain(|r| !matches!(&r.event, Event::Acked { id, .. } if id == "0-2"));
    };
    a_publish_is_refused: Progress, |log| {
        let refused = Event::Refused { room: "a".into(), id: "0-5".into(), code: "unavailable".into(), temporary: true };
        log.insert(log.len() - 1, Record { at: 0, client: Some(0), connection: 2, event: refused });
    };
    a_connection_is_closed: Progress, |log| {
        log.insert(log.len() - 1, Record { at: 0, client: Some(3), connection: 2, event: Event::Closed { code: 1011 } });
    };
    something_takes_too_long: Progress, |log| {
        log.insert(log.len() - 1, Record { at: 0, client: None, connection: 0, event: Event::Stalled { what: "x".into() } });
    };
    the_run_breaks_off: Progress, |log| { log.pop(); };
    the_server_ends_by_itself: Server, |log| {
        log.insert(log.len() - 1, Record { at: 0, client: None, connection: 0, event: Event::Died { status: "x".into() } });
    };
    the_server_panics: Server, |log| {
        log.insert(log.len() - 1, Record { at: 0, client: None, connection: 0, event: Event::Panicked { line: "x".into() } });
    };
}

/// No line can be taken away or doubled among the deliveries without somebody noticing.
#[test]
fn every_delivery_counts() {
    let good = good();
    let deliveries: Vec<usize> =
        (0..good.len()).filter(|at| matches!(good[*at].event, Event::Received { .. })).collect();
    for at in deliveries {
        let mut without = good.clone();
        let record = without.remove(at);
        // What a visitor received last is not owed: it may have left before.
        if !got(&record, 2, "0-4") {
            assert!(!judge(&without).holds(), "without {record:?}");
        }
        let mut twice = good.clone();
        twice.insert(at, record.clone());
        assert!(!judge(&twice).holds(), "twice {record:?}");
    }
}

#[test]
fn an_outage_of_the_disk_must_be_told_and_end() {
    let disk = |works| Record { at: 0, client: None, connection: 0, event: Event::Disk { works } };
    let refused = |code: &str, temporary| Record {
        at: 0,
        client: Some(0),
        connection: 2,
        event: Event::Refused { room: "a".into(), id: "0-5".into(), code: code.into(), temporary },
    };
    let sown = |refusal: Option<Record>, comes_back: bool| {
        let mut log = good();
        let at = find(&log, |r| matches!(&r.event, Event::Sent { id, .. } if id == "0-5"));
        let end = if comes_back { at + 1 } else { log.len() - 1 };
        log.insert(end, disk(true));
        if let Some(refusal) = refusal {
            log.insert(at + 1, refusal);
        }
        log.insert(at + 1, disk(false));
        judge(&log)
    };
    let broken = |verdict: Verdict| -> Vec<Check> {
        verdict.findings().iter().map(|finding| finding.check).collect()
    };
    assert_eq!(broken(sown(Some(refused("unavailable", true)), true)), []);
    assert_eq!(broken(sown(None, true)), [Check::Disk]);
    assert_eq!(broken(sown(Some(refused("unavailable", true)), false)), [Check::Disk]);
    let wrong = [Check::Progress, Check::Disk];
    assert_eq!(broken(sown(Some(refused("internal", true)), true)), wrong);
    assert_eq!(broken(sown(Some(refused("unavailable", false)), true)), wrong);
}

/// A server that is about to stop may refuse, for now.
#[test]
fn refusals_while_stopping_are_no_trouble() {
    let broken = |stopped: bool, temporary: bool| {
        let mut log = good();
        let at = find(&log, |r| matches!(&r.event, Event::Sent { id, .. } if id == "0-5"));
        let (room, id, code) = ("a".into(), "0-5".into(), "unavailable".into());
        let refused = Event::Refused { room, id, code, temporary };
        log.insert(at + 1, Record { at: 0, client: Some(0), connection: 2, event: refused });
        if stopped {
            log.insert(at, Record { at: 0, client: None, connection: 0, event: Event::Stopping });
        }
        !judge(&log).holds()
    };
    assert!(!broken(true, true));
    assert!(broken(true, false));
    assert!(broken(false, true));
}

/// Without durability: a new epoch and new sessions after a kill are no fault, everything else is.
mod in_memory {
    use super::*;

    fn good() -> Vec<Record> {
        let mut log = Story::default();
        let keeps = Keeps { durable: false, history: 3, little: false, shared: None };
        log.run(Event::Begun { seed: 1, clients: 2, command: "test".into(), keeps });
        for client in 0..2 {
            log.connected(client, false);
            log.joined(client, "a", 0, None);
        }
        log.sent(0, "a", "0-1", 1);
        log.acked(0, "a", "0-1", 1, false);
        log.received(0, "a", 1, 0, "0-1");
        log.received(1, "a", 1, 0, "0-1");
        log.sent(0, "a", "0-2", 2);
        log.run(Event::Killed);
        for client in 0..2 {
            log.connected(client, false);
            log.edit(|event| {
                if let Event::Connected { asked, .. } = event {
                    *asked = true
                }
            });
            log.joined(client, "a", 0, Some(1));
            log.edit(|event| {
                if let Event::Joined { now, recovered, .. } = event {
                    (now.epoch, *recovered) = ("f".into(), false);
                }
            });
        }
        log.client(0, Event::Uncertain { id: "0-2".into() });
        log.sent(1, "a", "1-1", 1);
        log.acked(1, "a", "1-1", 1, false);
        for client in 0..2 {
            log.received(client, "a", 1, 1, "1-1");
            log.edit(|event| {
                if let Event::Received { epoch, .. } = event {
                    *epoch = "f".into()
                }
            });
        }
        log.lists(0, "a", &["u0", "u1"]);
        log.run(Event::Finished { cuts: 1 });
        log.records
    }

    #[test]
    fn a_good_run_is_good() {
        let verdict = judge(&good());
        assert!(verdict.holds(), "{:#?}", verdict.findings());
    }

    #[test]
    fn pretended_recovery_is_caught() {
        let mut log = good();
        let at = find(&log, |r| matches!(r.event, Event::Joined { recovered: false, .. }));
        if let Event::Joined { recovered, .. } = &mut log[at].event {
            *recovered = true;
        }
        assert_eq!(judge(&log).findings()[0].check, Check::Recovery);
    }

    #[test]
    fn a_silent_restart_of_the_numbers_is_caught() {
        let mut log = good();
        for record in &mut log {
            match &mut record.event {
                Event::Joined { now, .. } if now.epoch == "f" => now.epoch = "e".into(),
                Event::Received { epoch, .. } if epoch == "f" => *epoch = "e".into(),
                _ => {}
            }
        }
        assert!(!judge(&log).holds());
    }

    #[test]
    fn a_change_without_a_kill_is_caught() {
        let mut log = good();
        log.retain(|record| record.event != Event::Killed);
        let verdict = judge(&log);
        assert!(verdict.findings().iter().all(|finding| finding.check == Check::Recovery));
        assert_eq!(verdict.findings().len(), 3, "two sessions and an epoch");
    }
}

/// What is older than history need not be recovered; anything newer must be.
#[test]
fn history_says_what_must_be_recovered() {
    let missed = |seq: u64| {
        let mut log = good();
        log.truncate(find(&log, |record| record.event == Event::Killed));
        let since = Some(at(5));
        let now = at(5 + seq);
        let joined = Event::Joined { room: "a".into(), now, since, recovered: false };
        log.push(Record { at: 0, client: Some(0), connection: 1, event: joined });
        let found = judge(&log).findings().iter().any(|f| f.check == Check::Recovery);
        !found
    };
    assert!(!missed(3));
    assert!(missed(4));
}

#[test]
fn findings_name_their_lines() {
    let mut log = good();
    let at = find(&log, |r| got(r, 3, "0-2"));
    log.remove(at);
    let verdict = judge(&log);
    let finding = &verdict.findings()[0];
    // The delivery that came too early now stands where the missing one was, or after.
    assert!(finding.lines.iter().any(|line| *line > at), "{finding:?}");
}

fn judge(records: &[Record]) -> Verdict {
    let mut checker = Checker::default();
    for (index, record) in records.iter().enumerate() {
        checker.read(index + 1, record.clone());
    }
    checker.finish()
}

fn find(records: &[Record], wanted: impl Fn(&Record) -> bool) -> usize {
    records.iter().position(wanted).unwrap()
}

fn got(record: &Record, client: u32, wanted: &str) -> bool {
    record.client == Some(client)
        && matches!(&record.event, Event::Received { id, .. } if id == wanted)
}

fn swap_ids(records: &mut [Record], client: u32, one: &str, other: &str) {
    for record in records {
        if let Event::Received { id, .. } = &mut record.event
            && record.client == Some(client)
        {
            if id == one {
                *id = other.to_owned();
            } else if id == other {
                *id = one.to_owned();
            }
        }
    }
}

fn edit_list(records: &mut [Record], edit: impl Fn(&mut Vec<String>)) {
    let at = find(records, |record| matches!(record.event, Event::Presence { .. }));
    if let Event::Presence { users, .. } = &mut records[at].event {
        edit(users);
    }
}

fn edit_resumed(records: &mut [Record], edit: impl Fn(&mut Return)) {
    let at = find(records, |record| matches!(record.event, Event::Resumed { .. }));
    if let Event::Resumed { rooms } = &mut records[at].event {
        edit(rooms.get_mut("a").unwrap());
    }
}

/// Writes a log as a run does.
#[derive(Default)]
struct Story {
    records: Vec<Record>,
    connections: [u32; 4],
}

impl Story {
    fn run(&mut self, event: Event) {
        self.records.push(Record { at: 0, client: None, connection: 0, event });
    }

    fn client(&mut self, client: u32, event: Event) {
        let connection = self.connections[client as usize];
        self.records.push(Record { at: 0, client: Some(client), connection, event });
    }

    /// Changes the last line.
    fn edit(&mut self, edit: impl Fn(&mut Event)) {
        edit(&mut self.records.last_mut().unwrap().event);
    }

    fn connected(&mut self, client: u32, resumed: bool) {
        self.connections[client as usize] += 1;
        let (user, session) = (format!("u{client}"), format!("s{client}"));
        self.client(client, Event::Connected { user, session, asked: resumed, resumed });
    }

    fn joined(&mut self, client: u32, room: &str, seq: u64, since: Option<u64>) {
        let event = Event::Joined {
            room: room.into(),
            now: at(seq),
            since: since.map(at),
            recovered: true,
        };
        self.client(client, event);
    }

    fn resumed(&mut self, client: u32, rooms: &[(&str, u64, u64)]) {
        let rooms = rooms.iter().map(|(room, since, now)| {
            let back = Return::Back { since: Some(at(*since)), recovered: true, now: at(*now) };
            ((*room).to_owned(), back)
        });
        self.client(client, Event::Resumed { rooms: rooms.collect() });
    }

    fn sent(&mut self, client: u32, room: &str, id: &str, reference: u64) {
        self.client(client, Event::Sent { room: room.into(), id: id.into(), reference });
    }

    fn acked(&mut self, client: u32, room: &str, id: &str, seq: u64, duplicate: bool) {
        let (room, id) = (room.into(), id.into());
        self.client(client, Event::Acked { room, id, seq: Some(seq), ts: time(seq), duplicate });
    }

    fn received(&mut self, client: u32, room: &str, seq: u64, from: u32, id: &str) {
        let event = Event::Received {
            room: room.into(),
            epoch: "e".into(),
            seq,
            ts: time(seq),
            from: format!("u{from}"),
            id: id.into(),
            intact: true,
        };
        self.client(client, event);
    }

    fn history(&mut self, client: u32, room: &str, seqs: impl Iterator<Item = u64>, ids: &[&str]) {
        let messages = seqs.zip(ids).map(|(seq, id)| (seq, time(seq), (*id).to_owned())).collect();
        self.client(client, Event::History { room: room.into(), epoch: "e".into(), messages });
    }

    fn lists(&mut self, client: u32, room: &str, users: &[&str]) {
        let users: Vec<String> = users.iter().map(|user| (*user).to_owned()).collect();
        self.client(client, Event::Presence { room: room.into(), users: users.clone() });
        self.client(client, Event::Roster { room: room.into(), users });
    }
}

fn at(seq: u64) -> Position {
    Position { epoch: "e".into(), seq }
}

fn time(seq: u64) -> u64 {
    1000 + seq / 2
}
