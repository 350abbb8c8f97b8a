use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use throng_hub::Order;

use super::ledger::Ledger;
use super::{Frame, LIVE, NAMES};

/// A client that does what the protocol tells it to do.
pub(crate) struct Client {
    user: String,
    number: usize,
    sessions: u64,
    pub(crate) conn: Option<u64>,
    /// The rooms it wants to be in, and what it knows of them.
    rooms: BTreeMap<usize, Place>,
    next_ref: u64,
    unacknowledged: BTreeMap<u64, (usize, u64)>,
    acknowledged: BTreeMap<u64, (String, u64)>,
    /// What came of rooms that number nothing.
    heard: BTreeSet<u64>,
}

/// What a client knows of a room.
#[derive(Default)]
struct Place {
    /// It was let in on this connection, or has asked to be.
    asked: bool,
    joined: bool,
    /// The last message it has.
    position: Option<(String, u64)>,
    /// It asked for the last few, and does not know yet how many there are: the position behind
    /// which the first of them is at most.
    rewound: Option<u64>,
    view: View,
}

/// What a client tells of what it knows of a room.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) since: Option<(String, u64)>,
    pub(crate) presence_seq: Option<u64>,
}

impl Place {
    fn known(&self) -> Known {
        let since = self.position.clone();
        let presence_seq = since.is_some().then_some(self.view.seq);
        Known { since, presence_seq }
    }
}

/// Who is in a room, as far as somebody knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) seq: u64,
    pub(crate) users: BTreeSet<String>,
}

impl View {
    pub(crate) fn of(order: &Order<'_>) -> Self {
        let users = order.users().map(|who| who.user_id().to_owned());
        Self { seq: order.presence_seq(), users: users.collect() }
    }

    fn take(&mut self, told: &Value) {
        let seq = told["presenceSeq"].as_u64().unwrap();
        let user = || told["userId"].as_str().unwrap().to_owned();
        match told["type"].as_str().unwrap() {
            "presence" => {
                let users = told["users"].as_array().unwrap().iter();
                let users = users.map(|user| user["userId"].as_str().unwrap().to_owned());
                *self = Self { seq, users: users.collect() };
            }
            // Older than what it knows.
            _ if seq <= self.seq => {}
            "user_joined" => {
                assert!(self.users.insert(user()), "{told} and is there already");
                self.seq = seq;
            }
            "user_left" => {
                assert!(self.users.remove(&user()), "{told} and was not there");
                self.seq = seq;
            }
            other => panic!("{other} is about somebody"),
        }
        assert_eq!(told["userCount"], self.users.len());
    }
}

impl Client {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            // The first two are one user.
            user: format!("u_{}", number.max(1)),
            number,
            sessions: 0,
            conn: None,
            rooms: BTreeMap::new(),
            next_ref: 1,
            unacknowledged: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            heard: BTreeSet::new(),
        }
    }

    pub(crate) fn ids(&self) -> (String, String) {
        (self.user.clone(), format!("s_{}_{}", self.number, self.sessions))
    }

    /// What was not acknowledged in the session before may have been published or not.
    pub(crate) fn begin_session(&mut self) {
        self.sessions += 1;
        self.next_ref = 1;
        self.unacknowledged.clear();
        self.acknowledged.clear();
    }

    /// If it asks now to be let in: what it knows.
    pub(crate) fn wants(&mut self, room: usize) -> Option<Known> {
        let place = self.rooms.entry(room).or_default();
        let asked = std::mem::replace(&mut place.asked, true);
        (!asked).then(|| place.known())
    }

    /// Whether it leaves now.
    pub(crate) fn gives_up(&mut self, room: usize) -> bool {
        if !self.rooms.get(&room).is_some_and(|place| place.joined) {
            return false;
        }
        // What comes of a room it has left is not for it any more.
        self.rooms.remove(&room);
        self.unacknowledged.retain(|_, (of, _)| *of != room);
        true
    }

    pub(crate) fn rooms(&self) -> impl Iterator<Item = usize> {
        self.rooms.keys().copied()
    }

    /// The rooms it is not in, and what it knows of them.
    pub(crate) fn missing(&mut self) -> Vec<(usize, Known)> {
        let missing = self.rooms.iter_mut().filter(|(_, place)| !place.asked);
        let ask = missing.map(|(room, place)| {
            place.asked = true;
            (*room, place.known())
        });
        ask.collect()
    }

    /// Where it is when it has read everything: when it asked for the last few and got none, there
    /// were none.
    pub(crate) fn end(&self, room: usize) -> Option<(&str, u64)> {
        let place = self.rooms.get(&room)?;
        let (epoch, seq) = place.position.as_ref()?;
        Some((epoch, place.rewound.unwrap_or(*seq)))
    }

    pub(crate) fn view(&self, room: usize) -> &View {
        &self.rooms[&room].view
    }

    pub(crate) fn note(&mut self, room: usize, n: u64) -> u64 {
        let reference = self.next_ref;
        self.next_ref += 1;
        self.unacknowledged.insert(reference, (room, n));
        reference
    }

    /// What was not acknowledged: `ref`, room, message.
    pub(crate) fn unacknowledged(&self) -> Vec<(u64, usize, u64)> {
        let waiting = self.unacknowledged.iter();
        waiting.map(|(reference, (room, n))| (*reference, *room, *n)).collect()
    }

    pub(crate) fn disconnect(&mut self) -> Option<u64> {
        for place in self.rooms.values_mut() {
            place.asked = false;
            place.joined = false;
        }
        // Where nothing is numbered, nothing can be repeated without being there twice.
        self.unacknowledged.retain(|_, (room, _)| *room != LIVE);
        self.conn.take()
    }

    pub(crate) fn take(&mut self, frame: Frame, ledgers: &[Ledger]) {
        match frame {
            Frame::Joined { room, epoch, seq, recovered, rewind, view } => {
                let Some(place) = self.rooms.get_mut(&room) else { return };
                place.joined = true;
                match &place.position {
                    Some((known, at)) if recovered => {
                        assert_eq!(known, &epoch, "recovered in another epoch");
                        assert!(*at <= seq);
                        place.rewound = None;
                    }
                    _ => {
                        place.rewound = (rewind > 0).then_some(seq);
                        place.position = Some((epoch, seq.saturating_sub(u64::from(rewind))));
                    }
                }
                if let Some(view) = view {
                    place.view = view;
                }
            }
            Frame::NotJoined { room } => {
                if let Some(place) = self.rooms.get_mut(&room) {
                    place.asked = false;
                }
            }
            Frame::Push { room, text } => self.hear(room, &text, ledgers),
            Frame::Ack { room, reference, epoch, seq } => {
                let acknowledged = self.acknowledged.get(&reference);
                assert!(acknowledged.is_none_or(|before| *before == (epoch.clone(), seq)));
                let Some((of, n)) = self.unacknowledged.remove(&reference) else { return };
                assert_eq!(of, room);
                if room != LIVE {
                    assert_eq!(ledgers[room].message(&epoch, seq), Some(n), "acknowledged");
                }
                self.acknowledged.insert(reference, (epoch, seq));
            }
            Frame::Failed { reference, for_ever } => {
                if for_ever {
                    self.unacknowledged.remove(&reference);
                }
            }
        }
    }

    fn hear(&mut self, room: usize, text: &[u8], ledgers: &[Ledger]) {
        let told: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(told["room"], NAMES[room]);
        // What was on its way while it left, and perhaps has come again since.
        let Some(place) = self.rooms.get_mut(&room).filter(|place| place.joined) else { return };
        if told["type"] != "chat" {
            return place.view.take(&told);
        }
        let n = told["n"].as_u64().unwrap();
        let Some(seq) = told["seq"].as_u64() else {
            assert_eq!(room, LIVE);
            assert!(self.heard.insert(n), "{n} comes twice");
            return;
        };
        let (epoch, last) = place.position.as_mut().expect("let in before anything else");
        match place.rewound.take() {
            Some(end) => assert!(*last < seq && seq <= end + 1, "{seq} of {last} to {end}"),
            None => assert_eq!(seq, *last + 1, "no hole, nothing twice"),
        }
        *last = seq;
        assert_eq!(ledgers[room].message(epoch, seq), Some(n), "the same for everybody");
    }
}
