use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clerk::Shared;
use super::ledger::Ledger;
use super::queue::{Job, Kind};

/// Removes what has expired, and sessions of earlier runs when the window is over: a step of it, and then the
/// rest behind what waits.
pub(super) fn sweep(shared: &Arc<Shared>, now: u64, window_ms: u64) {
    let over = shared.opened.elapsed() >= Duration::from_millis(window_ms);
    let earlier = (over && !shared.alone.load(Ordering::Relaxed)).then(String::new);
    sweep_on(shared, now, earlier);
}

fn sweep_on(shared: &Arc<Shared>, now: u64, earlier: Option<String>) {
    let again = shared.clone();
    let scans = earlier.is_some();
    let work = move |ledger: &mut Ledger<'_>| {
        let tickets = ledger.sweep_tickets(now, STEP)?;
        let sessions = ledger.sweep_sessions(now, STEP)?;
        let tokens = ledger.sweep_tokens(now, STEP)?;
        ledger.sweep_secrets(now)?;
        let next = match &earlier {
            Some(after) => ledger.sweep_earlier(after, STEP)?,
            None => None,
        };
        Ok(Ok((tickets.max(sessions).max(tokens) >= STEP, next)))
    };
    // What fails is for the next sweep.
    shared.queue.submit(
        Kind::Write,
        Job::boxed(work, move |step| {
            let Ok((more, next)) = step else { return };
            if scans && next.is_none() {
                again.alone.store(true, Ordering::Relaxed);
            }
            if more || next.is_some() {
                sweep_on(&again, now, next);
            }
        }),
    );
}

/// The most rows of a kind that one step of a sweep removes.
const STEP: usize = 1000;
