use std::collections::BTreeSet;

use throng_hub::{History, REF_WINDOW, Start};

/// What is true of one room: what was published there, what of it is kept, which `ref`s are known.
pub(crate) struct Ledger {
    history: History,
    durable: bool,
    pub(crate) epoch: String,
    pub(crate) is_open: bool,
    lines: Vec<Line>,
    /// The number of the first message that is kept.
    first: u64,
    /// What was published by `ref`, in order.
    refs: Vec<(String, u64, u64)>,
    /// What is being stored, with the number of those who wait.
    pending: Vec<(String, u64, usize)>,
    /// What epochs that are gone had.
    past: Vec<(String, Vec<u64>)>,
    /// Messages that may be there twice: their `ref` was no longer known.
    twice: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) n: u64,
    pub(crate) timestamp: u64,
    pub(crate) session: String,
    pub(crate) reference: u64,
}

/// What a `ref` must lead to.
#[derive(Debug)]
pub(crate) enum Expected {
    New,
    Pending,
    Before(u64),
    TooOld,
}

impl Ledger {
    pub(crate) fn new(history: History, durable: bool) -> Self {
        Self {
            history,
            durable,
            epoch: String::new(),
            is_open: false,
            lines: Vec::new(),
            first: 1,
            refs: Vec::new(),
            pending: Vec::new(),
            past: Vec::new(),
            twice: BTreeSet::new(),
        }
    }

    pub(crate) fn seq(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The message with this number in an epoch.
    pub(crate) fn message(&self, epoch: &str, seq: u64) -> Option<u64> {
        let at = usize::try_from(seq).ok()?.checked_sub(1)?;
        if epoch == self.epoch {
            return self.lines.get(at).map(|line| line.n);
        }
        let past = self.past.iter().find(|(past, _)| past == epoch);
        past.and_then(|(_, lines)| lines.get(at).copied())
    }

    /// The room has been opened.
    pub(crate) fn opened(&mut self, epoch: &str) {
        if self.epoch.is_empty() {
            epoch.clone_into(&mut self.epoch);
        }
        self.is_open = true;
        assert_eq!(self.epoch, epoch, "the epoch goes on as long as the numbers do");
    }

    /// The room has been forgotten. A disk knows what is in the history, a memory everything.
    pub(crate) fn closed(&mut self) {
        self.is_open = false;
        assert!(self.pending.is_empty(), "forgotten while something is being stored");
        if self.durable {
            self.reload();
        }
        if self.history.size == 0 {
            self.epoch.clear(); // nothing is numbered, and nothing goes on
        }
    }

    /// The process has ended, and this is what is on the disk.
    pub(crate) fn restart(&mut self, disk: &[Line]) {
        self.pending.clear();
        self.is_open = false;
        if self.durable {
            let reported = self.lines.iter().map(|line| line.n);
            assert!(reported.eq(disk.iter().take(self.lines.len()).map(|line| line.n)));
            for line in &disk[self.lines.len()..] {
                self.check_new(line.n);
                self.lines.push(line.clone());
            }
            self.reload();
        } else {
            let lines = self.lines.drain(..).map(|line| line.n).collect();
            self.past.push((std::mem::take(&mut self.epoch), lines));
            self.refs.clear();
            self.first = 1;
        }
    }

    /// What a room knows that is read from the disk.
    fn reload(&mut self) {
        self.first = 1;
        let newest = self.lines.len().saturating_sub(self.history.size);
        self.refs.clear();
        for (at, line) in self.lines.iter().enumerate().skip(newest) {
            self.refs.push((line.session.clone(), line.reference, at as u64 + 1));
        }
        if let Some(last) = self.lines.last() {
            self.trim(last.timestamp);
        }
    }

    pub(crate) fn stored(
        &mut self,
        session: &str,
        reference: u64,
        n: u64,
        seq: u64,
        timestamp: u64,
    ) {
        assert_eq!(seq, self.seq() + 1, "no hole, no repetition");
        assert!(self.lines.last().is_none_or(|last| last.timestamp <= timestamp));
        self.check_new(n);
        let session = session.to_owned();
        self.refs.push((session.clone(), reference, seq));
        self.lines.push(Line { n, timestamp, session, reference });
        self.trim(timestamp);
    }

    fn check_new(&mut self, n: u64) {
        let again = self.lines.iter().any(|line| line.n == n);
        assert!(!again || self.twice.contains(&n), "{n} is published twice");
    }

    pub(crate) fn under_way(&mut self, session: &str, reference: u64) {
        self.pending.push((session.to_owned(), reference, 1));
    }

    /// What was under way is not any more: how many wait for it.
    pub(crate) fn answered(&mut self, session: &str, reference: u64) -> usize {
        let at =
            self.pending.iter().position(|(of, known, _)| of == session && *known == reference);
        self.pending.remove(at.expect("it was under way")).2
    }

    /// What must become of a publish.
    pub(crate) fn look_up(&mut self, session: &str, reference: u64) -> Expected {
        let pending = self.pending.iter_mut();
        let mut pending = pending.filter(|(of, known, _)| of == session && *known == reference);
        if let Some((.., waiting)) = pending.next() {
            *waiting += 1;
            return Expected::Pending;
        }
        let known: Vec<_> = self.refs.iter().filter(|(of, ..)| of == session).collect();
        let (old, recent) = known.split_at(known.len().saturating_sub(REF_WINDOW));
        if let Some((.., seq)) = recent.iter().rev().find(|(_, known, _)| *known == reference) {
            return Expected::Before(*seq);
        }
        if old.iter().any(|(_, old, _)| *old >= reference) {
            return Expected::TooOld;
        }
        // Published before the last restart, and behind what is kept of that: nobody knows any more.
        let before = |line: &&Line| line.session == session && line.reference == reference;
        self.twice.extend(self.lines.iter().filter(before).map(|line| line.n));
        Expected::New
    }

    /// What a joiner must be told, and behind which number it begins.
    pub(crate) fn start(&mut self, start: &Start<'_>, now: u64) -> (bool, u64) {
        self.trim(now);
        let rewound = self.seq().saturating_sub(u64::from(start.rewind)).max(self.first - 1);
        match start.since {
            None => (true, rewound),
            Some((epoch, _)) if epoch != self.epoch => (false, rewound),
            Some((_, since)) if since + 1 >= self.first => (true, since),
            Some(_) => (false, rewound),
        }
    }

    /// Whether the message behind this number is gone.
    pub(crate) fn is_lost(&self, after: u64) -> bool {
        after < self.seq() && after + 1 < self.first
    }

    fn trim(&mut self, now: u64) {
        let ttl = u64::try_from(self.history.ttl.as_millis()).unwrap();
        while let Some(line) = self.lines.get(self.first as usize - 1) {
            let size = self.lines.len() - (self.first as usize - 1);
            if size <= self.history.size && line.timestamp + ttl >= now {
                break;
            }
            self.first += 1;
        }
    }
}
