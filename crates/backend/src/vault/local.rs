use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::clerk::{Clerk, Shared};
use super::ledger::{Ledger, VaultStats};
use super::queue::{Job, Kind};
use super::{Answer, Changed, OpenError, SyncMode, file, lock, sweep};

/// A vault of this machine's own: in a file, or in memory. The last one to go closes it.
pub(super) struct Local {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Local {
    pub(super) fn open(directory: Option<&Path>, sync: SyncMode) -> Result<Self, OpenError> {
        let source = file::Source::new(directory, sync)?;
        let (clerk, shared) = Clerk::new(source)?;
        let thread = thread::Builder::new()
            .name("throng-vault".to_owned())
            .spawn(move || clerk.run())
            .map_err(|cause| OpenError::Thread { cause })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Ledger<'_>) -> rusqlite::Result<Answer<T>> + Send + 'static,
        done: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        self.shared.queue.submit(Kind::Write, Job::boxed(work, done));
    }

    pub(super) fn read<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Ledger<'_>) -> rusqlite::Result<Answer<T>> + Send + 'static,
        done: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        self.shared.queue.submit(Kind::Read, Job::boxed(work, done));
    }

    pub(super) fn end(&self, session: String) {
        let end = Job::boxed(move |ledger: &mut Ledger<'_>| ledger.end(&session), drop);
        self.shared.queue.submit(Kind::Must, end);
    }

    pub(super) fn sweep(&self, now: u64, window_ms: u64) {
        sweep::sweep(&self.shared, now, window_ms);
    }

    /// What is in memory, too.
    pub(super) fn lists<T>(&self, read: impl FnOnce(&super::lists::Lists) -> T) -> T {
        read(&lock(&self.shared.lists))
    }

    pub(super) fn on_change(&self, changed: Changed) {
        let before = lock(&self.shared.changed).replace(changed);
        drop(before); // which may drop anything: not under a lock
    }

    pub(super) fn stats(&self) -> VaultStats {
        self.shared.stats()
    }

    pub(super) fn close(&self) {
        self.shared.queue.close();
        let thread = lock(&self.thread).take();
        // Not from itself: an answer may be the last to let go of the vault.
        if let Some(thread) = thread.filter(|it| it.thread().id() != thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the thread of the vault ended with a panic");
        }
        let changed = lock(&self.shared.changed).take();
        drop(changed);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.close();
    }
}
