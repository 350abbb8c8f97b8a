//! `throng user`, `session`, `token` and `secret`: by themselves, and beside a server that runs.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use support::api::LINE;
use support::{Server, throng};
use tempfile::TempDir;

/// What a command came to.
#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    err: String,
}

fn run(directory: &Path, arguments: &[&str], input: &str) -> Done {
    let mut command = throng(directory);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have refused before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs it in a directory whose configuration says where the data is; it must succeed.
fn admin(directory: &TempDir, arguments: &[&str], input: &str) -> String {
    let done = run(directory.path(), arguments, input);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{arguments:?}: {done:?}");
    done.out
}

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("throng.toml"), "data = \"data\"\n").unwrap();
    directory
}

/// A server on the same data.
fn server(directory: &TempDir) -> Server {
    let data = directory.path().join("data");
    server_with(&format!("data = {:?}", data.to_str().unwrap()))
}

fn server_with(place: &str) -> Server {
    let file = format!(
        "{place}\n[api]\nkeys = [\"{LINE}\"]\n[login]\nenabled = true\nattempts = \"off\"\n"
    );
    Server::start_with(&["--listen", "127.0.0.1:0"], &file)
}

fn login(server: &Server, user: &str, password: &str) -> u16 {
    let body = json!({"user": user, "password": password}).to_string();
    let kind = [("content-type", "application/json")];
    server.send("POST", "/login", &kind, body.as_bytes()).status
}

#[test]
fn users_are_added_listed_and_removed() {
    let directory = directory();
    let add = ["user", "add", "ann", "--name", "Ann", "--room", "team:*", "--password-stdin"];
    assert_eq!(admin(&directory, &add, "correct horse\n"), "ann is added.\n");
    let twice = run(directory.path(), &add, "correct horse\n");
    assert_eq!(twice.code, 1);
    assert!(twice.err.contains("there is a user ann already"), "{twice:?}");
    let bob =
        ["user", "add", "bob", "--password-stdin", "--data", "data", "--room=a=join,send:chat"];
    admin(&directory, &bob, "correct horse");

    let list = admin(&directory, &["user", "list"], "");
    let lines: Vec<Vec<&str>> =
        list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["USER", "NAME", "STATE", "ADDED", "CHANGED", "ROOMS"]);
    assert_eq!((&lines[1][..3], lines[1][7]), (&["ann", "Ann", "active"][..], "team:*"));
    assert_eq!((&lines[2][..3], lines[2][7]), (&["bob", "-", "active"][..], "a=join,send:chat"));
    assert!(!list.contains("argon2"), "{list}");

    let disabled = admin(&directory, &["user", "disable", "bob"], "");
    assert!(disabled.starts_with("bob cannot log in any more."), "{disabled}");
    assert!(admin(&directory, &["user", "list"], "").contains("disabled"));
    admin(&directory, &["user", "enable", "bob"], "");
    assert!(!admin(&directory, &["user", "list"], "").contains("disabled"));
    admin(&directory, &["user", "remove", "bob"], "");
    assert!(!admin(&directory, &["user", "list"], "").contains("bob"));
    for command in ["remove", "disable", "enable"] {
        let unknown = run(directory.path(), &["user", command, "bob"], "");
        assert_eq!(unknown.code, 1, "{unknown:?}");
        assert!(unknown.err.contains("there is no user bob"), "{unknown:?}");
    }
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let directory = directory();
    let case = |arguments: &[&str], input: &str, code: i32, text: &str| {
        let done = run(directory.path(), arguments, input);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        assert!(done.err.contains(text), "{arguments:?}: {done:?}");
        assert_eq!(done.out, "");
    };
    case(&["user", "list"], "", 2, "there is no data/access.db");
    case(&["user", "list", "--data", "memory"], "", 2, "there is no data directory");
    case(&["user", "add", "a b"], "", 2, "an id is 1 to 127 characters");
    case(&["user", "add", "ann", "--config", "none.toml"], "", 2, "cannot read none.toml");
    let add = |more: &[&'static str]| {
        let mut all = vec!["user", "add", "ann", "--password-stdin"];
        all.extend(more);
        all
    };
    case(&add(&[]), "short", 1, "at least 8 characters");
    case(&add(&["--room", "a=fly"]), "correct horse", 1, "not a right");
    case(&add(&["--info", "{"]), "correct horse", 1, "info is not JSON");
    case(&["user", "add", "ann"], "correct horse", 1, "give it with --password-stdin");
    case(&["session", "revoke", "s_none"], "", 1, "there is no session");
    case(&["session", "revoke"], "", 2, "required");
    case(&["token", "revoke", ""], "", 1, "the id of a token");
    let help = run(directory.path(), &["user", "add", "--help"], "");
    assert!(help.code == 0 && help.out.contains("--password-stdin"), "{help:?}");
}

#[test]
fn a_running_server_hears_of_it() {
    let directory = directory();
    hears(&directory, &server(&directory));
}

#[test]
fn a_running_server_hears_of_it_through_redis() {
    let redis = throng_redis_rig::Server::start(throng_redis_rig::Setup::in_memory()).unwrap();
    let place = format!("redis.urls = [\"{}\"]", redis.url());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("throng.toml"), &place).unwrap();
    let servers = [server_with(&place), server_with(&place)];
    hears(&directory, &servers[1]);
    // All servers do.
    let signed_in = |server: &Server| {
        let ticket = servers[0].ticket(json!({ "userId": "cy" }));
        server.full(&format!("?ticket={ticket}"))
    };
    let mut visits = servers.each_ref().map(signed_in);
    let ended = admin(&directory, &["session", "revoke", "--user", "cy"], "");
    assert!(ended.starts_with("2 sessions of cy ended"), "{ended}");
    for visit in &mut visits {
        assert_eq!(visit.closed(), (4401, "session revoked".into()));
    }
    // The place can be said on the command line, too.
    let elsewhere = tempfile::tempdir().unwrap();
    let url = redis.url();
    let add = ["user", "add", "dan", "--password-stdin", "--redis", &url];
    admin(&elsewhere, &add, "correct horse");
    assert!(servers.each_ref().iter().all(|server| login(server, "dan", "correct horse") == 200));
    drop(redis);
    let away = run(elsewhere.path(), &["user", "list", "--redis", &url], "");
    assert_eq!(away.code, 2, "{away:?}");
}

fn hears(directory: &TempDir, server: &Server) {
    admin(directory, &["user", "add", "ann", "--password-stdin"], "correct horse");
    assert_eq!(login(server, "ann", "correct horse"), 200);
    let signed_in = |user: &str| {
        let ticket = server.ticket(json!({ "userId": user }));
        server.full(&format!("?ticket={ticket}"))
    };
    let (mut first, mut second, mut bob) = (signed_in("ann"), signed_in("ann"), signed_in("bob"));
    let id = first.connected["sessionId"].as_str().unwrap().to_owned();
    let list = admin(directory, &["session", "list"], "");
    assert_eq!(list.lines().count(), 4, "{list}");
    assert!(list.contains(&id) && list.contains("127.0.0.1"), "{list}");
    assert_eq!(admin(directory, &["session", "list", "--user", "bob"], "").lines().count(), 2);

    let ended = admin(directory, &["session", "revoke", &id], "");
    assert_eq!(ended, format!("{id} is ended.\n"));
    assert_eq!(first.closed(), (4401, "session revoked".into()));
    let changed =
        admin(directory, &["user", "passwd", "ann", "--password-stdin"], "battery staple");
    assert_eq!(changed, "ann has a new password. One session was ended.\n");
    assert_eq!(second.closed(), (4401, "session revoked".into()));
    assert_eq!(login(server, "ann", "correct horse"), 401);
    assert_eq!(login(server, "ann", "battery staple"), 200);

    let mut third = signed_in("ann");
    admin(directory, &["user", "remove", "ann"], "");
    assert_eq!(third.closed(), (4401, "session revoked".into()));
    assert_eq!(login(server, "ann", "battery staple"), 401);
    let ended = admin(directory, &["session", "revoke", "--user", "bob"], "");
    assert!(ended.starts_with("1 session of bob ended"), "{ended}");
    assert_eq!(bob.closed(), (4401, "session revoked".into()));

    let refused = admin(directory, &["token", "revoke", "17", "--days", "3"], "");
    assert!(refused.starts_with("The token \"17\" is refused until 20"), "{refused}");
    let visitor = server.full("");
    admin(directory, &["secret", "rotate"], "");
    let token = visitor.connected["resume"].as_str().unwrap();
    let resumed = server.full(&format!("?resume={token}"));
    assert_eq!(resumed.connected["sessionId"], visitor.connected["sessionId"]);
}

#[test]
fn keys_are_made_for_less() {
    let directory = directory();
    let made =
        run(directory.path(), &["key", "new", "--name", "ci", "--scopes", "read+tickets"], "");
    let line = made.out.lines().nth(1).unwrap();
    assert!(line.starts_with("ci:") && line.ends_with(":read+tickets"), "{made:?}");
    let made = run(directory.path(), &["key", "new", "--name", "ci"], "");
    assert_eq!(made.out.lines().nth(1).unwrap().matches(':').count(), 1, "{made:?}");
    assert_eq!(run(directory.path(), &["key", "new", "--scopes", "fly"], "").code, 2);
}
