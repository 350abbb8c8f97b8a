//! Who takes part in a run, and in what: decided from the seed before anything starts.

use std::time::Duration;

use crate::dice::Dice;
use crate::record::Keeps;

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Size {
    /// The seed of all choices.
    pub seed: u64,
    /// How many clients.
    pub clients: u32,
    /// How many rooms.
    pub rooms: u32,
    /// How long clients publish and faults happen.
    pub duration: Duration,
    /// How often the server is killed.
    pub kills: u32,
    /// How often it is asked to stop, which it should do in order.
    pub stops: u32,
    /// Connections cut in a second.
    pub cuts: f64,
    /// Messages published in a second, by all together.
    pub rate: f64,
    /// Some clients have no WebSocket.
    pub streams: bool,
    /// What the server promises to keep.
    pub keeps: Keeps,
    /// How long what must happen in the end may take.
    pub patience: Duration,
}

/// How the server ends, before it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL: at once.
    Kill,
    /// SIGTERM: in order.
    Stop,
}

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It speaks `throng.v1`: joins and resumes rooms itself.
    Full,
    /// It has one room, the one of the path.
    Plain,
    /// It has no WebSocket: server-sent events and `POST /send`.
    Stream,
}

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is there until the run ends.
    Stays,
    /// It closes its connection, before presence is compared.
    Closes,
    /// Its connection ends without a word, before presence is compared.
    Drops,
}

/// One client's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub index: u32,
    /// How it connects.
    pub kind: Kind,
    /// Its rooms.
    pub rooms: Vec<String>,
    /// It leaves and joins the last of its rooms again and again.
    pub visits: bool,
    /// How it ends.
    pub ending: Ending,
}

impl Part {
    /// Whether it goes on when it is told to go, until it is closed.
    pub fn is_deaf(&self) -> bool {
        self.index % 8 == 7
    }
}

impl Size {
    /// The parts of all clients. Each room has a member that stays.
    pub fn parts(&self) -> Vec<Part> {
        let mut dice = Dice::new(self.seed, 1);
        let rooms: Vec<String> =
            (0..self.rooms.max(1)).map(|room| format!("room-{room}")).collect();
        (0..self.clients)
            .map(|index| {
                let sure = index < self.rooms;
                let kind = match dice.below(100) {
                    _ if sure => Kind::Full,
                    0..15 => Kind::Plain,
                    15..STREAMS_BELOW if self.streams => Kind::Stream,
                    _ => Kind::Full,
                };
                let mut own = vec![rooms[index as usize % rooms.len()].clone()];
                let more = if kind == Kind::Plain { 0 } else { dice.below(3) };
                for _ in 0..more {
                    let room = dice.pick(&rooms).cloned().unwrap_or_default();
                    if !own.contains(&room) {
                        own.push(room);
                    }
                }
                let visits = kind == Kind::Full && own.len() > 1 && dice.percent(30);
                let ending = match dice.below(100) {
                    _ if sure || kind == Kind::Stream => Ending::Stays,
                    0..6 => Ending::Closes,
                    6..12 => Ending::Drops,
                    _ => Ending::Stays,
                };
                Part { index, kind, rooms: own, visits, ending }
            })
            .collect()
    }

    /// When the server ends, and how, in order.
    pub fn blows(&self) -> Vec<(Duration, Blow)> {
        let mut dice = Dice::new(self.seed, 2);
        let (mut kills, mut stops) = (self.kills, self.stops);
        let slot = self.duration.mul_f64(0.85) / (kills + stops).max(1);
        let mut time = self.duration.mul_f64(0.1);
        let mut blows = Vec::new();
        while kills + stops > 0 {
            let blow = match dice.below(u64::from(kills + stops)) < u64::from(kills) {
                true => Blow::Kill,
                false => Blow::Stop,
            };
            match blow {
                Blow::Kill => kills -= 1,
                Blow::Stop => stops -= 1,
            }
            blows.push((time + slot.mul_f64(0.9 * dice.part()), blow));
            time += slot;
        }
        blows
    }
}

/// Of a hundred clients, those from 15 up to this have no WebSocket.
const STREAMS_BELOW: u64 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    fn size(seed: u64) -> Size {
        Size {
            seed,
            clients: 60,
            rooms: 6,
            duration: Duration::from_secs(12),
            kills: 2,
            stops: 1,
            cuts: 5.0,
            rate: 100.0,
            streams: true,
            keeps: Keeps { durable: true, history: 1000, little: false, shared: None },
            patience: Duration::from_secs(20),
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(size(1).parts(), size(1).parts());
        assert_ne!(size(1).parts(), size(2).parts());
        assert_ne!(size(1).blows(), size(2).blows());
    }

    #[test]
    fn every_kind_takes_part() {
        let parts: Vec<Part> = (0..5).flat_map(|seed| size(seed).parts()).collect();
        for kind in [Kind::Full, Kind::Plain, Kind::Stream] {
            assert!(parts.iter().any(|part| part.kind == kind));
        }
        for ending in [Ending::Stays, Ending::Closes, Ending::Drops] {
            assert!(parts.iter().any(|part| part.ending == ending));
        }
        assert!(parts.iter().any(|part| part.visits));
        assert!(parts.iter().all(|part| (1..=3).contains(&part.rooms.len())));
    }

    #[test]
    fn blows_are_in_order_and_in_time() {
        for seed in 0..50 {
            let blows = size(seed).blows();
            assert!(blows.is_sorted_by_key(|(time, _)| *time) && blows.len() == 3);
            assert!(blows.iter().all(|(time, _)| *time < Duration::from_secs(12)));
            assert_eq!(blows.iter().filter(|(_, blow)| *blow == Blow::Stop).count(), 1);
        }
    }
}
