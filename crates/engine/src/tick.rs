//! What a worker lends to the connection it is handling.

use std::sync::Arc;

use throng_hub::Budget;
use throng_wire::{DeflateOptions, Deflater, Scratch};

use crate::stats::Counters;
use crate::wheel::Coarse;

/// The buffers of one worker, used by one connection at a time: why an idle connection owns none.
pub(crate) struct Tick {
    /// Where sockets are read into.
    pub(crate) read: Box<[u8]>,
    /// Where messages that did not arrive whole are put together, and inflated.
    pub(crate) scratch: Scratch,
    /// What goes out.
    pub(crate) out: Out,
}

/// The outgoing half of [`Tick`].
pub(crate) struct Out {
    /// What the connection being handled has answered so far; leaves in one write.
    pub(crate) cork: Vec<u8>,
    pub(crate) deflaters: Deflaters,
    pub(crate) counters: Arc<Counters>,
    pub(crate) coarse: Coarse,
    /// The time of the turn, in nanoseconds since the process started.
    pub(crate) now: u64,
    /// What may be kept for all connections together.
    pub(crate) budget: Arc<Budget>,
    /// There is a pong in the cork.
    pub(crate) pong_corked: bool,
    pub(crate) worker: usize,
    /// Where compressed payloads are made.
    pub(crate) squeezed: Vec<u8>,
}

/// One read takes at most this much. Large, because it is paid for once per worker, and a
/// message that fits is handled in place.
pub(crate) const READ_BUFFER: usize = 256 << 10;

impl Tick {
    pub(crate) fn new(worker: usize, counters: Arc<Counters>, budget: Arc<Budget>) -> Self {
        Self {
            read: vec![0; READ_BUFFER].into_boxed_slice(),
            scratch: Scratch::new(),
            out: Out {
                cork: Vec::new(),
                deflaters: Deflaters::default(),
                counters,
                coarse: 0,
                now: 0,
                budget,
                pong_corked: false,
                worker,
                squeezed: Vec::new(),
            },
        }
    }

    /// Gives back what a rare large message made grow. Called when the worker has nothing to do.
    pub(crate) fn trim(&mut self) {
        const KEEP: usize = 256 << 10;
        self.scratch.trim();
        for buffer in [&mut self.out.cork, &mut self.out.squeezed] {
            if buffer.capacity() > KEEP {
                *buffer = Vec::new();
            }
        }
    }
}

/// Compression contexts of a worker: one for each setting in use, made on first need. A context
/// weighs some 260 KiB, a connection's own only exists where takeover was agreed.
#[derive(Default)]
pub(crate) struct Deflaters(Vec<((u8, u8, u8), Deflater)>);

impl Deflaters {
    /// The shared context for these options and this window.
    pub(crate) fn get(&mut self, options: &DeflateOptions, window_bits: u8) -> &mut Deflater {
        let setting = (options.level, options.mem_level, window_bits);
        let at = self.0.iter().position(|(has, _)| *has == setting).unwrap_or_else(|| {
            let new = Deflater::new(options.level, options.mem_level, window_bits);
            self.0.push((setting, new));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}
