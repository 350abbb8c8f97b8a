//! What is served over plain HTTP beside the pages: the API for servers (`/api/v1`), and rooms for clients
//! without WebSockets (`GET /sse`, `POST /send`).
//!
//! - [`routes`] is the table of the API, [`api`] its operations, [`openapi`] its description.
//! - [`sse`] is the stream of events of a few rooms, [`send`] the way back, [`cors`] who may use them.
//! - [`answer`] is the shape of all answers and refusals, [`body`], [`message`] and [`query`] read requests.
//! - [`keys`] makes API keys and knows them again, [`tally`] counts answers.

mod answer;
mod api;
mod body;
mod cors;
mod keys;
mod message;
mod openapi;
mod query;
mod routes;
mod send;
mod sse;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use throng::{Origins, Server};

pub(crate) use self::keys::NewKey;
pub(crate) use self::tally::Tally;
use crate::config::{ApiKeys, Listener};
use crate::listen::Front;

/// What the handlers share.
pub(crate) struct Http {
    pub(crate) server: Server,
    pub(crate) front: Arc<Front>,
    /// Who may use the API.
    pub(crate) keys: ApiKeys,
    /// From which pages browsers may read events and send messages.
    pub(crate) origins: Origins,
    /// The largest message, in bytes.
    pub(crate) max_message: usize,
    /// How long the body of a request may take.
    pub(crate) patience: Duration,
    /// Answers of the API so far.
    pub(crate) tally: Tally,
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
    if listener.sse {
        let (events, way_back) = (Arc::clone(http), Arc::clone(http));
        router = router
            .route("/sse", any(async move |request: Request| sse::answer(&events, request)))
            .route("/send", any(async move |r: Request| send::answer(&way_back, r).await));
    }
    router
}
