//! Who is in a room, and what the others are told of it.

use std::collections::HashSet;
use std::sync::Arc;

use throng_protocol::{Code, Fault, Timestamp, push};
use throng_wire::{OpCode, Prepared};

use crate::backend::Elsewhere;
use crate::history::millis;
use crate::identity::Identity;
use crate::room::{Closed, Epoch, Life, MAX_LISTED, Order};
use crate::rule::Presence;

impl Order<'_> {
    /// A connection of a user comes in, on this worker.
    ///
    /// Only the first connection of a user is announced, to the members there are already; not
    /// to the joiner itself, which has nothing to expect from the workers yet. A user who was lost
    /// and comes back within the grace is not announced.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    ///
    /// Cost: some 20 to 40 bytes for a new user; an announcement is one allocation besides its
    /// frame's own.
    pub fn join(
        &mut self,
        who: &Arc<Identity>,
        worker: usize,
        start: &Start<'_>,
        now: Timestamp,
    ) -> Result<Joined, Refused> {
        self.check_open()?;
        let rule = Arc::clone(self.room.rule());
        // Who comes back may find the connection that was lost still counted.
        let full = rule.max_members > 0 && self.member_count() >= rule.max_members;
        if full && !self.state.seats().has(who.user_id()) {
            return Err(Refused::Full);
        }
        let (recovered, after) = self.start(start, now)?;
        let alone = self.is_empty();
        self.attach(worker)?;
        let timestamp = self.state.advance(now);
        let mut announcement = None;
        if rule.presence != Presence::Off {
            let moved = self.state.seats_mut().add(who);
            if moved.here {
                self.state.tell(|log| log.seat(who));
            }
            if moved.anywhere {
                self.state.presence_seq += 1;
                if !alone {
                    announcement = self.announce(push::user_joined, who, timestamp);
                }
            }
        }
        Ok(Joined {
            announcement,
            wake: self.state.next_wake(),
            user_count: self.user_count(),
            epoch: self.state.epoch,
            seq: self.state.seq,
            presence_seq: self.state.presence_seq,
            recovered,
            after,
            timestamp,
        })
    }

    /// A connection of a user that came in on this worker goes.
    ///
    /// Only the last connection of a user is announced, to the members that remain: at once when it
    /// was closed in good order, after the rule's grace when it was lost. Somebody who is not
    /// here changes nothing. When the room is `empty` afterwards, drop the order and
    /// [`release`](crate::Hub::release) the room.
    pub fn leave(
        &mut self,
        who: &Arc<Identity>,
        worker: usize,
        ending: Ending,
        now: Timestamp,
    ) -> Left {
        let mut announcement = None;
        if self.room.rule().presence != Presence::Off && !self.state.seats().has(who.user_id()) {
            let (user_count, empty) = (self.user_count(), self.is_empty());
            return Left { announcement, wake: None, user_count, empty };
        }
        self.detach(worker);
        let empty = self.is_empty();
        if self.room.rule().presence != Presence::Off {
            let grace = match ending {
                Ending::Lost => millis(self.room.rule().grace),
                Ending::Orderly => 0,
            };
            if grace > 0 && (!empty || self.room.is_shared()) {
                let due = Timestamp(now.0.saturating_add(grace));
                self.state.seats_mut().lose(who, due);
            } else {
                let moved = self.state.seats_mut().remove(who.user_id());
                if moved.here {
                    self.state.tell(|log| log.unseat(who.user_id()));
                }
                if moved.anywhere {
                    self.state.presence_seq += 1;
                    let timestamp = self.state.advance(now);
                    if !empty {
                        announcement = self.announce(push::user_left, who, timestamp);
                    }
                }
            }
        }
        let wake = if empty && !self.room.is_shared() { None } else { self.state.next_wake() };
        Left { announcement, wake, user_count: self.user_count(), empty }
    }

    /// What has become due: users whose grace is over, a number of users that was held back. The
    /// frames are for all members.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Due {
        self.state.alarm = self.state.alarm.filter(|alarm| *alarm > now);
        let mut frames = Vec::new();
        let mut changed = false;
        // Not all of a crowd at once: others wait for the room.
        let due = if self.state.seats().next_lost().is_some() { MOST_DUE } else { 0 };
        for _ in 0..due {
            let Some((who, moved)) = self.state.seats_mut().pop_lost(now) else { break };
            if moved.here {
                self.state.tell(|log| log.unseat(who.user_id()));
            }
            if !moved.anywhere {
                continue;
            }
            self.state.presence_seq += 1;
            changed = true;
            if self.room.rule().presence == Presence::Full {
                let timestamp = self.state.advance(now);
                frames.push(self.passage(push::user_left, &who, timestamp));
            }
        }
        if self.room.rule().presence == Presence::Count && (changed || self.state.uncounted) {
            frames.extend(self.count(now));
        }
        Due { frames, wake: self.state.next_wake() }
    }

    /// Who is there on other nodes has changed. The frames are for all members.
    pub fn elsewhere(&mut self, news: Vec<Elsewhere>, now: Timestamp) -> Due {
        let mut frames = Vec::new();
        if self.room.rule().presence != Presence::Off && self.check_open().is_ok() {
            for change in news {
                self.change_elsewhere(change, now, &mut frames);
            }
        }
        let wake = if self.is_empty() { None } else { self.state.next_wake() };
        Due { frames, wake }
    }

    fn change_elsewhere(&mut self, change: Elsewhere, now: Timestamp, out: &mut Vec<Prepared>) {
        let (write, who): (fn(&mut Vec<u8>, &push::Passage<'_>), _) = match change {
            Elsewhere::Here(who) => {
                if !self.state.seats_mut().add_elsewhere(&who) {
                    return;
                }
                (push::user_joined, who)
            }
            Elsewhere::Gone(user) => match self.state.seats_mut().remove_elsewhere(&user) {
                None => return,
                Some(who) => (push::user_left, who),
            },
            Elsewhere::All(all) => {
                let known: HashSet<&str> = all.iter().map(|who| who.user_id()).collect();
                let there = self.state.seats().elsewhere().map(|who| who.user_id());
                let gone: Vec<Box<str>> =
                    there.filter(|user| !known.contains(user)).map(Into::into).collect();
                for user in gone {
                    self.change_elsewhere(Elsewhere::Gone(user), now, out);
                }
                for who in all {
                    self.change_elsewhere(Elsewhere::Here(who), now, out);
                }
                return;
            }
        };
        self.state.presence_seq += 1;
        if !self.is_empty() {
            let timestamp = self.state.advance(now);
            out.extend(self.announce(write, &who, timestamp));
        }
    }

    /// Asks for a look at this time, if nobody is here. `None` when one is arranged already.
    pub fn look_again(&mut self, due: Timestamp) -> Option<Timestamp> {
        if !self.is_empty() || self.state.alarm.is_some_and(|alarm| alarm <= due) {
            return None;
        }
        self.state.alarm = Some(due);
        self.state.alarm
    }

    /// A connection without a user comes in, on this worker: a member of a relay.
    ///
    /// # Errors
    /// [`Refused`], as [`Order::join`].
    pub fn attach(&mut self, worker: usize) -> Result<(), Refused> {
        self.check_open()?;
        let workers = &mut self.state.workers;
        if workers.len() <= worker {
            workers.reserve_exact(worker + 1 - workers.len());
            workers.resize(worker + 1, 0);
        }
        workers[worker] += 1;
        self.state.members += 1;
        Ok(())
    }

    /// A connection without a user goes; whether the room is empty now, and to be released.
    pub fn detach(&mut self, worker: usize) -> bool {
        let state = &mut *self.state;
        if let Some(members @ 1..) = state.workers.get_mut(worker) {
            *members -= 1;
            state.members -= 1;
        }
        self.is_empty()
    }

    /// Appends a `presence` message for one member: the number of users, and where the rule allows it
    /// and they are at most [`MAX_LISTED`] also who they are. One pass over the listed users under the lock,
    /// 50 to 350 ns each, depending on whether they are in the CPU's cache.
    ///
    /// # Errors
    /// `forbidden` where the rule says that presence is off, `unavailable` while nobody can say who is on other nodes.
    pub fn presence(&self, out: &mut Vec<u8>, reference: Option<u64>) -> Result<(), Fault> {
        if self.room.rule().presence == Presence::Off {
            return Err(Fault::new(Code::Forbidden)
                .with_message("This room does not tell who is there.")
                .with_reference(reference));
        }
        self.check_current().map_err(|fault| fault.with_reference(reference))?;
        self.list(out, reference);
        Ok(())
    }

    /// Appends a `presence` message for a member that is told of every change from now on, so that it is right even
    /// while nobody can say who is on other nodes: what has changed there is announced when it is known.
    pub fn list(&self, out: &mut Vec<u8>, reference: Option<u64>) {
        if self.room.rule().presence != Presence::Off {
            let (name, seq) = (self.room.name(), Some(self.state.presence_seq));
            push::presence(out, reference, name, self.user_count(), seq, self.listed_users());
        }
    }

    /// The users as members may see them: user id and info. `None` where the rule does not tell, or when
    /// there are more than [`MAX_LISTED`].
    pub fn listed_users(&self) -> Option<impl Iterator<Item = (&str, Option<&str>)>> {
        let told = self.room.rule().presence == Presence::Full;
        let users = self.users().map(|who| (who.user_id(), who.info()));
        (told && users.len() <= MAX_LISTED).then_some(users)
    }

    fn check_open(&self) -> Result<(), Refused> {
        match &self.state.life {
            Life::Open(_) => Ok(()),
            Life::Opening(_) => Err(Refused::Closed(Closed::Opening)),
            Life::Failed => Err(Refused::Closed(Closed::Unavailable)),
            Life::Forgotten => Err(Refused::Closed(Closed::Forgotten)),
        }
    }

    /// Tells the members of a change, as the rule says.
    fn announce(
        &mut self,
        write: fn(&mut Vec<u8>, &push::Passage<'_>),
        who: &Identity,
        timestamp: Timestamp,
    ) -> Option<Prepared> {
        match self.room.rule().presence {
            Presence::Full => Some(self.passage(write, who, timestamp)),
            Presence::Count => self.count(timestamp),
            Presence::Off => None,
        }
    }

    /// The number of users, unless it was told less than a second ago; then it is told later.
    fn count(&mut self, now: Timestamp) -> Option<Prepared> {
        self.state.uncounted = now < self.state.recount_at();
        if self.state.uncounted {
            return None;
        }
        self.state.counted = now;
        let mut text = Vec::new();
        let none = None::<std::iter::Empty<_>>;
        let (name, seq) = (self.room.name(), Some(self.state.presence_seq));
        push::presence(&mut text, None, name, self.user_count(), seq, none);
        Some(Prepared::new(OpCode::Text, &text))
    }

    fn passage(
        &self,
        write: fn(&mut Vec<u8>, &push::Passage<'_>),
        who: &Identity,
        timestamp: Timestamp,
    ) -> Prepared {
        let mut payload = Vec::new();
        write(
            &mut payload,
            &push::Passage {
                room: self.room.name(),
                user_id: who.user_id(),
                info: who.info(),
                user_count: self.user_count(),
                presence_seq: self.state.presence_seq,
                timestamp,
            },
        );
        Prepared::new(OpCode::Text, &payload)
    }
}

/// Where somebody who joins wants to begin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// The last position that is known: an epoch as it was told, and a `seq` in it.
    pub since: Option<(&'a str, u64)>,
    /// So many of the last messages, where there is no `since` or it is of no use any more.
    pub rewind: u32,
}

impl Start<'_> {
    /// With the next message.
    pub const NOW: Self = Self { since: None, rewind: 0 };
}

/// What happened when a connection joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// For the members that were here before: `user_joined`, or their number. None for a further
    /// connection of the same user or when nobody was here.
    pub announcement: Option<Prepared>,
    /// When [`Order::handle_timeout`] wants to be called; none when that is arranged already.
    pub wake: Option<Timestamp>,
    /// The users here, the new one included.
    pub user_count: usize,
    /// The epoch in which `seq` counts.
    pub epoch: Epoch,
    /// The number of the last message before.
    pub seq: u64,
    /// The state of presence, with the joiner.
    pub presence_seq: u64,
    /// Nothing of what was asked for is missing.
    pub recovered: bool,
    /// The joiner is owed the messages behind this number; see [`Order::replay`].
    pub after: u64,
    /// When.
    pub timestamp: Timestamp,
}

/// What happened when a connection left.
#[derive(Clone, Debug)]
pub struct Left {
    /// For the members that remain: `user_left`, or their number; none while the user has other
    /// connections or may come back.
    pub announcement: Option<Prepared>,
    /// When [`Order::handle_timeout`] wants to be called; none when that is arranged already.
    pub wake: Option<Timestamp>,
    /// The users that remain.
    pub user_count: usize,
    /// Nobody remains: the room is to be released.
    pub empty: bool,
}

/// What [`Order::handle_timeout`] found.
#[derive(Debug)]
pub struct Due {
    /// For all members, in this order.
    pub frames: Vec<Prepared>,
    /// When it wants to be called again.
    pub wake: Option<Timestamp>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The user said so, or left the room.
    Orderly,
    /// The connection was lost: the user may be back soon.
    Lost,
}

/// Why somebody could not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The room cannot be used (yet, or any more).
    Closed(Closed),
    /// It has as many members as the rule allows.
    Full,
    /// `since` is beyond the last message.
    Future,
}

/// So many users are told to have left in one turn.
const MOST_DUE: usize = 256;
