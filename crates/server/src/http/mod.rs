//! What is served over plain HTTP beside the pages: the API for servers (`/api/v1`), and rooms for clients
//! without WebSockets (`GET /sse`, `POST /send`), and logging in (`/login`).
//!
//! - [`routes`] is the table of the API, [`api`] its operations, [`openapi`] its description.
//! - [`sse`] is the stream of events of a few rooms, [`send`] the way back, [`cors`] who may use them.
//! - [`login`] gives tickets for passwords, [`throttle`] not too often.
//! - [`answer`] is the shape of all answers and refusals, [`body`], [`message`] and [`query`] read requests.
//! - [`keys`] makes API keys and knows them again, [`tally`] counts answers.

mod answer;
mod api;
mod body;
mod cors;
mod keys;
mod login;
mod message;
mod openapi;
mod query;
mod routes;
mod send;
mod sse;
mod tally;
mod throttle;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use throng::{Origins, Server};

pub(crate) use self::api::shown_nodes;
pub(crate) use self::keys::NewKey;
pub(crate) use self::login::{Login, Source};
pub(crate) use self::tally::Tally;
use crate::config::{Endpoint, Keyring, Kind, Listener};
use crate::listen::Front;
use crate::wiring::origins;

/// What the handlers share.
pub(crate) struct Http {
    pub(crate) server: Server,
    pub(crate) front: Arc<Front>,
    /// Who may use the API.
    pub(crate) keys: Keyring,
    /// From which pages browsers may come where a listener has no rooms.
    pub(crate) origins: Origins,
    /// Whether visitors without credentials may read events where a listener has no rooms.
    pub(crate) anonymous: bool,
    /// The largest message, in bytes.
    pub(crate) max_message: usize,
    /// Who may log in with a password, if anybody.
    pub(crate) login: Option<Login>,
    /// How long the body of a request may take.
    pub(crate) patience: Duration,
    /// Over how long clients are sent away when nobody says.
    pub(crate) drain_spread: Duration,
    /// Answers of the API so far.
    pub(crate) tally: Tally,
}

/// Who may come to a listener without a WebSocket: whoever may come to its rooms with one.
pub(crate) struct Visitors {
    /// Whether visitors without credentials are let in.
    pub(crate) anonymous: bool,
    /// From which pages browsers may come.
    pub(crate) origins: Origins,
}

/// Adds to a router what its listener serves.
pub(crate) fn add_to(mut router: Router, http: &Arc<Http>, listener: &Listener) -> Router {
    if listener.api {
        for path in ["/api", "/api/", "/api/{*path}"] {
            let http = Arc::clone(http);
            let answer = async move |request: Request| api::answer(&http, request).await;
            router = router.route(path, any(answer));
        }
    }
    let is_rooms = |endpoint: &&Endpoint| endpoint.kind == Kind::Rooms;
    let rooms = listener.endpoints.iter().find(is_rooms);
    let every = listener.endpoints.iter().filter(is_rooms).map(|rooms| rooms.options.anonymous);
    let visitors = Arc::new(Visitors {
        anonymous: rooms.map_or(http.anonymous, |_| every.clone().all(|admitted| admitted)),
        origins: rooms.map_or_else(|| http.origins.clone(), |r| origins(&r.options.origins)),
    });
    if listener.sse || rooms.is_some() {
        let (http, visitors) = (Arc::clone(http), Arc::clone(&visitors));
        let answer = async move |r: Request| login::answer(&http, &visitors, r).await;
        router = router.route("/login", any(answer));
    }
    if listener.sse {
        let (events, who) = (Arc::clone(http), Arc::clone(&visitors));
        let (way_back, whose) = (Arc::clone(http), visitors);
        router = router
            .route("/sse", any(async move |r: Request| sse::answer(&events, &who, r).await))
            .route("/send", any(async move |r: Request| send::answer(&way_back, &whose, r).await));
    }
    router
}
