//! Whose turn it is on a connection that speaks HTTP: ours while we work on an answer, the client's while
//! it sends a request, takes an answer, or does nothing. Only clients are cut for taking too long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// Odd while it is our turn; grows with every step of either side. Only the task of the connection
/// writes to it.
#[derive(Default)]
pub(crate) struct Turn(AtomicU32);

impl Turn {
    /// The client has done its part, now it is for us: to answer, or to find the next piece of an
    /// answer that comes in pieces.
    pub(crate) fn ours(&self) {
        self.0.fetch_or(1, Ordering::Relaxed);
    }

    /// We have done something, now it is for the client: to take it, or to ask again.
    pub(crate) fn theirs(&self) {
        let now = self.0.load(Ordering::Relaxed);
        // From odd to even, or to the next even number: a step in both cases.
        self.0.store((now | 1).wrapping_add(1), Ordering::Relaxed);
    }

    /// Looks at it after a while: whether the client has let all that time pass. `seen` is what the
    /// look before saw.
    pub(crate) fn is_stuck(&self, seen: &mut u32) -> bool {
        let now = self.0.load(Ordering::Relaxed);
        let stuck = now == *seen && now.is_multiple_of(2);
        *seen = now;
        stuck
    }
}

/// The body of an answer, in pieces that a slow client can be measured by. hyper asks for the next piece
/// when the client has taken enough of those before.
pub(crate) struct Paced {
    body: Body,
    /// Of the last frame, what has not been given to hyper yet.
    rest: Bytes,
    turn: Arc<Turn>,
}

impl Paced {
    /// A body of this connection.
    pub(crate) fn new(body: Body, turn: Arc<Turn>) -> Self {
        Self { body, rest: Bytes::new(), turn }
    }
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            // While there is nothing to send, the client may be as silent as it likes.
            self.turn.ours();
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            self.turn.theirs();
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        } else {
            self.turn.theirs();
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut sum = SizeHint::new();
        sum.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            sum.set_upper(upper.saturating_add(rest));
        }
        sum
    }
}

/// How much a client must take within the timeout, in bytes.
const PIECE: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use hyper::body::Body as _;

    use super::*;

    #[test]
    fn only_clients_are_stuck() {
        let (turn, mut seen) = (Turn::default(), 0);
        assert!(turn.is_stuck(&mut seen), "nothing came");
        turn.ours();
        assert!(!turn.is_stuck(&mut seen));
        assert!(!turn.is_stuck(&mut seen), "we may take our time");
        turn.theirs();
        assert!(!turn.is_stuck(&mut seen), "it had no time yet");
        assert!(turn.is_stuck(&mut seen));
        turn.theirs();
        assert!(!turn.is_stuck(&mut seen), "it took something");
        turn.ours();
        turn.theirs();
        assert!(!turn.is_stuck(&mut seen), "it took something and there is more");
        assert!(turn.is_stuck(&mut seen));
    }

    #[test]
    fn bodies_keep_their_length_and_come_in_pieces() {
        let turn = Arc::new(Turn::default());
        let bytes: Vec<u8> = (0..40_000_u32).map(|n| n as u8).collect();
        let mut body = Paced::new(Body::from(bytes.clone()), turn);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut taken = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some((bytes.len() - taken.len()) as u64));
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap();
                    assert!(data.len() <= PIECE);
                    taken.extend_from_slice(&data);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(taken, bytes);
    }
}
