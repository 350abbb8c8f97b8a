use std::net::IpAddr;

use throng_protocol::Timestamp;

use crate::grants::Grants;

/// What a signed-in session may do, and until when: what is kept of a ticket or token. Whoever has none is
/// anonymous. Meant to live behind an `Arc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Its own rights, beside those that others have, too.
    pub grants: Grants,
    /// When the session ends; never by itself without.
    pub expires: Option<Timestamp>,
    /// When the credential was looked at.
    pub opened: Timestamp,
    /// What it was opened with.
    pub via: Via,
    /// From where.
    pub ip: Option<IpAddr>,
    /// The id of the token (`jti`), where it has one.
    pub token: Option<Box<str>>,
}

impl Pass {
    /// Whether the session is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What a session was opened with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Via {
    /// A ticket of the application.
    #[default]
    Ticket,
    /// A JSON Web Token.
    Token,
    /// What a webhook said.
    Webhook,
    /// The server's own users, by password.
    Login,
}

impl Via {
    /// `ticket`, `token`, `webhook`, `login`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Token => "token",
            Self::Webhook => "webhook",
            Self::Login => "login",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ticket, Self::Token, Self::Webhook, Self::Login]
            .into_iter()
            .find(|via| via.name() == name)
    }
}
