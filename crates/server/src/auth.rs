//! Who shows a token: those that an issuer has signed (JWT), and those that a webhook knows.
//!
//! [`jwt`] judges signed tokens by [`keys`], which come from [`secrets`] and PEM files and from [`jwks`];
//! [`webhook`] asks a service, in questions with a [`signature`]. Both talk HTTP through [`fetch`], which
//! goes only where [`reach`] lets it. [`alarm`] keeps their complaints from flooding the log.
//!
//! Nothing is remembered about a token: each is judged whenever it is shown.

mod alarm;
mod fetch;
mod jwks;
mod jwt;
mod keys;
mod reach;
mod secrets;
mod signature;
#[cfg(test)]
mod tests;
mod webhook;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use throng::{Authenticate, Denied, Verdict, Visa, Visit};

use self::fetch::Fetch;
use self::jwt::Judge;
use self::webhook::{Shown, Webhook};
use crate::config;

/// Looks at tokens, as configured in `[jwt]` and `[webhook]`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authenticator(Arc<Inner>);

struct Inner {
    judge: Option<Judge>,
    webhook: Option<Webhook>,
}

impl Authenticator {
    /// Reads the keys, and begins to fetch those that are published; `None` where no kind of token is
    /// taken. Must be called within a runtime of tokio.
    pub(crate) fn start(
        jwt: &config::Jwt,
        webhook: &config::Webhook,
    ) -> Result<Option<Self>, BadKeys> {
        if jwt.algorithms.is_empty() && webhook.url.is_empty() {
            return Ok(None);
        }
        let fetch = Fetch::new(webhook.allow.clone());
        Self::with(fetch, jwt, webhook).map(Some)
    }

    fn with(fetch: Fetch, jwt: &config::Jwt, webhook: &config::Webhook) -> Result<Self, BadKeys> {
        let judge = match jwt.algorithms.is_empty() {
            true => None,
            false => Some(Judge::start(jwt.clone(), fetch.clone())?),
        };
        let webhook = match webhook.url.is_empty() {
            true => None,
            false => Some(Webhook::new(webhook, fetch)?),
        };
        Ok(Self(Arc::new(Inner { judge, webhook })))
    }

    /// Reads the files of secrets and keys again. After an error everything is as it was.
    pub(crate) fn reload(&self) -> Result<(), BadKeys> {
        let fixed = self.0.judge.as_ref().map(Judge::read).transpose()?;
        let secrets = self.0.webhook.as_ref().map(Webhook::read).transpose()?;
        if let (Some(judge), Some(fixed)) = (&self.0.judge, fixed) {
            judge.replace(fixed);
        }
        if let (Some(webhook), Some(secrets)) = (&self.0.webhook, secrets) {
            webhook.replace(secrets);
        }
        Ok(())
    }

    /// Asks the webhook about a name and a password; without a webhook nobody is known.
    pub(crate) async fn login(
        &self,
        user: String,
        password: String,
        visit: Visit,
    ) -> Result<Visa, Denied> {
        match &self.0.webhook {
            Some(webhook) => webhook.ask(Shown::Password { user, password }, visit).await,
            None => Err(Denied::Unauthorized),
        }
    }
}

impl Authenticate for Authenticator {
    /// What looks like a JWT is judged as one where JWTs are taken, and then by nobody else: a bad
    /// signature is no reason to ask further.
    fn authenticate(&self, token: String, visit: Visit) -> Verdict {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            if token.is_empty() || token.len() > MAX_TOKEN {
                return Err(Denied::Unauthorized);
            }
            match (&inner.judge, &inner.webhook) {
                (Some(judge), None) => judge.visa(&token).await,
                (Some(judge), Some(_)) if looks_signed(&token) => judge.visa(&token).await,
                (_, Some(webhook)) => webhook.ask(Shown::Token(token), visit).await,
                (None, None) => Err(Denied::Unauthorized),
            }
        })
    }
}

/// Whether it has the three parts of a JWT and begins with an object, whatever else is wrong with it.
fn looks_signed(token: &str) -> bool {
    let mut parts = token.split('.');
    let head = parts.next().and_then(|head| URL_SAFE_NO_PAD.decode(head).ok());
    parts.count() == 2 && head.is_some_and(|head| head.trim_ascii_start().starts_with(b"{"))
}

/// One sentence about keys that cannot be used, with the configuration's key in it, and nothing of the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadKeys(String);

impl BadKeys {
    fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

/// What a file of the configuration holds now; `None` when none is named.
fn contents(file: &config::FilePath, key: &str) -> Result<Option<Vec<u8>>, BadKeys> {
    let Some(path) = file.path() else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|error| {
        let (shown, reason) = (path.display(), crate::reason(&error));
        BadKeys::new(format!("{key}: cannot read {shown}: {reason}"))
    })
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The largest token that is looked at, in bytes.
const MAX_TOKEN: usize = 8 * 1024;

/// What others see of a user, in bytes of JSON.
const MAX_INFO: usize = 4 * 1024;

/// The last time that a credential may name, in seconds: the end of the year 9999.
const END_OF_TIME: u64 = 253_402_300_799;
