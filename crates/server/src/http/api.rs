//! `/api/v1`: what servers do by HTTP. [`routes`] says what there is; here requests are let in, read and
//! handed to the operation: [`publish`], [`look`], [`sessions`], [`moderate`], [`nodes`].

mod look;
mod moderate;
mod nodes;
mod publish;
mod sessions;

use std::fmt::Display;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use throng::{Code, Fault, Target};

pub(crate) use self::nodes::shown_nodes;
use super::answer::{Problem, json, written};
use super::message::is_name;
use super::query::Query;
use super::routes::{self, Found, Operation};
use super::{Http, body, keys, openapi};
use crate::config::ApiKeys;

/// Answers a request below `/api`, and counts the answer.
pub(super) async fn answer(http: &Http, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let keys: Arc<ApiKeys> = http.keys.current();
    let result = match routes::find(&parts.method, parts.uri.path()) {
        Ok(found) if found.operation == Operation::Document => {
            Ok(written(StatusCode::OK, openapi::DOCUMENT))
        }
        Ok(found) => match keys::authorise(&keys, &parts.headers, found.operation.scope()) {
            Ok(key) => Call { http, parts: &parts, key: &key.name, found }.run(body).await,
            Err(problem) => Err(problem),
        },
        Err(problem) => Err(problem),
    };
    let response = result.unwrap_or_else(|problem| problem.response());
    http.tally.count(response.status());
    response
}

/// An authorised request.
struct Call<'a> {
    http: &'a Http,
    parts: &'a Parts,
    /// The name of the key.
    key: &'a str,
    /// What is asked for.
    found: Found,
}

impl Call<'_> {
    async fn run(&self, body: Body) -> Result<Response, Problem> {
        use Operation::*;
        let (name, second) = (self.found.name(), self.found.second());
        match self.found.operation {
            PublishToRoom => {
                let target = Target::Room(room(name)?);
                self.publish(target, &self.read(body, self.http.max_message).await?).await
            }
            PublishToUser => {
                let target = Target::User(user(name)?);
                self.publish(target, &self.read(body, self.http.max_message).await?).await
            }
            PublishBatch => {
                self.publish_batch(&self.read(body, publish::LARGEST_BATCH).await?).await
            }
            ListRooms => self.list_rooms(),
            ShowRoom => self.show_room(),
            ShowHistory => self.show_history().await,
            ShowPresence => self.show_presence().await,
            ShowCounts => Ok(self.show_counts()),
            ListNodes => Ok(self.list_nodes()),
            ShowNode => self.show_node(),
            DrainNode => self.drain_node(&self.read(body, LARGEST_OTHER).await?),
            UndrainNode => self.undrain_node(),
            IssueTicket => {
                self.issue_ticket(&self.read(body, sessions::LARGEST_TICKET).await?).await
            }
            ListSessions => self.list_sessions(None),
            ListSessionsOfUser => self.list_sessions(Some(name)),
            RevokeSession => self.revoke_session().await,
            RevokeUser => self.revoke_user().await,
            RevokeToken => self.revoke_token(&self.read(body, LARGEST_OTHER).await?).await,
            DisconnectUser => self.disconnect(&self.read(body, LARGEST_OTHER).await?),
            ListMembers => self.list_members(),
            SetMember => self.set_member(&self.read(body, LARGEST_OTHER).await?).await,
            RemoveMember => self.remove_member().await,
            Kick => self.kick(&self.read(body, LARGEST_OTHER).await?),
            ListBans => self.list_bans(None),
            ListBansOfRoom => self.list_bans(Some(name)),
            Ban => self.ban(None, &self.read(body, LARGEST_OTHER).await?).await,
            BanFromRoom => self.ban(Some(name), &self.read(body, LARGEST_OTHER).await?).await,
            LiftBan => self.lift_ban(None, name).await,
            LiftBanOfRoom => self.lift_ban(Some(name), second).await,
            Document => Ok(written(StatusCode::OK, openapi::DOCUMENT)),
        }
    }

    async fn read(&self, body: Body, limit: usize) -> Result<Bytes, Problem> {
        body::read(&self.parts.headers, body, limit, self.http.patience).await
    }

    /// Which part of a list is wanted: `after` and `limit` of the query.
    fn which(&self) -> Result<(Option<String>, usize), Problem> {
        let query = Query::of(&self.parts.uri);
        let limit = query.number("limit", 1..=MOST_LISTED)?.unwrap_or(USUALLY_LISTED);
        Ok((query.text("after"), usize::try_from(limit).unwrap_or(usize::MAX)))
    }
}

/// A page of a list: `{field: […], next?}`.
struct Listed<T> {
    field: &'static str,
    items: Vec<T>,
    next: Option<String>,
}

impl<T: Serialize> Listed<T> {
    /// From at most one more than `limit`, in the order of their names.
    fn new(
        field: &'static str,
        mut items: Vec<T>,
        limit: usize,
        name: impl Fn(&T) -> &str,
    ) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|item| name(item).to_owned());
        Self { field, items, next }
    }

    fn response(&self) -> Response {
        json(StatusCode::OK, self)
    }
}

impl<T: Serialize> Serialize for Listed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.field, &self.items)?;
        if let Some(next) = &self.next {
            map.serialize_entry("next", next)?;
        }
        map.end()
    }
}

/// Reads a body that must be `expected`: an object of known fields.
fn object<'b, T: Deserialize<'b>>(text: &'b Bytes, expected: &str) -> Result<T, Problem> {
    // serde would take a list for an object, too.
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    let wrong = |expected: &dyn Display| {
        Problem::new(Code::BadMessage, format!("The body must be {expected}."))
    };
    match serde_json::from_slice(text) {
        Ok(read) if is_object => Ok(read),
        Err(error) if !error.is_data() => Err(Fault::new(Code::BadJson).into()),
        // The first wrong field ends the reading, but the rest may not be JSON at all.
        _ => match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
            Ok(_) => Err(wrong(&expected)),
            Err(_) => Err(Fault::new(Code::BadJson).into()),
        },
    }
}

fn text_of(bytes: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|_| Problem::new(Code::BadJson, "The body is not UTF-8."))
}

fn room(name: &str) -> Result<&str, Problem> {
    match is_name(name, LONGEST_ROOM) {
        true => Ok(name),
        // Not `bad_message`: on HTTP the name is a path, and nobody serves this one.
        false => Err(Problem::new(Code::UnknownRoom, "No room can have this name.")),
    }
}

fn user(id: &str) -> Result<&str, Problem> {
    match is_name(id, LONGEST_ROOM - 1) {
        true => Ok(id),
        false => Err(Problem::new(Code::BadMessage, "No user can have this id.")),
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A body that has no limit of its own, in bytes.
const LARGEST_OTHER: usize = 4096;
const LONGEST_ROOM: usize = 128;
/// What fits into a close frame.
const LONGEST_REASON: usize = 123;
const MOST_LISTED: u64 = 1000;
const USUALLY_LISTED: u64 = 100;
