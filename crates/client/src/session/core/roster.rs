//! Who is in a room, exactly.

use std::collections::BTreeMap;

use crate::session::core::room::How;
use crate::session::event::{User, WireUser};
use crate::session::incoming::{Passage, Presence};

/// The users of a room. Every change has a number that grows, so that what is older than the
/// list can be told from what comes after it.
pub(crate) struct Roster {
    /// The list is kept.
    wanted: bool,
    count: u64,
    /// `None` when nobody asked, or there are too many.
    users: Option<BTreeMap<String, Option<String>>>,
    seq: Option<u64>,
    /// The list is old, and the new one is on its way.
    awaited: bool,
}

impl Roster {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, count: 0, users: None, seq: None, awaited: false }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of the list, if there is one to keep exact.
    pub(crate) fn seq(&self) -> Option<u64> {
        self.seq.filter(|_| self.wanted && self.users.is_some())
    }

    /// Whether the list is old, and the new one is on its way.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited
    }

    pub(crate) fn list(&self) -> Option<Vec<User>> {
        let user =
            |(id, info): (&String, &Option<String>)| User { id: id.clone(), info: info.clone() };
        self.users.as_ref().map(|users| users.iter().map(user).collect())
    }

    /// What `joined` or `resumed` says. True if the list has to be asked for.
    pub(crate) fn handle_joined(
        &mut self,
        count: u64,
        seq: Option<u64>,
        users: Option<Vec<WireUser>>,
        how: How,
    ) -> bool {
        self.count = count;
        let told = self.seq();
        self.awaited = false;
        if !self.wanted {
            self.seq = seq;
            return false;
        }
        if how == How::Join || users.is_some() {
            self.seq = seq;
            self.users = users.map(map);
            return false;
        }
        if seq.is_none() || seq == told {
            return false;
        }
        self.awaited = true;
        // The server sends the list if it saw that ours is old.
        matches!(how, How::Unasked | How::Renewed) || told.is_none()
    }

    /// `presence`, asked for or not. False if it is older than what is known.
    pub(crate) fn handle_presence(&mut self, presence: Presence) -> bool {
        let older = |ours: u64| presence.presence_seq.is_some_and(|seq| seq < ours);
        if self.seq.is_some_and(older) && !self.awaited {
            return false;
        }
        self.count = presence.user_count;
        self.seq = presence.presence_seq.or(self.seq);
        self.awaited = false;
        if self.wanted {
            // Without a list there are too many, and ours is old.
            self.users = presence.users.map(map);
        }
        true
    }

    /// `user_joined` or `user_left`. False if it is older than what is known or on its way.
    pub(crate) fn handle_passage(&mut self, passage: &Passage, came: bool) -> bool {
        let known = |ours| passage.presence_seq.is_some_and(|seq| seq <= ours);
        if self.awaited || self.seq.is_some_and(known) {
            return false;
        }
        self.seq = passage.presence_seq.or(self.seq);
        self.count = passage.user_count;
        if let Some(users) = &mut self.users {
            let user = passage.user();
            if came {
                users.insert(user.id, user.info);
            } else {
                users.remove(&user.id);
            }
            if users.len() > USERS {
                self.users = None;
            }
        }
        true
    }
}

fn map(users: Vec<WireUser>) -> BTreeMap<String, Option<String>> {
    users.into_iter().map(User::from).map(|user| (user.id, user.info)).collect()
}

/// The longest list that is kept.
const USERS: usize = 10_000;
