//! What all rooms of a node share: queues, questions under way, timers, and who is dead.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};

use throng_hub::Epoch;

use super::{AskId, Channel, Effect};
use crate::redis::step::{Ask, NodeId, What};

/// A stretch of a room's life from its opening to its end; its lower half says where the room is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Life(pub(super) u64);

impl Life {
    pub(super) fn slot(self) -> usize {
        self.0 as u32 as usize
    }
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Where the room is. `paced`: only so many at a time.
    Look {
        paced: bool,
    },
    Append,
    Seat,
    Bury,
}

/// What all rooms share.
#[derive(Debug)]
pub(super) struct Shared<R, T> {
    pub(super) node: NodeId,
    /// The ids this node had before it was taken for dead.
    pub(super) former: Vec<NodeId>,
    pub(super) census: Census,
    /// Nobody is seated until there is another id.
    pub(super) fenced: bool,
    pub(super) tell_fenced: bool,
    pub(super) channels: VecDeque<Channel>,
    casts: VecDeque<Ask>,
    cast_bytes: usize,
    /// Casts under way, and what they take.
    casting: HashMap<AskId, usize>,
    casting_bytes: usize,
    /// Rooms that have something to ask.
    pub(super) ready: VecDeque<Life>,
    /// Rooms that have something to ask of which there is only so much at a time.
    pub(super) paced: VecDeque<Life>,
    pub(super) pacing: usize,
    pub(super) alarms: BinaryHeap<Reverse<(u64, Life)>>,
    /// The messages that wait in all rooms, and their bytes.
    pub(super) waiting: (usize, usize),
    pub(super) probe: u64,
    pub(super) patience: u64,
    effects: VecDeque<(Life, Effect<R, T>)>,
    flights: HashMap<AskId, (Life, Purpose)>,
    asks: u64,
    /// Numbers of messages of this node.
    origins: u64,
    seed: u64,
    epochs: u64,
}

impl<R, T> Shared<R, T> {
    pub(super) fn new(node: NodeId, seed: u64) -> Self {
        Self {
            node,
            former: Vec::new(),
            census: Census::default(),
            fenced: false,
            tell_fenced: false,
            channels: VecDeque::new(),
            casts: VecDeque::new(),
            cast_bytes: 0,
            casting: HashMap::new(),
            casting_bytes: 0,
            ready: VecDeque::new(),
            paced: VecDeque::new(),
            pacing: 0,
            alarms: BinaryHeap::new(),
            waiting: (0, 0),
            probe: PROBE,
            patience: PATIENCE,
            effects: VecDeque::new(),
            flights: HashMap::new(),
            asks: 0,
            origins: 0,
            seed,
            epochs: 0,
        }
    }

    /// An epoch that was never there.
    pub(super) fn fresh(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch::new(self.seed, self.epochs)
    }

    /// A number for a message of this node.
    pub(super) fn origin(&mut self) -> u64 {
        self.origins += 1;
        self.origins
    }

    pub(super) fn next_ask(&mut self) -> AskId {
        self.asks += 1;
        AskId(self.asks)
    }

    /// A question of a room.
    pub(super) fn take_off(&mut self, life: Life, purpose: Purpose) -> AskId {
        let ask = self.next_ask();
        self.flights.insert(ask, (life, purpose));
        self.pacing += usize::from(purpose.is_paced());
        ask
    }

    /// A question is answered, or nobody wants the answer any more.
    pub(super) fn land(&mut self, ask: AskId) -> Option<(Life, Purpose)> {
        let (life, purpose) = self.flights.remove(&ask)?;
        self.pacing -= usize::from(purpose.is_paced());
        Some((life, purpose))
    }

    /// A question belongs to another life of its room from now on.
    pub(super) fn hand_over(&mut self, ask: AskId, life: Life) {
        if let Some((old, _)) = self.flights.get_mut(&ask) {
            *old = life;
        }
    }

    pub(super) fn flights(&self) -> usize {
        self.flights.len()
    }

    /// Tells the hub, in one with what was told last if that is possible.
    pub(super) fn tell(&mut self, life: Life, effect: Effect<R, T>) {
        let effect = match self.effects.back_mut() {
            Some((last, before)) if *last == life => match (before, effect) {
                (Effect::Stored { outcomes, .. }, Effect::Stored { outcomes: more, .. }) => {
                    return outcomes.extend(more);
                }
                (Effect::Arrived { messages, .. }, Effect::Arrived { messages: more, .. }) => {
                    return messages.extend(more);
                }
                (Effect::Elsewhere { news, .. }, Effect::Elsewhere { news: more, .. }) => {
                    return news.extend(more);
                }
                (_, effect) => effect,
            },
            _ => effect,
        };
        self.effects.push_back((life, effect));
    }

    pub(super) fn next_effect(&mut self) -> Option<Effect<R, T>> {
        self.effects.pop_front().map(|(_, effect)| effect)
    }

    /// A cast is to be sent, unless too many wait. One that is larger than all may be goes alone.
    pub(super) fn cast(&mut self, ask: Ask, size: usize) {
        let fits = self.casts.is_empty() || self.cast_bytes + size <= MAX_CAST_BYTES;
        if self.casts.len() < MAX_CASTS && fits {
            self.cast_bytes += size;
            self.casts.push_back(ask);
        }
    }

    /// The next cast, unless too many are under way: a server that does not answer is owed no more than that.
    pub(super) fn next_cast(&mut self) -> Option<(AskId, Ask)> {
        if self.casting.len() >= MAX_CASTS || self.casting_bytes >= MAX_CAST_BYTES {
            return None;
        }
        let ask = self.casts.pop_front()?;
        let size = match &ask.what {
            What::Cast { payload, .. } => payload.len(),
            _ => 0,
        };
        let id = self.next_ask();
        self.cast_bytes -= size;
        self.casting_bytes += size;
        self.casting.insert(id, size);
        Some((id, ask))
    }

    /// A cast was sent, or was not. Whether it is one.
    pub(super) fn land_cast(&mut self, ask: AskId) -> bool {
        let size = self.casting.remove(&ask);
        self.casting_bytes -= size.unwrap_or(0);
        size.is_some()
    }

    /// This node was called so before.
    pub(super) fn was(&mut self, node: NodeId) {
        self.former.push(node);
        if self.former.len() > MAX_FORMER {
            self.former.remove(0);
        }
    }

    /// Whether this node is or was that one.
    pub(super) fn is_us(&self, node: &NodeId) -> bool {
        self.node == *node || self.former.contains(node)
    }

    /// Whether that node's users are to be taken away.
    pub(super) fn is_dead(&self, node: &NodeId) -> bool {
        self.node != *node && (self.former.contains(node) || self.census.dead.contains(node))
    }

    /// Redis takes this node for dead.
    pub(super) fn fence(&mut self) {
        self.tell_fenced |= !self.fenced;
        self.fenced = true;
    }

    /// When a room that was looked at now is to be looked at again: not all at once.
    pub(super) fn probe_in(&self, life: Life) -> u64 {
        let spread = Epoch::new(self.seed, life.0 ^ self.asks << 32).0 % 1024;
        self.probe / 4 * 3 + self.probe / 4 * spread / 1024
    }
}

impl Purpose {
    fn is_paced(self) -> bool {
        matches!(self, Self::Look { paced: true } | Self::Bury)
    }
}

/// Which nodes are dead, and which are not known to be alive.
#[derive(Debug, Default)]
pub(super) struct Census {
    dead: BTreeSet<NodeId>,
    /// The same in the order they died.
    deaths: VecDeque<NodeId>,
    alive: BTreeSet<NodeId>,
    /// Seen in rooms, and so many lists of the living did not have them.
    unknown: Vec<(NodeId, u32)>,
}

impl Census {
    /// A node is dead.
    pub(super) fn bury(&mut self, node: &NodeId) {
        self.alive.remove(node);
        self.unknown.retain(|(other, _)| other != node);
        if self.dead.insert(node.clone()) {
            self.deaths.push_back(node.clone());
            if self.deaths.len() > MAX_DEAD
                && let Some(oldest) = self.deaths.pop_front()
            {
                self.dead.remove(&oldest);
            }
        }
    }

    /// A node has somebody in a room.
    pub(super) fn see(&mut self, node: &NodeId) {
        let known = self.alive.contains(node) || self.dead.contains(node);
        let full = self.unknown.len() >= MAX_DEAD;
        if !known && !full && !self.unknown.iter().any(|(other, _)| other == node) {
            self.unknown.push((node.clone(), 0));
        }
    }

    /// These are alive. Returns those that must be dead.
    pub(super) fn count(&mut self, alive: &[NodeId]) -> Vec<NodeId> {
        self.alive = alive.iter().filter(|node| !self.dead.contains(*node)).cloned().collect();
        let mut dead = Vec::new();
        self.unknown.retain_mut(|(node, missed)| {
            if self.alive.contains(node) {
                return false;
            }
            // The first list may be older than what was seen.
            *missed += 1;
            if *missed > 1 {
                dead.push(node.clone());
            }
            *missed <= 1
        });
        dead
    }
}

/// A bound; another one in tests, where it has to be reached.
pub(super) const fn small(bound: usize, in_tests: usize) -> usize {
    if cfg!(test) { in_tests } else { bound }
}

/// At most so many looks at rooms are under way at a time.
pub(super) const MAX_PACED: usize = small(64, 2);
/// Messages that wait in all rooms, and their bytes.
pub(super) const MAX_WAITING: (usize, usize) = (65_536, 64 << 20);
/// Messages that wait in one room.
pub(super) const MAX_LINE: usize = small(4096, 24);
/// Casts that wait, and once more so many that are under way.
pub(super) const MAX_CASTS: usize = small(4096, 8);
pub(super) const MAX_CAST_BYTES: usize = 8 << 20;
const MAX_DEAD: usize = 10_000;
const MAX_FORMER: usize = 256;
const PROBE: u64 = 30_000;
const PATIENCE: u64 = 10_000;
