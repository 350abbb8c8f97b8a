//! Who is in a room on other nodes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use throng_hub::{Elsewhere, Identity};

use super::shared::small;
use crate::redis::step::{Change, NodeId, Roll as Told};

/// Who is in a room on other nodes, and the state of the roll that this is.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// Known from the first time on that it is told whole.
    pub(super) version: Option<u64>,
    nodes: BTreeMap<NodeId, Users>,
    /// What came before what is in front of it.
    later: VecDeque<Shift>,
    /// The users in it.
    load: usize,
    /// The state behind the last event that was heard.
    last: u64,
}

type Users = BTreeSet<ByUser>;

/// A change of the roll from one state to another.
#[derive(Debug)]
pub(super) struct Shift {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) node: NodeId,
    pub(super) what: Moves,
}

#[derive(Debug)]
pub(super) enum Moves {
    Changes(Vec<Change>),
    Buried,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is done, or was known.
    Fine,
    /// Something in front of it is missing.
    Hole,
    /// The numbers have gone back: it is another roll.
    Back,
}

impl Roll {
    /// Whether a node has somebody there.
    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.nodes.contains_key(node)
    }

    /// The channel is heard from anew: what comes may be of another roll.
    pub(super) fn cut(&mut self) {
        self.last = 0;
    }

    /// A change is heard of. Changes of `us`, which is not elsewhere, only count.
    pub(super) fn shift(
        &mut self,
        shift: Shift,
        us: &dyn Fn(&NodeId) -> bool,
        news: &mut Vec<Elsewhere>,
    ) -> Heard {
        let back = shift.before < self.last;
        self.last = shift.after;
        if back {
            self.drop_later();
            return Heard::Back;
        }
        match self.version {
            Some(version) if shift.before == version => {
                self.apply(shift, us, news);
                self.catch_up(us, news);
                Heard::Fine
            }
            Some(version) if shift.after <= version => Heard::Fine,
            _ => {
                self.load += shift.load();
                self.later.push_back(shift);
                if self.load > MAX_LATER {
                    self.drop_later();
                }
                Heard::Hole
            }
        }
    }

    /// The whole roll is told.
    pub(super) fn adopt(
        &mut self,
        version: u64,
        told: Told,
        us: &dyn Fn(&NodeId) -> bool,
        news: &mut Vec<Elsewhere>,
    ) {
        let before = self.union();
        self.nodes.clear();
        for (node, users) in told.nodes {
            if !us(&node) && !users.is_empty() {
                self.nodes.entry(node).or_default().extend(users.into_iter().map(ByUser));
            }
        }
        let now = self.union();
        let gone = before.iter().filter(|user| !now.contains(user.0.user_id()));
        news.extend(gone.map(|user| Elsewhere::Gone(user.0.user_id().into())));
        let here = now.into_iter().filter(|user| !before.contains(user.0.user_id()));
        news.extend(here.map(|user| Elsewhere::Here(user.0)));
        self.version = Some(version);
        self.catch_up(us, news);
    }

    /// Nothing that came too early is of any use.
    pub(super) fn drop_later(&mut self) {
        self.later.clear();
        self.load = 0;
    }

    /// Who is on other nodes, each user once.
    pub(super) fn everybody(&self) -> Vec<Arc<Identity>> {
        self.union().into_iter().map(|user| user.0).collect()
    }

    fn union(&self) -> Users {
        let mut union = Users::new();
        for users in self.nodes.values() {
            for user in users {
                if !union.contains(user.0.user_id()) {
                    union.insert(user.clone());
                }
            }
        }
        union
    }

    /// Does what came too early and no longer is.
    fn catch_up(&mut self, us: &dyn Fn(&NodeId) -> bool, news: &mut Vec<Elsewhere>) {
        while let Some(next) = self.later.front() {
            let version = self.version.unwrap_or(0);
            if next.before > version {
                return;
            }
            let Some(next) = self.later.pop_front() else { return };
            self.load -= next.load();
            if next.before == version {
                self.apply(next, us, news);
            }
        }
    }

    fn apply(&mut self, shift: Shift, us: &dyn Fn(&NodeId) -> bool, news: &mut Vec<Elsewhere>) {
        self.version = Some(shift.after);
        if us(&shift.node) {
            return;
        }
        match shift.what {
            Moves::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Here(who) => self.come(&shift.node, who, news),
                        Change::Gone(user) => self.go(&shift.node, user, news),
                    }
                }
            }
            Moves::Buried => {
                let users = self.nodes.remove(&shift.node).unwrap_or_default();
                for user in users {
                    if !self.is_elsewhere(user.0.user_id()) {
                        news.push(Elsewhere::Gone(user.0.user_id().into()));
                    }
                }
            }
        }
    }

    fn come(&mut self, node: &NodeId, who: Arc<Identity>, news: &mut Vec<Elsewhere>) {
        let known = self.is_elsewhere(who.user_id());
        let users = self.nodes.entry(node.clone()).or_default();
        users.replace(ByUser(who.clone()));
        if !known {
            news.push(Elsewhere::Here(who));
        }
    }

    fn go(&mut self, node: &NodeId, user: Box<str>, news: &mut Vec<Elsewhere>) {
        let Some(users) = self.nodes.get_mut(node) else { return };
        let was = users.remove(&*user);
        if users.is_empty() {
            self.nodes.remove(node);
        }
        if was && !self.is_elsewhere(&user) {
            news.push(Elsewhere::Gone(user));
        }
    }

    fn is_elsewhere(&self, user: &str) -> bool {
        self.nodes.values().any(|users| users.contains(user))
    }
}

impl Shift {
    fn load(&self) -> usize {
        match &self.what {
            Moves::Changes(changes) => changes.len().max(1),
            Moves::Buried => 1,
        }
    }
}

/// An identity that stands for its user.
#[derive(Clone, Debug)]
pub(super) struct ByUser(pub(super) Arc<Identity>);

impl Borrow<str> for ByUser {
    fn borrow(&self) -> &str {
        self.0.user_id()
    }
}

impl PartialEq for ByUser {
    fn eq(&self, other: &Self) -> bool {
        self.0.user_id() == other.0.user_id()
    }
}

impl Eq for ByUser {}

impl PartialOrd for ByUser {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByUser {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.user_id().cmp(other.0.user_id())
    }
}

/// Users in changes that came too early.
const MAX_LATER: usize = small(1024, 4);
