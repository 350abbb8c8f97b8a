//! Keys that an issuer publishes (JWKS, RFC 7517): kept, and fetched again when they are old or not enough.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use http::Uri;
use tokio::sync::watch;
use tokio::time::Instant;

use super::BadKeys;
use super::alarm::Alarm;
use super::fetch::{Fetch, Question};
use super::keys::Keys;
use crate::config::Algorithms;

/// The keys at a URL. While it cannot be reached, those that it had last are good.
pub(super) struct Source {
    url: Uri,
    algorithms: Algorithms,
    fetch: Fetch,
    pace: Pace,
    keys: RwLock<Arc<Keys>>,
    state: Mutex<State>,
    alarm: Alarm,
}

/// How often the keys are fetched.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Without a reason.
    pub(super) refresh: Duration,
    /// At most, and after a failure.
    pub(super) again: Duration,
    /// How long it may take.
    pub(super) timeout: Duration,
}

#[derive(Default)]
struct State {
    /// When the last attempt began.
    began: Option<Instant>,
    /// Whether the last attempt brought keys.
    good: bool,
    /// Closed when the attempt under way is over.
    under_way: Option<watch::Receiver<()>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(300),
            again: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Source {
    /// Begins to fetch the keys, now and for as long as somebody holds the source.
    pub(super) fn start(
        url: &str,
        algorithms: Algorithms,
        fetch: Fetch,
        pace: Pace,
    ) -> Result<Arc<Self>, BadKeys> {
        let url = url.parse().map_err(|_| BadKeys::new("jwt.jwks_url: this is no URL"))?;
        let (keys, state, alarm) = Default::default();
        let source = Arc::new(Self { url, algorithms, fetch, pace, keys, state, alarm });
        tokio::spawn(keep_fresh(Arc::downgrade(&source)));
        Ok(source)
    }

    /// Those that are known.
    pub(super) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the keys are no older than [`Pace::again`], or cannot be had; says which.
    ///
    /// However many ask, there is one attempt at a time, and one in so long.
    pub(super) async fn refreshed(self: &Arc<Self>) -> bool {
        if let Some(mut under_way) = self.attempt() {
            // It never changes; it is closed.
            let _ = under_way.changed().await;
        }
        self.lock().good
    }

    /// Begins an attempt, unless the last one began too short a time ago; returns the one under way.
    fn attempt(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let mut state = self.lock();
        // One that was cut off is not waited for.
        if let Some(under_way) = state.under_way.take_if(|one| one.has_changed().is_ok()) {
            state.under_way = Some(under_way.clone());
            return Some(under_way);
        }
        if state.began.is_some_and(|began| began.elapsed() < self.pace.again) {
            return None;
        }
        let (guard, under_way) = watch::channel(());
        state.began = Some(Instant::now());
        state.under_way = Some(under_way.clone());
        let source = Arc::clone(self);
        // A task of its own: whoever asked may go away.
        tokio::spawn(async move {
            let good = source.load().await;
            source.lock().good = good;
            drop(guard);
        });
        Some(under_way)
    }

    async fn load(&self) -> bool {
        let question = Question::get(&self.url, MAX_SIZE);
        let what = match self.fetch.ask(&question, Instant::now() + self.pace.timeout).await {
            Err(error) => error.to_string(),
            Ok(answer) if !answer.status.is_success() => {
                format!("it answers {}", answer.status.as_u16())
            }
            Ok(answer) => {
                let mut keys = Keys::default();
                match keys.add_jwks(&answer.body, self.algorithms.as_slice()) {
                    Some(()) => {
                        if keys.len() == 0 {
                            tracing::warn!("the JWKS has no key for jwt.algorithms");
                        }
                        let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                        *known = Arc::new(keys);
                        return true;
                    }
                    None => "the answer is no JWKS".to_owned(),
                }
            }
        };
        if let Some(silent) = self.alarm.sound(Instant::now().into_std()) {
            let kept = self.keys().len();
            tracing::warn!(what, kept, silent, "cannot fetch the JWKS; the keys known are kept");
        }
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep_fresh(source: Weak<Source>) {
    loop {
        let Some(held) = source.upgrade() else { return };
        let good = held.refreshed().await;
        let pause = if good { held.pace.refresh } else { held.pace.again };
        drop(held);
        tokio::time::sleep(pause).await;
    }
}

/// Of a JWKS, in bytes.
const MAX_SIZE: usize = 256 * 1024;
