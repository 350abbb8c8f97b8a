//! `throng bench`: runs against the real server are clean, and a server that is not is found out.

#![allow(clippy::unwrap_used, reason = "in a test, to panic is to say what is wrong")]

mod support;

use std::net::TcpListener;
use std::process::Output;
use std::thread;

use serde_json::Value;
use support::{Server, throng};
use tungstenite::{Message, WebSocket};

fn bench(arguments: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = throng(directory.path());
    command.arg("bench").args(arguments.split(' ')).output().unwrap()
}

/// Runs a workload against a server of ours; its figures.
fn clean(server: &Server, workload: &str, path: &str, options: &str) -> Value {
    let url = format!("ws://{}{path}", server.addresses[0]);
    let output = bench(&format!("{workload} {url} --json {options}"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    for fault in ["lost", "duplicated", "reordered", "altered", "closed"] {
        assert_eq!(figures[fault], 0, "{figures}");
    }
    figures
}

#[test]
fn every_workload_runs_clean_against_our_server() {
    let server = Server::start(&[]);
    // Long enough that something is measured on any machine.
    let short = "--duration 3 --warmup 0.1 --connections";
    let echo = clean(&server, "echo", "/echo", &format!("{short} 8 --depth 4 --binary"));
    assert!(echo["messages"].as_u64() > Some(0), "{echo}");
    assert!(echo["p50_ms"].as_f64() > Some(0.0), "{echo}");
    let large = clean(&server, "echo", "/echo", &format!("{short} 2 --size 300000"));
    assert!(large["messages"].as_u64() > Some(0), "{large}");
    let closed = clean(&server, "fanout", "/relay", &format!("{short} 20 --window 8"));
    assert!(closed["deliveries"].as_u64() > Some(0), "{closed}");
    let open = clean(&server, "fanout", "/relay", &format!("{short} 5 --rate 100"));
    assert!(open["deliveries"].as_u64() > Some(0), "{open}");
    let typed = clean(&server, "fanout", "/ws", &format!("{short} 5 --typed"));
    assert!(typed["deliveries"].as_u64() > Some(0), "{typed}");
    let churn = clean(&server, "churn", "/echo", &format!("{short} 4"));
    assert!(churn["done"].as_u64() > Some(0), "{churn}");
    let idle = clean(&server, "idle", "/echo", "--connections 50 --echo --hold 0");
    assert_eq!(idle["connections"], 50);
}

/// A server that answers each message with what `answers` makes of it.
fn crooked(answers: fn(u64, Message) -> Vec<Message>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut socket: WebSocket<_> =
            tungstenite::accept(listener.accept().unwrap().0).expect("a handshake");
        for number in 0.. {
            let Ok(message) = socket.read() else { return };
            for answer in answers(number, message) {
                if socket.send(answer).is_err() {
                    return;
                }
            }
        }
    });
    url
}

#[test]
fn a_server_that_loses_repeats_or_alters_is_found_out() {
    fn lose(number: u64, message: Message) -> Vec<Message> {
        if number == 3 { vec![] } else { vec![message] }
    }
    fn repeat(number: u64, message: Message) -> Vec<Message> {
        if number == 3 { vec![message.clone(), message] } else { vec![message] }
    }
    fn alter(number: u64, message: Message) -> Vec<Message> {
        if number == 3 { vec![Message::text("something else")] } else { vec![message] }
    }
    type Crooked = fn(u64, Message) -> Vec<Message>;
    let find = |fault: &str, answers: Crooked| {
        let url = crooked(answers);
        let run = "--json --connections 1 --depth 2 --duration 4 --warmup 0";
        let output = bench(&format!("echo {url} {run}"));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(figures[fault].as_u64() > Some(0), "{fault}: {figures}");
    };
    thread::scope(|scope| {
        for (fault, answers) in
            [("lost", lose as Crooked), ("duplicated", repeat), ("altered", alter)]
        {
            scope.spawn(move || find(fault, answers));
        }
    });
}

#[test]
fn what_cannot_be_run_is_one_sentence() {
    let unused = "127.0.0.1:1"; // no port that anybody is given
    for (arguments, says) in [
        (format!("echo ws://{unused}/"), "cannot connect"),
        ("echo ws://192.0.2.1:80/".to_owned(), "--allow-remote"),
        ("echo wss://127.0.0.1/".to_owned(), "ws:// URL"),
        (format!("echo ws://{unused}/ --pid 4294967295"), "process"),
        (format!("fanout ws://{unused}/ --size 20"), "at least"),
    ] {
        let output = bench(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
        let sentence = String::from_utf8(output.stderr).unwrap();
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
        assert!(sentence.contains(says), "{sentence}");
    }
    let server = Server::start(&[]);
    let output = bench(&format!("echo ws://{}/nowhere", server.addresses[0]));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("404"), "{output:?}");
}
