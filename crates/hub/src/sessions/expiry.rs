//! When passes end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, PoisonError};

use throng_protocol::Timestamp;

use super::{Listed, MANY_EXPIRING, Sessions};
use crate::identity::Identity;

#[derive(Default)]
pub(super) struct Expiring {
    heap: BinaryHeap<Reverse<(Timestamp, Named)>>,
    /// From how many on it is looked through for those that are gone.
    full: usize,
}

/// A session by its names, in an order.
#[derive(Clone, Debug)]
struct Named(Arc<Identity>);

impl Sessions {
    /// The sessions whose pass is over by now. Looks through the others now and then for those that are gone.
    pub fn expired(&self, now: Timestamp) -> Vec<Listed> {
        self.sift_expiring(now);
        let mut due = Vec::new();
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        while expiring.heap.peek().is_some_and(|Reverse((when, _))| *when <= now) {
            due.extend(expiring.heap.pop().map(|Reverse((_, Named(who)))| who));
        }
        drop(expiring);
        let over = |listed: &Listed| listed.pass.as_ref().is_some_and(|pass| pass.is_over(now));
        due.iter()
            .filter_map(|who| self.find(who.user_id(), who.session_id(), now))
            .filter(over)
            .collect()
    }

    /// When the next pass ends, as far as is known.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        expiring.heap.peek().map(|Reverse((when, _))| *when)
    }

    pub(super) fn expires(&self, who: &Arc<Identity>, when: Option<Timestamp>) {
        let Some(when) = when else { return };
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        expiring.heap.push(Reverse((when, Named(Arc::clone(who)))));
    }

    /// Lets go of those that were gone before their time. Others may push meanwhile.
    fn sift_expiring(&self, now: Timestamp) {
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        if expiring.heap.len() <= expiring.full.max(MANY_EXPIRING) {
            return;
        }
        let mut heap = std::mem::take(&mut expiring.heap);
        drop(expiring);
        heap.retain(|Reverse((when, Named(who)))| {
            let listed = self.find(who.user_id(), who.session_id(), now);
            listed.and_then(|listed| listed.pass?.expires) == Some(*when)
        });
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        expiring.full = 2 * heap.len();
        expiring.heap.append(&mut heap);
    }
}

impl Ord for Named {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (one, two) = (&self.0, &other.0);
        (one.user_id(), one.session_id()).cmp(&(two.user_id(), two.session_id()))
    }
}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Named {}
