//! What clients may send, and what they are told when they may not (protocol page §2, §4).

#![allow(clippy::unwrap_used)] // a test

use proptest::prelude::*;
use throng_protocol::{
    Code, Command, Credential, Fault, MAX_CREDENTIAL, MAX_FIELDS, Publish, Timestamp, parse, push,
};

fn publish(text: &str) -> Publish<'_> {
    match parse(text.as_bytes()) {
        Ok(Command::Publish(publish)) => publish,
        other => panic!("not an application message: {other:?}"),
    }
}

fn fault(text: impl AsRef<[u8]>) -> Fault {
    let text = text.as_ref();
    match parse(text) {
        Err(fault) => fault,
        Ok(command) => panic!("accepted: {} → {command:?}", String::from_utf8_lossy(text)),
    }
}

fn code(text: impl AsRef<[u8]>) -> Code {
    fault(text).code
}

#[test]
fn an_application_message() {
    let message = publish(
        r#" { "text" : "hi" , "ref":9007199254740991, "type":"chat", "n": [1, {"a":2}] , "room":"a:1" } "#,
    );
    assert_eq!(message.kind, "chat");
    assert_eq!(message.room.as_deref(), Some("a:1"));
    assert_eq!((message.to.as_deref(), message.reference), (None, Some(9_007_199_254_740_991)));
    let fields: Vec<_> = message.fields().collect();
    assert_eq!(fields, [(r#""text""#, r#""hi""#), (r#""n""#, r#"[1, {"a":2}]"#)]);
    assert_eq!(message.get("n"), Some(r#"[1, {"a":2}]"#));
    assert_eq!(message.get("ref"), None);
    assert_eq!(message.fields_len(), r#","text":"hi","n":[1, {"a":2}]"#.len());
}

#[test]
fn payload_is_passed_on_verbatim() {
    // Escapes, numbers no double can hold, and names with quotes stay what they were.
    let text = r#"{"type":"t","a\"b":"A\ud83d\ude00\/","huge":123456789012345678901234567890e999,"é":null}"#;
    let mut out = Vec::new();
    let stamp = push::Stamp { room: "r", from: "u", seq: Some(1), timestamp: Timestamp(2) };
    push::message(&mut out, &stamp, &publish(text));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"type":"t","room":"r","from":"u","seq":1,"timestamp":2,"a\"b":"A\ud83d\ude00\/","huge":123456789012345678901234567890e999,"é":null}"#
    );
}

#[test]
fn names_with_escapes_mean_the_same() {
    let message = publish(r#"{"t\u0079pe":"ch\u0061t","\u0072oom":"\u0061","x\u0079":1}"#);
    assert_eq!((&*message.kind, message.room.as_deref()), ("chat", Some("a")));
    assert_eq!(message.get("xy"), Some("1"));
    assert_eq!(code(r#"{"type":"chat","fr\u006fm":"x"}"#), Code::ReservedField);
    assert_eq!(code(r#"{"type":"c\u006fnnected"}"#), Code::ReservedField);
    assert_eq!(code(r#"{"type":"chat","a":1,"\u0061":2}"#), Code::BadMessage);
}

#[test]
fn ping() {
    let Ok(Command::Ping(ping)) = parse(br#"{"type":"ping","sent":1.5e3,"x":[],"ref":1}"#) else {
        panic!("not a ping");
    };
    assert_eq!((ping.sent, ping.reference), (Some("1.5e3"), Some(1)));
    assert!(
        matches!(parse(br#"{"type":"ping"}"#), Ok(Command::Ping(ping)) if ping.sent.is_none() && ping.reference.is_none())
    );
    assert_eq!(code(r#"{"type":"ping","sent":"1"}"#), Code::BadMessage);
    assert_eq!(code(r#"{"type":"ping","sent":null}"#), Code::BadMessage);
    let long = format!(r#"{{"type":"ping","sent":{}}}"#, "1".repeat(33));
    assert_eq!(code(long), Code::BadMessage);
}

#[test]
fn presence() {
    let command = parse(br#"{"type":"presence","room":"lobby","ref":3}"#).unwrap();
    assert_eq!(command.reference(), Some(3));
    let Command::Presence(presence) = command else { panic!("not presence") };
    assert_eq!(presence.room.as_deref(), Some("lobby"));
    assert_eq!(code(r#"{"type":"presence","room":7}"#), Code::BadMessage);
}

#[test]
fn not_json() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "hello",
        "{\"type\":\"chat\"",
        "{\"type\":\"chat\",}",
        "{type:\"chat\"}",
        "{'type':'chat'}",
        "{1:2}",
        "{\"type\":\"chat\"} x",
        "{\"type\":\"chat\"}{}",
        "{\"type\":\"chat\",\"a\":01}",
        "{\"type\":\"chat\",\"a\":NaN}",
        "{\"type\":\"chat\",\"a\":\"\n\"}",
        "{\"type\":\"chat\",\"a\":\"\\x\"}",
        "{\"type\":\"chat\",\"a\":[1,]}",
        "{\"type\":\"chat\" \"a\":1}",
        "[1",
        "\"abc",
        "\u{feff}{\"type\":\"chat\"}",
        "\u{a0}{\"type\":\"chat\"}",
    ] {
        assert_eq!(code(text), Code::BadJson, "{text}");
    }
    assert_eq!(code(b"{\"type\":\"chat\",\"a\":\"\xff\"}"), Code::BadJson);
}

#[test]
fn not_a_message() {
    for text in [
        "null",
        "[]",
        "[{\"type\":\"chat\"}]",
        "\"chat\"",
        "7",
        "{}",
        r#"{"text":"hi"}"#,
        r#"{"type":null}"#,
        r#"{"type":1}"#,
        r#"{"type":["chat"]}"#,
        r#"{"type":""}"#,
        r#"{"type":"a\nb"}"#,
        r#"{"type":"a\u0000"}"#,
        r#"{"type":"a\u0085"}"#,
        r#"{"type":"chat","type":"chat"}"#,
        r#"{"type":"chat","room":"a","room":"a"}"#,
        r#"{"type":"chat","ref":1,"ref":1}"#,
        r#"{"type":"chat","a":1,"a":1}"#,
        r#"{"type":"chat","room":""}"#,
        r#"{"type":"chat","room":null}"#,
        r#"{"type":"chat","room":"a b"}"#,
        r#"{"type":"chat","room":"é"}"#,
        r#"{"type":"chat","to":"a b"}"#,
        r#"{"type":"chat","to":"u_1","room":"a"}"#,
        r#"{"type":"auth"}"#,
        r#"{"type":"auth","ticket":""}"#,
        r#"{"type":"auth","ticket":1}"#,
        r#"{"type":"auth","ticket":"a","token":"b"}"#,
    ] {
        assert_eq!(code(text), Code::BadMessage, "{text}");
    }
    assert_eq!(code(format!(r#"{{"type":"{}"}}"#, "x".repeat(65))), Code::BadMessage);
    assert_eq!(publish(&format!(r#"{{"type":"{}"}}"#, "x".repeat(64))).kind.len(), 64);
    assert_eq!(code(format!(r#"{{"type":"a","room":"{}"}}"#, "x".repeat(129))), Code::BadMessage);
}

#[test]
fn auth_shows_one_credential() {
    let Ok(Command::Auth(auth)) = parse(br#"{"type":"auth","ticket":"t_1","ref":7}"#) else {
        panic!("not understood");
    };
    assert!(auth.credential == Credential::Ticket("t_1".into()) && auth.reference == Some(7));
    assert!(!format!("{auth:?}").contains("t_1"));
    let long = format!(r#"{{"type":"auth","token":"{}"}}"#, "x".repeat(MAX_CREDENTIAL + 1));
    assert_eq!(code(long), Code::BadMessage);
}

#[test]
fn only_the_server_says_these() {
    for field in ["from", "seq", "timestamp"] {
        for kind in ["chat", "ping", "presence"] {
            let text = format!(r#"{{"type":"{kind}","{field}":1,"ref":5}}"#);
            let fault = fault(&text);
            assert_eq!((fault.code, fault.reference), (Code::ReservedField, Some(5)), "{text}");
            assert!(fault.message.contains(field), "{fault}");
        }
    }
    for kind in [
        "connected",
        "joined",
        "left",
        "user_joined",
        "user_left",
        "ack",
        "resumed",
        "authed",
        "pong",
        "error",
        "reconnect",
    ] {
        assert_eq!(code(format!(r#"{{"type":"{kind}"}}"#)), Code::ReservedField, "{kind}");
    }
    // Inside of the payload they are the application's own.
    assert_eq!(publish(r#"{"type":"chat","x":{"from":1}}"#).fields().len(), 1);
}

#[test]
fn references() {
    for bad in [
        "0",
        "-1",
        "1.0",
        "1e3",
        "\"1\"",
        "null",
        "true",
        "[]",
        "9007199254740992",
        "99999999999999999999999999",
    ] {
        let fault = fault(format!(r#"{{"type":"chat","ref":{bad}}}"#));
        assert_eq!((fault.code, fault.reference), (Code::BadMessage, None), "{bad}");
    }
    assert_eq!(publish(r#"{"type":"chat","ref":1}"#).reference, Some(1));
}

#[test]
fn a_fault_names_the_ref_wherever_it_stood() {
    for (text, expected) in [
        (r#"{"type":"chat","from":"x","ref":7}"#, Code::ReservedField),
        (r#"{"ref":7,"type":"chat","from":"x"}"#, Code::ReservedField),
        (r#"{"a":1,"a":2,"ref":7,"type":"chat"}"#, Code::BadMessage),
        (r#"{"ref":7}"#, Code::BadMessage),
        (r#"{"ref":7,"type":"chat","a":"\ud800"}"#, Code::BadJson),
        (r#"{"ref":7,"type":"chat","a":tru}"#, Code::BadJson),
    ] {
        let fault = fault(text);
        assert_eq!((fault.code, fault.reference), (expected, Some(7)), "{text}");
    }
}

#[test]
fn broken_json_is_bad_json_whatever_else_is_wrong() {
    assert_eq!(code(r#"{"from":1,"type":7,"#), Code::BadJson);
}

#[test]
fn lone_surrogates() {
    for text in [
        r#"{"type":"chat","text":"\ud800"}"#,
        r#"{"type":"chat","a":[{"b":"x\udc00"}]}"#,
        r#"{"type":"chat","a":{"\udbff":1}}"#,
        r#"{"type":"chat","\ud800":1}"#,
    ] {
        assert_eq!(code(text), Code::BadJson, "{text}");
    }
    assert_eq!(code(r#"{"type":"\ud800"}"#), Code::BadMessage);
    assert_eq!(code(r#"{"type":"chat","room":"\ud800"}"#), Code::BadMessage);
}

#[test]
fn nesting_is_bounded_and_costs_no_stack() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"type":"chat","ref":1,"a":{open}{close}}}"#)
    };
    assert_eq!(publish(&nested(63)).fields().len(), 1);
    let fault = fault(nested(64));
    assert_eq!((fault.code, fault.reference), (Code::BadMessage, Some(1)));
    assert_eq!(code(nested(1_000_000)), Code::BadMessage);
    assert_eq!(code("[".repeat(1_000_000)), Code::BadJson);
    assert_eq!(code("{\"a\":".repeat(1_000_000)), Code::BadJson);
    let closed = format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(code(closed), Code::BadMessage);
}

#[test]
fn fields_are_bounded() {
    let fields = |count: usize| {
        let fields: String = (1..count).map(|n| format!(r#","f{n}":{n}"#)).collect();
        format!(r#"{{"type":"chat"{fields}}}"#)
    };
    assert_eq!(publish(&fields(MAX_FIELDS)).fields().len(), MAX_FIELDS - 1);
    assert_eq!(code(fields(MAX_FIELDS + 1)), Code::BadMessage);
    assert_eq!(code(fields(100_000)), Code::BadMessage);
}

#[test]
fn duplicates_are_found_among_many() {
    for count in [2, 15, 16, 17, 18, 40, 250] {
        for first in [0, count / 2, count - 1] {
            let mut names: Vec<_> = (0..count).map(|n| format!("f{n}")).collect();
            names.push(names[first].clone());
            let fields: String = names.iter().map(|name| format!(r#","{name}":0"#)).collect();
            let text = format!(r#"{{"type":"chat"{fields}}}"#);
            assert_eq!(code(&text), Code::BadMessage, "{text}");
            let unique = text.replacen(&format!(r#""f{first}":"#), r#""other":"#, 1);
            assert_eq!(publish(&unique).fields().len(), count + 1);
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an application sends arrives with the same meaning, and only the stamp is new.
    #[test]
    fn messages_survive(
        kind in "[a-z\"\\\\é]{1,16}x",
        payload in prop::collection::btree_map(any::<String>(), any_json(), 0..24),
        pretty: bool,
    ) {
        let mut sent: serde_json::Map<_, _> = payload.into_iter().collect();
        for name in ["type", "room", "to", "ref", "from", "seq", "timestamp"] {
            sent.remove(name);
        }
        sent.insert("type".into(), kind.into());
        let value = serde_json::Value::Object(sent.clone());
        let text = if pretty { format!("{value:#}") } else { value.to_string() };

        let message = publish(&text);
        let mut out = Vec::new();
        let stamp = push::Stamp { room: "lobby", from: "u_1", seq: Some(9), timestamp: Timestamp(8) };
        push::message(&mut out, &stamp, &message);
        prop_assert!(out.capacity() <= 192 + 2 * text.len(), "sized well");

        let received: serde_json::Map<_, _> = serde_json::from_slice(&out).unwrap();
        for (name, value) in [("room", "lobby".into()), ("from", "u_1".into()), ("seq", 9.into()), ("timestamp", 8.into())] {
            sent.insert(name.into(), value);
        }
        prop_assert_eq!(received, sent);
    }

    /// Nothing makes it panic, and what is refused for its form is not JSON to others either.
    #[test]
    fn noise(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = parse(&bytes);
        if let Err(fault) = parse(text.as_bytes()) && fault.code != Code::BadJson {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }

    /// The same with text that is nearly a message.
    #[test]
    fn almost_messages(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ":", ",", "\"", "\\", "\"type\"", "\"chat\"", "\"ref\"", "1",
                "\"room\"", "\"from\"", "\\ud800", "\\udc00", "null", " ", "\"a\":1,", "-", "é",
            ]),
            0..24,
        ),
    ) {
        let text = format!("{{\"type\":\"chat\",{}}}", pieces.concat());
        let parsed = serde_json::from_str::<serde_json::Value>(&text);
        match parse(text.as_bytes()) {
            Ok(_) => prop_assert!(parsed.is_ok()),
            Err(fault) if fault.code == Code::BadJson => prop_assert!(parsed.is_err()),
            Err(_) => {}
        }
    }
}
