//! Messages that can be recognised: an id, and a payload that follows from it.

use serde_json::{Map, Value, json};

use crate::dice::Dice;

/// A publish, from the moment it is decided until it is acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) reference: u64,
    pub(super) id: String,
    /// The room as an acknowledgement names it.
    pub(super) room: String,
    /// The user it goes to, instead of the room.
    pub(super) to: Option<String>,
    /// The room need not be named: it is the one of the connection.
    pub(super) implied: bool,
}

impl Letter {
    /// The frame.
    pub(super) fn text(&self) -> String {
        let mut message = payload(&self.id);
        message.insert("type".into(), "note".into());
        message.insert("ref".into(), self.reference.into());
        match &self.to {
            Some(user) => message.insert("to".into(), user.as_str().into()),
            None if self.implied => None,
            None => message.insert("room".into(), self.room.as_str().into()),
        };
        Value::Object(message).to_string()
    }
}

/// Whether a received message has the payload that belongs to its id, and nothing else.
pub(super) fn is_intact(message: &Map<String, Value>, id: &str) -> bool {
    let payload = payload(id);
    payload.iter().all(|(key, value)| message.get(key) == Some(value))
        && message.keys().all(|key| payload.contains_key(key) || STAMPED.contains(&key.as_str()))
        && message.get("type").and_then(Value::as_str) == Some("note")
}

fn payload(id: &str) -> Map<String, Value> {
    let seed = id.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
    let mut dice = Dice::new(seed, 0);
    // Most are short; a few do not fit into one read or one TCP segment.
    let length = if dice.percent(3) { dice.below(6000) } else { dice.below(120) };
    let text: String = (0..length)
        .map(|_| dice.pick(&['a', 'B', '7', ' ', 'ß', '€', '😀', '"', '\\', '\n', '\u{7f}', '/']))
        .map(|letter| letter.copied().unwrap_or_default())
        .collect();
    let deep = json!([1, -2.5, null, true, {"x": [[], {}]}]);
    Map::from_iter([("id".into(), id.into()), ("text".into(), text.into()), ("deep".into(), deep)])
}

const STAMPED: [&str; 6] = ["type", "room", "from", "seq", "timestamp", "to"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_message_is_noticed() {
        let letter = Letter {
            reference: 3,
            id: "5-9".into(),
            room: "room-1".into(),
            to: None,
            implied: false,
        };
        let Ok(Value::Object(mut message)) = serde_json::from_str(&letter.text()) else {
            panic!("no object")
        };
        assert!(!is_intact(&message, "5-9"), "the server takes the ref out");
        message.remove("ref");
        message.insert("seq".into(), 1.into());
        assert!(is_intact(&message, "5-9"));
        assert!(!is_intact(&message, "5-8"));
        let mut other = message.clone();
        other.insert("more".into(), 1.into());
        assert!(!is_intact(&other, "5-9"));
        message.insert("text".into(), "x".into());
        assert!(!is_intact(&message, "5-9"));
    }
}
