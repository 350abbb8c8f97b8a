use std::sync::Arc;

use bytes::Bytes;
use throng_wire::{
    CloseCode, Decoder, Deflate, Event, Kind, Limits, ProtocolError, Role, Scratch, Step,
};

use crate::error::Error;
use crate::link::{Link, Over, Read};
use crate::message::Message;

/// The receiving half of a connection.
///
/// Nothing is taken from the network while nobody calls [`next`](Self::next), so a peer that
/// sends faster than we work comes to a stop. Its pings are answered while `next` runs.
pub struct Receiver {
    link: Arc<Link>,
    decoder: Decoder,
    limits: Limits,
    scratch: Scratch,
    stage: Stage,
    close: Option<Close>,
    /// The bytes received; those between `start` and `end` have not been looked at.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// What the peer said in its Close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Why; `None` if it said nothing (code 1005 elsewhere).
    pub code: Option<CloseCode>,
    /// The same for people, often empty.
    pub reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The peer's Close frame has come; the end of the stream has not.
    Closing,
    Ended,
}

impl Receiver {
    /// `received` are bytes that have come behind the handshake.
    pub(crate) fn new(
        link: Arc<Link>,
        deflate: Option<Deflate>,
        limits: Limits,
        received: &[u8],
    ) -> Self {
        let mut buffer = vec![0; BUFFER.max(received.len())].into_boxed_slice();
        buffer[..received.len()].copy_from_slice(received);
        Self {
            link,
            decoder: Decoder::new(Role::Client, deflate),
            limits,
            scratch: Scratch::new(),
            stage: Stage::Open,
            close: None,
            buffer,
            start: 0,
            end: received.len(),
        }
    }

    /// The next message; `None` after the closing handshake or
    /// [`terminate`](crate::Sender::terminate), and ever after an error.
    ///
    /// Pings are answered, and so is a Close frame; its code is in [`closed`](Self::closed).
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Lost`](Error::Lost) if the stream ends without a Close frame, [`Io`](Error::Io) if it
    /// breaks, [`Protocol`](Error::Protocol) if the peer breaks the rules or goes over the
    /// [limits](crate::Client::limits) (it has been told with the right code), and
    /// [`CloseTimeout`](Error::CloseTimeout) if we closed and it did not answer.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        while self.stage == Stage::Open {
            if self.start == self.end {
                self.receive().await?;
            } else if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
        }
        if self.stage == Stage::Closing {
            // Our answer goes out first, even if the stream has ended in this direction.
            let _ = self.link.flushed().await;
        }
        while self.stage == Stage::Closing {
            // The server ends the stream (RFC 6455 §7.1.1); the deadline is running.
            match self.link.read(&mut self.buffer).await {
                Read::Bytes(_) => {}
                Read::End | Read::Failed(_) | Read::Over(_) => self.end(),
            }
        }
        Ok(None)
    }

    /// What the peer said when it closed, once [`next`](Self::next) has returned `None`.
    pub fn closed(&self) -> Option<&Close> {
        self.close.as_ref()
    }

    /// Fills the empty buffer.
    async fn receive(&mut self) -> Result<(), Error> {
        match self.link.read(&mut self.buffer).await {
            Read::Bytes(len) => {
                (self.start, self.end) = (0, len);
                Ok(())
            }
            Read::End => {
                self.end();
                Err(Error::Lost)
            }
            Read::Failed(error) => {
                self.end();
                Err(Error::Io(error))
            }
            Read::Over(over) => {
                self.end();
                match over {
                    Over::Ended => Ok(()),
                    Over::CloseTimeout => Err(Error::CloseTimeout),
                }
            }
        }
    }

    /// Takes the next message out of the buffer, if there is a whole one.
    fn decode(&mut self) -> Result<Option<Message>, Error> {
        let chunk = &mut self.buffer[self.start..self.end];
        let decoded = self
            .decoder
            .next(&self.limits, chunk, &mut self.scratch)
            .and_then(|Step { consumed, event }| Ok((consumed, event.map(own).transpose()?)));
        let (consumed, event) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                self.link.fail(error.close_code());
                self.stage = Stage::Ended;
                return Err(Error::Protocol(error));
            }
        };
        self.start += consumed;
        let message = match event {
            None => None,
            Some(Owned::Message(message)) => {
                if let Message::Ping(payload) = &message {
                    self.link.pong(payload)?;
                }
                Some(message)
            }
            Some(Owned::Close(close)) => {
                self.stage = Stage::Closing;
                let code = close.code;
                self.close = Some(close);
                self.link.received_close(code)?;
                None
            }
        };
        // A large message has been copied out of the scratch by now.
        if message.as_ref().is_some_and(|message| message.as_bytes().len() > BUFFER) {
            self.scratch.trim();
        }
        Ok(message)
    }

    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.link.terminate();
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("closed", &self.close).finish_non_exhaustive()
    }
}

/// An [`Event`] that borrows nothing.
enum Owned {
    Message(Message),
    Close(Close),
}

fn own(event: Event<'_>) -> Result<Owned, ProtocolError> {
    Ok(match event {
        Event::Message { kind: Kind::Text, payload } => {
            // The decoder has checked it; a string has no other way to know.
            let text = String::from_utf8(payload.to_vec()).map_err(|_| ProtocolError::Utf8)?;
            Owned::Message(Message::Text(text))
        }
        Event::Message { kind: Kind::Binary, payload } => {
            Owned::Message(Message::Binary(Bytes::copy_from_slice(payload)))
        }
        Event::Ping(payload) => Owned::Message(Message::Ping(Bytes::copy_from_slice(payload))),
        Event::Pong(payload) => Owned::Message(Message::Pong(Bytes::copy_from_slice(payload))),
        Event::Close(frame) => Owned::Close(Close {
            code: frame.map(|frame| frame.code),
            reason: frame.map(|frame| frame.reason.to_owned()).unwrap_or_default(),
        }),
    })
}

/// How much is read at once.
const BUFFER: usize = 16 * 1024;
