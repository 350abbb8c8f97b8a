//! `join`, `leave`, `history`, `resume`: what they may say, and every way they may not
//! (protocol page §2.2).

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use proptest::prelude::*;
use throng_protocol::{
    Code, Command, Fault, History, Join, MAX_EPOCH, MAX_PAGE, MAX_RETURNS, MAX_REWIND, Resume,
    Return, Since, parse,
};

/// The largest integer the protocol takes.
const MAX: u64 = (1 << 53) - 1;

fn join(fields: &str) -> Join<'static> {
    let text = format!(r#"{{"type":"join"{fields}}}"#).leak();
    match parse(text.as_bytes()) {
        Ok(Command::Join(join)) => join,
        other => panic!("{text} → {other:?}"),
    }
}

fn history(fields: &str) -> History<'static> {
    let text = format!(r#"{{"type":"history"{fields}}}"#).leak();
    match parse(text.as_bytes()) {
        Ok(Command::History(history)) => history,
        other => panic!("{text} → {other:?}"),
    }
}

fn resume(fields: &str) -> Resume<'static> {
    let text = format!(r#"{{"type":"resume"{fields}}}"#).leak();
    match parse(text.as_bytes()) {
        Ok(Command::Resume(resume)) => resume,
        other => panic!("{text} → {other:?}"),
    }
}

fn fault(text: &str) -> Fault {
    match parse(text.as_bytes()) {
        Err(fault) => fault,
        Ok(command) => panic!("accepted: {text} → {command:?}"),
    }
}

/// The message is refused as `bad_message`, its `ref` is told, and so is what would be right.
fn refused(kind: &str, fields: &str, told: &str) {
    let fault = fault(&format!(r#"{{"type":"{kind}","ref":7{fields}}}"#));
    assert_eq!((fault.code, fault.reference), (Code::BadMessage, Some(7)), "{fields}: {fault}");
    assert!(fault.message.contains(told), "{kind} {fields}: {fault}");
}

/// JSON that is no integer in a field that wants one.
const NOT_INTEGERS: [&str; 16] = [
    "-1",
    "-0",
    "1.0",
    "1.5",
    "1e3",
    "1E3",
    "0e0",
    "9007199254740992",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1e999",
    "\"1\"",
    "null",
    "true",
    "[]",
    "{}",
];

#[test]
fn a_join_and_its_defaults() {
    let plain = join(r#","room":"chat:1""#);
    let expected = Join {
        room: "chat:1".into(),
        since: None,
        rewind: None,
        echo: true,
        presence: false,
        reference: None,
    };
    assert_eq!(plain, expected);

    let full = join(
        r#","presence" : true , "echo":false,"rewind":1000,"x":{"a":[]},"ref":3,"room":"@u_1","since" : { "seq" : 0 , "epoch":"0k3j5h2g1f8d7" } "#,
    );
    let expected = Join {
        room: "@u_1".into(),
        since: Some(Since { epoch: "0k3j5h2g1f8d7".into(), seq: 0 }),
        rewind: Some(MAX_REWIND),
        echo: false,
        presence: true,
        reference: Some(3),
    };
    assert_eq!(full, expected);

    let again = join(r#","room":"a","rewind":1,"echo":true,"presence":false"#);
    assert_eq!((again.rewind, again.echo, again.presence), (Some(1), true, false));
}

#[test]
fn a_join_needs_a_room() {
    refused("join", "", "`room`");
    refused("join", r#","room":null"#, "`room`");
    refused("join", r#","room":"a b""#, "`room`");
    refused("leave", "", "`room`");
    refused("leave", r#","room":["a"]"#, "`room`");
}

#[test]
fn what_a_join_may_not_say() {
    let refused = |field: &str, told| refused("join", &format!(r#","room":"a",{field}"#), told);
    for bad in NOT_INTEGERS {
        refused(&format!(r#""rewind":{bad}"#), "from 1 to 1000");
        refused(&format!(r#""since":{{"epoch":"e","seq":{bad}}}"#), "from 0 to 2^53-1");
    }
    refused(r#""rewind":0"#, "from 1 to 1000");
    refused(r#""rewind":1001"#, "from 1 to 1000");
    for bad in ["1", "0", "null", "\"true\"", "[]", "{}"] {
        refused(&format!(r#""echo":{bad}"#), "`echo` must be true or false");
        refused(&format!(r#""presence":{bad}"#), "`presence` must be true or false");
    }
    for bad in ["null", "1", "\"e.1\"", "[]", r#"["e",1]"#, "true", "{}"] {
        refused(&format!(r#""since":{bad}"#), "an object with `epoch` and `seq`");
    }
    refused(r#""since":{"epoch":"e"}"#, "an object with `epoch` and `seq`");
    refused(r#""since":{"seq":1}"#, "an object with `epoch` and `seq`");
    for bad in ["null", "1", "[\"e\"]", "\"\""] {
        refused(&format!(r#""since":{{"epoch":{bad},"seq":1}}"#), "a string of 1 to 64 bytes");
    }
    refused(r#""echo":true,"echo":true"#, "same name");
}

#[test]
fn fields_of_since() {
    let since = |text: &str| join(&format!(r#","room":"a","since":{text}"#)).since.unwrap();
    assert_eq!(since(&format!(r#"{{"epoch":"e","seq":{MAX}}}"#)).seq, MAX);
    // Opaque: what the server never made is only another epoch. Escapes mean what they say.
    assert_eq!(since(r#"{"epoch":" é\"\ud83d\ude00","s\u0065q":1}"#).epoch, " é\"\u{1f600}");
    let longest = "x".repeat(MAX_EPOCH);
    assert_eq!(since(&format!(r#"{{"epoch":"{longest}","seq":1}}"#)).epoch, longest);
    refused(
        "join",
        &format!(r#","room":"a","since":{{"epoch":"{longest}x","seq":1}}"#),
        "1 to 64 bytes",
    );
    // What it does not know it ignores, up to a number.
    assert_eq!(since(r#"{"timestamp":{"epoch":[]},"epoch":"e","seq":1,"from":null}"#).seq, 1);
    let many: String = (0..100_000).map(|n| format!(r#","{n}":0"#)).collect();
    refused("join", &format!(r#","room":"a","since":{{"epoch":"e"{many}}}"#), "too many fields");
}

#[test]
fn two_fields_of_one_name_inside_of_an_object() {
    for fields in [
        r#""epoch":"e","epoch":"e","seq":1"#,
        r#""epoch":"e","seq":1,"seq":1"#,
        r#""epoch":"e","seq":1,"s\u0065q":1"#,
        r#""epoch":"e","seq":1,"x":1,"y":2,"x":3"#,
    ] {
        refused("join", &format!(r#","room":"a","since":{{{fields}}}"#), "same name");
        refused("resume", &format!(r#","rooms":{{"a":{{{fields}}}}}"#), "same name");
    }
    refused("resume", r#","rooms":{"a":{"echo":true,"echo":true}}"#, "same name");
    refused("resume", r#","rooms":{},"rooms":{}"#, "same name");
}

#[test]
fn a_leave() {
    let Ok(Command::Leave(leave)) = parse(br#"{"type":"leave","room":"a","ref":2,"echo":9}"#)
    else {
        panic!("not a leave");
    };
    assert_eq!((&*leave.room, leave.reference), ("a", Some(2)));
}

#[test]
fn a_page_of_history() {
    let newest = history("");
    let expected =
        History { room: None, before: None, after: None, epoch: None, limit: 50, reference: None };
    assert_eq!(newest, expected);

    let page = history(r#","room":"a","before":9007199254740991,"epoch":"e","limit":200,"ref":1"#);
    let expected = History {
        room: Some("a".into()),
        before: Some(MAX),
        after: None,
        epoch: Some("e".into()),
        limit: MAX_PAGE,
        reference: Some(1),
    };
    assert_eq!(page, expected);
    let page = history(r#","after":0,"limit":1"#);
    assert_eq!((page.after, page.limit), (Some(0), 1));
}

#[test]
fn what_a_history_may_not_say() {
    for bad in NOT_INTEGERS {
        refused("history", &format!(r#","before":{bad}"#), "`before` must be an integer");
        refused("history", &format!(r#","after":{bad}"#), "`after` must be an integer");
        refused("history", &format!(r#","limit":{bad}"#), "from 1 to 200");
    }
    refused("history", r#","limit":0"#, "from 1 to 200");
    refused("history", r#","limit":201"#, "from 1 to 200");
    refused("history", r#","before":1,"after":1"#, "not both");
    refused("history", r#","epoch":7"#, "a string of 1 to 64 bytes");
    refused("history", r#","epoch":"""#, "a string of 1 to 64 bytes");
    refused("history", r#","room":"""#, "`room`");
}

#[test]
fn a_resume() {
    assert_eq!(resume(r#","rooms":{}"#), Resume { rooms: vec![], reference: None });
    let resume = resume(
        r#","ref":1,"rooms":{"lobby":{"epoch":"e","seq":41,"presenceSeq":7,"echo":false},"@u_1": {} ,"ch\u0061t":{"x":1}}"#,
    );
    let expected = [
        Return {
            room: "lobby".into(),
            since: Some(Since { epoch: "e".into(), seq: 41 }),
            presence_seq: Some(7),
            echo: false,
        },
        Return { room: "@u_1".into(), since: None, presence_seq: None, echo: true },
        Return { room: "chat".into(), since: None, presence_seq: None, echo: true },
    ];
    assert_eq!((&resume.rooms[..], resume.reference), (&expected[..], Some(1)));
}

#[test]
fn what_a_resume_may_not_say() {
    refused("resume", "", "`rooms` must be an object");
    for bad in ["null", "[]", r#"["lobby"]"#, "\"lobby\"", "1", "true"] {
        refused("resume", &format!(r#","rooms":{bad}"#), "`rooms` must be an object");
        refused("resume", &format!(r#","rooms":{{"a":{bad}}}"#), "must be an object");
    }
    for bad in ["", " ", "a b", "é", "a\\u0000", "a\\n", "\\ud83d\\ude00", "{}", &"x".repeat(129)]
    {
        refused("resume", &format!(r#","rooms":{{"ok":{{}},"{bad}":{{}}}}"#), "Each name");
    }
    for bad in NOT_INTEGERS {
        refused(
            "resume",
            &format!(r#","rooms":{{"a":{{"epoch":"e","seq":{bad}}}}}"#),
            "`seq` must be an integer",
        );
        refused(
            "resume",
            &format!(r#","rooms":{{"a":{{"presenceSeq":{bad}}}}}"#),
            "`presenceSeq` must be an integer",
        );
    }
    refused("resume", r#","rooms":{"a":{"epoch":"e"}}"#, "is missing");
    refused("resume", r#","rooms":{"a":{"seq":1}}"#, "is missing");
    refused("resume", r#","rooms":{"a":{"epoch":1,"seq":1}}"#, "1 to 64 bytes");
    refused("resume", r#","rooms":{"a":{"echo":1}}"#, "`echo` must be true or false");
    refused("resume", r#","rooms":{"a":{},"b":{},"a":{}}"#, "names a room twice");
    refused("resume", r#","rooms":{"a":{},"\u0061":{}}"#, "names a room twice");
}

#[test]
fn a_resume_names_so_many_rooms_and_none_twice() {
    let rooms = |count: usize| {
        let rooms: Vec<_> = (0..count).map(|n| format!(r#""r{n}":{{}}"#)).collect();
        rooms.join(",")
    };
    let most = rooms(MAX_RETURNS);
    let resume = resume(&format!(r#","rooms":{{{most}}}"#));
    assert_eq!(resume.rooms.len(), MAX_RETURNS);
    assert_eq!(resume.rooms[999].room, "r999");
    refused("resume", &format!(r#","rooms":{{{}}}"#, rooms(MAX_RETURNS + 1)), "at most 1000");
    refused("resume", &format!(r#","rooms":{{{}}}"#, rooms(100_000)), "at most 1000");
    let twice = most.replace("\"r999\"", "\"r0\"");
    refused("resume", &format!(r#","rooms":{{{twice}}}"#), "names a room twice");
}

#[test]
fn lone_surrogates_inside_of_an_object() {
    for text in [
        r#"{"type":"join","ref":7,"room":"a","since":{"epoch":"\ud800","seq":1}}"#,
        r#"{"type":"join","ref":7,"room":"a","since":{"epoch":"e","seq":1,"\udc00":1}}"#,
        r#"{"type":"history","ref":7,"epoch":"\udfff"}"#,
        r#"{"type":"resume","ref":7,"rooms":{"\ud800":{}}}"#,
        r#"{"type":"resume","ref":7,"rooms":{"a":{"epoch":"\ud800x","seq":1}}}"#,
        r#"{"type":"resume","ref":7,"rooms":{"a":{"\ud800":1}}}"#,
        r#"{"type":"resume","ref":7,"rooms":{"a":{"x":["\udbff"]}}}"#,
    ] {
        let fault = fault(text);
        assert_eq!((fault.code, fault.reference), (Code::BadJson, Some(7)), "{text}");
    }
}

#[test]
fn nesting_is_bounded_inside_of_an_object() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let since = |depth| {
        let x = nested(depth);
        format!(r#","room":"a","since":{{"epoch":"e","seq":1,"x":{x}}}"#)
    };
    assert!(join(&since(62)).since.is_some());
    refused("join", &since(63), "nested too deeply");
    refused("join", &since(1_000_000), "nested too deeply");
    let objects = format!("{}1{}", r#"{"a":"#.repeat(200_000), "}".repeat(200_000));
    refused("resume", &format!(r#","rooms":{objects}"#), "nested too deeply");
    refused("resume", &format!(r#","rooms":{{"a":{{"x":{}}}}}"#, nested(100_000)), "too deeply");
}

#[test]
fn stamps_are_the_servers_in_these_too() {
    for kind in ["join", "leave", "history", "resume"] {
        for field in ["from", "seq", "timestamp"] {
            let text = format!(r#"{{"type":"{kind}","room":"a","rooms":{{}},"{field}":1}}"#);
            assert_eq!(fault(&text).code, Code::ReservedField, "{text}");
        }
    }
}

#[test]
fn every_request_tells_its_ref() {
    for text in [
        r#"{"type":"join","room":"a","ref":9}"#,
        r#"{"type":"leave","room":"a","ref":9}"#,
        r#"{"type":"history","ref":9}"#,
        r#"{"type":"resume","rooms":{},"ref":9}"#,
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap().reference(), Some(9), "{text}");
    }
}

/// Well-formed requests that use every field, to be damaged.
const SEEDS: [&str; 5] = [
    r#"{"type":"join","room":"chat:1","since":{"epoch":"0k3j5h2g1f8d7","seq":41},"rewind":10,"echo":false,"presence":true,"ref":1}"#,
    r#"{"type":"leave","room":"@u_1","ref":2}"#,
    r#"{"type":"history","room":"a","before":77,"epoch":"\u0061\ud83d\ude00","limit":20,"ref":3}"#,
    r#"{"type":"history","after":0,"x":[[{"seq":1}],{}]}"#,
    r#"{"type":"resume","rooms":{"a":{"epoch":"e","seq":1,"presenceSeq":2,"echo":true},"b":{},"c\u002f":{"x":[1.5e3]}},"ref":4}"#,
];

const PIECES: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\ud800",
    "\\udc00",
    "-",
    ".",
    "e9",
    "0",
    "1",
    "null",
    "true",
    "\"seq\":1",
    "\"epoch\":\"e\"",
    "\"a\":{}",
    ",",
    " ",
    "é",
    "\u{0}",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// What a client means arrives, in whatever order and however it is spaced.
    #[test]
    fn joins_survive(
        room in "[A-Za-z0-9_.:@/-]{1,128}",
        since in prop::option::of((".{1,16}", 0..=MAX)),
        rewind in prop::option::of(1..=MAX_REWIND),
        echo in any::<Option<bool>>(),
        presence in any::<Option<bool>>(),
        reference in prop::option::of(1..=MAX),
        pretty: bool,
    ) {
        let mut sent = serde_json::json!({ "type": "join", "room": room });
        if let Some((epoch, seq)) = &since {
            sent["since"] = serde_json::json!({ "epoch": epoch, "seq": seq });
        }
        for (name, value) in [
            ("rewind", rewind.map(Into::into)),
            ("echo", echo.map(Into::into)),
            ("presence", presence.map(Into::into)),
            ("ref", reference.map(serde_json::Value::from)),
        ] {
            if let Some(value) = value {
                sent[name] = value;
            }
        }
        let text = if pretty { format!("{sent:#}") } else { sent.to_string() };
        let expected = Join {
            room: room.into(),
            since: since.map(|(epoch, seq)| Since { epoch: epoch.into(), seq }),
            rewind,
            echo: echo.unwrap_or(true),
            presence: presence.unwrap_or(false),
            reference,
        };
        match parse(text.as_bytes()) {
            Ok(Command::Join(join)) => prop_assert_eq!(join, expected),
            other => prop_assert!(false, "{} → {:?}", text, other),
        }
    }

    /// The same of many rooms.
    #[test]
    fn resumes_survive(
        rooms in prop::collection::btree_map(
            "[A-Za-z0-9_.:@/-]{1,20}",
            (prop::option::of(("[0-9a-z]{13}", 0..=MAX)), prop::option::of(0..=MAX), any::<Option<bool>>()),
            0..40,
        ),
        reference in 1..=MAX,
    ) {
        let mut named = serde_json::Map::new();
        let mut expected = Vec::new();
        for (room, (since, presence_seq, echo)) in rooms {
            let mut entry = serde_json::Map::new();
            if let Some((epoch, seq)) = &since {
                entry.insert("epoch".into(), epoch.clone().into());
                entry.insert("seq".into(), (*seq).into());
            }
            if let Some(number) = presence_seq {
                entry.insert("presenceSeq".into(), number.into());
            }
            if let Some(echo) = echo {
                entry.insert("echo".into(), echo.into());
            }
            named.insert(room.clone(), entry.into());
            expected.push(Return {
                room: room.into(),
                since: since.map(|(epoch, seq)| Since { epoch: epoch.into(), seq }),
                presence_seq,
                echo: echo.unwrap_or(true),
            });
        }
        let text = serde_json::json!({ "type": "resume", "rooms": named, "ref": reference }).to_string();
        match parse(text.as_bytes()) {
            Ok(Command::Resume(resume)) => {
                prop_assert_eq!(resume, Resume { rooms: expected, reference: Some(reference) });
            }
            other => prop_assert!(false, "{} → {:?}", text, other),
        }
    }

    /// However a request is damaged: no panic, what is accepted is JSON within the limits, and
    /// what is called no JSON is none, to another parser.
    #[test]
    fn damaged_requests(
        seed in prop::sample::select(SEEDS.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..8_usize, prop::sample::select(PIECES.to_vec())), 1..6),
    ) {
        let mut text: Vec<char> = seed.chars().collect();
        for (index, cut, piece) in damage {
            let at = index.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        let parsed = serde_json::from_str::<serde_json::Value>(&text);
        match parse(text.as_bytes()) {
            Err(fault) if fault.code == Code::BadJson => {
                prop_assert!(parsed.is_err(), "{}", text);
            }
            Err(fault) => prop_assert!(fault.message.len() < 160, "{}", fault),
            Ok(command) => {
                if let Command::Join(Join { since: Some(since), .. }) = &command {
                    prop_assert!(since.seq <= MAX && (1..=MAX_EPOCH).contains(&since.epoch.len()));
                }
                if let Command::History(history) = &command {
                    prop_assert!((1..=MAX_PAGE).contains(&history.limit));
                    prop_assert!(history.before.is_none() || history.after.is_none());
                }
            }
        }
    }

    /// The same with bytes that need not be text.
    #[test]
    fn requests_with_damaged_bytes(
        seed in prop::sample::select(SEEDS.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = seed.as_bytes().to_vec();
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Err(fault) = parse(&bytes) && fault.code == Code::BadJson {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_err());
        }
    }
}
