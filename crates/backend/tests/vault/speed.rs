//! How many can come in. Nothing here fails for being slow.

use std::sync::mpsc;
use std::time::Instant;

use throng_backend::{NewTicket, Redeemed, SyncMode, Vault};

use super::rig::*;

const TICKETS: u32 = 10_000;
const IN_FLIGHT: u32 = 100;

#[test]
fn many_in_flight_share_the_disk() {
    for sync in [SyncMode::Full, SyncMode::Normal] {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(Some(dir.path()), sync).unwrap();
        let before = vault.stats().commits;
        measure(&format!("{sync:?}"), &[&vault], NOW);
        let commits = vault.stats().commits - before;
        assert!(commits < u64::from(TICKETS), "{commits}: they are committed together");
        assert_eq!(vault.stats().sessions, u64::from(TICKETS));
    }
}

#[test]
fn many_in_flight_through_redis() {
    let server = Server::start();
    server.command(&["CONFIG", "SET", "appendfsync", "everysec"]);
    let (one, two) = (server.vault(), server.vault());
    server.command(&["CONFIG", "RESETSTAT"]);
    measure("Redis, two nodes", &[&one, &two], clock());
    println!(
        "{}",
        server
            .command(&["INFO", "commandstats"])
            .lines()
            .find(|it| it.contains("evalsha"))
            .unwrap()
    );
    until(|| {
        one.sweep(0, DAY);
        one.stats().sessions == u64::from(TICKETS)
    });
}

/// Redeems tickets, with some in flight at any time.
fn measure(what: &str, vaults: &[&Vault], now: u64) {
    for n in 0..TICKETS {
        let one = NewTicket { expires: now + 600_000, ..ticket(n, &format!("u_{n}")) };
        vaults[0].issue(one, |issued| issued.unwrap());
    }
    until(|| vaults[0].stats().queued == 0);
    let started = Instant::now();
    let (answer, answered) = mpsc::channel();
    let ask = |n: u32| {
        let answer = answer.clone();
        let vault = vaults[n as usize % vaults.len()];
        vault.redeem(hash(n), None, now, session(&format!("s_{n}")), move |found| {
            assert!(matches!(found, Ok(Redeemed::Admitted { .. })));
            let _ = answer.send(());
        });
    };
    (0..IN_FLIGHT).for_each(ask);
    for n in 0..TICKETS {
        answered.recv_timeout(LONG).unwrap();
        if n + IN_FLIGHT < TICKETS {
            ask(n + IN_FLIGHT);
        }
    }
    let rate = f64::from(TICKETS) / started.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} tickets redeemed in a second");
}
