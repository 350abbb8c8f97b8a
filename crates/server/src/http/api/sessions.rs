//! Letting people in, and sending them away: tickets, sessions, revocations, bans from the server.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use throng::{CloseCode, Code, Grants, NewTicket, SessionInfo, Via};

use super::super::answer::{Problem, json};
use super::super::message::is_name;
use super::super::query::Query;
use super::{Call, LONGEST_REASON, Listed, now, object, user};

impl Call<'_> {
    pub(super) async fn issue_ticket(&self, text: &Bytes) -> Result<Response, Problem> {
        let wanted: Wanted<'_> = object(text, EXPECTED_TICKET)?;
        let grants = match wanted.rooms {
            Some(rooms) => Grants::from_json(rooms.get())
                .map_err(|error| bad(format!("`rooms` cannot be used: {error}.")))?,
            None => Grants::NONE,
        };
        let ticket = self.http.server.issue_ticket(NewTicket {
            user_id: user(&wanted.user_id)?.to_owned(),
            name: wanted.name.map(Cow::into_owned),
            info: wanted.info.map(|info| info.get().to_owned()),
            grants,
            ip: wanted.ip,
            ttl: wanted.ttl.map(Duration::from_millis),
            session_ttl: wanted.session_ttl.map(Duration::from_millis),
            via: Via::Ticket,
        });
        let ticket = ticket.await?;
        let (ticket, expires_at) = (ticket.ticket, ticket.expires_at);
        Ok(json(StatusCode::OK, &Issued { ticket, expires_at }))
    }

    /// Sessions of the user of the path, of that of the query, or of all.
    pub(super) fn list_sessions(&self, of: Option<&str>) -> Result<Response, Problem> {
        let (after, limit) = self.which()?;
        let asked = Query::of(&self.parts.uri).text("user");
        let of = of.or(asked.as_deref()).map(user).transpose()?;
        let sessions = self.http.server.sessions(of, after.as_deref(), limit + 1);
        let sessions = sessions.into_iter().map(Session::from).collect();
        let listed = Listed::new("sessions", sessions, limit, |s: &Session| &*s.session_id);
        Ok(listed.response())
    }

    pub(super) async fn revoke_session(&self) -> Result<Response, Problem> {
        let id = self.found.name();
        // Nothing else is the id of a session.
        let revoked = is_name(id, 128) && self.http.server.revoke_session(id).await?;
        Ok(json(StatusCode::OK, &Revoked { revoked: usize::from(revoked) }))
    }

    pub(super) async fn revoke_user(&self) -> Result<Response, Problem> {
        let revoked = self.http.server.revoke_user(user(self.found.name())?).await?;
        Ok(json(StatusCode::OK, &Revoked { revoked }))
    }

    pub(super) async fn revoke_token(&self, text: &Bytes) -> Result<Response, Problem> {
        let id = self.found.name();
        if id.len() > LONGEST_TOKEN_ID {
            return Err(bad("The id of a token may have at most 256 bytes."));
        }
        let Until { until } = match text.is_empty() {
            true => Until::default(),
            false => object(text, "an object with `until`, a time in milliseconds, or {}")?,
        };
        let until = until.unwrap_or_else(|| now().saturating_add(YEAR));
        if until <= now() {
            return Err(bad("`until` is over."));
        }
        self.http.server.revoke_token(id, until).await?;
        Ok(json(StatusCode::OK, &RevokedToken { token: id, until }))
    }

    pub(super) fn disconnect(&self, text: &Bytes) -> Result<Response, Problem> {
        let user = user(self.found.name())?;
        let wanted: Disconnect<'_> = match text.is_empty() {
            true => Disconnect::default(),
            false => {
                object(text, "an object with `code`, a number, and `reason`, a string, or neither")?
            }
        };
        let code = wanted.code.unwrap_or(FORBIDDEN);
        let Some(code) = CloseCode::new(code).filter(|code| may_close_with(code.get())) else {
            return Err(bad(
                "`code` must be 1000, 1001, 1008, 1011, 1012, 1013 or from 3000 to 4999.",
            ));
        };
        let reason = wanted.reason.unwrap_or_default();
        if reason.len() > LONGEST_REASON {
            return Err(bad("`reason` may have at most 123 bytes."));
        }
        let closed = self.http.server.disconnect(user, code, &reason);
        Ok(json(StatusCode::OK, &Closed { closed }))
    }
}

fn bad(text: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Code::BadMessage, text)
}

/// Those that mean something when a server closes a connection of its own accord.
fn may_close_with(code: u16) -> bool {
    matches!(code, 1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999)
}

/// The body of a request for a ticket, in bytes: rights and info have limits of their own.
pub(super) const LARGEST_TICKET: usize = 32 << 10;
const EXPECTED_TICKET: &str = "an object with `userId`, and perhaps `name`, `info`, `rooms`, `ip`, and \
                               `ttl` and `sessionTtl` in milliseconds, and nothing else";
const LONGEST_TOKEN_ID: usize = 256;
/// How long a token stays revoked when nobody says when it is out of date, in milliseconds.
const YEAR: u64 = 366 * 24 * 60 * 60 * 1000;
/// The close code of a user who is sent away, unless the request says another.
const FORBIDDEN: u16 = 4403;

#[derive(Deserialize)]
// What is misspelt must not be taken for what is left out: a session would last too long.
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    rooms: Option<&'a RawValue>,
    ip: Option<IpAddr>,
    ttl: Option<u64>,
    session_ttl: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    ticket: String,
    expires_at: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_id: String,
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    via: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    started_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    state: &'static str,
}

impl From<SessionInfo> for Session {
    fn from(info: SessionInfo) -> Self {
        Self {
            session_id: info.session_id,
            user_id: info.user_id,
            name: info.name,
            via: info.via.unwrap_or("anonymous"),
            ip: info.ip,
            started_at: info.started,
            expires_at: info.expires,
            state: if info.is_connected { "connected" } else { "lost" },
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Until {
    until: Option<u64>,
}

#[derive(Serialize)]
struct Revoked {
    revoked: usize,
}

#[derive(Serialize)]
struct RevokedToken<'a> {
    token: &'a str,
    until: u64,
}

#[derive(Default, Deserialize)]
struct Disconnect<'a> {
    code: Option<u16>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Closed {
    closed: usize,
}
