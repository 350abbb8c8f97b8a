//! The protocol page and this crate say the same: every example is one that this crate reads and
//! writes, and the table of errors is the table of errors.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use throng_protocol::{Code, Command, parse, push};

const PAGE: &str = include_str!("../../../docs/protocol.md");

fn lines_with(mark: &'static str) -> impl Iterator<Item = &'static str> {
    let lines = PAGE.lines().filter_map(move |line| line.strip_prefix(mark));
    lines.filter(|line| line.starts_with('{'))
}

/// What the server says in the examples, one message in more than one line included.
fn pushes() -> Vec<Map<String, Value>> {
    let block = PAGE.split("```json\n").skip(1).map(|block| block.split("\n```").next().unwrap());
    let lines = lines_with("← ").chain(lines_with("data: "));
    let read = |text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    block.chain(lines).map(read).collect()
}

#[test]
fn clients_of_the_examples_are_understood() {
    let mut kinds = BTreeSet::new();
    for line in lines_with("→ ") {
        kinds.insert(match parse(line.as_bytes()) {
            Ok(Command::Publish(_)) => "publish",
            Ok(Command::Ping(_)) => "ping",
            Ok(Command::Presence(_)) => "presence",
            Ok(Command::Join(_)) => "join",
            Ok(Command::Leave(_)) => "leave",
            Ok(Command::History(_)) => "history",
            Ok(Command::Resume(_)) => "resume",
            Ok(Command::Auth(_)) => "auth",
            other => panic!("{line} → {other:?}"),
        });
    }
    let all = ["auth", "history", "join", "leave", "presence", "publish", "resume"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

/// The fields of each type, in the order in which this crate writes them.
fn written() -> Vec<(&'static str, Vec<String>)> {
    let users = || Some([("u", Some("{}"))]);
    let mut out = [const { Vec::new() }; 10];
    let now = throng_protocol::Timestamp(1);
    let position =
        push::Position { epoch: "e", seq: 1, presence_seq: Some(1), recovered: Some(true) };
    let connected = push::Connected {
        user_id: "u",
        session_id: "s",
        resume: Some("t"),
        resumed: true,
        resume_window: 1,
        expires_at: Some(now),
        info: Some("{}"),
        user_count: 1,
        room: Some("r"),
        position: Some(position),
        heartbeat: 1,
        timestamp: now,
        max_payload: 1,
        max_rooms: 1,
        ref_window: 1,
    };
    push::connected(&mut out[0], &connected);
    let joined = push::Joined {
        reference: Some(1),
        room: "r",
        epoch: "e",
        seq: 1,
        recovered: true,
        user_count: 1,
        presence_seq: Some(1),
    };
    push::joined(&mut out[1], &joined, users());
    push::left(&mut out[2], Some(1), "r");
    let ack = push::Ack { reference: 1, room: "r", seq: Some(1), timestamp: now, duplicate: true };
    push::ack(&mut out[3], &ack);
    push::history(&mut out[4], Some(1), "r", "e", [b"{}"], true);
    push::presence(&mut out[5], Some(1), "r", 1, Some(1), users());
    push::resumed(&mut out[6], Some(1), []);
    let passage = push::Passage {
        room: "r",
        user_id: "u",
        info: Some("{}"),
        user_count: 1,
        presence_seq: 1,
        timestamp: now,
    };
    push::user_joined(&mut out[7], &passage);
    let fault = throng_protocol::Fault::new(Code::BadJson).with_reference(Some(1));
    push::error(&mut out[8], &fault, Some("r"), Some(1));
    push::authed(&mut out[9], Some(1), Some(now));
    let kinds = [
        "connected",
        "joined",
        "left",
        "ack",
        "history",
        "presence",
        "resumed",
        "user_joined",
        "error",
        "authed",
    ];
    let fields = out.map(|out| {
        let object = serde_json::from_slice::<Map<String, Value>>(&out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let mut names: Vec<String> = object.into_iter().map(|(name, _)| name).collect();
        names.sort_by_key(|name| text.find(&format!("\"{name}\":")));
        names
    });
    kinds.into_iter().zip(fields).collect()
}

#[test]
fn servers_of_the_examples_say_what_this_crate_says() {
    let written = written();
    let mut seen = BTreeSet::new();
    for message in pushes() {
        let kind = message["type"].as_str().unwrap().replace("user_left", "user_joined");
        let Some((kind, known)) = written.iter().find(|(known, _)| *known == kind) else {
            for field in ["room", "from", "seq", "timestamp"] {
                assert!(message.contains_key(field), "{field}: {message:?}");
            }
            continue;
        };
        seen.insert(*kind);
        for name in message.keys() {
            assert!(known.contains(name), "{name} is no field of {kind}");
        }
    }
    let all: BTreeSet<_> = written.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(seen, all);
}

/// Every field that this crate writes is named on the page, in the row of its type.
#[test]
fn the_page_names_every_field() {
    for (kind, fields) in written() {
        let row = format!("| `{kind}`");
        let rows = PAGE.lines().filter(|line| line.starts_with(&row));
        let mut text: String = rows.collect();
        if kind == "connected" {
            let section = PAGE.split("### 2.1").nth(1).unwrap();
            text.push_str(section.split("### 2.2").next().unwrap());
        }
        for field in fields.iter().filter(|field| *field != "type") {
            assert!(
                text.contains(&format!("`{field}`")) || text.contains(&format!("`{field}.")),
                "{kind}: {field}"
            );
        }
    }
}

#[test]
fn the_table_of_errors_is_the_table_of_errors() {
    let rows = PAGE.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split(" | ").collect();
        let [code, text, temporary, status, ..] = cells[..] else { return None };
        let status = status.parse::<u16>().ok()?;
        Some((code.strip_suffix('`')?, text, temporary == "yes", status))
    });
    let known = Code::all()
        .map(|code| (code.name(), code.text(), code.is_temporary(), code.status()))
        .collect::<Vec<_>>();
    assert_eq!(rows.collect::<Vec<_>>(), known);
}
