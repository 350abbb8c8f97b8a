//! A hub with a backend under test, and everything the backend has reported.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use throng_backend::Memory;
use throng_hub::{
    Asker, Author, Backend, Closed, Epoch, History, Hub, Keep, Opened, Outcome, Pattern, Published,
    Room, Rule, Rules, Sink, Space, Span, Timestamp, Unavailable,
};
use throng_protocol::{Command, parse};

/// What was reported of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub room: String,
    pub session: String,
    pub reference: u64,
    pub result: Option<(u64, Timestamp)>,
}

pub struct World {
    pub hub: Arc<Hub>,
    pub results: Arc<Results>,
}

/// The sink.
#[derive(Default)]
pub struct Results {
    hub: OnceLock<Weak<Hub>>,
    heard: Mutex<Heard>,
    changed: Condvar,
}

#[derive(Default)]
struct Heard {
    reports: Vec<Report>,
    opened: u64,
}

impl Results {
    fn hub(&self) -> Option<Arc<Hub>> {
        self.hub.get()?.upgrade()
    }

    fn note(&self, report: Report) {
        self.heard.lock().unwrap().reports.push(report);
        self.changed.notify_all();
    }

    /// Everything that was reported, in that order.
    pub fn reports(&self) -> Vec<Report> {
        self.heard.lock().unwrap().reports.clone()
    }

    pub fn count(&self) -> usize {
        self.heard.lock().unwrap().reports.len()
    }

    /// Waits for more reports than these.
    pub fn behind(&self, count: usize) -> Vec<Report> {
        let mut heard = self.heard.lock().unwrap();
        while heard.reports.len() <= count {
            heard = self.changed.wait(heard).unwrap();
        }
        heard.reports[count..].to_vec()
    }

    /// Waits for so many reports.
    pub fn wait(&self, count: usize) -> Vec<Report> {
        let mut heard = self.heard.lock().unwrap();
        while heard.reports.len() < count {
            heard = self.changed.wait(heard).unwrap();
        }
        heard.reports.clone()
    }
}

impl Sink for Results {
    fn opened(&self, room: &Arc<Room>, result: Result<Opened, Unavailable>) {
        if let Some(hub) = self.hub() {
            hub.opened(room, result);
        }
        self.heard.lock().unwrap().opened += 1;
        self.changed.notify_all();
    }

    fn appended(&self, outcomes: &mut Vec<Outcome>) {
        for outcome in outcomes.drain(..) {
            let mut order = outcome.room.order();
            let completed = order.complete(&outcome);
            assert!(completed.askers.contains(&outcome.asker));
            self.note(Report {
                room: outcome.room.name().to_owned(),
                session: outcome.session.to_string(),
                reference: outcome.reference,
                result: outcome.result.ok(),
            });
        }
    }
}

impl World {
    /// `*` keeps this much.
    pub fn new(backend: Arc<dyn Backend>, history: History) -> Self {
        let rule = Rule { history, ..Rule::default() };
        Self::with_rules(backend, Rules::new([(Pattern::new("*"), rule)]))
    }

    pub fn with_rules(backend: Arc<dyn Backend>, rules: Rules) -> Self {
        let results = Arc::new(Results::default());
        backend.start(results.clone());
        let memory: Arc<dyn Backend> = Arc::new(Memory::default());
        let hub = Arc::new(Hub::new(1, rules, Keep { memory, durable: Some(backend) }));
        let _ = results.hub.set(Arc::downgrade(&hub));
        Self { hub, results }
    }

    /// The room, open; `None` when it cannot be opened.
    pub fn try_room(&self, name: &str, now: Timestamp) -> Option<Arc<Room>> {
        loop {
            let opened = self.results.heard.lock().unwrap().opened;
            let room = self.hub.room(Space::ROOMS, name, now);
            let ready = room.order().ready(Asker::NOBODY);
            match ready {
                Ok(()) => return Some(room),
                Err(Closed::Unavailable) => return None,
                Err(Closed::Forgotten) => {}
                Err(Closed::Opening) => {
                    let mut heard = self.results.heard.lock().unwrap();
                    while heard.opened == opened {
                        heard = self.results.changed.wait(heard).unwrap();
                    }
                    drop(heard);
                    if room.order().ready(Asker::NOBODY) == Err(Closed::Unavailable) {
                        return None;
                    }
                }
            }
        }
    }

    pub fn room(&self, name: &str) -> Arc<Room> {
        self.try_room(name, now()).expect("the room can be opened")
    }

    /// Closes the room and opens it again.
    pub fn reopen(&self, room: Arc<Room>) -> Arc<Room> {
        self.reopen_at(room, now())
    }

    pub fn reopen_at(&self, room: Arc<Room>, now: Timestamp) -> Arc<Room> {
        assert!(self.hub.release(&room), "nothing is on its way");
        self.try_room(room.name(), now).expect("the room can be opened")
    }

    /// Publishes without waiting; the result is among the reports. `None` when it was refused.
    pub fn send(
        &self,
        room: &Room,
        session: &str,
        reference: u64,
        text: &str,
        now: Timestamp,
    ) -> Option<()> {
        let json = match reference {
            0 => format!(r#"{{"type":"chat","text":"{text}"}}"#),
            _ => format!(r#"{{"type":"chat","text":"{text}","ref":{reference}}}"#),
        };
        let Ok(Command::Publish(message)) = parse(json.as_bytes()) else { panic!("{json}") };
        let author = Author { user_id: "u_1", session, asker: Asker { worker: 1, token: 7 } };
        let mut order = room.order();
        let published = order.publish(&author, &message, now).ok()?;
        let result = match published {
            Published::Later => return Some(()),
            Published::Now { seq, timestamp, .. } => (seq.unwrap(), timestamp),
            Published::Before { seq, timestamp } => (seq, timestamp),
        };
        self.results.note(Report {
            room: room.name().to_owned(),
            session: session.to_owned(),
            reference,
            result: Some(result),
        });
        Some(())
    }

    /// Publishes and waits for the result. Nothing else must be on its way.
    pub fn publish(&self, room: &Room, session: &str, reference: u64, text: &str) -> Option<u64> {
        self.publish_at(room, session, reference, text, now()).map(|(seq, _)| seq)
    }

    pub fn publish_at(
        &self,
        room: &Room,
        session: &str,
        reference: u64,
        text: &str,
        now: Timestamp,
    ) -> Option<(u64, Timestamp)> {
        let before = self.results.count();
        self.send(room, session, reference, text, now)?;
        let reports = self.results.wait(before + 1);
        assert_eq!(reports.len(), before + 1, "one report for each message");
        reports[before].result
    }

    /// What the room remembers, oldest first, as it would be sent.
    pub fn past(&self, room: &Room) -> Vec<String> {
        self.past_at(room, now())
    }

    pub fn past_at(&self, room: &Room, now: Timestamp) -> Vec<String> {
        let mut order = room.order();
        let page = order.history(Span::Newest, usize::MAX, usize::MAX, None, now).unwrap();
        let texts = page.messages.iter().map(|text| String::from_utf8(text.to_vec()).unwrap());
        texts.collect()
    }

    pub fn seqs(&self, room: &Room) -> Vec<u64> {
        self.past(room).iter().map(|text| number(text, "seq")).collect()
    }
}

/// The epoch and the last number of a room.
pub fn state(room: &Room) -> (Epoch, u64) {
    let order = room.order();
    (order.epoch(), order.seq())
}

/// A number in a message.
pub fn number(text: &str, field: &str) -> u64 {
    let key = format!("\"{field}\":");
    let start = text.find(&key).expect("the field is there") + key.len();
    let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
    text[start..start + digits].parse().unwrap()
}

/// The reports of each room.
pub fn by_room(reports: Vec<Report>) -> HashMap<String, Vec<Report>> {
    let mut rooms: HashMap<_, Vec<_>> = HashMap::new();
    for report in reports {
        rooms.entry(report.room.clone()).or_default().push(report);
    }
    rooms
}

pub fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(now.as_millis() as u64)
}

pub fn ago(time: Duration) -> Timestamp {
    Timestamp(now().0 - time.as_millis() as u64)
}

/// Room for everything.
pub const ALL: History =
    History { size: 1 << 20, bytes: 1 << 30, ttl: Duration::from_secs(24 * 60 * 60) };
