//! `GET /sse?room=a&room=b`: the messages of rooms as server-sent events.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream as _;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, USER_AGENT,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, Method};
use hyper::body::Frame;
use throng::{Code, Events, Subscription, Visit};

use super::answer::Problem;
use super::message::is_name;
use super::query::Query;
use super::{Http, Visitors, cors, keys};
use crate::listen::Door;

/// Answers a request for `/sse`.
pub(super) async fn answer(http: &Http, visitors: &Visitors, request: Request) -> Response {
    const METHODS: &[Method] = &[Method::GET, Method::OPTIONS];
    // The body is not read, and must not be held on to while something is waited for.
    let (request, _) = request.into_parts();
    let headers = &request.headers;
    if request.method == Method::OPTIONS {
        return cors::preflight(&visitors.origins, headers, "GET, OPTIONS");
    }
    let result = match request.method == Method::GET {
        true => open(http, visitors, &request).await,
        false => Err(Problem::method_not_allowed(METHODS)),
    };
    let mut response = result.unwrap_or_else(|problem| {
        let mut response = problem.response();
        // It may be counted as a stream already, so it must not become one of HTTP again.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    });
    cors::admit(&visitors.origins, headers, &mut response);
    response
}

async fn open(http: &Http, visitors: &Visitors, request: &Parts) -> Result<Response, Problem> {
    if http.server.is_draining() {
        return Err(Problem::new(Code::Unavailable, "The server is shutting down; try again."));
    }
    cors::check(&visitors.origins, &request.headers)?;
    let subscription = subscription(visitors, request)?;
    // From here on it does not count as one of the few connections that HTTP may have.
    if !request.extensions.get::<Door>().is_some_and(Door::become_stream) {
        return Err(Problem::new(Code::RateLimited, "The server has all the streams it may have."));
    }
    let events = http.server.subscribe(subscription).await?;
    let closing = http.front.closing();
    let stream = Streamed { events: Some(Box::pin(events)), closing: Box::pin(closing) };
    let mut response = Response::new(Body::new(stream));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // nginx collects answers unless it is told not to.
        (HeaderName::from_static("x-accel-buffering"), "no"),
        // When the stream ends, so does the connection: it is not counted as one of HTTP any more.
        (CONNECTION, "close"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn subscription(visitors: &Visitors, request: &Parts) -> Result<Subscription, Problem> {
    let query = Query::of(&request.uri);
    let rooms: Vec<String> = query.all("room").map(str::to_owned).collect();
    if rooms.is_empty() || rooms.len() > MOST_ROOMS {
        let text = "A stream is of 1 to 32 rooms: /sse?room=a&room=b.";
        return Err(Problem::new(Code::BadMessage, text));
    }
    if !rooms.iter().all(|room| is_name(room, 128)) {
        return Err(Problem::new(Code::UnknownRoom, "No room can have this name."));
    }
    let mut sorted: Vec<&str> = rooms.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Problem::new(Code::BadMessage, "A room is named twice."));
    }
    let rewind = query.number("rewind", 0..=MOST_REWOUND)?.unwrap_or(0);
    Ok(Subscription {
        rooms,
        name: query.text("name"),
        resume: query.text("resume"),
        ticket: query.text("ticket"),
        token: query.text("token").or_else(|| keys::bearer(&request.headers).map(str::to_owned)),
        anonymous: visitors.anonymous,
        visit: Visit {
            ip: request.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip()),
            origin: header(request, ORIGIN),
            path: request.uri.path().to_owned(),
            room: None,
            user_agent: header(request, USER_AGENT),
        },
        last_event_id: last_event_id(&request.headers).or_else(|| query.text("lastEventId")),
        rewind: u32::try_from(rewind).unwrap_or(u32::MAX),
    })
}

fn header(request: &Parts, name: HeaderName) -> Option<String> {
    Some(request.headers.get(name)?.to_str().ok()?.to_owned())
}

/// What the browser sends when it comes back. It wins over the query, which stays as it was at first.
fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// The events as the body of an answer; ends when the server closes.
struct Streamed<C> {
    /// Dropped as soon as the stream has ended: the user leaves the rooms then.
    events: Option<Pin<Box<Events>>>,
    closing: Pin<Box<C>>,
}

impl<C: Future<Output = ()>> hyper::body::Body for Streamed<C> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(events) = &mut self.events else { return Poll::Ready(None) };
        let next = events.as_mut().poll_next(context);
        let ended = match &next {
            Poll::Ready(event) => event.is_none(),
            // What is there already is still sent.
            Poll::Pending => self.closing.as_mut().poll(context).is_ready(),
        };
        if ended {
            self.events = None;
            return Poll::Ready(None);
        }
        next.map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

const MOST_ROOMS: usize = 32;
const MOST_REWOUND: u64 = 1000;
