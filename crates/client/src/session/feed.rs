//! The events of a room on their way from the session's task to who reads them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::session::event::RoomEvent;

/// A queue that the core keeps bounded: it puts in what there is credit for, and the reader
/// gives credit back with what it takes out. One reader.
pub(crate) struct Feed {
    state: Mutex<State>,
    /// For the reader: there is something to take, or never will be.
    ready: Notify,
    /// For the session's task: there is credit, or nobody reads any more.
    returned: Arc<Notify>,
    capacity: usize,
}

#[derive(Default)]
struct State {
    events: VecDeque<RoomEvent>,
    /// The credit of what was taken out and not given back.
    taken: usize,
    /// The core waits for the queue to be empty.
    starved: bool,
    ended: bool,
    abandoned: bool,
}

impl Feed {
    /// For events worth `capacity` bytes. `returned` is told when the task has something to do.
    pub(crate) fn new(capacity: usize, returned: Arc<Notify>) -> Self {
        Self { state: Mutex::default(), ready: Notify::new(), returned, capacity }
    }

    // For the session's task.

    /// Adds an event. The core has counted it.
    pub(crate) fn put(&self, event: RoomEvent) {
        let mut state = self.state();
        state.ended |= matches!(event, RoomEvent::Ended(_));
        state.events.push_back(event);
        drop(state);
        self.ready.notify_one();
    }

    /// Nothing more comes.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.ready.notify_one();
    }

    /// Asks for credit as soon as the queue is empty.
    pub(crate) fn set_starved(&self) {
        let mut state = self.state();
        state.starved = true;
        if state.has_credit(self.capacity) {
            self.returned.notify_one();
        }
    }

    /// The credit to grant the core.
    pub(crate) fn take_credit(&self) -> usize {
        let mut state = self.state();
        if !state.has_credit(self.capacity) {
            return 0;
        }
        state.starved = false;
        std::mem::take(&mut state.taken)
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    // For the reader.

    /// The next event; `None` after the last. Dropping the future loses nothing.
    pub(crate) async fn next(&self) -> Option<RoomEvent> {
        loop {
            {
                let mut state = self.state();
                if let Some(event) = state.events.pop_front() {
                    state.taken = state.taken.saturating_add(event.cost());
                    if state.has_credit(self.capacity) {
                        self.returned.notify_one();
                    }
                    return Some(event);
                }
                if state.ended {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Nobody reads any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.abandoned = true;
        state.events = VecDeque::new();
        drop(state);
        self.returned.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Credit is given back in large pieces, so that a reader that keeps up does not wake the
    /// task for every event.
    fn has_credit(&self, capacity: usize) -> bool {
        self.taken > 0 && (self.taken >= capacity / 2 || (self.starved && self.events.is_empty()))
    }
}
