//! What time it is for people.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use throng_hub::Timestamp;

/// The wall clock, in milliseconds.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// An instant as nanoseconds since the process started; the same for all threads.
pub(crate) fn nanos(instant: Instant) -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(instant.saturating_duration_since(*START).as_nanos()).unwrap_or(u64::MAX)
}
