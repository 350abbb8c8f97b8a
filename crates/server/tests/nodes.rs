//! The servers that share rooms: alone, two on one Redis, and while that is away.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::process::Output;

use serde_json::{Value, json};
use support::api::LINE;
use support::{Server, api, eventually as until, throng};
use throng_redis_rig::{self as rig, Data, Setup};

/// A server that shares `redis` with others, which learn before long that it is gone, and not of one that only has
/// to wait for its turn.
fn node(redis: &rig::Server, arguments: &[&str]) -> Server {
    let keys = format!("api.keys={LINE}");
    let url = redis.url();
    let mut all = vec!["--redis", &*url, "--set", &*keys, "--set", "cluster.node_timeout=15s"];
    all.extend(arguments);
    Server::start(&all)
}

/// `throng …` beside the servers.
fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    throng(directory.path()).args(arguments).output().unwrap()
}

fn nodes(server: &Server) -> Vec<Value> {
    let listed = server.read("/nodes");
    assert_eq!(listed.status, 200, "{listed:?}");
    let nodes = listed.json()["nodes"].as_array().unwrap().clone();
    // Whoever is listed has said something.
    assert!(nodes.iter().all(|node| node["version"] != ""), "{nodes:?}");
    nodes
}

#[test]
fn a_server_on_its_own_is_a_list_of_one() {
    let server = api::server("[cluster]\nadvertise = \"here:1\"\n");
    let _client = server.plain("/ws/lobby");
    let listed = nodes(&server);
    let [node] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&node["self"], &node["draining"]), (&json!(true), &json!(false)));
    assert_eq!((&node["address"], &node["connections"]), (&json!("here:1"), &json!(1)));
    assert_eq!(node["users"], 1);
    let id = node["id"].as_str().unwrap();
    assert_eq!(server.read(&format!("/nodes/{id}")).json()["id"], *id);
    assert_eq!(server.read("/nodes/self").json()["id"], *id);
    assert_eq!(server.read("/nodes/nobody").refusal(), (404, "not_found".into()));

    let alone = run(&["nodes"]);
    assert_eq!(alone.status.code(), Some(2));
    let said = String::from_utf8(alone.stderr).unwrap();
    assert!(said.contains("there is no Redis") && said.lines().count() == 1, "{said}");
}

#[test]
fn servers_on_one_redis_know_each_other() {
    let redis = rig::Server::start(Setup::in_memory()).unwrap();
    let one = node(&redis, &["--set", "cluster.advertise=one:1"]);
    let two = node(&redis, &["--set", "cluster.advertise=two:2"]);
    until("both list both", || [&one, &two].iter().all(|server| nodes(server).len() == 2));
    let mut client = two.plain("/ws/lobby");
    let of_two = two.read("/nodes/self").json()["id"].as_str().unwrap().to_owned();
    until("the client is counted", || {
        let seen = one.read(&format!("/nodes/{of_two}")).json();
        assert_eq!(seen["self"], false, "{seen}");
        seen["address"] == "two:2" && seen["connections"] == 1
    });
    assert_eq!(one.metric("throng_nodes"), 2);

    let listed = run(&["nodes", "--json", "--redis", &redis.url()]);
    let text = String::from_utf8(listed.stdout).unwrap();
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(listed["nodes"].as_array().unwrap().len(), 2, "it is none itself: {text}");
    let table = run(&["nodes", "--redis", &redis.url()]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("one:1") && table.contains(&of_two), "{table}");
    let nobody = run(&["nodes", "drain", "nobody", "--redis", &redis.url()]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");

    let begun = one.call("POST", &format!("/nodes/{of_two}/drain"), r#"{"spread":1000}"#);
    assert_eq!((begun.status, &begun.json()["node"]), (200, &json!(of_two)), "{begun:?}");
    assert!(client.next_of("reconnect")["after"].as_u64().unwrap() <= 1000);
    assert_eq!(client.closed().0, 1012, "it has not left by itself");
    assert_eq!((two.get("/readyz").status, one.get("/readyz").status), (503, 200));
    until("everybody knows", || one.read(&format!("/nodes/{of_two}")).json()["draining"] == true);

    two.signal(rustix::process::Signal::KILL);
    until("it is gone", || nodes(&one).len() == 1);
}

#[test]
fn the_command_line_empties_a_server() {
    let redis = rig::Server::start(Setup::in_memory()).unwrap();
    let server = node(&redis, &[]);
    let mut client = server.plain("/ws/lobby");
    let id = server.read("/nodes/self").json()["id"].as_str().unwrap().to_owned();
    let url = redis.url();
    until("it is listed", || {
        let listed = run(&["nodes", "--redis", &url]);
        String::from_utf8(listed.stdout).unwrap().contains(&id)
    });
    let drained = run(&["nodes", "drain", &id[..8], "--spread", "1", "--redis", &url]);
    assert_eq!(drained.status.code(), Some(0), "{drained:?}");
    assert!(String::from_utf8(drained.stdout).unwrap().starts_with(&id));
    assert!(client.next_of("reconnect")["after"].as_u64().unwrap() <= 1000);
    assert_eq!(client.closed().0, 1012);
    assert_eq!(server.get("/readyz").status, 503);

    let back = run(&["nodes", "undrain", &id[..8], "--redis", &url]);
    assert_eq!(back.status.code(), Some(0), "{back:?}");
    assert!(String::from_utf8(back.stdout).unwrap().starts_with(&id));
    until("it takes clients again", || server.get("/readyz").status == 200);
    let _client = server.plain("/ws/lobby");
    let nobody = run(&["nodes", "undrain", "nobody", "--redis", &url]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

#[test]
fn who_is_greeted_during_a_drain_is_told_when_to_go() {
    let redis = rig::Server::start(Setup::in_memory()).unwrap();
    let mut server = node(&redis, &["--set", "cluster.drain_spread=20s"]);
    let _before = server.plain("/ws/lobby");
    // Its room cannot be opened for now.
    redis.pause();
    let mut client = server.websocket("/ws/elsewhere");
    server.until_metric("throng_connections", |count| count == 2);
    server.signal(rustix::process::Signal::TERM);
    server.until_logged("sending everybody away");
    redis.go_on();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|kind| kind != "reconnect") {
        let text = support::next(&mut client).into_text().unwrap();
        let message: Value = serde_json::from_str(&text).unwrap();
        seen.push(message["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.first().map(String::as_str), Some("connected"), "{seen:?}");
}

#[test]
fn a_server_whose_redis_is_away_says_so_and_goes_on() {
    let mut redis = rig::Server::start(Setup::in_memory()).unwrap();
    let server = node(&redis, &[]);
    let mut client = server.plain("/ws/lobby");
    assert_eq!(client.ask(json!({"type": "chat", "text": "1"}))["type"], "ack");
    let up = format!("throng_redis_up{{server=\"{}\"}}", redis.address());
    server.until_metric(&up, |up| up == 1);
    server.until_metric("throng_redis_messages_total{result=\"stored\"}", |stored| stored == 1);
    assert_eq!(server.get("/readyz").status, 200);

    redis.kill();
    until("it is told", || server.get("/readyz").status == 503);
    let ready = server.get("/readyz");
    assert_eq!(ready.text(), format!("redis is away: {}\n", redis.address()));
    assert_eq!((server.get("/healthz").status, server.metric(&up)), (200, 0));
    let refused = client.ask(json!({"type": "chat", "text": "2"}));
    assert_eq!(refused["code"], "unavailable", "{refused}");
    assert!(refused["retryAfter"].as_u64().unwrap() >= 1, "{refused}");

    redis.start_again(Data::Lost).unwrap();
    until("it is told", || server.get("/readyz").status == 200);
    until("messages are stored again", || {
        client.ask(json!({"type": "chat", "text": "3"}))["type"] == "ack"
    });
    assert_eq!(server.metric(&up), 1);
}

#[test]
fn a_redis_that_asks_for_tls_and_a_password_gets_them() {
    let redis = rig::Server::start(Setup::in_memory().secured()).unwrap();
    let papers = redis.papers().unwrap().clone();
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "wrong\n").unwrap();
    let url = redis.url();
    let host = url.rsplit_once('@').unwrap().1;
    let settings = [
        format!("redis.urls=rediss://{host}"),
        format!("redis.username={}", papers.user),
        format!("redis.password_file={}", password.display()),
        format!("redis.ca={}", papers.authority.display()),
        format!("redis.cert={}", papers.certificate.display()),
        format!("redis.key={}", papers.key.display()),
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let refused = run(&[&["--listen", "127.0.0.1:0"], &arguments[..]].concat());
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains(host) && !said.contains("wrong\n"), "{said}");

    std::fs::write(&password, format!("{}\n", papers.password)).unwrap();
    let server = Server::start(&arguments);
    assert_eq!(server.get("/readyz").status, 200);
    let mut client = server.plain("/ws/lobby");
    assert_eq!(client.ask(json!({"type": "chat", "text": "1"}))["type"], "ack");
}
