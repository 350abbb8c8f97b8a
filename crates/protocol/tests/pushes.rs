//! What the server says, byte by byte (protocol page §2.1, §2.3).

#![allow(clippy::unwrap_used)] // a test

use throng_protocol::{Code, Fault, Timestamp, push};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before ".to_vec();
    write(&mut out);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_prefix("before ").expect("appends");
    let value: serde_json::Value = serde_json::from_str(text).expect("is JSON");
    assert!(value["type"].is_string());
    text.to_owned()
}

const NOW: Timestamp = Timestamp(1_763_629_000_123);

#[test]
fn connected() {
    let plain = push::Connected {
        user_id: "u_7f3kq2",
        session_id: "s_1",
        resume: None,
        info: Some(r#"{"name":"Craig"}"#),
        user_count: 3,
        room: Some("lobby"),
        heartbeat: 25_000,
        timestamp: NOW,
        max_payload: 65_536,
    };
    assert_eq!(
        written(|out| push::connected(out, &plain)),
        r#"{"type":"connected","userId":"u_7f3kq2","sessionId":"s_1","info":{"name":"Craig"},"userCount":3,"room":"lobby","heartbeat":25000,"timestamp":1763629000123,"limits":{"maxPayload":65536}}"#
    );
    let full = push::Connected { resume: Some("tok\"en"), info: None, room: None, ..plain };
    assert_eq!(
        written(|out| push::connected(out, &full)),
        r#"{"type":"connected","userId":"u_7f3kq2","sessionId":"s_1","resume":"tok\"en","userCount":3,"heartbeat":25000,"timestamp":1763629000123,"limits":{"maxPayload":65536}}"#
    );
}

#[test]
fn passages() {
    let craig = push::Passage {
        room: "lobby",
        user_id: "u_1",
        info: Some(r#"{"name":"Craig"}"#),
        user_count: 2,
        timestamp: NOW,
    };
    assert_eq!(
        written(|out| push::user_joined(out, &craig)),
        r#"{"type":"user_joined","room":"lobby","userId":"u_1","info":{"name":"Craig"},"userCount":2,"timestamp":1763629000123}"#
    );
    assert_eq!(
        written(|out| push::user_left(out, &push::Passage { info: None, ..craig })),
        r#"{"type":"user_left","room":"lobby","userId":"u_1","userCount":2,"timestamp":1763629000123}"#
    );
}

#[test]
fn replies() {
    assert_eq!(
        written(|out| push::ack(out, 5, "lobby", u64::MAX, NOW)),
        r#"{"type":"ack","ref":5,"room":"lobby","seq":18446744073709551615,"timestamp":1763629000123}"#
    );
    assert_eq!(
        written(|out| push::pong(out, None, None, Timestamp(0))),
        r#"{"type":"pong","timestamp":0}"#
    );
    assert_eq!(
        written(|out| push::pong(out, Some(1), Some("1.50"), NOW)),
        r#"{"type":"pong","ref":1,"sent":1.50,"timestamp":1763629000123}"#
    );
}

#[test]
fn presence() {
    let users = [("u_1", Some(r#"{"name":"Craig"}"#)), ("u_2", None)];
    assert_eq!(
        written(|out| push::presence(out, Some(4), "lobby", 2, Some(users))),
        r#"{"type":"presence","ref":4,"room":"lobby","userCount":2,"users":[{"userId":"u_1","info":{"name":"Craig"}},{"userId":"u_2"}]}"#
    );
    assert_eq!(
        written(|out| push::presence(out, None, "lobby", 0, Some([]))),
        r#"{"type":"presence","room":"lobby","userCount":0,"users":[]}"#
    );
    assert_eq!(
        written(|out| push::presence(out, None, "lobby", 5000, None::<[_; 0]>)),
        r#"{"type":"presence","room":"lobby","userCount":5000}"#
    );
}

#[test]
fn errors() {
    assert_eq!(
        written(|out| push::error(out, &Fault::new(Code::BadJson), None, None)),
        r#"{"type":"error","code":"bad_json","message":"The message is not valid JSON.","temporary":false}"#
    );
    let fault = Fault::new(Code::RateLimited).with_message("Wait\n\"").with_reference(Some(2));
    assert_eq!(
        written(|out| push::error(out, &fault, Some("lobby"), Some(1500))),
        r#"{"type":"error","ref":2,"room":"lobby","code":"rate_limited","message":"Wait\n\"","temporary":true,"retryAfter":1500}"#
    );
}

#[test]
fn every_code_can_be_sent() {
    for code in Code::all() {
        let text = written(|out| push::error(out, &Fault::new(code), None, None));
        assert!(text.contains(&format!(r#""code":"{}""#, code.name())), "{text}");
    }
}
