//! What lies between the cores and the servers: connections, clocks, and the list of who is alive.

mod links;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use throng_hub::Epoch;

use super::Rng;
use super::ledger::Ledger;
use super::server::{Data, Server};
use super::view::{News, View};
use crate::redis::core::{AskId, Channel, Core, Effect, Kind};
use crate::redis::step::{Ask, Event, Name, NodeId, Told};

/// Everything.
pub(super) struct World {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) servers: Vec<Server>,
    pub(super) nodes: Vec<Node>,
    pub(super) ledger: Ledger,
    pub(super) dead: Vec<NodeId>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// What was told since somebody asked.
    pub(super) news: Vec<(usize, Name, News)>,
    /// No two answers come in the order of their questions.
    pub(super) jumbled: bool,
    /// Of a thousand events, so many get lost without anybody knowing.
    pub(super) leak: u64,
    /// Of a thousand questions, so many are answered too late.
    pub(super) slow: u64,
    /// How long something is under way at most, in milliseconds.
    pub(super) delay: u64,
    /// Everything is printed as it happens.
    pub(super) loud: bool,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    things: BTreeMap<u64, Thing>,
    serial: u64,
    epochs: u64,
    copied: u64,
}

/// A node.
pub(super) struct Node {
    pub(super) id: NodeId,
    core: Core<(usize, u64), u64>,
    /// It is still there.
    pub(super) up: bool,
    pub(super) paused: bool,
    backlog: VecDeque<Input>,
    pub(super) rooms: BTreeMap<Name, View>,
    /// The serial number of each room's opening.
    lives: BTreeMap<Name, u64>,
    commands: Link,
    channel: Link,
    wants: BTreeSet<Name>,
    asked: BTreeSet<AskId>,
    wake: Option<u64>,
    /// How often something went wrong between this node and Redis.
    pub(super) failures: u64,
    /// When that was the last time, and when an event got lost.
    failed: u64,
    leaked: u64,
}

/// A connection.
#[derive(Debug, Default)]
struct Link {
    /// Which one, counted.
    round: u64,
    up: bool,
    server: usize,
    heard: BTreeSet<Name>,
    /// When the last thing arrived there, and here.
    there: u64,
    here: u64,
}

/// Something that comes to a node.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Told(AskId, Told),
    Event(Name, Event),
    Subscribed(Name),
    Unsubscribed(Name),
    Away,
    Back,
    Dead(NodeId),
    Alive(Vec<NodeId>),
    Reborn(NodeId),
    Wake,
}

/// Something that happens at a time.
#[derive(Debug)]
enum Thing {
    Input(usize, Input),
    /// A question arrives at a server. Nobody waits for it if its connection is gone.
    Ask {
        node: usize,
        round: u64,
        server: usize,
        id: AskId,
        ask: Ask,
        mute: bool,
    },
    Answer {
        node: usize,
        round: u64,
        id: AskId,
        told: Told,
    },
    Event {
        node: usize,
        round: u64,
        name: Name,
        event: Event,
    },
    Subscribe {
        node: usize,
        round: u64,
        name: Name,
        on: bool,
    },
    Confirm {
        node: usize,
        round: u64,
        name: Name,
    },
    Connect {
        node: usize,
        round: u64,
        commands: bool,
    },
    Cut {
        node: usize,
        commands: bool,
    },
}

impl World {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            now: 1_000_000,
            rng,
            servers: vec![Server::new(1, Data::default(), 0)],
            nodes: Vec::new(),
            ledger: Ledger::default(),
            dead: Vec::new(),
            counts: BTreeMap::new(),
            news: Vec::new(),
            jumbled: false,
            leak: 0,
            slow: 0,
            delay: 20,
            loud: false,
            queue: BinaryHeap::new(),
            things: BTreeMap::new(),
            serial: 0,
            epochs: 0,
            copied: 0,
        }
    }

    fn say(&self, node: usize, what: impl FnOnce() -> String) {
        if self.loud {
            println!("{:>6} node {node} {}", self.now - 1_000_000, what());
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
        if self.loud {
            println!("{:>6} {what}", self.now - 1_000_000);
        }
    }

    /// A node starts.
    pub(super) fn start_node(&mut self) -> usize {
        let node = self.nodes.len();
        let id = NodeId::from(format!("node{node}"));
        let mut core = Core::new(id.clone(), self.rng.next());
        core.tune(PROBE, PATIENCE);
        let link = || Link { up: true, server: self.servers.len() - 1, ..Link::default() };
        self.nodes.push(Node {
            id,
            core,
            up: true,
            paused: false,
            backlog: VecDeque::new(),
            rooms: BTreeMap::new(),
            lives: BTreeMap::new(),
            commands: link(),
            channel: link(),
            wants: BTreeSet::new(),
            asked: BTreeSet::new(),
            wake: None,
            failures: 0,
            failed: self.now,
            leaked: 0,
        });
        for dead in self.dead.clone() {
            self.input(node, 1, Input::Dead(dead));
        }
        node
    }

    /// Lets time pass until then.
    pub(super) fn run_until(&mut self, until: u64) {
        while let Some(&Reverse((at, serial))) = self.queue.peek()
            && at <= until
        {
            self.queue.pop();
            self.now = self.now.max(at);
            if self.now > self.copied + LONGEST_LAG {
                self.copy();
            }
            if let Some(thing) = self.things.remove(&serial) {
                self.happen(thing);
            }
        }
        self.now = until;
    }

    /// A replica, or the disk, has everything up to now.
    pub(super) fn copy(&mut self) {
        self.copied = self.now;
        if let Some(server) = self.servers.last_mut() {
            server.replica = server.data.clone();
        }
    }

    fn at(&mut self, time: u64, thing: Thing) {
        self.serial += 1;
        self.queue.push(Reverse((time, self.serial)));
        self.things.insert(self.serial, thing);
    }

    pub(super) fn input(&mut self, node: usize, delay: u64, input: Input) {
        self.at(self.now + delay, Thing::Input(node, input));
    }

    fn delay(&mut self) -> u64 {
        let most = if self.rng.percent(5) { self.delay * 10 } else { self.delay };
        self.rng.range(0, most)
    }

    fn happen(&mut self, thing: Thing) {
        match thing {
            Thing::Input(node, input) => self.handle(node, input),
            Thing::Ask { node, round, server, id, ask, mute } => {
                let commands = &self.nodes[node].commands;
                let gone = commands.round != round || !self.nodes[node].up;
                if gone && !mute {
                    // It got there, or not; or it gets there later than anybody would think.
                    let fate = self.rng.below(3);
                    if fate == 0 {
                        return;
                    }
                    if fate == 1 {
                        self.count("questions that came late");
                        let late = self.now + self.rng.range(0, 3000);
                        return self
                            .at(late, Thing::Ask { node, round, server, id, ask, mute: true });
                    }
                }
                self.epochs += 1;
                let fresh = Epoch(u64::MAX - self.epochs);
                let name = ask.room.clone();
                let now = self.now;
                self.say(node, || format!("at server {server}: {id:?} {:?}", ask.what));
                let (told, event) = self.servers[server].run(ask, now, fresh, &mut self.ledger);
                if matches!(told, Told::Failed(_)) {
                    self.count("refused by a full server");
                }
                if let Some(event) = event {
                    self.publish(server, name, event);
                }
                if !gone && !mute {
                    let delay = self.delay();
                    let link = &mut self.nodes[node].commands;
                    let at = now + delay;
                    let at = if self.jumbled { at } else { at.max(link.here) };
                    link.here = at;
                    self.at(at, Thing::Answer { node, round, id, told });
                }
            }
            Thing::Answer { node, round, id, told } => {
                let there = &mut self.nodes[node];
                if there.commands.round == round && there.asked.remove(&id) {
                    self.handle(node, Input::Told(id, told));
                }
            }
            Thing::Event { node, round, name, event } => {
                if self.nodes[node].channel.round == round {
                    self.handle(node, Input::Event(name, event));
                }
            }
            Thing::Subscribe { node, round, name, on } => {
                let delay = self.delay();
                let link = &mut self.nodes[node].channel;
                if link.round != round {
                    return;
                }
                if !on {
                    link.heard.remove(&name);
                    return;
                }
                link.heard.insert(name.clone());
                link.here = link.here.max(self.now + delay);
                let at = link.here;
                self.at(at, Thing::Confirm { node, round, name });
            }
            Thing::Confirm { node, round, name } => {
                if self.nodes[node].channel.round == round {
                    self.handle(node, Input::Subscribed(name));
                }
            }
            Thing::Connect { node, round, commands } => self.connect(node, round, commands),
            Thing::Cut { node, commands: true } => self.cut_commands(node),
            Thing::Cut { node, commands: false } => self.cut_channel(node),
        }
    }

    /// Something goes wrong between a node and Redis.
    pub(super) fn fail(&mut self, node: usize) {
        self.nodes[node].failures += 1;
        self.nodes[node].failed = self.now;
    }

    /// Whoever says that it is up to date has to be, unless something has just happened.
    pub(super) fn check_current(&self) {
        let Some(server) = self.servers.last() else { return };
        let before = |time: u64, by: u64| time + by < self.now;
        for (n, node) in self.nodes.iter().enumerate() {
            let well = before(node.failed, 2500) && before(node.leaked, 2 * PROBE);
            let last = self.servers.len() - 1;
            let linked = [&node.commands, &node.channel];
            let linked = linked.iter().all(|link| link.up && link.server == last);
            if !node.up || node.paused || !well || !linked {
                continue;
            }
            for (name, view) in &node.rooms {
                let Some(state) = server.data.rooms.get(name) else { continue };
                let old = before(state.began, 2 * PROBE) && before(state.changed, 2500);
                let kept = view.current && view.kind == Kind::Kept;
                if old && kept && state.owner == server.owner {
                    let at = (view.epoch, view.seq);
                    assert_eq!(at, (state.epoch, state.seq), "node {n} believes {name} current");
                }
            }
        }
    }

    /// A node goes on.
    pub(super) fn resume(&mut self, node: usize) {
        self.fail(node);
        self.nodes[node].paused = false;
        while let Some(input) = self.nodes[node].backlog.pop_front() {
            self.handle(node, input);
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let now = self.now;
        let there = &mut self.nodes[node];
        if !there.up {
            return;
        }
        if there.paused {
            return there.backlog.push_back(input);
        }
        self.say(node, || format!("<- {input:?}"));
        let core = &mut self.nodes[node].core;
        match input {
            Input::Told(id, told) => core.handle_told(id, told, now),
            Input::Event(name, event) => core.handle_event(&name, event, now),
            Input::Subscribed(name) => core.handle_subscribed(&name, now),
            Input::Unsubscribed(name) => core.handle_unsubscribed(&name, now),
            Input::Away => core.handle_away(|_| true, now),
            Input::Back => core.handle_back(|_| true, now),
            Input::Dead(dead) => core.handle_dead(&dead, now),
            Input::Alive(alive) => core.handle_alive(&alive, now),
            Input::Reborn(id) => {
                core.handle_reborn(id.clone(), now);
                self.nodes[node].id = id;
            }
            Input::Wake => {
                core.handle_timeout(now);
                self.nodes[node].wake.take_if(|at| *at <= now);
            }
        }
        self.pump(node);
    }

    /// Does something with a node's core, and whatever follows.
    pub(super) fn act(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Core<(usize, u64), u64>, &mut BTreeMap<Name, View>, u64),
    ) {
        let there = &mut self.nodes[node];
        act(&mut there.core, &mut there.rooms, self.now);
        self.pump(node);
    }

    /// Opens a room.
    pub(super) fn open(&mut self, node: usize, name: &Name, held: crate::redis::core::Held) {
        self.serial += 1;
        let (serial, now) = (self.serial, self.now);
        let there = &mut self.nodes[node];
        there.rooms.insert(name.clone(), View::new(name.clone(), held.kind));
        there.lives.insert(name.clone(), serial);
        there.core.open(name.clone(), (node, serial), held, now);
        if !there.commands.up && self.rng.percent(50) {
            there.core.handle_away(|room| room == &**name, now);
        }
        self.pump(node);
    }

    fn pump(&mut self, node: usize) {
        while let Some(change) = self.nodes[node].core.poll_channel() {
            let (name, on) = match change {
                Channel::Subscribe(name) => (name, true),
                Channel::Unsubscribe(name) => (name, false),
            };
            let wants = &mut self.nodes[node].wants;
            let _ = if on { wants.insert(name.clone()) } else { wants.remove(&name) };
            self.subscribe(node, name, on);
        }
        let now = self.now;
        while let Some((id, ask)) = self.nodes[node].core.poll_ask(now) {
            self.say(node, || format!("-> {id:?} {ask:?}"));
            self.send(node, id, ask);
        }
        while let Some(effect) = self.nodes[node].core.poll_effect() {
            self.say(node, || format!("** {effect:?}"));
            self.tell(node, effect);
        }
        if self.nodes[node].core.poll_fenced() {
            self.count("nodes that were fenced");
            self.rebirth(node);
        }
        let there = &mut self.nodes[node];
        if let Some(due) = there.core.poll_timeout()
            && there.wake.is_none_or(|wake| due < wake)
        {
            there.wake = Some(due.max(now));
            self.input(node, due.saturating_sub(now), Input::Wake);
        }
    }

    fn tell(&mut self, node: usize, effect: Effect<(usize, u64), u64>) {
        let room = match &effect {
            Effect::Opened { room, .. }
            | Effect::Stored { room, .. }
            | Effect::Arrived { room, .. }
            | Effect::Renewed { room, .. }
            | Effect::Elsewhere { room, .. }
            | Effect::Looked { room }
            | Effect::Cast { room, .. }
            | Effect::Current { room, .. } => *room,
        };
        let Self { nodes, ledger, now, .. } = self;
        let there = &mut nodes[node];
        let life = there.lives.iter().find(|(_, life)| **life == room.1);
        let Some(name) = life.map(|(name, _)| name.clone()) else {
            panic!("told about a room that is closed: {effect:?}");
        };
        let view = there.rooms.get_mut(&name).expect("an open room");
        let mut news = Vec::new();
        view.take(effect, node, there.failures, ledger, &mut news);
        for news in news {
            match &news {
                News::Closed => {
                    there.rooms.remove(&name);
                    there.lives.remove(&name);
                }
                News::Refused(pending) => {
                    let waited = *now - pending.since;
                    assert!(waited <= PATIENCE + LONGEST_PAUSE, "waited for {waited} ms");
                }
                _ => {}
            }
            self.news.push((node, name.clone(), news));
        }
    }

    /// The room is closed: nothing is heard of it any more.
    pub(super) fn close(&mut self, node: usize, name: &Name) {
        let there = &mut self.nodes[node];
        there.core.close(name, self.now);
        there.rooms.remove(name);
        there.lives.remove(name);
        self.pump(node);
    }

    /// A node gets another id, and everybody else hears that it was dead.
    pub(super) fn rebirth(&mut self, node: usize) {
        let old = self.nodes[node].id.clone();
        self.declare_dead(&old);
        let round = self.serial;
        let new = NodeId::from(format!("node{node}+{round}"));
        let delay = self.rng.range(1, 800);
        self.input(node, delay, Input::Reborn(new));
    }

    /// The registry says that a node is dead.
    pub(super) fn declare_dead(&mut self, dead: &NodeId) {
        if self.dead.contains(dead) {
            return;
        }
        self.dead.push(dead.clone());
        for node in 0..self.nodes.len() {
            let delay = self.rng.range(1, 1500);
            if self.nodes[node].id != *dead && self.rng.percent(90) {
                self.input(node, delay, Input::Dead(dead.clone()));
            }
        }
    }

    /// The registry tells who is alive.
    pub(super) fn tell_alive(&mut self) {
        let up = self.nodes.iter().filter(|node| node.up && !self.dead.contains(&node.id));
        let alive: Vec<NodeId> = up.map(|node| node.id.clone()).collect();
        if self.loud {
            println!("{:>6} alive: {alive:?}, dead: {:?}", self.now - 1_000_000, self.dead);
        }
        for node in 0..self.nodes.len() {
            let delay = self.rng.range(0, 500);
            self.input(node, delay, Input::Alive(alive.clone()));
        }
    }

    /// Where a room is, if a node could know as soon as it asks.
    pub(super) fn reachable(&self, node: usize, name: &Name) -> Option<(Epoch, u64)> {
        let there = &self.nodes[node];
        let server = self.servers.last()?;
        let connected = there.commands.up && there.commands.server + 1 == self.servers.len();
        let state = server.data.rooms.get(name).filter(|state| state.owner == server.owner);
        let kept = there.rooms.get(name).is_some_and(|view| view.kind == Kind::Kept);
        state.filter(|_| connected && kept).map(|state| (state.epoch, state.seq))
    }
}

pub(super) const PROBE: u64 = 5000;
pub(super) const PATIENCE: u64 = 4000;
/// A replica, or the disk, is so far behind at most.
const LONGEST_LAG: u64 = 2000;
/// A node sleeps for this long at most.
pub(super) const LONGEST_PAUSE: u64 = 9000;
