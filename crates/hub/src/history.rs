//! What a room remembers: its latest messages, and which `ref`s were published.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use throng_protocol::Timestamp;

use crate::room::Epoch;
use crate::rule::History;
use crate::sessions::REMEMBERED;

/// The most `ref`s that are remembered of one session in one room. A client must not have more
/// publishes under way.
pub const REF_WINDOW: usize = 256;

/// A message as it is sent, with its place.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) timestamp: Timestamp,
    /// The whole frame.
    pub(crate) frame: Bytes,
}

/// The latest messages of a room, without holes.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Ring {
    /// Adds the message behind the last, and lets go what is beyond the limits.
    pub(crate) fn push(&mut self, entry: Entry, limits: &History) {
        if limits.size == 0 {
            return;
        }
        debug_assert!(self.entries.back().is_none_or(|last| last.seq + 1 == entry.seq));
        let now = entry.timestamp;
        self.bytes += entry.frame.len() + ENTRY_COST;
        self.entries.push_back(entry);
        self.trim(now, limits);
    }

    /// Lets go what is too old, too much, or too large.
    pub(crate) fn trim(&mut self, now: Timestamp, limits: &History) {
        let oldest = now.0.saturating_sub(millis(limits.ttl));
        while let Some(first) = self.entries.front() {
            let fits = self.entries.len() <= limits.size && self.bytes <= limits.bytes;
            if fits && first.timestamp.0 >= oldest {
                break;
            }
            self.bytes -= first.frame.len() + ENTRY_COST;
            self.entries.pop_front();
        }
        if self.entries.capacity() > 64 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// The number of the oldest message that is still there.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// The messages behind this number, oldest first. No search: the numbers have no holes.
    pub(crate) fn after(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        let first = self.first().unwrap_or(0);
        let skip = seq.saturating_add(1).saturating_sub(first).min(self.entries.len() as u64);
        self.entries.range(skip as usize..)
    }

    /// The messages before this number, oldest first.
    pub(crate) fn before(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        let first = self.first().unwrap_or(0);
        let take = seq.saturating_sub(first).min(self.entries.len() as u64);
        self.entries.range(..take as usize)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What an entry costs beside its frame: its place, and the header of a shared buffer.
const ENTRY_COST: usize = 96;

/// Which `ref`s each session has published in a room, and what they became.
///
/// Bounded: [`REF_WINDOW`] for each session, and sessions are let go when they have been quiet for as
/// long as they could come back.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    sessions: HashMap<Box<str>, Window>,
    /// How many `ref`s are remembered, of all sessions.
    count: usize,
    /// How many sessions there were after the last sweep.
    swept: usize,
}

#[derive(Debug, Default)]
struct Window {
    /// In the order they were published, which is that of the numbers.
    recent: VecDeque<(u64, Fate)>,
    /// The highest `ref` that had to be let go.
    forgotten: u64,
    last: Timestamp,
}

/// What became of a `ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is being stored.
    Pending,
    /// It is published.
    Published { seq: u64, timestamp: Timestamp },
}

/// What is known of a `ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has not been used.
    New,
    /// It has.
    Used(Fate),
    /// It is older than what is remembered.
    TooOld,
}

impl Refs {
    /// Looks a `ref` up. A few comparisons for the newest.
    pub(crate) fn look_up(&self, session: &str, reference: u64) -> Known {
        let Some(window) = self.sessions.get(session) else { return Known::New };
        let found = window.recent.iter().rev().find(|(known, _)| *known == reference);
        match found {
            Some((_, fate)) => Known::Used(*fate),
            None if reference <= window.forgotten => Known::TooOld,
            None => Known::New,
        }
    }

    /// Remembers what becomes of a `ref`.
    pub(crate) fn note(&mut self, session: &str, reference: u64, fate: Fate, now: Timestamp) {
        if let Some(window) = self.sessions.get_mut(session) {
            self.count += usize::from(window.note(reference, fate, now));
            return;
        }
        let mut window = Window::default();
        self.count += usize::from(window.note(reference, fate, now));
        self.sessions.insert(session.into(), window);
    }

    /// Takes back a `ref` that was not published after all.
    pub(crate) fn forget(&mut self, session: &str, reference: u64) {
        if let Some(window) = self.sessions.get_mut(session) {
            let before = window.recent.len();
            window.recent.retain(|(known, _)| *known != reference);
            self.count -= before - window.recent.len();
            if window.recent.is_empty() && window.forgotten == 0 {
                self.sessions.remove(session);
            }
        }
    }

    /// Lets go of everything but what is being stored.
    pub(crate) fn keep_pending(&mut self) {
        for window in self.sessions.values_mut() {
            window.recent.retain(|(_, fate)| *fate == Fate::Pending);
            window.forgotten = 0;
        }
        self.sessions.retain(|_, window| !window.recent.is_empty());
        self.count = self.sessions.values().map(|window| window.recent.len()).sum();
        self.swept = self.sessions.len();
    }

    /// Lets go of sessions that have published nothing for so long that they cannot come back, and, if there
    /// is too much even so, of the quieter half. Amortised: only when their number has doubled since the
    /// last time, or there is too much.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        let grown = self.sessions.len() >= 16 && self.sessions.len() >= self.swept * 2;
        if !grown && self.count <= MOST_REFS {
            return;
        }
        let mut oldest = Timestamp(now.0.saturating_sub(millis(REMEMBERED)));
        if self.count > MOST_REFS {
            let mut times: Vec<Timestamp> = self.sessions.values().map(|w| w.last).collect();
            let half = times.len() / 2;
            oldest = oldest.max(*times.select_nth_unstable(half).1);
        }
        self.sessions.retain(|_, window| window.last >= oldest || window.is_pending());
        self.sessions.shrink_to_fit();
        self.count = self.sessions.values().map(|window| window.recent.len()).sum();
        self.swept = self.sessions.len();
    }

    fn bytes(&self) -> usize {
        self.sessions.values().map(|window| 96 + window.recent.capacity() * 32).sum()
    }

    /// The same without looking at each.
    pub(crate) fn about(&self) -> usize {
        self.sessions.len() * 96 + self.count * 32
    }
}

impl Window {
    /// Whether it has become larger.
    fn note(&mut self, reference: u64, fate: Fate, now: Timestamp) -> bool {
        self.last = now;
        let known = self.recent.iter_mut().rev().find(|(known, _)| *known == reference);
        if let Some((_, old)) = known {
            *old = fate;
            return false;
        }
        let full = self.recent.len() == REF_WINDOW;
        if full && let Some((oldest, _)) = self.recent.pop_front() {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.recent.push_back((reference, fate));
        !full
    }

    fn is_pending(&self) -> bool {
        self.recent.iter().any(|(_, fate)| *fate == Fate::Pending)
    }
}

/// So many `ref`s of all sessions are remembered in one room: 2 MiB.
const MOST_REFS: usize = 64 << 10;

/// A room while nobody needs it: what [`Log::close`](crate::Log::close) is given.
#[derive(Debug)]
pub struct Kept {
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    pub(crate) ring: Ring,
    pub(crate) refs: Refs,
}

impl Kept {
    /// The epoch of the room.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of its last message.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// When something last happened there.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// About how much memory this takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.ring.bytes() + self.refs.bytes()
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(seqs: std::ops::RangeInclusive<u64>, limits: &History) -> Ring {
        let mut ring = Ring::default();
        for seq in seqs {
            let frame = Bytes::from(vec![b'x'; 10]);
            ring.push(Entry { seq, timestamp: Timestamp(seq * 1000), frame }, limits);
        }
        ring
    }

    fn seqs<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u64> {
        entries.map(|entry| entry.seq).collect()
    }

    #[test]
    fn whatever_ends_first() {
        let all = History { size: 1000, bytes: 1 << 20, ttl: Duration::from_secs(3600) };
        assert_eq!(seqs(ring(1..=9, &History { size: 4, ..all }).after(0)), [6, 7, 8, 9]);
        let bytes = 3 * (10 + ENTRY_COST);
        assert_eq!(seqs(ring(1..=9, &History { bytes, ..all }).after(0)), [7, 8, 9]);
        let ttl = Duration::from_secs(2);
        assert_eq!(seqs(ring(1..=9, &History { ttl, ..all }).after(0)), [7, 8, 9]);
        assert_eq!(ring(1..=9, &History::NONE).len(), 0);
        let mut old = ring(1..=9, &all);
        old.trim(Timestamp(100_000_000), &all);
        assert_eq!((old.len(), old.bytes()), (0, 0));
    }

    #[test]
    fn pages() {
        let limits = History { size: 5, ..History::default() };
        let ring = ring(1..=9, &limits);
        assert_eq!(seqs(ring.after(7)), [8, 9]);
        assert_eq!(seqs(ring.after(2)), [5, 6, 7, 8, 9]);
        assert_eq!(seqs(ring.after(9)), [] as [u64; 0]);
        assert_eq!(seqs(ring.after(99)), [] as [u64; 0]);
        assert_eq!(seqs(ring.before(7)), [5, 6]);
        assert_eq!(seqs(ring.before(99)), [5, 6, 7, 8, 9]);
        assert_eq!(seqs(ring.before(1)), [] as [u64; 0]);
        assert_eq!(seqs(Ring::default().after(0)), [] as [u64; 0]);
        assert_eq!(seqs(Ring::default().before(5)), [] as [u64; 0]);
    }

    #[test]
    fn refs_are_found_within_the_window() {
        let mut refs = Refs::default();
        let published = |n| Fate::Published { seq: n, timestamp: Timestamp(n) };
        for n in 1..=300 {
            assert_eq!(refs.look_up("s", n), Known::New);
            refs.note("s", n, Fate::Pending, Timestamp(n));
            refs.note("s", n, published(n), Timestamp(n));
        }
        assert_eq!(refs.look_up("s", 300), Known::Used(published(300)));
        assert_eq!(refs.look_up("s", 45), Known::Used(published(45)));
        assert_eq!(refs.look_up("s", 44), Known::TooOld);
        assert_eq!(refs.look_up("s", 301), Known::New);
        assert_eq!(refs.look_up("t", 44), Known::New);
        refs.forget("s", 300);
        assert_eq!(refs.look_up("s", 300), Known::New);
    }

    #[test]
    fn too_many_refs_cost_the_quieter_half() {
        let mut refs = Refs::default();
        let published = Fate::Published { seq: 1, timestamp: Timestamp(1) };
        refs.note("pending", 1, Fate::Pending, Timestamp(0));
        for session in 0..600 {
            for n in 1..=128 {
                refs.note(&format!("s_{session}"), n, published, Timestamp(session));
                refs.sweep(Timestamp(session));
                assert!(refs.count <= MOST_REFS + 1);
            }
        }
        let counted: usize = refs.sessions.values().map(|window| window.recent.len()).sum();
        assert_eq!(refs.count, counted);
        assert_eq!(refs.look_up("pending", 1), Known::Used(Fate::Pending));
        assert_eq!(refs.look_up("s_599", 1), Known::Used(published));
        assert_eq!(refs.look_up("s_0", 1), Known::New);
    }

    #[test]
    fn quiet_sessions_are_let_go() {
        let mut refs = Refs::default();
        for n in 0..100 {
            let published = Fate::Published { seq: 1, timestamp: Timestamp(1) };
            refs.note(&format!("s_{n}"), 1, published, Timestamp(n * 1000));
        }
        refs.sweep(Timestamp(90_000 + millis(REMEMBERED)));
        assert_eq!((refs.sessions.len(), refs.count), (10, 10));
    }
}
