//! What can be said only when all lines are known.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::scroll::{Source, Stretch};
use super::seat::Seat;
use super::{Check, Checker, Outage, Verdict};

impl Checker {
    /// Judges. Nothing may be read afterwards.
    pub fn finish(mut self) -> Verdict {
        if self.keeps.is_none() || !self.finished {
            self.verdict.found(Check::Progress, "the run is not complete".into(), []);
        }
        self.agreed();
        self.acknowledged();
        self.kept();
        self.ordered();
        self.delivered();
        self.published_once();
        self.present();
        for outage in &self.disk {
            self.verdict.count(Check::Disk);
            let text = match outage {
                Outage { refused: 0, .. } => "nothing was refused while nothing could be stored",
                Outage { over: true, acked_after: 0, .. } => "nothing was published afterwards",
                _ => continue,
            };
            self.verdict.found(Check::Disk, text.into(), [outage.line]);
        }
        self.paced();
        if self.disk.is_empty() {
            self.verdict.skip(Check::Disk);
        }
        self.verdict
    }

    /// Acknowledgements against what was delivered.
    fn acknowledged(&mut self) {
        let durable = self.keeps.is_none_or(|keeps| keeps.durable);
        let (renews, loses) = (self.may_renew(), self.may_lose());
        for (name, room) in &mut self.rooms {
            for (epoch, fact, seq) in std::mem::take(&mut room.acks) {
                if room.epochs.values().any(|stretch| stretch.has(seq, &fact)) {
                    continue;
                }
                let stretch = match &epoch {
                    // The client may have been told of the next epoch before its answer came. Numbers go on
                    // there, unless some were lost: then it may be of an epoch that nobody saw.
                    Some(epoch)
                        if loses && room.epochs.get(epoch).is_some_and(|it| seq <= it.from) =>
                    {
                        continue;
                    }
                    Some(epoch) => epoch_of(&mut room.epochs, epoch, seq),
                    None if renews && room.epochs.len() > 1 => continue,
                    // Nobody was there, and it may be lost with its epoch.
                    None if loses && room.epochs.is_empty() => continue,
                    None if durable => room.epochs.values_mut().last(),
                    None => continue, // perhaps in an epoch that nobody saw
                };
                let (id, line) = (fact.id, fact.line);
                let Some(stretch) = stretch else {
                    let text = format!("{id} was acknowledged in {name}, which nobody saw");
                    self.verdict.found(Check::Acks, text, [line]);
                    continue;
                };
                if let Some((_, text, first)) = stretch.place(line, Source::Ack, seq, fact.ts, id) {
                    self.verdict.found(Check::Acks, format!("{name}: {text}"), [first, line]);
                }
            }
        }
    }

    /// Numbers without holes, times that never decrease, and each sender's own order.
    fn ordered(&mut self) {
        let loses = self.may_lose();
        for (name, room) in &self.rooms {
            let first = room.epochs.values().map(|stretch| stretch.line).min();
            let last = room.epochs.values().map(|stretch| stretch.line).max();
            for stretch in room.epochs.values() {
                self.verdict.count_many(Check::Order, stretch.facts.len());
                self.verdict.count_many(Check::Time, stretch.facts.len());
                let from = match Some(stretch.line) == first {
                    true => Some(1),
                    false => stretch.facts.keys().next().copied(), // numbers go on
                };
                // What nobody has seen of an epoch that ended may be lost with it.
                let whole = Some(stretch.line) == last || !self.may_lose();
                for (text, lines) in stretch.holes(from.unwrap_or(1)).into_iter().filter(|_| whole)
                {
                    self.verdict.found(Check::Order, format!("{name}: {text}"), lines);
                }
                for (text, lines) in stretch.steps_back() {
                    self.verdict.found(Check::Time, format!("{name}: {text}"), lines);
                }
                let mut last: HashMap<u32, (u64, usize)> = HashMap::new();
                for (seq, fact) in &stretch.facts {
                    let Some(message) = self.messages.get(&fact.id) else { continue };
                    if message.refused || message.uncertain || (loses && message.times > 1) {
                        continue; // it may be published after later ones
                    }
                    self.verdict.count(Check::Senders);
                    let before = last.insert(message.client, (message.number, fact.line));
                    if let Some((number, line)) = before
                        && number > message.number
                    {
                        let text = format!("{name}: {} at {seq} was sent earlier", fact.id);
                        self.verdict.found(Check::Senders, text, [message.line, line, fact.line]);
                    }
                }
            }
        }
    }

    /// Every member has received everything it had to, exactly once.
    fn delivered(&mut self) {
        for (client, this) in &mut self.clients {
            for (name, seat) in &mut this.seats {
                let epochs = self.rooms.get(name).map(|room| &room.epochs);
                let Some(stretch) = epochs.and_then(|epochs| epochs.get(&seat.epoch)) else {
                    continue;
                };
                let owed = seat.owed();
                for (seq, fact) in &stretch.facts {
                    if !owed.iter().any(|owed| owed.contains(*seq)) {
                        continue;
                    }
                    self.verdict.count(Check::Delivered);
                    let times = seat.times(*seq);
                    if times != 1 {
                        let text = format!(
                            "client {client} received {} (seq {seq} of {name}) {times} times",
                            fact.id
                        );
                        self.verdict.found(Check::Delivered, text, [fact.line, seat.entered]);
                    }
                }
            }
        }
    }

    /// Every message is at one place at most, and at the end at exactly one.
    fn published_once(&mut self) {
        for (id, message) in &self.messages {
            self.verdict.count(Check::Once);
            if !self.is_at_one_place(&message.places) {
                let lines = message.places.iter().map(|(_, _, line)| *line);
                let text = format!("{id} was published {} times", message.places.len());
                self.verdict.found(Check::Once, text, lines);
            }
            if message.ack.is_none() && !message.uncertain {
                let text = format!("{id} was never acknowledged");
                self.verdict.found(Check::Progress, text, [message.line]);
            }
            self.verdict.count(Check::Progress);
        }
    }

    /// Who is in the rooms at the end: what the server says, and what the clients know.
    fn present(&mut self) {
        let mut members: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for this in self.clients.values().filter(|this| !this.departed) {
            for (room, _) in this.seats.iter().filter(|(room, seat)| seat.here() && shows(room)) {
                members.entry(room).or_default().insert(&this.user);
            }
        }
        let mut asked = BTreeSet::new();
        for (client, this) in self.clients.iter().filter(|(_, this)| !this.departed) {
            for ((room, how), (users, line)) in &this.lists {
                if !this.seats.get(room).is_some_and(Seat::here) {
                    continue;
                }
                asked.insert(room.as_str());
                self.verdict.count(Check::Presence);
                let told: BTreeSet<&str> = users.iter().map(String::as_str).collect();
                let expected = members.get(room.as_str()).cloned().unwrap_or_default();
                if told == expected && told.len() == users.len() {
                    continue;
                }
                let missing: Vec<_> = expected.difference(&told).collect();
                let surplus: Vec<_> = told.difference(&expected).collect();
                let text = format!(
                    "{room} as client {client} {how} it: missing {missing:?}, surplus {surplus:?}"
                );
                self.verdict.found(Check::Presence, text, [*line]);
            }
        }
        for room in members.keys().filter(|room| !asked.contains(*room)) {
            let text = format!("nobody knows who is in {room}");
            self.verdict.found(Check::Presence, text, []);
        }
    }
}

/// The epoch in which a number was given, or one before it.
fn epoch_of<'e>(
    epochs: &'e mut BTreeMap<String, Stretch>,
    epoch: &str,
    seq: u64,
) -> Option<&'e mut Stretch> {
    let mut name = epoch.to_owned();
    loop {
        let this = epochs.get(&name)?;
        let before = epochs.iter().filter(|(_, other)| other.line < this.line);
        match before.max_by_key(|(_, other)| other.line) {
            Some((before, _)) if seq <= this.from => name = before.clone(),
            _ => return epochs.get_mut(&name),
        }
    }
}

/// Whether a room has presence: personal rooms have none.
fn shows(room: &str) -> bool {
    !room.starts_with('@')
}
