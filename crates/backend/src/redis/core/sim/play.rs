//! One history: what users do, what fails, and what has to be true when everything works again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use throng_hub::Identity;
use throng_wire::OpCode;

use super::Rng;
use super::ledger::body_of;
use super::server::Data;
use super::view::{Look, News, Pending};
use super::world::{LONGEST_PAUSE, PATIENCE, PROBE, World};
use crate::redis::core::{Draft, Held, Kind};
use crate::redis::step::{Limits, Name};

/// A history.
pub(super) struct Play {
    world: World,
    rooms: Vec<(Name, Held)>,
    /// The messages so far.
    messages: u64,
    tokens: u64,
    /// What was refused and is tried again, by room.
    again: Vec<(Name, Pending)>,
    /// The `ref`s each session has used.
    references: BTreeMap<(Name, u64), u64>,
    faults: Faults,
}

/// What may fail in this history, in percent of the steps.
#[derive(Debug)]
struct Faults {
    cuts: u64,
    servers: u64,
    nodes: u64,
    pauses: u64,
    full: u64,
}

/// What has happened, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals(BTreeMap<&'static str, u64>);

impl Totals {
    pub(super) fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    pub(super) fn has(&self, what: &str) -> bool {
        self.0.contains_key(what)
    }

    pub(super) fn rows(&self) -> Vec<(&'static str, u64)> {
        self.0.iter().map(|(&what, &times)| (what, times)).collect()
    }
}

impl Play {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let calm = rng.percent(15);
        let chance = |rng: &mut Rng, most: u64| match calm || rng.percent(40) {
            true => 0,
            false => rng.range(1, most),
        };
        let faults = Faults {
            cuts: chance(&mut rng, 12),
            servers: chance(&mut rng, 4),
            nodes: chance(&mut rng, 3),
            pauses: chance(&mut rng, 3),
            full: chance(&mut rng, 3),
        };
        let (leak, slow) = (chance(&mut rng, 50), chance(&mut rng, 30));
        let jumbled = rng.percent(30);
        let delay = [1, 5, 20, 100][rng.below(4) as usize];
        let mut rooms = Vec::new();
        for n in 0..rng.range(1, 3) {
            let size = [0, 3, 10, 100][rng.below(4) as usize];
            let kind = match rng.below(10) {
                0 => Kind::Cast,
                1 => Kind::Seen,
                _ => Kind::Kept,
            };
            let ttl = if rng.percent(20) { 5000 } else { 3_600_000 };
            let limits = Limits { size, bytes: 1 << 20, ttl, replicas: 0 };
            rooms.push((Name::from(format!("room{n}")), Held { limits, kind }));
        }
        let mut world = World::new(rng);
        (world.jumbled, world.leak, world.slow, world.delay) = (jumbled, leak, slow, delay);
        let nodes = world.rng.range(1, 4);
        for _ in 0..nodes {
            world.start_node();
        }
        Self {
            world,
            rooms,
            messages: 0,
            tokens: 0,
            again: Vec::new(),
            references: BTreeMap::new(),
            faults,
        }
    }

    /// Prints everything as it happens.
    pub(super) fn loud(mut self) -> Self {
        self.world.loud = true;
        self
    }

    /// Plays it to its end. Panics where a rule is broken.
    pub(super) fn run(mut self) -> Totals {
        let steps = self.world.rng.range(20, 150);
        let pace = [2, 20, 200, 600][self.world.rng.below(4) as usize];
        for _ in 0..steps {
            let wait = self.world.rng.range(0, pace);
            self.pass(wait);
            self.step();
            self.fail();
        }
        self.heal();
        self.check();
        Totals(self.world.counts)
    }

    /// Lets time pass, with the registry beating.
    fn pass(&mut self, time: u64) {
        let until = self.world.now + time;
        while self.world.now < until {
            let beat = (self.world.now / BEAT + 1) * BEAT;
            self.world.run_until(beat.min(until));
            self.world.check_current();
            if self.world.now == beat {
                self.world.tell_alive();
            }
        }
        for (_, name, news) in std::mem::take(&mut self.world.news) {
            self.world.count(match &news {
                News::Refused(_) => "messages refused",
                News::Closed => "rooms that could not be opened",
                News::Renewed => "rooms that began anew",
                News::Duplicate => "messages stored before",
                News::Acknowledged => "messages stored",
                News::Arrived => "messages of other nodes",
                News::Cast => "casts",
                News::Looked => "looks",
            });
            if let News::Refused(pending) = news {
                let retries = pending.reference != 0 && self.world.rng.percent(70);
                if retries {
                    self.again.push((name, pending));
                }
            }
        }
    }

    /// Somebody does something.
    fn step(&mut self) {
        let world = &mut self.world;
        let running: Vec<usize> = (0..world.nodes.len())
            .filter(|&n| world.nodes[n].up && !world.nodes[n].paused)
            .collect();
        let Some(&node) = world.rng.pick(&running) else { return };
        let Some((name, held)) = world.rng.pick(&self.rooms).cloned() else { return };
        let Some(view) = world.nodes[node].rooms.get(&name) else {
            return world.open(node, &name, held);
        };
        if !view.open {
            return;
        }
        match world.rng.below(100) {
            0..55 if held.kind == Kind::Kept => {
                for _ in 0..world.rng.range(1, 4) {
                    self.publish(node, &name);
                }
            }
            0..65 => {
                let user = world.rng.below(6);
                let user = format!("user{user}");
                let who = Arc::new(Identity::anonymous(&user, "", None));
                world.act(node, |core, rooms, now| {
                    let here = &mut rooms.get_mut(&name).expect("there").here;
                    if held.kind != Kind::Cast && here.insert(user.clone().into()) {
                        core.seat(&name, who, now);
                    } else if here.remove(&*user) {
                        core.unseat(&name, &user, now);
                    }
                });
            }
            65..75 => {
                let at = world.reachable(node, &name);
                let failures = world.nodes[node].failures;
                world.act(node, |core, rooms, now| {
                    let view = rooms.get_mut(&name).expect("there");
                    view.looks.push(Look { at, failures });
                    core.look(&name, now);
                });
            }
            75..85 => {
                self.messages += 1;
                let cast = (node as u64) << 32 | self.messages;
                world.act(node, |core, _, now| {
                    let payload = Bytes::copy_from_slice(&cast.to_be_bytes());
                    core.cast(&name, OpCode::Binary, payload, now);
                });
            }
            85..93 => {
                let view = &world.nodes[node].rooms[&name];
                if view.pending.is_empty() && view.looks.is_empty() {
                    world.count("rooms closed");
                    world.close(node, &name);
                }
            }
            _ => {}
        }
    }

    /// Somebody publishes, something new or what was refused.
    fn publish(&mut self, node: usize, name: &Name) {
        let rng = &mut self.world.rng;
        let again = self.again.iter().position(|(room, _)| room == name);
        let pending = match again.filter(|_| rng.percent(60)) {
            Some(at) => {
                let (_, pending) = self.again.remove(at);
                Pending { since: self.world.now, ..pending }
            }
            None => {
                self.messages += 1;
                let (message, since) = (self.messages, self.world.now);
                if rng.percent(30) {
                    Pending { message, session: "".into(), reference: 0, since }
                } else {
                    let session = rng.below(3);
                    let reference = self.references.entry((name.clone(), session)).or_default();
                    *reference += 1;
                    let session = format!("s{session}").into();
                    Pending { message, session, reference: *reference, since }
                }
            }
        };
        let twice = pending.reference != 0 && rng.percent(5);
        self.tokens += 1;
        let (token, draft) = (self.tokens, pending.clone());
        if twice {
            // The client has gone to another node, and sends it there as well.
            self.again.push((name.clone(), pending.clone()));
        }
        self.world.act(node, |core, rooms, now| {
            let view = rooms.get_mut(name).expect("there");
            let Pending { message, session, reference, .. } = draft;
            let body = body_of(message);
            view.pending.insert(token, pending);
            assert!(core.append(name, Draft { session, reference, body, token }, now).is_ok());
        });
    }

    /// Something fails.
    fn fail(&mut self) {
        let world = &mut self.world;
        let node = world.rng.below(world.nodes.len() as u64) as usize;
        let up = world.nodes[node].up;
        if up && world.rng.percent(self.faults.cuts) {
            if world.rng.percent(50) {
                world.count("connections for commands cut");
                world.cut_commands(node);
            } else {
                world.count("connections for channels cut");
                world.cut_channel(node);
            }
        }
        if world.rng.percent(30) {
            world.copy();
        }
        if world.rng.percent(self.faults.servers) {
            self.fail_server();
        }
        let world = &mut self.world;
        if up && world.rng.percent(self.faults.nodes) {
            world.count("nodes killed");
            world.nodes[node].up = false;
            let id = world.nodes[node].id.clone();
            let until = world.now + world.rng.range(0, 5000);
            world.run_until(until);
            world.declare_dead(&id);
            world.start_node();
        } else if up && !world.nodes[node].paused && world.rng.percent(self.faults.pauses) {
            world.nodes[node].paused = true;
            world.fail(node);
            let time = world.rng.range(10, LONGEST_PAUSE);
            let half = world.now + time / 2;
            world.run_until(half);
            if time > 5000 {
                world.count("nodes paused and taken for dead");
                let id = world.nodes[node].id.clone();
                world.declare_dead(&id);
            } else {
                world.count("nodes paused");
            }
            world.run_until(half + time / 2);
            world.resume(node);
            if time > 5000 && world.nodes[node].up {
                world.rebirth(node);
            }
        }
        let full = self.faults.full;
        if let Some(server) = world.servers.last_mut() {
            let change = if server.full { 20 } else { full };
            server.full ^= world.rng.percent(change);
        }
    }

    fn fail_server(&mut self) {
        let world = &mut self.world;
        let Some(server) = world.servers.last() else { return };
        let (data, replica, owner) = (server.data.clone(), server.replica.clone(), server.skew);
        let skew = owner + [0, 0, 3_600_000, -3_600_000][world.rng.below(4) as usize];
        match world.rng.below(4) {
            0 => {
                world.count("servers started again");
                world.replace_server(data, skew, true);
            }
            1 => {
                world.count("servers started without their tail");
                world.replace_server(replica, skew, true);
            }
            2 => {
                world.count("servers replaced");
                world.replace_server(replica, skew, false);
            }
            _ => {
                world.count("servers flushed");
                (0..world.nodes.len()).for_each(|node| world.fail(node));
                for (room, state) in data.rooms {
                    let lost = state.archive.values().map(|&message| (room.clone(), message));
                    world.ledger.lost.extend(lost);
                }
                if let Some(server) = world.servers.last_mut() {
                    server.data = Data::default();
                    server.replica = Data::default();
                    server.skew = skew;
                }
            }
        }
    }

    /// Everything works again, and a node comes that nobody has known.
    fn heal(&mut self) {
        let world = &mut self.world;
        (world.leak, world.slow) = (0, 0);
        for server in &mut world.servers {
            server.full = false;
        }
        (0..world.nodes.len()).for_each(|node| world.fail(node));
        for _ in 0..SETTLE / 100 {
            self.pass(100);
        }
        let auditor = self.world.start_node();
        for (name, held) in self.rooms.clone() {
            self.world.open(auditor, &name, held);
        }
        self.pass(SETTLE);
    }

    /// What has to be true in the end.
    fn check(&mut self) {
        let world = &self.world;
        let mut lost = world.ledger.lost.clone();
        for (old, new) in world.servers.iter().zip(&world.servers[1..]) {
            for (room, state) in &old.data.rooms {
                let kept = new.began.rooms.get(room);
                let kept: BTreeSet<u64> =
                    kept.into_iter().flat_map(|state| state.archive.values().copied()).collect();
                let gone = state.archive.values().filter(|message| !kept.contains(message));
                lost.extend(gone.map(|&message| (room.clone(), message)));
            }
        }
        let last = &world.servers.last().expect("a server").data;
        for (room, state) in &last.rooms {
            let once: BTreeSet<u64> = state.archive.values().copied().collect();
            assert_eq!(once.len(), state.archive.len(), "stored twice: {:?}", state.archive);
            let dense = state.archive.keys().copied().eq(1..=state.seq);
            assert!(dense, "numbers with holes");
            let users: BTreeSet<&Box<str>> = state.roll.values().flat_map(BTreeMap::keys).collect();
            for (n, node) in world.nodes.iter().enumerate() {
                if let Some(listed) = state.roll.get(&node.id).filter(|_| node.up) {
                    let here = node.rooms.get(room).map(|view| view.here.clone());
                    let listed: BTreeSet<Box<str>> = listed.keys().cloned().collect();
                    assert_eq!(listed, here.unwrap_or_default(), "who is on node {n} in {room}");
                }
            }
            let alive: BTreeSet<&Box<str>> = world
                .nodes
                .iter()
                .filter(|node| node.up)
                .filter_map(|node| node.rooms.get(room))
                .flat_map(|view| &view.here)
                .collect();
            assert_eq!(users, alive, "who is in {room}");
        }
        for (room, message) in &world.ledger.promised {
            let state = last.rooms.get(room);
            let there = state.is_some_and(|state| state.archive.values().any(|m| m == message));
            let known = (room.clone(), *message);
            assert!(there || lost.contains(&known), "{message} was promised and is gone");
            assert!(world.ledger.stored.contains(&known), "{message} was never stored");
        }
        for (n, node) in world.nodes.iter().enumerate().filter(|(_, node)| node.up) {
            for (name, view) in &node.rooms {
                assert!(view.open, "node {n} still opens {name}");
                assert!(view.current, "node {n} does not know whether {name} is current");
                assert!(view.pending.is_empty(), "node {n} {name} waits for {:?}", view.pending);
                assert!(view.looks.is_empty(), "node {n} {name} looks: {:?}", view.looks);
                if view.kind == Kind::Kept {
                    let state = &last.rooms[name];
                    let at = (view.epoch, view.seq);
                    assert_eq!(at, (state.epoch, state.seq), "where node {n} is in {name}");
                }
                if view.kind != Kind::Cast {
                    let others =
                        world.nodes.iter().enumerate().filter(|(m, other)| *m != n && other.up);
                    let there = others.filter_map(|(_, other)| other.rooms.get(name));
                    let there: BTreeSet<Box<str>> =
                        there.flat_map(|view| view.here.iter().cloned()).collect();
                    assert_eq!(view.elsewhere, there, "who node {n} believes is in {name}");
                }
            }
        }
    }
}

/// How often the registry tells who is alive.
const BEAT: u64 = 2000;
/// Long enough for everything that is repeated or looked at again.
const SETTLE: u64 = 4 * PROBE + PATIENCE + LONGEST_PAUSE;
