//! What time it is for people.

use std::time::{SystemTime, UNIX_EPOCH};

use throng_hub::Timestamp;

/// The wall clock, in milliseconds.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
