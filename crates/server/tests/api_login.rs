//! Logging in with a password: who gets in, who does not, and what nobody learns from trying.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

use serde_json::json;
use support::{Answer, Server, throng};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery";

/// A data directory with the users ann, and bob who is disabled.
fn users() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for user in ["ann", "bob"] {
        let mut command = throng(directory.path());
        command.args(["user", "add", user, "--name", "Ann", "--info", r#"{"color":"red"}"#]);
        command.args(["--room", "team:*=join,send", "--password-stdin", "--data", "data"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
    let mut disable = throng(directory.path());
    assert!(disable.args(["user", "disable", "bob", "--data", "data"]).status().unwrap().success());
    directory
}

/// A server with these users and `[login]`.
fn server(users: &TempDir, file: &str) -> Server {
    let data = users.path().join("data");
    let file = format!("data = {:?}\n[login]\nenabled = true\n{file}", data.to_str().unwrap());
    Server::start_with(&["--listen", "127.0.0.1:0", "--set", "access.anonymous="], &file)
}

fn attempt(server: &Server, user: &str, password: &str) -> Answer {
    let body = json!({"user": user, "password": password}).to_string();
    server.send("POST", "/login", &[("content-type", "application/json")], body.as_bytes())
}

#[test]
fn a_password_is_worth_a_ticket() {
    let users = users();
    let server = server(&users, "session_ttl = \"1h\"\n");
    let offer = server.get("/login");
    assert_eq!((offer.status, offer.json()), (200, json!({"login": true, "anonymous": true})));
    let admitted = attempt(&server, "ann", PASSWORD);
    assert_eq!((admitted.status, admitted.header("cache-control")), (200, "no-store"));
    assert_eq!(admitted.header("set-cookie"), "");
    let admitted = admitted.json();
    assert_eq!((&admitted["userId"], &admitted["name"]), (&json!("ann"), &json!("Ann")));
    assert!(admitted["expiresAt"].is_u64(), "{admitted}");
    let ticket = admitted["ticket"].as_str().unwrap();
    let mut ann = server.full(&format!("?ticket={ticket}"));
    assert_eq!(ann.connected["userId"], "ann");
    ann.join("team:1");
    assert_eq!(ann.ask(json!({"type": "join", "room": "lobby"}))["code"], "forbidden");
    assert_eq!(server.metric("throng_logins_total{result=\"admitted\"}"), 1);
}

#[test]
fn nobody_learns_who_there_is() {
    let users = users();
    let server = server(&users, "attempts = \"off\"\n");
    let shown = |answer: &Answer| {
        let head: Vec<&str> = answer.head.lines().filter(|l| !l.starts_with("date: ")).collect();
        (answer.status, head.join("\n"), answer.text().to_owned())
    };
    let wrong = shown(&attempt(&server, "ann", "incorrect horse"));
    assert_eq!(wrong.0, 401);
    for (user, password) in [
        ("bob", PASSWORD),
        ("bob", "incorrect horse"),
        ("nobody", PASSWORD),
        ("nobody", ""),
        ("ann", ""),
        ("Ann", PASSWORD),
        ("ann ", PASSWORD),
        ("", PASSWORD),
        ("a b\u{0}; DROP TABLE users", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
        (&"x".repeat(3000), PASSWORD),
    ] {
        assert_eq!(shown(&attempt(&server, user, password)), wrong, "{user:.20} {password}");
    }
    // For the eye only: how long each kind of refusal takes.
    for (kind, user) in [("wrong password", "ann"), ("disabled", "bob"), ("unknown", "nobody")] {
        let start = Instant::now();
        (0..10).for_each(|_| assert_eq!(attempt(&server, user, "incorrect").status, 401));
        println!("{kind}: {:?} each", start.elapsed() / 10);
    }
    assert_eq!(server.metric("throng_logins_total{result=\"refused\"}"), 42);
}

#[test]
fn guessing_is_slowed_down_by_name() {
    let users = users();
    let server = server(&users, "attempts = \"3/h\"\n");
    for user in ["ann", "nobody"] {
        for _ in 0..3 {
            assert_eq!(attempt(&server, user, "incorrect").status, 401);
        }
        let late = attempt(&server, user, PASSWORD);
        assert_eq!(late.refusal(), (429, "rate_limited".into()), "also with the right one");
        let wait: u64 = late.header("retry-after").parse().unwrap();
        assert!((600..=1200).contains(&wait), "{wait}");
    }
    assert_eq!(attempt(&server, "bob", "incorrect").status, 401, "this address is exempt");
    assert_eq!(server.metric("throng_logins_total{result=\"throttled\"}"), 2);
}

#[test]
fn guessing_is_slowed_down_by_address() {
    let users = users();
    let server = server(&users, "attempts = \"3/h\"\n[limits]\nexempt = []\n");
    for n in 0..3 {
        assert_eq!(attempt(&server, &format!("user{n}"), "incorrect").status, 401);
    }
    assert_eq!(attempt(&server, "ann", PASSWORD).refusal(), (429, "rate_limited".into()));
}

#[test]
fn pages_of_other_sites_cannot_try() {
    let users = users();
    let server = server(&users, "");
    let body = json!({"user": "ann", "password": PASSWORD}).to_string();
    let post = |headers: &[(&str, &str)]| server.send("POST", "/login", headers, body.as_bytes());
    let kind = ("content-type", "application/json");
    let foreign = post(&[kind, ("origin", "http://evil.test")]);
    assert_eq!(foreign.refusal(), (403, "forbidden".into()));
    assert_eq!(foreign.header("access-control-allow-origin"), "");
    for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let refused = post(&[("content-type", simple)]);
        assert_eq!(refused.refusal(), (415, "unsupported_data".into()), "{simple}");
    }
    assert_eq!(post(&[]).refusal().0, 415);
    let own = format!("http://{}", server.address());
    assert_eq!(post(&[kind, ("origin", &own)]).status, 200);
    let asked = [("origin", "http://evil.test"), ("access-control-request-method", "POST")];
    let preflight = server.ask("OPTIONS", "/login", &asked);
    assert_eq!(preflight.header("access-control-allow-methods"), "");
    assert_eq!(
        server
            .ask("GET", &format!("/login?user=ann&password={PASSWORD}").replace(' ', "%20"), &[])
            .json()["login"],
        true
    );
}

#[test]
fn what_is_not_a_login_is_refused() {
    let users = users();
    let server = server(&users, "");
    let post = |body: &str| {
        let kind = [("content-type", "application/json")];
        server.send("POST", "/login", &kind, body.as_bytes()).refusal()
    };
    for (body, status, code) in [
        ("", 400, "bad_json"),
        ("{", 400, "bad_json"),
        ("{}", 400, "bad_message"),
        (r#"{"user":"ann"}"#, 400, "bad_message"),
        (r#"{"user":"ann","password":7}"#, 400, "bad_message"),
        (r#"{"user":["ann"],"password":"x"}"#, 400, "bad_message"),
        (r#"{"user":"ann","user":"bob","password":"x"}"#, 400, "bad_message"),
        (&format!("{{\"user\":\"ann\",\"password\":\"{}\"}}", "x".repeat(9000)), 413, "too_large"),
    ] {
        assert_eq!(post(body), (status, code.into()), "{body:.60}");
    }
    let other = server.ask("DELETE", "/login", &[]);
    assert_eq!((other.status, other.header("allow")), (405, "GET, HEAD, POST, OPTIONS"));

    let without = Server::start(&[]);
    assert_eq!(without.get("/login").json(), json!({"login": false, "anonymous": true}));
    let refused = attempt(&without, "ann", PASSWORD);
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, OPTIONS"));
    let shut = Server::start(&["--set", "rooms.anonymous=false"]);
    assert_eq!(shut.get("/login").json(), json!({"login": false, "anonymous": false}));
}

#[test]
fn many_at_once_are_all_answered() {
    let users = users();
    let server = server(&users, "attempts = \"off\"\n");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> =
            (0..60).map(|_| scope.spawn(|| attempt(&server, "ann", "incorrect"))).collect();
        tries.into_iter().map(|one| one.join().unwrap().status).collect()
    });
    assert!(statuses.iter().all(|status| [401, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&401) && statuses.contains(&503), "{statuses:?}");
    assert_eq!(attempt(&server, "ann", PASSWORD).status, 200, "and then it goes on");
}

#[test]
fn passwords_and_tickets_are_never_logged() {
    let users = users();
    let data = users.path().join("data");
    let file = format!("data = {:?}\n[login]\nenabled = true\n", data.to_str().unwrap());
    let log = "--log=info,throng=trace,throng_server=trace,throng_hub=trace,throng_engine=trace,throng_backend=trace";
    let mut server = Server::start_with(&["--listen", "127.0.0.1:0", log], &file);
    let admitted = attempt(&server, "ann", PASSWORD).json();
    let ticket = admitted["ticket"].as_str().unwrap().to_owned();
    drop(server.full(&format!("?ticket={ticket}")));
    assert_eq!(attempt(&server, "ann", "incorrect-horse").status, 401);
    server.signal(rustix::process::Signal::TERM);
    let (_, log) = server.wait();
    assert!(log.contains("\"bye\""), "{log}");
    for secret in [PASSWORD, &ticket, "incorrect-horse", "$argon2id"] {
        assert!(!log.contains(secret), "{log}");
    }
}
