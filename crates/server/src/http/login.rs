//! `/login`: a ticket for a name and a password. No cookie is set and none is read.
//!
//! A wrong password, a name that nobody has and a user who is disabled get the same answer, after the same work:
//! one password is hashed in each case. Only so many are hashed at once as there are places, because each takes
//! 19 MiB and some 20 ms of a core; the others wait, and when too many wait, they are sent away.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use http::header::{ORIGIN, USER_AGENT};
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};
use serde::{Deserialize, Serialize};
use throng::{Code, Denied, Fault, Grants, NewTicket, UserRow, Via, Visa, Visit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::answer::{Problem, json};
use super::message::is_name;
use super::throttle::{Throttle, household};
use super::{Http, Visitors, body, cors};
use crate::account::Account;
use crate::auth::Authenticator;
use crate::config::{self, Cidrs};
use crate::password;

/// Lets people in who know a password.
pub(crate) struct Login {
    source: Source,
    by_name: Option<Throttle>,
    by_address: Option<Throttle>,
    /// Addresses that are not throttled.
    exempt: Cidrs,
    /// How long sessions last; zero for no end.
    session_ttl: Duration,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    counts: Counts,
}

/// Who knows the passwords.
pub(crate) enum Source {
    /// The users in the vault.
    Users,
    /// The webhook.
    Webhook(Authenticator),
}

/// What came of attempts so far.
#[derive(Default)]
struct Counts {
    admitted: AtomicU64,
    refused: AtomicU64,
    throttled: AtomicU64,
    overloaded: AtomicU64,
}

impl Login {
    /// As configured.
    pub(crate) fn new(login: &config::Login, exempt: Cidrs, source: Source) -> Self {
        // It is made now, so that the first attempt does not take longer than others.
        password::nobody();
        let throttle = || match login.attempts {
            config::Rate::Off => None,
            config::Rate::Of(pace) => Some(Throttle::new(rate(pace))),
        };
        let places = match source {
            Source::Users => AT_ONCE,
            Source::Webhook(_) => QUESTIONS_AT_ONCE,
        };
        Self {
            source,
            by_name: throttle(),
            by_address: throttle(),
            exempt,
            session_ttl: login.session_ttl,
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            counts: Counts::default(),
        }
    }

    /// What came of attempts so far, each with its name.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 4] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("admitted", read(&self.counts.admitted)),
            ("refused", read(&self.counts.refused)),
            ("throttled", read(&self.counts.throttled)),
            ("overloaded", read(&self.counts.overloaded)),
        ]
    }

    /// Whether this name may be tried, from this address. Nobody asks yet whether there is such a user.
    fn throttle(&self, user: &str, ip: Option<IpAddr>) -> Result<(), Problem> {
        let exempt = |ip: &IpAddr| self.exempt.as_slice().iter().any(|range| range.contains(*ip));
        let ip = ip.filter(|ip| !exempt(ip)).map(household);
        let by_address = match (&self.by_address, ip) {
            (Some(throttle), Some(ip)) => throttle.take(ip),
            _ => Ok(()),
        };
        let by_name = || self.by_name.as_ref().map_or(Ok(()), |throttle| throttle.take(user));
        by_address.and_then(|()| by_name()).map_err(|wait| {
            add(&self.counts.throttled);
            Problem::new(Code::RateLimited, "Too many attempts; try again later.").after(wait)
        })
    }

    /// How long a session lasts that must be over at `expires`: as configured, and no longer than that.
    fn lifetime(&self, expires: Option<u64>, now: u64) -> Duration {
        let left = expires.map(|at| Duration::from_millis(at.saturating_sub(now).max(1)));
        match (left, self.session_ttl) {
            (None, ttl) => ttl,
            (Some(left), Duration::ZERO) => left,
            (Some(left), ttl) => left.min(ttl),
        }
    }

    /// A place to hash a password at.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let _waits = Waits::new(&self.waiting);
        let full = self.waiting.load(Ordering::Relaxed) > MOST_WAITING;
        let place = Arc::clone(&self.places).acquire_owned();
        match full {
            false => tokio::time::timeout(PATIENCE, place).await.ok().and_then(Result::ok),
            true => None,
        }
        .ok_or_else(|| {
            add(&self.counts.overloaded);
            let text = "Too many people are logging in; try again later.";
            Problem::new(Code::Overloaded, text).after(PATIENCE)
        })
    }
}

/// Answers a request for `/login`.
pub(super) async fn answer(http: &Http, visitors: &Visitors, request: Request) -> Response {
    const READ: &[Method] = &[Method::GET, Method::HEAD, Method::OPTIONS];
    const ALL: &[Method] = &[Method::GET, Method::HEAD, Method::POST, Method::OPTIONS];
    let asked = request.headers().clone();
    let result = match (request.method(), &http.login) {
        (&Method::OPTIONS, _) => {
            return cors::preflight(&visitors.origins, &asked, "GET, HEAD, POST, OPTIONS");
        }
        (&Method::GET | &Method::HEAD, login) => Ok(json(
            StatusCode::OK,
            &Offer { login: login.is_some(), anonymous: visitors.anonymous },
        )),
        (&Method::POST, Some(login)) => admit(http, visitors, login, request).await,
        (_, Some(_)) => Err(Problem::method_not_allowed(ALL)),
        (_, None) => Err(Problem::method_not_allowed(READ)),
    };
    let mut response = result.unwrap_or_else(|problem| problem.response());
    cors::admit(&visitors.origins, &asked, &mut response);
    response
}

async fn admit(
    http: &Http,
    visitors: &Visitors,
    login: &Login,
    request: Request,
) -> Result<Response, Problem> {
    // Before anything is read: a page of another site must not try passwords through its visitors.
    cors::check(&visitors.origins, request.headers())?;
    let (parts, body) = request.into_parts();
    let text = body::read(&parts.headers, body, LARGEST, http.patience).await?;
    let shown: Shown<'_> =
        serde_json::from_slice(&text).map_err(|error| match error.is_data() {
            true => Problem::new(
                Code::BadMessage,
                "The body must be an object with `user` and `password`.",
            ),
            false => Fault::new(Code::BadJson).into(),
        })?;
    let ip = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    login.throttle(&shown.user, ip)?;
    let (user, password) = (shown.user.into_owned(), shown.password.into_owned());
    let visa = match &login.source {
        Source::Users => known(http, login, user, password).await?,
        Source::Webhook(webhook) => {
            let place = login.place().await?;
            let visa = webhook.login(user, password, visit(&parts, ip)).await;
            drop(place);
            visa.map(Some).or_else(|denied| match denied {
                Denied::Unauthorized | Denied::Forbidden => Ok(None),
                Denied::Unavailable => Err(Problem::from(Fault::new(Code::Unavailable))),
            })?
        }
    };
    // What is over already lets nobody in; a session of no length would have no end.
    let visa = visa.filter(|visa| visa.expires.is_none_or(|at| at > now()));
    let Some(visa) = visa else {
        add(&login.counts.refused);
        return Err(Problem::new(Code::Unauthorized, "The name or the password is wrong."));
    };
    let session_ttl = login.lifetime(visa.expires, now());
    let (user_id, name) = (visa.user_id.clone(), visa.name.clone());
    let ticket = http.server.issue_ticket(NewTicket {
        user_id: visa.user_id,
        name: visa.name,
        info: visa.info,
        grants: visa.grants,
        ip: None,
        ttl: None,
        session_ttl: Some(session_ttl),
        via: Via::Login,
    });
    let ticket = ticket.await?;
    add(&login.counts.admitted);
    let (ticket, expires_at) = (ticket.ticket, ticket.expires_at);
    Ok(json(StatusCode::OK, &Admitted { ticket, expires_at, user_id, name }))
}

/// The user of the vault with this name and password, if there is one who may log in.
async fn known(
    http: &Http,
    login: &Login,
    user: String,
    password: String,
) -> Result<Option<Visa>, Problem> {
    let place = login.place().await?;
    let row = match is_name(&user, 127) {
        true => row(http, &user).await?,
        false => None,
    };
    let hash =
        row.as_ref().map_or_else(|| password::nobody().to_owned(), |row| row.password.clone());
    // The place is given back when the work is done, also if the client does not wait for that.
    let fits = tokio::task::spawn_blocking(move || {
        let _place = place;
        password::verify(password.as_bytes(), &hash)
    });
    let fits = fits.await.map_err(|_| Problem::from(Fault::new(Code::Internal)))?;
    let Some(before) = row.filter(|_| fits) else { return Ok(None) };
    // The work has taken its time: what was changed meanwhile holds.
    let now = self::row(http, &user).await?;
    let same = |row: &UserRow| !row.disabled && row.password == before.password;
    let Some(row) = now.filter(same) else { return Ok(None) };
    let account = Account::read(&row.record);
    let with_grants = account.and_then(|account| Some((account.grants()?, account)));
    let (grants, account): (Grants, Account) =
        with_grants.ok_or_else(|| Problem::from(Fault::new(Code::Internal)))?;
    let info = account.info();
    Ok(Some(Visa { user_id: row.id, name: account.name, info, grants, ..Visa::default() }))
}

async fn row(http: &Http, user: &str) -> Result<Option<UserRow>, Problem> {
    let (sender, receiver) = oneshot::channel();
    http.server.vault().user(user, move |answer| drop(sender.send(answer)));
    match receiver.await {
        Ok(Ok(row)) => Ok(row),
        Ok(Err(_)) | Err(_) => Err(Fault::new(Code::Unavailable).into()),
    }
}

fn visit(parts: &Parts, ip: Option<IpAddr>) -> Visit {
    let header = |name: HeaderName| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    Visit {
        ip,
        origin: header(ORIGIN),
        path: parts.uri.path().to_owned(),
        room: None,
        user_agent: header(USER_AGENT),
    }
}

fn rate(pace: config::Pace) -> throng_hub::Rate {
    let rate = match pace.period.as_secs() {
        0 | 1 => throng_hub::Rate::per_second(pace.count),
        2..=60 => throng_hub::Rate::per_minute(pace.count),
        _ => throng_hub::Rate::per_hour(pace.count),
    };
    rate.with_burst(pace.burst)
}

/// Counts somebody who waits for a place.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The body, in bytes: a name of 127 and a password of 1024, however they are written.
const LARGEST: usize = 8 << 10;
/// Passwords that are hashed at the same time.
const AT_ONCE: usize = 2;
/// Passwords that a webhook is asked about at the same time.
const QUESTIONS_AT_ONCE: usize = 32;
/// Those that wait for that, and for how long.
const MOST_WAITING: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Offer {
    login: bool,
    anonymous: bool,
}

#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    password: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Admitted {
    ticket: String,
    expires_at: u64,
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_over_when_its_visa_is() {
        let of = |seconds, expires| {
            let attempts = config::Rate::Off;
            let session_ttl = Duration::from_secs(seconds);
            let config = config::Login { enabled: true, attempts, session_ttl };
            Login::new(&config, Cidrs::default(), Source::Users).lifetime(expires, 1000).as_millis()
        };
        assert_eq!((of(60, None), of(0, None)), (60_000, 0));
        assert_eq!((of(60, Some(3000)), of(60, Some(90_000))), (2000, 60_000));
        assert_eq!(of(0, Some(3000)), 2000);
        assert_eq!((of(0, Some(1000)), of(0, Some(1))), (1, 1), "never without an end");
    }
}
