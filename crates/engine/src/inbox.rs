//! How anything outside a worker reaches it.

use std::io;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mio::Waker;
use throng_hub::{Room, RoomId, Timestamp, Unavailable};
use throng_wire::{CloseCode, Prepared};

use crate::conn::Arrival;
use crate::drain::Slots;
use crate::session::{Refresh, Review};
use crate::wheel::ConnId;

/// What a worker can be told. Posts are handled in the order they were pushed.
pub(crate) enum Post {
    /// A new connection, after the 101.
    Adopt(Box<Arrival>),
    /// From here on this connection receives the frames of the room. Posted under the room's
    /// order lock, so that it falls between the right two messages.
    /// For a connection that is a member already: what it may see has changed.
    Enter(ConnId, Arc<Room>, Echo, Sight),
    /// From here on it does not any more. Posted under the room's order lock.
    Exit(ConnId, RoomId),
    /// One message for all local members of a room. Posted under the room's order lock.
    Deliver(RoomId, Prepared),
    /// The same for one that says who comes or goes: not for members that may not see that.
    DeliverNews(RoomId, Prepared),
    /// The same for a message without which those that follow would be misunderstood: whoever cannot be given it is
    /// too slow, whatever the policy.
    Renew(RoomId, Prepared),
    /// The same, but not for its sender if that wants no echo.
    DeliverFrom(RoomId, Prepared, ConnId),
    /// A room this connection waits for has been opened, or cannot be.
    Ready(u64),
    /// What became of a message, for the front: workers get it as a frame. With whether it was asked for
    /// again while it was being stored.
    Stored(u64, Result<(u64, Timestamp), Unavailable>, bool),
    /// One frame for one connection.
    Send(ConnId, Bytes),
    /// The same for an answer that a connection waits for: it is never dropped.
    Answer(ConnId, Bytes),
    /// What this connection may do has changed.
    Review(ConnId, Box<Review>),
    /// Somebody shows another credential; for the front.
    Refresh(Box<Refresh>),
    /// Start the closing handshake.
    Close(ConnId, CloseCode, Box<str>),
    /// Drop the connection without one.
    Terminate(ConnId),
    /// Give everybody a slot to go and come back in.
    Drain(Arc<Slots>),
    /// Nobody else is to go.
    Undrain,
    /// Close everything with `1001`, or `1012` after a drain; what is left after the grace is terminated and the
    /// worker ends.
    Shutdown(std::time::Duration),
    /// All workers have ended; for the front.
    End,
}

/// Whether a member gets its own messages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    Yes,
    No,
}

/// Whether a member may see who comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Full,
    Blind,
}

impl Sight {
    pub(crate) fn of(may_see: bool) -> Self {
        if may_see { Self::Full } else { Self::Blind }
    }
}

/// How the reader of an inbox is woken.
pub(crate) enum Wake {
    /// A worker in its poll.
    Poll(Waker),
    /// The front, however it waits.
    Call(Box<dyn Fn() + Send + Sync>),
}

/// A queue with one reader. A push is one short lock, and a wake-up only when the worker sleeps.
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
    wake: Wake,
    congestion: Arc<Congestion>,
}

struct Inner {
    posts: Vec<Post>,
    /// Bytes of the frames in `posts`, each counted with its bookkeeping.
    bytes: usize,
    asleep: bool,
    congested: bool,
    closed: bool,
}

/// How many inboxes are over [`HIGH_WATER`], and how many messages are being stored. While it is too
/// much of either, workers read no more messages meant for rooms, so that publishers are slowed
/// down by TCP instead of filling memory.
#[derive(Default)]
pub(crate) struct Congestion {
    inboxes: AtomicUsize,
    storing: AtomicIsize,
}

impl Congestion {
    pub(crate) fn any(&self) -> bool {
        self.inboxes.load(Ordering::Relaxed) > 0
            || self.storing.load(Ordering::Relaxed) > MOST_STORING
    }

    /// A message has been handed to its backend.
    pub(crate) fn storing(&self) {
        self.storing.fetch_add(1, Ordering::Relaxed);
    }

    /// The backend has answered for so many.
    pub(crate) fn stored(&self, messages: usize) {
        self.storing.fetch_sub(messages as isize, Ordering::Relaxed);
    }
}

/// So many messages may wait for being stored before publishers are held back.
const MOST_STORING: isize = 8192;

/// 32 MiB of frames may wait for one worker before publishers are held back.
const HIGH_WATER: usize = 32 << 20;
/// What a post costs beside its frame: its place in the queue, and the bookkeeping of a frame that
/// is shared.
const POST_COST: usize = 192;

impl Inbox {
    pub(crate) fn new(wake: Wake, congestion: Arc<Congestion>) -> Self {
        let inner =
            Inner { posts: Vec::new(), bytes: 0, asleep: false, congested: false, closed: false };
        Self { inner: Mutex::new(inner), wake, congestion }
    }

    /// Adds a post and wakes the worker if it sleeps.
    pub(crate) fn push(&self, post: Post) {
        let cost = match &post {
            Post::Deliver(_, frame)
            | Post::DeliverNews(_, frame)
            | Post::Renew(_, frame)
            | Post::DeliverFrom(_, frame, _) => POST_COST + frame.frame().len(),
            Post::Send(_, bytes) | Post::Answer(_, bytes) => POST_COST + bytes.len(),
            _ => POST_COST,
        };
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        inner.posts.push(post);
        inner.bytes += cost;
        if inner.bytes > HIGH_WATER && !inner.congested {
            inner.congested = true;
            self.congestion.inboxes.fetch_add(1, Ordering::Relaxed);
        }
        let wake = std::mem::take(&mut inner.asleep);
        drop(inner);
        if wake {
            match &self.wake {
                // Fails only when the eventfd is gone, that is, never while the worker lives.
                Wake::Poll(waker) => drop::<io::Result<()>>(waker.wake()),
                Wake::Call(wake) => wake(),
            }
        }
    }

    /// Takes everything that waits into `into`, which must be empty.
    pub(crate) fn drain(&self, into: &mut Vec<Post>) {
        debug_assert!(into.is_empty());
        let mut inner = self.lock();
        std::mem::swap(&mut inner.posts, into);
        inner.bytes = 0;
        if std::mem::take(&mut inner.congested) {
            self.congestion.inboxes.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The worker has ended: what waits and what is still pushed is dropped.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        if std::mem::take(&mut inner.congested) {
            self.congestion.inboxes.fetch_sub(1, Ordering::Relaxed);
        }
        let posts = std::mem::take(&mut inner.posts);
        drop(inner);
        drop(posts);
    }

    /// Announces that the worker is about to sleep; `false` when something already waits.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut inner = self.lock();
        inner.asleep = inner.posts.is_empty();
        inner.asleep
    }

    /// The worker is awake: pushes need not wake it.
    pub(crate) fn awake(&self) {
        self.lock().asleep = false;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
