use std::net::IpAddr;

use throng_backend::{Begun, NewTicket, Redeemed, SessionRow};

use super::rig::*;

#[test]
fn a_session_is_renewed_by_its_user_alone() {
    each(|w| {
        let vault = &w.vault;
        let renew = |n, now, id: &str, user: &str| {
            ask(|done| vault.renew(hash(n), None, now, id, user, done)).unwrap()
        };
        issue(vault, w.ticket(1, "ada"));
        w.redeem(1, "s_1");
        issue(vault, NewTicket { session_ttl: Some(100), ..w.ticket(5, "ada") });
        w.redeem(5, "s_short");
        begin(vault, w.row("s_bob", "bob"));
        issue(vault, w.ticket(2, "ada"));
        for (id, user, why) in [
            ("s_bob", "bob", "a ticket of somebody else"),
            ("s_bob", "ada", "a session of somebody else"),
            ("s_9", "ada", "no session"),
        ] {
            assert_eq!(renew(2, w.start, id, user), Redeemed::Unknown, "{why}");
        }
        w.pass(100);
        assert_eq!(renew(2, w.now(), "s_short", "ada"), Redeemed::Unknown, "it has expired");
        let Redeemed::Admitted { record, expires, .. } = renew(2, w.start + 999, "s_1", "ada")
        else {
            panic!()
        };
        assert_eq!((&*record, expires), (r#"{"n":2}"#, Some(w.start + 999 + DAY)));
        let found = find(vault, "s_1").unwrap();
        assert_eq!((found.record, found.expires, found.started), (record, expires, w.start));
        assert_eq!(renew(2, w.start, "s_1", "ada"), Redeemed::Unknown, "used");
        // Not for another address, and then still for the right one.
        let home: IpAddr = "192.0.2.1".parse().unwrap();
        issue(vault, NewTicket { ip: Some(home), ..w.ticket(3, "ada") });
        assert_eq!(renew(3, w.start, "s_1", "ada"), Redeemed::WrongAddress);
        let found =
            ask(|done| vault.renew(hash(3), Some(home), w.start, "s_1", "ada", done)).unwrap();
        assert_eq!(found, w.admitted(3, "ada"));
        // A session that was revoked is not revived.
        issue(vault, w.ticket(4, "ada"));
        assert_eq!(ask(|done| vault.revoke_session("s_1", done)), Ok(true));
        assert_eq!(renew(4, w.start, "s_1", "ada"), Redeemed::Unknown);
        assert_eq!(find(vault, "s_1"), None);
    });
}

#[test]
fn a_session_is_refreshed_by_another_token() {
    each(|w| {
        let vault = &w.vault;
        let home: IpAddr = "192.0.2.1".parse().unwrap();
        begin(
            vault,
            SessionRow { ip: Some(home), token: Some("t1".into()), ..w.row("s_1", "ada") },
        );
        let later = SessionRow {
            started: w.start + 5,
            expires: Some(w.start + DAY),
            issued: Some(w.start + 5),
            token: Some("t2".into()),
            via: "webhook".into(),
            record: r#"{"n":2}"#.into(),
            ..w.row("s_1", "ada")
        };
        assert_eq!(begin(vault, later.clone()), Begun::Yes);
        let expected = SessionRow { ip: Some(home), started: w.start, ..later.clone() };
        assert_eq!(find(vault, "s_1"), Some(expected.clone()));
        let other = SessionRow { user: "bob".into(), ..later.clone() };
        assert_eq!(begin(vault, other), Begun::Revoked);
        assert_eq!(find(vault, "s_1"), Some(expected));
        w.expect(0, 1);
        // It is the second token's session now.
        ask(|done| vault.revoke_token("t1", w.start + DAY, done)).unwrap();
        assert_eq!(gone(vault, &["s_1"]), [""; 0]);
        ask(|done| vault.revoke_token("t2", w.start + DAY, done)).unwrap();
        assert_eq!(gone(vault, &["s_1"]), ["s_1"]);
        assert_eq!(begin(vault, later), Begun::Revoked);
    });
}

#[test]
fn a_revoked_user_is_out() {
    each(|w| {
        let vault = &w.vault;
        let issued = |id: &str, user: &str, issued| SessionRow { issued, ..w.row(id, user) };
        for n in 0..3 {
            issue(vault, w.ticket(n, "ada"));
        }
        issue(vault, w.ticket(9, "bob"));
        w.redeem(0, "s_0");
        assert_eq!(begin(vault, issued("s_1", "ada", Some(w.start - 5))), Begun::Yes);
        assert_eq!(begin(vault, issued("s_2", "ada", None)), Begun::Yes);
        assert_eq!(begin(vault, issued("s_bob", "bob", None)), Begun::Yes);
        assert_eq!(gone(vault, &["s_0", "s_1", "s_2", "s_bob"]), [""; 0]);

        assert_eq!(ask(|done| vault.revoke_user("ada", w.start, done)), Ok(3));
        assert_eq!(gone(vault, &["s_0", "s_bob", "s_1", "s_2"]), ["s_0", "s_1", "s_2"]);
        assert_eq!(w.redeem(1, "s_3"), Redeemed::Unknown, "tickets, too");
        for late in [None, Some(w.start - 5), Some(w.start)] {
            assert_eq!(begin(vault, issued("s_3", "ada", late)), Begun::Revoked, "{late:?}");
        }
        assert_eq!(begin(vault, issued("s_3", "ada", Some(w.start + 600_000))), Begun::Yes);
        issue(vault, w.ticket(4, "ada"));
        assert_eq!(w.redeem(4, "s_4"), w.admitted(4, "ada"), "a ticket from afterwards");
        assert_eq!(w.redeem(9, "s_5"), w.admitted(9, "bob"));
        // Redis does not look for tickets that are good for nothing; they expire.
        w.expect(if w.is_shared() { 2 } else { 0 }, 4);

        // A revocation from a clock that is behind does not take back a later one.
        assert_eq!(ask(|done| vault.revoke_user("ada", w.start - 1000, done)), Ok(2));
        assert_eq!(begin(vault, issued("s_6", "ada", Some(w.start))), Begun::Revoked);
        // They are not swept: nobody knows how long a token is valid.
        vault.sweep(w.start + 1000 * DAY, DAY);
        assert_eq!(begin(vault, issued("s_6", "ada", Some(w.start))), Begun::Revoked);
        assert_eq!(ask(|done| vault.revoke_user("nobody", w.start, done)), Ok(0));
    });
}

#[test]
fn a_revoked_token_is_out() {
    each(|w| {
        let vault = &w.vault;
        let with =
            |id: &str, token: &str| SessionRow { token: Some(token.into()), ..w.row(id, "ada") };
        assert_eq!(begin(vault, with("s_1", "t1")), Begun::Yes);
        assert_eq!(begin(vault, with("s_2", "t1")), Begun::Yes);
        assert_eq!(begin(vault, with("s_3", "t2")), Begun::Yes);
        ask(|done| vault.revoke_token("t1", w.now() + 600_000, done)).unwrap();
        ask(|done| vault.revoke_token("t1", w.now() + 100, done)).unwrap();
        ask(|done| vault.revoke_token("t3", w.now() + 100, done)).unwrap();
        assert_eq!(gone(vault, &["s_1", "s_2", "s_3"]), ["s_1", "s_2"]);
        assert_eq!(begin(vault, with("s_4", "t1")), Begun::Revoked);
        w.pass(100);
        vault.sweep(w.now(), DAY);
        assert_eq!(begin(vault, with("s_4", "t1")), Begun::Revoked);
        assert_eq!(begin(vault, with("s_4", "t3")), Begun::Yes, "it has expired by itself");
        assert_eq!(begin(vault, SessionRow { token: None, ..w.row("s_5", "ada") }), Begun::Yes);
    });
}

#[test]
fn a_revoked_session_is_out() {
    each(|w| {
        let vault = &w.vault;
        begin(vault, w.row("s_1", "ada"));
        begin(vault, w.row("s_2", "ada"));
        assert_eq!(ask(|done| vault.revoke_session("s_1", done)), Ok(true));
        assert_eq!(ask(|done| vault.revoke_session("s_1", done)), Ok(false));
        assert_eq!(gone(vault, &["s_1", "s_2"]), ["s_1"]);
        vault.end("s_2");
        vault.end("s_9");
        until(|| gone(vault, &["s_1", "s_2"]) == ["s_1", "s_2"]);
        w.expect(0, 0);
    });
}

#[test]
fn sessions_by_user_and_page() {
    each(|w| {
        let vault = &w.vault;
        for n in 0..25 {
            begin(vault, w.row(&format!("s_{n:02}"), ["ada", "bob"][n % 2]));
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
