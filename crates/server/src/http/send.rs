//! `POST /send`: the way back for clients that read events. One message, one answer.

use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::Serialize;
use throng::{Code, SessionRef, Target};

use super::answer::{Problem, json};
use super::message::{Letter, Sender, is_name};
use super::query::Query;
use super::{Http, Visitors, body, cors, keys};

/// Answers a request for `/send` with the `ack` or `error` that a WebSocket would get.
pub(super) async fn answer(http: &Http, visitors: &Visitors, request: Request) -> Response {
    const METHODS: &[Method] = &[Method::POST, Method::OPTIONS];
    let asked = request.headers().clone();
    if request.method() == Method::OPTIONS {
        return cors::preflight(&visitors.origins, &asked, "POST, OPTIONS");
    }
    let result = match request.method() == Method::POST {
        true => publish(http, visitors, request).await,
        false => Err(Problem::method_not_allowed(METHODS)),
    };
    let mut response = result.unwrap_or_else(|problem| problem.reply());
    cors::admit(&visitors.origins, &asked, &mut response);
    response
}

async fn publish(http: &Http, visitors: &Visitors, request: Request) -> Result<Response, Problem> {
    cors::check(&visitors.origins, request.headers())?;
    let (parts, body) = request.into_parts();
    let token = match keys::bearer(&parts.headers) {
        Some(token) => Some(token.to_owned()),
        None => Query::of(&parts.uri).text("resume"),
    };
    // First of all, so that nobody's body is read for nothing.
    session(http, token.as_deref()).await?;
    let bytes = body::read(&parts.headers, body, http.max_message, http.patience).await?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Problem::new(Code::BadJson, "The message is not UTF-8."))?;
    let letter = Letter::read(text, Sender::Session)?;
    let about_it = |problem: Problem| problem.about(letter.reference);
    let bad = |text| about_it(Problem::new(Code::BadMessage, text));
    let target = match (&letter.room, &letter.to) {
        (Some(room), None) if is_name(room, 128) => Target::Room(room),
        (None, Some(user)) if is_name(user, 127) => Target::User(user),
        (Some(_), None) => return Err(bad("No room can have this name.")),
        (None, Some(_)) => return Err(bad("No user can have this id.")),
        _ => return Err(bad("A message goes to a `room` or `to` a user, one of them.")),
    };
    // The body may have taken its time: whoever has been signed out meanwhile is no longer anybody.
    let session = session(http, token.as_deref()).await.map_err(about_it)?;
    let reference = letter.reference.unwrap_or(0);
    let sent = http.server.publish_as(&session, target, reference, text.as_bytes()).await;
    let sent = sent.map_err(|fault| about_it(fault.into()))?;
    Ok(json(
        StatusCode::OK,
        &Ack {
            kind: "ack",
            reference: letter.reference,
            room: &sent.room,
            seq: sent.seq,
            timestamp: sent.timestamp,
            duplicate: sent.duplicate,
        },
    ))
}

/// The session that a resume token stands for.
async fn session(http: &Http, token: Option<&str>) -> Result<SessionRef, Problem> {
    let found = match token {
        Some(token) => http.server.session(token).await?,
        None => None,
    };
    found.ok_or_else(|| {
        let text =
            "The request needs the `resume` token of a session: Authorization: Bearer <token>.";
        Problem::new(Code::Unauthorized, text)
    })
}

#[derive(Serialize)]
struct Ack<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<u64>,
    room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    timestamp: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}
