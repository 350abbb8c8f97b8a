//! What the connections of a thread share to decode.

use crate::deflate::Inflater;
use crate::frame::MAX_CONTROL;

use super::unfinished::Unfinished;

/// Memory that a thread lends to the [decoders](crate::Decoder) of its connections.
///
/// It holds the payload of the last event that was not whole in the received bytes, and, once
/// something compressed has come, an inflate context (some 45 KiB).
#[derive(Debug)]
pub struct Scratch {
    /// The last message that came in parts.
    pub(super) message: Vec<u8>,
    /// The last control frame that came in parts.
    pub(super) control: [u8; MAX_CONTROL],
    pub(super) inflater: Option<Inflater>,
    spare: Option<Box<Unfinished>>,
}

impl Scratch {
    /// Allocates nothing.
    pub fn new() -> Self {
        Self { message: Vec::new(), control: [0; MAX_CONTROL], inflater: None, spare: None }
    }

    /// Gives back what large messages made it allocate, above 64 KiB each for the last message
    /// and the last decompressed one. To be called now and then, when there is time.
    pub fn trim(&mut self) {
        if self.message.capacity() > KEEP {
            self.message = Vec::new();
        }
        if let Some(inflater) = &mut self.inflater {
            inflater.trim(KEEP);
        }
    }

    /// What a connection's incomplete frame or message is kept in; a new one if it has none.
    pub(super) fn lend<'a>(
        &mut self,
        unfinished: &'a mut Option<Box<Unfinished>>,
    ) -> &'a mut Unfinished {
        unfinished.get_or_insert_with(|| self.spare.take().unwrap_or_default())
    }

    /// Nothing of one connection is to reach another, so it is emptied, whatever is in it.
    pub(super) fn take_back(&mut self, mut unfinished: Box<Unfinished>) {
        unfinished.clear();
        self.spare = Some(unfinished);
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

const KEEP: usize = 64 << 10;
