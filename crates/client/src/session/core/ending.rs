//! What the end of a connection asks for.

use std::time::Duration;

use crate::session::core::{Admission, Core};
use crate::session::error::CloseReason;

/// How a connection ended, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a Close frame.
    Closed { code: Option<u16>, reason: String },
    /// By the answer to the handshake.
    Refused { status: u16, retry_after: Option<Duration> },
    /// By the network, or a server that does not keep the rules.
    Lost,
    /// By settings that cannot be used.
    Settings(String),
}

/// What to do after a connection.
pub(super) enum Step {
    Stop(CloseReason),
    /// Wait at least so long, and some more by chance.
    Retry(Option<Duration>),
}

impl Core {
    /// What the end of a connection asks for.
    pub(super) fn next_step(&mut self, end: &End) -> Step {
        let pause = self.pause.take();
        match end {
            End::Lost => Step::Retry(None),
            End::Settings(why) => Step::Stop(CloseReason::Settings(why.clone())),
            End::Refused { status, retry_after } => match status {
                401 if self.settings.admission == Admission::Tickets || self.resume.is_some() => {
                    self.resume = None;
                    Step::Retry(None)
                }
                400 | 401 | 403 | 404 | 405 | 410 | 426 => Step::Stop(CloseReason::Status(*status)),
                429 | 503 => Step::Retry(Some(retry_after.unwrap_or(self.settings.base))),
                _ => Step::Retry(*retry_after),
            },
            End::Closed { code: None, .. } => Step::Retry(None),
            End::Closed { code: Some(code), reason } => match code {
                4401 => {
                    self.resume = None;
                    Step::Retry(None)
                }
                1013 => Step::Retry(Some(pause.unwrap_or(self.settings.base))),
                4429 => Step::Retry(Some(pause.unwrap_or_default().max(FLOODED))),
                4408 => Step::Retry(None),
                1000 | 1002 | 1003 | 1007..=1010 | 4400..=4499 => {
                    Step::Stop(CloseReason::Code { code: *code, reason: reason.clone() })
                }
                _ => Step::Retry(None),
            },
        }
    }
}

/// The shortest pause after a connection that the server has closed because we said too much.
const FLOODED: Duration = Duration::from_secs(5);
