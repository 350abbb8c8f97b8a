//! Emptying a server without a rush: everybody gets a time of their own to go and come back elsewhere.

use std::time::{Duration, Instant};

use throng_engine::{Drain, Slots};
use throng_protocol::push;
use tokio::sync::oneshot;

use crate::server::Server;

/// How far a drain is, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Draining {
    /// Connections and event streams when it began.
    pub total: usize,
    /// Those that have not gone yet.
    pub left: usize,
    /// Over how long their slots are spread.
    pub spread: Duration,
    /// How long ago it began.
    pub since: Duration,
    /// In how long the last one is closed; zero when that is past.
    pub ends_in: Duration,
}

impl Server {
    /// Begins to send everybody away, for another server to take them: new connections are refused with `503` from
    /// here on, and whoever is here gets a slot of its own within `spread`, evenly spaced. Clients of the typed
    /// protocol are told at once (`reconnect`) and leave by themselves in their slots; those that do not are closed
    /// 2 s later, everybody else in the slot, with `1012`. Event streams end in theirs.
    ///
    /// Without a `spread` everybody is closed at once, and the slots are for coming back: from 1 s on, a thousand a
    /// second, within 30 s at most.
    ///
    /// Returns at once; [`Server::draining`] tells how far it is. A second call changes nothing. The server goes on
    /// without connections until [`Server::shutdown`], or [`Server::undrain`].
    pub fn drain(&self, spread: Duration) -> Draining {
        self.send_away(spread, false)
    }

    /// The same for a server that is about to end: [`Server::undrain`] changes nothing from here on. A drain that has
    /// begun goes on as it does.
    pub fn drain_for_good(&self, spread: Duration) -> Draining {
        self.send_away(spread, true)
    }

    /// Takes a drain back: new connections are accepted again. Clients that were told their slots leave in them, or are
    /// closed. Whether nobody is being sent away now, which is not so when the server is about to end.
    pub fn undrain(&self) -> bool {
        self.inner.engine.undrain()
    }

    fn send_away(&self, spread: Duration, for_good: bool) -> Draining {
        let engine = &self.inner.engine;
        let slots = engine.drain(match spread.is_zero() {
            false => Drain { first: Duration::ZERO, spread, linger: Some(LINGER), for_good },
            true => {
                let one_by_one = BACK_EACH.saturating_mul(engine.admission().in_use() as u32);
                let spread = one_by_one.min(BACK_LAST);
                Drain { first: BACK_FIRST, spread, linger: None, for_good }
            }
        });
        self.progress(&slots)
    }

    /// How far the drain is, if one has begun and was not taken back.
    pub fn draining(&self) -> Option<Draining> {
        self.inner.engine.draining().map(|slots| self.progress(&slots))
    }

    fn progress(&self, slots: &Slots) -> Draining {
        Draining {
            total: slots.total(),
            left: self.inner.engine.admission().in_use(),
            spread: slots.drain().spread,
            since: slots.began().elapsed(),
            ends_in: slots.ends().saturating_duration_since(Instant::now()),
        }
    }

    /// Returns when the drain has ended: everybody is gone, or should be; or it was taken back. At once when none has begun.
    pub async fn drained(&self) {
        while self.draining().is_some_and(|now| now.left > 0 && !now.ends_in.is_zero()) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// When an event stream has to go. One half is told, the other half waits.
#[derive(Debug)]
pub(crate) struct Notice(Option<oneshot::Sender<Slot>>);

/// A slot, and whether the stream goes on until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    after: Duration,
    stays: bool,
}

impl Notice {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Slot>) {
        let (told, tells) = oneshot::channel();
        (Self(Some(told)), tells)
    }

    /// Gives the stream the next slot, unless it has one.
    pub(crate) fn give(&mut self, slots: &Slots) {
        if let Some(told) = self.0.take() {
            let stays = slots.drain().linger.is_some();
            let _ = told.send(Slot { after: slots.take(), stays });
        }
    }
}

impl Slot {
    /// When the stream ends.
    pub(crate) fn ends(self) -> tokio::time::Instant {
        let stays = if self.stays { self.after } else { Duration::ZERO };
        tokio::time::Instant::now() + stays
    }

    /// What is said at once: the slot, for clients that understand; and for browsers, which only know how long they
    /// wait behind the end of a stream, that.
    pub(crate) fn notice(self) -> Vec<u8> {
        let after = self.after.as_millis() as u64;
        let mut text = match self.stays {
            true => Vec::new(),
            false => format!("retry: {after}\n").into_bytes(),
        };
        text.extend_from_slice(b"data: ");
        push::reconnect(&mut text, after);
        text.extend_from_slice(b"\n\n");
        text
    }

    /// What is said at the end: come back soon, it is your turn.
    pub(crate) fn farewell(self) -> &'static [u8] {
        if self.stays { b"retry: 250\n\n" } else { b"" }
    }
}

/// How long after its slot a client may leave by itself: its clock and the network take their time.
const LINGER: Duration = Duration::from_secs(2);
/// A server is back after a second, if somebody starts it again.
const BACK_FIRST: Duration = Duration::from_secs(1);
/// And lets a thousand in within a second.
const BACK_EACH: Duration = Duration::from_millis(1);
/// But nobody waits longer than this.
const BACK_LAST: Duration = Duration::from_secs(29);
/// How often it is looked whether everybody is gone.
const LOOK: Duration = Duration::from_millis(20);
