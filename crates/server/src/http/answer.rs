//! Answers in JSON, and the one shape of every refusal.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;
use throng::{Code, Fault};

/// Why a request is refused: a row of the table of errors, or one of the few that only HTTP knows
/// (`not_found`, `method_not_allowed`, `request_timeout`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: Cow<'static, str>,
    temporary: bool,
    /// After how long the same may succeed, where that is known.
    wait: Option<Duration>,
    /// The `ref` of the refused message, when it could be read.
    reference: Option<u64>,
    /// What may be done here instead, for `method_not_allowed`.
    allow: Cow<'static, [Method]>,
}

impl Problem {
    /// One of the table, with a text of its own.
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Fault::new(code).with_message(message).into()
    }

    /// Nothing is at this path.
    pub(super) fn not_found() -> Self {
        Self::of_http(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.")
    }

    /// No server of this name shares our rooms.
    pub(super) fn no_node() -> Self {
        Self::of_http(StatusCode::NOT_FOUND, "not_found", "There is no node of this name.")
    }

    /// Something is at this path, but for other methods.
    pub(super) fn method_not_allowed(allow: impl Into<Cow<'static, [Method]>>) -> Self {
        let text = "This method is not for this path; the header Allow says which are.";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self { allow: allow.into(), ..Self::of_http(status, "method_not_allowed", text) }
    }

    /// The body did not come in time.
    pub(super) fn timeout() -> Self {
        let text = "The body of the request did not come in time.";
        let problem = Self::of_http(StatusCode::REQUEST_TIMEOUT, "request_timeout", text);
        Self { temporary: true, ..problem }
    }

    /// The same for a request that may succeed after this time.
    pub(super) fn after(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// The same about the message with this `ref`.
    pub(super) fn about(self, reference: Option<u64>) -> Self {
        Self { reference, ..self }
    }

    /// The answer to a request: `{"error":{"code","message","temporary"}}`.
    pub(super) fn response(&self) -> Response {
        self.answer(&Error { error: self.row() })
    }

    /// The answer to a message: the same `error` as on a WebSocket.
    pub(super) fn reply(&self) -> Response {
        self.answer(&Reply { kind: "error", reference: self.reference, row: self.row() })
    }

    /// One item of the answer to a batch.
    pub(super) fn item(&self) -> impl Serialize + '_ {
        Error { error: self.row() }
    }

    fn of_http(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        let message = Cow::Borrowed(message);
        let allow = Cow::Borrowed(&[][..]);
        Self { status, code, message, temporary: false, wait: None, reference: None, allow }
    }

    fn row(&self) -> Row<'_> {
        Row { code: self.code, message: &self.message, temporary: self.temporary }
    }

    fn answer(&self, body: &impl Serialize) -> Response {
        let mut response = json(self.status, body);
        let headers = response.headers_mut();
        if self.temporary {
            // In whole seconds, and never too early.
            let wait = self.wait.unwrap_or_default();
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if !self.allow.is_empty() {
            let allow: Vec<&str> = self.allow.iter().map(Method::as_str).collect();
            if let Ok(allow) = HeaderValue::try_from(allow.join(", ")) {
                headers.insert(ALLOW, allow);
            }
        }
        response
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let status = StatusCode::from_u16(fault.code.status());
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: fault.code.name(),
            message: fault.message,
            temporary: fault.code.is_temporary(),
            wait: fault.retry_after.map(Duration::from_millis),
            reference: fault.reference,
            allow: Cow::Borrowed(&[]),
        }
    }
}

/// An answer with a value as its body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => written(status, bytes),
        Err(_) => written(StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
    }
}

/// An answer whose body is JSON already.
pub(super) fn written(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[derive(Serialize)]
struct Error<'a> {
    error: Row<'a>,
}

#[derive(Serialize)]
struct Reply<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<u64>,
    #[serde(flatten)]
    row: Row<'a>,
}

#[derive(Serialize)]
struct Row<'a> {
    code: &'a str,
    message: &'a str,
    temporary: bool,
}
