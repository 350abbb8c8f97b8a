use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension, params};
use throng_hub::{Epoch, Opened, Past, REF_WINDOW, Room, Stored, Timestamp, Unavailable, Used};
use throng_protocol::Body;

use super::file::Source;
use super::registry::Job;
use super::slot::{Counters, Slot, cost, millis};
use super::trim::oldest_ref;
use super::{Shared, lock};

/// Opens rooms that have a past, one after the other, until it is told to end.
pub(super) fn run(shared: &Arc<Shared>, jobs: &Mutex<Receiver<Job>>, source: Source) {
    let mut connection = None;
    loop {
        let job = lock(jobs).recv();
        let Ok(Job::Load { room, slot, now }) = job else { break };
        let result = if shared.registry.is_closed() {
            Err(Unavailable) // whoever waits is told at once
        } else {
            open(shared, &mut connection, &source, &room, &slot, now)
        };
        let _opening = lock(&slot.opening);
        shared.opened(&room, result);
    }
}

fn open(
    shared: &Arc<Shared>,
    connection: &mut Option<Connection>,
    source: &Source,
    room: &Arc<Room>,
    slot: &Arc<Slot>,
    now: Timestamp,
) -> Result<Opened, Unavailable> {
    let loaded = connect(connection, source).and_then(|it| load(it, room, slot, now));
    match loaded {
        Ok(None) => {
            // Its row has just been removed, or another room has the same hash.
            let era = shared.registry.era();
            Ok(shared.fresh(room, slot.clone(), era, now))
        }
        Ok(Some((counters, refs, messages))) => {
            shared.counts.load();
            let (epoch, seq, time) = (Epoch(counters.epoch), counters.seq, counters.time);
            *slot.counters() = counters;
            let past = if messages.is_empty() { Past::None } else { Past::Stored(messages) };
            Ok(Opened {
                epoch,
                seq,
                time,
                past,
                refs,
                elsewhere: Vec::new(),
                log: shared.log(room, slot.clone()),
            })
        }
        Err(error) => {
            tracing::warn!(room = room.name(), %error, "a room cannot be read from the disk");
            *connection = None;
            Err(Unavailable)
        }
    }
}

fn connect<'a>(
    connection: &'a mut Option<Connection>,
    source: &Source,
) -> rusqlite::Result<&'a mut Connection> {
    let opened = match connection.take() {
        Some(opened) => opened,
        None => source.reader()?,
    };
    Ok(connection.insert(opened))
}

/// Where a room is, the refs of messages that are gone, and those that are not.
type Loaded = (Counters, Vec<Used>, Vec<Stored>);

/// What there is of a room: where it is, the `ref`s of messages that are gone, and the messages that its
/// rule keeps.
fn load(
    connection: &mut Connection,
    room: &Room,
    slot: &Slot,
    now: Timestamp,
) -> rusqlite::Result<Option<Loaded>> {
    let snapshot = connection.transaction()?; // one state of the file for all that follows
    let mut found = snapshot.prepare_cached(
        "SELECT id, epoch, seq, time, ttl FROM rooms WHERE space = ?1 AND name = ?2",
    )?;
    let found = found.query_row(params![room.space().0, room.name()], |row| {
        Ok(Counters {
            row: row.get(0)?,
            epoch: row.get::<_, i64>(1)? as u64,
            seq: row.get::<_, i64>(2)? as u64,
            time: Timestamp(row.get::<_, i64>(3)? as u64),
            ttl: row.get::<_, i64>(4)? as u64,
            ..Counters::default()
        })
    });
    let Some(mut counters) = found.optional()? else { return Ok(None) };

    let mut edge = snapshot.prepare_cached(
        "SELECT seq, time FROM messages WHERE room = ?1 ORDER BY seq DESC LIMIT 1",
    )?;
    let newest = edge.query_row([counters.row], |row| {
        Ok((row.get::<_, i64>(0)? as u64, Timestamp(row.get::<_, i64>(1)? as u64)))
    });
    let newest = newest.optional()?;
    if let Some((seq, time)) = newest {
        counters.seq = counters.seq.max(seq);
        counters.time = counters.time.max(time);
    }
    let mut edge = snapshot.prepare_cached("SELECT min(seq) FROM messages WHERE room = ?1")?;
    let first = edge.query_row([counters.row], |row| row.get::<_, Option<i64>>(0))?;
    counters.first = first.map_or(counters.seq + 1, |first| first as u64);
    counters.floor = counters.seq + 1;

    let mut messages = Vec::new();
    let limits = slot.history();
    if slot.keeps() && newest.is_some_and(|(seq, _)| seq == counters.seq) {
        let oldest = now.0.saturating_sub(millis(limits.ttl));
        let size = i64::try_from(limits.size).unwrap_or(i64::MAX);
        let mut select = snapshot.prepare_cached(
            "SELECT seq, time, session, ref, head, body FROM messages
             WHERE room = ?1 ORDER BY seq DESC LIMIT ?2",
        )?;
        let mut rows = select.query(params![counters.row, size])?;
        while let Some(row) = rows.next()? {
            let (seq, time) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64);
            let text = row.get_ref(5)?.as_blob()?;
            let bytes = counters.bytes + cost(text.len());
            // A hole cannot be, but if there were one, nothing below it is of use.
            if seq + 1 != counters.floor || time < oldest || bytes > limits.bytes as u64 {
                break;
            }
            let Some(body) = Body::from_parts(text.into(), row.get(4)?) else { break };
            messages.push(Stored {
                seq,
                timestamp: Timestamp(time),
                session: row.get_ref(2)?.as_str()?.into(),
                reference: row.get::<_, i64>(3)? as u64,
                body,
            });
            counters.floor = seq;
            counters.bytes = bytes;
        }
    }
    messages.reverse();
    let refs = used(&snapshot, &counters, &messages, now)?;
    Ok(Some((counters, refs, messages)))
}

/// The `ref`s of messages before these, as far as a room would still know them: of each session as many as
/// it remembers, and one more, which tells it that there were others.
fn used(
    snapshot: &Connection,
    counters: &Counters,
    messages: &[Stored],
    now: Timestamp,
) -> rusqlite::Result<Vec<Used>> {
    let mut sessions: HashMap<Box<str>, usize> = HashMap::new();
    let mut left = MOST_REFS;
    for message in messages.iter().filter(|message| message.reference != 0) {
        left = left.saturating_sub(1);
        match sessions.get_mut(&message.session) {
            Some(count) => *count += 1,
            None => drop(sessions.insert(message.session.clone(), 1)),
        }
    }
    // Messages that are to be removed are no longer of the past, but still in their table.
    let mut select = snapshot.prepare_cached(
        "SELECT seq, time, session, ref FROM refs WHERE room = ?1 AND time >= ?3
         UNION ALL
         SELECT seq, time, session, ref FROM messages
         WHERE room = ?1 AND seq < ?2 AND ref <> 0 AND time >= ?3
         ORDER BY seq DESC LIMIT ?4",
    )?;
    let range = params![counters.row, counters.floor as i64, oldest_ref(now), LOOKED_AT];
    let mut rows = select.query(range)?;
    let mut refs = Vec::new();
    while left > 0
        && let Some(row) = rows.next()?
    {
        let session = row.get_ref(2)?.as_str()?;
        match sessions.get_mut(session) {
            Some(count) if *count > REF_WINDOW => continue,
            Some(count) => *count += 1,
            None => drop(sessions.insert(session.into(), 1)),
        }
        refs.push(Used {
            session: session.into(),
            reference: row.get::<_, i64>(3)? as u64,
            seq: row.get::<_, i64>(0)? as u64,
            timestamp: Timestamp(row.get::<_, i64>(1)? as u64),
        });
        left -= 1;
    }
    refs.reverse();
    Ok(refs)
}

/// So many `ref`s of all sessions a room remembers.
const MOST_REFS: usize = 64 << 10;

/// The most `ref`s that are looked at: takes about a second.
const LOOKED_AT: i64 = 1 << 20;
