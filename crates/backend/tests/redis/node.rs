//! A node: a hub whose rooms are in Redis, and everything it was told.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part

use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use throng_backend::{Redis, RedisOptions};
use throng_hub::{
    Asker, Author, Backend, Closed, Elsewhere, Epoch, Hub, Identity, Keep, Opened, Outcome,
    Pattern, Published, Renewed, Room, Rule, Rules, Sink, Space, Span, Start, Stored, Timestamp,
    Unavailable,
};
use throng_protocol::{Command, parse};
use throng_wire::OpCode;

/// What the backend has said.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A message is the room's next.
    Delivered {
        room: String,
        epoch: Epoch,
        seq: u64,
        text: String,
    },
    /// What became of an own message.
    Answered {
        reference: u64,
        result: Option<u64>,
        duplicate: bool,
    },
    /// A room began anew.
    Renewed {
        room: String,
        epoch: Epoch,
        seq: u64,
        past: Vec<u64>,
    },
    /// Who is elsewhere.
    Here(String),
    Gone(String),
    All(Vec<String>),
    /// A frame was passed on.
    Cast(OpCode, Bytes),
}

pub struct Node {
    pub redis: Arc<Redis>,
    pub hub: Arc<Hub>,
    pub ears: Arc<Ears>,
}

#[derive(Default)]
pub struct Ears {
    hub: OnceLock<Weak<Hub>>,
    said: Mutex<Vec<Said>>,
    opened: Mutex<u64>,
    changed: Condvar,
}

impl Ears {
    fn say(&self, said: Said) {
        self.said.lock().unwrap().push(said);
        self.changed.notify_all();
    }

    pub fn said(&self) -> Vec<Said> {
        self.said.lock().unwrap().clone()
    }
}

fn text(body: &throng_protocol::Body) -> String {
    let json = String::from_utf8(body.text().to_vec()).unwrap();
    json.split("\"text\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

impl Sink for Ears {
    fn opened(&self, room: &Arc<Room>, result: Result<Opened, Unavailable>) {
        if let Some(hub) = self.hub.get().and_then(Weak::upgrade) {
            hub.opened(room, result);
        }
        *self.opened.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    fn appended(&self, outcomes: &mut Vec<Outcome>) {
        for outcome in outcomes.drain(..) {
            let mut order = outcome.room.order();
            order.complete(&outcome);
            let epoch = order.epoch();
            let result = outcome.result.ok().map(|(seq, _)| seq);
            if let (Some(seq), false) = (result, outcome.duplicate) {
                let (room, text) = (outcome.room.name().to_owned(), text(&outcome.body));
                self.say(Said::Delivered { room, epoch, seq, text });
            }
            let (reference, duplicate) = (outcome.reference, outcome.duplicate);
            self.say(Said::Answered { reference, result, duplicate });
        }
    }

    fn arrived(&self, room: &Arc<Room>, messages: &mut Vec<Stored>) {
        let mut order = room.order();
        let epoch = order.epoch();
        for message in messages.iter() {
            let (seq, text) = (message.seq, text(&message.body));
            self.say(Said::Delivered { room: room.name().to_owned(), epoch, seq, text });
        }
        order.arrived(messages);
    }

    fn renewed(&self, room: &Arc<Room>, renewed: Renewed) {
        let (epoch, seq) = (renewed.epoch, renewed.seq);
        let past = renewed.past.iter().map(|message| message.seq).collect();
        let mut order = room.order();
        order.renew(renewed);
        // In the same turn: who sees that the room is renewed sees that it was said.
        self.say(Said::Renewed { room: room.name().to_owned(), epoch, seq, past });
    }

    fn elsewhere(&self, room: &Arc<Room>, news: Vec<Elsewhere>) {
        for change in &news {
            self.say(match change {
                Elsewhere::Here(who) => Said::Here(who.user_id().to_owned()),
                Elsewhere::Gone(user) => Said::Gone(user.to_string()),
                Elsewhere::All(users) => {
                    let mut all: Vec<_> = users.iter().map(|u| u.user_id().to_owned()).collect();
                    all.sort();
                    Said::All(all)
                }
            });
        }
        room.order().elsewhere(news, now());
    }

    fn looked(&self, room: &Arc<Room>) {
        room.order().looked();
    }

    fn cast(&self, _room: &Arc<Room>, opcode: OpCode, payload: Bytes) {
        self.say(Said::Cast(opcode, payload));
    }
}

impl Node {
    pub fn new(options: RedisOptions) -> Self {
        Self::with_rule(options, Rule::default())
    }

    pub fn with_rule(options: RedisOptions, rule: Rule) -> Self {
        let redis = Redis::connect(options).unwrap();
        let ears = Arc::new(Ears::default());
        redis.start(ears.clone());
        let rules = Rules::new([(Pattern::new("*"), rule)]);
        let keep = Keep { memory: redis.clone(), durable: None };
        let hub = Arc::new(Hub::new(1, rules, keep));
        let _ = ears.hub.set(Arc::downgrade(&hub));
        Self { redis, hub, ears }
    }

    /// The room, open, if it can be opened at the moment.
    pub fn try_room(&self, name: &str) -> Option<Arc<Room>> {
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            let room = self.hub.room(Space::ROOMS, name, now());
            let ready = room.order().ready(Asker::NOBODY);
            match ready {
                Ok(()) => return Some(room),
                Err(Closed::Unavailable) => {
                    self.hub.release(&room);
                    return None;
                }
                Err(Closed::Opening | Closed::Forgotten) => {}
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the room is neither opened nor refused");
    }

    /// The room, open.
    pub fn room(&self, name: &str) -> Arc<Room> {
        let mut room = None;
        wait("the room is open", || {
            room = self.try_room(name);
            room.is_some()
        });
        room.unwrap()
    }

    /// Publishes without waiting. Whether it was taken.
    pub fn send(&self, room: &Room, session: &str, reference: u64, text: &str) -> bool {
        let json = match reference {
            0 => format!(r#"{{"type":"chat","text":"{text}"}}"#),
            _ => format!(r#"{{"type":"chat","text":"{text}","ref":{reference}}}"#),
        };
        let Ok(Command::Publish(message)) = parse(json.as_bytes()) else { panic!("{json}") };
        let author = Author { user_id: "u_1", session, asker: Asker { worker: 1, token: 7 } };
        let mut order = room.order();
        match order.publish(&author, &message, now()) {
            Ok(Published::Later) => true,
            Ok(Published::Before { seq, .. }) => {
                drop(order);
                self.ears.say(Said::Answered { reference, result: Some(seq), duplicate: true });
                true
            }
            _ => false,
        }
    }

    /// What the backend has said of own messages: `ref`, number, whether it was there before.
    pub fn answers(&self) -> Vec<(u64, Option<u64>, bool)> {
        let answer = |said| match said {
            Said::Answered { reference, result, duplicate } => Some((reference, result, duplicate)),
            _ => None,
        };
        self.ears.said().into_iter().filter_map(answer).collect()
    }

    /// Publishes until it is stored, as a client does.
    pub fn publish(&self, room: &Room, session: &str, reference: u64, text: &str) -> u64 {
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            let before = self.answers().len();
            if !self.send(room, session, reference, text) {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            wait("an answer", || self.answers().len() > before);
            let mine = self.answers()[before..].iter().find(|a| a.0 == reference).copied();
            if let Some((_, Some(seq), _)) = mine {
                return seq;
            }
        }
        panic!("{text} cannot be published");
    }

    /// What was delivered in a room: number and text.
    pub fn delivered(&self, name: &str) -> Vec<(u64, String)> {
        let delivered = |said| match said {
            Said::Delivered { room, seq, text, .. } if room == name => Some((seq, text)),
            _ => None,
        };
        self.ears.said().into_iter().filter_map(delivered).collect()
    }

    pub fn renewed(&self) -> usize {
        self.ears.said().iter().filter(|said| matches!(said, Said::Renewed { .. })).count()
    }

    pub fn join(&self, room: &Room, user: &str) -> Arc<Identity> {
        let who = Arc::new(Identity::known(user, "s_1", None, None).unwrap());
        room.order().join(&who, 0, &Start::NOW, now()).unwrap();
        who
    }

    /// What the room remembers, as soon as it is known to be up to date.
    pub fn numbers(&self, room: &Room) -> Vec<u64> {
        let mut page = None;
        wait("the room is up to date", || {
            page = room.order().history(Span::Newest, usize::MAX, usize::MAX, None, now()).ok();
            page.is_some()
        });
        let page = page.unwrap();
        let number = |text: &Bytes| {
            let text = String::from_utf8(text.to_vec()).unwrap();
            let rest = text.split("\"seq\":").nth(1).unwrap();
            rest.split(',').next().unwrap().parse().unwrap()
        };
        page.messages.iter().map(number).collect()
    }

    /// Whether the room is up to date and this is in it, however it came here.
    pub fn knows(&self, room: &Room, text: &str) -> bool {
        let wanted = format!("\"text\":\"{text}\"");
        let page = room.order().history(Span::Newest, usize::MAX, usize::MAX, None, now());
        page.is_ok_and(|page| {
            let mut texts = page.messages.iter().map(|text| String::from_utf8_lossy(text));
            texts.any(|text| text.contains(&wanted))
        })
    }

    pub fn wait_until_current(&self, room: &Room) {
        wait("the room is up to date", || {
            let mut order = room.order();
            order.history(Span::Newest, 1, usize::MAX, None, now()).is_ok()
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.redis.close();
    }
}

pub fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(now.as_millis() as u64)
}

/// Waits until something is so.
#[track_caller]
pub fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub const LONG: Duration = Duration::from_secs(30);
