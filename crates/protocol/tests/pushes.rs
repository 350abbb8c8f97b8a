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

const CONNECTED: push::Connected<'_> = push::Connected {
    user_id: "u_7f3kq2",
    session_id: "s_1",
    resume: None,
    resumed: false,
    resume_window: 120_000,
    expires_at: None,
    info: None,
    user_count: 3,
    room: None,
    position: None,
    heartbeat: 25_000,
    timestamp: NOW,
    max_payload: 65_536,
    max_rooms: 128,
    ref_window: 256,
};

const LIMITS: &str = r#""limits":{"maxPayload":65536,"maxRooms":128,"refWindow":256}}"#;

#[test]
fn connected_to_no_room() {
    let full = push::Connected { resume: Some("tok\"en"), resumed: true, ..CONNECTED };
    let head = r#"{"type":"connected","userId":"u_7f3kq2","sessionId":"s_1","resume":"tok\"en","resumed":true,"resumeWindow":120000,"userCount":3,"heartbeat":25000,"timestamp":1763629000123,"#;
    assert_eq!(written(|out| push::connected(out, &full)), format!("{head}{LIMITS}"));
}

#[test]
fn connected_to_a_room() {
    let position =
        push::Position { epoch: "0k3j5h2g1f8d7", seq: 41, presence_seq: None, recovered: None };
    let plain = push::Connected {
        info: Some(r#"{"name":"Craig"}"#),
        room: Some("lobby"),
        position: Some(position),
        ..CONNECTED
    };
    let head = r#"{"type":"connected","userId":"u_7f3kq2","sessionId":"s_1","resumed":false,"resumeWindow":120000,"info":{"name":"Craig"},"userCount":3,"room":"lobby","epoch":"0k3j5h2g1f8d7","seq":41,"heartbeat":25000,"timestamp":1763629000123,"#;
    assert_eq!(written(|out| push::connected(out, &plain)), format!("{head}{LIMITS}"));

    let position = push::Position { presence_seq: Some(9), recovered: Some(false), ..position };
    let back = push::Connected { position: Some(position), ..plain };
    let head = r#"{"type":"connected","userId":"u_7f3kq2","sessionId":"s_1","resumed":false,"resumeWindow":120000,"info":{"name":"Craig"},"userCount":3,"room":"lobby","epoch":"0k3j5h2g1f8d7","seq":41,"recovered":false,"presenceSeq":9,"heartbeat":25000,"timestamp":1763629000123,"#;
    assert_eq!(written(|out| push::connected(out, &back)), format!("{head}{LIMITS}"));
}

#[test]
fn passages() {
    let craig = push::Passage {
        room: "lobby",
        user_id: "u_1",
        info: Some(r#"{"name":"Craig"}"#),
        user_count: 2,
        presence_seq: 17,
        timestamp: NOW,
    };
    assert_eq!(
        written(|out| push::user_joined(out, &craig)),
        r#"{"type":"user_joined","room":"lobby","userId":"u_1","info":{"name":"Craig"},"userCount":2,"presenceSeq":17,"timestamp":1763629000123}"#
    );
    assert_eq!(
        written(|out| push::user_left(out, &push::Passage { info: None, ..craig })),
        r#"{"type":"user_left","room":"lobby","userId":"u_1","userCount":2,"presenceSeq":17,"timestamp":1763629000123}"#
    );
}

#[test]
fn acks() {
    let ack = push::Ack {
        reference: 5,
        room: "lobby",
        seq: Some(u64::MAX),
        timestamp: NOW,
        duplicate: false,
    };
    assert_eq!(
        written(|out| push::ack(out, &ack)),
        r#"{"type":"ack","ref":5,"room":"lobby","seq":18446744073709551615,"timestamp":1763629000123}"#
    );
    assert_eq!(
        written(|out| push::ack(out, &push::Ack { seq: Some(7), duplicate: true, ..ack })),
        r#"{"type":"ack","ref":5,"room":"lobby","seq":7,"timestamp":1763629000123,"duplicate":true}"#
    );
    assert_eq!(
        written(|out| push::ack(out, &push::Ack { seq: None, ..ack })),
        r#"{"type":"ack","ref":5,"room":"lobby","timestamp":1763629000123}"#
    );
}

#[test]
fn pongs() {
    assert_eq!(
        written(|out| push::pong(out, None, None, Timestamp(0))),
        r#"{"type":"pong","timestamp":0}"#
    );
    assert_eq!(
        written(|out| push::pong(out, Some(1), Some("1.50"), NOW)),
        r#"{"type":"pong","ref":1,"sent":1.50,"timestamp":1763629000123}"#
    );
}

const USERS: [(&str, Option<&str>); 2] = [("u_1", Some(r#"{"name":"Craig"}"#)), ("u_2", None)];
const UNLISTED: Option<[(&str, Option<&str>); 0]> = None;

#[test]
fn joined() {
    let joined = push::Joined {
        reference: Some(1),
        room: "chat:1",
        epoch: "0k3j5h2g1f8d7",
        seq: 0,
        recovered: true,
        user_count: 2,
        presence_seq: Some(3),
    };
    assert_eq!(
        written(|out| push::joined(out, &joined, Some(USERS))),
        r#"{"type":"joined","ref":1,"room":"chat:1","epoch":"0k3j5h2g1f8d7","seq":0,"recovered":true,"userCount":2,"presenceSeq":3,"users":[{"userId":"u_1","info":{"name":"Craig"}},{"userId":"u_2"}]}"#
    );
    let unasked = push::Joined {
        reference: None,
        room: "@u_1",
        recovered: false,
        presence_seq: None,
        ..joined
    };
    assert_eq!(
        written(|out| push::joined(out, &unasked, UNLISTED)),
        r#"{"type":"joined","room":"@u_1","epoch":"0k3j5h2g1f8d7","seq":0,"recovered":false,"userCount":2}"#
    );
}

#[test]
fn left() {
    assert_eq!(
        written(|out| push::left(out, Some(2), "lobby")),
        r#"{"type":"left","ref":2,"room":"lobby"}"#
    );
    assert_eq!(written(|out| push::left(out, None, "lobby")), r#"{"type":"left","room":"lobby"}"#);
}

#[test]
fn history() {
    let messages = [r#"{"type":"a","seq":1}"#, r#"{"type":"b","seq":2}"#];
    assert_eq!(
        written(|out| push::history(out, Some(3), "lobby", "e", messages, true)),
        r#"{"type":"history","ref":3,"room":"lobby","epoch":"e","messages":[{"type":"a","seq":1},{"type":"b","seq":2}],"more":true}"#
    );
    assert_eq!(
        written(|out| push::history(out, None, "lobby", "e", [b""; 0], false)),
        r#"{"type":"history","room":"lobby","epoch":"e","messages":[],"more":false}"#
    );
}

#[test]
fn resumed() {
    let here =
        push::Resumed { recovered: true, epoch: "e", seq: 9, user_count: 2, presence_seq: Some(4) };
    let quiet = push::Resumed { recovered: false, presence_seq: None, ..here };
    let rooms = [("a", Ok(here)), ("b:1", Err(Code::TooManyRooms)), ("@u_1", Ok(quiet))];
    assert_eq!(
        written(|out| push::resumed(out, Some(1), rooms)),
        r#"{"type":"resumed","ref":1,"rooms":{"a":{"recovered":true,"epoch":"e","seq":9,"userCount":2,"presenceSeq":4},"b:1":{"error":"too_many_rooms"},"@u_1":{"recovered":false,"epoch":"e","seq":9,"userCount":2}}}"#
    );
    assert_eq!(written(|out| push::resumed(out, None, [])), r#"{"type":"resumed","rooms":{}}"#);
}

#[test]
fn presence() {
    assert_eq!(
        written(|out| push::presence(out, Some(4), "lobby", 2, Some(8), Some(USERS))),
        r#"{"type":"presence","ref":4,"room":"lobby","userCount":2,"presenceSeq":8,"users":[{"userId":"u_1","info":{"name":"Craig"}},{"userId":"u_2"}]}"#
    );
    assert_eq!(
        written(|out| push::presence(out, None, "lobby", 0, None, Some([]))),
        r#"{"type":"presence","room":"lobby","userCount":0,"users":[]}"#
    );
    assert_eq!(
        written(|out| push::presence(out, None, "lobby", 5000, Some(1), UNLISTED)),
        r#"{"type":"presence","room":"lobby","userCount":5000,"presenceSeq":1}"#
    );
}

#[test]
fn reconnect() {
    assert_eq!(written(|out| push::reconnect(out, 1500)), r#"{"type":"reconnect","after":1500}"#);
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
