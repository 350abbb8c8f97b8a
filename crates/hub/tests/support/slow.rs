use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use throng_hub::{
    Append, Asker, Backend, Draft, Epoch, Hub, Kept, Log, Opened, Opening, Outcome, Past, Room,
    Sink, Space, Stored, Timestamp, Unavailable,
};
use throng_protocol::Body;

/// What is stored. Clones are the same disk: it survives the backends that use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<HashMap<(Space, String), File>>>);

#[derive(Debug)]
struct File {
    epoch: Epoch,
    messages: Vec<Stored>,
}

impl Disk {
    /// The number of messages of a room.
    pub(crate) fn len(&self, name: &str) -> usize {
        let files = self.0.lock().unwrap();
        files.get(&(Space::ROOMS, name.to_owned())).map_or(0, |file| file.messages.len())
    }

    /// The messages of a room, the oldest first.
    pub(crate) fn messages(&self, name: &str) -> Vec<Stored> {
        let files = self.0.lock().unwrap();
        let file = files.get(&(Space::ROOMS, name.to_owned()));
        file.map_or_else(Vec::new, |file| file.messages.clone())
    }

    /// What an opened room is given.
    fn read(&self, room: &Room, now: Timestamp) -> (Epoch, u64, Timestamp, Past) {
        let mut files = self.0.lock().unwrap();
        let epoch = Epoch(0xd15c + files.len() as u64);
        let key = (room.space(), room.name().to_owned());
        let file = files.entry(key).or_insert(File { epoch, messages: Vec::new() });
        let seq = file.messages.len() as u64;
        let time = file.messages.last().map_or(now, |last| last.timestamp);
        let skip = file.messages.len().saturating_sub(room.rule().history.size);
        let newest = file.messages[skip..].to_vec();
        let past = if newest.is_empty() { Past::None } else { Past::Stored(newest) };
        (file.epoch, seq, time, past)
    }

    fn write(&self, job: &Job, now: Timestamp) -> (u64, Timestamp) {
        let mut files = self.0.lock().unwrap();
        let file = files.get_mut(&job.key).expect("an open room has a file");
        let seq = file.messages.len() as u64 + 1;
        let timestamp = file.messages.last().map_or(now, |last| last.timestamp.max(now));
        let (session, body) = (job.session.clone(), job.body.clone());
        let reference = job.reference;
        file.messages.push(Stored { seq, timestamp, session, reference, body });
        (seq, timestamp)
    }
}

/// A backend on a [`Disk`] that answers when the test wants, and as it wants.
#[derive(Debug)]
pub(crate) struct Slow {
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug)]
struct Desk {
    disk: Disk,
    openings: VecDeque<(Arc<Room>, Timestamp)>,
    appends: VecDeque<Job>,
    /// What is open: every room at most once.
    open: BTreeMap<(Space, String), ()>,
    /// Appends are refused at once.
    refusing: bool,
    /// What the room that was closed last took.
    kept_bytes: usize,
}

#[derive(Debug)]
struct Job {
    key: (Space, String),
    room: Weak<Room>,
    asker: Asker,
    session: Box<str>,
    reference: u64,
    body: Body,
    now: Timestamp,
}

/// What the backend has to say at last.
#[derive(Debug)]
pub(crate) enum Answer {
    Opened(Arc<Room>, Result<Opened, Unavailable>),
    Appended(Outcome),
}

impl Slow {
    pub(crate) fn new(disk: &Disk) -> Arc<Self> {
        let desk = Desk {
            disk: disk.clone(),
            openings: VecDeque::new(),
            appends: VecDeque::new(),
            open: BTreeMap::new(),
            refusing: false,
            kept_bytes: 0,
        };
        Arc::new(Self { desk: Arc::new(Mutex::new(desk)) })
    }

    /// From now on appends are refused at once, or no longer.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.desk().refusing = refusing;
    }

    /// Answers the oldest opening.
    pub(crate) fn answer_opening(&self, well: bool) -> Option<Answer> {
        let (room, now) = self.desk().openings.pop_front()?;
        if !well {
            return Some(Answer::Opened(room, Err(Unavailable)));
        }
        let key = (room.space(), room.name().to_owned());
        let (epoch, seq, time, past) = self.desk().disk.read(&room, now);
        let before = self.desk().open.insert(key.clone(), ());
        assert!(before.is_none(), "{} is open already", room.name());
        let log = Open { desk: Arc::clone(&self.desk), key, room: Arc::downgrade(&room), seq };
        let opened = Opened {
            epoch,
            seq,
            time,
            past,
            refs: Vec::new(),
            elsewhere: Vec::new(),
            log: Box::new(log),
        };
        Some(Answer::Opened(room, Ok(opened)))
    }

    /// Answers an append: the oldest of the `pick`th room that has one.
    pub(crate) fn answer_append(&self, pick: usize, well: bool) -> Option<Answer> {
        let mut desk = self.desk();
        let mut rooms: Vec<_> = desk.appends.iter().map(|job| job.key.clone()).collect();
        rooms.sort();
        rooms.dedup();
        let key = rooms.get(pick.checked_rem(rooms.len())?)?;
        let at = desk.appends.iter().position(|job| job.key == *key)?;
        let job = desk.appends.remove(at)?;
        let room = job.room.upgrade().expect("a room with something on its way is not dropped");
        let result = if well { Ok(desk.disk.write(&job, job.now)) } else { Err(Unavailable) };
        let Job { asker, session, reference, body, .. } = job;
        Some(Answer::Appended(Outcome {
            room,
            asker,
            session,
            reference,
            body,
            result,
            duplicate: false,
        }))
    }

    /// The process ends: so many of the appends are stored, and nobody is told.
    pub(crate) fn crash(&self, stored: usize) {
        let mut desk = self.desk();
        for _ in 0..stored {
            let Some(job) = desk.appends.pop_front() else { break };
            desk.disk.write(&job, job.now);
        }
        desk.openings.clear();
        desk.appends.clear();
    }

    /// About how much memory the room that was closed last took.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.desk().kept_bytes
    }

    pub(crate) fn openings(&self) -> usize {
        self.desk().openings.len()
    }

    pub(crate) fn appends(&self) -> usize {
        self.desk().appends.len()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }
}

impl Slow {
    /// Opens what is asked for, well.
    pub(crate) fn open_all(&self, hub: &Hub) {
        while let Some(Answer::Opened(room, result)) = self.answer_opening(true) {
            hub.opened(&room, result);
        }
    }
}

impl Backend for Slow {
    fn start(&self, _: Arc<dyn Sink>) {}

    fn open(&self, room: &Arc<Room>, now: Timestamp) -> Opening {
        self.desk().openings.push_back((Arc::clone(room), now));
        Opening::Later
    }
}

#[derive(Debug)]
struct Open {
    desk: Arc<Mutex<Desk>>,
    key: (Space, String),
    room: Weak<Room>,
    /// The number of the last message when the room was opened.
    seq: u64,
}

impl Log for Open {
    fn append(&mut self, draft: &Draft<'_>, now: Timestamp) -> Append {
        let mut desk = self.desk.lock().unwrap();
        if desk.refusing {
            return Append::Refused(Unavailable);
        }
        desk.appends.push_back(Job {
            key: self.key.clone(),
            room: self.room.clone(),
            asker: draft.asker,
            session: draft.session.into(),
            reference: draft.reference,
            body: draft.body(),
            now,
        });
        Append::Later
    }

    fn close(self: Box<Self>, kept: Kept) {
        let mut desk = self.desk.lock().unwrap();
        desk.kept_bytes = kept.bytes();
        let stored = desk.disk.len(&self.key.1) as u64;
        assert_eq!(kept.seq(), stored, "the room counts as its backend does");
        assert!(stored >= self.seq);
        assert!(desk.appends.iter().all(|job| job.key != self.key), "nothing is on its way");
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Ok(mut desk) = self.desk.lock() {
            desk.open.remove(&self.key);
        }
    }
}
