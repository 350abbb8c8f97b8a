use std::time::{SystemTime, UNIX_EPOCH};

use redis::Value;

/// What a script is given, one after the other.
#[derive(Clone, Default)]
pub(super) struct Args(Vec<Vec<u8>>);

impl Args {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push(text.as_bytes().to_vec());
        self
    }

    /// Empty when there is none, which no text is.
    pub(super) fn maybe(mut self, text: Option<&str>) -> Self {
        self.0.push(text.map(|text| format!("={text}").into_bytes()).unwrap_or_default());
        self
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.text(&bounded(number).to_string())
    }

    /// Empty when there is none.
    pub(super) fn maybe_number(self, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(number),
            None => self.text(""),
        }
    }

    pub(super) fn into_inner(self) -> Vec<Vec<u8>> {
        self.0
    }
}

/// A number that Lua can add to another exactly.
fn bounded(number: u64) -> u64 {
    number.min(1 << 52)
}

/// How long it is until a time of this node's clock; at most a hundred years.
pub(super) fn left(until: u64) -> u64 {
    until.saturating_sub(clock()).min(100 * 366 * 24 * 60 * 60 * 1000)
}

/// Milliseconds since 1970.
fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

pub(super) fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

/// So many of a list, which must be as long.
pub(super) fn some<const N: usize>(value: Value) -> Option<[Value; N]> {
    list(value)?.try_into().ok()
}

/// Each two of a list.
pub(super) fn pairs(value: Value) -> Option<Vec<(String, String)>> {
    let mut list = list(value)?.into_iter();
    let mut pairs = Vec::with_capacity(list.len() / 2);
    while let Some(first) = list.next() {
        pairs.push((text(first)?, text(list.next()?)?));
    }
    Some(pairs)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes that were written as [`hex`], whatever stands behind them.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// What no other change has been given.
pub(super) fn nonce() -> String {
    let mut bytes = [0; 12];
    // Without randomness it is not in step with anybody, and all is read anew.
    let _ = getrandom::fill(&mut bytes);
    hex(&bytes)
}
