//! What a room keeps for members that cannot keep up and want only the newest message of each key.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::{Bytes, BytesMut};
use throng_hub::text_of;

use super::key::hash_key;
use crate::tick::Out;
use crate::wheel::ConnId;

/// The newest frame of each key since somebody fell behind, in the order they came. Exists only while
/// somebody is behind.
#[derive(Default)]
pub(super) struct Latest {
    frames: BTreeMap<u64, Kept>,
    by_key: HashMap<u64, u64>,
    /// How far each member has come that is behind: it has everything up to this version.
    behind: HashMap<u32, u64>,
    version: u64,
    bytes: usize,
    hasher: RandomState,
}

struct Kept {
    key: u64,
    frame: Bytes,
    /// Not to be sent back to its sender.
    not_for: Option<ConnId>,
    /// Not for members that may not see who comes and goes.
    news: bool,
}

/// Some frames behind one another, with where the exceptions are.
pub(super) struct Frames<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) news: &'a [(u32, u32)],
    pub(super) silent: &'a [(u32, ConnId)],
}

impl Latest {
    /// Whether a connection is behind.
    pub(super) fn has(&self, conn: u32) -> bool {
        self.behind.contains_key(&conn)
    }

    /// A connection is behind from here on. It has got `frames` of those that are to be
    /// [kept](Latest::keep) next.
    pub(super) fn begin(&mut self, conn: u32, frames: u64) {
        self.behind.insert(conn, self.version + frames);
    }

    /// A connection is no longer behind, or gone. Whether nobody is behind any more.
    pub(super) fn end(&mut self, conn: u32) -> bool {
        self.behind.remove(&conn);
        self.behind.is_empty()
    }

    /// Keeps frames, each in the place of the one of the same key before. `named`: see
    /// [`hash_key`]; `None` where all messages have one key.
    pub(super) fn keep(&mut self, frames: &Frames<'_>, named: Option<&str>, out: &mut Out) {
        let before = self.bytes;
        let mut at = 0;
        while let Some(frame) = frames.bytes.get(at..).and_then(first_frame) {
            let mut hasher = self.hasher.build_hasher();
            if let Some(named) = named {
                hash_key(text_of(frame), named, &mut hasher);
            }
            let key = hasher.finish();
            self.version += 1;
            if let Some(older) = self.by_key.insert(key, self.version) {
                self.remove(older);
                out.counters.replaced.add(1);
            }
            let not_for = frames.silent.iter().find(|(start, _)| *start as usize == at);
            let kept = Kept {
                key,
                frame: Bytes::copy_from_slice(frame),
                not_for: not_for.map(|(_, conn)| *conn),
                news: frames.news.iter().any(|(start, end)| (*start..*end).contains(&(at as u32))),
            };
            self.bytes += frame.len() + COST;
            self.frames.insert(self.version, kept);
            at += frame.len();
        }
        let too_much = |kept: &Self, out: &Out| {
            let many = kept.frames.len() > MOST_KEYS || kept.bytes > MOST_BYTES;
            many || kept.frames.len() > 1 && out.budget.is_spent()
        };
        while too_much(self, out) {
            let Some((&oldest, kept)) = self.frames.first_key_value() else { break };
            self.by_key.remove(&kept.key);
            self.remove(oldest);
            out.counters.dropped.add(self.behind.len() as u64);
        }
        out.budget.change(before, self.bytes);
    }

    fn remove(&mut self, version: u64) {
        if let Some(kept) = self.frames.remove(&version) {
            self.bytes -= kept.frame.len() + COST;
        }
    }

    /// Some of what a connection is owed, oldest first, and how many frames that are. With the last of it
    /// the connection is no longer behind.
    pub(super) fn take(&mut self, conn: ConnId, blind: bool) -> (Bytes, u64) {
        let Some(&since) = self.behind.get(&conn.key) else { return (Bytes::new(), 0) };
        let (mut bytes, mut count) = (BytesMut::new(), 0);
        for (&version, kept) in self.frames.range(since + 1..) {
            if bytes.len() >= CHUNK {
                return (bytes.freeze(), count);
            }
            if !(blind && kept.news || kept.not_for == Some(conn)) {
                bytes.extend_from_slice(&kept.frame);
                count += 1;
            }
            self.behind.insert(conn.key, version);
        }
        self.behind.remove(&conn.key);
        (bytes.freeze(), count)
    }

    /// Nobody needs it any more.
    pub(super) fn give_back(self, out: &Out) {
        out.budget.change(self.bytes, 0);
    }
}

/// How many frames there are.
pub(super) fn count_frames(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(frame) = first_frame(bytes) {
        bytes = &bytes[frame.len()..];
        count += 1;
    }
    count
}

/// The first of some frames of ours.
fn first_frame(bytes: &[u8]) -> Option<&[u8]> {
    let payload = match *bytes.get(1)? & 0x7f {
        126 => 4 + usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        127 => 10 + usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?,
        len => 2 + usize::from(len),
    };
    bytes.get(..payload)
}

/// So many keys are kept for the members of a room on one worker.
const MOST_KEYS: usize = 4096;
/// And so many bytes.
const MOST_BYTES: usize = 4 << 20;
/// What a kept frame costs beside its bytes.
const COST: usize = 128;
/// So much is handed out in one go.
const CHUNK: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use throng_wire::{OpCode, Prepared};

    use super::*;
    use crate::stats::Counters;
    use crate::tick::Tick;

    const ADA: ConnId = ConnId { key: 1, serial: 0 };

    fn out() -> Out {
        Tick::new(0, Arc::new(Counters::default()), Arc::default()).out
    }

    fn frame(text: &str) -> Vec<u8> {
        Prepared::new(OpCode::Text, text.as_bytes()).frame().to_vec()
    }

    fn moved(who: &str, seq: u64) -> Vec<u8> {
        frame(&format!(r#"{{"type":"move","from":"{who}","seq":{seq}}}"#))
    }

    fn keep(latest: &mut Latest, frames: &[Vec<u8>], out: &mut Out) {
        let frames = Frames { bytes: &frames.concat(), news: &[], silent: &[] };
        latest.keep(&frames, Some(""), out);
    }

    #[test]
    fn the_newest_of_each_in_order() {
        let (mut latest, mut out) = (Latest::default(), out());
        latest.begin(1, 0);
        let frames = [moved("a", 1), moved("b", 2), moved("a", 3)];
        keep(&mut latest, &frames, &mut out);
        keep(&mut latest, &[moved("c", 4), moved("b", 5)], &mut out);
        let (bytes, count) = latest.take(ADA, false);
        assert_eq!(
            (bytes, count),
            ([moved("a", 3), moved("c", 4), moved("b", 5)].concat().into(), 3)
        );
        assert!(latest.end(1));
        assert_eq!(out.counters.replaced.get(), 2);
        let used = out.budget.used();
        assert!(used > 0);
        latest.give_back(&out);
        assert_eq!(out.budget.used(), 0);
    }

    #[test]
    fn from_where_it_fell_behind() {
        let (mut latest, mut out) = (Latest::default(), out());
        latest.begin(1, 1); // it has the first frame of the next batch
        latest.begin(2, 0);
        keep(&mut latest, &[moved("a", 1), moved("b", 2)], &mut out);
        assert_eq!(latest.take(ADA, false).0, moved("b", 2));
        assert!(latest.has(2) && !latest.has(1));
        latest.begin(1, 0);
        keep(&mut latest, &[moved("c", 3)], &mut out);
        assert_eq!(latest.take(ADA, false).0, moved("c", 3));
        assert!(latest.end(2));
    }

    #[test]
    fn bounded_by_keys_and_bytes() {
        let (mut latest, mut out) = (Latest::default(), out());
        latest.begin(1, 0);
        for n in 0..5000 {
            keep(&mut latest, &[moved(&format!("u_{n}"), n)], &mut out);
        }
        assert_eq!((latest.frames.len(), latest.by_key.len()), (MOST_KEYS, MOST_KEYS));
        assert_eq!(out.counters.dropped.get(), 5000 - MOST_KEYS as u64);
        let large = "x".repeat(60_000);
        for n in 0..200 {
            let text = format!(r#"{{"type":"move","from":"v_{n}","seq":1,"x":"{large}"}}"#);
            keep(&mut latest, &[frame(&text)], &mut out);
        }
        assert!(latest.bytes <= MOST_BYTES);
        assert_eq!(latest.frames.len(), latest.by_key.len());
        let (mut all, mut pieces) = (0, 0);
        while latest.has(1) {
            let (bytes, count) = latest.take(ADA, false);
            assert!(bytes.len() < CHUNK + 70_000);
            all += count;
            pieces += 1;
        }
        assert!(all > 60 && pieces > 10, "{all} in {pieces}");
    }

    #[test]
    fn not_for_everybody() {
        let (mut latest, mut out) = (Latest::default(), out());
        let (a, b, c) = (moved("a", 1), moved("b", 2), moved("c", 3));
        let bytes = [a.clone(), b.clone(), c.clone()].concat();
        let (first, second) = (a.len() as u32, (a.len() + b.len()) as u32);
        latest.begin(1, 0);
        latest.begin(2, 0);
        let frames = Frames { bytes: &bytes, news: &[(0, first)], silent: &[(second, ADA)] };
        latest.keep(&frames, Some(""), &mut out);
        assert_eq!(latest.take(ADA, true).0, b);
        assert_eq!(latest.take(ConnId { key: 2, serial: 0 }, false).0, bytes);
    }

    #[test]
    fn without_keys_only_the_last_is_kept() {
        let (mut latest, mut out) = (Latest::default(), out());
        latest.begin(1, 0);
        let bytes = [frame("one"), frame("two"), frame(&"x".repeat(300))].concat();
        assert_eq!(count_frames(&bytes), 3);
        latest.keep(&Frames { bytes: &bytes, news: &[], silent: &[] }, None, &mut out);
        assert_eq!(latest.take(ADA, false).0, frame(&"x".repeat(300)));
    }
}
