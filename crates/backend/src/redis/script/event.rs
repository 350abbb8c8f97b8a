//! What is said on the channel of a room.
//!
//! ```text
//!   S<epoch> <first number> <time>\n    then messages:  <length>\n<message>
//!   N<node> <seats before>\n            then changes:   +<length>\n<who> or -<length>\n<user>
//!   B<node> <seats after>\n
//!   C<node> <opcode>\n                  then the payload
//! ```

use bytes::Bytes;
use throng_hub::{Epoch, Timestamp};
use throng_protocol::names;
use throng_wire::OpCode;

use super::{is_node, text};
use crate::redis::step::{Change, Event, NodeId, Record};

/// A payload as data; `None` when it is of no kind that is known.
pub(in crate::redis) fn event(payload: Vec<u8>) -> Option<Event> {
    let mut bytes = &payload[..];
    let [kind] = text::take(&mut bytes)?;
    let mut words = line(&mut bytes)?.split(' ');
    let event = match kind {
        b'S' => {
            let epoch = Epoch(words.next()?.parse().ok()?);
            let first: u64 = words.next()?.parse().ok()?;
            let timestamp = Timestamp(words.next()?.parse().ok()?);
            let mut records = Vec::new();
            while !bytes.is_empty() {
                let length = line(&mut bytes)?.parse().ok()?;
                let entry = text::read_entry(chunk(&mut bytes, length)?)?;
                let seq = first.checked_add(records.len() as u64)?;
                records.push(Record { seq, timestamp, entry });
            }
            Event::Stored { epoch, records }
        }
        b'N' => {
            let (node, seats) = (node(words.next()?)?, words.next()?.parse().ok()?);
            let mut changes = Vec::new();
            while !bytes.is_empty() {
                let [sign] = text::take(&mut bytes)?;
                let length = line(&mut bytes)?.parse().ok()?;
                let said = chunk(&mut bytes, length)?;
                changes.push(match sign {
                    b'+' => Change::Here(text::read_identity(said)?),
                    b'-' => {
                        let user = std::str::from_utf8(said).ok()?;
                        Change::Gone(Some(user).filter(|user| names::is_user(user))?.into())
                    }
                    _ => return None,
                });
            }
            Event::Seats { node, seats, changes }
        }
        b'B' => Event::Buried { dead: node(words.next()?)?, seats: words.next()?.parse().ok()? },
        b'C' => {
            let node = node(words.next()?)?;
            let opcode = match words.next()? {
                "1" => OpCode::Text,
                "2" => OpCode::Binary,
                _ => return None,
            };
            let start = payload.len() - bytes.len();
            return Some(Event::Cast {
                node,
                opcode,
                payload: Bytes::from(payload).slice(start..),
            });
        }
        _ => return None,
    };
    Some(event)
}

/// The payload of a frame that is passed on.
pub(super) fn cast(node: &NodeId, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("C{node} {}\n", opcode as u8).into_bytes();
    out.extend_from_slice(payload);
    out
}

fn node(name: &str) -> Option<NodeId> {
    is_node(name).then(|| name.into())
}

fn line<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let end = bytes.iter().take(LINE).position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    *bytes = &bytes[end + 1..];
    Some(line)
}

fn chunk<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

/// The longest first line: a node's name and some numbers.
const LINE: usize = 256;
