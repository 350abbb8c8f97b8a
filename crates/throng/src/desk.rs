//! The front's side of the rooms: a thread that passes on what the engine tells the front.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{JoinHandle, Thread};

use bytes::Bytes;
use serde::Deserialize;
use throng_engine::{Front, Note, Refresh};
use throng_hub::{RoomId, Timestamp, Unavailable};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::events::Outlet;
use crate::server::Inner;

/// Gets what the engine tells the front to whoever waits for it.
pub(crate) struct Desk {
    front: OnceLock<Front>,
    thread: OnceLock<Thread>,
    next: AtomicU64,
    state: Mutex<State>,
    /// Whose desk it is, and the runtime of the front: both known before anybody is connected.
    server: OnceLock<Weak<Inner>>,
    runtime: OnceLock<Handle>,
}

#[derive(Default)]
struct State {
    opening: HashMap<u64, oneshot::Sender<()>>,
    storing: HashMap<u64, oneshot::Sender<Stored>>,
    outlets: HashMap<u64, Outlet>,
    /// Nothing more will come.
    ended: bool,
}

/// What became of a message, and whether it is a repetition.
pub(crate) type Stored = (Result<(u64, Timestamp), Unavailable>, bool);

/// A message for event streams, made once for all of them.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) room: RoomId,
    /// Of an application message that has one.
    pub(crate) seq: Option<u64>,
    /// Where the room begins anew.
    pub(crate) begins: Option<(Box<str>, u64)>,
    /// It says who comes or goes, which not everybody may see.
    pub(crate) is_news: bool,
    /// `data: …` and an empty line.
    pub(crate) data: Bytes,
}

impl Desk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            front: OnceLock::new(),
            thread: OnceLock::new(),
            next: AtomicU64::new(1),
            state: Mutex::default(),
            server: OnceLock::new(),
            runtime: OnceLock::new(),
        })
    }

    /// There is something to do. From any thread, under any lock.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Begins to work; ends with the engine.
    pub(crate) fn start(self: &Arc<Self>, front: Front) -> std::io::Result<JoinHandle<()>> {
        let desk = Arc::clone(self);
        let own = front.clone();
        let _ = self.front.set(front);
        let thread =
            std::thread::Builder::new().name("throng-desk".into()).spawn(move || desk.run(&own))?;
        let _ = self.thread.set(thread.thread().clone());
        thread.thread().unpark(); // for what came before it was known
        Ok(thread)
    }

    /// Says whose desk it is.
    pub(crate) fn belongs_to(&self, server: &Arc<Inner>) {
        let _ = self.server.set(Arc::downgrade(server));
    }

    /// Says where tasks run; called by one.
    pub(crate) fn runs_here(&self) {
        if self.runtime.get().is_none() {
            let _ = self.runtime.set(Handle::current());
        }
    }

    pub(crate) fn front(&self) -> &Front {
        self.front.get().expect("invariant: a server is made after its desk has been started")
    }

    /// A name for somebody who asks.
    pub(crate) fn token(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for a room to be opened.
    pub(crate) fn expect_open(&self, token: u64) -> oneshot::Receiver<()> {
        let (told, tells) = oneshot::channel();
        let mut state = self.state();
        if !state.ended {
            state.opening.insert(token, told);
        }
        tells
    }

    /// Waits for a message to be stored.
    pub(crate) fn expect_stored(&self, token: u64) -> oneshot::Receiver<Stored> {
        let (told, tells) = oneshot::channel();
        let mut state = self.state();
        if !state.ended {
            state.storing.insert(token, told);
        }
        tells
    }

    /// A token for somebody who asks, forgotten with what is returned.
    pub(crate) fn ask(&self) -> Asking<'_> {
        Asking { desk: self, token: self.token() }
    }

    /// Nothing is to be waited for any more.
    pub(crate) fn forget(&self, token: u64) {
        let mut state = self.state();
        state.opening.remove(&token);
        state.storing.remove(&token);
        state.outlets.remove(&token);
    }

    pub(crate) fn add_outlet(&self, token: u64, outlet: Outlet) {
        let mut state = self.state();
        if !state.ended {
            state.outlets.insert(token, outlet);
        }
    }

    /// The number of event streams.
    pub(crate) fn streams(&self) -> usize {
        self.state().outlets.len()
    }

    fn run(&self, front: &Front) {
        // Which streams listen to which room; those that are gone are found out when something is for them.
        let mut listeners: HashMap<RoomId, Vec<u64>> = HashMap::new();
        let mut notes = Vec::new();
        loop {
            front.drain(&mut notes);
            if notes.is_empty() {
                std::thread::park();
                continue;
            }
            for note in notes.drain(..) {
                match note {
                    Note::Enter(token, room) => listeners.entry(room).or_default().push(token),
                    Note::Exit(token, room) => {
                        if let Some(tokens) = listeners.get_mut(&room) {
                            tokens.retain(|listening| *listening != token);
                            if tokens.is_empty() {
                                listeners.remove(&room);
                            }
                        }
                    }
                    Note::Deliver(room, ref frame) | Note::News(room, ref frame) => {
                        let Some(tokens) = listeners.get_mut(&room) else { continue };
                        let is_news = matches!(note, Note::News(..));
                        let event = Event { is_news, ..Event::new(room, frame.payload()) };
                        let mut state = self.state();
                        tokens.retain(|token| match state.outlets.get(token) {
                            Some(outlet) if outlet.push(&event) => true,
                            Some(_) => {
                                state.outlets.remove(token); // too slow, or gone: it ends
                                false
                            }
                            None => false,
                        });
                        if tokens.is_empty() {
                            listeners.remove(&room);
                        }
                    }
                    Note::Ready(token) => {
                        if let Some(waiting) = self.state().opening.remove(&token) {
                            let _ = waiting.send(());
                        }
                    }
                    Note::Stored(token, result, duplicate) => {
                        if let Some(waiting) = self.state().storing.remove(&token) {
                            let _ = waiting.send((result, duplicate));
                        }
                    }
                    Note::Close(token, _) => {
                        self.state().outlets.remove(&token);
                    }
                    Note::Refresh(refresh) => {
                        if let Some(server) = self.server.get().and_then(Weak::upgrade) {
                            refresh_later(server, refresh);
                        }
                    }
                    Note::Drain(slots) => {
                        for outlet in self.state().outlets.values_mut() {
                            outlet.notice.give(&slots);
                        }
                    }
                    Note::Shutdown => {
                        let mut state = self.state();
                        state.outlets.clear();
                        state.opening.clear();
                    }
                    Note::End => {
                        *self.state() = State { ended: true, ..State::default() };
                        return;
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a credential looked at that a connected client shows.
fn refresh_later(server: Arc<Inner>, refresh: Refresh) {
    let Some(runtime) = server.desk.runtime.get() else { return };
    runtime.clone().spawn(async move {
        let front = server.desk.front();
        let result = server.gate.refresh(&refresh, front).await;
        front.answer_refresh(&refresh, result);
    });
}

/// Somebody who asks. Whoever stops asking is forgotten.
pub(crate) struct Asking<'a> {
    desk: &'a Desk,
    pub(crate) token: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.desk.forget(self.token);
    }
}

impl Event {
    /// From the text of a message.
    pub(crate) fn new(room: RoomId, text: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Place {
            seq: Option<u64>,
        }
        #[derive(Deserialize)]
        struct Renewal {
            rooms: HashMap<String, Beginning>,
        }
        #[derive(Deserialize)]
        struct Beginning {
            epoch: String,
            seq: u64,
        }
        let place: Option<Place> = serde_json::from_slice(text).ok();
        // No application's message has this type.
        let renewal: Option<Renewal> = match text.starts_with(RENEWED) {
            true => serde_json::from_slice(text).ok(),
            false => None,
        };
        let begins = renewal.and_then(|renewal| renewal.rooms.into_values().next());
        let begins = begins.map(|begins| (begins.epoch.into(), begins.seq));
        let mut data = Vec::with_capacity(text.len() + 8);
        data.extend_from_slice(b"data: ");
        // Line breaks are only ever white space in JSON; in an event they would end the line.
        data.extend(text.iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            other => *other,
        }));
        data.extend_from_slice(b"\n\n");
        let seq = place.and_then(|place| place.seq);
        Self { room, seq, begins, is_news: false, data: data.into() }
    }
}

/// How a message begins that says that a room begins anew.
const RENEWED: &[u8] = br#"{"type":"resumed""#;
