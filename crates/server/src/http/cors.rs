//! Which pages may read events and send messages: the same as may open a WebSocket of the kind rooms.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use throng::{Code, Origins};

use super::answer::Problem;

/// Refuses requests of pages that may not use this.
pub(super) fn check(origins: &Origins, headers: &HeaderMap) -> Result<(), Problem> {
    match origins.allow(headers) {
        true => Ok(()),
        false => Err(Problem::new(Code::Forbidden, "This page may not use this server.")),
    }
}

/// Lets the page that asked read the answer, if it may.
pub(super) fn admit(origins: &Origins, asked: &HeaderMap, response: &mut Response) {
    let headers = response.headers_mut();
    // Caches must not give the answer for one page to another.
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = asked.get(ORIGIN)
        && origins.allow(asked)
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
}

/// Answers the question of a browser whether a page may send a request (`OPTIONS`).
pub(super) fn preflight(origins: &Origins, asked: &HeaderMap, methods: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if asked.contains_key(ORIGIN) && origins.allow(asked) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        let names = "authorization, content-type, last-event-id";
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    admit(origins, asked, &mut response);
    response
}
