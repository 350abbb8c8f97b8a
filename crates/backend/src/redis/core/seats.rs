//! Who is in a room on this node, and what Redis has to be told of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use throng_hub::Identity;

use super::AskId;
use super::line::back_off;
use super::roll::ByUser;
use super::shared::small;
use crate::redis::step::{Change, NodeId};

/// Who is in a room on this node.
///
/// A question whose answer was lost may be done late, behind later ones; so the state of those users is said once more
/// after a while, and at once when an event or a roll says otherwise. And what was done is lost when a server takes over
/// that has not heard of it: an open room finds out, but who has left a room that is closed since is said once more.
#[derive(Debug, Default)]
pub(super) struct Seats {
    mine: BTreeSet<ByUser>,
    /// Users whose state has to be said.
    unsaid: BTreeSet<Box<str>>,
    /// Users here of whom Redis has not heard: who goes before it has need not be taken away. So whoever comes and goes
    /// while it is away leaves nothing behind.
    unheard: BTreeSet<Box<str>>,
    flight: Option<Flight>,
    /// Users whose state may have been said late or in vain, and when to say it again.
    doubtful: BTreeSet<Box<str>>,
    again_at: Option<u64>,
    /// Who has left since the room was looked at, or shortly before, and when that was done.
    left: VecDeque<(u64, Box<str>)>,
    leaving: Leaving,
    /// Redis was away meanwhile: what was said may be lost.
    shaken: bool,
    /// Nothing is asked before.
    pub(super) retry_at: Option<u64>,
    tries: u32,
}

/// Whether the room is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Leaving {
    #[default]
    No,
    /// And everything is still to be said again.
    Once,
    Twice,
}

#[derive(Debug)]
struct Flight {
    ask: AskId,
    node: NodeId,
    users: Vec<Box<str>>,
}

impl Seats {
    pub(super) fn seat(&mut self, who: Arc<Identity>) {
        let user = who.user_id();
        let is_known = self.mine.contains(user) || self.unsaid.contains(user);
        if !is_known && !self.doubtful.contains(user) && !self.is_asked(user) {
            self.unheard.insert(user.into());
        }
        self.unsaid.insert(user.into());
        self.mine.replace(ByUser(who));
    }

    pub(super) fn unseat(&mut self, user: &str) {
        if self.mine.remove(user) && !self.forget(user) {
            self.unsaid.insert(user.into());
        }
    }

    /// The room is closed: nobody is here any more.
    pub(super) fn leave(&mut self, now: u64, wait: u64) {
        self.leaving = Leaving::Once;
        self.shaken = false;
        let gone = std::mem::take(&mut self.mine);
        for user in &gone {
            if !self.forget(user.0.user_id()) {
                self.unsaid.insert(user.0.user_id().into());
            }
        }
        let left = std::mem::take(&mut self.left);
        self.doubtful.extend(left.into_iter().map(|(_, user)| user));
        self.again_at = (!self.doubtful.is_empty()).then_some(now.saturating_add(wait));
    }

    /// Says nothing of a user of whom Redis has not heard. Whether that is so.
    fn forget(&mut self, user: &str) -> bool {
        self.unheard.remove(user) && self.unsaid.remove(user)
    }

    /// Redis cannot be reached.
    pub(super) fn shake(&mut self) {
        self.shaken = true;
    }

    /// The room is open again.
    pub(super) fn come_back(&mut self) {
        self.leaving = Leaving::No;
    }

    /// Whether everything is said, for good.
    pub(super) fn is_settled(&self) -> bool {
        self.unsaid.is_empty() && self.flight.is_none() && self.doubtful.is_empty()
    }

    /// Whether somebody is here, or Redis may believe so.
    pub(super) fn is_used(&self) -> bool {
        !self.mine.is_empty() || !self.is_settled()
    }

    /// The question that is under way.
    pub(super) fn flight(&self) -> Option<AskId> {
        self.flight.as_ref().map(|flight| flight.ask)
    }

    /// Whether there is something to be asked, now or later.
    pub(super) fn is_waiting(&self) -> bool {
        self.flight.is_none() && !self.unsaid.is_empty()
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.is_waiting() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// When [`again`](Self::again) is to be called.
    pub(super) fn again_at(&self) -> Option<u64> {
        self.again_at
    }

    /// The next changes, to be asked with this question.
    pub(super) fn ask(&mut self, ask: AskId, node: &NodeId) -> Vec<Change> {
        let mut users = Vec::new();
        while users.len() < MAX_BATCH
            && let Some(user) = self.unsaid.pop_first()
        {
            self.unheard.remove(&user);
            users.push(user);
        }
        let change = |user: &str| match self.mine.get(user) {
            Some(who) => Change::Here(who.0.clone()),
            None => Change::Gone(user.into()),
        };
        let changes = users.iter().map(|user| change(user)).collect();
        self.flight = Some(Flight { ask, node: node.clone(), users });
        self.retry_at = None;
        changes
    }

    /// The question is done.
    pub(super) fn answered(&mut self, ask: AskId, now: u64, wait: u64) {
        let Some(flight) = self.flight.take_if(|flight| flight.ask == ask) else { return };
        self.tries = 0;
        if self.left.len() > MAX_LEFT {
            self.left.pop_front();
        }
        for user in flight.users {
            match self.leaving {
                Leaving::No if self.mine.contains(&*user) => {}
                Leaving::No => self.left.push_back((now, user)),
                Leaving::Once => {
                    self.doubtful.insert(user);
                    self.again_at = Some(now.saturating_add(wait));
                }
                Leaving::Twice => {}
            }
        }
    }

    /// The question was not done, or may not have been (`doubtful`). Returns as which node it was asked.
    pub(super) fn failed(
        &mut self,
        ask: AskId,
        doubtful: bool,
        now: u64,
        wait: u64,
    ) -> Option<NodeId> {
        let flight = self.flight.take_if(|flight| flight.ask == ask)?;
        if doubtful {
            self.doubtful.extend(flight.users.iter().cloned());
            self.again_at = Some(now.saturating_add(wait));
        }
        self.unsaid.extend(flight.users);
        self.retry_at = Some(now + back_off(&mut self.tries, RETRY, RETRY_MOST));
        Some(flight.node)
    }

    /// Says once more what may have been undone by a question that was late.
    pub(super) fn again(&mut self, now: u64) {
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.unsaid.append(&mut self.doubtful);
            if !std::mem::take(&mut self.shaken) && self.leaving == Leaving::Once {
                self.leaving = Leaving::Twice;
            }
        }
    }

    /// Changes of this node are done, as its channel says.
    pub(super) fn echo(&mut self, changes: &[Change]) {
        for change in changes {
            let (user, here) = match change {
                Change::Here(who) => (who.user_id(), true),
                Change::Gone(user) => (&**user, false),
            };
            self.unheard.remove(user);
            if self.mine.contains(user) != here && !self.is_asked(user) {
                self.unsaid.insert(user.into());
            }
        }
    }

    /// These are the users of this node, as the roll says.
    pub(super) fn compare(&mut self, listed: &[Arc<Identity>]) {
        let listed: BTreeSet<&str> = listed.iter().map(|who| who.user_id()).collect();
        self.unheard.retain(|user| !listed.contains(&**user));
        let missing = self.mine.iter().filter(|user| !listed.contains(user.0.user_id()));
        let extra = listed.iter().copied().filter(|user| !self.mine.contains(*user));
        let wrong = missing.map(|user| user.0.user_id()).chain(extra);
        // Also those of the question under way: it may have been done before the roll was lost.
        let wrong: Vec<Box<str>> = wrong.map(Box::from).collect();
        self.unsaid.extend(wrong);
    }

    /// The room was looked at: who has left so long ago is not there again.
    pub(super) fn settle(&mut self, now: u64, wait: u64) {
        while self.left.front().is_some_and(|(at, _)| at.saturating_add(wait) <= now) {
            self.left.pop_front();
        }
    }

    /// Whether the question under way says the state of this user.
    fn is_asked(&self, user: &str) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.users.iter().any(|other| **other == *user))
    }

    /// The node has another id: everybody is seated again, and nobody has to be taken away.
    pub(super) fn reborn(&mut self) {
        self.flight = None;
        self.doubtful.clear();
        self.left.clear();
        self.unheard.clear();
        (self.again_at, self.retry_at, self.tries) = (None, None, 0);
        self.unsaid = self.mine.iter().map(|user| user.0.user_id().into()).collect();
    }
}

const MAX_BATCH: usize = small(256, 2);
const MAX_LEFT: usize = 4096;
const RETRY: u64 = 20;
const RETRY_MOST: u64 = 2000;
