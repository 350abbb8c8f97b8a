use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::{guard, lock};
use super::Core;
use super::script;
use super::text::Args;

/// What waits for the thread of the vault.
#[derive(Default)]
pub(super) struct Desk {
    inner: Mutex<Inner>,
    filled: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Sessions that are over and could not be removed yet.
    over: Vec<Box<str>>,
    /// The owner of the vault is to be told.
    tell: bool,
    closed: bool,
}

impl Desk {
    /// What waits here, and what is under way. What goes from one to the other does so under the lock, so that it is
    /// always counted.
    pub(super) fn len_with(&self, waiting: &AtomicUsize) -> usize {
        let inner = lock(&self.inner);
        inner.over.len() + waiting.load(Ordering::SeqCst)
    }

    pub(super) fn tell(&self) {
        lock(&self.inner).tell = true;
        self.filled.notify_one();
    }

    pub(super) fn close(&self) {
        lock(&self.inner).closed = true;
        self.filled.notify_one();
    }
}

impl Core {
    /// What the thread does until the vault is closed.
    pub(super) fn work(self: Arc<Self>) {
        let (mut told, mut looked) = (None::<Instant>, Instant::now());
        loop {
            let mut inner = lock(&self.desk.inner);
            let look = looked + if self.is_well(&inner) { LOOK } else { RETRY };
            let tell = told.map_or_else(Instant::now, |told| told + PACE);
            let next = if inner.tell { look.min(tell) } else { look };
            let left = next.saturating_duration_since(Instant::now());
            if !left.is_zero() && !inner.closed {
                let waited = self.desk.filled.wait_timeout(inner, left);
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let now = Instant::now();
            let is_due = inner.tell && now >= tell;
            inner.tell &= !is_due;
            let closed = inner.closed;
            let over = match closed || now >= look {
                true => mem::take(&mut inner.over),
                false => Vec::new(),
            };
            match over.is_empty() {
                true => drop(inner),
                false => {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    drop(inner);
                    self.end(over);
                    self.answered();
                }
            }
            if closed {
                return;
            }
            if is_due {
                told = Some(now);
                self.tell();
            }
            if now >= look {
                looked = now;
                self.load();
            }
        }
    }

    /// Removes sessions that are over and still of this vault; tries again what fails.
    pub(super) fn end(self: &Arc<Self>, over: Vec<Box<str>>) {
        for some in over.chunks(AT_ONCE) {
            let some = some.to_vec();
            let args = Args::new().text(&self.run);
            let args = some.iter().fold(args, |args, id| args.text(id));
            let core = self.clone();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.run(&script::END, args, move |told| {
                let mut inner = lock(&core.desk.inner);
                if told.is_err() {
                    inner.over.extend(some); // tried again later
                }
                core.answered();
            });
        }
    }

    fn is_well(&self, inner: &Inner) -> bool {
        inner.over.is_empty() && !lock(&self.held).is_stale()
    }

    /// Not under the lock: it may be replaced meanwhile.
    fn tell(&self) {
        let told = lock(&self.changed).take();
        if let Some(mut changed) = told {
            guard(&mut *changed);
            lock(&self.changed).get_or_insert(changed);
        }
    }
}

/// So many sessions are removed by one script.
const AT_ONCE: usize = 1000;

/// How often to look whether a message was missed.
const LOOK: Duration = Duration::from_secs(5);

/// The same while something is wrong.
const RETRY: Duration = Duration::from_millis(250);

/// At least so long between two times the owner is told.
const PACE: Duration = Duration::from_millis(250);
