use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use throng_hub::{Outcome, Timestamp};

use super::lock;
use super::slot::Slot;

/// The messages that wait to be stored.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    /// Of all that has not been answered, also what the writer has taken.
    bytes: AtomicUsize,
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    items: Vec<Item>,
    closed: bool,
    /// The writer waits.
    idle: bool,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) slot: Arc<Slot>,
    pub(super) now: Timestamp,
    pub(super) outcome: Outcome,
}

impl Item {
    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.outcome.body.len() + self.outcome.session.len()
    }
}

impl Queue {
    /// Whether too much waits: the disk hangs.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() > MAX_QUEUED
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds a message at the end; gives it back when the queue is closed.
    pub(super) fn push(&self, item: Item) -> Result<(), Item> {
        let bytes = item.bytes();
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(item);
        }
        inner.items.push(item);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.len.fetch_add(1, Ordering::Relaxed);
        let wake = mem::take(&mut inner.idle);
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes everything that waits; with nothing there, waits for it until `until`. `false` when
    /// the queue is closed and nothing will come any more.
    pub(super) fn take(&self, into: &mut Vec<Item>, until: Instant) -> bool {
        let mut inner = lock(&self.inner);
        while inner.items.is_empty() && !inner.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            inner.idle = true;
            let waited = self.filled.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
            inner.idle = false;
        }
        // The two vectors take turns, so that neither is allocated anew.
        mem::swap(&mut inner.items, into);
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

    /// Messages were answered.
    pub(super) fn answered(&self, messages: usize, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.len.fetch_sub(messages, Ordering::Relaxed);
    }

    /// Nothing more is taken in.
    pub(super) fn close(&self) {
        lock(&self.inner).closed = true;
        self.filled.notify_all();
    }
}

/// Beyond this messages are refused.
const MAX_QUEUED: usize = 64 << 20;
