//! What a room does with messages: number, store, remember, hand out again.

use std::sync::Arc;

use bytes::Bytes;
use throng_protocol::{Code, Fault, Publish, Timestamp, push};
use throng_wire::{OpCode, Prepared};

use crate::backend::{Append, Asker, Draft, Outcome, Renewed, Stored, Used};
use crate::history::{Entry, Fate, Known, Ring};
use crate::membership::{Refused, Start};
use crate::room::{Life, Memory, Order};
use crate::rule::Rule;

/// Who publishes.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The id of the user.
    pub user_id: &'a str,
    /// The session in which `ref`s count; empty for none.
    pub session: &'a str,
    /// Who is told when the message is stored.
    pub asker: Asker,
}

/// What became of a message.
#[derive(Clone, Debug)]
#[must_use = "the frame must be pushed to the workers"]
pub enum Published {
    /// It has its place. The frame is for all members.
    Now {
        /// The message.
        frame: Prepared,
        /// Its number; none in a volatile room.
        seq: Option<u64>,
        /// Its time, never earlier than that of the message before.
        timestamp: Timestamp,
    },
    /// It is being stored; [`Order::complete`] brings the rest.
    Later,
    /// It was published before.
    Before {
        /// The number it got then.
        seq: u64,
        /// The time it got then.
        timestamp: Timestamp,
    },
}

/// A message that its backend has answered for.
#[derive(Debug)]
pub struct Completed {
    /// Its number and time, if it is stored.
    pub stored: Option<(u64, Timestamp)>,
    /// For all members; none when it was stored before.
    pub frame: Option<Prepared>,
    /// Who waits for the answer.
    pub askers: Vec<Asker>,
}

/// What a member is owed of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Everything has been handed out: the member is to be made live before the order is dropped.
    Live,
    /// There is more behind this number.
    More(u64),
    /// What comes next is no longer there: the member was too slow.
    Lost,
}

/// A page of a room's past.
#[derive(Clone, Debug)]
pub struct Page {
    /// The texts of the messages, oldest first.
    pub messages: Vec<Bytes>,
    /// Whether there are more in the direction that was asked for.
    pub more: bool,
}

/// Which messages a page is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last ones.
    Newest,
    /// The last ones before this number.
    Before(u64),
    /// The first ones behind this number.
    After(u64),
}

impl Order<'_> {
    /// Gives an application message its number and time, stores it, and encodes it for all members, the
    /// sender included. Call [`Room::check`](crate::Room::check) before.
    ///
    /// # Errors
    /// `unavailable` when it cannot be stored at the moment, `bad_message` for a `ref` that is older than
    /// what is remembered, `rate_limited` when there are too many messages in the room, `overloaded` when
    /// the server has no memory left for a past.
    ///
    /// Cost: one allocation besides the frame's own, 150 ns for 128 bytes.
    pub fn publish(
        &mut self,
        author: &Author<'_>,
        message: &Publish<'_>,
        now: Timestamp,
    ) -> Result<Published, Fault> {
        let fault = |code| Fault::new(code).with_reference(message.reference);
        let rule = &self.room.rule();
        if rule.volatile {
            self.admit(now).map_err(|fault| fault.with_reference(message.reference))?;
            let timestamp = self.state.advance(now);
            let frame = self.encode(author.user_id, message, None, timestamp);
            self.state.tell(|log| log.cast(OpCode::Text, text_of(frame.frame())));
            return Ok(Published::Now { frame, seq: None, timestamp });
        }
        let reference = match (author.session, message.reference) {
            ("", _) | (_, None) => 0,
            (_, Some(reference)) => reference,
        };
        if reference != 0
            && let Some(memory) = &mut self.state.memory
        {
            match memory.refs.look_up(author.session, reference) {
                Known::New => {}
                Known::Used(Fate::Published { seq, timestamp }) => {
                    return Ok(Published::Before { seq, timestamp });
                }
                Known::Used(Fate::Pending) if memory.late.len() < MAX_LATE => {
                    memory.late.push((author.session.into(), reference, author.asker));
                    return Ok(Published::Later);
                }
                Known::Used(Fate::Pending) => return Err(fault(Code::Unavailable)),
                Known::TooOld => {
                    return Err(fault(Code::BadMessage).with_message(
                        "This `ref` is too old to know whether the message was published.",
                    ));
                }
            }
        }
        self.admit(now).map_err(|fault| fault.with_reference(message.reference))?;
        let now = self.state.time.max(now);
        let Life::Open(Some(log)) = &mut self.state.life else {
            return Err(fault(Code::Unavailable));
        };
        let draft = Draft {
            room: self.room.name(),
            from: author.user_id,
            session: author.session,
            reference,
            message,
            asker: author.asker,
        };
        match log.append(&draft, now) {
            Append::Done { seq, timestamp } => {
                let frame = self.encode(author.user_id, message, Some(seq), timestamp);
                self.remember(author.session, reference, seq, timestamp, frame.frame());
                Ok(Published::Now { frame, seq: Some(seq), timestamp })
            }
            Append::Later => {
                self.state.pending += 1;
                if reference != 0 {
                    let refs = &mut self.state.memory().refs;
                    refs.note(author.session, reference, Fate::Pending, now);
                }
                Ok(Published::Later)
            }
            Append::Refused(_) => Err(fault(Code::Unavailable)),
        }
    }

    /// Whether one message more may be published here, as far as its number and memory go.
    fn admit(&mut self, now: Timestamp) -> Result<(), Fault> {
        let room = self.room;
        if let Some(rate) = &room.rule().rate {
            // By the clock itself: the room's time may be ahead of it, and stand still.
            let now = now.0.saturating_mul(1_000_000);
            let meter = &mut self.state.memory().meter;
            meter.mend(rate, now);
            if let Err(wait) = meter.take(rate, 1, now) {
                room.budget.refuse_rate();
                return Err(Fault::new(Code::RateLimited)
                    .with_message("Too many messages in this room; try again later.")
                    .with_retry_after(wait));
            }
        }
        if room.rule().history.size > 0 && room.budget.is_spent() {
            room.budget.refuse_message();
            return Err(Fault::new(Code::Overloaded));
        }
        Ok(())
    }

    /// Tells the budget what the room remembers.
    pub(crate) fn account(&mut self) {
        if let Some(memory) = &mut self.state.memory {
            let bytes = memory.ring.bytes() + memory.refs.about();
            self.room.budget.change(memory.accounted, bytes);
            memory.accounted = bytes;
        }
    }

    /// The backend answers for a message that was to be stored.
    pub fn complete(&mut self, outcome: &Outcome) -> Completed {
        self.state.pending = self.state.pending.saturating_sub(1);
        let mut askers = vec![outcome.asker];
        if outcome.reference != 0 {
            let late = &mut self.state.memory().late;
            late.retain(|(session, reference, asker)| {
                let same = *session == outcome.session && *reference == outcome.reference;
                if same {
                    askers.push(*asker);
                }
                !same
            });
        }
        let Ok((seq, timestamp)) = outcome.result else {
            if outcome.reference != 0 {
                self.state.memory().refs.forget(&outcome.session, outcome.reference);
            }
            return Completed { stored: None, frame: None, askers };
        };
        let (session, reference) = (&*outcome.session, outcome.reference);
        let stored = Some((seq, timestamp));
        if outcome.duplicate {
            if reference != 0 {
                let fate = Fate::Published { seq, timestamp };
                self.state.memory().refs.note(session, reference, fate, timestamp);
            }
            return Completed { stored, frame: None, askers };
        }
        let mut text = Vec::new();
        outcome.body.write(&mut text, Some(seq), timestamp);
        let frame = Prepared::new(OpCode::Text, &text);
        self.remember(session, reference, seq, timestamp, frame.frame());
        Completed { stored, frame: Some(frame), askers }
    }

    /// Other nodes have stored messages. The frames are for all members, in this order.
    pub fn arrived(&mut self, messages: &mut Vec<Stored>) -> Vec<Prepared> {
        if !matches!(self.state.life, Life::Open(_)) {
            messages.clear();
        }
        let mut frames = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            let Stored { seq, timestamp, session, reference, body } = message;
            let mut text = Vec::new();
            body.write(&mut text, Some(seq), timestamp);
            let frame = Prepared::new(OpCode::Text, &text);
            self.remember(&session, reference, seq, timestamp, frame.frame());
            frames.push(frame);
        }
        frames
    }

    /// The room begins anew, with members in it. The frame is for all of them: `resumed`, with nothing recovered.
    pub fn renew(&mut self, renewed: Renewed) -> Option<Prepared> {
        if !matches!(self.state.life, Life::Open(_)) {
            return None;
        }
        let Renewed { epoch, seq, time, past } = renewed;
        self.state.epoch = epoch;
        self.state.seq = seq;
        self.state.advance(time);
        if let Some(memory) = &mut self.state.memory {
            memory.ring = Ring::default();
            memory.refs.keep_pending(); // what was published may be lost: the backend knows
        }
        self.restore(Vec::new(), past);
        let epoch = epoch.to_string();
        let resumed = push::Resumed {
            recovered: false,
            epoch: &epoch,
            seq,
            user_count: self.user_count(),
            presence_seq: Some(self.state.presence_seq),
        };
        let mut text = Vec::new();
        push::resumed(&mut text, None, [(self.room.name(), Ok(resumed))]);
        Some(Prepared::new(OpCode::Text, &text))
    }

    /// Passes a message on as it is: text stays text, binary stays binary.
    pub fn relay(&mut self, opcode: OpCode, payload: &[u8]) -> Prepared {
        self.pass_on(opcode, payload);
        Prepared::new(opcode, payload)
    }

    /// The other nodes get it; members here do not by this.
    pub fn pass_on(&mut self, opcode: OpCode, payload: &[u8]) {
        if self.room.is_shared() {
            self.state.tell(|log| log.cast(opcode, payload));
        }
    }

    /// Hands out frames of messages behind `after`, oldest first, until `take` has had enough (it
    /// says how many more bytes it takes). No copy: the frames are shared.
    ///
    /// What was [`Joined`](crate::Joined) begins here with its `after`, and goes on with what
    /// [`Replay::More`] says.
    pub fn replay(&self, after: u64, mut take: impl FnMut(&Bytes) -> bool) -> Replay {
        if after >= self.state.seq {
            return Replay::Live;
        }
        let Some(memory) = &self.state.memory else { return Replay::Lost };
        if memory.ring.first().is_none_or(|first| first > after + 1) {
            return Replay::Lost;
        }
        let mut last = after;
        for entry in memory.ring.after(after) {
            last = entry.seq;
            if !take(&entry.frame) {
                break;
            }
        }
        if last >= self.state.seq { Replay::Live } else { Replay::More(last) }
    }

    /// The number behind which the past begins that is still there.
    pub fn oldest(&self) -> u64 {
        let first = self.state.memory.as_ref().and_then(|memory| memory.ring.first());
        first.map_or(self.state.seq, |first| first - 1)
    }

    /// How many of the last messages are newer than this.
    pub fn newer(&self, than: Timestamp) -> u32 {
        let ring = self.state.memory.as_ref().map(|memory| &memory.ring);
        let newer =
            |ring: &Ring| ring.after(0).rev().take_while(|entry| entry.timestamp > than).count();
        ring.map_or(0, |ring| u32::try_from(newer(ring)).unwrap_or(u32::MAX))
    }

    /// A page of the room's past: at most `limit` messages and about `bytes` bytes.
    ///
    /// # Errors
    /// `stale_epoch` when `epoch` is given and is not the room's, `unavailable` while there may be more than is known here.
    pub fn history(
        &mut self,
        span: Span,
        limit: usize,
        bytes: usize,
        epoch: Option<&str>,
        now: Timestamp,
    ) -> Result<Page, Fault> {
        if epoch.is_some_and(|epoch| epoch != self.state.epoch.to_string()) {
            return Err(Fault::new(Code::StaleEpoch));
        }
        self.check_current()?;
        let limits = self.room.rule().history;
        let Some(memory) = &mut self.state.memory else {
            return Ok(Page { messages: Vec::new(), more: false });
        };
        memory.ring.trim(now, &limits);
        let (mut left, mut messages) = (bytes, Vec::new());
        let mut take = |entry: &Entry| {
            let fits = messages.len() < limit && (messages.is_empty() || entry.frame.len() <= left);
            if fits {
                left = left.saturating_sub(entry.frame.len());
                messages.push(entry.frame.slice_ref(text_of(&entry.frame)));
            }
            fits
        };
        let more = match span {
            Span::After(seq) => !memory.ring.after(seq).all(&mut take),
            Span::Newest => !memory.ring.after(0).rev().all(&mut take),
            Span::Before(seq) => !memory.ring.before(seq).rev().all(&mut take),
        };
        if !matches!(span, Span::After(_)) {
            messages.reverse();
        }
        self.account();
        Ok(Page { messages, more })
    }

    /// Where a member begins: whether nothing is missing, and behind which number.
    pub(crate) fn start(
        &mut self,
        start: &Start<'_>,
        now: Timestamp,
    ) -> Result<(bool, u64), Refused> {
        let limits = self.room.rule().history;
        let seq = self.state.seq;
        let mut first = None;
        if let Some(memory) = &mut self.state.memory {
            memory.ring.trim(now, &limits);
            first = memory.ring.first();
        }
        self.account();
        let rewound = || {
            let oldest = first.map_or(seq, |first| first - 1);
            seq.saturating_sub(u64::from(start.rewind)).max(oldest)
        };
        let Some((epoch, since)) = start.since else { return Ok((true, rewound())) };
        if epoch != self.state.epoch.to_string() {
            return Ok((false, rewound()));
        }
        if since > seq {
            return Err(Refused::Future);
        }
        let whole = since == seq || first.is_some_and(|first| first <= since + 1);
        Ok(if whole { (true, since) } else { (false, rewound()) })
    }

    /// Takes over what a backend has stored.
    pub(crate) fn restore(&mut self, refs: Vec<Used>, stored: Vec<Stored>) {
        let limits = self.room.rule().history;
        for Used { session, reference, seq, timestamp } in refs {
            let fate = Fate::Published { seq, timestamp };
            self.state.memory().refs.note(&session, reference, fate, timestamp);
        }
        for message in stored {
            let mut text = Vec::new();
            message.body.write(&mut text, Some(message.seq), message.timestamp);
            let frame = Prepared::new(OpCode::Text, &text).frame().clone();
            let (seq, timestamp) = (message.seq, message.timestamp);
            let memory = self.state.memory();
            memory.ring.push(Entry { seq, timestamp, frame }, &limits);
            if message.reference != 0 {
                let fate = Fate::Published { seq, timestamp };
                memory.refs.note(&message.session, message.reference, fate, timestamp);
            }
        }
        self.account();
    }

    fn encode(
        &self,
        from: &str,
        message: &Publish<'_>,
        seq: Option<u64>,
        timestamp: Timestamp,
    ) -> Prepared {
        let stamp = push::Stamp { room: self.room.name(), from, seq, timestamp };
        let mut payload = Vec::new();
        push::message(&mut payload, &stamp, message);
        Prepared::new(OpCode::Text, &payload)
    }

    fn remember(
        &mut self,
        session: &str,
        reference: u64,
        seq: u64,
        timestamp: Timestamp,
        frame: &Bytes,
    ) {
        debug_assert_eq!(seq, self.state.seq + 1, "a backend leaves no holes");
        self.state.seq = seq;
        self.state.advance(timestamp);
        let rule: &Arc<Rule> = self.room.rule();
        if rule.history.size == 0 && reference == 0 {
            return;
        }
        let memory = self.state.memory();
        memory.ring.push(Entry { seq, timestamp, frame: frame.clone() }, &rule.history);
        if reference != 0 {
            let fate = Fate::Published { seq, timestamp };
            memory.refs.note(session, reference, fate, timestamp);
            memory.refs.sweep(timestamp);
        }
        self.account();
    }
}

impl crate::room::State {
    pub(crate) fn memory(&mut self) -> &mut Memory {
        self.memory.get_or_insert_default()
    }
}

/// The payload of an unmasked frame of ours, such as [`Order::replay`] hands out.
pub fn text_of(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1).copied().unwrap_or(0) & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// How many may ask again for `ref`s of a room that are being stored.
const MAX_LATE: usize = 1024;
