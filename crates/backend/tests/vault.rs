//! Who may come in: each ticket once, revocations at once, and nothing forgotten by a sudden end.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throng_backend::{
    Answer, Begun, Member, NewSession, NewTicket, OpenError, Redeemed, SessionRow, SyncMode,
    UserRow, Vault,
};
use throng_hub::{Ban, Timestamp, Unavailable};

/// Some time.
const NOW: u64 = 1_763_629_000_000;
const DAY: u64 = 24 * 60 * 60 * 1000;

type Done<T> = Box<dyn FnOnce(Answer<T>) + Send>;

/// Asks, and waits for the answer.
fn ask<T: Send + 'static>(asked: impl FnOnce(Done<T>)) -> Answer<T> {
    let (answer, answered) = mpsc::channel();
    asked(Box::new(move |found| answer.send(found).unwrap()));
    answered.recv().expect("each is answered")
}

fn memory() -> Vault {
    Vault::open(None, SyncMode::Full).unwrap()
}

fn file(dir: &Path) -> Vault {
    Vault::open(Some(dir), SyncMode::Full).unwrap()
}

fn hash(n: u32) -> [u8; 32] {
    let mut hash = [0x5a; 32];
    // Spread, as hashes are.
    hash[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    hash[4..8].copy_from_slice(&n.to_be_bytes());
    hash
}

fn ticket(n: u32, user: &str) -> NewTicket {
    NewTicket {
        hash: hash(n),
        user: user.into(),
        ip: None,
        expires: NOW + 30_000,
        session_ttl: Some(DAY),
        via: "ticket".into(),
        record: format!(r#"{{"n":{n}}}"#),
    }
}

fn session(id: &str) -> NewSession {
    NewSession { id: id.into(), started: NOW }
}

fn row(id: &str, user: &str) -> SessionRow {
    SessionRow {
        id: id.into(),
        user: user.into(),
        ip: None,
        started: NOW,
        expires: None,
        issued: Some(NOW),
        token: None,
        via: "token".into(),
        record: "{}".into(),
    }
}

fn issue(vault: &Vault, ticket: NewTicket) {
    let issued = ask(|done| vault.issue(ticket, done));
    assert_eq!(issued, Ok(()), "{:?}", vault.stats().trouble);
}

fn redeem(vault: &Vault, n: u32, id: &str) -> Redeemed {
    ask(|done| vault.redeem(hash(n), None, NOW, session(id), done)).unwrap()
}

fn admitted(n: u32, user: &str) -> Redeemed {
    Redeemed::Admitted {
        user: user.into(),
        record: format!(r#"{{"n":{n}}}"#),
        expires: Some(NOW + DAY),
        via: "ticket".into(),
    }
}

fn begin(vault: &Vault, row: SessionRow) -> Begun {
    ask(|done| vault.begin(row, done)).unwrap()
}

fn find(vault: &Vault, id: &str) -> Option<SessionRow> {
    ask(|done| vault.find(id, done)).unwrap()
}

/// Those of some sessions that are gone.
fn gone(vault: &Vault, ids: &[&str]) -> Vec<String> {
    let ids = ids.iter().map(|&id| id.into()).collect();
    let gone = ask(|done| vault.check(ids, done)).unwrap();
    gone.into_iter().map(Into::into).collect()
}

/// Waits for what another thread or process does soon.
fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::sleep(Duration::from_millis(2));
    }
}

/// In memory and in a file, which must be the same.
fn both(test: impl Fn(Vault)) {
    test(memory());
    let dir = tempfile::tempdir().unwrap();
    test(file(dir.path()));
}

#[test]
fn a_ticket_is_good_once() {
    both(|vault| {
        assert_eq!(redeem(&vault, 1, "s_0"), Redeemed::Unknown, "there never was one");
        issue(&vault, ticket(1, "ada"));
        issue(&vault, ticket(2, "bob"));
        assert_eq!(vault.stats().tickets, 2);
        assert_eq!(redeem(&vault, 1, "s_1"), admitted(1, "ada"));
        assert_eq!(redeem(&vault, 1, "s_2"), Redeemed::Unknown);
        let stats = vault.stats();
        assert_eq!((stats.tickets, stats.sessions, stats.queued), (1, 1, 0));
        let found = find(&vault, "s_1").unwrap();
        let expected = SessionRow {
            expires: Some(NOW + DAY),
            issued: None,
            via: "ticket".into(),
            record: r#"{"n":1}"#.into(),
            ..row("s_1", "ada")
        };
        assert_eq!(found, expected);
        assert_eq!(find(&vault, "s_2"), None);
    });
}

#[test]
fn of_a_thousand_parallel_replays_one_wins() {
    both(|vault| {
        issue(&vault, ticket(1, "ada"));
        let start = Arc::new(Barrier::new(1000));
        let threads: Vec<_> = (0..1000)
            .map(|n| {
                let (vault, start) = (vault.clone(), start.clone());
                let attempt = move || {
                    start.wait();
                    redeem(&vault, 1, &format!("s_{n}"))
                };
                thread::Builder::new().stack_size(128 << 10).spawn(attempt).unwrap()
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
        let winners: Vec<_> =
            results.iter().filter(|it| **it != Redeemed::Unknown).cloned().collect();
        assert_eq!(winners, [admitted(1, "ada")]);
        let stats = vault.stats();
        assert_eq!((stats.tickets, stats.sessions), (0, 1));
        let ids: Vec<_> = (0..1000).map(|n| format!("s_{n}").into()).collect();
        assert_eq!(ask(|done| vault.check(ids, done)).unwrap().len(), 999);
    });
}

#[test]
fn replays_through_two_vaults() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (file(dir.path()), file(dir.path()));
    for n in 0..50 {
        issue(&one, ticket(n, "ada"));
        let start = Barrier::new(2);
        let attempt = |vault: &Vault, id: String| {
            start.wait();
            redeem(vault, n, &id)
        };
        let wins = thread::scope(|scope| {
            let other = scope.spawn(|| attempt(&two, format!("s_{n}_b")));
            [attempt(&one, format!("s_{n}_a")), other.join().unwrap()]
                .iter()
                .filter(|it| **it == admitted(n, "ada"))
                .count()
        });
        assert_eq!(wins, 1);
    }
}

#[test]
fn a_ticket_expires() {
    both(|vault| {
        let at = |n, now| ask(|done| vault.redeem(hash(n), None, now, session("s_1"), done));
        issue(&vault, ticket(1, "ada"));
        assert_eq!(at(1, NOW + 30_000), Ok(Redeemed::Unknown));
        assert_eq!(at(1, u64::MAX), Ok(Redeemed::Unknown));
        assert!(matches!(at(1, NOW + 29_999), Ok(Redeemed::Admitted { .. })));
        // No end of the session, and times that are too large for the file.
        let mut endless = ticket(2, "ada");
        (endless.session_ttl, endless.expires) = (None, u64::MAX);
        issue(&vault, endless);
        let found = ask(|done| vault.redeem(hash(2), None, NOW, session("s_2"), done)).unwrap();
        assert!(matches!(found, Redeemed::Admitted { expires: None, .. }));
        assert_eq!(find(&vault, "s_2").unwrap().expires, None);
    });
}

#[test]
fn a_wrong_address_keeps_the_ticket_good() {
    both(|vault| {
        let ip = |text: &str| -> Option<IpAddr> { Some(text.parse().unwrap()) };
        let from =
            |n, ip, id| ask(|done| vault.redeem(hash(n), ip, NOW, session(id), done)).unwrap();
        for (n, bound) in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"].iter().enumerate() {
            issue(&vault, NewTicket { ip: ip(bound), ..ticket(n as u32, "ada") });
        }
        for wrong in [None, ip("192.0.2.2"), ip("2001:db8::1"), ip("::192.0.2.1")] {
            assert_eq!(from(0, wrong, "s_0"), Redeemed::WrongAddress, "{wrong:?}");
        }
        assert_eq!(vault.stats().sessions, 0);
        // The same address, written as an IPv6 socket sees it.
        assert_eq!(from(0, ip("::ffff:192.0.2.1"), "s_0"), admitted(0, "ada"));
        assert_eq!(from(0, ip("192.0.2.1"), "s_0"), Redeemed::Unknown, "used");
        assert_eq!(from(1, ip("2001:db8:0::0:1"), "s_1"), admitted(1, "ada"));
        assert_eq!(from(2, ip("192.0.2.1"), "s_2"), admitted(2, "ada"));
        assert_eq!(find(&vault, "s_1").unwrap().ip, ip("2001:db8::1"));
        // One that has expired does not tell for whom it was.
        issue(&vault, NewTicket { ip: ip("192.0.2.1"), expires: NOW, ..ticket(3, "ada") });
        assert_eq!(from(3, ip("192.0.2.2"), "s_3"), Redeemed::Unknown);
    });
}

#[test]
fn a_taken_session_id_keeps_the_ticket_good() {
    both(|vault| {
        begin(&vault, row("s_1", "bob"));
        issue(&vault, ticket(1, "ada"));
        let taken = ask(|done| vault.redeem(hash(1), None, NOW, session("s_1"), done));
        assert_eq!(taken, Err(Unavailable));
        assert_eq!(begin(&vault, row("s_1", "ada")), Begun::Revoked);
        assert_eq!(find(&vault, "s_1").unwrap().user, "bob");
        assert_eq!(redeem(&vault, 1, "s_2"), admitted(1, "ada"));
        // And the same ticket cannot be given to two.
        issue(&vault, ticket(2, "ada"));
        assert_eq!(ask(|done| vault.issue(ticket(2, "bob"), done)), Err(Unavailable));
        assert_eq!(redeem(&vault, 2, "s_3"), admitted(2, "ada"));
    });
}

#[test]
fn a_session_is_renewed_by_its_user_alone() {
    both(|vault| {
        let renew = |n, now, id: &str, user: &str| {
            ask(|done| vault.renew(hash(n), None, now, id, user, done)).unwrap()
        };
        issue(&vault, NewTicket { session_ttl: Some(1000), ..ticket(1, "ada") });
        redeem(&vault, 1, "s_1");
        begin(&vault, row("s_bob", "bob"));
        issue(&vault, ticket(2, "ada"));
        for (id, user, why) in [
            ("s_bob", "bob", "a ticket of somebody else"),
            ("s_bob", "ada", "a session of somebody else"),
            ("s_9", "ada", "no session"),
        ] {
            assert_eq!(renew(2, NOW, id, user), Redeemed::Unknown, "{why}");
        }
        assert_eq!(
            renew(2, NOW + 1000, "s_1", "ada"),
            Redeemed::Unknown,
            "the session has expired"
        );
        assert_eq!(vault.stats().tickets, 1, "it is still good");
        let Redeemed::Admitted { record, expires, .. } = renew(2, NOW + 999, "s_1", "ada") else {
            panic!()
        };
        assert_eq!((&*record, expires), (r#"{"n":2}"#, Some(NOW + 999 + DAY)));
        let found = find(&vault, "s_1").unwrap();
        assert_eq!((found.record, found.expires, found.started), (record, expires, NOW));
        assert_eq!(renew(2, NOW, "s_1", "ada"), Redeemed::Unknown, "used");
        // Not for another address, and then still for the right one.
        let home: IpAddr = "192.0.2.1".parse().unwrap();
        issue(&vault, NewTicket { ip: Some(home), ..ticket(3, "ada") });
        assert_eq!(renew(3, NOW, "s_1", "ada"), Redeemed::WrongAddress);
        let found = ask(|done| vault.renew(hash(3), Some(home), NOW, "s_1", "ada", done)).unwrap();
        assert_eq!(found, admitted(3, "ada"));
        // A session that was revoked is not revived.
        issue(&vault, ticket(4, "ada"));
        assert_eq!(ask(|done| vault.revoke_session("s_1", done)), Ok(true));
        assert_eq!(renew(4, NOW, "s_1", "ada"), Redeemed::Unknown);
        assert_eq!(find(&vault, "s_1"), None);
    });
}

#[test]
fn a_session_is_refreshed_by_another_token() {
    both(|vault| {
        let home: IpAddr = "192.0.2.1".parse().unwrap();
        begin(&vault, SessionRow { ip: Some(home), token: Some("t1".into()), ..row("s_1", "ada") });
        let later = SessionRow {
            started: NOW + 5,
            expires: Some(NOW + DAY),
            issued: Some(NOW + 5),
            token: Some("t2".into()),
            via: "webhook".into(),
            record: r#"{"n":2}"#.into(),
            ..row("s_1", "ada")
        };
        assert_eq!(begin(&vault, later.clone()), Begun::Yes);
        let expected = SessionRow { ip: Some(home), started: NOW, ..later.clone() };
        assert_eq!(find(&vault, "s_1"), Some(expected.clone()));
        let other = SessionRow { user: "bob".into(), ..later.clone() };
        assert_eq!(begin(&vault, other), Begun::Revoked);
        assert_eq!(find(&vault, "s_1"), Some(expected));
        assert_eq!(vault.stats().sessions, 1);
        // It is the second token's session now.
        ask(|done| vault.revoke_token("t1", NOW + DAY, done)).unwrap();
        assert_eq!(gone(&vault, &["s_1"]), [""; 0]);
        ask(|done| vault.revoke_token("t2", NOW + DAY, done)).unwrap();
        assert_eq!(gone(&vault, &["s_1"]), ["s_1"]);
        assert_eq!(begin(&vault, later), Begun::Revoked);
    });
}

#[test]
fn a_revoked_user_is_out() {
    both(|vault| {
        let issued = |id: &str, user: &str, issued| SessionRow { issued, ..row(id, user) };
        for n in 0..3 {
            issue(&vault, ticket(n, "ada"));
        }
        issue(&vault, ticket(9, "bob"));
        redeem(&vault, 0, "s_0");
        assert_eq!(begin(&vault, issued("s_1", "ada", Some(NOW - 5))), Begun::Yes);
        assert_eq!(begin(&vault, issued("s_2", "ada", None)), Begun::Yes);
        assert_eq!(begin(&vault, issued("s_bob", "bob", None)), Begun::Yes);
        assert_eq!(gone(&vault, &["s_0", "s_1", "s_2", "s_bob"]), [""; 0]);

        assert_eq!(ask(|done| vault.revoke_user("ada", NOW, done)), Ok(3));
        assert_eq!(gone(&vault, &["s_0", "s_bob", "s_1", "s_2"]), ["s_0", "s_1", "s_2"]);
        assert_eq!(redeem(&vault, 1, "s_3"), Redeemed::Unknown, "tickets, too");
        for late in [None, Some(NOW - 5), Some(NOW)] {
            assert_eq!(begin(&vault, issued("s_3", "ada", late)), Begun::Revoked, "{late:?}");
        }
        assert_eq!(begin(&vault, issued("s_3", "ada", Some(NOW + 1))), Begun::Yes);
        issue(&vault, ticket(4, "ada"));
        assert_eq!(redeem(&vault, 4, "s_4"), admitted(4, "ada"), "a ticket from afterwards");
        assert_eq!(redeem(&vault, 9, "s_5"), admitted(9, "bob"));
        let stats = vault.stats();
        assert_eq!((stats.tickets, stats.sessions), (0, 4));

        // A revocation from a clock that is behind does not take back a later one.
        assert_eq!(ask(|done| vault.revoke_user("ada", NOW - 1000, done)), Ok(2));
        assert_eq!(begin(&vault, issued("s_6", "ada", Some(NOW))), Begun::Revoked);
        // They are not swept: nobody knows how long a token is valid.
        vault.sweep(NOW + 1000 * DAY, 0);
        assert_eq!(begin(&vault, issued("s_6", "ada", Some(NOW))), Begun::Revoked);
        assert_eq!(ask(|done| vault.revoke_user("nobody", NOW, done)), Ok(0));
    });
}

#[test]
fn a_revoked_token_is_out() {
    both(|vault| {
        let with =
            |id: &str, token: &str| SessionRow { token: Some(token.into()), ..row(id, "ada") };
        assert_eq!(begin(&vault, with("s_1", "t1")), Begun::Yes);
        assert_eq!(begin(&vault, with("s_2", "t1")), Begun::Yes);
        assert_eq!(begin(&vault, with("s_3", "t2")), Begun::Yes);
        ask(|done| vault.revoke_token("t1", NOW + 1000, done)).unwrap();
        ask(|done| vault.revoke_token("t1", NOW + 500, done)).unwrap();
        assert_eq!(gone(&vault, &["s_1", "s_2", "s_3"]), ["s_1", "s_2"]);
        assert_eq!(begin(&vault, with("s_4", "t1")), Begun::Revoked);
        vault.sweep(NOW + 999, DAY);
        assert_eq!(begin(&vault, with("s_4", "t1")), Begun::Revoked);
        vault.sweep(NOW + 1000, DAY);
        assert_eq!(begin(&vault, with("s_4", "t1")), Begun::Yes, "it has expired by itself");
        assert_eq!(begin(&vault, SessionRow { token: None, ..row("s_5", "ada") }), Begun::Yes);
    });
}

#[test]
fn a_revoked_session_is_out() {
    both(|vault| {
        begin(&vault, row("s_1", "ada"));
        begin(&vault, row("s_2", "ada"));
        assert_eq!(ask(|done| vault.revoke_session("s_1", done)), Ok(true));
        assert_eq!(ask(|done| vault.revoke_session("s_1", done)), Ok(false));
        assert_eq!(gone(&vault, &["s_1", "s_2"]), ["s_1"]);
        vault.end("s_2");
        vault.end("s_9");
        assert_eq!(gone(&vault, &["s_1", "s_2"]), ["s_1", "s_2"]);
        assert_eq!(vault.stats().sessions, 0);
    });
}

#[test]
fn sessions_by_user_and_page() {
    both(|vault| {
        for n in 0..25 {
            begin(&vault, row(&format!("s_{n:02}"), ["ada", "bob"][n % 2]));
        }
        let page = |user, after, limit| {
            let rows = ask(|done| vault.sessions(user, after, limit, done)).unwrap();
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(page(None, None, 3), ["s_00", "s_01", "s_02"]);
        assert_eq!(page(None, Some("s_22"), 10), ["s_23", "s_24"]);
        assert_eq!(page(Some("bob"), Some("s_19"), 10), ["s_21", "s_23"]);
        assert_eq!(page(None, None, usize::MAX).len(), 25);
        assert_eq!(page(Some("' OR 1=1 --"), None, 10), [""; 0]);
    });
}

#[test]
fn users() {
    both(|vault| {
        let user = |id: &str, changed| UserRow {
            id: id.into(),
            password: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into(),
            record: r#"{"name":"Zoë '\"; DROP TABLE users"}"#.into(),
            created: NOW,
            changed,
            disabled: changed == 2,
        };
        let get = |id: &str| ask(|done| vault.user(id, done)).unwrap();
        assert_eq!(get("ada"), None);
        for id in ["bob", "ada", "eve", "ada"] {
            ask(|done| vault.put_user(user(id, 1), done)).unwrap();
        }
        assert_eq!(vault.stats().users, 3);
        assert_eq!(get("ada"), Some(user("ada", 1)));
        ask(|done| vault.put_user(user("ada", 2), done)).unwrap();
        assert!(get("ada").unwrap().disabled);
        assert!(!format!("{:?}", get("ada")).contains("argon"), "not in a log");

        let page = |after: Option<&str>, limit| {
            let rows = ask(|done| vault.users(after.map(str::to_owned), limit, done)).unwrap();
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(page(None, 2), ["ada", "bob"]);
        assert_eq!(page(Some("bob"), 2), ["eve"]);

        issue(&vault, ticket(1, "ada"));
        begin(&vault, row("s_1", "ada"));
        assert_eq!(ask(|done| vault.remove_user("ada", NOW, done)), Ok(true));
        assert_eq!(ask(|done| vault.remove_user("ada", NOW, done)), Ok(false));
        assert_eq!((get("ada"), vault.stats().users), (None, 2));
        assert_eq!(redeem(&vault, 1, "s_2"), Redeemed::Unknown);
        assert_eq!(gone(&vault, &["s_1"]), ["s_1"]);
        assert_eq!(begin(&vault, row("s_3", "ada")), Begun::Revoked);
    });
}

fn ban(room: &str, user: &str, until: Option<u64>) -> Ban {
    Ban { room: room.into(), user: user.into(), until: until.map(Timestamp), reason: "ü".into() }
}

fn member(room: &str, user: &str, rights: &str) -> Member {
    Member { room: room.into(), user: user.into(), rights: rights.into() }
}

#[test]
fn members_and_bans() {
    let dir = tempfile::tempdir().unwrap();
    let vault = file(dir.path());
    let set = |vault: &Vault, room: &str, user: &str, rights: Option<&str>| {
        ask(|done| vault.set_member(room, user, rights.map(str::to_owned), done)).unwrap();
    };
    assert_eq!((vault.members(), vault.bans()), (vec![], vec![]));
    set(&vault, "b", "ada", Some("join,send"));
    set(&vault, "a", "bob", Some("join"));
    set(&vault, "a", "ada", Some("join"));
    set(&vault, "a", "ada", Some("join,send"));
    set(&vault, "b", "ada", None);
    set(&vault, "c", "ada", None);
    let members = [member("a", "ada", "join,send"), member("a", "bob", "join")];
    assert_eq!(vault.members(), members, "as soon as it is answered");

    for one in [ban("", "eve", None), ban("a", "eve", Some(5)), ban("a", "eve", Some(NOW))] {
        ask(|done| vault.set_ban(one, done)).unwrap();
    }
    assert_eq!(vault.bans(), [ban("", "eve", None), ban("a", "eve", Some(NOW))]);
    assert_eq!(ask(|done| vault.lift_ban("", "eve", done)), Ok(true));
    assert_eq!(ask(|done| vault.lift_ban("", "eve", done)), Ok(false));
    assert_eq!(vault.bans(), [ban("a", "eve", Some(NOW))]);

    vault.close();
    let vault = file(dir.path());
    assert_eq!(vault.members(), members);
    assert_eq!(vault.bans(), [ban("a", "eve", Some(NOW))]);
}

#[test]
fn secrets_overlap_for_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let vault = file(dir.path());
    let rotate = |now| ask(|done| vault.rotate_secret(now, done)).unwrap();
    let first = vault.secrets();
    assert_eq!(first.len(), 1);
    assert_ne!(first[0], [0; 32]);
    rotate(NOW);
    let second = vault.secrets();
    assert_eq!((second.len(), second[1]), (2, first[0]));
    assert_ne!(second[0], first[0]);
    rotate(NOW + DAY - 1);
    let third = vault.secrets();
    assert_eq!(third[1..], second);
    // All the same after a restart, and for another process.
    assert_eq!(file(dir.path()).secrets(), third);
    vault.sweep(NOW + DAY - 1, DAY);
    assert_eq!(find(&vault, "s_1"), None); // behind the sweep
    assert_eq!(vault.secrets(), third);
    vault.sweep(NOW + DAY, DAY);
    assert_eq!(find(&vault, "s_1"), None);
    assert_eq!(vault.secrets(), third[..2], "the first was retired a day ago");
    vault.sweep(NOW + 3 * DAY, DAY);
    assert_eq!(find(&vault, "s_1"), None);
    assert_eq!(vault.secrets(), third[..1], "the one that signs stays");
    for _ in 0..40 {
        rotate(NOW + 3 * DAY);
    }
    assert_eq!(vault.secrets().len(), 17, "checking a token does not become expensive");
    let other = tempfile::tempdir().unwrap();
    assert_ne!(file(other.path()).secrets(), first);
    assert_ne!(memory().secrets(), memory().secrets());
}

#[test]
fn what_has_expired_is_swept() {
    both(|vault| {
        // More than one step removes.
        for n in 0..2500 {
            let mut one = ticket(n, "ada");
            one.expires = NOW + u64::from(n % 2);
            vault.issue(one, |issued| issued.unwrap());
            let mut one = row(&format!("s_{n}"), "ada");
            one.expires = (n % 3 > 0).then_some(NOW + u64::from(n % 3));
            vault.begin(one, |begun| assert_eq!(begun, Ok(Begun::Yes)));
        }
        vault.sweep(NOW, DAY);
        until(|| vault.stats().tickets == 1250);
        vault.sweep(NOW + 1, DAY);
        until(|| vault.stats().tickets == 0);
        until(|| vault.stats().sessions == 2500 - 833);
        vault.sweep(NOW + 1000 * DAY, DAY);
        until(|| vault.stats().sessions == 834);
        assert_eq!(gone(&vault, &["s_0", "s_1", "s_2"]), ["s_1", "s_2"]);
        until(|| vault.stats().queued == 0);
    });
}

#[test]
fn sessions_of_earlier_runs_are_swept_behind_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let vault = file(dir.path());
    for n in 0..3000 {
        vault.begin(row(&format!("s_{n:04}"), "ada"), |begun| assert_eq!(begun, Ok(Begun::Yes)));
    }
    vault.sweep(NOW, 0);
    assert_eq!(gone(&vault, &["s_0000", "s_2999"]), [""; 0], "of this run");
    vault.close();

    let vault = file(dir.path());
    assert_eq!(vault.stats().sessions, 3000);
    let found = find(&vault, "s_1234");
    assert_eq!(found, Some(row("s_1234", "ada")), "as it was before");
    begin(&vault, row("s_new", "ada"));
    issue(&vault, ticket(1, "ada"));
    redeem(&vault, 1, "s_ticket");
    vault.sweep(NOW, DAY);
    assert_eq!(gone(&vault, &["s_0000"]), [""; 0], "the window is not over");
    vault.sweep(NOW, 0);
    until(|| vault.stats().sessions == 3);
    let ids = ["s_0000", "s_1234", "s_2999", "s_new", "s_ticket"];
    assert_eq!(gone(&vault, &ids), ["s_0000", "s_2999"]);
    vault.close();

    // Found, but of an earlier run again.
    let vault = file(dir.path());
    vault.sweep(NOW, 0);
    until(|| vault.stats().sessions == 0);
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/by/it");
    let vault = file(&dir);
    let home: IpAddr = "2001:db8::1".parse().unwrap();
    let whole = SessionRow {
        id: "s_whole".into(),
        user: "ada".into(),
        ip: Some(home),
        started: 1,
        expires: Some(2),
        issued: Some(3),
        token: Some("jti".into()),
        via: "webhook".into(),
        record: "{\"name\":\"\\u0000 é 🦀\"}".into(),
    };
    begin(&vault, whole.clone());
    issue(&vault, ticket(1, "ada"));
    issue(&vault, ticket(2, "ada"));
    assert_eq!(redeem(&vault, 1, "s_1"), admitted(1, "ada"));
    ask(|done| vault.revoke_user("bob", NOW, done)).unwrap();
    ask(|done| vault.revoke_token("jti2", NOW, done)).unwrap();
    let secrets = vault.secrets();
    vault.close();
    assert!(!dir.join("access.db-wal").exists(), "all in one file");
    assert_eq!(ask(|done| vault.find("s_1", done)), Err(Unavailable), "closed");
    vault.end("s_1");
    vault.close();

    let vault = file(&dir);
    assert_eq!(vault.secrets(), secrets);
    assert_eq!(redeem(&vault, 1, "s_2"), Redeemed::Unknown, "used in the run before");
    assert_eq!(redeem(&vault, 2, "s_2"), admitted(2, "ada"));
    assert_eq!(find(&vault, "s_whole"), Some(whole));
    assert_eq!(find(&vault, "s_1").unwrap().record, r#"{"n":1}"#);
    assert_eq!(begin(&vault, row("s_3", "bob")), Begun::Revoked);
    let token = SessionRow { token: Some("jti2".into()), ..row("s_4", "ada") };
    assert_eq!(begin(&vault, token), Begun::Revoked);
}

#[test]
fn for_this_user_only_and_without_tickets() {
    use std::os::unix::fs::PermissionsExt;

    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let vault = file(&dir);
    issue(&vault, ticket(1, "ada"));
    assert_eq!(mode(&dir), 0o700);
    for name in ["access.db", "access.db-wal", "access.db-shm"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
    vault.close();
    // What others were let in to is closed again.
    fs::set_permissions(dir.join("access.db"), PermissionsExt::from_mode(0o644)).unwrap();
    let vault = file(&dir);
    issue(&vault, ticket(2, "ada"));
    for name in ["access.db", "access.db-wal", "access.db-shm"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
    // Nothing that identifies a ticket is shown.
    let shown = format!("{:?} {vault:?}", ticket(3, "ada"));
    assert!(shown.contains("ada") && !shown.contains("hash") && !shown.contains('['), "{shown}");
}

#[test]
fn other_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.db");
    let refused = || Vault::open(Some(dir.path()), SyncMode::Full).expect_err("not ours");
    fs::write(&path, vec![0x17; 10_000]).unwrap();
    assert!(matches!(refused(), OpenError::Corrupt { .. }));
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE their (own)").unwrap();
    assert!(matches!(refused(), OpenError::Foreign { .. }));
    fs::remove_file(&path).unwrap();
    file(dir.path()).close();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let error = refused();
    assert!(matches!(error, OpenError::Newer { found: 9, known: 1, .. }), "{error}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(refused(), OpenError::Database { .. }));
    let error = Vault::open(Some(&path.join("../no\0pe")), SyncMode::Full).unwrap_err();
    assert!(matches!(error, OpenError::Access { .. }), "{error}");
}

#[test]
fn opened_by_many_at_once() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let start = Barrier::new(8);
        let secrets: HashSet<_> = thread::scope(|scope| {
            let open = || {
                start.wait();
                let vault = file(dir.path());
                issue(&vault, ticket(vault.stats().commits as u32 + rand(), "ada"));
                vault.secrets()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert_eq!(secrets.len(), 1, "they agree on one secret");
        assert_eq!(file(dir.path()).stats().tickets, 8);
    }
}

/// Another number each time.
fn rand() -> u32 {
    static NEXT: AtomicUsize = AtomicUsize::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed) as u32
}

#[test]
fn another_vault_commits() {
    let dir = tempfile::tempdir().unwrap();
    let (server, tool) = (file(dir.path()), file(dir.path()));
    let (tell, told) = mpsc::channel();
    let seen = server.clone();
    server.on_change(move || tell.send((seen.bans(), seen.members(), seen.secrets())).unwrap());
    begin(&server, row("s_1", "ada"));
    issue(&server, ticket(1, "ada"));

    let started = Instant::now();
    ask(|done| tool.revoke_user("ada", NOW, done)).unwrap();
    told.recv().unwrap();
    println!("a change was seen after {:?}", started.elapsed());
    assert_eq!(gone(&server, &["s_1"]), ["s_1"]);
    let stats = server.stats();
    assert_eq!((stats.tickets, stats.sessions), (0, 0));

    ask(|done| tool.set_ban(ban("", "eve", None), done)).unwrap();
    ask(|done| tool.set_member("a", "bob", Some("join".into()), done)).unwrap();
    ask(|done| tool.rotate_secret(NOW, done)).unwrap();
    let expected = (tool.bans(), tool.members(), tool.secrets());
    assert_eq!((expected.0.len(), expected.1.len(), expected.2.len()), (1, 1, 2));
    while told.recv().unwrap() != expected {}
    // Its own changes are none of another.
    begin(&server, row("s_2", "bob"));
    ask(|done| server.lift_ban("", "eve", done)).unwrap();
    thread::sleep(Duration::from_millis(600));
    assert!(told.try_recv().is_err());
    server.close();
    assert!(told.recv().is_err(), "it lets go of the receiver");
}

#[test]
fn an_answer_that_panics_or_drops_the_vault() {
    let vault = memory();
    vault.find("s_1", |_| panic!("as a test"));
    assert_eq!(find(&vault, "s_1"), None, "it goes on");
    // The last one lets go on the vault's own thread.
    let (tell, told) = mpsc::channel();
    let last = vault.clone();
    vault.user("ada", move |user| {
        assert_eq!(user, Ok(None));
        drop(last);
        tell.send(()).unwrap();
    });
    drop(vault);
    told.recv().unwrap();
}

#[test]
fn too_much_waits() {
    let vault = memory();
    begin(&vault, row("s_1", "ada"));
    let (go, wait) = mpsc::channel::<()>();
    let (busy, is_busy) = mpsc::channel();
    vault.user("ada", move |_| {
        busy.send(()).unwrap();
        let _ = wait.recv();
    });
    is_busy.recv().unwrap();
    let (good, bad) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = || {
        let (good, bad) = (good.clone(), bad.clone());
        move |answer: Answer<Option<UserRow>>| {
            let count = if answer.is_ok() { good } else { bad };
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    for _ in 0..100_000 {
        vault.user("ada", count());
    }
    assert_eq!((vault.stats().queued, bad.load(Ordering::Relaxed)), (100_000, 0));
    for refused in 1..=10 {
        vault.user("ada", count());
        assert_eq!(bad.load(Ordering::Relaxed), refused, "at once");
    }
    vault.end("s_1");
    assert_eq!(vault.stats().queued, 100_001, "what must be done is taken in");
    go.send(()).unwrap();
    until(|| vault.stats().queued == 0);
    assert_eq!((good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed)), (100_000, 10));
    assert_eq!(gone(&vault, &["s_1"]), ["s_1"]);
}

#[test]
fn what_waits_is_done_before_it_closes() {
    let dir = tempfile::tempdir().unwrap();
    let vault = file(dir.path());
    let good = Arc::new(AtomicUsize::new(0));
    for n in 0..10_000 {
        let good = good.clone();
        vault.issue(ticket(n, "ada"), move |issued| {
            good.fetch_add(usize::from(issued.is_ok()), Ordering::Relaxed);
        });
    }
    vault.close();
    assert_eq!(good.load(Ordering::Relaxed), 10_000);
    assert_eq!(file(dir.path()).stats().tickets, 10_000);
}

/// This test again, as a process of its own that runs only [`child`].
fn start(mode: &str, dir: &Path) -> Child {
    // The shell makes it outlive a file that grows too large.
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env("CHILD", mode)
        .env("CHILD_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "started by the others"]
fn child() {
    let dir = env::var("CHILD_DIR").unwrap();
    let dir = Path::new(&dir);
    match env::var("CHILD").unwrap().as_str() {
        "redeem" => redeem_on(dir),
        "revoke" => {
            let vault = file(dir);
            assert_eq!(ask(|done| vault.revoke_user("ada", NOW, done)), Ok(1));
            ask(|done| vault.set_ban(ban("", "ada", None), done)).unwrap();
            vault.close();
        }
        "small" => run_out_of_space(dir),
        other => panic!("{other}"),
    }
}

#[test]
fn another_process_commits() {
    let dir = tempfile::tempdir().unwrap();
    let server = file(dir.path());
    begin(&server, row("s_1", "ada"));
    let (tell, told) = mpsc::channel();
    server.on_change(move || {
        let _ = tell.send(());
    });
    let output = start("revoke", dir.path()).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    told.recv().unwrap();
    assert_eq!(gone(&server, &["s_1"]), ["s_1"]);
    until(|| server.bans() == [ban("", "ada", None)]);
    assert_eq!(begin(&server, row("s_2", "ada")), Begun::Revoked);
}

/// Issues and redeems until the process is killed, and tells each answer.
fn redeem_on(dir: &Path) {
    let vault = file(dir);
    let tell = |line: String| std::io::stdout().write_all(line.as_bytes()).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let vault = &vault;
            scope.spawn(move || {
                for n in (thread..).step_by(4) {
                    issue(vault, ticket(n, "ada"));
                    tell(format!("> issued {n}\n"));
                    // Every third one stays good.
                    if n % 3 != 0 {
                        assert_eq!(redeem(vault, n, &format!("s_{n}")), admitted(n, "ada"));
                        tell(format!("> redeemed {n}\n"));
                    }
                }
            });
        }
    });
}

#[test]
fn a_redeemed_ticket_stays_so_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    for lines in [1, 20, 500] {
        let dir = dir.path().join(lines.to_string());
        let mut child = start("redeem", &dir);
        let mut told: HashMap<u32, bool> = HashMap::new();
        let mut count = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(line) = line.strip_prefix("> ") else { continue };
            let (what, n) = line.split_once(' ').unwrap();
            let Ok(n) = n.parse() else { continue };
            *told.entry(n).or_default() |= what == "redeemed";
            count += 1;
            if count == lines {
                child.kill().unwrap(); // SIGKILL; what it told until then is still in the pipe
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(count >= lines);
        let vault = file(&dir);
        let (mut used, mut good) = (0, 0);
        for (n, redeemed) in told {
            let before = find(&vault, &format!("s_{n}"));
            let again = redeem(&vault, n, "s_again");
            vault.end("s_again");
            assert_eq!(again == Redeemed::Unknown, before.is_some(), "{n}: one of both");
            if redeemed {
                assert_eq!(again, Redeemed::Unknown, "ticket {n} is good again");
                used += 1;
            } else if n % 3 == 0 {
                assert_eq!(again, admitted(n, "ada"), "ticket {n} is lost");
                good += 1;
            }
        }
        assert!(lines < 20 || used > 0 && good > 0, "{used} {good}");
    }
}

#[test]
fn no_space_left_and_then_again() {
    let dir = tempfile::tempdir().unwrap();
    let child = start("small", dir.path()).wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}");
    let stored = output.split("stored ").nth(1).unwrap().split(' ').next().unwrap();
    let vault = file(dir.path());
    assert_eq!(vault.stats().tickets, stored.parse::<u64>().unwrap());
    assert_eq!(gone(&vault, &["s_over", "s_kept"]), ["s_over"]);
}

/// Files must not become larger than 1 MiB; then they may again.
fn run_out_of_space(dir: &Path) {
    let vault = file(dir);
    begin(&vault, row("s_over", "ada"));
    begin(&vault, row("s_kept", "ada"));
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 20), ..before }).unwrap();
    let large = |n| NewTicket { record: "x".repeat(20_000), ..ticket(n, "ada") };
    let (mut stored, mut refused) = (HashSet::new(), 0);
    for n in 0.. {
        match ask(|done| vault.issue(large(n), done)) {
            Ok(()) => _ = stored.insert(n),
            Err(Unavailable) => refused += 1,
        }
        if refused == 5 {
            break;
        }
    }
    assert!(stored.len() > 10, "{}", stored.len());
    assert!(vault.stats().trouble.is_some());
    assert_eq!(vault.stats().tickets, stored.len() as u64, "those that were refused do not count");
    // What only reads goes on; what must be done waits.
    assert_eq!(gone(&vault, &["s_over", "s_9"]), ["s_9"]);
    assert_eq!(ask(|done| vault.users(None, 10, done)), Ok(vec![]));
    setrlimit(Resource::Fsize, Rlimit { current: Some(0), ..before }).unwrap();
    let failed = ask(|done| vault.redeem(hash(0), None, NOW, session("s_1"), done));
    assert_eq!(failed, Err(Unavailable));
    vault.end("s_over");
    setrlimit(Resource::Fsize, before).unwrap();
    until(|| vault.stats().queued == 0);
    assert_eq!(gone(&vault, &["s_over", "s_kept", "s_1"]), ["s_over", "s_1"]);
    for n in 100_000..100_200 {
        issue(&vault, large(n));
        stored.insert(n);
    }
    assert_eq!(vault.stats().trouble, None, "by itself");
    let again = ask(|done| vault.redeem(hash(0), None, NOW, session("s_1"), done)).unwrap();
    assert!(matches!(again, Redeemed::Admitted { .. }), "what was refused has not happened");
    println!("stored {} ", stored.len() - 1);
    // Not in good order: what was answered is there regardless.
    std::process::exit(0);
}

#[test]
fn many_in_flight_share_the_disk() {
    const TICKETS: u32 = 10_000;
    const IN_FLIGHT: u32 = 100;
    for sync in [SyncMode::Full, SyncMode::Normal] {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(Some(dir.path()), sync).unwrap();
        for n in 0..TICKETS {
            vault.issue(ticket(n, &format!("u_{n}")), |issued| issued.unwrap());
        }
        until(|| vault.stats().queued == 0);
        let commits = vault.stats().commits;
        let started = Instant::now();
        let (answer, answered) = mpsc::channel();
        let ask = |n: u32| {
            let answer = answer.clone();
            vault.redeem(hash(n), None, NOW, session(&format!("s_{n}")), move |found| {
                assert!(matches!(found, Ok(Redeemed::Admitted { .. })));
                let _ = answer.send(());
            });
        };
        (0..IN_FLIGHT).for_each(ask);
        for n in 0..TICKETS {
            answered.recv().unwrap();
            if n + IN_FLIGHT < TICKETS {
                ask(n + IN_FLIGHT);
            }
        }
        let took = started.elapsed();
        let commits = vault.stats().commits - commits;
        let rate = f64::from(TICKETS) / took.as_secs_f64();
        println!("{sync:?}: {rate:.0} tickets redeemed in a second, {commits} transactions");
        assert!(commits < u64::from(TICKETS) / 2, "{commits}: they are committed together");
        assert_eq!(vault.stats().sessions, u64::from(TICKETS));
    }
}
