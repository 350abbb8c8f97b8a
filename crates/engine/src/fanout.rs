//! A worker's share of the rooms: who is here, and what waits to be written to them.
//!
//! Every message is framed once. The frames of a room that share a turn of the loop lie behind
//! one another in one buffer; a member that is up to date gets a slice of it in one `write`,
//! without a copy. Only a member that falls behind gets a reference into its outbox.

mod key;
mod latest;
mod leaving;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use slab::Slab;
use throng_hub::{Room, RoomId, SlowPolicy, Space};
use throng_wire::Prepared;

use self::latest::{Frames, Latest, count_frames};
pub(crate) use self::leaving::Leaving;
use crate::conn::{Conn, Place};
use crate::inbox::{Echo, Sight};
use crate::policy::{Flush, Policy};
use crate::tick::Out;
use crate::wheel::ConnId;

/// The rooms that have members on this worker.
#[derive(Default)]
pub(crate) struct Fanout {
    rooms: Slab<LocalRoom>,
    index: HashMap<RoomId, u32>,
    /// Rooms with something to write at the end of this turn.
    dirty: Vec<u32>,
    /// Rooms whose writes are held until later.
    held: Vec<u32>,
    /// Buffers between uses: a quiet room owns none.
    spare: Vec<BytesMut>,
}

struct LocalRoom {
    room: Arc<Room>,
    members: Vec<Member>,
    /// How many members take compressed frames.
    deflating: u32,
    /// How many members are not told who comes and goes.
    blind: u32,
    /// What is kept for members that cannot keep up, if that is the room's policy.
    latest: Option<Box<Latest>>,
    /// What waits to be written; a quiet room has none.
    batch: Option<Box<Batch>>,
    last_flush: Option<Instant>,
    policy: Arc<Policy>,
}

/// Frames behind one another.
#[derive(Default)]
struct Batch {
    plain: BytesMut,
    /// The same frames, compressed where that is worth it; only from the first such frame on.
    deflated: Option<BytesMut>,
    frames: u32,
    /// Where in `plain` it is told who comes and goes; only if there are members who are not to know.
    news: Vec<(u32, u32)>,
    /// Where in `plain` frames are that their senders do not want back; only if members are behind.
    silent: Vec<(u32, ConnId)>,
}

#[derive(Clone, Copy)]
struct Member {
    conn: u32,
    /// Where in the waiting buffers this member begins: behind what was there when it came.
    from_plain: u32,
    from_deflated: u32,
    echo: Echo,
    sight: Sight,
}

impl Fanout {
    /// Makes a connection a member. Every later [`Fanout::deliver`] reaches it, no earlier one. What a
    /// member may see can be changed in the same way.
    pub(crate) fn enter(&mut self, conn: &mut Conn, room: &Arc<Room>, echo: Echo, sight: Sight) {
        let key = *self.index.entry(room.id()).or_insert_with(|| {
            self.rooms.insert(LocalRoom {
                room: Arc::clone(room),
                members: Vec::new(),
                deflating: 0,
                blind: 0,
                latest: None,
                batch: None,
                last_flush: None,
                policy: Arc::clone(conn.policy()),
            }) as u32
        });
        let local = &mut self.rooms[key as usize];
        if let Some(place) = conn.places.iter().find(|place| place.room == key) {
            let member = &mut local.members[place.at as usize];
            local.blind -= u32::from(member.sight == Sight::Blind);
            local.blind += u32::from(sight == Sight::Blind);
            member.sight = sight;
            return;
        }
        if conn.places.len() < FEW {
            conn.places.reserve_exact(1);
        }
        conn.places.push(Place { room: key, at: local.members.len() as u32 });
        local.deflating += u32::from(conn.takes_shared_deflate());
        local.blind += u32::from(sight == Sight::Blind);
        if local.members.len() < FEW {
            local.members.reserve_exact(1); // a user's own room seldom has more
        }
        let (from_plain, from_deflated) = local.lens();
        let conn = conn.id().key;
        local.members.push(Member { conn, from_plain, from_deflated, echo, sight });
    }

    /// Ends one membership, or all of them.
    pub(crate) fn leave(
        &mut self,
        conns: &mut Slab<Conn>,
        key: u32,
        room: Option<RoomId>,
        out: &Out,
    ) {
        let only = match room {
            None => None,
            Some(room) => match self.index.get(&room) {
                Some(key) => Some(*key),
                None => return,
            },
        };
        let mut at = 0;
        while let Some(place) = conns[key as usize].places.get(at).copied() {
            if only.is_some_and(|only| only != place.room) {
                at += 1;
                continue;
            }
            let conn = &mut conns[key as usize];
            conn.places.swap_remove(at);
            let deflates = conn.takes_shared_deflate();
            let local = &mut self.rooms[place.room as usize];
            local.deflating -= u32::from(deflates);
            let gone = local.members.swap_remove(place.at as usize);
            local.blind -= u32::from(gone.sight == Sight::Blind);
            local.no_longer_behind(key, out);
            if let Some(moved) = local.members.get(place.at as usize) {
                let places = &mut conns[moved.conn as usize].places;
                if let Some(moved) = places.iter_mut().find(|moved| moved.room == place.room) {
                    moved.at = place.at;
                }
            }
            if local.members.capacity() > 64 && local.members.len() * 4 < local.members.capacity() {
                local.members.shrink_to(local.members.len() * 2);
            }
            if self.rooms[place.room as usize].members.is_empty() {
                self.forget(place.room);
            }
        }
    }

    fn forget(&mut self, key: u32) {
        let local = self.rooms.remove(key as usize);
        self.index.remove(&local.room.id());
        if local.batch.is_some() {
            self.dirty.retain(|room| *room != key);
            self.held.retain(|room| *room != key);
        }
    }

    /// Appends a message to what waits for the members of a room. Names the room when that has
    /// become so much that it is to be written at once.
    #[inline]
    #[must_use]
    pub(crate) fn deliver(
        &mut self,
        room: RoomId,
        message: &Prepared,
        out: &mut Out,
    ) -> Option<u32> {
        let &key = self.index.get(&room)?;
        let LocalRoom { batch, deflating, policy, .. } = &mut self.rooms[key as usize];
        let batch = batch.get_or_insert_with(|| {
            self.dirty.push(key);
            let plain = self.spare.pop().unwrap_or_default();
            Box::new(Batch { plain, ..Batch::default() })
        });
        if *deflating > 0 {
            batch.append_deflated(message, policy, out);
        }
        batch.plain.extend_from_slice(message.frame());
        batch.frames += 1;
        (batch.plain.len() >= MAX_BATCH).then_some(key)
    }

    /// The same for a message that says who comes or goes: not for members that may not see that.
    pub(crate) fn deliver_news(
        &mut self,
        room: RoomId,
        message: &Prepared,
        out: &mut Out,
    ) -> Option<u32> {
        let key = *self.index.get(&room)?;
        let start = self.rooms[key as usize].lens().0;
        let full = self.deliver(room, message, out);
        let local = &mut self.rooms[key as usize];
        if let (true, Some(batch)) = (local.blind > 0, &mut local.batch) {
            batch.news.push((start, batch.plain.len() as u32));
        }
        full
    }

    /// Writes what waits for a room, then a message that no member may miss. Who owes too much already is closed. Those
    /// who are `leaving` have been told that they are no members any more.
    #[cold]
    pub(crate) fn renew(
        &mut self,
        room: RoomId,
        message: &Prepared,
        leaving: &Leaving,
        conns: &mut Slab<Conn>,
        out: &mut Out,
        touched: &mut Vec<u32>,
    ) {
        let Some(&key) = self.index.get(&room) else { return };
        self.flush_full(key, conns, out, touched);
        let local = &self.rooms[key as usize];
        for member in &local.members {
            let conn = &mut conns[member.conn as usize];
            let stays = conn.session.is_in(&local.room) && !leaving.has(conn.id(), room);
            if !conn.is_open() || !stays {
                continue;
            }
            let lags = local.latest.as_ref().is_some_and(|latest| latest.has(member.conn));
            if lags || conn.is_overfull(out) {
                conn.too_slow(SlowPolicy::Disconnect, 1, out);
            } else {
                conn.post_batch(message.frame().clone());
            }
            touched.push(member.conn);
        }
    }

    /// The same for a message that its sender may not want back.
    pub(crate) fn deliver_from(
        &mut self,
        room: RoomId,
        message: &Prepared,
        from: ConnId,
        conns: &mut Slab<Conn>,
        out: &mut Out,
    ) -> Option<u32> {
        let key = self.index.get(&room).copied();
        let sender = key.and_then(|key| self.silent_member(key, from, conns));
        if let (Some(key), Some(at)) = (key, sender) {
            let local = &mut self.rooms[key as usize];
            if local.latest.as_ref().is_some_and(|latest| latest.has(from.key)) {
                return self.deliver_unheard(key, room, message, from, out);
            }
            self.catch_up(key, at, conns);
        }
        let full = self.deliver(room, message, out);
        if let (Some(key), Some(at)) = (key, sender) {
            let local = &mut self.rooms[key as usize];
            let (plain, deflated) = local.lens();
            local.members[at].from_plain = plain;
            local.members[at].from_deflated = deflated;
        }
        full
    }

    /// The same where the sender is behind, and will get later what is kept for it.
    #[cold]
    fn deliver_unheard(
        &mut self,
        key: u32,
        room: RoomId,
        message: &Prepared,
        from: ConnId,
        out: &mut Out,
    ) -> Option<u32> {
        let start = self.rooms[key as usize].lens().0;
        let full = self.deliver(room, message, out);
        if let Some(batch) = &mut self.rooms[key as usize].batch {
            batch.silent.push((start, from));
        }
        full
    }

    /// Where a connection is among the members, if it wants no echo.
    fn silent_member(&self, key: u32, from: ConnId, conns: &Slab<Conn>) -> Option<usize> {
        let conn = conns.get(from.key as usize).filter(|conn| conn.id() == from)?;
        let at = conn.places.iter().find(|place| place.room == key)?.at as usize;
        (self.rooms[key as usize].members.get(at)?.echo == Echo::No).then_some(at)
    }

    /// Gives a member what waits for it, so that it can leave out what comes next.
    fn catch_up(&mut self, key: u32, at: usize, conns: &mut Slab<Conn>) {
        let local = &self.rooms[key as usize];
        let Some(batch) = &local.batch else { return };
        let member = &local.members[at];
        let conn = &mut conns[member.conn as usize];
        if member.sight == Sight::Blind && !batch.news.is_empty() {
            let waiting = without(&batch.plain, &batch.news, member.from_plain);
            if !waiting.is_empty() && conn.is_open() {
                conn.post_batch(waiting);
            }
            return;
        }
        let (batch, from) = match &batch.deflated {
            Some(deflated) if conn.takes_shared_deflate() => (deflated, member.from_deflated),
            _ => (&batch.plain, member.from_plain),
        };
        if let Some(waiting) = batch.get(from as usize..)
            && !waiting.is_empty()
            && conn.is_open()
        {
            conn.post_batch(Bytes::copy_from_slice(waiting));
        }
    }

    /// Writes a room before the turn ends.
    #[cold]
    pub(crate) fn flush_full(
        &mut self,
        key: u32,
        conns: &mut Slab<Conn>,
        out: &mut Out,
        touched: &mut Vec<u32>,
    ) {
        self.dirty.retain(|room| *room != key);
        self.held.retain(|room| *room != key);
        self.flush_room(key, conns, out, touched);
    }

    /// Writes what waits, or holds it as the rooms' [`Flush`] says. Connections that turned out
    /// to be broken or too slow are named in `touched`.
    pub(crate) fn flush(
        &mut self,
        conns: &mut Slab<Conn>,
        out: &mut Out,
        now: Instant,
        busy: f32,
        touched: &mut Vec<u32>,
    ) {
        let mut at = 0;
        while let Some(&key) = self.held.get(at) {
            if self.rooms[key as usize].due(busy).is_none_or(|due| due <= now) {
                self.held.swap_remove(at);
                self.flush_room(key, conns, out, touched);
            } else {
                at += 1;
            }
        }
        for at in 0..self.dirty.len() {
            let key = self.dirty[at];
            // A held room gets more messages without becoming dirty again.
            if self.rooms[key as usize].due(busy).is_none_or(|due| due <= now) {
                self.flush_room(key, conns, out, touched);
            } else {
                self.held.push(key);
            }
        }
        self.dirty.clear();
    }

    /// How long until a held room is due.
    pub(crate) fn sleep(&self, now: Instant, busy: f32) -> Option<Duration> {
        let due = self.held.iter().map(|key| self.rooms[*key as usize].due(busy).unwrap_or(now));
        due.min().map(|due| due.saturating_duration_since(now))
    }

    fn flush_room(
        &mut self,
        key: u32,
        conns: &mut Slab<Conn>,
        out: &mut Out,
        touched: &mut Vec<u32>,
    ) {
        let local = &mut self.rooms[key as usize];
        let Some(batch) = local.batch.take() else { return };
        if local.policy.flush != Flush::Every(Duration::ZERO) {
            local.last_flush = Some(Instant::now());
        }
        let Batch { plain, deflated, frames, news, silent } = *batch;
        let (plain, deflated) = (plain.freeze(), deflated.map(BytesMut::freeze));
        let frames = u64::from(frames);
        let (mut bytes_out, mut receivers) = (0, 0);
        let slow = local.room.rule().slow;
        let (mut quiet, mut lagging) = (None, Vec::new());
        for member in &mut local.members {
            let conn = &mut conns[member.conn as usize];
            let from_plain = std::mem::take(&mut member.from_plain);
            let from_deflated = std::mem::take(&mut member.from_deflated);
            if conn.lags && local.latest.as_ref().is_some_and(|latest| latest.has(member.conn)) {
                continue; // it gets what is kept
            }
            let (batch, from) = match &deflated {
                _ if member.sight == Sight::Blind && !news.is_empty() => {
                    let quiet = quiet.get_or_insert_with(|| without(&plain, &news, 0));
                    (&*quiet, from_plain - told_before(&news, from_plain))
                }
                Some(deflated) if conn.takes_shared_deflate() => (deflated, from_deflated),
                _ => (&plain, from_plain),
            };
            let slice = &batch[from as usize..];
            if !conn.is_open() || slice.is_empty() {
                continue;
            }
            bytes_out += slice.len() as u64;
            receivers += 1;
            match conn.write_now(slice) {
                Ok(written) if written == slice.len() => {}
                Ok(written) => {
                    let rest = batch.slice(from as usize + written..);
                    touched.push(member.conn);
                    let slow = slow.unwrap_or(conn.policy().slow);
                    if slow == SlowPolicy::Latest && conn.is_behind_enough() {
                        conn.lags = true;
                        lagging.push((member.conn, from_plain));
                    } else {
                        give_rest(conn, rest, frames, slow, out);
                    }
                }
                Err(_) => {
                    conn.kill();
                    touched.push(member.conn);
                }
            }
        }
        out.counters.bytes_out.add(bytes_out);
        out.counters.messages_out.add(frames * receivers);
        out.counters.flushes.add(1);
        if local.latest.is_some() || !lagging.is_empty() {
            let latest = local.latest.get_or_insert_default();
            for (conn, from) in lagging {
                latest.begin(conn, count_frames(&plain[..from as usize]));
            }
            let typed = local.room.space() == Space::ROOMS;
            let named = typed.then(|| &*local.room.rule().slow_key);
            latest.keep(&Frames { bytes: &plain, news: &news, silent: &silent }, named, out);
        }
        self.recycle(plain);
    }

    /// Gives a connection that has taken everything what was kept for it meanwhile.
    #[cold]
    pub(crate) fn drain(&mut self, key: u32, conns: &mut Slab<Conn>, out: &mut Out) {
        let mut at = 0;
        while let Some(place) = conns[key as usize].places.get(at).copied() {
            at += 1;
            let local = &mut self.rooms[place.room as usize];
            let blind = local.members[place.at as usize].sight == Sight::Blind;
            let conn = &mut conns[key as usize];
            while let Some(latest) = local.latest.as_mut().filter(|latest| latest.has(key)) {
                if conn.is_waiting() || !conn.is_open() {
                    return;
                }
                let (bytes, frames) = latest.take(conn.id(), blind);
                out.counters.bytes_out.add(bytes.len() as u64);
                out.counters.messages_out.add(frames);
                match conn.write_now(&bytes) {
                    Ok(written) if written == bytes.len() => {}
                    Ok(written) => conn.enqueue(bytes.slice(written..)),
                    Err(_) => conn.kill(),
                }
            }
            local.no_longer_behind(key, out);
        }
        conns[key as usize].lags = false;
    }

    /// Takes back a buffer that nobody refers to any more.
    fn recycle(&mut self, buffer: Bytes) {
        const KEEP_BYTES: usize = 2 * MAX_BATCH;
        const KEEP_BUFFERS: usize = 16;
        if self.spare.len() < KEEP_BUFFERS
            && let Ok(mut buffer) = buffer.try_into_mut()
            && buffer.capacity() <= KEEP_BYTES
        {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

impl LocalRoom {
    /// How much waits, in both forms.
    fn lens(&self) -> (u32, u32) {
        let Some(batch) = &self.batch else { return (0, 0) };
        let deflated = batch.deflated.as_ref().unwrap_or(&batch.plain);
        (batch.plain.len() as u32, deflated.len() as u32)
    }

    /// Forgets that somebody was behind, and what was kept if nobody is any more.
    fn no_longer_behind(&mut self, conn: u32, out: &Out) {
        if let Some(latest) = &mut self.latest
            && latest.end(conn)
            && let Some(latest) = self.latest.take()
        {
            latest.give_back(out);
        }
    }

    /// When the room may be written to again; `None` when at once.
    fn due(&self, busy: f32) -> Option<Instant> {
        let last = self.last_flush?;
        let interval = self.policy.flush.interval(busy);
        (!interval.is_zero()).then(|| last + interval)
    }
}

impl Batch {
    fn append_deflated(&mut self, message: &Prepared, policy: &Policy, out: &mut Out) {
        let Some(options) = &policy.deflate else { return };
        let compressed = message.deflated(out.deflaters.get(options, 15), options.threshold);
        match (&mut self.deflated, compressed) {
            (Some(deflated), Some(frame)) => deflated.extend_from_slice(frame),
            (Some(deflated), None) => deflated.extend_from_slice(message.frame()),
            (None, Some(frame)) => {
                let mut deflated = BytesMut::with_capacity(self.plain.len() + frame.len());
                deflated.extend_from_slice(&self.plain);
                deflated.extend_from_slice(frame);
                self.deflated = Some(deflated);
            }
            (None, None) => {}
        }
    }
}

/// Up to here lists grow one by one.
const FEW: usize = 4;

/// A batch is written at the latest when it has this many bytes: more at once would only overrun
/// the receivers.
const MAX_BATCH: usize = 64 << 10;

/// From this size on the rest of a batch is kept by reference.
const SHARED: usize = 16 << 10;

/// Frames without the pieces that say who comes and goes, from an offset on.
fn without(plain: &[u8], news: &[(u32, u32)], from: u32) -> Bytes {
    let (mut rest, mut at) = (BytesMut::with_capacity(plain.len()), from as usize);
    for (start, end) in news {
        rest.extend_from_slice(plain.get(at..*start as usize).unwrap_or_default());
        at = at.max(*end as usize);
    }
    rest.extend_from_slice(plain.get(at..).unwrap_or_default());
    rest.freeze()
}

/// How many bytes of such pieces there are before an offset.
fn told_before(news: &[(u32, u32)], offset: u32) -> u32 {
    news.iter().filter(|(_, end)| *end <= offset).map(|(start, end)| end - start).sum()
}

/// A member that did not take everything at once.
#[cold]
fn give_rest(conn: &mut Conn, rest: Bytes, frames: u64, slow: SlowPolicy, out: &mut Out) {
    // Part of a frame must be followed by the rest of it, whatever the policy.
    let begun = !conn.is_waiting();
    if begun || !conn.is_overfull(out) {
        // A little must not keep a whole batch in memory.
        let rest = if rest.len() < SHARED { Bytes::copy_from_slice(&rest) } else { rest };
        conn.post_batch(rest); // the outbox may have been emptied just now
    } else {
        conn.too_slow(slow, frames, out);
    }
}
