use std::time::Duration;

use tokio::time::Instant;

use crate::redis::RedisServer;
use crate::redis::link::Link;

/// A server, as far as it is known.
pub(super) struct Place {
    pub(super) link: Link,
    pub(super) address: String,
    /// Commands reach it.
    pub(super) up: bool,
    /// Its channels can be heard.
    pub(super) ears: bool,
    /// Since when it is up, or down.
    pub(super) since: Instant,
    pub(super) trouble: Option<String>,
    /// What it last said no with, and since when that has been told.
    refusal: Option<(Instant, String)>,
}

impl Place {
    pub(super) fn new(link: Link, address: String) -> Self {
        let since = Instant::now();
        Self { link, address, up: false, ears: false, since, trouble: None, refusal: None }
    }

    pub(super) fn report(&self) -> RedisServer {
        RedisServer {
            address: self.address.clone(),
            role: if self.up { "primary" } else { "unknown" },
            connected: self.up,
            subscribed: self.ears,
            since: self.since.elapsed(),
            trouble: self.trouble(),
        }
    }

    /// A full memory says no thousands of times: it is told now and then.
    pub(super) fn refuses(&mut self, code: &str, detail: &str) {
        let now = Instant::now();
        let told = self.refusal.as_ref();
        if told.is_some_and(|(when, said)| said.starts_with(code) && when.elapsed() < RECENT) {
            return;
        }
        tracing::warn!(address = self.address, code, detail, "Redis refuses");
        self.refusal = Some((now, format!("{code} {detail}")));
    }

    fn trouble(&self) -> Option<String> {
        let recent = self.refusal.as_ref().filter(|(when, _)| when.elapsed() < 2 * RECENT);
        self.trouble.clone().or_else(|| recent.map(|(_, said)| said.clone()))
    }
}

/// How often a refusal is told.
const RECENT: Duration = Duration::from_secs(5);
