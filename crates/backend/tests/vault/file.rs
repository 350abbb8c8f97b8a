use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use rusqlite::Connection;
use throng_backend::{Begun, OpenError, Redeemed, SessionRow, SyncMode, Vault};
use throng_hub::Unavailable;

use super::rig::*;

/// In memory and in a file, where the time is what is said.
fn both(test: impl Fn(Vault)) {
    test(memory());
    let dir = tempfile::tempdir().unwrap();
    test(file(dir.path()));
}

#[test]
fn a_ticket_expires_to_the_millisecond() {
    both(|vault| {
        let at = |n, now| ask(|done| vault.redeem(hash(n), None, now, session("s_1"), done));
        issue(&vault, ticket(1, "ada"));
        assert_eq!(at(1, NOW + 30_000), Ok(Redeemed::Unknown));
        assert_eq!(at(1, u64::MAX), Ok(Redeemed::Unknown));
        assert!(matches!(at(1, NOW + 29_999), Ok(Redeemed::Admitted { .. })));
    });
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
    assert_eq!(redeem(&vault, 1, "s_1"), admitted(1, "ada", NOW));
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
    assert_eq!(redeem(&vault, 2, "s_2"), admitted(2, "ada", NOW));
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
