//! Random histories of one room against a model too simple to be wrong.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use throng_hub::{
    Ending, History, Hub, Identity, Joined, Order, Presence, Published, REF_WINDOW, Refused,
    Replay, Room, Rule, Space, Span, Start, Timestamp,
};
use throng_protocol::Code;
use throng_wire::Prepared;

use support::{author, hub, json, message, presence_of, seq_of};

const USERS: usize = 4;
const WORKERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Join {
        user: usize,
        worker: usize,
        since: Since,
        rewind: u32,
    },
    /// One of the connections goes.
    Go {
        which: prop::sample::Index,
        ending: Ending,
    },
    /// Somebody goes who is not here.
    Intrude {
        ending: Ending,
    },
    /// With a `ref` among few, so that some come again.
    Publish {
        user: usize,
        reference: Option<u64>,
    },
    /// Many messages with fresh `ref`s.
    Burst {
        user: usize,
    },
    /// A member that is behind takes so many messages.
    Replay {
        which: prop::sample::Index,
        chunk: usize,
    },
    History {
        span: Span,
        limit: usize,
    },
    /// The clock jumps, also backwards.
    Clock {
        now: u64,
    },
    /// The clock goes on to when the room wants to be looked at.
    Look,
}

/// What somebody who joins says to know.
#[derive(Clone, Copy, Debug)]
enum Since {
    Nothing,
    /// What the user's last connection knew of the room.
    Last,
    /// So many messages before the last one, or beyond it.
    Behind(i64),
    OtherEpoch(u64),
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    presence: Presence,
    size: usize,
    ttl: u64,
    grace: u64,
    max_members: usize,
}

fn any_setting() -> impl Strategy<Value = Setting> {
    let presence = prop_oneof![
        3 => Just(Presence::Full),
        2 => Just(Presence::Count),
        1 => Just(Presence::Off)
    ];
    let sizes = prop::sample::select(vec![0, 1, 4, 1000]);
    let ttls = prop::sample::select(vec![500, 1_000_000]);
    let graces = prop::sample::select(vec![0, 300, 1500]);
    let members = prop::sample::select(vec![0, 0, 0, 3]);
    (presence, sizes, ttls, graces, members).prop_map(
        |(presence, size, ttl, grace, max_members)| Setting {
            presence,
            size,
            ttl,
            grace,
            max_members,
        },
    )
}

fn any_ending() -> impl Strategy<Value = Ending> {
    prop_oneof![1 => Just(Ending::Orderly), 2 => Just(Ending::Lost)]
}

fn any_since() -> impl Strategy<Value = Since> {
    prop_oneof![
        2 => Just(Since::Nothing),
        3 => Just(Since::Last),
        3 => (-2i64..8).prop_map(Since::Behind),
        1 => (0u64..9).prop_map(Since::OtherEpoch),
    ]
}

fn any_span() -> impl Strategy<Value = Span> {
    prop_oneof![
        Just(Span::Newest),
        (0u64..20).prop_map(Span::Before),
        (0u64..20).prop_map(Span::After)
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    let join = (0..USERS, 0..WORKERS, any_since(), 0u32..5);
    prop_oneof![
        6 => join.prop_map(|(user, worker, since, rewind)| Step::Join { user, worker, since, rewind }),
        5 => (index(), any_ending()).prop_map(|(which, ending)| Step::Go { which, ending }),
        1 => any_ending().prop_map(|ending| Step::Intrude { ending }),
        6 => (0..USERS, prop::option::of(1u64..6))
            .prop_map(|(user, reference)| Step::Publish { user, reference }),
        1 => (0..USERS).prop_map(|user| Step::Burst { user }),
        3 => (index(), 1usize..4).prop_map(|(which, chunk)| Step::Replay { which, chunk }),
        2 => (any_span(), 1usize..6).prop_map(|(span, limit)| Step::History { span, limit }),
        3 => (1u64..4000).prop_map(|now| Step::Clock { now }),
        3 => Just(Step::Look),
    ]
}

/// A connection, as its client sees it.
struct Client {
    user: usize,
    worker: usize,
    who: Arc<Identity>,
    /// The last message it has.
    seq: u64,
    /// It is not live yet.
    behind: bool,
    view: View,
}

/// What a client knows of who is there: the number, and where it is told who they are.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    seq: u64,
    count: u64,
    users: BTreeSet<String>,
}

impl View {
    fn of(order: &Order<'_>) -> Self {
        let told = presence_of(order);
        let users = told["users"].as_array().into_iter().flatten();
        Self {
            seq: told["presenceSeq"].as_u64().unwrap(),
            count: told["userCount"].as_u64().unwrap(),
            users: users.map(|user| user["userId"].as_str().unwrap().to_owned()).collect(),
        }
    }

    /// A client takes what is newer than what it knows.
    fn take(&mut self, told: &Value) {
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

struct Line {
    seq: u64,
    timestamp: u64,
    n: u64,
}

/// What must be true of a room, by the shortest way: lists.
struct Model {
    setting: Setting,
    clients: Vec<Client>,
    /// Users without a connection who still count, and until when at least.
    lost: BTreeMap<usize, u64>,
    /// No grace ends later than this.
    last_due: u64,
    /// What is kept of the past.
    kept: Vec<Line>,
    seq: u64,
    now: u64,
    /// When the room was made.
    opened: u64,
    /// The latest time seen in anything the room said.
    latest: u64,
    /// What was published by `ref`, the oldest first.
    refs: BTreeMap<usize, Vec<(u64, u64, u64)>>,
    /// What each user's last connection knew: epoch, number, presence.
    known: BTreeMap<usize, (String, u64, View)>,
    /// When the room asked to be looked at.
    timers: BTreeSet<u64>,
    /// When the number of users was told.
    told: Option<u64>,
    next_ref: u64,
    n: u64,
}

impl Model {
    fn users(&self) -> BTreeSet<usize> {
        let here = self.clients.iter().map(|client| client.user);
        here.chain(self.lost.keys().copied()).collect()
    }

    fn user_count(&self) -> usize {
        match self.setting.presence {
            Presence::Off => self.clients.len(),
            _ => self.users().len(),
        }
    }

    fn is_connected(&self, user: usize) -> bool {
        self.clients.iter().any(|client| client.user == user)
    }

    fn workers(&self) -> Vec<usize> {
        let workers: BTreeSet<_> = self.clients.iter().map(|client| client.worker).collect();
        workers.into_iter().collect()
    }

    fn trim(&mut self, now: u64) {
        let Setting { size, ttl, .. } = self.setting;
        let surplus = self.kept.len().saturating_sub(size);
        self.kept.drain(..surplus);
        self.kept.retain(|line| line.timestamp + ttl >= now);
    }

    fn first(&self) -> u64 {
        self.kept.first().map_or(self.seq + 1, |line| line.seq)
    }

    /// A time the room gave: not before any other, and not invented.
    fn check_time(&mut self, time: u64) {
        assert!(time >= self.latest, "{time} after {}", self.latest);
        assert!(time >= self.now, "{time} is behind the clock, {}", self.now);
        self.latest = time;
    }

    /// What all members are told of a user, or of their number, at this time of the room.
    fn announce(&mut self, frame: Option<&Prepared>, expected: Option<(&str, usize)>, now: u64) {
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
    fn start(&self, since: Option<(bool, u64)>, rewind: u32) -> Option<(bool, u64)> {
        let rewound = self.seq.saturating_sub(u64::from(rewind)).max(self.first() - 1);
        match since {
            None => Some((true, rewound)),
            Some((false, _)) => Some((false, rewound)),
            Some((true, since)) if since > self.seq => None,
            Some((true, since)) if since + 1 >= self.first() => Some((true, since)),
            Some((true, _)) => Some((false, rewound)),
        }
    }

    fn check(&self, order: &Order<'_>) {
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

fn user_id(user: usize) -> String {
    format!("u_{user}")
}

fn session(user: usize) -> String {
    format!("s_{user}")
}

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

impl Line {
    fn n_and_seq(&self) -> (u64, u64) {
        (self.n, self.seq)
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
