//! The steps of a room as scripts: questions as commands, answers and events as data.
//!
//! # What is stored
//! All keys of a room have its name between braces, and so are on one server, `P` being the prefix:
//! ```text
//!   P:{name}            hash: epoch, owner, born, seq, time, first, old, bytes, seats     and the channel
//!   P:{name}:m          stream: <seq>-0 → t (time), x (the message: see `text`)
//!   P:{name}:n          hash: u<node>:<user> → who that is, x<node> → when it was buried
//!   P:{name}:d:<who>    hash: ref → <born>:<seq>:<time>, of a session, or of a node for messages without `ref`
//! ```
//! `first` is the oldest message that is kept and `old` its time; `seats` counts the changes of who is there.
//!
//! # Whose numbers they are
//! Redis does not promise that what it has acknowledged is still there after a failover or a restart. So the state says
//! which server (in which of its runs: `master_replid`) gave the last number. A script that finds another one, or
//! nothing, begins a new epoch: no number is ever given to two messages of one epoch. Numbers go on, as far as they are known, and
//! what is left of the past can be read.
//!
//! `born` is the epoch with which the numbers began, whoever gave them: `ref`s that are remembered of another `born` mean
//! nothing.

mod event;
mod text;

use std::cell::Cell;

use redis::Value;
use throng_hub::{Epoch, Timestamp};
use throng_protocol::names;

pub(super) use event::event;

use super::remote::Script;
use super::step::{Ask, At, Change, Entry, Limits, Placed, Record, Roll, Told, What};

/// A command.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) verb: Verb,
    /// How many of the arguments are keys.
    pub(super) keys: usize,
    pub(super) args: Vec<Vec<u8>>,
}

/// Which.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Script(&'static Script),
    Plain(&'static str),
}

/// What every question of a room has in common.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) prefix: String,
    /// Whether numbers survive a restart of their server.
    pub(super) trusting: bool,
    pub(super) min_replicas: usize,
    /// Epochs for questions that bring none along: a random number, and how many there were.
    pub(super) epochs: (u64, Cell<u64>),
}

/// Which kind of answer is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Read,
    Appended(usize),
    Seated,
    Done,
}

impl Call {
    /// The first key, or the channel: it says which server is meant.
    pub(super) fn key(&self) -> &[u8] {
        self.args.first().map_or(&[], Vec::as_slice)
    }

    /// Appends the command. `whole`: with the text of the script, not only its hash.
    pub(super) fn write(&self, out: &mut Vec<u8>, whole: bool) {
        let bulk = |out: &mut Vec<u8>, text: &[u8]| {
            out.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        };
        let head = match self.verb {
            Verb::Script(_) => 3,
            Verb::Plain(_) => 1,
        };
        out.extend_from_slice(format!("*{}\r\n", head + self.args.len()).as_bytes());
        match self.verb {
            Verb::Script(script) if whole => {
                bulk(out, b"EVAL");
                bulk(out, script.source.as_bytes());
            }
            Verb::Script(script) => {
                bulk(out, b"EVALSHA");
                bulk(out, script.hash().as_bytes());
            }
            Verb::Plain(name) => bulk(out, name.as_bytes()),
        }
        if head == 3 {
            bulk(out, self.keys.to_string().as_bytes());
        }
        for arg in &self.args {
            bulk(out, arg);
        }
    }
}

impl Terms {
    /// The state of a room, and its channel.
    pub(super) fn channel(&self, room: &str) -> String {
        format!("{}:{{{room}}}", self.prefix)
    }

    /// A question as a command, and what kind of answer it has.
    pub(super) fn call(&self, ask: &Ask) -> (Call, Shape) {
        let room = self.channel(&ask.room);
        let keys = vec![room.clone(), format!("{room}:m"), format!("{room}:n")];
        match &ask.what {
            What::Open { fresh, keep } => {
                let args = [Vec::new(), number(keep.size as u64), b"-1".to_vec()];
                (self.step(&READ, keys, *fresh, *keep, args), Shape::Read)
            }
            What::Read { fresh, keep, after, most, seats } => {
                let args = [number(*after), number(*most as u64), number(*seats)];
                (self.step(&READ, keys, *fresh, *keep, args), Shape::Read)
            }
            What::Append { fresh, keep, entries } => {
                let (keys, args) = appended(&room, keys, entries);
                let shape = Shape::Appended(entries.len());
                (self.step(&APPEND, keys, *fresh, *keep, args), shape)
            }
            What::Seat { node, keep, changes } => {
                let mut args = vec![node.as_bytes().to_vec()];
                for change in changes {
                    let [kind, user, who] = match change {
                        Change::Here(who) => {
                            [b"+".to_vec(), who.user_id().as_bytes().to_vec(), text::identity(who)]
                        }
                        Change::Gone(user) => [b"-".to_vec(), user.as_bytes().to_vec(), Vec::new()],
                    };
                    args.extend([kind, user, who]);
                }
                (self.step(&SEAT, keys, self.fresh(), *keep, args), Shape::Seated)
            }
            What::Bury { dead, keep } => {
                let args = [dead.as_bytes().to_vec()];
                (self.step(&BURY, keys, self.fresh(), *keep, args), Shape::Seated)
            }
            What::Cast { node, opcode, payload } => {
                let said = event::cast(node, *opcode, payload);
                let args = vec![room.into_bytes(), said];
                (Call { verb: Verb::Plain("SPUBLISH"), keys: 0, args }, Shape::Done)
            }
        }
    }

    fn fresh(&self) -> Epoch {
        let (seed, count) = &self.epochs;
        count.set(count.get() + 1);
        Epoch::new(*seed, count.get())
    }

    fn step(
        &self,
        script: &'static Script,
        keys: Vec<String>,
        fresh: Epoch,
        keep: Limits,
        more: impl IntoIterator<Item = Vec<u8>>,
    ) -> Call {
        let owner = if self.trusting { "kept" } else { "" };
        let terms = [
            owner.as_bytes().to_vec(),
            number(fresh.0),
            number(keep.size as u64),
            number(keep.bytes as u64),
            number(keep.ttl),
            number(self.min_replicas.max(keep.replicas) as u64),
        ];
        let count = keys.len();
        let args = keys.into_iter().map(String::into_bytes).chain(terms).chain(more).collect();
        Call { verb: Verb::Script(script), keys: count, args }
    }
}

/// The keys and arguments of messages: one key for each session.
fn appended(room: &str, mut keys: Vec<String>, entries: &[Entry]) -> (Vec<String>, Vec<Vec<u8>>) {
    let steady = keys.len();
    let mut args = Vec::with_capacity(4 * entries.len());
    for entry in entries {
        let (who, reference, life) = if entry.reference == 0 {
            (&*entry.origin.0, format!("o{}", entry.origin.1), ORIGIN_LIFE)
        } else {
            (&*entry.session, entry.reference.to_string(), REF_LIFE)
        };
        let key = format!("{room}:d:{who}");
        let known = keys[steady..].iter().position(|known| *known == key);
        let place = known.unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1 - steady
        });
        args.push(number(place as u64 + 1));
        args.push(reference.into_bytes());
        args.push(number(life));
        args.push(text::entry(entry));
    }
    (keys, args)
}

/// An answer as data; `None` when it is not one.
pub(super) fn told(shape: Shape, value: Value) -> Option<Told> {
    match (shape, value) {
        (Shape::Read, Value::Array(parts)) => read(parts),
        (Shape::Appended(count), Value::Array(parts)) => placed(count, parts),
        (Shape::Seated, Value::Nil) => Some(Told::Buried),
        (Shape::Seated, Value::Int(seats)) => {
            Some(Told::Seated { seats: u64::try_from(seats).ok()? })
        }
        (Shape::Done, Value::Int(_)) => Some(Told::Done),
        _ => None,
    }
}

fn read(parts: Vec<Value>) -> Option<Told> {
    let [epoch, seq, time, seats, past, roll] = <[Value; 6]>::try_from(parts).ok()?;
    let at = At {
        epoch: Epoch(unsigned(&epoch)?),
        seq: unsigned(&seq)?,
        time: Timestamp(unsigned(&time)?),
        seats: unsigned(&seats)?,
    };
    let Value::Array(found) = past else { return None };
    let mut past = Vec::with_capacity(found.len());
    for value in found {
        match record(value) {
            Some(record) => past.push(record),
            // Of a later version, or of somebody else. As if it, and what is before it, were no longer kept.
            None => past.clear(),
        }
    }
    let roll = match roll {
        Value::Nil => None,
        Value::Array(fields) => Some(self::roll(&fields)),
        _ => return None,
    };
    Some(Told::Read { at, past, roll })
}

fn record(value: Value) -> Option<Record> {
    let Value::Array(parts) = value else { return None };
    let [id, Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let [_, time, _, Value::BulkString(entry)] = <[Value; 4]>::try_from(fields).ok()? else {
        return None;
    };
    let Value::BulkString(id) = id else { return None };
    let seq = std::str::from_utf8(&id).ok()?.strip_suffix("-0")?.parse().ok()?;
    Some(Record { seq, timestamp: Timestamp(unsigned(&time)?), entry: text::read_entry(&entry)? })
}

/// Fields that make no sense are left out.
fn roll(fields: &[Value]) -> Roll {
    let mut roll = Roll::default();
    for field in fields.chunks_exact(2) {
        let [Value::BulkString(field), Value::BulkString(who)] = field else { continue };
        let field = field.strip_prefix(b"u").and_then(|field| std::str::from_utf8(field).ok());
        let Some((node, user)) = field.and_then(|field| field.split_once(':')) else { continue };
        let Some(who) = text::read_identity(who).filter(|who| who.user_id() == user) else {
            continue;
        };
        match roll.nodes.iter_mut().find(|(known, _)| **known == *node) {
            Some((_, users)) => users.push(who),
            None => roll.nodes.push((node.into(), vec![who])),
        }
    }
    roll
}

fn placed(count: usize, parts: Vec<Value>) -> Option<Told> {
    let (epoch, rest) = parts.split_first()?;
    if rest.len() != 3 * count {
        return None;
    }
    let placed = rest.chunks_exact(3).map(|part| {
        Some(Placed {
            seq: unsigned(&part[0])?,
            timestamp: Timestamp(unsigned(&part[1])?),
            duplicate: unsigned(&part[2])? == 1,
        })
    });
    Some(Told::Appended { epoch: Epoch(unsigned(epoch)?), placed: placed.collect::<Option<_>>()? })
}

fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

fn number(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// Whether this can be the name of a node.
fn is_node(name: &str) -> bool {
    names::is_user(name) && !name.contains(':')
}

/// For how long a `ref` is remembered, in milliseconds.
const REF_LIFE: u64 = 15 * 60_000;
/// And what has none, of which only an attempt that was not answered is repeated.
const ORIGIN_LIFE: u64 = 5 * 60_000;

static READ: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    include_str!("script/room.lua"),
    include_str!("script/read.lua")
));
// Without flags Redis refuses it up front when memory is full, and does half of it never.
static APPEND: Script = Script::new(concat!(
    "#!lua\n",
    include_str!("script/room.lua"),
    include_str!("script/append.lua")
));
static SEAT: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    include_str!("script/room.lua"),
    include_str!("script/seat.lua")
));
static BURY: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    include_str!("script/room.lua"),
    include_str!("script/bury.lua")
));

/// What a connection brings along, so that no command has to be sent twice.
pub(super) static SCRIPTS: [&Script; 4] = [&READ, &APPEND, &SEAT, &BURY];

#[cfg(test)]
mod tests;
