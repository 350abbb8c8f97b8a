use std::time::Duration;

use redis::Value;

use crate::redis::RedisStatus;
use crate::redis::step::{Failure, What};

/// What has happened since the start.
#[derive(Debug, Default)]
pub(in crate::redis) struct Counts {
    asks: [[u64; OUTCOMES.len()]; KINDS.len()],
    latency: Duration,
    answers: u64,
    pub(super) stored: u64,
    pub(super) failed: u64,
    pub(super) renewed: u64,
}

/// Kinds of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Kind {
    Open,
    Append,
    Read,
    Seat,
    Bury,
    Cast,
    Other,
}

impl Kind {
    pub(super) fn of(what: &What) -> Self {
        match what {
            What::Open { .. } => Self::Open,
            What::Append { .. } => Self::Append,
            What::Read { .. } => Self::Read,
            What::Seat { .. } => Self::Seat,
            What::Bury { .. } => Self::Bury,
            What::Cast { .. } => Self::Cast,
        }
    }
}

impl Counts {
    pub(super) fn answered(&mut self, kind: Kind, result: &Result<Value, Failure>, took: Duration) {
        let outcome = match result {
            Ok(_) => 0,
            Err(Failure::Refused) => 1,
            Err(Failure::Away) => 2,
            Err(Failure::Unknown) => 3,
        };
        self.asks[kind as usize][outcome] += 1;
        if outcome == 0 {
            self.latency += took;
            self.answers += 1;
        }
    }

    pub(super) fn report(&self, status: &mut RedisStatus) {
        let of = |kind: Kind| self.asks[kind as usize].iter().sum::<u64>();
        status.commands = self.asks.iter().flatten().sum();
        status.appends = of(Kind::Append);
        status.reads = of(Kind::Read);
        (status.stored, status.failed, status.renewed) = (self.stored, self.failed, self.renewed);
        (status.latency_sum, status.latency_count) = (self.latency, self.answers);
        for (kind, counts) in KINDS.iter().zip(&self.asks) {
            for (outcome, count) in OUTCOMES.iter().zip(counts) {
                status.asks_by.push((kind, outcome, *count));
            }
        }
    }
}

const KINDS: [&str; 7] = ["open", "append", "read", "seat", "bury", "cast", "other"];
const OUTCOMES: [&str; 4] = ["done", "refused", "away", "unknown"];
