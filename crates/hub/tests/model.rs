//! Random histories of one room against a model too simple to be wrong.

#![allow(clippy::unwrap_used)] // a test

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use throng_hub::{Hub, Identity, Order, Space, Timestamp};
use throng_protocol::{Command, parse};
use throng_wire::Prepared;

const USERS: usize = 4;
const WORKERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Join {
        user: usize,
        worker: usize,
    },
    /// One of the connections goes.
    Leave {
        which: prop::sample::Index,
    },
    /// Somebody goes who is not here.
    Intrude,
    Publish {
        user: usize,
    },
    /// The clock jumps, also backwards.
    Clock {
        now: u64,
    },
    Presence,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..USERS, 0..WORKERS).prop_map(|(user, worker)| Step::Join { user, worker }),
        3 => any::<prop::sample::Index>().prop_map(|which| Step::Leave { which }),
        1 => Just(Step::Intrude),
        3 => (0..USERS).prop_map(|user| Step::Publish { user }),
        2 => (0u64..1000).prop_map(|now| Step::Clock { now }),
        1 => Just(Step::Presence),
    ]
}

/// What must be true of a room, by the shortest way: a list of its connections.
#[derive(Default)]
struct Model {
    connections: Vec<(usize, usize)>, // user, worker
    seq: u64,
    now: u64,
    /// The latest time seen in anything the room said.
    latest: u64,
}

impl Model {
    fn users(&self) -> BTreeSet<usize> {
        self.connections.iter().map(|&(user, _)| user).collect()
    }

    fn workers(&self) -> Vec<usize> {
        let workers: BTreeSet<_> = self.connections.iter().map(|&(_, worker)| worker).collect();
        workers.into_iter().collect()
    }

    fn is_here(&self, user: usize) -> bool {
        self.users().contains(&user)
    }

    /// A time the room gave: not before any other, and not invented.
    fn check_time(&mut self, time: u64) {
        assert!(time >= self.latest, "{time} after {}", self.latest);
        assert!(time >= self.now, "{time} is behind the clock, {}", self.now);
        assert!(time == self.now || time < 1000, "{time} is no time the clock ever showed");
        self.latest = time;
    }

    fn check_announcement(&mut self, frame: Option<&Prepared>, kind: &str, user: usize) {
        let frame = frame.unwrap_or_else(|| panic!("{kind} of {user} is not announced"));
        let announcement: Value = serde_json::from_slice(frame.payload()).unwrap();
        assert_eq!(announcement["type"], kind);
        assert_eq!(announcement["room"], "room");
        assert_eq!(announcement["userId"], user_id(user));
        assert_eq!(announcement["info"]["name"], format!("User {user}"));
        assert_eq!(announcement["userCount"], self.users().len());
        self.check_time(announcement["timestamp"].as_u64().unwrap());
    }

    fn check(&self, order: &Order<'_>) {
        assert_eq!(order.workers().collect::<Vec<_>>(), self.workers());
        assert_eq!(order.user_count(), self.users().len());
        assert_eq!(order.member_count(), self.connections.len());
        assert_eq!(order.is_empty(), self.connections.is_empty());
        assert_eq!(order.seq(), self.seq);
        let users: BTreeSet<_> = order.users().map(|who| who.user_id().to_owned()).collect();
        assert_eq!(users, self.users().into_iter().map(user_id).collect());
    }
}

fn user_id(user: usize) -> String {
    format!("u_{user}")
}

/// Each connection has an identity of its own.
fn identity(user: usize, session: usize) -> Arc<Identity> {
    let name = format!("User {user}");
    Arc::new(Identity::anonymous(&user_id(user), &format!("s_{session}"), Some(&name)))
}

fn run(steps: Vec<Step>) {
    let hub = Hub::new(7);
    let mut model = Model::default();
    let mut room = hub.room(Space(0), "room");
    let mut epochs = BTreeSet::from([room.order().epoch().0]);
    let mut sent: BTreeMap<u64, String> = BTreeMap::new();

    for (number, step) in steps.into_iter().enumerate() {
        let now = Timestamp(model.now);
        let mut order = room.order();
        let mut empty = false;
        match step {
            Step::Join { user, worker } => {
                let (known, alone) = (model.is_here(user), model.connections.is_empty());
                let joined = order.join(&identity(user, number), worker, now).unwrap();
                model.connections.push((user, worker));
                assert_eq!(joined.user_count, model.users().len());
                assert_eq!(joined.seq, model.seq);
                if known || alone {
                    assert!(joined.announcement.is_none());
                } else {
                    model.check_announcement(joined.announcement.as_ref(), "user_joined", user);
                }
                model.check_time(joined.timestamp.0);
            }
            Step::Leave { .. } if model.connections.is_empty() => {}
            Step::Leave { which } => {
                let (user, worker) =
                    model.connections.swap_remove(which.index(model.connections.len()));
                let left = order.leave(&identity(user, number), worker, now);
                empty = left.empty;
                assert_eq!(left.empty, model.connections.is_empty());
                assert_eq!(left.user_count, model.users().len());
                if model.is_here(user) || left.empty {
                    assert!(left.announcement.is_none());
                } else {
                    model.check_announcement(left.announcement.as_ref(), "user_left", user);
                }
            }
            Step::Intrude => {
                let left = order.leave(&identity(USERS, number), 0, now);
                assert!(left.announcement.is_none());
                assert_eq!(left.user_count, model.users().len());
            }
            Step::Publish { user } => {
                let text = format!(r#"{{"type":"chat","n":{number}}}"#);
                let Ok(Command::Publish(message)) = parse(text.as_bytes()) else { panic!() };
                let published = order.publish(&identity(user, number), &message, now);
                model.seq += 1;
                assert_eq!(published.seq, model.seq, "no hole, no repetition");
                model.check_time(published.timestamp.0);
                let value: Value = serde_json::from_slice(published.frame.payload()).unwrap();
                assert_eq!(value["seq"], published.seq);
                assert_eq!(value["timestamp"], published.timestamp.0);
                assert_eq!(value["from"], user_id(user));
                assert_eq!(value["n"], number);
                assert!(sent.insert(published.seq, text).is_none());
            }
            Step::Clock { now } => model.now = now,
            Step::Presence => {
                let mut out = Vec::new();
                order.presence(&mut out, None);
                let value: Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(value["userCount"], model.users().len());
                let users = value["users"].as_array().unwrap();
                let users: BTreeSet<_> =
                    users.iter().map(|user| user["userId"].as_str().unwrap().to_owned()).collect();
                assert_eq!(users, model.users().into_iter().map(user_id).collect());
            }
        }
        model.check(&order);
        drop(order);
        if empty {
            assert!(hub.release(&room));
            assert_eq!(hub.room_count(), 0);
            room = hub.room(Space(0), "room");
            assert!(epochs.insert(room.order().epoch().0), "seq starts again in a new epoch");
            model = Model { now: model.now, ..Model::default() };
            sent.clear();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_room_is_what_the_model_says(steps in prop::collection::vec(any_step(), 0..120)) {
        run(steps);
    }
}
