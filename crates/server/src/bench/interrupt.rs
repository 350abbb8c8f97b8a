//! Ctrl-C: the run ends early and prints what it has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Starts listening; a second Ctrl-C ends the process at once.
pub(super) fn listen() {
    // A thread of its own, asleep until the signal: the generator's loop stays free of it.
    thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
            return;
        };
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    });
}

/// Whether the user wants the run to end.
pub(super) fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
