use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use throng_hub::{
    Append, Backend, Draft, Epoch, Kept, Log, Opened, Opening, Past, Room, Sink, Space, Timestamp,
};

type Names = HashMap<(Space, String), Kept>;

/// A backend that answers at once, and keeps what it is given when a room is closed.
#[derive(Debug)]
pub(crate) struct Memory {
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug)]
struct Shelf {
    /// `None` for a backend that keeps nothing.
    kept: Option<Names>,
    next_epoch: u64,
}

impl Memory {
    /// Two runs must not have the same `run`.
    pub(crate) fn new(run: u64) -> Self {
        Self::with(run, Some(Names::new()))
    }

    /// The same without a memory: every opening is another epoch.
    pub(crate) fn forgetful(run: u64) -> Self {
        Self::with(run, None)
    }

    fn with(run: u64, kept: Option<Names>) -> Self {
        Self { shelf: Arc::new(Mutex::new(Shelf { kept, next_epoch: run << 32 })) }
    }
}

impl Backend for Memory {
    fn start(&self, _: Arc<dyn Sink>) {}

    fn open(&self, room: &Arc<Room>, now: Timestamp) -> Opening {
        let key = (room.space(), room.name().to_owned());
        let mut shelf = self.shelf.lock().unwrap();
        let kept = shelf.kept.as_mut().and_then(|names| names.remove(&key));
        let (epoch, seq, time, past) = match kept {
            Some(kept) => (kept.epoch(), kept.seq(), kept.time(), Past::Kept(Box::new(kept))),
            None => {
                shelf.next_epoch += 1;
                (Epoch(shelf.next_epoch), 0, now, Past::None)
            }
        };
        let log = Box::new(Open { shelf: Arc::clone(&self.shelf), key, seq, time });
        Opening::Ready(Opened {
            epoch,
            seq,
            time,
            past,
            refs: Vec::new(),
            elsewhere: Vec::new(),
            log,
        })
    }
}

#[derive(Debug)]
struct Open {
    shelf: Arc<Mutex<Shelf>>,
    key: (Space, String),
    seq: u64,
    time: Timestamp,
}

impl Log for Open {
    fn append(&mut self, _: &Draft<'_>, now: Timestamp) -> Append {
        self.seq += 1;
        self.time = self.time.max(now);
        Append::Done { seq: self.seq, timestamp: self.time }
    }

    fn close(self: Box<Self>, kept: Kept) {
        assert_eq!(kept.seq(), self.seq, "the room counts as its backend does");
        assert!(kept.time() >= self.time, "time does not go back");
        if let Some(names) = &mut self.shelf.lock().unwrap().kept {
            names.insert(self.key, kept);
        }
    }
}
