//! Messages that came before those in front of them.

use std::collections::BTreeMap;

use throng_hub::Epoch;

use super::shared::small;
use crate::redis::step::Record;

/// Records beyond a hole, of one epoch. Bounded: what does not fit is dropped, and read again later.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    epoch: Option<Epoch>,
    records: BTreeMap<u64, Record>,
    bytes: usize,
}

impl Ahead {
    /// Whether records of another epoch than this wait.
    pub(super) fn is_foreign(&self, epoch: Epoch) -> bool {
        self.epoch.is_some_and(|other| other != epoch)
    }

    /// Keeps a record. Those of another epoch are dropped.
    pub(super) fn put(&mut self, epoch: Epoch, record: Record) {
        if self.epoch != Some(epoch) {
            self.clear();
            self.epoch = Some(epoch);
        }
        let size = size(&record);
        let full = self.records.len() >= MAX_RECORDS || self.bytes + size > MAX_BYTES;
        if !full && !self.records.contains_key(&record.seq) {
            self.bytes += size;
            self.records.insert(record.seq, record);
        }
    }

    /// The record with the number behind `seq`, if it is here; those up to `seq` are dropped.
    pub(super) fn next(&mut self, epoch: Epoch, seq: u64) -> Option<Record> {
        if self.epoch != Some(epoch) {
            return None;
        }
        while let Some(entry) = self.records.first_entry() {
            if *entry.key() > seq.saturating_add(1) {
                return None;
            }
            let record = entry.remove();
            self.bytes -= size(&record);
            if record.seq > seq {
                return Some(record);
            }
        }
        self.clear();
        None
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn size(record: &Record) -> usize {
    record.entry.body.len() + record.entry.session.len() + 128
}

const MAX_RECORDS: usize = small(1024, 6);
const MAX_BYTES: usize = 1 << 20;
