//! What the tests of rooms have in common: backends under the test's control, and short ways to say
//! who, what and where.

#![allow(dead_code, unused_imports)] // not every test uses everything

mod memory;
mod slow;

use std::sync::Arc;

use serde_json::Value;
use throng_hub::{
    Asker, Author, Hub, Identity, Keep, Order, Pattern, Published, Rule, Rules, Timestamp,
};
use throng_protocol::{Command, Fault, Publish, parse};
use throng_wire::{OpCode, Prepared};

pub(crate) use memory::Memory;
pub(crate) use slow::{Answer, Disk, Slow};

/// Somebody anonymous with the session `s_` and the same rest.
pub(crate) fn somebody(user_id: &str) -> Arc<Identity> {
    let session = user_id.replacen("u_", "s_", 1);
    Arc::new(Identity::anonymous(user_id, &session, None))
}

/// A hub with one rule for all rooms, kept in memory.
pub(crate) fn hub(rule: Rule) -> Hub {
    Hub::new(1, all(rule), in_memory(Memory::new(1)))
}

/// One rule for all rooms.
pub(crate) fn all(rule: Rule) -> Rules {
    Rules::new([(Pattern::new("*"), rule)])
}

/// Everything in memory.
pub(crate) fn in_memory(memory: Memory) -> Keep {
    Keep { memory: Arc::new(memory), durable: None }
}

/// A hub with one rule for all rooms, and everything on this backend.
pub(crate) fn slow_hub(rule: Rule, slow: &Arc<Slow>) -> Hub {
    let slow = Arc::clone(slow);
    Hub::new(2, all(rule), Keep { memory: slow.clone(), durable: Some(slow) })
}

/// An application message.
pub(crate) fn message(text: &str) -> Publish<'_> {
    match parse(text.as_bytes()) {
        Ok(Command::Publish(publish)) => publish,
        other => panic!("not an application message: {other:?}"),
    }
}

/// Publishes `{"type":"chat"}` in the name of a user without a session.
pub(crate) fn say(order: &mut Order<'_>, now: u64) -> Prepared {
    match order.publish(&author("u_x", ""), &message(r#"{"type":"chat"}"#), Timestamp(now)) {
        Ok(Published::Now { frame, .. }) => frame,
        other => panic!("not published: {other:?}"),
    }
}

/// Publishes with a `ref`.
pub(crate) fn say_ref(
    order: &mut Order<'_>,
    session: &str,
    reference: u64,
    now: u64,
) -> Result<Published, Fault> {
    say_ref_as(order, session, reference, Asker::NOBODY, now)
}

/// Publishes with a `ref`, for somebody who waits.
pub(crate) fn say_ref_as(
    order: &mut Order<'_>,
    session: &str,
    reference: u64,
    asker: Asker,
    now: u64,
) -> Result<Published, Fault> {
    let text = format!(r#"{{"type":"chat","ref":{reference}}}"#);
    order.publish(&Author { user_id: "u_x", session, asker }, &message(&text), Timestamp(now))
}

/// Somebody who publishes and does not wait for an answer.
pub(crate) fn author<'a>(user_id: &'a str, session: &'a str) -> Author<'a> {
    Author { user_id, session, asker: Asker::NOBODY }
}

/// The number and time of a message that was published at once.
pub(crate) fn place(published: &Published) -> (u64, u64) {
    match published {
        Published::Now { seq: Some(seq), timestamp, .. } => (*seq, timestamp.0),
        other => panic!("not published now: {other:?}"),
    }
}

/// The text of a frame.
pub(crate) fn text(frame: &Prepared) -> &str {
    assert_eq!(frame.opcode(), OpCode::Text);
    std::str::from_utf8(frame.payload()).unwrap()
}

/// The JSON of a frame.
pub(crate) fn json(frame: &Prepared) -> Value {
    serde_json::from_str(text(frame)).unwrap()
}

/// The numbers of the messages somebody who joins behind `after` is handed out at once.
pub(crate) fn replayed(order: &Order<'_>, after: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    let replay = order.replay(after, |frame| {
        seqs.push(seq_of(frame));
        true
    });
    assert_eq!(replay, throng_hub::Replay::Live);
    seqs
}

/// The number in a frame.
pub(crate) fn seq_of(frame: &[u8]) -> u64 {
    let value: Value = serde_json::from_slice(throng_hub::text_of(frame)).unwrap();
    value["seq"].as_u64().unwrap()
}

/// What a room says of its presence.
pub(crate) fn presence_of(order: &Order<'_>) -> Value {
    let mut out = Vec::new();
    order.presence(&mut out, None).unwrap();
    serde_json::from_slice(&out).unwrap()
}

pub(crate) fn workers(order: &Order<'_>) -> Vec<usize> {
    order.workers().collect()
}
