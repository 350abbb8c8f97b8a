use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use throng_backend::{Begun, Redeemed, SessionRow, UserRow};

use super::rig::*;

#[test]
fn users() {
    each(|w| {
        let vault = &w.vault;
        let user = |id: &str, changed| UserRow {
            id: id.into(),
            password: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into(),
            record: r#"{"name":"Zoë '\"; DROP TABLE users"}"#.into(),
            created: w.start,
            changed,
            disabled: changed == 2,
        };
        let get = |id: &str| ask(|done| vault.user(id, done)).unwrap();
        assert_eq!(get("ada"), None);
        for id in ["bob", "ada", "eve", "ada"] {
            ask(|done| vault.put_user(user(id, 1), done)).unwrap();
        }
        let count = |users| {
            vault.sweep(0, DAY);
            until(|| vault.stats().users == users);
        };
        count(3);
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

        issue(vault, w.ticket(1, "ada"));
        begin(vault, w.row("s_1", "ada"));
        assert_eq!(ask(|done| vault.remove_user("ada", w.start, done)), Ok(true));
        assert_eq!(ask(|done| vault.remove_user("ada", w.start, done)), Ok(false));
        assert_eq!(get("ada"), None);
        count(2);
        assert_eq!(w.redeem(1, "s_2"), Redeemed::Unknown);
        assert_eq!(gone(vault, &["s_1"]), ["s_1"]);
        assert_eq!(begin(vault, w.row("s_3", "ada")), Begun::Revoked);
    });
}

#[test]
fn members_and_bans() {
    each(|w| {
        let vault = &w.vault;
        let set = |room: &str, user: &str, rights: Option<&str>| {
            ask(|done| vault.set_member(room, user, rights.map(str::to_owned), done)).unwrap();
        };
        assert_eq!((vault.members(), vault.bans()), (vec![], vec![]));
        set("b", "ada", Some("join,send"));
        set("a", "bob", Some("join"));
        set("a", "ada", Some("join"));
        set("a", "ada", Some("join,send"));
        set("a", "ada", Some("join,send"));
        set("b", "ada", None);
        set("c", "ada", None);
        let members = [member("a", "ada", "join,send"), member("a", "bob", "join")];
        assert_eq!(vault.members(), members, "as soon as it is answered");

        for one in [ban("", "eve", None), ban("a", "eve", Some(5)), ban("a", "eve", Some(NOW))] {
            ask(|done| vault.set_ban(one, done)).unwrap();
        }
        assert_eq!(vault.bans(), [ban("", "eve", None), ban("a", "eve", Some(NOW))]);
        assert_eq!(ask(|done| vault.lift_ban("", "eve", done)), Ok(true));
        assert_eq!(ask(|done| vault.lift_ban("", "eve", done)), Ok(false));
        assert_eq!(vault.bans(), [ban("a", "eve", Some(NOW))]);

        let Some(other) = w.another() else { return };
        vault.close();
        assert_eq!(other.members(), members);
        assert_eq!(other.bans(), [ban("a", "eve", Some(NOW))]);
    });
}

#[test]
fn secrets_overlap() {
    each(|w| {
        let rotate = || ask(|done| w.vault.rotate_secret(w.now(), done)).unwrap();
        let first = w.vault.secrets();
        assert_eq!(first.len(), 1);
        assert_ne!(first[0], [0; 32]);
        rotate();
        let second = w.vault.secrets();
        assert_eq!((second.len(), second[1]), (2, first[0]));
        assert_ne!(second[0], first[0]);
        rotate();
        let third = w.vault.secrets();
        assert_eq!(third[1..], second);
        // All the same for another process.
        if let Some(other) = w.another() {
            assert_eq!(other.secrets(), third);
        }
        for _ in 0..40 {
            rotate();
        }
        assert_eq!(w.vault.secrets().len(), 17, "checking a token does not become expensive");
    });
}

#[test]
fn what_another_does_is_told() {
    each(|w| {
        let Some(tool) = w.another() else { return };
        let (tell, told) = mpsc::channel();
        let seen = w.vault.clone();
        w.vault.on_change(move || {
            let _ = tell.send((seen.bans(), seen.members(), seen.secrets()));
        });
        begin(&w.vault, w.row("s_1", "ada"));
        begin(&w.vault, SessionRow { token: Some("t1".into()), ..w.row("s_2", "bob") });
        begin(&w.vault, w.row("s_3", "eve"));
        let next = || told.recv_timeout(LONG).unwrap();
        ask(|done| tool.revoke_user("ada", w.now(), done)).unwrap();
        next();
        assert_eq!(gone(&w.vault, &["s_1", "s_2"]), ["s_1"]);
        ask(|done| tool.revoke_token("t1", w.now() + 600_000, done)).unwrap();
        next();
        assert_eq!(ask(|done| tool.revoke_session("s_3", done)), Ok(true));
        next();
        assert_eq!(gone(&w.vault, &["s_1", "s_2", "s_3"]), ["s_1", "s_2", "s_3"]);

        ask(|done| tool.set_ban(ban("", "eve", None), done)).unwrap();
        ask(|done| tool.set_member("a", "bob", Some("join".into()), done)).unwrap();
        ask(|done| tool.rotate_secret(w.now(), done)).unwrap();
        let expected = (tool.bans(), tool.members(), tool.secrets());
        assert_eq!((expected.0.len(), expected.1.len(), expected.2.len()), (1, 1, 2));
        while next() != expected {}
        ask(|done| tool.lift_ban("", "eve", done)).unwrap();
        while !next().0.is_empty() {}
        // Its own changes are none of another. The last of the others' may be told once more until it has looked
        // again, which takes a quarter of a second, and longer on a busy machine.
        thread::sleep(Duration::from_secs(3));
        while told.try_recv().is_ok() {}
        begin(&w.vault, w.row("s_4", "bob"));
        ask(|done| w.vault.set_ban(ban("", "eve", None), done)).unwrap();
        ask(|done| w.vault.revoke_user("bob", w.now(), done)).unwrap();
        ask(|done| w.vault.rotate_secret(w.now(), done)).unwrap();
        thread::sleep(Duration::from_millis(600));
        assert!(told.try_recv().is_err());
        until(|| tool.bans() == w.vault.bans() && tool.secrets() == w.vault.secrets());
        w.vault.close();
        let end = told.recv_timeout(LONG).unwrap_err();
        assert_eq!(end, mpsc::RecvTimeoutError::Disconnected, "it lets go of the receiver");
    });
}
