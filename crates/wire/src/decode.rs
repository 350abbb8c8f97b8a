//! Received bytes become messages (RFC 6455 §5, §6.2; RFC 7692 §6, §7.2.2).

mod scratch;
mod unfinished;

use crate::close::CloseFrame;
use crate::deflate::History;
use crate::error::ProtocolError;
use crate::extension::{Deflate, Direction};
use crate::frame::{Header, Kind, MAX_HEADER, OpCode, Role};
use crate::mask;

pub use self::scratch::Scratch;
use self::unfinished::{Message, Stage, Unfinished};

/// How much a peer may send. Checked on a frame's header, before any of its payload is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest payload of one data frame, in bytes as transferred. Default 16 MiB. Over:
    /// [`FrameTooBig`](ProtocolError::FrameTooBig). What is compressed may be longer by a
    /// thousandth and 64 bytes, which is what deflate adds to data it can't compress.
    pub max_frame: usize,
    /// The longest message in bytes, decompressed; the same allowance holds for what is
    /// transferred. Default 16 MiB. Over: [`MessageTooBig`](ProtocolError::MessageTooBig).
    pub max_message: usize,
    /// The most frames to one message; empty ones count. Default 131,072. Over:
    /// [`TooManyFragments`](ProtocolError::TooManyFragments).
    pub max_fragments: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_frame: 16 << 20, max_message: 16 << 20, max_fragments: 131_072 }
    }
}

/// Turns the bytes that a peer sends into [`Event`]s. One per connection.
///
/// It is three words, and owns heap memory only while a frame or message is incomplete: the
/// bytes received of it (at most twice as many, never the length announced) and some 200 more.
/// Where the peer compresses with context takeover, it also keeps the window it refers to, at
/// most 32 KiB, once something compressed has come.
#[derive(Debug)]
pub struct Decoder {
    unfinished: Option<Box<Unfinished>>,
    history: Option<Box<History>>,
    slivers: u32,
    incoming: Option<Direction>,
    role: Role,
}

impl Decoder {
    /// A decoder for a fresh connection on which we have `role`, and `deflate` was agreed in the
    /// handshake. Allocates nothing.
    pub fn new(role: Role, deflate: Option<Deflate>) -> Self {
        let incoming = deflate.map(|deflate| deflate.incoming(role));
        Self { unfinished: None, history: None, slivers: 0, incoming, role }
    }

    /// Handles the next bytes received, up to the first event in them.
    ///
    /// [`Step::consumed`] tells how many bytes of `chunk` were used; call again with the rest
    /// until there is none. `event: None` means that all of `chunk` was used and more is needed.
    ///
    /// Fails if the peer breaks the protocol or goes over `limits`. The connection has to fail
    /// then (see [`ProtocolError`]) and the decoder must not be used any more; what it had
    /// gathered is freed. The same holds, without an error, after [`Event::Close`].
    ///
    /// Cost: a data frame that is whole in `chunk` is unmasked there in one pass, without
    /// allocation or copy. Other frames are copied once, as their bytes come.
    #[inline]
    pub fn next<'a>(
        &mut self,
        limits: &Limits,
        chunk: &'a mut [u8],
        scratch: &'a mut Scratch,
    ) -> Result<Step<'a>, ProtocolError> {
        match self.whole_message(limits, chunk) {
            Some(Whole { kind, key, start, end }) => {
                let payload = &mut chunk[start..end];
                clear(self.role, kind, key, payload)?;
                Ok(Step { consumed: end, event: Some(Event::Message { kind, payload }) })
            }
            None => self.resume(limits, chunk, scratch),
        }
    }

    /// The bytes of heap memory that an incomplete frame or message takes.
    pub fn buffered(&self) -> usize {
        self.unfinished.as_deref().map_or(0, Unfinished::size)
    }

    /// The bytes of heap memory that are kept for the peer at the moment: what is incomplete, and the
    /// window that its next message may refer to.
    #[inline]
    pub fn held(&self) -> usize {
        self.buffered() + self.history.as_deref().map_or(0, History::capacity)
    }

    /// How many frames since the last call were a part of a message, not its last, of less than 256
    /// bytes: so small that they cost more than they carry. Sets the count to 0.
    #[inline]
    pub fn take_slivers(&mut self) -> u32 {
        std::mem::take(&mut self.slivers)
    }

    /// Whether nothing is incomplete: the next byte begins a message or control frame, and
    /// [`buffered`](Self::buffered) is 0.
    pub fn is_idle(&self) -> bool {
        self.unfinished.is_none()
    }

    /// The common case: `chunk` begins with a complete, uncompressed, unfragmented message of
    /// less than 64 KiB, and it breaks no rule.
    #[inline]
    fn whole_message(&self, limits: &Limits, chunk: &[u8]) -> Option<Whole> {
        if self.unfinished.is_some() {
            return None;
        }
        let &[first, second, ref rest @ ..] = chunk else { return None };
        let kind = match first {
            0x81 => Kind::Text,
            0x82 => Kind::Binary,
            _ => return None,
        };
        let (len, extended) = match (self.role, second) {
            (Role::Server, 0x80..0xfe) => (usize::from(second & 0x7f), 0),
            (Role::Client, 0x00..0x7e) => (usize::from(second), 0),
            (Role::Server, 0xfe) | (Role::Client, 0x7e) => {
                match usize::from(u16::from_be_bytes(*rest.first_chunk()?)) {
                    0..126 => return None,
                    len => (len, 2),
                }
            }
            _ => return None,
        };
        let rest = &rest[extended..];
        let (key, start) = match self.role {
            Role::Server => (*rest.first_chunk()?, 6 + extended),
            Role::Client => ([0; 4], 2 + extended),
        };
        let end = start + len;
        (end <= chunk.len() && len <= limits.max_frame && len <= limits.max_message)
            .then_some(Whole { kind, key, start, end })
    }

    /// Everything else.
    #[inline(never)]
    fn resume<'a>(
        &mut self,
        limits: &Limits,
        chunk: &'a mut [u8],
        scratch: &'a mut Scratch,
    ) -> Result<Step<'a>, ProtocolError> {
        let step = self.resume_frame(limits, chunk, scratch);
        if step.is_err() {
            // There may be a message under way that a control frame interrupted.
            self.unfinished = None;
            self.history = None;
        }
        step
    }

    fn resume_frame<'a>(
        &mut self,
        limits: &Limits,
        chunk: &'a mut [u8],
        scratch: &'a mut Scratch,
    ) -> Result<Step<'a>, ProtocolError> {
        let mut unfinished = self.unfinished.take();
        let mut slivers = 0;
        let (found, consumed) =
            self.gather(limits, chunk, scratch, &mut unfinished, &mut slivers)?;
        self.slivers = self.slivers.saturating_add(slivers);
        let event = match found {
            Found::Nothing => {
                self.unfinished = unfinished;
                return Ok(Step { consumed, event: None });
            }
            Found::Control { opcode, start } => {
                self.settle(unfinished, scratch);
                control(opcode, &chunk[start..consumed])?
            }
            Found::KeptControl { opcode } => {
                let len = unfinished.as_mut().map_or(0, |u| u.take_kept(&mut scratch.control));
                self.settle(unfinished, scratch);
                control(opcode, &scratch.control[..len])?
            }
            Found::Whole { kind, compressed, key, start } => {
                self.settle(unfinished, scratch);
                let payload = &mut chunk[start..consumed];
                if compressed {
                    mask::apply(payload, key);
                    let payload = self.inflate(limits, kind, payload, scratch)?;
                    Event::Message { kind, payload }
                } else {
                    clear(self.role, kind, key, payload)?;
                    Event::Message { kind, payload }
                }
            }
            Found::Assembled { kind, compressed } => {
                scratch.message = unfinished.as_mut().map(|u| u.finish()).unwrap_or_default();
                self.settle(unfinished, scratch);
                let payload = if compressed {
                    let data = std::mem::take(&mut scratch.message);
                    self.inflate(limits, kind, &data, scratch)?
                } else {
                    &mut scratch.message[..]
                };
                Event::Message { kind, payload }
            }
        };
        Ok(Step { consumed, event: Some(event) })
    }

    /// Reads frames until there is an event, or no more of `chunk`. What is incomplete at the
    /// end of `chunk` is in `unfinished` afterwards.
    fn gather(
        &self,
        limits: &Limits,
        chunk: &mut [u8],
        scratch: &mut Scratch,
        unfinished: &mut Option<Box<Unfinished>>,
        slivers: &mut u32,
    ) -> Result<(Found, usize), ProtocolError> {
        let mut at = 0;
        loop {
            let rest = &mut chunk[at..];
            let stage = unfinished.as_ref().map_or(Stage::Header { kept: 0 }, |u| u.stage);
            match stage {
                Stage::Header { kept } => {
                    let mut bytes = [0; MAX_HEADER];
                    let more = rest.len().min(MAX_HEADER - kept);
                    let known = kept + more;
                    if let Some(unfinished) = &unfinished {
                        bytes[..kept].copy_from_slice(&unfinished.kept[..kept]);
                    }
                    bytes[kept..known].copy_from_slice(&rest[..more]);
                    let Some(header) = Header::parse(&bytes[..known], self.role)? else {
                        if known > 0 {
                            let unfinished = scratch.lend(unfinished);
                            unfinished.kept[..known].copy_from_slice(&bytes[..known]);
                            unfinished.stage = Stage::Header { kept: known };
                        }
                        return Ok((Found::Nothing, chunk.len()));
                    };
                    let message = unfinished.as_deref().and_then(|u| u.message.as_ref());
                    let gathered = unfinished.as_deref().map_or(0, |u| u.buffer.len());
                    let len = self.admit(limits, &header, message, gathered)?;
                    at += header.size - kept;
                    if let Some(unfinished) = unfinished {
                        unfinished.stage = Stage::Header { kept: 0 };
                    }
                    let Header { fin, opcode, key, .. } = header;
                    let whole = len <= chunk.len() - at;
                    *slivers += u32::from(!fin && len < SLIVER);
                    match opcode {
                        OpCode::Close | OpCode::Ping | OpCode::Pong if whole => {
                            mask::apply(&mut chunk[at..at + len], key);
                            return Ok((Found::Control { opcode, start: at }, at + len));
                        }
                        OpCode::Close | OpCode::Ping | OpCode::Pong => {
                            let stage = Stage::Control { opcode, key, len, kept: 0 };
                            scratch.lend(unfinished).stage = stage;
                        }
                        OpCode::Text | OpCode::Binary => {
                            let kind =
                                if opcode == OpCode::Text { Kind::Text } else { Kind::Binary };
                            let compressed = header.rsv1;
                            if fin && whole {
                                let found = Found::Whole { kind, compressed, key, start: at };
                                return Ok((found, at + len));
                            }
                            let unfinished = scratch.lend(unfinished);
                            unfinished.message = Some(Message::new(kind, compressed));
                            unfinished.stage = Stage::Data { fin, key, remaining: len };
                        }
                        OpCode::Continuation => {
                            let unfinished = scratch.lend(unfinished);
                            if let Some(message) = &mut unfinished.message {
                                message.fragments += 1;
                            }
                            unfinished.stage = Stage::Data { fin, key, remaining: len };
                        }
                    }
                }
                Stage::Control { opcode, key, len, kept } => {
                    let unfinished = scratch.lend(unfinished);
                    let more = rest.len().min(len - kept);
                    let bytes = &mut unfinished.kept[kept..kept + more];
                    bytes.copy_from_slice(&rest[..more]);
                    mask::apply(bytes, mask::rotate(key, kept));
                    at += more;
                    unfinished.stage = Stage::Control { opcode, key, len, kept: kept + more };
                    if kept + more < len {
                        return Ok((Found::Nothing, at));
                    }
                    return Ok((Found::KeptControl { opcode }, at));
                }
                Stage::Data { fin, key, remaining } => {
                    let unfinished = scratch.lend(unfinished);
                    let more = rest.len().min(remaining);
                    let most = if fin { unfinished.buffer.len() + remaining } else { usize::MAX };
                    unfinished.append(self.role, &mut rest[..more], key, most)?;
                    at += more;
                    let remaining = remaining - more;
                    unfinished.stage = Stage::Data { fin, key: mask::rotate(key, more), remaining };
                    if remaining > 0 {
                        return Ok((Found::Nothing, at));
                    }
                    unfinished.stage = Stage::Header { kept: 0 };
                    if fin && let Some(message) = &unfinished.message {
                        let (kind, compressed) = (message.kind, message.compressed);
                        if !unfinished.is_valid() {
                            return Err(ProtocolError::Utf8);
                        }
                        return Ok((Found::Assembled { kind, compressed }, at));
                    }
                }
            }
        }
    }

    /// Checks a header against what came before it and against the limits. The payload's length.
    fn admit(
        &self,
        limits: &Limits,
        header: &Header,
        message: Option<&Message>,
        gathered: usize,
    ) -> Result<usize, ProtocolError> {
        let starts = matches!(header.opcode, OpCode::Text | OpCode::Binary);
        if header.rsv1 && !(starts && self.incoming.is_some()) {
            return Err(ProtocolError::ReservedBits);
        }
        if header.opcode.is_control() {
            return Ok(header.len as usize);
        }
        match message {
            Some(_) if starts => return Err(ProtocolError::InterleavedMessage),
            None if !starts => return Err(ProtocolError::UnexpectedContinuation),
            Some(message) if message.fragments >= limits.max_fragments => {
                return Err(ProtocolError::TooManyFragments { limit: limits.max_fragments });
            }
            _ => {}
        }
        // The limits are of what the application gets; the inflater holds it to them. What can't
        // be compressed is a little longer as it travels.
        let compressed = header.rsv1 || message.is_some_and(|message| message.compressed);
        let most = |limit: usize| match compressed {
            true => limit.saturating_add(limit / 1024 + 64),
            false => limit,
        };
        let too_long =
            ProtocolError::FrameTooBig { announced: header.len, limit: limits.max_frame };
        let len = usize::try_from(header.len).map_err(|_| too_long)?;
        if len > most(limits.max_frame) {
            return Err(too_long);
        }
        if len > most(limits.max_message).saturating_sub(gathered) {
            return Err(ProtocolError::MessageTooBig { limit: limits.max_message });
        }
        Ok(len)
    }

    /// A complete event is about to be reported: keeps what belongs to a message still under
    /// way, and gives back the rest.
    fn settle(&mut self, unfinished: Option<Box<Unfinished>>, scratch: &mut Scratch) {
        match unfinished {
            Some(unfinished) if unfinished.message.is_some() => self.unfinished = Some(unfinished),
            Some(unfinished) => scratch.take_back(unfinished),
            None => {}
        }
    }

    fn inflate<'a>(
        &mut self,
        limits: &Limits,
        kind: Kind,
        data: &[u8],
        scratch: &'a mut Scratch,
    ) -> Result<&'a mut [u8], ProtocolError> {
        let history = match self.incoming {
            Some(Direction { takeover: true, window_bits }) => {
                Some(&mut **self.history.get_or_insert_with(|| Box::new(History::new(window_bits))))
            }
            _ => None,
        };
        let inflater = scratch.inflater.get_or_insert_default();
        let payload = inflater.inflate(data, history, limits.max_message)?;
        if kind == Kind::Text && simdutf8::basic::from_utf8(payload).is_err() {
            return Err(ProtocolError::Utf8);
        }
        Ok(payload)
    }
}

/// How far one call of [`Decoder::next`] came.
#[derive(Debug)]
pub struct Step<'a> {
    /// The bytes of the chunk that were used.
    pub consumed: usize,
    /// What they amount to; `None` if the chunk ended first.
    pub event: Option<Event<'a>>,
}

/// The largest frame that counts for [`Decoder::take_slivers`] is smaller than this.
const SLIVER: usize = 256;

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message, whole, unmasked and decompressed.
    Message {
        /// Text or binary.
        kind: Kind,
        /// Valid UTF-8 if it is text. Mutable, so that it can be handled in place; it is part of
        /// the chunk if the frame was whole in it, else of the [`Scratch`].
        payload: &'a mut [u8],
    },
    /// To be answered with a pong of the same payload (RFC 6455 §5.5.2).
    Ping(&'a [u8]),
    /// The answer to a ping, or unasked for (RFC 6455 §5.5.3).
    Pong(&'a [u8]),
    /// The peer closes; what follows has no meaning (RFC 6455 §5.5.1). `None` if it said nothing.
    Close(Option<CloseFrame<'a>>),
}

/// Where [`Decoder::whole_message`] found one.
struct Whole {
    kind: Kind,
    key: [u8; 4],
    start: usize,
    end: usize,
}

/// What [`Decoder::gather`] came to. Those with a `start` are in the chunk and end where it was
/// consumed to.
enum Found {
    Nothing,
    /// Unmasked already.
    Control {
        opcode: OpCode,
        start: usize,
    },
    /// In [`Unfinished::kept`].
    KeptControl {
        opcode: OpCode,
    },
    /// A message of one frame.
    Whole {
        kind: Kind,
        compressed: bool,
        key: [u8; 4],
        start: usize,
    },
    /// In [`Unfinished::buffer`], checked.
    Assembled {
        kind: Kind,
        compressed: bool,
    },
}

/// Unmasks a whole payload and checks its encoding.
#[inline]
fn clear(role: Role, kind: Kind, key: [u8; 4], payload: &mut [u8]) -> Result<(), ProtocolError> {
    let ascii = match role {
        Role::Server => mask::apply_ascii(payload, key),
        Role::Client => kind == Kind::Binary || payload.is_ascii(),
    };
    if kind == Kind::Text && !ascii && simdutf8::basic::from_utf8(payload).is_err() {
        return Err(ProtocolError::Utf8);
    }
    Ok(())
}

fn control(opcode: OpCode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    Ok(match opcode {
        OpCode::Ping => Event::Ping(payload),
        OpCode::Pong => Event::Pong(payload),
        _ => Event::Close(CloseFrame::parse(payload)?),
    })
}
