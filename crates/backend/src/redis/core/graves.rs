//! Dead nodes, to be buried in one room.

use super::AskId;
use super::line::back_off;
use super::shared::Shared;
use crate::redis::step::NodeId;

/// Dead nodes that are to be buried in a room.
#[derive(Debug, Default)]
pub(super) struct Graves {
    dead: Vec<NodeId>,
    flight: Option<(AskId, NodeId)>,
    /// Nothing is asked before.
    pub(super) retry_at: Option<u64>,
    tries: u32,
}

impl Graves {
    pub(super) fn is_empty(&self) -> bool {
        self.dead.is_empty()
    }

    /// A node is to be buried.
    pub(super) fn dig(&mut self, node: &NodeId) {
        if !self.dead.contains(node) {
            self.dead.push(node.clone());
        }
    }

    /// A node is buried.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.dead.retain(|other| other != node);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&NodeId) -> bool) {
        self.dead.retain(keep);
    }

    /// The room is closed: only this node itself, as it was called, is of interest.
    pub(super) fn leave<R, T>(&mut self, shared: &mut Shared<R, T>) {
        self.retain(|node| shared.former.contains(node));
        if let Some((ask, _)) = self.flight.take_if(|(_, node)| !shared.former.contains(node)) {
            shared.land(ask);
        }
    }

    /// The question that is under way.
    pub(super) fn flight(&self) -> Option<AskId> {
        self.flight.as_ref().map(|&(ask, _)| ask)
    }

    /// Whether there is something to be asked, now or later.
    pub(super) fn is_waiting(&self) -> bool {
        self.flight.is_none() && !self.dead.is_empty()
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.is_waiting() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// The next one, to be buried with this question.
    pub(super) fn ask(&mut self, ask: AskId) -> Option<NodeId> {
        let dead = self.dead.first()?.clone();
        self.flight = Some((ask, dead.clone()));
        self.retry_at = None;
        Some(dead)
    }

    /// The question is answered.
    pub(super) fn answered(&mut self, ask: AskId, done: bool, now: u64) {
        let Some((_, node)) = self.flight.take_if(|(flight, _)| *flight == ask) else { return };
        if done {
            self.forget(&node);
            self.tries = 0;
        } else {
            self.retry_at = Some(now + back_off(&mut self.tries, RETRY, RETRY_MOST));
        }
    }
}

const RETRY: u64 = 50;
const RETRY_MOST: u64 = 2000;
