//! Random histories of one room against a model too simple to be wrong.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod lists;
mod steps;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use throng_hub::{
    Ending, History, Hub, Identity, Joined, Presence, Published, REF_WINDOW, Refused, Replay, Room,
    Rule, Space, Span, Start, Timestamp,
};
use throng_protocol::Code;

use lists::{Client, Line, Model, View, session, user_id};
use steps::{Setting, Since, Step, any_setting, any_step};
use support::{author, hub, json, message, seq_of};

/// A room and its model.
struct World {
    hub: Hub,
    room: Arc<Room>,
    model: Model,
}

impl World {
    fn new(setting: Setting) -> Self {
        let ttl = Duration::from_millis(setting.ttl);
        let hub = hub(Rule {
            history: History { size: setting.size, ttl, ..History::default() },
            presence: setting.presence,
            grace: Duration::from_millis(setting.grace),
            max_members: setting.max_members,
            ..Rule::default()
        });
        let room = hub.room(Space::ROOMS, "room", Timestamp(1));
        let model = Model {
            setting,
            clients: Vec::new(),
            lost: BTreeMap::new(),
            last_due: 0,
            kept: Vec::new(),
            seq: 0,
            now: 1,
            opened: 1,
            latest: 0,
            refs: BTreeMap::new(),
            known: BTreeMap::new(),
            timers: BTreeSet::new(),
            told: None,
            next_ref: 100,
            n: 0,
        };
        Self { hub, room, model }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join { user, worker, since, rewind } => self.join(user, worker, since, rewind),
            Step::Go { which, ending } => {
                if !self.model.clients.is_empty() {
                    let at = which.index(self.model.clients.len());
                    self.go(at, ending);
                }
            }
            Step::Intrude { ending } if self.model.setting.presence != Presence::Off => {
                let who = Arc::new(Identity::anonymous("u_intruder", "s_intruder", None));
                let now = Timestamp(self.model.now);
                let left = self.room.order().leave(&who, 0, ending, now);
                assert!(left.announcement.is_none() && left.wake.is_none());
                assert_eq!(left.user_count, self.model.user_count());
            }
            Step::Intrude { .. } => {}
            Step::Publish { user, reference } => self.publish(user, reference),
            Step::Burst { user } => {
                for _ in 0..REF_WINDOW / 2 + 3 {
                    self.model.next_ref += 1;
                    self.publish(user, Some(self.model.next_ref));
                }
            }
            Step::Replay { which, chunk } => {
                if !self.model.clients.is_empty() {
                    let at = which.index(self.model.clients.len());
                    self.replay(at, chunk);
                }
            }
            Step::History { span, limit } => self.history(span, limit),
            Step::Clock { now } => self.model.now = now,
            Step::Look => self.look(),
        }
        self.model.check(&self.room.order());
        if self.model.clients.is_empty() {
            self.begin_anew();
        }
    }

    /// Nobody is here: the room is forgotten, kept by its backend, and made again.
    fn begin_anew(&mut self) {
        let epoch = self.room.order().epoch();
        let presence_seq = self.room.order().presence_seq();
        assert!(self.hub.release(&self.room));
        assert_eq!(self.hub.room_count(), 0);
        // The number of presence begins with the time: no room is made twice in a millisecond.
        if self.model.now.max(self.model.latest) <= self.model.opened {
            self.model.now = self.model.opened + 1;
        }
        let now = self.model.now;
        self.model.opened = now.max(self.model.latest);
        self.room = self.hub.room(Space::ROOMS, "room", Timestamp(now));
        assert_eq!(self.room.order().epoch(), epoch, "its numbers go on");
        assert!(self.room.order().presence_seq() >= presence_seq, "nor is presence told anew");
        self.model.lost.clear();
        self.model.timers.clear();
        self.model.told = None;
    }

    fn join(&mut self, user: usize, worker: usize, since: Since, rewind: u32) {
        let mut order = self.room.order();
        let own = order.epoch().to_string();
        let model = &mut self.model;
        let known = model.known.get(&user).cloned();
        let since = match (since, &known) {
            (Since::Nothing, _) | (Since::Last, None) => None,
            (Since::Last, Some((epoch, seq, _))) => Some((epoch.clone(), *seq)),
            (Since::Behind(n), _) => Some((own.clone(), model.seq.saturating_add_signed(-n))),
            (Since::OtherEpoch(seq), _) => Some(("0000000000000".to_owned(), seq)),
        };
        let place = since.as_ref().map(|(epoch, seq)| (epoch.as_str(), *seq));
        let start = Start { since: place, rewind };
        let name = format!("User {user}");
        let who = Arc::new(Identity::anonymous(&user_id(user), &session(user), Some(&name)));
        let joined = order.join(&who, worker, &start, Timestamp(model.now));

        let full = model.setting.max_members;
        let present = model.setting.presence != Presence::Off && model.is_connected(user);
        if full > 0 && model.clients.len() >= full && !present {
            assert_eq!(joined.unwrap_err(), Refused::Full);
            return;
        }
        model.trim(model.now);
        let expected = model.start(place.map(|(epoch, seq)| (epoch == own, seq)), rewind);
        let Some((recovered, after)) = expected else {
            assert_eq!(joined.unwrap_err(), Refused::Future);
            return;
        };
        let joined: Joined = joined.unwrap();
        assert_eq!((joined.recovered, joined.after), (recovered, after));
        assert_eq!((joined.seq, joined.epoch.to_string()), (model.seq, own));
        assert_eq!(joined.presence_seq, order.presence_seq());
        model.timers.extend(joined.wake.map(|wake| wake.0));

        let new = !model.is_connected(user) && model.lost.remove(&user).is_none();
        let alone = model.clients.is_empty();
        let off = model.setting.presence == Presence::Off;
        model.check_time(joined.timestamp.0);
        // As a client that resumes: it keeps what it knows unless it is told that it is old.
        let view = match known {
            _ if off => View::default(),
            Some((.., view)) if view.seq == joined.presence_seq => view,
            _ => View::of(&order),
        };
        // Those who were here are told; the joiner is not a receiver yet.
        model.clients.push(Client { user, worker, who, seq: after, behind: true, view });
        assert_eq!(joined.user_count, model.user_count());
        let expected = (new && !alone && !off).then_some(("user_joined", user));
        model.announce(joined.announcement.as_ref(), expected, model.latest);
        model.clients.last_mut().unwrap().behind = after < joined.seq;
    }

    fn go(&mut self, at: usize, ending: Ending) {
        let model = &mut self.model;
        let client = model.clients.swap_remove(at);
        let user = client.user;
        let mut order = self.room.order();
        let left = order.leave(&client.who, client.worker, ending, Timestamp(model.now));
        model.timers.extend(left.wake.map(|wake| wake.0));
        // What it knew while it was behind is not of one moment; it asks anew.
        let view = if client.behind { View::default() } else { client.view };
        model.known.insert(user, (order.epoch().to_string(), client.seq, view));
        let (empty, off) = (model.clients.is_empty(), model.setting.presence == Presence::Off);
        let last = !off && !model.is_connected(user);
        if last && ending == Ending::Lost && model.setting.grace > 0 && !empty {
            let due = model.now + model.setting.grace;
            model.lost.insert(user, due);
            model.last_due = model.last_due.max(due);
            model.announce(left.announcement.as_ref(), None, 0);
        } else {
            if last {
                model.latest = model.latest.max(model.now);
            }
            let told = (last && !empty).then_some(("user_left", user));
            model.announce(left.announcement.as_ref(), told, model.latest);
        }
        assert_eq!(left.empty, empty);
        assert_eq!(left.user_count, model.user_count());
    }

    fn publish(&mut self, user: usize, reference: Option<u64>) {
        let model = &mut self.model;
        let mut order = self.room.order();
        model.n += 1;
        let n = model.n;
        let text = match reference {
            Some(reference) => format!(r#"{{"type":"chat","n":{n},"ref":{reference}}}"#),
            None => format!(r#"{{"type":"chat","n":{n}}}"#),
        };
        let (id, session) = (user_id(user), session(user));
        let author = author(&id, &session);
        let published = order.publish(&author, &message(&text), Timestamp(model.now));

        let refs = model.refs.entry(user).or_default();
        if let Some(reference) = reference {
            let newest = refs.len().saturating_sub(REF_WINDOW);
            let find = |refs: &[(u64, u64, u64)]| {
                refs.iter().find(|(known, ..)| *known == reference).copied()
            };
            if let Some((_, seq, timestamp)) = find(&refs[newest..]) {
                let Ok(Published::Before { seq: again, timestamp: when }) = published else {
                    panic!("{reference} was published as {seq}: {published:?}");
                };
                assert_eq!((again, when.0), (seq, timestamp));
                return;
            }
            if refs[..newest].iter().any(|(old, ..)| *old >= reference) {
                assert_eq!(published.unwrap_err().code, Code::BadMessage);
                return;
            }
        }
        let Ok(Published::Now { frame, seq: Some(seq), timestamp }) = published else {
            panic!("{published:?}");
        };
        model.seq += 1;
        assert_eq!(seq, model.seq, "no hole, no repetition");
        if let Some(reference) = reference {
            refs.push((reference, seq, timestamp.0));
        }
        model.check_time(timestamp.0);
        model.kept.push(Line { seq, timestamp: timestamp.0, n });
        model.trim(timestamp.0);
        let value = json(&frame);
        assert_eq!((&value["seq"], &value["timestamp"]), (&seq.into(), &timestamp.0.into()));
        assert_eq!((&value["from"], &value["n"]), (&id.into(), &n.into()));
        for client in model.clients.iter_mut().filter(|client| !client.behind) {
            assert_eq!(client.seq + 1, seq, "live members have everything before");
            client.seq = seq;
        }
    }

    fn replay(&mut self, at: usize, chunk: usize) {
        let model = &mut self.model;
        let client = &mut model.clients[at];
        if !client.behind {
            return;
        }
        let order = self.room.order();
        let mut frames = Vec::new();
        let replay = order.replay(client.seq, |frame| {
            frames.push(frame.clone());
            frames.len() < chunk
        });
        let (after, first) =
            (client.seq, model.kept.first().map_or(model.seq + 1, |line| line.seq));
        if after < model.seq && after + 1 < first {
            assert_eq!((replay, frames.len()), (Replay::Lost, 0));
            drop(order);
            return self.go(at, Ending::Lost);
        }
        let owed = model.kept.iter().filter(|line| line.seq > after).take(chunk);
        let owed: Vec<_> = owed.map(|line| (line.seq, line.n)).collect();
        let given = frames.iter().map(|frame| {
            let value: Value = serde_json::from_slice(throng_hub::text_of(frame)).unwrap();
            (seq_of(frame), value["n"].as_u64().unwrap())
        });
        assert_eq!(given.collect::<Vec<_>>(), owed);
        client.seq = owed.last().map_or(after, |(seq, _)| *seq);
        if client.seq < model.seq {
            assert_eq!(replay, Replay::More(client.seq));
            return;
        }
        assert_eq!(replay, Replay::Live);
        client.behind = false;
        if model.setting.presence != Presence::Off && client.view.seq != order.presence_seq() {
            client.view = View::of(&order);
        }
    }

    fn history(&mut self, span: Span, limit: usize) {
        let model = &mut self.model;
        let now = Timestamp(model.now);
        let page = self.room.order().history(span, limit, 1 << 20, None, now).unwrap();
        model.trim(model.now);
        let matching = model.kept.iter().map(|line| line.n_and_seq());
        let mut matching: Vec<_> = matching
            .filter(|(_, seq)| match span {
                Span::Newest => true,
                Span::Before(before) => *seq < before,
                Span::After(after) => *seq > after,
            })
            .collect();
        let surplus = matching.len().saturating_sub(limit);
        match span {
            Span::After(_) => matching.truncate(limit),
            _ => drop(matching.drain(..surplus)),
        }
        let given = page.messages.iter().map(|text| {
            let value: Value = serde_json::from_slice(text).unwrap();
            (value["n"].as_u64().unwrap(), value["seq"].as_u64().unwrap())
        });
        assert_eq!((given.collect::<Vec<_>>(), page.more), (matching, surplus > 0));
    }

    /// The caller looks at the room when it was asked to, at the earliest.
    fn look(&mut self) {
        let model = &mut self.model;
        let Some(due) = model.timers.pop_first() else { return };
        model.now = model.now.max(due);
        let mut order = self.room.order();
        let looked = order.handle_timeout(Timestamp(model.now));
        model.timers.extend(looked.wake.map(|wake| wake.0));
        if let Some(wake) = looked.wake {
            assert!(wake.0 > model.now, "asks for a look at once, again and again");
        }
        let mut frames = looked.frames.iter();
        // Whoever is gone is not among the users any more.
        let users: BTreeSet<_> = order.users().map(|who| who.user_id().to_owned()).collect();
        let gone: Vec<_> =
            model.lost.keys().copied().filter(|user| !users.contains(&user_id(*user))).collect();
        for (user, due) in &model.lost {
            let is_gone = gone.contains(user);
            assert!(!is_gone || *due <= model.now, "{user} has until {due}");
            assert!(is_gone || model.now < model.last_due, "{user} is kept beyond all graces");
        }
        if model.setting.presence == Presence::Full {
            let told: Vec<_> = looked.frames.iter().map(json).collect();
            assert_eq!(told.len(), gone.len());
            for (frame, told) in frames.by_ref().zip(&told) {
                let user = *gone.iter().find(|user| told["userId"] == user_id(**user)).unwrap();
                model.lost.remove(&user).expect("told once");
                model.announce(Some(frame), Some(("user_left", user)), model.now);
            }
        } else {
            for user in &gone {
                model.lost.remove(user);
            }
            for frame in frames {
                model.announce(Some(frame), Some(("", 0)), model.now);
            }
        }
    }

    /// Time goes on until nothing is left to be looked at. Then everybody knows who is there.
    fn settle(&mut self) {
        while let Some(at) = self.model.clients.iter().position(|client| client.behind) {
            self.replay(at, 1000);
        }
        if self.model.clients.is_empty() {
            return;
        }
        for looks in 0.. {
            assert!(looks < 1000, "it does not come to an end");
            if self.model.timers.is_empty() {
                break;
            }
            self.step(&Step::Look);
        }
        assert!(self.model.lost.is_empty(), "nobody looks for {:?}", self.model.lost);
        if self.model.setting.presence == Presence::Off || self.model.clients.is_empty() {
            return;
        }
        let order = self.room.order();
        let view = View::of(&order);
        for client in &self.model.clients {
            assert_eq!(client.view.count, view.count, "the last number is told to {}", client.user);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_room_is_what_the_model_says(
        setting in any_setting(),
        steps in prop::collection::vec(any_step(), 0..80),
    ) {
        let mut world = World::new(setting);
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}
