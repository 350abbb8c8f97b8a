use throng_hub::Unavailable;

use super::ledger::Ledger;
use super::{Answer, guard};
use crate::threads::Queue;

/// A job and what is special about it.
pub(super) struct Waiting {
    pub(super) kind: Kind,
    pub(super) task: Box<dyn Task>,
}

/// How a job is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes nothing, so that it can be done while nothing can be written.
    Read,
    Write,
    /// A change that is not given up when it fails, and taken in however many wait.
    Must,
}

/// Something to be done in a transaction, and answered behind it.
pub(super) trait Task: Send {
    /// May be called again when the transaction it was in has failed.
    fn run(&mut self, ledger: &mut Ledger<'_>) -> rusqlite::Result<()>;

    /// Answers with what was found, or that it could not be done.
    fn answer(self: Box<Self>, committed: bool);
}

/// A task made of closures.
pub(super) struct Job<T, W, D> {
    work: W,
    found: Option<Answer<T>>,
    done: D,
}

impl<T, W, D> Job<T, W, D>
where
    T: Send + 'static,
    W: FnMut(&mut Ledger<'_>) -> rusqlite::Result<Answer<T>> + Send + 'static,
    D: FnOnce(Answer<T>) + Send + 'static,
{
    pub(super) fn boxed(work: W, done: D) -> Box<dyn Task> {
        Box::new(Self { work, found: None, done })
    }
}

impl<T, W, D> Task for Job<T, W, D>
where
    T: Send + 'static,
    W: FnMut(&mut Ledger<'_>) -> rusqlite::Result<Answer<T>> + Send + 'static,
    D: FnOnce(Answer<T>) + Send + 'static,
{
    fn run(&mut self, ledger: &mut Ledger<'_>) -> rusqlite::Result<()> {
        self.found = Some((self.work)(ledger)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: bool) {
        let Self { found, done, .. } = *self;
        let found = found.filter(|_| committed).unwrap_or(Err(Unavailable));
        guard(|| done(found));
    }
}

impl Queue<Waiting> {
    /// Adds a job at the end. When too many wait, or the queue is closed, that is the answer.
    pub(super) fn submit(&self, kind: Kind, task: Box<dyn Task>) {
        let admit = |job: &Waiting| job.kind == Kind::Must || self.len() < MAX_QUEUED;
        if let Err(refused) = self.push(Waiting { kind, task }, admit) {
            refused.task.answer(false);
        }
    }
}

/// Beyond this jobs are refused.
const MAX_QUEUED: usize = 100_000;
