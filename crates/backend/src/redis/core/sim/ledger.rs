//! What has been stored, told and promised, by everybody: the rules that hold across nodes.

use std::collections::{BTreeMap, BTreeSet};

use throng_hub::{Epoch, Timestamp};
use throng_protocol::Body;

use crate::redis::step::Name;

/// What is known of all rooms.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Which message has a number, in each epoch of each room.
    numbers: BTreeMap<(Name, u64, u64), u64>,
    /// When a number was given.
    times: BTreeMap<(Name, u64, u64), u64>,
    /// Messages that were ever stored.
    pub(super) stored: BTreeSet<(Name, u64)>,
    /// Messages that were acknowledged to whoever published them.
    pub(super) promised: BTreeSet<(Name, u64)>,
    /// Messages that went with a server.
    pub(super) lost: BTreeSet<(Name, u64)>,
    /// Casts, by whom they were got.
    casts: BTreeSet<(usize, u64)>,
}

impl Ledger {
    /// A message has, or somebody was told that it has, this number.
    pub(super) fn number(&mut self, room: &Name, epoch: Epoch, seq: u64, message: u64) {
        let key = (room.clone(), epoch.0, seq);
        let known = *self.numbers.entry(key).or_insert(message);
        assert_eq!(known, message, "one number, two messages: {room} {epoch} {seq}");
    }

    /// As [`number`](Self::number), for what a node is told: that must have been stored.
    pub(super) fn told(
        &mut self,
        room: &Name,
        epoch: Epoch,
        seq: u64,
        message: u64,
        time: Timestamp,
    ) {
        let known = self.numbers.get(&(room.clone(), epoch.0, seq)).copied();
        assert_eq!(known, Some(message), "told what was not stored: {room} {epoch} {seq}");
        let known = *self.times.entry((room.clone(), epoch.0, seq)).or_insert(time.0);
        assert_eq!(known, time.0, "one message, two times: {room} {epoch} {seq}");
    }

    /// A node got a cast.
    pub(super) fn cast(&mut self, node: usize, cast: u64) {
        assert!(self.casts.insert((node, cast)), "a cast came twice");
        assert_ne!(cast >> 32, node as u64, "a cast came back");
    }
}

/// A message of the simulation.
pub(in crate::redis::core) fn body_of(message: u64) -> Body {
    let text = format!(r#"{{"type":"m","n":{message}}}"#);
    Body::from_parts(text.into_bytes().into(), HEAD).expect("a body")
}

/// Which message that is.
pub(super) fn message_of(body: &Body) -> u64 {
    let text = std::str::from_utf8(body.text()).expect("text");
    let number = text.strip_prefix(r#"{"type":"m","n":"#).and_then(|text| text.strip_suffix('}'));
    number.and_then(|number| number.parse().ok()).expect("a message of ours")
}

const HEAD: u32 = r#"{"type":"m""#.len() as u32;
