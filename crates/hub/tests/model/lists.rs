//! What must be true of a room, by the shortest way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use throng_hub::{Identity, Order, Presence};
use throng_wire::Prepared;

use crate::steps::Setting;
use crate::support::{json, presence_of};

/// A connection, as its client sees it.
pub(crate) struct Client {
    pub(crate) user: usize,
    pub(crate) worker: usize,
    pub(crate) who: Arc<Identity>,
    /// The last message it has.
    pub(crate) seq: u64,
    /// It is not live yet.
    pub(crate) behind: bool,
    pub(crate) view: View,
}

/// What a client knows of who is there: the number, and where it is told who they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) seq: u64,
    pub(crate) count: u64,
    pub(crate) users: BTreeSet<String>,
}

impl View {
    pub(crate) fn of(order: &Order<'_>) -> Self {
        let told = presence_of(order);
        let users = told["users"].as_array().into_iter().flatten();
        Self {
            seq: told["presenceSeq"].as_u64().unwrap(),
            count: told["userCount"].as_u64().unwrap(),
            users: users.map(|user| user["userId"].as_str().unwrap().to_owned()).collect(),
        }
    }

    /// A client takes what is newer than what it knows.
    pub(crate) fn take(&mut self, told: &Value) {
        let seq = told["presenceSeq"].as_u64().unwrap();
        if seq <= self.seq {
            return;
        }
        self.seq = seq;
        self.count = told["userCount"].as_u64().unwrap();
        match told["type"].as_str().unwrap() {
            "user_joined" => {
                assert!(self.users.insert(told["userId"].as_str().unwrap().to_owned()), "{told}");
            }
            "user_left" => assert!(self.users.remove(told["userId"].as_str().unwrap()), "{told}"),
            other => assert_eq!(other, "presence"),
        }
    }
}

pub(crate) struct Line {
    pub(crate) seq: u64,
    pub(crate) timestamp: u64,
    pub(crate) n: u64,
}

/// What must be true of a room, by the shortest way: lists.
pub(crate) struct Model {
    pub(crate) setting: Setting,
    pub(crate) clients: Vec<Client>,
    /// Users without a connection who still count, and until when at least.
    pub(crate) lost: BTreeMap<usize, u64>,
    /// No grace ends later than this.
    pub(crate) last_due: u64,
    /// What is kept of the past.
    pub(crate) kept: Vec<Line>,
    pub(crate) seq: u64,
    pub(crate) now: u64,
    /// When the room was made.
    pub(crate) opened: u64,
    /// The latest time seen in anything the room said.
    pub(crate) latest: u64,
    /// What was published by `ref`, the oldest first.
    pub(crate) refs: BTreeMap<usize, Vec<(u64, u64, u64)>>,
    /// What each user's last connection knew: epoch, number, presence.
    pub(crate) known: BTreeMap<usize, (String, u64, View)>,
    /// When the room asked to be looked at.
    pub(crate) timers: BTreeSet<u64>,
    /// When the number of users was told.
    pub(crate) told: Option<u64>,
    pub(crate) next_ref: u64,
    pub(crate) n: u64,
}

impl Model {
    pub(crate) fn users(&self) -> BTreeSet<usize> {
        let here = self.clients.iter().map(|client| client.user);
        here.chain(self.lost.keys().copied()).collect()
    }

    pub(crate) fn user_count(&self) -> usize {
        match self.setting.presence {
            Presence::Off => self.clients.len(),
            _ => self.users().len(),
        }
    }

    pub(crate) fn is_connected(&self, user: usize) -> bool {
        self.clients.iter().any(|client| client.user == user)
    }

    pub(crate) fn workers(&self) -> Vec<usize> {
        let workers: BTreeSet<_> = self.clients.iter().map(|client| client.worker).collect();
        workers.into_iter().collect()
    }

    pub(crate) fn trim(&mut self, now: u64) {
        let Setting { size, ttl, .. } = self.setting;
        let surplus = self.kept.len().saturating_sub(size);
        self.kept.drain(..surplus);
        self.kept.retain(|line| line.timestamp + ttl >= now);
    }

    pub(crate) fn first(&self) -> u64 {
        self.kept.first().map_or(self.seq + 1, |line| line.seq)
    }

    /// A time the room gave: not before any other, and not invented.
    pub(crate) fn check_time(&mut self, time: u64) {
        assert!(time >= self.latest, "{time} after {}", self.latest);
        assert!(time >= self.now, "{time} is behind the clock, {}", self.now);
        self.latest = time;
    }

    /// What all members are told of a user, or of their number, at this time of the room.
    pub(crate) fn announce(
        &mut self,
        frame: Option<&Prepared>,
        expected: Option<(&str, usize)>,
        now: u64,
    ) {
        let Some(frame) = frame else {
            let silent = expected.is_none() || self.setting.presence != Presence::Full;
            assert!(silent, "{expected:?} is not announced");
            return;
        };
        let told = json(frame);
        let (kind, user) = expected.expect("nothing is to be announced");
        assert_eq!(told["room"], "room");
        assert_eq!(told["userCount"], self.users().len());
        match self.setting.presence {
            Presence::Full => {
                assert_eq!(told["type"], kind);
                assert_eq!(told["userId"], user_id(user));
                assert_eq!(told["info"]["name"], format!("User {user}"));
                self.check_time(told["timestamp"].as_u64().unwrap());
            }
            Presence::Count => {
                assert_eq!(told["type"], "presence");
                assert_eq!(told.get("users"), None);
                assert!(self.told.is_none_or(|told| told + 1000 <= now), "told twice in a second");
                self.told = Some(now);
            }
            Presence::Off => panic!("presence is off"),
        }
        for client in self.clients.iter_mut().filter(|client| !client.behind) {
            client.view.take(&told);
        }
    }

    /// What a joiner must be told, and behind which number it begins; `None` for the future.
    pub(crate) fn start(&self, since: Option<(bool, u64)>, rewind: u32) -> Option<(bool, u64)> {
        let rewound = self.seq.saturating_sub(u64::from(rewind)).max(self.first() - 1);
        match since {
            None => Some((true, rewound)),
            Some((false, _)) => Some((false, rewound)),
            Some((true, since)) if since > self.seq => None,
            Some((true, since)) if since + 1 >= self.first() => Some((true, since)),
            Some((true, _)) => Some((false, rewound)),
        }
    }

    pub(crate) fn check(&self, order: &Order<'_>) {
        assert_eq!(order.workers().collect::<Vec<_>>(), self.workers());
        assert_eq!(order.user_count(), self.user_count());
        assert_eq!(order.member_count(), self.clients.len());
        assert_eq!(order.is_empty(), self.clients.is_empty());
        assert_eq!(order.seq(), self.seq);
        if self.setting.presence == Presence::Off {
            return;
        }
        let users: BTreeSet<_> = order.users().map(|who| who.user_id().to_owned()).collect();
        assert_eq!(users, self.users().into_iter().map(user_id).collect());
        if self.setting.presence == Presence::Full {
            let view = View::of(order);
            for client in self.clients.iter().filter(|client| !client.behind) {
                assert_eq!(client.view, view, "what a live client of {} knows", client.user);
            }
        }
    }
}

pub(crate) fn user_id(user: usize) -> String {
    format!("u_{user}")
}

pub(crate) fn session(user: usize) -> String {
    format!("s_{user}")
}

impl Line {
    pub(crate) fn n_and_seq(&self) -> (u64, u64) {
        (self.n, self.seq)
    }
}
