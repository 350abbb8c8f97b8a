//! The open connection that both halves hold on to, and the task that writes.
//!
//! ```text
//!  Sender ──► queue ──► writer task ──► ┌───────────┐
//!               ▲                       │ Transport │ ◄──► peer
//!  Receiver ────┘ pongs, Close          │           │
//!  Receiver ◄────────────────────────── └───────────┘
//! ```
//!
//! Receiving happens in the caller's own task, so a caller that does not ask for messages does
//! not take any from the network. Sending goes through a queue, because a frame must never be
//! left half written when the caller's future is dropped. The queue's lock and the transport's
//! are never held together, and neither over an `await`.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use throng_wire::{CloseCode, CloseState, OpCode, encode, encode_close, encode_compressed};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::entropy::MaskKeys;
use crate::error::Error;
use crate::transport::Transport;

/// What both halves share. Dropping it gives the connection up in good order.
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    /// `None` once it is over.
    transport: Mutex<Option<Transport>>,
    out: Mutex<Outgoing>,
    /// For the writer: there is something to do.
    work: Notify,
    /// For senders: bytes have left, or none ever will.
    room: Notify,
    /// For all: it is over.
    over: Notify,
    runtime: Handle,
    capacity: usize,
    close_timeout: Duration,
}

/// What waits to be written, and what decides whether more may.
struct Outgoing {
    queue: Vec<u8>,
    /// What the writer has taken from the queue and not yet written.
    writing: usize,
    /// The latest answer to a ping that found the queue full.
    pong: Option<Vec<u8>>,
    keys: MaskKeys,
    close: CloseState,
    /// The deadline of the closing handshake is running.
    timed: bool,
    /// Nobody sends any more: the writer ends the connection when the queue is empty.
    finishing: bool,
    /// Why nothing can be written any more. What the peer sent before can still be read.
    failed: Option<Arc<io::Error>>,
    over: Option<Over>,
}

/// What [`Link::read`] came to.
pub(crate) enum Read {
    Bytes(usize),
    /// The peer sends no more.
    End,
    Failed(io::Error),
    /// The connection is over on our side.
    Over(Over),
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// By the closing handshake, or by our doing.
    Ended,
    /// The closing handshake took too long.
    CloseTimeout,
}

impl Link {
    /// Starts the writer. Has to be called in a runtime.
    pub(crate) fn new(transport: Transport, capacity: usize, close_timeout: Duration) -> Self {
        let inner = Arc::new(Inner {
            transport: Mutex::new(Some(transport)),
            out: Mutex::new(Outgoing {
                queue: Vec::new(),
                writing: 0,
                pong: None,
                keys: MaskKeys::new(),
                close: CloseState::Open,
                timed: false,
                finishing: false,
                failed: None,
                over: None,
            }),
            work: Notify::new(),
            room: Notify::new(),
            over: Notify::new(),
            runtime: Handle::current(),
            capacity,
            close_timeout,
        });
        inner.runtime.spawn(Arc::clone(&inner).write());
        Self(inner)
    }

    /// The bytes that wait to be written.
    pub(crate) fn buffered(&self) -> usize {
        self.0.out().buffered()
    }

    /// Waits until the queue takes another frame.
    pub(crate) async fn room(&self) -> Result<(), Error> {
        self.wait(|out, capacity| out.buffered() == 0 || out.buffered() < capacity, true).await
    }

    /// Waits until the operating system has all that was queued.
    pub(crate) async fn flushed(&self) -> Result<(), Error> {
        self.wait(|out, _| out.buffered() == 0, false).await
    }

    async fn wait(&self, ready: fn(&Outgoing, usize) -> bool, sending: bool) -> Result<(), Error> {
        loop {
            let mut changed = pin!(self.0.room.notified());
            // From here on no change goes unnoticed.
            changed.as_mut().enable();
            {
                let out = self.0.out();
                if let Some(failed) = &out.failed {
                    return Err(Error::shared_io(failed));
                }
                if out.over.is_some() || (sending && !out.close.is_open()) {
                    return Err(Error::Closed);
                }
                if ready(&out, self.0.capacity) {
                    return Ok(());
                }
            }
            changed.await;
        }
    }

    /// Queues a frame, whether there is [`room`](Self::room) or not.
    pub(crate) fn push(&self, opcode: OpCode, deflated: bool, payload: &[u8]) -> Result<(), Error> {
        let mut out = self.0.out();
        if let Some(failed) = &out.failed {
            return Err(Error::shared_io(failed));
        }
        if out.over.is_some() || !out.close.is_open() {
            return Err(Error::Closed);
        }
        let key = Some(out.keys.next()?);
        let encode = if deflated { encode_compressed } else { encode };
        encode(&mut out.queue, opcode, payload, key);
        drop(out);
        self.0.work.notify_one();
        Ok(())
    }

    /// Queues the answer to a ping. While the queue is full only the latest is kept, as
    /// RFC 6455 §5.5.3 allows, so that pings take no memory.
    pub(crate) fn pong(&self, payload: &[u8]) -> Result<(), Error> {
        let mut out = self.0.out();
        if out.over.is_some() || out.failed.is_some() || !out.close.is_open() {
            return Ok(());
        }
        if out.buffered() < self.0.capacity.max(1) {
            let key = Some(out.keys.next()?);
            encode(&mut out.queue, OpCode::Pong, payload, key);
        } else {
            out.pong = Some(payload.to_vec());
        }
        drop(out);
        self.0.work.notify_one();
        Ok(())
    }

    /// Begins the closing handshake, or completes it if the peer has begun; from now on there
    /// is a deadline for the end. Without effect if a Close frame has been sent before.
    pub(crate) fn close(&self, code: Option<CloseCode>, reason: &str) -> Result<(), Error> {
        self.0.queue_close(code, reason)?;
        self.0.start_deadline();
        self.0.work.notify_one();
        self.0.room.notify_waiters();
        Ok(())
    }

    /// The peer's Close frame has come, with `code`. Answers it unless ours was first.
    pub(crate) fn received_close(&self, code: Option<CloseCode>) -> Result<(), Error> {
        {
            let mut out = self.0.out();
            if let Some(next) = out.close.receive() {
                out.close = next;
            }
        }
        self.close(code, "")
    }

    /// Says `code` to a peer that broke the rules, and ends the connection as soon as that is
    /// written.
    pub(crate) fn fail(&self, code: CloseCode) {
        // Without a key there is no frame, and the connection ends without a word.
        let _ = self.0.queue_close(Some(code), "");
        self.0.finish();
    }

    /// Ends the connection at once.
    pub(crate) fn terminate(&self) {
        self.0.end(Over::Ended);
    }

    /// Reads into `buf`. Nothing is lost when the future is dropped.
    pub(crate) async fn read(&self, buf: &mut [u8]) -> Read {
        let read = poll_fn(|cx| self.0.poll_read(cx, buf));
        match self.0.unless_over(read).await {
            Some(Ok(0)) => Read::End,
            Some(Ok(len)) => Read::Bytes(len),
            Some(Err(error)) => Read::Failed(error),
            None => Read::Over(self.0.out().over.unwrap_or(Over::Ended)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // What was sent is to arrive, if it can within the deadline.
        let _ = self.0.queue_close(Some(CloseCode::GOING_AWAY), "");
        self.0.finish();
    }
}

impl Inner {
    fn out(&self) -> MutexGuard<'_, Outgoing> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transport(&self) -> MutexGuard<'_, Option<Transport>> {
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_close(&self, code: Option<CloseCode>, reason: &str) -> Result<(), Error> {
        let mut out = self.out();
        let Some(next) = out.close.send() else { return Ok(()) };
        if out.over.is_none() && out.failed.is_none() {
            out.encode_pong()?;
            let key = Some(out.keys.next()?);
            encode_close(&mut out.queue, code, reason, key)?;
        }
        out.close = next;
        Ok(())
    }

    /// Lets the writer end the connection.
    fn finish(self: &Arc<Self>) {
        let failed = {
            let mut out = self.out();
            out.finishing = true;
            out.failed.is_some()
        };
        if failed {
            return self.end(Over::Ended);
        }
        self.start_deadline();
        self.work.notify_one();
    }

    fn start_deadline(self: &Arc<Self>) {
        {
            let mut out = self.out();
            if out.timed || out.over.is_some() {
                return;
            }
            out.timed = true;
        }
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            let timeout = tokio::time::sleep(this.close_timeout);
            if this.unless_over(timeout).await.is_some() {
                this.end(Over::CloseTimeout);
            }
        });
    }

    fn end(&self, over: Over) {
        {
            let mut out = self.out();
            out.over.get_or_insert(over);
            out.queue = Vec::new();
            out.writing = 0;
            out.pong = None;
        }
        drop(self.transport().take());
        self.over.notify_waiters();
        self.room.notify_waiters();
    }

    /// The output of `work`, or `None` as soon as the connection is over.
    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut over = pin!(self.over.notified());
        // From here on the end does not go unnoticed.
        over.as_mut().enable();
        if self.out().over.is_some() {
            return None;
        }
        let mut work = pin!(work);
        poll_fn(|cx| match over.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => work.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// The writer's task: writes what is queued until nobody queues any more.
    async fn write(self: Arc<Self>) {
        let mut batch = Vec::new();
        while self.next_batch(&mut batch).await {
            let mut rest = &batch[..];
            while !rest.is_empty() {
                let write = poll_fn(|cx| self.poll_write(cx, rest));
                match self.unless_over(write).await {
                    Some(Ok(len)) if len > 0 => {
                        rest = &rest[len..];
                        if !rest.is_empty() {
                            self.wrote(rest.len());
                        }
                    }
                    Some(Ok(_)) => return self.write_failed(io::ErrorKind::WriteZero.into()),
                    Some(Err(error)) => return self.write_failed(error),
                    None => return,
                }
            }
            match self.unless_over(poll_fn(|cx| self.poll_flush(cx))).await {
                Some(Ok(())) => self.wrote(0),
                Some(Err(error)) => return self.write_failed(error),
                None => return,
            }
            batch.clear();
            batch.shrink_to(KEEP);
        }
        self.linger().await;
        self.end(Over::Ended);
    }

    /// Waits for something to write and takes it. False if nothing will come any more.
    async fn next_batch(&self, batch: &mut Vec<u8>) -> bool {
        loop {
            {
                let mut out = self.out();
                // A missing key stops the pong; the next frame to be sent will tell.
                let _ = out.encode_pong();
                if !out.queue.is_empty() {
                    std::mem::swap(batch, &mut out.queue);
                    out.writing = batch.len();
                    return true;
                }
                if out.finishing {
                    return false;
                }
            }
            if self.unless_over(self.work.notified()).await.is_none() {
                return false;
            }
        }
    }

    fn wrote(&self, left: usize) {
        self.out().writing = left;
        self.room.notify_waiters();
    }

    fn write_failed(&self, error: io::Error) {
        let finishing = {
            let mut out = self.out();
            out.failed = Some(Arc::new(error));
            out.queue = Vec::new();
            out.writing = 0;
            out.pong = None;
            out.finishing
        };
        self.room.notify_waiters();
        if finishing {
            self.end(Over::Ended);
        }
    }

    /// Says that nothing more comes and waits for the peer to do the same: a socket that is
    /// closed while bytes arrive takes back what it has sent last.
    async fn linger(&self) {
        let linger = async {
            if poll_fn(|cx| self.poll_shutdown(cx)).await.is_ok() {
                let mut discarded = vec![0; 4096];
                while let Ok(1..) = poll_fn(|cx| self.poll_read(cx, &mut discarded)).await {}
            }
        };
        self.unless_over(linger).await;
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll(|transport| {
            let mut buf = ReadBuf::new(buf);
            transport.poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
        })
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|transport| transport.poll_write(cx, bytes))
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|transport| transport.poll_flush(cx))
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|transport| transport.poll_shutdown(cx))
    }

    fn poll<T>(
        &self,
        poll: impl FnOnce(Pin<&mut Transport>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.transport() {
            Some(transport) => poll(Pin::new(transport)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Outgoing {
    fn buffered(&self) -> usize {
        self.queue.len() + self.writing
    }

    fn encode_pong(&mut self) -> Result<(), Error> {
        if let Some(payload) = self.pong.take()
            && matches!(self.close, CloseState::Open | CloseState::Received)
        {
            let key = Some(self.keys.next()?);
            encode(&mut self.queue, OpCode::Pong, &payload, key);
        }
        Ok(())
    }
}

/// How much of a batch's memory stays for the next one.
const KEEP: usize = 64 * 1024;
