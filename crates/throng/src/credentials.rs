//! What clients show to say who they are, and who looks at it.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use throng_hub::{Grants, Via};

/// Who somebody is, and what they may do: what a credential comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visa {
    /// The user: 1 to 127 characters of `A-Z a-z 0-9 _ . : @ / -`.
    pub user_id: String,
    /// What the user is called. Becomes `info.name` where there is no `info`.
    pub name: Option<String>,
    /// What others see of the user, as JSON; at most 4 KiB.
    pub info: Option<String>,
    /// Rights beside those that every signed-in user has.
    pub grants: Grants,
    /// When the session ends, in milliseconds since 1970; without, it ends when the connection does.
    pub expires: Option<u64>,
    /// When the credential was made, in milliseconds since 1970: revoking a user makes all earlier ones
    /// worthless.
    pub issued: Option<u64>,
    /// The id of the credential (`jti`), by which it can be revoked.
    pub token_id: Option<String>,
    /// What it was.
    pub via: Via,
}

/// Where a token was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// The address of the client.
    pub ip: Option<IpAddr>,
    /// The page that its browser was on.
    pub origin: Option<String>,
    /// The path that was asked for.
    pub path: String,
    /// The room, of a plain client.
    pub room: Option<String>,
    /// What it says it is.
    pub user_agent: Option<String>,
}

/// Why a token is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not good: `401`.
    #[error("the token is not good")]
    Unauthorized,
    /// It is, but its owner may not come in: `403`.
    #[error("its owner may not come in")]
    Forbidden,
    /// Nobody can say at the moment: `503`.
    #[error("nobody can say at the moment")]
    Unavailable,
}

/// A token being looked at.
pub type Verdict = Pin<Box<dyn Future<Output = Result<Visa, Denied>> + Send>>;

/// Looks at tokens that are not tickets of ours: `?token=`, `Authorization: Bearer`, the subprotocol
/// `token.<value>`. Called before the 101; nothing is kept for a client meanwhile but its HTTP connection.
pub trait Authenticate: Send + Sync + 'static {
    /// Says who shows this token.
    fn authenticate(&self, token: String, visit: Visit) -> Verdict;
}
