//! How messages and users are written.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use throng_hub::Identity;
use throng_protocol::Body;

use super::is_node;
use crate::redis::step::Entry;

/// A message: `1`, then origin (a byte of length, the node, its count), session (two bytes of length), `ref`, where the
/// number belongs in the text, and the text. Numbers are big-endian.
pub(super) fn entry(entry: &Entry) -> Vec<u8> {
    let (node, count) = &entry.origin;
    let node = &node.as_bytes()[..node.len().min(u8::MAX as usize)];
    let session = &entry.session.as_bytes()[..entry.session.len().min(u16::MAX as usize)];
    let mut out = Vec::with_capacity(24 + node.len() + session.len() + entry.body.len());
    out.push(FORMAT);
    out.push(node.len() as u8);
    out.extend_from_slice(node);
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&(session.len() as u16).to_be_bytes());
    out.extend_from_slice(session);
    out.extend_from_slice(&entry.reference.to_be_bytes());
    out.extend_from_slice(&entry.body.head().to_be_bytes());
    out.extend_from_slice(entry.body.text());
    out
}

/// What [`entry`] wrote; `None` when it did not.
pub(super) fn read_entry(mut bytes: &[u8]) -> Option<Entry> {
    let [FORMAT, length] = take(&mut bytes)? else { return None };
    let node = text(&mut bytes, length.into()).filter(|node| is_node(node))?;
    let count = u64::from_be_bytes(take(&mut bytes)?);
    let length = u16::from_be_bytes(take(&mut bytes)?);
    let session = text(&mut bytes, length.into())?;
    let reference = u64::from_be_bytes(take(&mut bytes)?);
    let head = u32::from_be_bytes(take(&mut bytes)?);
    std::str::from_utf8(bytes).ok()?;
    let body = Body::from_parts(bytes.into(), head)?;
    Some(Entry { origin: (node.into(), count), session: session.into(), reference, body })
}

/// A user.
#[derive(Serialize, Deserialize)]
struct Who<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
}

/// A user as others see them, as JSON.
pub(super) fn identity(who: &Identity) -> Vec<u8> {
    let info = who.info().and_then(|info| serde_json::from_str(info).ok());
    let who = Who { id: who.user_id().into(), name: who.name().map(Into::into), info };
    serde_json::to_vec(&who).unwrap_or_default()
}

/// What [`identity`] wrote; `None` when it is nobody who can be presented.
pub(super) fn read_identity(json: &[u8]) -> Option<Arc<Identity>> {
    let who: Who<'_> = serde_json::from_slice(json).ok()?;
    let info = who.info.map(RawValue::get);
    Identity::known(&who.id, "", who.name.as_deref(), info).ok().map(Arc::new)
}

/// Takes so many bytes from the front.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*front)
}

fn text<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a str> {
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(front).ok()
}

const FORMAT: u8 = 1;
