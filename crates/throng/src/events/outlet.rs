//! Where events wait for the stream that sends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use throng_hub::Budget;
use tokio::sync::{mpsc, oneshot};

use crate::desk::Event;
use crate::drain::{Notice, Slot};

/// Where live events wait for the stream that sends them. Bounded by bytes, which count for the server's
/// budget, too.
#[derive(Debug)]
pub(crate) struct Outlet {
    events: mpsc::UnboundedSender<Charged>,
    waiting: Arc<AtomicUsize>,
    budget: Arc<Budget>,
    /// Tells the stream when it has to go.
    pub(crate) notice: Notice,
    _alive: oneshot::Sender<()>,
}

impl Outlet {
    /// With its other end, with what tells of a slot, and with what ends when the outlet is gone.
    pub(super) fn new(
        budget: &Arc<Budget>,
    ) -> (Self, Intake, oneshot::Receiver<Slot>, oneshot::Receiver<()>) {
        let (events, comes) = mpsc::unbounded_channel();
        let (alive, gone) = oneshot::channel();
        let (notice, slot) = Notice::new();
        let (waiting, budget) = (Arc::default(), Arc::clone(budget));
        (Self { events, waiting, budget, notice, _alive: alive }, Intake(comes), slot, gone)
    }

    /// Adds an event. `false` when there is no room for it, or nobody there.
    pub(crate) fn push(&self, event: &Event) -> bool {
        if self.waiting.load(Ordering::Relaxed) > OUTLET || self.budget.is_spent() {
            return false;
        }
        let (waiting, budget) = (Arc::clone(&self.waiting), Arc::clone(&self.budget));
        self.events.send(Charged::new(event.clone(), waiting, budget)).is_ok()
    }
}

/// The other end of an [`Outlet`].
pub(super) struct Intake(mpsc::UnboundedReceiver<Charged>);

impl Intake {
    /// The next event; `None` when the outlet is gone.
    pub(super) async fn next(&mut self) -> Option<Event> {
        Some(self.0.recv().await?.event.clone())
    }
}

/// An event that waits, for as long as it does.
#[derive(Debug)]
struct Charged {
    event: Event,
    waiting: Arc<AtomicUsize>,
    budget: Arc<Budget>,
}

impl Charged {
    fn new(event: Event, waiting: Arc<AtomicUsize>, budget: Arc<Budget>) -> Self {
        let cost = event.data.len() + EVENT_COST;
        waiting.fetch_add(cost, Ordering::Relaxed);
        budget.change(0, cost);
        Self { event, waiting, budget }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        let cost = self.event.data.len() + EVENT_COST;
        self.waiting.fetch_sub(cost, Ordering::Relaxed);
        self.budget.change(cost, 0);
    }
}

/// Bytes of events that may wait for a stream.
const OUTLET: usize = 1 << 20;
/// What an event costs beside its text.
const EVENT_COST: usize = 96;
