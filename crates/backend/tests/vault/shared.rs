//! Several vaults over one Redis, as many nodes have them.

use std::sync::{Barrier, mpsc};
use std::thread;

use throng_backend::{Begun, NewTicket, Redeemed, SessionRow, Vault};
use throng_hub::Unavailable;

use super::rig::*;

/// A session as of now.
fn fresh(id: &str, user: &str) -> SessionRow {
    SessionRow { started: clock(), issued: Some(clock()), ..row(id, user) }
}

fn good(n: u32, user: &str) -> NewTicket {
    NewTicket { expires: clock() + 600_000, ..ticket(n, user) }
}

fn number(server: &Server, words: &[&str]) -> i64 {
    server.command(words).parse().unwrap()
}

#[test]
fn everybody_sees_the_same() {
    let server = Server::start();
    let (one, two) = (server.vault(), server.vault());
    issue(&one, good(1, "ada"));
    assert_eq!(redeem(&two, 1, "s_1"), admitted(1, "ada", NOW));
    assert_eq!(find(&one, "s_1").unwrap().user, "ada");
    assert_eq!(begin(&one, fresh("s_2", "bob")), Begun::Yes);
    assert_eq!(gone(&two, &["s_1", "s_2", "s_3"]), ["s_3"]);
    assert_eq!(begin(&two, fresh("s_2", "eve")), Begun::Revoked, "of somebody else");
    // Everything is in one place, and every session has an end.
    let keys = server.command(&["KEYS", "*"]);
    let others = keys.lines().filter(|key| !key.starts_with("throng:"));
    let (ours, strange): (Vec<_>, Vec<_>) =
        others.partition(|key| key.starts_with("test:{#vault}:"));
    assert!(ours.len() > 5 && strange.is_empty(), "{keys}");
    let left = number(&server, &["PTTL", "test:{#vault}:s:s_2"]);
    assert!((1..=DAY as i64).contains(&left), "{left}");
}

#[test]
fn they_agree_on_one_secret() {
    for _ in 0..3 {
        let server = Server::start();
        let start = Barrier::new(4);
        let open = || {
            start.wait();
            server.vault()
        };
        let vaults: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let first = vaults[0].secrets();
        assert_eq!(first.len(), 1);
        assert!(vaults.iter().all(|vault| vault.secrets() == first));
    }
}

#[test]
fn a_late_refresh_revives_nothing() {
    let server = Server::start();
    let (node, other) = (server.vault(), server.vault());
    let with = |id: &str, token: &str| SessionRow { token: Some(token.into()), ..fresh(id, "ada") };
    begin(&node, with("s_1", "t1"));
    begin(&node, with("s_2", "t2"));
    // While a node looks at another token of the session, the session is revoked elsewhere.
    assert_eq!(ask(|done| other.revoke_session("s_1", done)), Ok(true));
    ask(|done| other.revoke_token("t2", clock() + DAY, done)).unwrap();
    for id in ["s_1", "s_2"] {
        assert_eq!(begin(&node, with(id, "t3")), Begun::Revoked, "{id}");
        assert_eq!(find(&node, id), None);
        let left = number(&server, &["PTTL", &format!("test:{{#vault}}:x:{id}")]);
        assert!((1..=600_000).contains(&left), "{left}: not remembered for ever");
    }
    // The user may come again.
    assert_eq!(begin(&node, with("s_3", "t3")), Begun::Yes);
}

#[test]
fn a_session_that_has_moved_is_not_ended_where_it_was() {
    let server = Server::start();
    let (before, after) = (server.vault(), server.vault());
    begin(&before, fresh("s_1", "ada"));
    begin(&before, fresh("s_2", "ada"));
    assert!(find(&after, "s_1").is_some());
    before.end("s_1");
    before.end("s_2");
    until(|| before.stats().queued == 0);
    assert_eq!(gone(&after, &["s_1", "s_2"]), ["s_2"]);
    after.end("s_1");
    until(|| gone(&before, &["s_1"]) == ["s_1"]);
}

#[test]
fn revoked_up_to_the_clock_of_redis() {
    let server = Server::start();
    let vault = server.vault();
    let issued = |id: &str, issued| SessionRow { issued: Some(issued), ..fresh(id, "ada") };
    // Of a node whose clock is behind, and of one whose clock is wrong.
    for told in [0, clock() + 1000 * DAY] {
        let before = clock() - 1;
        ask(|done| vault.revoke_user("ada", told, done)).unwrap();
        assert_eq!(begin(&vault, issued("s_1", before)), Begun::Revoked);
        assert_eq!(begin(&vault, issued("s_1", clock() + 120_000)), Begun::Yes);
        vault.end("s_1");
    }
}

#[test]
fn what_has_expired_vanishes_by_itself() {
    let server = Server::start();
    let vault = server.vault();
    let soon = clock() + 300;
    for n in 0..300 {
        let session = SessionRow {
            expires: Some(soon),
            token: Some("t1".into()),
            ..fresh(&format!("s_{n}"), "ada")
        };
        vault.begin(session, |begun| assert_eq!(begun, Ok(Begun::Yes)));
        vault.issue(NewTicket { expires: soon, ..ticket(n, "ada") }, |issued| issued.unwrap());
    }
    ask(|done| vault.revoke_token("t2", soon, done)).unwrap();
    begin(&vault, fresh("s_kept", "ada"));
    // Nobody asks for anything.
    let keys = || {
        let keys = server.command(&["KEYS", "test:{#vault}:*"]);
        let mut keys: Vec<_> = keys.lines().map(str::to_owned).collect();
        keys.retain(|key| !["secrets", "versions"].iter().any(|it| key.ends_with(it)));
        keys.sort();
        keys
    };
    let left = ["due", "s:s_kept", "sessions", "u:ada"].map(|key| format!("test:{{#vault}}:{key}"));
    until(|| keys() == left);
    for list in ["sessions", "due", "u:ada"] {
        until(|| number(&server, &["ZCARD", &format!("test:{{#vault}}:{list}")]) == 1);
    }
    until(|| (vault.stats().tickets, vault.stats().sessions) == (0, 1));
}

#[test]
fn a_session_lives_as_long_as_somebody_asks_for_it() {
    let server = Server::start();
    let vault = server.vault();
    let key = |id| format!("test:{{#vault}}:s:{id}");
    let left = |id| number(&server, &["PTTL", &key(id)]);
    begin(&vault, fresh("s_1", "ada"));
    begin(&vault, SessionRow { expires: Some(clock() + DAY / 4), ..fresh("s_2", "ada") });
    begin(&vault, SessionRow { expires: Some(clock() + 9 * DAY), ..fresh("s_3", "ada") });
    for asked in [true, false] {
        for id in ["s_1", "s_2", "s_3"] {
            server.command(&["PEXPIRE", &key(id), "60000"]);
        }
        match asked {
            true => assert_eq!(gone(&vault, &["s_1", "s_2", "s_3"]), [""; 0]),
            false => ["s_1", "s_2", "s_3"].iter().for_each(|id| _ = find(&vault, id)),
        }
        for id in ["s_1", "s_3"] {
            assert!((DAY as i64 - 60_000..=DAY as i64).contains(&left(id)), "{id} {}", left(id));
        }
        assert!(left("s_2") <= DAY as i64 / 4, "not beyond its end");
        assert!(left("s_2") > DAY as i64 / 8);
    }
    assert_eq!(find(&vault, "s_3").unwrap().expires.map(|it| it > clock() + 8 * DAY), Some(true));
}

#[test]
fn pages_of_sessions() {
    let server = Server::start();
    let vault = server.vault();
    for n in 0..2500 {
        let session = fresh(&format!("s_{n:04}"), ["ada", "bob"][n % 2]);
        vault.begin(session, |begun| assert_eq!(begun, Ok(Begun::Yes)));
    }
    let page = |user, after, limit| {
        let rows = ask(|done| vault.sessions(user, after, limit, done)).unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, None, usize::MAX).len(), 2500);
    assert_eq!(page(None, None, 2001).len(), 2001);
    assert_eq!(page(Some("ada"), None, 1250).len(), 1250);
    // Some are gone by themselves: a page is as long as it was asked for.
    for n in (0..2000).step_by(2) {
        vault.begin(
            SessionRow { expires: Some(1), ..fresh(&format!("s_{n:04}"), "ada") },
            |begun| assert_eq!(begun, Ok(Begun::Yes)),
        );
    }
    until(|| gone(&vault, &["s_1998"]) == ["s_1998"]);
    let rest = page(None, Some("s_0001"), 1000);
    assert_eq!((rest.len(), &*rest[0], &*rest[999]), (1000, "s_0003", "s_2000"));
    assert_eq!(ask(|done| vault.revoke_user("ada", clock(), done)), Ok(250));
    assert_eq!(page(Some("ada"), None, 10), [""; 0]);
    assert_eq!(page(None, None, usize::MAX).len(), 1250);
}

#[test]
fn a_secret_is_known_for_a_day() {
    let server = Server::start();
    let (one, two) = (server.vault(), server.vault());
    let first = one.secrets()[0];
    ask(|done| one.rotate_secret(0, done)).unwrap();
    let secrets = one.secrets();
    until(|| two.secrets() == secrets);
    one.sweep(clock() + 2 * DAY, DAY);
    assert_eq!(find(&one, "s_1"), None); // behind the sweep
    assert_eq!(one.secrets(), secrets, "what this node's clock says does not matter");
    // It was a day ago.
    let old: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
    let old = format!("{old} {}", clock() - DAY);
    assert_eq!(server.command(&["LSET", "test:{#vault}:secrets", "1", &old]), "OK");
    one.sweep(0, DAY);
    until(|| one.secrets() == secrets[..1] && two.secrets() == secrets[..1]);
}

#[test]
fn what_was_missed_is_read_again() {
    let server = Server::start();
    let (one, two) = (server.vault(), server.vault());
    let (tell, told) = mpsc::channel();
    one.on_change(move || {
        let _ = tell.send(());
    });
    begin(&one, fresh("s_1", "ada"));
    for n in 0..20 {
        let room = format!("r{n}");
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        ask(|done| two.set_ban(ban(&room, "eve", None), done)).unwrap();
        ask(|done| one.set_member(&room, "bob", Some("join".into()), done)).unwrap();
    }
    until(|| one.bans() == two.bans() && one.members() == two.members());
    assert_eq!((one.bans().len(), one.members().len()), (20, 20));
    told.recv_timeout(LONG).unwrap();
    // Revocations, too.
    thread::sleep(std::time::Duration::from_millis(600));
    while told.try_recv().is_ok() {}
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    ask(|done| two.revoke_user("ada", clock(), done)).unwrap();
    told.recv_timeout(LONG).unwrap();
    assert_eq!(gone(&one, &["s_1"]), ["s_1"]);
}

#[test]
fn changes_from_both_sides_at_once() {
    let server = Server::start();
    let vaults = [server.vault(), server.vault()];
    thread::scope(|scope| {
        for (me, vault) in vaults.iter().enumerate() {
            scope.spawn(move || {
                for n in 0..300 {
                    let room = format!("r{}", n % 7);
                    let rights = (n % 3 > 0).then(|| format!("{me},{n}"));
                    ask(|done| vault.set_member(&room, "ada", rights, done)).unwrap();
                    ask(|done| vault.set_ban(ban(&room, "eve", Some(n)), done)).unwrap();
                    if n % 50 == 0 {
                        ask(|done| vault.rotate_secret(0, done)).unwrap();
                    }
                }
            });
        }
    });
    let all = |vault: &Vault| (vault.members(), vault.bans(), vault.secrets());
    until(|| all(&vaults[0]) == all(&vaults[1]));
    assert_eq!(all(&server.vault()), all(&vaults[0]), "as it is stored");
    assert_eq!(vaults[0].bans().len(), 7);
    assert_eq!(vaults[0].secrets().len(), 13);
}

#[test]
fn everything_was_removed() {
    let server = Server::start();
    let vaults = [server.vault(), server.vault()];
    ask(|done| vaults[0].set_ban(ban("", "eve", None), done)).unwrap();
    until(|| vaults[1].bans().len() == 1);
    let before = vaults[0].secrets();
    begin(&vaults[0], fresh("s_1", "ada"));
    let (tell, told) = mpsc::channel();
    vaults[1].on_change(move || {
        let _ = tell.send(());
    });
    server.command(&["FLUSHALL"]);
    until(|| vaults.iter().all(|vault| vault.bans().is_empty()));
    // They go on with the secret they have: whoever is connected need not sign in again.
    until(|| server.command(&["LLEN", "test:{#vault}:secrets"]) == "1");
    until(|| vaults[0].secrets() == before && vaults[1].secrets() == before);
    assert_eq!(server.vault().secrets(), before);
    told.recv_timeout(LONG).unwrap();
    assert_eq!(gone(&vaults[1], &["s_1"]), ["s_1"]);
}

#[test]
fn a_full_memory_refuses_what_comes_and_not_what_goes() {
    let server = Server::start();
    let vault = server.vault();
    issue(&vault, good(1, "ada"));
    begin(&vault, fresh("s_1", "ada"));
    begin(&vault, fresh("s_2", "bob"));
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(ask(|done| vault.issue(good(2, "ada"), done)), Err(Unavailable));
    assert_eq!(ask(|done| vault.begin(fresh("s_3", "eve"), done)), Err(Unavailable));
    assert_eq!(vault.stats().trouble.as_deref(), Some("Redis refuses"));
    assert_eq!(ask(|done| vault.revoke_user("ada", clock(), done)), Ok(1));
    assert_eq!(ask(|done| vault.revoke_session("s_2", done)), Ok(true));
    ask(|done| vault.set_ban(ban("", "eve", None), done)).unwrap();
    assert_eq!(gone(&vault, &["s_1", "s_2"]), ["s_1", "s_2"]);
    assert!(vault.stats().trouble.is_some(), "that shows nothing");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(redeem(&vault, 1, "s_4"), Redeemed::Unknown);
    issue(&vault, good(2, "ada"));
    assert_eq!(vault.stats().trouble, None);
}
