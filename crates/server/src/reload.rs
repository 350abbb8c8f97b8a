//! SIGHUP: reading again what may change while the server runs: API keys, and the keys and secrets of tokens.
//! Certificates look after themselves: [`Tls`](crate::tls::Tls).

use std::sync::Arc;

use tokio::signal::unix::Signal;

use crate::auth::Authenticator;
use crate::http::Http;

/// What is read again.
pub(crate) struct Reload {
    pub(crate) http: Arc<Http>,
    pub(crate) tokens: Option<Authenticator>,
}

impl Reload {
    /// Reads everything again at each of these signals. What is wrong is said in the log, and stays as it was.
    pub(crate) async fn at_each(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            match self.http.keys.reload() {
                Ok(count) => tracing::info!(count, "API keys are read again"),
                Err(sentence) => tracing::error!("the API keys stay as they were: {sentence}"),
            }
            if let Some(tokens) = &self.tokens {
                match tokens.reload() {
                    Ok(()) => tracing::info!("keys and secrets of tokens are read again"),
                    Err(sentence) => {
                        tracing::error!("keys and secrets of tokens stay as they were: {sentence}");
                    }
                }
            }
        }
    }
}
