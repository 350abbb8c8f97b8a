//! The order of a room as everybody together has seen it.

use std::collections::BTreeMap;

use super::Check;

/// The messages of one epoch of a room.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// By their numbers.
    pub(super) facts: BTreeMap<u64, Fact>,
    /// Where it was seen first.
    pub(super) line: usize,
    /// When that was.
    pub(super) at: u64,
    /// The least position that anybody was told in it: numbers up to there may be of the epoch before.
    pub(super) from: u64,
}

/// A message at its place, as it was seen first.
#[derive(Debug)]
pub(super) struct Fact {
    /// Its id.
    pub(super) id: String,
    /// Where this was seen.
    pub(super) line: usize,
    /// Its time.
    pub(super) ts: u64,
}

/// Who says that a message has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A member to whom it was delivered.
    Received,
    /// A page of history.
    History,
    /// The acknowledgement.
    Ack,
}

impl Stretch {
    /// Notes a message at its place. Returns what contradicts it, and the line of that.
    pub(super) fn place(
        &mut self,
        line: usize,
        source: Source,
        seq: u64,
        ts: u64,
        id: String,
    ) -> Option<(Check, String, usize)> {
        let Some(fact) = self.facts.get(&seq) else {
            self.facts.insert(seq, Fact { id, line, ts });
            return None;
        };
        if fact.id != id {
            let text = format!("{seq} is {} and {id}", fact.id);
            return Some((source.check(Check::Order), text, fact.line));
        }
        if fact.ts != ts {
            let text = format!("{seq} has the times {} and {ts}", fact.ts);
            return Some((source.check(Check::Time), text, fact.line));
        }
        None
    }

    /// Whether this message was seen at this place.
    pub(super) fn has(&self, seq: u64, wanted: &Fact) -> bool {
        self.facts.get(&seq).is_some_and(|fact| fact.ts == wanted.ts && fact.id == wanted.id)
    }

    /// Numbers from `first` that nobody has seen, though there are greater ones.
    pub(super) fn holes(&self, first: u64) -> Vec<(String, [usize; 1])> {
        let mut holes = Vec::new();
        let mut expected = first;
        for (seq, fact) in &self.facts {
            if *seq != expected {
                holes.push((format!("{expected} to {} are missing", seq - 1), [fact.line]));
            }
            expected = seq + 1;
        }
        holes
    }

    /// Neighbours whose times decrease.
    pub(super) fn steps_back(&self) -> Vec<(String, [usize; 2])> {
        let mut steps = Vec::new();
        for ((_, before), (seq, fact)) in self.facts.iter().zip(self.facts.iter().skip(1)) {
            if fact.ts < before.ts {
                let text = format!("{seq} is from {}, the one before from {}", fact.ts, before.ts);
                steps.push((text, [before.line, fact.line]));
            }
        }
        steps
    }
}

impl Source {
    /// Which promise is broken when two disagree.
    fn check(self, between_members: Check) -> Check {
        match self {
            Self::Received => between_members,
            Self::History => Check::History,
            Self::Ack => Check::Acks,
        }
    }
}
