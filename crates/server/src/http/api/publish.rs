//! Publishing: one message, or many.

use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use throng::{Author, Code, Fault, Placed, Sent, Target};

use super::super::answer::{Problem, json};
use super::super::keys;
use super::super::message::{Letter, Sender, read_batch};
use super::{Call, room, text_of, user};

impl Call<'_> {
    /// One message to the room or user of the path.
    pub(super) async fn publish(
        &self,
        target: Target<'_>,
        text: &Bytes,
    ) -> Result<Response, Problem> {
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
        let sent = self.place(target, &letter, session.as_deref()).await?.stored().await?;
        Ok(json(StatusCode::OK, &Published::from(sent)))
    }

    /// Many messages, in their order, each with a result of its own.
    pub(super) async fn publish_batch(&self, text: &Bytes) -> Result<Response, Problem> {
        let messages = read_batch(text_of(text)?, MOST_MESSAGES)?;
        // Whether the key may be one, before anything is published.
        self.session(None)?;
        // They take their places one after the other. A disk stores many at once, so many are on their way.
        let mut on_their_way = FuturesOrdered::new();
        let mut results = Vec::with_capacity(messages.len());
        for (index, message) in messages.into_iter().enumerate() {
            if on_their_way.len() == AT_ONCE {
                results.extend(on_their_way.next().await);
            }
            let placed = self.place_one(index, message).await;
            on_their_way.push_back(async { Ok(placed?.stored().await?) });
        }
        while let Some(result) = on_their_way.next().await {
            results.push(result);
        }
        let results = results.into_iter().map(|result: Result<Sent, Problem>| match result {
            Ok(sent) => serde_json::value::to_raw_value(&Published::from(sent)),
            Err(problem) => serde_json::value::to_raw_value(&problem.item()),
        });
        let results: Result<Vec<_>, _> = results.collect();
        let results = results.map_err(|_| Fault::new(Code::Internal))?;
        Ok(json(StatusCode::OK, &Results { results }))
    }

    async fn place_one(&self, index: usize, message: &RawValue) -> Result<Placed<'_>, Problem> {
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
        self.place(target, &letter, session.as_deref()).await
    }

    async fn place(
        &self,
        target: Target<'_>,
        letter: &Letter<'_>,
        session: Option<&str>,
    ) -> Result<Placed<'_>, Problem> {
        let user_id = match &letter.from {
            Some(id) => user(id)?,
            None => "server",
        };
        let reference = u64::from(session.is_some());
        let author = Author { user_id, session: session.unwrap_or_default(), reference };
        Ok(self.http.server.place(target, author, letter.text.as_bytes()).await?)
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

/// Many messages in one request, in bytes and in number.
pub(super) const LARGEST_BATCH: usize = 1 << 20;
const MOST_MESSAGES: usize = 1000;
/// How many of a batch may wait for the disk at the same time.
const AT_ONCE: usize = 256;
const LONGEST_SESSION: usize = 200;

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
