//! A hub with a backend under test, and everything the backend has reported.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part

pub mod redis;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use throng_backend::Memory;
use throng_hub::{
    Asker, Author, Backend, Closed, Epoch, History, Hub, Keep, Opened, Outcome, Pattern, Published,
    Renewed, Room, Rule, Rules, Sink, Space, Span, Stored, Timestamp, Unavailable,
};
use throng_protocol::{Command, parse};

/// What was reported of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub room: String,
    pub session: String,
    pub reference: u64,
    pub result: Option<(u64, Timestamp)>,
    /// It was stored before.
    pub duplicate: bool,
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
    /// Rooms that have begun anew, with the epoch.
    renewed: Vec<(String, Epoch)>,
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
        self.until(|heard| heard.reports.len() > count).reports[count..].to_vec()
    }

    /// Waits until a room has begun anew; the epoch in which it has.
    pub fn wait_for_renewal(&self, room: &str, other_than: Epoch) -> Epoch {
        let of_this = |heard: &Heard| {
            let last = heard.renewed.iter().rev().find(|(name, _)| name == room);
            last.map(|(_, epoch)| *epoch).filter(|epoch| *epoch != other_than)
        };
        of_this(&self.until(|heard| of_this(heard).is_some())).unwrap()
    }

    fn until(&self, so: impl Fn(&Heard) -> bool) -> MutexGuard<'_, Heard> {
        let end = Instant::now() + PATIENCE;
        let mut heard = self.heard.lock().unwrap();
        while !so(&heard) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing more is heard; {} reports", heard.reports.len());
            heard = self.changed.wait_timeout(heard, left).unwrap().0;
        }
        heard
    }

    /// Waits for so many reports.
    pub fn wait(&self, count: usize) -> Vec<Report> {
        self.until(|heard| heard.reports.len() >= count).reports.clone()
    }
}

/// How long the next thing may take.
const PATIENCE: Duration = Duration::from_secs(60);

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
                duplicate: outcome.duplicate,
            });
        }
    }

    fn arrived(&self, room: &Arc<Room>, messages: &mut Vec<Stored>) {
        room.order().arrived(messages);
        let _heard = self.heard.lock().unwrap();
        self.changed.notify_all();
    }

    fn renewed(&self, room: &Arc<Room>, renewed: Renewed) {
        let epoch = renewed.epoch;
        room.order().renew(renewed);
        self.heard.lock().unwrap().renewed.push((room.name().to_owned(), epoch));
        self.changed.notify_all();
    }

    fn looked(&self, room: &Arc<Room>) {
        room.order().looked();
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
                    drop(self.results.until(|heard| heard.opened != opened));
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
            duplicate: matches!(published, Published::Before { .. }),
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
        let end = Instant::now() + PATIENCE;
        let page = loop {
            let page = room.order().history(Span::Newest, usize::MAX, usize::MAX, None, now);
            match page {
                Ok(page) => break page,
                // Not known yet to be up to date.
                Err(fault) => assert!(Instant::now() < end, "{fault:?}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let texts = page.messages.iter().map(|text| String::from_utf8(text.to_vec()).unwrap());
        texts.collect()
    }

    /// Waits until a room has got so far, with what other nodes store in it.
    pub fn wait_for_seq(&self, room: &Room, seq: u64) {
        let end = Instant::now() + PATIENCE;
        while state(room).1 < seq {
            assert!(Instant::now() < end, "{} stays at {:?}", room.name(), state(room));
            std::thread::sleep(Duration::from_millis(2));
        }
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
