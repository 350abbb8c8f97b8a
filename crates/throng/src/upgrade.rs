//! From a request to a connection on a worker: everything decided before the 101, and the
//! hand-off behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::axum::body::Body;
use ::axum::extract::{ConnectInfo, Request};
use ::axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Uri};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use throng_engine::{Engine, Front, Handover, Opening, Start, Visitor};
use throng_hub::{Identity, Standing};
use throng_protocol::SUBPROTOCOL;
use throng_wire::CloseCode;
use throng_wire::handshake::server::{ServerOptions, accept};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use crate::endpoint::{Endpoint, Kind};
use crate::server::Server;

/// The subprotocol that was agreed, in the extensions of the request that a handler is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subprotocol(pub String);

/// Answers an upgrade request: `101` and a connection, or a refusal, for which nothing is kept.
///
/// In order: draining (`503`), handshake (`400`, `405`, `426`), origin (`403`), the handler's
/// own decision, the caps (`429`).
pub(crate) fn upgrade(
    server: &Server,
    request: Request,
    endpoint: &Endpoint,
    room: Option<&str>,
) -> Response {
    let refused = &server.inner.refused;
    if server.is_draining() {
        return refuse(&refused.draining, retry_later(StatusCode::SERVICE_UNAVAILABLE));
    }
    let (mut parts, _body) = request.into_parts();
    let token = token(&parts, endpoint);
    let mut subprotocols: Vec<&str> = endpoint.subprotocols.iter().map(String::as_str).collect();
    if let Kind::Rooms(_) = endpoint.kind {
        subprotocols.push(SUBPROTOCOL);
        // A browser drops a connection whose server agrees to none of what was offered.
        if let Some(Token::Subprotocol(offered)) = &token {
            subprotocols.push(offered);
        }
    }
    let options =
        ServerOptions { subprotocols: &subprotocols, deflate: endpoint.policy.deflate.as_ref() };
    let accepted = match accept(&parts.method, parts.version, &parts.headers, &options) {
        Ok(accepted) => accepted,
        Err(refusal) => {
            let response = refusal.response().map(|()| Body::from(format!("{refusal}\n")));
            return refuse(&refused.handshake, response);
        }
    };
    if !endpoint.origins.allow(&parts.headers) {
        return refuse(&refused.origin, StatusCode::FORBIDDEN.into_response());
    }
    let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        let text = "this connection cannot be upgraded\n";
        return refuse(&refused.handshake, (StatusCode::UPGRADE_REQUIRED, text).into_response());
    };
    let is_full = accepted.subprotocol.as_deref() == Some(SUBPROTOCOL);
    if let Some(agreed) = accepted.subprotocol {
        parts.extensions.insert(Subprotocol(agreed));
    }
    let token = token.as_ref().map(Token::value);
    let opening = match open(server, endpoint, room, &parts, is_full, token) {
        Ok(opening) => opening,
        Err(response) => return response,
    };
    let ip = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let permit = match server.inner.engine.admission().admit(ip) {
        Ok(permit) => permit,
        Err(_) => return retry_later(StatusCode::TOO_MANY_REQUESTS),
    };
    let handover = Handover {
        read_ahead: Default::default(),
        opening,
        policy: Arc::clone(&endpoint.policy),
        deflate: accepted.deflate,
        permit: Some(permit),
        companion: None,
    };
    let server = server.clone();
    tokio::spawn(async move {
        // An error: the client went away before the 101 was written.
        if let Ok(upgraded) = on_upgrade.await
            && let Err(error) = hand_over(&server.inner.engine, upgraded, handover).await
        {
            tracing::warn!(%error, "a connection could not be handed to a worker");
        }
    });
    accepted.response.map(|()| Body::empty())
}

fn open(
    server: &Server,
    endpoint: &Endpoint,
    room: Option<&str>,
    parts: &Parts,
    is_full: bool,
    token: Option<&str>,
) -> Result<Opening, Response> {
    let space = endpoint.space;
    Ok(match &endpoint.kind {
        Kind::Echo => Opening::Echo,
        Kind::Relay(default) => Opening::Relay(space, room.unwrap_or(default).into()),
        Kind::Rooms(default) => {
            let front = server.inner.desk.front();
            let visitor = Visitor {
                name: query_value(&parts.uri, "name"),
                resumed: token.and_then(|token| resumable(front, token)),
            };
            if is_full {
                return Ok(Opening::Full(visitor));
            }
            let room = room.unwrap_or(default);
            if room.starts_with('@') {
                return Err(StatusCode::FORBIDDEN.into_response()); // somebody's own
            }
            if !front.hub().rule(room).allow {
                return Err(StatusCode::NOT_FOUND.into_response());
            }
            Opening::Plain(room.into(), start(&parts.uri), visitor)
        }
        Kind::Handler(decide) => Opening::Handler(decide(parts)?),
    })
}

/// Takes the socket out of hyper. What is not a plain TCP socket stays here, and its bytes are
/// pumped through a socket pair.
async fn hand_over(engine: &Engine, upgraded: Upgraded, mut handover: Handover) -> io::Result<()> {
    // hyper's own server and hyper-util's (axum::serve) wrap differently.
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            handover.read_ahead = parts.read_buf;
            engine.adopt(own(parts.io)?, handover);
            return Ok(());
        }
        Err(upgraded) => upgraded,
    };
    use hyper_util::server::conn::auto::upgrade::downcast;
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => {
            handover.read_ahead = parts.read_buf;
            engine.adopt(own(parts.io)?, handover);
            Ok(())
        }
        Err(upgraded) => {
            let (near, mut far) = UnixStream::pair()?;
            // The permit is for what is kept here, too.
            let _permit = handover.permit.take();
            let (companion, ended) = oneshot::channel::<()>();
            handover.companion = Some(Box::new(companion));
            engine.adopt_pair(near.into_std()?, handover);
            let mut foreign = TokioIo::new(upgraded);
            tokio::select! {
                // Ends with either side; an error is an end, too.
                _ = tokio::io::copy_bidirectional(&mut foreign, &mut far) => {}
                () = async {
                    let _ = ended.await;
                    tokio::time::sleep(LAST_BYTES).await;
                } => {}
            }
            Ok(())
        }
    }
}

/// The socket itself. Frames are sent when they are whole, so waiting for more (Nagle) only delays them; not
/// every host has seen to that.
fn own(io: TokioIo<TcpStream>) -> io::Result<std::net::TcpStream> {
    let stream = io.into_inner();
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// How long a foreign stream may take what the connection left behind when it ended.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// Whose session a token stands for, if it is genuine and the session is connected or may come back.
pub(crate) fn resumable(front: &Front, token: &str) -> Option<Identity> {
    let now = front.now();
    let claim = front.tokens().read(token, now)?;
    let (user, session) = (claim.who.user_id(), claim.who.session_id());
    let known = front.sessions().standing(user, session, now) != Standing::Unknown;
    // Of an earlier run of the server nothing is known but that it ended not long ago.
    (known || !claim.ours && front.sessions().is_young(now)).then_some(claim.who)
}

/// A resume token, as it came.
enum Token {
    Query(String),
    /// The whole subprotocol, `resume.` included.
    Subprotocol(String),
}

impl Token {
    fn value(&self) -> &str {
        match self {
            Self::Query(token) => token,
            Self::Subprotocol(offered) => offered.strip_prefix(RESUME).unwrap_or_default(),
        }
    }
}

/// The token in the query or among the subprotocols that are offered.
fn token(parts: &Parts, endpoint: &Endpoint) -> Option<Token> {
    let Kind::Rooms(_) = endpoint.kind else { return None };
    if let Some(token) = query_value(&parts.uri, "resume") {
        return Some(Token::Query(token));
    }
    let offered = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let offered = offered.find(|offered| offered.trim().starts_with(RESUME))?;
    Some(Token::Subprotocol(offered.trim().to_owned()))
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

const RESUME: &str = "resume.";

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

fn refuse(counter: &AtomicU64, response: Response) -> Response {
    counter.fetch_add(1, Ordering::Relaxed);
    response
}

fn retry_later(status: StatusCode) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
