//! What threads have between them.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Also after a panic: what is behind these locks is whole at any time.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver that panics must not end the thread that everybody depends on.
pub(crate) fn guard(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("a receiver of results panicked");
    }
}

/// What waits for one thread that works it off: things in the order in which they came, taken all at once.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
    /// Of those that are not answered, also the ones that were taken.
    len: AtomicUsize,
}

#[derive(Debug)]
struct Inner<T> {
    items: Vec<T>,
    closed: bool,
    /// The thread waits.
    idle: bool,
}

impl<T> Queue<T> {
    /// Adds something at the end if `admit` says so, which is asked while nobody can take it; gives it back
    /// otherwise, and when the queue is closed.
    pub(crate) fn push(&self, item: T, admit: impl FnOnce(&T) -> bool) -> Result<(), T> {
        let mut inner = lock(&self.inner);
        if inner.closed || !admit(&item) {
            return Err(item);
        }
        inner.items.push(item);
        self.len.fetch_add(1, Ordering::Relaxed);
        let wake = mem::take(&mut inner.idle);
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// How many are not answered.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// So many were answered.
    pub(crate) fn answered(&self, count: usize) {
        self.len.fetch_sub(count, Ordering::Relaxed);
    }

    /// Takes everything that waits; with nothing there, waits for it until `until`. `false` when
    /// the queue is closed and nothing will come any more.
    pub(crate) fn take(&self, into: &mut Vec<T>, until: Option<Instant>) -> bool {
        let mut inner = lock(&self.inner);
        while inner.items.is_empty() && !inner.closed {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return true;
            }
            inner.idle = true;
            inner = match left {
                None => self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.filled.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inner.idle = false;
        }
        // The two vectors take turns, so that neither is allocated anew.
        mem::swap(&mut inner.items, into);
        !(inner.closed && into.is_empty())
    }

    /// Lets time pass, but not when the queue is closed.
    pub(crate) fn pause(&self, time: Duration) {
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

    /// Nothing more is taken in.
    pub(crate) fn close(&self) {
        lock(&self.inner).closed = true;
        self.filled.notify_all();
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let inner = Inner { items: Vec::new(), closed: false, idle: false };
        Self { inner: Mutex::new(inner), filled: Condvar::new(), len: AtomicUsize::new(0) }
    }
}
