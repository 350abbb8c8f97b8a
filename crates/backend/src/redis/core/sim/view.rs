//! A room as a hub has it, which believes what it is told, and complains.

use std::collections::{BTreeMap, BTreeSet};

use throng_hub::{Elsewhere, Epoch, Identity, Stored};

use super::ledger::{Ledger, message_of};
use crate::redis::core::{Effect, Kind};
use crate::redis::step::Name;

/// What a node is waiting for.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) message: u64,
    pub(super) session: Box<str>,
    pub(super) reference: u64,
    pub(super) since: u64,
}

/// A room of one node.
#[derive(Debug)]
pub(super) struct View {
    pub(super) name: Name,
    pub(super) kind: Kind,
    pub(super) open: bool,
    pub(super) current: bool,
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    /// Who is here.
    pub(super) here: BTreeSet<Box<str>>,
    /// Who is elsewhere.
    pub(super) elsewhere: BTreeSet<Box<str>>,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// The last message of this node that was stored and delivered, since the room began anew.
    last_token: u64,
    /// Looks that are waited for: what there was when they began, if nothing was broken then.
    pub(super) looks: Vec<Look>,
}

/// A look that was asked for.
#[derive(Debug)]
pub(super) struct Look {
    /// Where the room was, and how often something had failed for this node.
    pub(super) at: Option<(Epoch, u64)>,
    pub(super) failures: u64,
}

/// What a node tells clients.
#[derive(Debug)]
pub(super) enum News {
    /// A message could not be stored.
    Refused(Pending),
    /// The room could not be opened.
    Closed,
    /// It begins anew.
    Renewed,
    /// A duplicate was acknowledged.
    Duplicate,
    Acknowledged,
    Arrived,
    Cast,
    Looked,
}

impl View {
    pub(super) fn new(name: Name, kind: Kind) -> Self {
        Self {
            name,
            kind,
            open: false,
            current: false,
            epoch: Epoch(0),
            seq: 0,
            here: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            pending: BTreeMap::new(),
            last_token: 0,
            looks: Vec::new(),
        }
    }

    /// The core tells something.
    pub(super) fn take(
        &mut self,
        effect: Effect<(usize, u64), u64>,
        node: usize,
        failures: u64,
        ledger: &mut Ledger,
        news: &mut Vec<News>,
    ) {
        let opens = matches!(effect, Effect::Opened { .. });
        assert_ne!(self.open, opens, "told before it is open, or opened twice: {effect:?}");
        match effect {
            Effect::Opened { result: Err(_), .. } => {
                assert_eq!(self.kind, Kind::Kept, "such a room opens without Redis");
                news.push(News::Closed);
            }
            Effect::Opened { result: Ok(opened), .. } => {
                self.open = true;
                self.begin(opened.epoch, opened.seq, &opened.past, ledger);
                for who in opened.elsewhere {
                    assert!(self.elsewhere.insert(who.user_id().into()), "twice elsewhere");
                }
            }
            Effect::Renewed { renewed, .. } => {
                assert_eq!(self.kind, Kind::Kept);
                self.begin(renewed.epoch, renewed.seq, &renewed.past, ledger);
                news.push(News::Renewed);
            }
            Effect::Arrived { messages, .. } => {
                assert!(!messages.is_empty());
                for message in messages {
                    self.next(&message, ledger);
                    news.push(News::Arrived);
                }
            }
            Effect::Stored { outcomes, .. } => {
                for outcome in outcomes {
                    let pending = self.pending.remove(&outcome.token).expect("answered once");
                    assert_eq!(message_of(&outcome.body), pending.message);
                    let asked = (&pending.session, pending.reference);
                    assert_eq!((&outcome.session, outcome.reference), asked);
                    match outcome.result {
                        Err(_) => {
                            assert!(!outcome.duplicate);
                            news.push(News::Refused(pending));
                            continue;
                        }
                        Ok((seq, timestamp)) if !outcome.duplicate => {
                            assert!(outcome.token > self.last_token, "out of order");
                            self.last_token = outcome.token;
                            self.next(
                                &Stored {
                                    seq,
                                    timestamp,
                                    session: outcome.session,
                                    reference: outcome.reference,
                                    body: outcome.body,
                                },
                                ledger,
                            );
                            news.push(News::Acknowledged);
                        }
                        Ok((seq, timestamp)) => {
                            ledger.told(&self.name, self.epoch, seq, pending.message, timestamp);
                            news.push(News::Duplicate);
                        }
                    }
                    ledger.promised.insert((self.name.clone(), pending.message));
                }
            }
            Effect::Elsewhere { news, .. } => {
                for news in news {
                    match news {
                        Elsewhere::Here(who) => {
                            assert!(self.elsewhere.insert(user(&who)), "is there already");
                        }
                        Elsewhere::Gone(user) => {
                            assert!(self.elsewhere.remove(&user), "was not there");
                        }
                        Elsewhere::All(all) => {
                            self.elsewhere = all.iter().map(|who| user(who)).collect();
                        }
                    }
                }
            }
            Effect::Cast { payload, .. } => {
                let cast = payload.as_ref().try_into().map(u64::from_be_bytes);
                ledger.cast(node, cast.expect("a cast of ours"));
                news.push(News::Cast);
            }
            Effect::Looked { .. } => {
                assert!(!self.looks.is_empty(), "nobody asked");
                let look = self.looks.remove(0);
                if let Some((epoch, seq)) = look.at
                    && look.failures == failures
                {
                    let there = epoch == self.epoch && seq <= self.seq;
                    assert!(there, "looked for {look:?}, and is at {} {}", self.epoch, self.seq);
                }
                news.push(News::Looked);
            }
            Effect::Current { current, .. } => {
                assert_ne!(self.current, current, "nothing has changed");
                self.current = current;
            }
        }
    }

    fn begin(&mut self, epoch: Epoch, seq: u64, past: &[Stored], ledger: &mut Ledger) {
        assert!(epoch != self.epoch || seq >= self.seq, "back from {} to {seq}", self.seq);
        (self.epoch, self.seq, self.last_token) = (epoch, seq, 0);
        for (back, message) in past.iter().rev().enumerate() {
            assert_eq!(message.seq + back as u64, seq, "a hole in the past");
            ledger.told(
                &self.name,
                epoch,
                message.seq,
                message_of(&message.body),
                message.timestamp,
            );
        }
    }

    fn next(&mut self, message: &Stored, ledger: &mut Ledger) {
        assert_eq!(message.seq, self.seq + 1, "a hole, or twice");
        self.seq = message.seq;
        let number = message_of(&message.body);
        ledger.told(&self.name, self.epoch, message.seq, number, message.timestamp);
    }
}

fn user(who: &Identity) -> Box<str> {
    who.user_id().into()
}
