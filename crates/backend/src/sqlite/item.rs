use std::sync::Arc;

use throng_hub::{Outcome, Timestamp};

use super::slot::Slot;

/// A message that waits to be stored.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) slot: Arc<Slot>,
    pub(super) now: Timestamp,
    pub(super) outcome: Outcome,
}

impl Item {
    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.outcome.body.len() + self.outcome.session.len()
    }
}
