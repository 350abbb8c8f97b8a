//! `/api/v1`: what servers do by HTTP: publish, read, look who is there, disconnect.

use std::borrow::Cow;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use throng::{Author, Code, Fault, Page, Sent, Target};
use throng_wire::CloseCode;

use super::answer::{Problem, json, written};
use super::message::{Letter, Sender, is_name, read_batch};
use super::query::Query;
use super::routes::{self, Operation};
use super::{Http, body, keys, openapi};

/// Answers a request below `/api`, and counts the answer.
pub(super) async fn answer(http: &Http, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let result = match routes::find(&parts.method, parts.uri.path()) {
        Ok((Operation::Document, _)) => Ok(written(StatusCode::OK, openapi::DOCUMENT)),
        Ok((operation, name)) => match keys::authorise(&http.keys, &parts.headers) {
            Ok(key) => Call { http, parts: &parts, key, name }.run(operation, body).await,
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
    /// What stands at the `{…}` of the path.
    name: String,
}

impl Call<'_> {
    async fn run(&self, operation: Operation, body: axum::body::Body) -> Result<Response, Problem> {
        let limit = match operation {
            Operation::PublishBatch => LARGEST_BATCH,
            Operation::PublishToRoom | Operation::PublishToUser => self.http.max_message,
            _ => LARGEST_OTHER,
        };
        let headers = &self.parts.headers;
        match operation {
            Operation::PublishToRoom => {
                let target = Target::Room(room(&self.name)?);
                let text = body::read(headers, body, limit, self.http.patience).await?;
                self.publish(target, &text).await
            }
            Operation::PublishToUser => {
                let target = Target::User(user(&self.name)?);
                let text = body::read(headers, body, limit, self.http.patience).await?;
                self.publish(target, &text).await
            }
            Operation::PublishBatch => {
                let text = body::read(headers, body, limit, self.http.patience).await?;
                self.publish_batch(&text).await
            }
            Operation::DisconnectUser => {
                let user = user(&self.name)?;
                let text = body::read(headers, body, limit, self.http.patience).await?;
                self.disconnect(user, &text)
            }
            Operation::ListRooms => self.list_rooms(),
            Operation::ShowRoom => match self.http.server.room(room(&self.name)?) {
                Some(info) => Ok(json(StatusCode::OK, &Room::from(info))),
                None => Err(Problem::new(Code::UnknownRoom, "Nobody is in a room of this name.")),
            },
            Operation::ShowHistory => {
                let page = self.page()?;
                let text = self.http.server.history(room(&self.name)?, &page).await?;
                Ok(written(StatusCode::OK, text))
            }
            Operation::ShowPresence => {
                let text = self.http.server.presence(room(&self.name)?).await?;
                Ok(written(StatusCode::OK, text))
            }
            Operation::ShowCounts => {
                let counts = self.http.server.counts();
                let (connections, users, rooms) = (counts.connections, counts.users, counts.rooms);
                Ok(json(StatusCode::OK, &Counts { connections, users, rooms }))
            }
            Operation::Document => Ok(written(StatusCode::OK, openapi::DOCUMENT)),
        }
    }

    /// One message to the room or user of the path.
    async fn publish(&self, target: Target<'_>, text: &Bytes) -> Result<Response, Problem> {
        let letter = Letter::read(text_of(text)?, Sender::Key)?;
        let agrees = match (&target, &letter.room, &letter.to) {
            (_, None, None) => true,
            (Target::Room(name), Some(room), None) => room == name,
            (Target::User(name), None, Some(to)) => to == name,
            _ => false,
        };
        if !agrees {
            let text = "The message names another `room` or `to` than the path.";
            return Err(Problem::new(Code::BadMessage, text));
        }
        let session = self.session(None)?;
        let sent = self.send(target, &letter, session.as_deref()).await?;
        Ok(json(StatusCode::OK, &Published::from(sent)))
    }

    /// Many messages, in their order, each with a result of its own.
    async fn publish_batch(&self, text: &Bytes) -> Result<Response, Problem> {
        let messages = read_batch(text_of(text)?, MOST_MESSAGES)?;
        // Whether the key may be one, before anything is published.
        self.session(None)?;
        // A disk stores many at once, so many are on their way at once. They take their places in the
        // order in which their tasks are polled, which is the order of the list, and of those who wait for
        // a room to be opened. tokio's own fairness would poll some of them later than others.
        let results = tokio::task::unconstrained(async {
            let mut messages = messages.into_iter().enumerate();
            let mut on_their_way = FuturesOrdered::new();
            let mut results = Vec::new();
            loop {
                let free = AT_ONCE - on_their_way.len();
                for (index, message) in messages.by_ref().take(free) {
                    on_their_way.push_back(self.publish_one(index, message));
                }
                let Some(result) = on_their_way.next().await else { return results };
                results.push(match result.map(Published::from) {
                    Ok(published) => serde_json::value::to_raw_value(&published),
                    Err(problem) => serde_json::value::to_raw_value(&problem.item()),
                });
            }
        });
        let results: Result<Vec<_>, _> = results.await.into_iter().collect();
        let results = results.map_err(|_| Fault::new(Code::Internal))?;
        Ok(json(StatusCode::OK, &Results { results }))
    }

    async fn publish_one(&self, index: usize, message: &RawValue) -> Result<Sent, Problem> {
        let text = message.get();
        if text.len() > self.http.max_message {
            let limit = self.http.max_message;
            let text = format!("A message may have at most {limit} bytes.");
            return Err(Problem::new(Code::TooLarge, text));
        }
        let letter = Letter::read(text, Sender::Key)?;
        let target = match (&letter.room, &letter.to) {
            (Some(name), None) => Target::Room(room(name)?),
            (None, Some(name)) => Target::User(user(name)?),
            _ => {
                let text = "A message in a batch names a `room` or a user (`to`), not both.";
                return Err(Problem::new(Code::BadMessage, text));
            }
        };
        let session = self.session(Some(index))?;
        self.send(target, &letter, session.as_deref()).await
    }

    async fn send(
        &self,
        target: Target<'_>,
        letter: &Letter<'_>,
        session: Option<&str>,
    ) -> Result<Sent, Problem> {
        let user_id = match &letter.from {
            Some(id) => user(id)?,
            None => "server",
        };
        let reference = u64::from(session.is_some());
        let author = Author { user_id, session: session.unwrap_or_default(), reference };
        Ok(self.http.server.publish(target, author, letter.text.as_bytes()).await?)
    }

    /// The scope in which the request is published once, when it has an `Idempotency-Key`.
    fn session(&self, index: Option<usize>) -> Result<Option<String>, Problem> {
        let Some(key) = idempotency_key(&self.parts.headers)? else { return Ok(None) };
        let place = index.map_or_else(String::new, |index| format!(":{index}"));
        let session = format!("key:{}:{key}{place}", self.key);
        Ok(Some(match session.len() {
            0..=LONGEST_SESSION => session,
            _ => {
                let hash = keys::hex(&keys::sha256(key.as_bytes()));
                format!("key:{}:sha256:{hash}{place}", self.key)
            }
        }))
    }

    fn disconnect(&self, user: &str, text: &Bytes) -> Result<Response, Problem> {
        let wanted: Disconnect<'_> = match text.is_empty() {
            true => Disconnect::default(),
            false => serde_json::from_slice(text).map_err(|error| match error.is_data() {
                true => Problem::new(
                    Code::BadMessage,
                    "The body must be an object with `code`, a number, and `reason`, a string, or neither.",
                ),
                false => Fault::new(Code::BadJson).into(),
            })?,
        };
        let code = wanted.code.unwrap_or(FORBIDDEN);
        let Some(code) = CloseCode::new(code).filter(|code| may_close_with(code.get())) else {
            let text = "`code` must be 1000, 1001, 1008, 1011, 1012, 1013 or from 3000 to 4999.";
            return Err(Problem::new(Code::BadMessage, text));
        };
        let reason = wanted.reason.unwrap_or_default();
        if reason.len() > LONGEST_REASON {
            let text = "`reason` may have at most 123 bytes.";
            return Err(Problem::new(Code::BadMessage, text));
        }
        let closed = self.http.server.disconnect(user, code, &reason);
        Ok(json(StatusCode::OK, &Closed { closed }))
    }

    fn list_rooms(&self) -> Result<Response, Problem> {
        let query = Query::of(&self.parts.uri);
        let limit = query.number("limit", 1..=MOST_ROOMS)?.unwrap_or(USUAL_ROOMS);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let after = query.text("after");
        // One more than wanted tells whether there are more.
        let mut rooms = self.http.server.rooms(after.as_deref(), limit + 1);
        let more = rooms.len() > limit;
        rooms.truncate(limit);
        let rooms: Vec<Room> = rooms.into_iter().map(Room::from).collect();
        let next = rooms.last().filter(|_| more).map(|room| room.room.as_str());
        Ok(json(StatusCode::OK, &Rooms { rooms: &rooms, next }))
    }

    fn page(&self) -> Result<Page, Problem> {
        let query = Query::of(&self.parts.uri);
        let page = Page {
            before: query.number("before", 0..=MAX_INTEGER)?,
            after: query.number("after", 0..=MAX_INTEGER)?,
            epoch: query.text("epoch"),
            limit: u32::try_from(query.number("limit", 1..=MOST_PAGE)?.unwrap_or(USUAL_PAGE))
                .unwrap_or(u32::MAX),
        };
        match (page.before, page.after) {
            (Some(_), Some(_)) => {
                let text = "A page is `before` or `after` a number, not both.";
                Err(Problem::new(Code::BadMessage, text))
            }
            _ => Ok(page),
        }
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

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let key = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(key), None) => key.to_str().ok().filter(|key| !key.is_empty()),
        _ => None,
    };
    let text = "Idempotency-Key must be one header of visible ASCII characters.";
    key.map(Some).ok_or_else(|| Problem::new(Code::BadMessage, text))
}

/// Those that mean something when a server closes a connection of its own accord.
fn may_close_with(code: u16) -> bool {
    matches!(code, 1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999)
}

/// Many messages in one request, in bytes and in number.
const LARGEST_BATCH: usize = 1 << 20;
const MOST_MESSAGES: usize = 1000;
/// How many of a batch may wait for the disk at the same time.
const AT_ONCE: usize = 256;
/// Any other body, in bytes.
const LARGEST_OTHER: usize = 4096;
const LONGEST_ROOM: usize = 128;
const LONGEST_SESSION: usize = 200;
const LONGEST_REASON: usize = 123;
const MOST_ROOMS: u64 = 1000;
const USUAL_ROOMS: u64 = 100;
const MOST_PAGE: u64 = 200;
const USUAL_PAGE: u64 = 50;
/// The largest integer that every JSON reader keeps exact.
const MAX_INTEGER: u64 = (1 << 53) - 1;
/// The close code of a user who is sent away, unless the request says another.
const FORBIDDEN: u16 = 4403;

#[derive(Serialize)]
struct Published {
    room: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    timestamp: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl From<Sent> for Published {
    fn from(sent: Sent) -> Self {
        let Sent { room, seq, timestamp, duplicate, .. } = sent;
        Self { room, seq, timestamp, duplicate }
    }
}

#[derive(Serialize)]
struct Results {
    results: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Rooms<'a> {
    rooms: &'a [Room],
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Room {
    room: String,
    user_count: usize,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl From<throng::RoomInfo> for Room {
    fn from(info: throng::RoomInfo) -> Self {
        let throng::RoomInfo { room, user_count, connections, seq, .. } = info;
        Self { room, user_count, connections, seq }
    }
}

#[derive(Serialize)]
struct Counts {
    connections: usize,
    users: usize,
    rooms: usize,
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
