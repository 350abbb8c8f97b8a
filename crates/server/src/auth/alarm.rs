//! Complaints that come once for each request that goes wrong.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Says when to complain: the first time, and then at most every ten seconds.
#[derive(Default)]
pub(super) struct Alarm(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Instant>,
    /// Since then.
    silent: u64,
}

impl Alarm {
    /// How many complaints have been left out before this one; `None` when this one should be, too.
    pub(super) fn sound(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            state.silent += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.silent))
    }
}

const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_in_ten_seconds() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        assert_eq!(alarm.sound(start), Some(0));
        for _ in 0..3 {
            assert_eq!(alarm.sound(start + Duration::from_secs(9)), None);
        }
        assert_eq!(alarm.sound(start + QUIET), Some(3));
        assert_eq!(alarm.sound(start + 2 * QUIET), Some(0));
    }
}
