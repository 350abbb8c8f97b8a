//! A service that is asked who somebody is.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use throng::{Denied, Grants, Via, Visa, Visit};
use throng_protocol::names;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::BadKeys;
use super::alarm::Alarm;
use super::fetch::{Answer, Fetch, Question};
use super::secrets::Secrets;
use super::signature::{self, sign};
use super::{MAX_INFO, MAX_TOKEN, now};
use crate::config::{self, FilePath};

/// Asks the webhook. Its answers are not kept: what it says holds for one handshake, and for the session
/// that begins with it.
pub(super) struct Webhook {
    url: Uri,
    fetch: Fetch,
    file: FilePath,
    secrets: RwLock<Arc<Secrets>>,
    /// For all attempts together.
    timeout: Duration,
    retries: usize,
    /// Of questions that may be open.
    places: Semaphore,
    alarm: Alarm,
}

/// What somebody shows.
pub(super) enum Shown {
    Token(String),
    Password { user: String, password: String },
}

impl Webhook {
    /// Reads the secrets.
    pub(super) fn new(config: &config::Webhook, fetch: Fetch) -> Result<Self, BadKeys> {
        let url = config.url.url().unwrap_or_default();
        let webhook = Self {
            url: url.parse().map_err(|_| BadKeys::new("webhook.url: this is no URL"))?,
            fetch,
            file: config.secret_file.clone(),
            secrets: RwLock::new(Arc::new(Secrets::none())),
            timeout: config.timeout,
            retries: config.retries,
            places: Semaphore::new(MAX_OPEN),
            alarm: Alarm::default(),
        };
        webhook.replace(webhook.read()?);
        Ok(webhook)
    }

    /// Reads the secrets again.
    pub(super) fn read(&self) -> Result<Secrets, BadKeys> {
        let secrets = Secrets::read(&self.file, "webhook.secret_file")?;
        let is_empty = secrets.iter().next().is_none();
        match is_empty {
            false => Ok(secrets),
            true => Err(BadKeys::new("webhook.url needs webhook.secret_file")),
        }
    }

    /// Signs with these from now on.
    pub(super) fn replace(&self, secrets: Secrets) {
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secrets);
    }

    /// Asks who shows this.
    pub(super) async fn ask(&self, shown: Shown, visit: Visit) -> Result<Visa, Denied> {
        let body = Body::of(&shown, &visit).ok_or(Denied::Unauthorized)?;
        let Ok(_place) = self.places.try_acquire() else {
            self.complain(format!("{MAX_OPEN} questions are open"));
            return Err(Denied::Unavailable);
        };
        let deadline = Instant::now() + self.timeout;
        let mut pause = FIRST_PAUSE;
        for left in (0..=self.retries).rev() {
            let again = match self.attempt(&body, deadline).await {
                Ok(answer) => match self.judge(&answer) {
                    Some(verdict) => return verdict,
                    None => answer.status.is_server_error() || answer.status == BUSY,
                },
                Err(again) => again,
            };
            if !again || left == 0 || Instant::now() + pause >= deadline {
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
        Err(Denied::Unavailable)
    }

    /// One attempt. The error is whether another may do better.
    async fn attempt(&self, body: &Bytes, deadline: Instant) -> Result<Answer, bool> {
        let secrets = Arc::clone(&self.secrets.read().unwrap_or_else(PoisonError::into_inner));
        let signature = sign(&secrets, now(), body);
        let name = HeaderName::from_static(signature::HEADER);
        let value = HeaderValue::try_from(signature).map_err(|_| false)?;
        let question = Question::post(&self.url, body.clone(), MAX_ANSWER).header(name, value);
        self.fetch.ask(&question, deadline).await.map_err(|error| {
            self.complain(error.to_string());
            error.is_temporary()
        })
    }

    /// What an answer says; `None` when it says nothing.
    fn judge(&self, answer: &Answer) -> Option<Result<Visa, Denied>> {
        match answer.status {
            StatusCode::UNAUTHORIZED => return Some(Err(Denied::Unauthorized)),
            StatusCode::FORBIDDEN => return Some(Err(Denied::Forbidden)),
            status if !status.is_success() => {
                self.complain(format!("it answers {}", status.as_u16()));
                return None;
            }
            _ => {}
        }
        match read(&answer.body) {
            Ok(visa) => Some(Ok(visa)),
            Err(what) => {
                self.complain(what.to_owned());
                None
            }
        }
    }

    fn complain(&self, what: String) {
        if let Some(silent) = self.alarm.sound(std::time::Instant::now()) {
            tracing::warn!(what, silent, "the webhook cannot be asked");
        }
    }
}

/// What is asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    /// Names the question; the same in all attempts.
    id: String,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a str>,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

impl Body<'_> {
    /// `None` when what is shown is not worth a question.
    fn of(shown: &Shown, visit: &Visit) -> Option<Bytes> {
        let (token, user, password) = match shown {
            Shown::Token(token) => (Some(token.as_str()), None, None),
            Shown::Password { user, password } => {
                (None, Some(user.as_str()), Some(password.as_str()))
            }
        };
        let fits = |text: Option<&str>, most| text.is_none_or(|text| text.len() <= most);
        if !fits(token, MAX_TOKEN) || !fits(user, MAX_NAME) || !fits(password, MAX_PASSWORD) {
            return None;
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).ok()?;
        let body = Body {
            id: format!("q_{:032x}", u128::from_be_bytes(id)),
            timestamp: now(),
            token,
            user,
            password,
            ip: visit.ip,
            origin: visit.origin.as_deref(),
            path: &visit.path,
            room: visit.room.as_deref(),
            user_agent: visit.user_agent.as_deref(),
        };
        serde_json::to_vec(&body).ok().map(Bytes::from)
    }
}

/// What is answered. Other fields are not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    user_id: String,
    name: Option<String>,
    info: Option<Box<RawValue>>,
    rooms: Option<Box<RawValue>>,
    /// In milliseconds.
    session_ttl: Option<u64>,
}

fn read(body: &[u8]) -> Result<Visa, &'static str> {
    let shape = "its answer is not {userId, name?, info?, rooms?, sessionTtl?}";
    let reply: Reply = serde_json::from_slice(body).map_err(|_| shape)?;
    if !names::is_user(&reply.user_id) {
        return Err("the userId it answers is none");
    }
    if reply.info.as_ref().is_some_and(|info| info.get().len() > MAX_INFO) {
        return Err("the info it answers is larger than 4 KiB");
    }
    if reply.session_ttl.is_some_and(|ttl| !(1..=MAX_SESSION).contains(&ttl)) {
        return Err("the sessionTtl it answers is not between a millisecond and a year");
    }
    let grants = match &reply.rooms {
        Some(rooms) => {
            Grants::from_json(rooms.get()).map_err(|_| "the rooms it answers are no rights")?
        }
        None => Grants::NONE,
    };
    let now = now();
    Ok(Visa {
        user_id: reply.user_id,
        name: reply.name.as_deref().and_then(names::display_name),
        info: reply.info.map(|info| info.get().to_owned()),
        grants,
        expires: reply.session_ttl.map(|ttl| now + ttl),
        // The service has just said so.
        issued: Some(now),
        token_id: None,
        via: Via::Webhook,
    })
}

const BUSY: StatusCode = StatusCode::TOO_MANY_REQUESTS;

/// Before the first repetition; three times as long before each other.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Questions at a time.
const MAX_OPEN: usize = 256;

/// Of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

const MAX_NAME: usize = 256;
const MAX_PASSWORD: usize = 1024;

/// In milliseconds.
const MAX_SESSION: u64 = 366 * 24 * 60 * 60 * 1000;
