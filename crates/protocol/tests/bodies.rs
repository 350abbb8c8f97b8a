//! A stored message is, byte by byte, the message that was live.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use proptest::prelude::*;
use throng_protocol::{Body, Command, Publish, Timestamp, parse, push};

fn publish(text: &str) -> Publish<'_> {
    match parse(text.as_bytes()) {
        Ok(Command::Publish(publish)) => publish,
        other => panic!("not an application message: {other:?}"),
    }
}

fn live(text: &str, stamp: &push::Stamp<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    push::message(&mut out, stamp, &publish(text));
    out
}

#[test]
fn the_text_is_the_message_without_its_stamp() {
    let body = Body::new("a:1", "u_1", &publish(r#"{"n": [1, 2] ,"type":"t\"x","room":"z"}"#));
    let text = r#"{"type":"t\"x","room":"a:1","from":"u_1","n":[1, 2]}"#;
    assert_eq!(std::str::from_utf8(body.text()).unwrap(), text);
    assert_eq!(body.len(), text.len());
    assert_eq!(&text[body.head() as usize..], r#","n":[1, 2]}"#);
    assert_eq!(format!("{body:?}"), format!("Body {{ text: {text:?}, head: {} }}", body.head()));
}

#[test]
fn a_message_without_payload() {
    let body = Body::new("a", "u", &publish(r#"{"type":"t"}"#));
    let mut out = b"before ".to_vec();
    body.write(&mut out, Some(1), Timestamp(2));
    let text = r#"before {"type":"t","room":"a","from":"u","seq":1,"timestamp":2}"#;
    assert_eq!(String::from_utf8(out).unwrap(), text);
}

#[test]
fn a_message_of_a_volatile_room_has_no_seq() {
    let stamp = push::Stamp { room: "a", from: "u", seq: None, timestamp: Timestamp(2) };
    let text = r#"{"type":"t","room":"a","from":"u","timestamp":2,"x":1}"#;
    assert_eq!(live(r#"{"type":"t","x":1}"#, &stamp), text.as_bytes());
    let mut out = Vec::new();
    Body::new("a", "u", &publish(r#"{"type":"t","x":1}"#)).write(&mut out, None, Timestamp(2));
    assert_eq!(out, text.as_bytes());
}

#[test]
fn only_what_can_have_been_one_becomes_one() {
    let body = Body::new("a", "u", &publish(r#"{"type":"t","x":{"y":"z"}}"#));
    let (text, head) = (body.text(), body.head());
    for at in 0..=text.len() as u32 + 1 {
        let Some(made) = Body::from_parts(text.into(), at) else { continue };
        // Between fields, at any depth: `write` cannot make a text of this that is not JSON.
        let mut out = Vec::new();
        made.write(&mut out, Some(1), Timestamp(2));
        assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "{at}");
    }
    assert_eq!(Body::from_parts(text.into(), head), Some(body.clone()));
    for (text, head) in [
        ("", 0),
        ("", 1),
        ("{}", 1),
        ("{}", 2),
        (r#"{"type":"t"}"#, 0),
        (r#"{"type":"t"}"#, 13),
        (r#"{"type":"t"}"#, u32::MAX),
        (r#"{"type":"t","x":1"#, 11),
        (r#"["type","t"]"#, 11),
    ] {
        assert_eq!(Body::from_parts(text.as_bytes().into(), head), None, "{text} {head}");
    }
    assert!(Body::from_parts((*br#"{"type":"t"}"#).into(), 11).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bodies_are_spliced_to_the_live_message(
        kind in "[a-z\"\\\\é]{1,16}x",
        room in "[A-Za-z0-9_.:@/-]{1,128}",
        from in "[A-Za-z0-9_.:@/-]{1,127}",
        payload in prop::collection::btree_map("[f-z]{1,3}|\"|\\\\|é", any::<(i64, String)>(), 0..24),
        seq: Option<u64>,
        timestamp: u64,
    ) {
        let mut sent = serde_json::json!({ "type": kind });
        for (name, value) in payload {
            if !["type", "room", "to", "ref", "seq"].contains(&&*name) {
                sent[name] = serde_json::json!(value);
            }
        }
        let text = sent.to_string();
        let timestamp = Timestamp(timestamp);
        let stamp = push::Stamp { room: &room, from: &from, seq, timestamp };
        let live = live(&text, &stamp);

        let body = Body::new(&room, &from, &publish(&text));
        let mut out = Vec::new();
        body.write(&mut out, seq, timestamp);
        prop_assert_eq!(&out, &live);
        prop_assert!(live.len() <= body.len() + 60);

        let stored = Body::from_parts(body.text().into(), body.head()).unwrap();
        prop_assert_eq!(&stored, &body);
        let object: serde_json::Map<_, _> = serde_json::from_slice(body.text()).unwrap();
        prop_assert!(!object.contains_key("seq") && !object.contains_key("timestamp"));
    }
}
