//! When few connections want to be looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::wheel::{Coarse, ConnId};

/// Connections by the time at which the worker looks at them: those with an incomplete message, and those
/// that are not read from for a while. A heap, because there are few, and the next one matters.
#[derive(Default)]
pub(crate) struct Deadlines(BinaryHeap<Reverse<(Coarse, u32, u32)>>);

impl Deadlines {
    pub(crate) fn insert(&mut self, id: ConnId, due: Coarse) {
        self.0.push(Reverse((due, id.key, id.serial)));
    }

    /// Somebody whose time has come.
    pub(crate) fn pop(&mut self, now: Coarse) -> Option<ConnId> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, key, serial)) = self.0.pop()?;
        if self.0.is_empty() && self.0.capacity() > 1024 {
            self.0 = BinaryHeap::new();
        }
        Some(ConnId { key, serial })
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.0.iter().map(|Reverse((_, key, serial))| ConnId { key: *key, serial: *serial })
    }

    /// The next time.
    pub(crate) fn next(&self) -> Option<Coarse> {
        self.0.peek().map(|Reverse((due, ..))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_not_early() {
        let id = |key| ConnId { key, serial: 7 };
        let mut deadlines = Deadlines::default();
        for (key, due) in [(1, 30), (2, 10), (3, 20)] {
            deadlines.insert(id(key), due);
        }
        assert_eq!((deadlines.next(), deadlines.pop(9)), (Some(10), None));
        assert_eq!(deadlines.pop(25), Some(id(2)));
        assert_eq!(deadlines.pop(25), Some(id(3)));
        assert_eq!(deadlines.pop(25), None);
        assert_eq!(deadlines.pop(30), Some(id(1)));
        assert_eq!(deadlines.next(), None);
    }
}
