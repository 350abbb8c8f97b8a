use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use throng_hub::Unavailable;

use super::ledger::Ledger;
use super::{Answer, guard, lock};

/// The jobs that wait.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    /// Jobs that are not answered, also those that were taken.
    len: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    jobs: Vec<Waiting>,
    closed: bool,
    /// The clerk waits.
    idle: bool,
}

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

impl Queue {
    /// Adds a job at the end. When too many wait, or it is closed, that is the answer.
    pub(super) fn push(&self, kind: Kind, task: Box<dyn Task>) {
        let mut inner = lock(&self.inner);
        let full = kind != Kind::Must && self.len() >= MAX_QUEUED;
        if inner.closed || full {
            drop(inner);
            return task.answer(false);
        }
        inner.jobs.push(Waiting { kind, task });
        self.len.fetch_add(1, Ordering::Relaxed);
        let wake = mem::take(&mut inner.idle);
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Takes everything that waits; with nothing there, waits for it until `until`. `false` when
    /// the queue is closed and nothing will come any more.
    pub(super) fn take(&self, into: &mut Vec<Waiting>, until: Option<Instant>) -> bool {
        let mut inner = lock(&self.inner);
        while inner.jobs.is_empty() && !inner.closed {
            inner.idle = true;
            inner = match until {
                None => self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        inner.idle = false;
                        return true;
                    }
                    let waited = self.filled.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inner.idle = false;
        }
        // The two vectors take turns, so that neither is allocated anew.
        mem::swap(&mut inner.jobs, into);
        !(inner.closed && into.is_empty())
    }

    /// Lets time pass, but not when the queue is closed.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut inner = lock(&self.inner);
        while !inner.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.filled.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Jobs were answered.
    pub(super) fn answered(&self, jobs: usize) {
        self.len.fetch_sub(jobs, Ordering::Relaxed);
    }

    /// Nothing more is taken in.
    pub(super) fn close(&self) {
        lock(&self.inner).closed = true;
        self.filled.notify_all();
    }
}

/// Beyond this jobs are refused.
const MAX_QUEUED: usize = 100_000;
