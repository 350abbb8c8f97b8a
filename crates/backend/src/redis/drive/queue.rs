use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use throng_hub::{Asker, Identity};
use throng_protocol::Body;
use throng_wire::OpCode;
use tokio::sync::Notify;

use crate::redis::core::Held;
use crate::redis::remote::{Again, Done, Heard, Script};
use crate::redis::step::{Name, NodeId};

use super::{Handle, bytes};

/// What other threads want from the one that talks to Redis.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    filled: Notify,
    /// Of messages that wait or are under way.
    bytes: AtomicUsize,
    len: AtomicUsize,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: Vec<Job>,
    closed: bool,
}

/// What is to be done.
pub(crate) enum Job {
    /// A room is needed here.
    Open { handle: Handle, held: Held },
    /// It is needed no longer.
    Close { name: Name },
    /// A message for it.
    Append { name: Name, message: Message },
    /// A frame for the members on other nodes.
    Cast { name: Name, opcode: OpCode, payload: Bytes },
    /// A user is here now.
    Seat { name: Name, who: Arc<Identity> },
    /// A user is no longer here.
    Unseat { name: Name, user: Box<str> },
    /// Somebody wants to know what has been missed.
    Look { name: Name },
    /// A script of somebody else.
    Run { script: &'static Script, keys: Vec<String>, args: Vec<Vec<u8>>, done: Done },
    /// A channel of somebody else.
    Listen { channel: String, heard: Heard, again: Again },
    /// A node is dead.
    Dead(NodeId),
    /// These nodes are not.
    Alive(Vec<NodeId>),
    /// This node has another name now.
    Reborn(NodeId),
    /// Whom to tell that it needs one.
    OnFenced(Again),
    /// That is all.
    End,
}

/// A message to be stored.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) session: Box<str>,
    pub(crate) reference: u64,
    pub(crate) body: Body,
    pub(crate) asker: Asker,
}

impl Queue {
    /// Whether so many messages wait that no more are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > MAX_BYTES || self.len() > MAX_MESSAGES
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Adds something at the end; gives it back when the queue is closed.
    pub(crate) fn push(&self, job: Job) -> Result<(), Job> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.closed {
            return Err(job);
        }
        if let Job::Append { message, .. } = &job {
            let bytes = bytes(&message.session, &message.body);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        let first = inner.jobs.is_empty();
        inner.jobs.push(job);
        drop(inner);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes everything that waits, and waits for it if there is nothing.
    pub(crate) async fn take(&self, into: &mut Vec<Job>) {
        loop {
            {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                if !inner.jobs.is_empty() {
                    // The two vectors take turns, so that neither is allocated anew.
                    mem::swap(&mut inner.jobs, into);
                    return;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Messages were answered.
    pub(crate) fn answered(&self, messages: usize, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.len.fetch_sub(messages, Ordering::Relaxed);
    }

    /// A message was not taken.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Nothing more is taken in; [`Job::End`] is the last.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.closed {
            inner.closed = true;
            inner.jobs.push(Job::End);
            drop(inner);
            self.filled.notify_one();
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open { .. } => "Open",
            Self::Close { .. } => "Close",
            Self::Append { .. } => "Append",
            Self::Cast { .. } => "Cast",
            Self::Seat { .. } => "Seat",
            Self::Unseat { .. } => "Unseat",
            Self::Look { .. } => "Look",
            Self::Run { .. } => "Run",
            Self::Listen { .. } => "Listen",
            Self::Dead(_) => "Dead",
            Self::Alive(_) => "Alive",
            Self::Reborn(_) => "Reborn",
            Self::OnFenced(_) => "OnFenced",
            Self::End => "End",
        })
    }
}

/// Beyond this messages are refused.
const MAX_BYTES: usize = 64 << 20;
const MAX_MESSAGES: usize = 65_536;
