//! What is said in a beat, and what comes back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::Value;
use serde::{Deserialize, Serialize};

use super::{Standing, home};

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Report {
    /// Where it can be reached, as its operator says; empty when nobody said.
    pub address: String,
    /// Which version it runs.
    pub version: String,
    /// When it was started, in milliseconds since 1970 by its own clock.
    pub started: u64,
    /// WebSocket connections and event streams.
    pub connections: u64,
    /// Connected users.
    pub users: u64,
    /// Rooms in memory.
    pub rooms: u64,
    /// The share of the time that its workers are not asleep, 0 to 1.
    pub load: f64,
    /// It refuses new connections, and sends away those it has.
    pub draining: bool,
}

/// A node that is alive, as of the last beat.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name: random, and another one after it was taken for dead.
    pub id: String,
    /// How long ago it was heard of, when this was read.
    pub last_beat: Duration,
    /// What it says of itself.
    pub report: Report,
}

/// What is known since the last beat.
#[derive(Debug, Default)]
pub(super) struct Beat {
    pub(super) nodes: Vec<NodeInfo>,
    /// Since when nodes are gone, by name, which begins with their home.
    dead: HashMap<Box<str>, Instant>,
    /// When the one buried last was buried, by the clock of Redis.
    dead_since: u64,
}

/// What a beat has brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    /// This node was taken for dead.
    pub(super) is_buried: bool,
    /// Redis knew this node by the name it beats with.
    pub(super) was_known: bool,
    /// Nodes that were not known to be dead.
    pub(super) dead: Vec<String>,
}

impl Report {
    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|_| b"{}".to_vec())
    }
}

impl Beat {
    /// Takes in an answer; nothing when it is none.
    pub(super) fn handle_answer(&mut self, answer: &Value, now: Instant) -> Option<News> {
        let Value::Array(parts) = answer else { return None };
        if let [status] = parts.as_slice() {
            return (text(status)? == "dead").then(|| News { is_buried: true, ..News::default() });
        }
        let [_, time, known, Value::Array(alive), Value::Array(dead)] = parts.as_slice() else {
            return None;
        };
        let time = number(time)?;
        let nodes = alive.chunks_exact(3).filter_map(|node| {
            let (id, beat, record) = (text(&node[0])?, number(&node[1])?, text(&node[2])?);
            Some(NodeInfo::new(id, time.saturating_sub(beat), record))
        });
        self.nodes = nodes.collect();
        self.nodes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let mut news = News { was_known: number(known)? == 1, ..News::default() };
        for dead in dead.chunks_exact(2) {
            let (id, buried) = (text(&dead[0])?, number(&dead[1])?);
            self.dead_since = self.dead_since.max(buried);
            let ago = Duration::from_millis(time.saturating_sub(buried));
            if self.bury(id, now.checked_sub(ago).unwrap_or(now)) {
                news.dead.push(id.to_owned());
            }
        }
        Some(news)
    }

    /// A node is gone. Whether that was not known.
    pub(super) fn bury(&mut self, id: &str, since: Instant) -> bool {
        self.nodes.retain(|node| node.id != id);
        if self.dead.len() >= MOST_DEAD {
            let oldest = self.dead.iter().min_by_key(|(_, since)| **since);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.dead.remove(&oldest);
            }
        }
        self.dead.insert(id.into(), since).is_none()
    }

    /// Those who have said something of themselves: a node beats before there is anything to say.
    pub(super) fn listed(&self) -> Vec<NodeInfo> {
        let said = self.nodes.iter().filter(|node| node.report != Report::default());
        said.cloned().collect()
    }

    /// From when on the dead are of interest.
    pub(super) fn dead_since(&self) -> u64 {
        self.dead_since
    }

    pub(super) fn standing(&self, wanted: &str) -> Standing {
        if self.nodes.iter().any(|node| home(&node.id) == wanted) {
            return Standing::Alive;
        }
        let gone = self.dead.iter().filter(|(id, _)| home(id) == wanted).map(|(_, since)| since);
        gone.max().map_or(Standing::Alive, |since| Standing::Dead(since.elapsed()))
    }
}

impl NodeInfo {
    fn new(id: &str, ago: u64, record: &str) -> Self {
        let report = serde_json::from_str(record).unwrap_or_default();
        Self { id: id.to_owned(), last_beat: Duration::from_millis(ago), report }
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Double(number) => Some(*number as u64),
        // Scores are told as text.
        other => text(other)?.parse::<f64>().ok().map(|number| number as u64),
    }
}

/// The most dead nodes that are remembered, as in the script.
const MOST_DEAD: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn answer(known: i64, alive: &[(&str, u64, &str)], dead: &[(&str, u64)]) -> Value {
        let alive = alive
            .iter()
            .flat_map(|(id, beat, record)| [bulk(id), bulk(&beat.to_string()), bulk(record)]);
        let dead = dead.iter().flat_map(|(id, at)| [bulk(id), bulk(&at.to_string())]);
        Value::Array(vec![
            bulk("alive"),
            Value::Int(1_000_000),
            Value::Int(known),
            Value::Array(alive.collect()),
            Value::Array(dead.collect()),
        ])
    }

    #[test]
    fn answers() {
        let (mut beat, now) = (Beat::default(), Instant::now());
        let record = br#"{"users":3,"address":"a:1","of_a_later_version":[]}"#;
        let record = std::str::from_utf8(record).unwrap();
        let alive = [("bbbbbbbbbbbb0001", 999_000, record), ("aaaaaaaaaaaa0001", 1_000_000, "?")];
        let dead = [("cccccccccccc0001", 990_000), ("bbbbbbbbbbbb0000", 995_000)];
        let news = beat.handle_answer(&answer(1, &alive, &dead), now).unwrap();
        assert!(news.was_known && !news.is_buried);
        assert_eq!(news.dead, ["cccccccccccc0001", "bbbbbbbbbbbb0000"]);
        let ids: Vec<_> = beat.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["aaaaaaaaaaaa0001", "bbbbbbbbbbbb0001"]);
        assert_eq!((beat.nodes[1].report.users, beat.nodes[1].last_beat.as_millis()), (3, 1000));
        let listed = beat.listed();
        assert_eq!(listed.len(), 1, "one has said nothing: {listed:?}");
        assert_eq!(beat.dead_since(), 995_000);
        let news = beat.handle_answer(&answer(0, &alive, &dead[1..]), now).unwrap();
        assert_eq!((news.was_known, news.dead.len()), (false, 0), "known by now");

        let Standing::Dead(gone) = beat.standing("cccccccccccc") else { panic!() };
        assert!(gone >= Duration::from_secs(10));
        assert_eq!(beat.standing("bbbbbbbbbbbb"), Standing::Alive, "under another name");
        assert_eq!(beat.standing("dddddddddddd"), Standing::Alive, "not heard of yet");
        assert!(beat.bury("aaaaaaaaaaaa0001", now) && !beat.bury("aaaaaaaaaaaa0001", now));
        assert!(matches!(beat.standing("aaaaaaaaaaaa"), Standing::Dead(_)));

        let buried = Value::Array(vec![bulk("dead")]);
        assert!(beat.handle_answer(&buried, now).unwrap().is_buried);
        for odd in [Value::Nil, Value::Array(vec![]), Value::Array(vec![bulk("alive")])] {
            assert_eq!(beat.handle_answer(&odd, now), None);
        }
    }
}
