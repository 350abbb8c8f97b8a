use std::sync::mpsc::Sender;

use rusqlite::{Connection, OptionalExtension, params};
use throng_hub::{Epoch, History, REMEMBERED, Space, Timestamp};

use super::registry::{Job, Registry};
use super::slot::{Counters, cost, millis};
use super::writer::{Touched, roll_back};

/// Removes the oldest messages of a room when they are too many or too large by a tenth, or there are
/// others to be removed. At most `budget`, and always sparing the newest, from which the number goes on.
pub(super) fn trim(
    connection: &Connection,
    counters: &mut Counters,
    limits: &History,
    budget: usize,
) -> rusqlite::Result<usize> {
    let (size, bytes) = (limits.size as u64, limits.bytes as u64);
    let count = (counters.seq + 1).saturating_sub(counters.floor);
    let slack = (size / 10).clamp(8, 64);
    if count >= size.saturating_add(slack) || counters.bytes > bytes.saturating_add(bytes / 10) {
        let mut select = connection.prepare_cached(
            "SELECT seq, length(body) FROM messages
             WHERE room = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq LIMIT ?4",
        )?;
        let budget = budget as i64;
        let range = params![counters.row, counters.floor as i64, counters.seq as i64, budget];
        let mut rows = select.query(range)?;
        while let Some(row) = rows.next()? {
            if counters.seq + 1 - counters.floor <= size && counters.bytes <= bytes {
                break;
            }
            counters.floor = row.get::<_, i64>(0)? as u64 + 1;
            counters.bytes = counters.bytes.saturating_sub(cost(row.get::<_, i64>(1)? as usize));
        }
    }
    if counters.first >= counters.floor || budget == 0 {
        return Ok(0);
    }
    let end = counters.floor.min(counters.first.saturating_add(budget as u64));
    let removed = remove(connection, counters.row, counters.first, end, counters.time)?;
    counters.first = end;
    Ok(removed)
}

/// Removes messages that are too old, and rooms of which nothing is left.
pub(super) struct Sweep<'a> {
    pub(super) registry: &'a Registry,
    pub(super) jobs: &'a Sender<Job>,
    pub(super) touched: &'a mut Touched,
    /// When to look again at a room that is open and of which nothing is left but its number, in milliseconds.
    pub(super) recheck: u64,
}

/// A row that is due.
struct Due {
    id: i64,
    space: Space,
    name: String,
    epoch: u64,
    seq: u64,
    time: u64,
    ttl: u64,
}

impl Sweep<'_> {
    /// One step, one transaction: how many messages were removed, and whether there may be more.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        now: Timestamp,
    ) -> rusqlite::Result<(usize, bool)> {
        let due = list(connection, now)?;
        if due.is_empty() {
            return Ok((0, false));
        }
        let mut gone = Vec::new();
        self.touched.begin();
        let result = self.transaction(connection, &due, &mut gone, now);
        match &result {
            Ok((_, _, era)) => self.registry.remove(&gone, *era, self.jobs),
            Err(_) => {
                self.touched.undo();
                roll_back(connection);
                self.registry.spare(&gone, self.jobs);
            }
        }
        self.touched.begin(); // lets the rooms go
        result.map(|(removed, more, _)| (removed, more))
    }

    fn transaction(
        &mut self,
        connection: &Connection,
        due: &[Due],
        gone: &mut Vec<u64>,
        now: Timestamp,
    ) -> rusqlite::Result<(usize, bool, u64)> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let era = self.registry.era();
        let (mut removed, mut reused) = (0, false);
        let mut more = due.len() == SWEPT_ROOMS;
        for room in due {
            if removed >= SWEPT {
                more = true;
                break;
            }
            let (count, next) = self.room(connection, room, now)?;
            removed += count;
            let hash = self.registry.hash(room.space, &room.name);
            if next.over && self.registry.doom(hash) {
                gone.push(hash);
                connection.prepare_cached("DELETE FROM rooms WHERE id = ?1")?.execute([room.id])?;
                let current = self.registry.epoch(era, room.space, &room.name);
                reused |= Epoch(room.epoch) == current;
                continue;
            }
            // Also of a room that was opened just now: its number no longer follows from its messages.
            connection
                .prepare_cached("UPDATE rooms SET due = ?2, seq = ?3, time = ?4 WHERE id = ?1")?
                .execute(params![room.id, next.due, next.seq as i64, next.time as i64])?;
            more |= next.due <= now.0 as i64;
        }
        let mut next = era;
        if reused {
            next += 1;
            connection
                .prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'era'")?
                .execute([next as i64])?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok((removed, more, next))
    }

    /// Removes what is too old in one room: how much, and when to look again.
    fn room(
        &mut self,
        connection: &Connection,
        room: &Due,
        now: Timestamp,
    ) -> rusqlite::Result<(usize, Next)> {
        let open = self.registry.find(self.registry.hash(room.space, &room.name));
        let (mut seq, mut time) = (room.seq, room.time);
        if let Some(slot) = &open {
            let mut counters = slot.counters();
            if counters.row != room.id {
                // It is just being opened. (Or another room has its hash: this one waits for the other.)
                let due = now.0.saturating_add(self.recheck.min(1000)) as i64;
                return Ok((0, Next { due, seq, time, over: false }));
            }
            self.touched.note(slot, &mut counters);
            (seq, time) = (counters.seq, counters.time.0);
        } else {
            let mut newest = connection.prepare_cached(
                "SELECT seq, time FROM messages WHERE room = ?1 ORDER BY seq DESC LIMIT 1",
            )?;
            let newest = newest
                .query_row([room.id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
            if let Some((newest, at)) = newest.optional()? {
                (seq, time) = (seq.max(newest as u64), time.max(at as u64));
            }
        }

        let mut oldest = connection.prepare_cached(
            "SELECT seq, time, length(body) FROM messages WHERE room = ?1 ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = oldest.query(params![room.id, TRIMMED])?;
        let (mut range, mut bytes, mut left, mut seen) = (None, 0, None, 0);
        while let Some(row) = rows.next()? {
            let (at, written) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64);
            if written.saturating_add(room.ttl) >= now.0 {
                left = Some(written);
                break;
            }
            range = Some((range.map_or(at, |(first, _)| first), at + 1));
            if open.as_ref().is_some_and(|slot| at >= slot.counters().floor) {
                bytes += cost(row.get::<_, i64>(2)? as usize);
            }
            seen += 1;
        }
        drop(rows);
        let mut removed = 0;
        if let Some((first, end)) = range {
            removed = remove(connection, room.id, first, end, now)?;
            if let Some(slot) = &open {
                let mut counters = slot.counters();
                counters.first = counters.first.max(end);
                counters.floor = counters.floor.max(end);
                counters.bytes = counters.bytes.saturating_sub(bytes);
            }
        }
        let mut over = false;
        let due = match left {
            Some(written) => due(written, room.ttl),
            None if seen == TRIMMED => 0, // there may be more
            None if open.is_some() => now.0.saturating_add(self.recheck) as i64,
            None => {
                let ends = time.saturating_add(room.ttl.max(ROW_KEPT));
                over = ends <= now.0;
                if over && has_refs(connection, room.id)? {
                    over = false; // another room may get its id
                    now.0.saturating_add(self.recheck.min(1000)) as i64
                } else {
                    i64::try_from(ends).unwrap_or(i64::MAX)
                }
            }
        };
        Ok((removed, Next { due, seq, time, over }))
    }
}

/// What becomes of a row.
struct Next {
    /// When it is due again.
    due: i64,
    /// Its number, and when that was given.
    seq: u64,
    time: u64,
    /// Nothing is left of it, and has not been for long. It may go if the room is not open.
    over: bool,
}

/// When to look for old messages in a room whose oldest one is of this time: a little later than that is
/// too old, so that a busy room is not visited for each single message.
pub(super) fn due(oldest: u64, ttl: u64) -> i64 {
    let slack = (ttl / 8).clamp(100, 60_000);
    i64::try_from(oldest.saturating_add(ttl).saturating_add(slack)).unwrap_or(i64::MAX)
}

fn has_refs(connection: &Connection, room: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM refs WHERE room = ?1 LIMIT 1")?.exists([room])
}

fn list(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Due>> {
    let mut select = connection.prepare_cached(
        "SELECT id, space, name, epoch, seq, time, ttl FROM rooms
         WHERE due <= ?1 ORDER BY due LIMIT ?2",
    )?;
    let rows = select.query_map(params![now.0 as i64, SWEPT_ROOMS as i64], |row| {
        Ok(Due {
            id: row.get(0)?,
            space: Space(row.get(1)?),
            name: row.get(2)?,
            epoch: row.get::<_, i64>(3)? as u64,
            seq: row.get::<_, i64>(4)? as u64,
            time: row.get::<_, i64>(5)? as u64,
            ttl: row.get::<_, i64>(6)? as u64,
        })
    })?;
    rows.collect()
}

/// Removes the messages of a room from one number up to, not including, another. Their `ref`s stay known.
fn remove(
    connection: &Connection,
    room: i64,
    first: u64,
    end: u64,
    now: Timestamp,
) -> rusqlite::Result<usize> {
    // Removed first: in a full file that is the space the others need.
    let mut delete = connection.prepare_cached(
        "DELETE FROM messages WHERE room = ?1 AND seq >= ?2 AND seq < ?3
         RETURNING seq, time, session, ref",
    )?;
    let mut note = connection.prepare_cached(NOTE)?;
    let oldest = oldest_ref(now);
    let mut removed = 0;
    let mut rows = delete.query(params![room, first as i64, end as i64])?;
    while let Some(row) = rows.next()? {
        removed += 1;
        let (time, reference): (i64, i64) = (row.get(1)?, row.get(3)?);
        if reference != 0 && time >= oldest {
            let session = row.get_ref(2)?.as_str()?;
            note.execute(params![room, row.get::<_, i64>(0)?, time, session, reference])?;
        }
    }
    Ok(removed)
}

/// Adds a `ref` that is known without its message.
pub(super) const NOTE: &str =
    "INSERT INTO refs (room, seq, time, session, ref) VALUES (?1, ?2, ?3, ?4, ?5)";

/// The time of the oldest messages whose `ref`s are still of use.
pub(super) fn oldest_ref(now: Timestamp) -> i64 {
    i64::try_from(now.0.saturating_sub(millis(REMEMBERED))).unwrap_or(i64::MAX)
}

/// Removes `ref`s whose sessions cannot come back any more, one step: whether there may be more.
pub(super) fn forget(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    let oldest = oldest_ref(now);
    // What comes from a clock that was wrong must not hold up the others for ever.
    let newest = i64::try_from(now.0.saturating_add(millis(REMEMBERED))).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached("SELECT n, time FROM refs ORDER BY n LIMIT ?1")?;
    let mut rows = select.query([FORGOTTEN])?;
    let (mut last, mut seen) = (None, 0);
    while let Some(row) = rows.next()? {
        let time: i64 = row.get(1)?;
        if (oldest..=newest).contains(&time) {
            break;
        }
        last = Some(row.get::<_, i64>(0)?);
        seen += 1;
    }
    drop(rows);
    if let Some(last) = last {
        connection.prepare_cached("DELETE FROM refs WHERE n <= ?1")?.execute([last])?;
    }
    Ok(seen == FORGOTTEN)
}

/// The most `ref`s that one step removes.
const FORGOTTEN: i64 = 2048;

/// The most messages of a room that a step of a sweep looks at.
const TRIMMED: i64 = 512;

/// After so many messages a step of a sweep ends.
const SWEPT: usize = 1024;

/// The most rooms that a step of a sweep looks at.
const SWEPT_ROOMS: usize = 64;

/// A row outlives the messages of its room for so long at least, in milliseconds: whoever comes back
/// can tell that nothing is missing.
const ROW_KEPT: u64 = 60 * 60 * 1000;
