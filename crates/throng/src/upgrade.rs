//! From a request to a connection on a worker: everything decided before the 101, and the
//! hand-off behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::axum::body::Body;
use ::axum::extract::{ConnectInfo, Request};
use ::axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use throng_engine::{Full, Handover, Opening, Permit, Start, Visitor, Who};
use throng_hub::Rights;
use throng_protocol::SUBPROTOCOL;
use throng_wire::handshake::server::{ServerOptions, accept};
use throng_wire::{CloseCode, OpCode, Prepared};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::credentials::Visit;
use crate::endpoint::{Endpoint, Kind};
use crate::gate::{Entrance, Shown, Turned, Unclaimed};
use crate::handover::hand_over;
use crate::keeper::SIGNED_OUT;
use crate::server::Server;
use crate::sessions::FORBIDDEN;

/// The subprotocol that was agreed, in the extensions of the request that a handler is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subprotocol(pub String);

/// Answers an upgrade request: `101` and a connection, or a refusal, for which nothing is kept.
///
/// In order: draining (`503`), handshakes of the address (`429`), handshake (`400`, `405`, `426`), origin (`403`), credentials (`401`, `403`,
/// `503`) or the handler's own decision, the caps (`429`).
pub(crate) async fn upgrade(
    server: &Server,
    request: Request,
    endpoint: &Endpoint,
    room: Option<&str>,
) -> Response {
    let refused = &server.inner.gate.refused;
    if server.is_draining() {
        refused.draining.add();
        return retry_later(StatusCode::SERVICE_UNAVAILABLE);
    }
    let (mut parts, _body) = request.into_parts();
    let ip = address_of(&parts);
    let admission = server.inner.engine.admission();
    if let Err(full) = admission.knock(ip) {
        return turn_back(full);
    }
    let offers = Offers::read(&parts, endpoint);
    let mut subprotocols: Vec<&str> = endpoint.subprotocols.iter().map(String::as_str).collect();
    subprotocols.extend(offers.agreeable());
    let options =
        ServerOptions { subprotocols: &subprotocols, deflate: endpoint.policy.deflate.as_ref() };
    let accepted = match accept(&parts.method, parts.version, &parts.headers, &options) {
        Ok(accepted) => accepted,
        Err(refusal) => {
            refused.handshake.add();
            return refusal.response().map(|()| Body::from(format!("{refusal}\n")));
        }
    };
    if !endpoint.origins.allow(&parts.headers) {
        refused.origin.add();
        return StatusCode::FORBIDDEN.into_response();
    }
    let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        refused.handshake.add();
        let text = "this connection cannot be upgraded\n";
        return (StatusCode::UPGRADE_REQUIRED, text).into_response();
    };
    let is_full = accepted.subprotocol.as_deref() == Some(SUBPROTOCOL);
    if let Some(agreed) = accepted.subprotocol {
        parts.extensions.insert(Subprotocol(agreed));
    }
    let (opening, unclaimed) = match open(server, endpoint, room, &parts, is_full, offers).await {
        Ok(opened) => opened,
        Err(response) => {
            let told = response.extensions().get::<Told>().copied();
            let told = told.filter(|_| is_full && wants_words(&parts.uri));
            let Some(told) = told else { return response };
            return match admission.admit(ip) {
                Ok(permit) => {
                    tokio::spawn(tell(told, on_upgrade, permit));
                    accepted.response.map(|()| Body::empty())
                }
                Err(full) => turn_back(full),
            };
        }
    };
    let permit = admission.admit(ip).and_then(|permit| match signed_in(&opening) {
        Some(user) => permit.of_user(user),
        None => Ok(permit),
    });
    let permit = match permit {
        Ok(permit) => permit,
        Err(full) => return turn_back(full),
    };
    let handover = Handover {
        read_ahead: Default::default(),
        opening,
        policy: Arc::clone(&endpoint.policy),
        deflate: accepted.deflate,
        permit: Some(permit),
        companion: None,
    };
    server.inner.desk.runs_here();
    let server = server.clone();
    tokio::spawn(async move {
        // An error: the client went away before the 101 was written.
        let Ok(upgraded) = on_upgrade.await else { return };
        match hand_over(&server.inner.engine, upgraded, handover).await {
            Ok(()) => unclaimed.into_iter().for_each(Unclaimed::claim),
            Err(error) => tracing::warn!(%error, "a connection could not be handed to a worker"),
        }
    });
    accepted.response.map(|()| Body::empty())
}

/// The user who is signed in, if somebody is.
fn signed_in(opening: &Opening) -> Option<&str> {
    let (Opening::Plain(_, _, visitor) | Opening::Full(visitor) | Opening::Guarded(_, visitor)) =
        opening
    else {
        return None;
    };
    match &visitor.who {
        Who::Known(who) | Who::Resumed(who) if visitor.pass.is_some() => Some(who.user_id()),
        _ => None,
    }
}

/// What a refused client of the typed protocol is told by a close frame, if it asks for that.
#[derive(Clone, Copy)]
struct Told(CloseCode, &'static str);

/// Browsers do not let pages see how a handshake was refused. Whoever says `?refusal=close` gets the `101` nevertheless, and
/// then only the reason.
fn wants_words(uri: &Uri) -> bool {
    query_value(uri, "refusal").is_some_and(|how| how == "close")
}

/// Closes a connection that was never one. No worker hears of it, and nothing that comes is looked at.
async fn tell(Told(code, reason): Told, on_upgrade: OnUpgrade, permit: Permit) {
    let mut payload = code.get().to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    let close = Prepared::new(OpCode::Close, &payload);
    let told = async {
        let mut stream = TokioIo::new(on_upgrade.await.ok()?);
        stream.write_all(close.frame()).await.ok()?;
        stream.flush().await.ok()?;
        // Its own close frame, most likely.
        let _ = stream.read(&mut [0; 512]).await.ok()?;
        stream.shutdown().await.ok()
    };
    let _ = tokio::time::timeout(LAST_WORD, told).await;
    drop(permit);
}

/// The answer when there is no place: `429`, or `503` when it is for want of memory.
fn turn_back(full: Full) -> Response {
    let status = match full {
        Full::Memory => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::TOO_MANY_REQUESTS,
    };
    let mut response = (status, format!("{full}\n")).into_response();
    let wait = HeaderValue::from(full.retry_after().as_secs());
    response.headers_mut().insert(header::RETRY_AFTER, wait);
    response
}

/// The address of the client, where the application tells.
pub(crate) fn address_of(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical())
}

async fn open(
    server: &Server,
    endpoint: &Endpoint,
    room: Option<&str>,
    parts: &Parts,
    is_full: bool,
    offers: Offers,
) -> Result<(Opening, Option<Unclaimed>), Response> {
    let space = endpoint.space;
    let room = match &endpoint.kind {
        Kind::Handler(decide) => return Ok((Opening::Handler(decide(parts)?), None)),
        Kind::Echo => None,
        Kind::Relay(default) => Some(room.unwrap_or(default)),
        Kind::Rooms(default) => (!is_full).then(|| room.unwrap_or(default)),
    };
    let needs_nobody = endpoint.anonymous && !matches!(endpoint.kind, Kind::Rooms(_));
    let entrance = match needs_nobody {
        true => None,
        false => Some(enter(server, endpoint, parts, offers, room).await?),
    };
    let of_kind = |kind: &Kind| match kind {
        Kind::Relay(default) => Opening::Relay(space, room.unwrap_or(default).into()),
        _ => Opening::Echo,
    };
    let Some(Entrance { who, pass, unclaimed }) = entrance else {
        return Ok((of_kind(&endpoint.kind), None));
    };
    let visitor = Visitor { who, pass };
    let opening = match (&endpoint.kind, room) {
        (Kind::Rooms(_), None) => Opening::Full(visitor),
        (Kind::Rooms(_), Some(room)) => Opening::Plain(room.into(), start(&parts.uri), visitor),
        (kind, _) => Opening::Guarded(Box::new(of_kind(kind)), visitor),
    };
    Ok((opening, unclaimed))
}

/// Who comes, if they may: to a room of the typed protocol, where one is named.
async fn enter(
    server: &Server,
    endpoint: &Endpoint,
    parts: &Parts,
    offers: Offers,
    room: Option<&str>,
) -> Result<Entrance, Response> {
    let inner = &server.inner;
    let front = inner.desk.front();
    let visit = visit_of(parts, room);
    let shown = Shown { name: query_value(&parts.uri, "name"), ..offers.shown() };
    let entrance = inner.gate.admit(shown, visit, front).await.map_err(turn_away)?;
    let is_anonymous = matches!(entrance.who, Who::Anonymous(_)) || entrance.pass.is_none();
    if is_anonymous && !endpoint.anonymous {
        inner.gate.refused.anonymous.add();
        return Err(turn_away(Turned::Unauthorized));
    }
    let Some(room) = room.filter(|_| matches!(endpoint.kind, Kind::Rooms(_))) else {
        return Ok(entrance);
    };
    let rule = front.hub().rule(room);
    if !rule.allow {
        return Err(StatusCode::NOT_FOUND.into_response());
    }
    let who = entrance.identity();
    let allowed = front.access().of(&who, entrance.pass.as_deref(), room, rule, front.now());
    if !allowed.may(Rights::JOIN) {
        return Err(if is_anonymous {
            inner.gate.refused.anonymous.add();
            turn_away(Turned::Unauthorized)
        } else {
            inner.gate.refused.forbidden.add();
            turn_away(Turned::Forbidden)
        });
    }
    Ok(entrance)
}

/// Where somebody comes.
pub(crate) fn visit_of(parts: &Parts, room: Option<&str>) -> Visit {
    let text = |name| Some(parts.headers.get(name)?.to_str().ok()?.to_owned());
    Visit {
        ip: address_of(parts),
        origin: text(header::ORIGIN),
        path: parts.uri.path().to_owned(),
        room: room.map(str::to_owned),
        user_agent: text(header::USER_AGENT),
    }
}

fn turn_away(turned: Turned) -> Response {
    match turned {
        Turned::Unauthorized => {
            let mut response = (
                StatusCode::UNAUTHORIZED,
                "a ticket or token is needed, and good for \
                one handshake\n",
            )
                .into_response();
            // RFC 9110 §15.5.2 wants to be told what would do.
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            response.extensions_mut().insert(Told(SIGNED_OUT, "unauthorized"));
            response
        }
        Turned::Forbidden => forbidden("you may not be there\n", "forbidden"),
        Turned::Banned => forbidden("you are banned\n", "banned"),
        Turned::Unavailable => retry_later(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn forbidden(text: &'static str, reason: &'static str) -> Response {
    let mut response = (StatusCode::FORBIDDEN, text).into_response();
    response.extensions_mut().insert(Told(FORBIDDEN, reason));
    response
}

/// What a handshake offers beside itself: subprotocols, and credentials among them or elsewhere.
#[derive(Default)]
struct Offers {
    query: Shown,
    /// Subprotocols with credentials, whole.
    offered: Vec<String>,
    bearer: Option<String>,
    speaks: bool,
    is_typed: bool,
}

impl Offers {
    fn read(parts: &Parts, endpoint: &Endpoint) -> Self {
        let is_typed = matches!(endpoint.kind, Kind::Rooms(_));
        if matches!(endpoint.kind, Kind::Handler(_)) || !is_typed && endpoint.anonymous {
            return Self::default();
        }
        let listed = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let listed = listed.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        let listed: Vec<&str> = listed.map(str::trim).collect();
        let is_credential = |offered: &&&str| {
            [RESUME, TICKET, TOKEN].iter().any(|prefix| offered.starts_with(prefix))
        };
        Self {
            query: Shown {
                // A relay or echo has nothing to come back to.
                resume: query_value(&parts.uri, "resume").filter(|_| is_typed),
                ticket: query_value(&parts.uri, "ticket"),
                token: query_value(&parts.uri, "token"),
                name: None,
            },
            offered: listed.iter().filter(is_credential).map(|&o| o.to_owned()).collect(),
            bearer: bearer(&parts.headers),
            speaks: listed.contains(&SUBPROTOCOL),
            is_typed,
        }
    }

    /// What may be agreed on: the protocol itself, else whatever carries credentials, for a browser drops a
    /// connection whose server agrees to none of what was offered.
    fn agreeable(&self) -> impl Iterator<Item = &str> {
        let typed = (self.is_typed && self.speaks).then_some(SUBPROTOCOL);
        let offered = self.offered.iter().filter(move |_| typed.is_none());
        typed.into_iter().chain(offered.map(String::as_str))
    }

    fn shown(self) -> Shown {
        let behind = |prefix| {
            let offered = self.offered.iter().find_map(|offered| offered.strip_prefix(prefix));
            offered.map(str::to_owned)
        };
        Shown {
            resume: self.query.resume.or_else(|| behind(RESUME)).filter(|_| self.is_typed),
            ticket: self.query.ticket.or_else(|| behind(TICKET)),
            token: self.query.token.or_else(|| behind(TOKEN)).or(self.bearer),
            name: None,
        }
    }
}

/// What stands behind `Authorization: Bearer`; nothing, which is never good, when that cannot be told.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?;
    let (Ok(value), None) = (value.to_str(), values.next()) else { return Some(String::new()) };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// Where a plain client wants to begin: `?since=<epoch>.<seq>`, `?rewind=<n>`. What is neither is nothing.
fn start(uri: &Uri) -> Start {
    let since = query_value(uri, "since").and_then(|since| {
        let (epoch, seq) = since.split_once('.')?;
        Some((epoch.to_owned(), seq.parse().ok()?))
    });
    let rewind = query_value(uri, "rewind").and_then(|rewind| rewind.parse().ok()).unwrap_or(0);
    Start { since, rewind: rewind.min(throng_protocol::MAX_REWIND) }
}

/// How long a refused client may take to be told why.
const LAST_WORD: Duration = Duration::from_secs(2);

const RESUME: &str = "resume.";
const TICKET: &str = "ticket.";
const TOKEN: &str = "token.";

/// The close code for a connection whose session another one has taken up.
pub(crate) const REPLACED: CloseCode = match CloseCode::new(4409) {
    Some(code) => code,
    None => CloseCode::INTERNAL, // not reached: it may travel
};

/// A value of the query, decoded as forms are.
fn query_value(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query()?;
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn retry_later(status: StatusCode) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
