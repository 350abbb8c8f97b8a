use std::net::IpAddr;
use std::sync::Barrier;
use std::thread;

use throng_backend::{Begun, NewTicket, Redeemed, SessionRow, Vault};
use throng_hub::Unavailable;

use super::rig::*;

#[test]
fn a_ticket_is_good_once() {
    each(|w| {
        let vault = &w.vault;
        assert_eq!(w.redeem(1, "s_0"), Redeemed::Unknown, "there never was one");
        issue(vault, w.ticket(1, "ada"));
        issue(vault, w.ticket(2, "bob"));
        w.expect(2, 0);
        assert_eq!(w.redeem(1, "s_1"), w.admitted(1, "ada"));
        assert_eq!(w.redeem(1, "s_2"), Redeemed::Unknown);
        w.expect(1, 1);
        until(|| vault.stats().queued == 0);
        let found = find(vault, "s_1").unwrap();
        let expected = SessionRow {
            expires: Some(w.start + DAY),
            issued: None,
            via: "ticket".into(),
            record: r#"{"n":1}"#.into(),
            ..w.row("s_1", "ada")
        };
        assert_eq!(found, expected);
        assert_eq!(find(vault, "s_2"), None);
    });
}

#[test]
fn of_a_thousand_parallel_replays_one_wins() {
    each(|w| {
        let vaults = [Some(w.vault.clone()), w.another()];
        let vaults: Vec<_> = vaults.into_iter().flatten().collect();
        issue(&w.vault, w.ticket(1, "ada"));
        let start = Barrier::new(1000);
        let results = thread::scope(|scope| {
            let attempt = |n: usize| {
                let (vault, start) = (&vaults[n % vaults.len()], &start);
                move || {
                    start.wait();
                    let session = w.session(&format!("s_{n}"));
                    ask(|done| vault.redeem(hash(1), None, w.start, session, done)).unwrap()
                }
            };
            let spawn = |n| {
                let small = thread::Builder::new().stack_size(128 << 10);
                small.spawn_scoped(scope, attempt(n)).unwrap()
            };
            let threads: Vec<_> = (0..1000).map(spawn).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        });
        let winners: Vec<_> =
            results.iter().filter(|it| **it != Redeemed::Unknown).cloned().collect();
        assert_eq!(winners, [w.admitted(1, "ada")]);
        let ids: Vec<_> = (0..1000).map(|n| format!("s_{n}").into()).collect();
        assert_eq!(ask(|done| w.vault.check(ids, done)).unwrap().len(), 999);
        if vaults.len() == 1 || w.is_shared() {
            w.expect(0, 1);
        }
    });
}

#[test]
fn replays_through_two_vaults() {
    each(|w| {
        let Some(other) = w.another() else { return };
        for n in 0..50 {
            issue(&w.vault, w.ticket(n, "ada"));
            let start = Barrier::new(2);
            let attempt = |vault: &Vault, id: String| {
                start.wait();
                let session = w.session(&id);
                ask(|done| vault.redeem(hash(n), None, w.start, session, done)).unwrap()
            };
            let wins = thread::scope(|scope| {
                let other = scope.spawn(|| attempt(&other, format!("s_{n}_b")));
                [attempt(&w.vault, format!("s_{n}_a")), other.join().unwrap()]
                    .iter()
                    .filter(|it| **it == w.admitted(n, "ada"))
                    .count()
            });
            assert_eq!(wins, 1);
        }
    });
}

#[test]
fn a_ticket_expires() {
    each(|w| {
        let vault = &w.vault;
        let at = |n, now| ask(|done| vault.redeem(hash(n), None, now, w.session("s_1"), done));
        issue(vault, NewTicket { expires: w.now() + 100, ..w.ticket(1, "ada") });
        issue(vault, NewTicket { expires: w.now(), ..w.ticket(2, "ada") });
        assert_eq!(at(2, w.now()), Ok(Redeemed::Unknown), "it never was good");
        w.pass(100);
        assert_eq!(at(1, w.now()), Ok(Redeemed::Unknown));
        // No end of the session, and times that are too large to be stored.
        let endless = NewTicket { session_ttl: None, expires: u64::MAX, ..w.ticket(3, "ada") };
        issue(vault, endless);
        let longest = NewTicket { session_ttl: Some(10_000_000 * DAY), ..w.ticket(4, "ada") };
        issue(vault, longest);
        assert!(matches!(at(3, w.now()), Ok(Redeemed::Admitted { expires: None, .. })));
        assert_eq!(find(vault, "s_1").unwrap().expires, None);
        let session = w.session("s_2");
        let found = ask(|done| vault.redeem(hash(4), None, w.start, session, done)).unwrap();
        let Redeemed::Admitted { expires, .. } = found else { panic!() };
        assert_eq!(expires, Some(w.start + 10_000_000 * DAY));
        assert_eq!(find(vault, "s_2").unwrap().expires, expires);
    });
}

#[test]
fn a_wrong_address_keeps_the_ticket_good() {
    each(|w| {
        let vault = &w.vault;
        let ip = |text: &str| -> Option<IpAddr> { Some(text.parse().unwrap()) };
        let from = |n, ip, id| {
            ask(|done| vault.redeem(hash(n), ip, w.start, w.session(id), done)).unwrap()
        };
        for (n, bound) in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"].iter().enumerate() {
            issue(vault, NewTicket { ip: ip(bound), ..w.ticket(n as u32, "ada") });
        }
        for wrong in [None, ip("192.0.2.2"), ip("2001:db8::1"), ip("::192.0.2.1")] {
            assert_eq!(from(0, wrong, "s_0"), Redeemed::WrongAddress, "{wrong:?}");
        }
        w.expect(3, 0);
        // The same address, written as an IPv6 socket sees it.
        assert_eq!(from(0, ip("::ffff:192.0.2.1"), "s_0"), w.admitted(0, "ada"));
        assert_eq!(from(0, ip("192.0.2.1"), "s_0"), Redeemed::Unknown, "used");
        assert_eq!(from(1, ip("2001:db8:0::0:1"), "s_1"), w.admitted(1, "ada"));
        assert_eq!(from(2, ip("192.0.2.1"), "s_2"), w.admitted(2, "ada"));
        assert_eq!(find(vault, "s_1").unwrap().ip, ip("2001:db8::1"));
        // One that has expired does not tell for whom it was.
        issue(vault, NewTicket { ip: ip("192.0.2.1"), expires: w.now(), ..w.ticket(3, "ada") });
        assert_eq!(from(3, ip("192.0.2.2"), "s_3"), Redeemed::Unknown);
    });
}

#[test]
fn a_taken_session_id_keeps_the_ticket_good() {
    each(|w| {
        let vault = &w.vault;
        begin(vault, w.row("s_1", "bob"));
        issue(vault, w.ticket(1, "ada"));
        let taken = ask(|done| vault.redeem(hash(1), None, w.start, w.session("s_1"), done));
        assert_eq!(taken, Err(Unavailable));
        assert_eq!(begin(vault, w.row("s_1", "ada")), Begun::Revoked);
        assert_eq!(find(vault, "s_1").unwrap().user, "bob");
        assert_eq!(w.redeem(1, "s_2"), w.admitted(1, "ada"));
        // And the same ticket cannot be given to two.
        issue(vault, w.ticket(2, "ada"));
        assert_eq!(ask(|done| vault.issue(w.ticket(2, "bob"), done)), Err(Unavailable));
        assert_eq!(w.redeem(2, "s_3"), w.admitted(2, "ada"));
    });
}
