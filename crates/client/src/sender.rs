use std::sync::Arc;

use throng_wire::extension::Direction;
use throng_wire::{CloseCode, Deflate, DeflateOptions, Deflater, Kind, OpCode, Role};
use tokio::sync::Mutex;

use crate::error::Error;
use crate::link::Link;
use crate::message::Message;

/// The sending half of a connection. Clones send into the same connection.
#[derive(Clone)]
pub struct Sender {
    link: Arc<Link>,
    /// Held while a message waits for room, so that messages leave in the order of the calls.
    encoder: Arc<Mutex<Encoder>>,
}

impl Sender {
    pub(crate) fn new(link: Arc<Link>, deflate: Option<(Deflate, DeflateOptions)>) -> Self {
        let compression = deflate.map(|(agreed, options)| Compression {
            direction: agreed.outgoing(Role::Client),
            options,
            deflater: None,
        });
        let encoder = Encoder { compression, deflated: Vec::new() };
        Self { link, encoder: Arc::new(Mutex::new(encoder)) }
    }

    /// Sends a message: queues it, after waiting for the bytes queued before to fall below the
    /// [send buffer's size](crate::Client::send_buffer).
    ///
    /// Queued is not arrived; what arrives, arrives whole and in order. When the future is
    /// dropped before it is ready, the message has not been sent at all.
    ///
    /// Cost: one copy, or the compression where that was agreed and the message is long enough;
    /// the first compressed one allocates some 370 KiB for good.
    ///
    /// # Errors
    ///
    /// [`Closed`](Error::Closed) after a Close frame of either side, [`Io`](Error::Io) once
    /// writing failed, and [`ControlTooLong`](Error::ControlTooLong).
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        match message.into() {
            Message::Text(text) => self.send_text(&text).await,
            Message::Binary(bytes) => self.send_binary(&bytes).await,
            Message::Ping(payload) => self.send_control(OpCode::Ping, &payload).await,
            Message::Pong(payload) => self.send_control(OpCode::Pong, &payload).await,
        }
    }

    /// [Sends](Self::send) a text message without owning it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_text(&self, text: &str) -> Result<(), Error> {
        self.send_data(Kind::Text, text.as_bytes()).await
    }

    /// [Sends](Self::send) a binary message without owning it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_binary(&self, bytes: &[u8]) -> Result<(), Error> {
        self.send_data(Kind::Binary, bytes).await
    }

    /// Sends a ping; its pong will come as [`Message::Pong`] with the same payload.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn ping(&self, payload: &[u8]) -> Result<(), Error> {
        self.send_control(OpCode::Ping, payload).await
    }

    /// Waits until the operating system has taken over all that was sent.
    ///
    /// # Errors
    ///
    /// [`Io`](Error::Io) once writing failed, [`Closed`](Error::Closed) after the end.
    pub async fn flush(&self) -> Result<(), Error> {
        self.link.flushed().await
    }

    /// Closes the connection: what was sent before still goes out, then a Close frame. The
    /// [`Receiver`](crate::Receiver) ends when the peer has answered, or at the latest after the
    /// [close timeout](crate::Client::close_timeout). Does not wait. Without effect if the
    /// connection is closed already.
    ///
    /// # Errors
    ///
    /// [`ReasonTooLong`](Error::ReasonTooLong): at most 123 bytes fit.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.link.close(Some(code), reason)
    }

    /// Cuts the connection off at once, without a closing handshake.
    pub fn terminate(&self) {
        self.link.terminate();
    }

    /// The bytes that were sent and that the operating system has not taken yet, frame headers
    /// included.
    pub fn buffered_amount(&self) -> usize {
        self.link.buffered()
    }

    async fn send_data(&self, kind: Kind, payload: &[u8]) -> Result<(), Error> {
        let mut encoder = self.encoder.lock().await;
        self.link.room().await?;
        match encoder.deflate(payload) {
            Some(deflated) => self.link.push(kind.into(), true, deflated)?,
            None => self.link.push(kind.into(), false, payload)?,
        }
        encoder.deflated.clear();
        encoder.deflated.shrink_to(KEEP);
        Ok(())
    }

    async fn send_control(&self, opcode: OpCode, payload: &[u8]) -> Result<(), Error> {
        if payload.len() > throng_wire::frame::MAX_CONTROL {
            return Err(Error::ControlTooLong(payload.len()));
        }
        let _turn = self.encoder.lock().await;
        self.link.room().await?;
        self.link.push(opcode, false, payload)
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("buffered_amount", &self.buffered_amount()).finish()
    }
}

struct Encoder {
    compression: Option<Compression>,
    deflated: Vec<u8>,
}

struct Compression {
    direction: Direction,
    options: DeflateOptions,
    /// Made for the first message that is long enough.
    deflater: Option<Deflater>,
}

impl Encoder {
    /// The compressed form of `payload`, if it is to be sent so.
    fn deflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let Compression { direction, options, deflater } = self.compression.as_mut()?;
        // With 8 bits of window nothing can be compressed, see `Deflate::outgoing`.
        if payload.len() < options.threshold || direction.window_bits < 9 {
            return None;
        }
        let deflater = deflater.get_or_insert_with(|| {
            Deflater::new(options.level, options.mem_level, direction.window_bits)
        });
        if direction.takeover {
            // Now the context has it, so the peer has to see it.
            deflater.compress_with_context(payload, &mut self.deflated);
            return Some(&self.deflated);
        }
        deflater.compress(payload, &mut self.deflated);
        (self.deflated.len() < payload.len()).then_some(&self.deflated[..])
    }
}

/// How much of the compressor's output buffer stays for the next message.
const KEEP: usize = 64 * 1024;
