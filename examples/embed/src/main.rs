//! throng inside an axum application: the application's own page, port and runtime; who may
//! connect is decided by the application, from a cookie, before the 101; handlers keep state,
//! talk to everybody in a room, and are talked to by a task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use throng::{CloseCode, Endpoint, Handle, Handler, Message, Peer, Server};

#[derive(Clone)]
struct App {
    throng: Server,
    here: Arc<AtomicUsize>,
}

/// One connection of one visitor.
struct Visitor {
    name: String,
    sent: u32,
    here: Arc<AtomicUsize>,
}

impl Handler for Visitor {
    fn open(&mut self, peer: &mut Peer<'_>) {
        self.here.fetch_add(1, Ordering::Relaxed);
        peer.join("hall");
        peer.broadcast("hall", &format!("{} came in", self.name));
        remind_later(peer.handle());
    }

    fn message(&mut self, peer: &mut Peer<'_>, message: Message<'_>) {
        self.sent += 1;
        match message {
            Message::Text("bye") => {
                // Infallible: the reason is short.
                let _ = peer.close(CloseCode::NORMAL, &format!("after {} messages", self.sent));
            }
            Message::Text(text) => peer.broadcast("hall", &format!("{}: {text}", self.name)),
            Message::Binary(bytes) => peer.send(bytes),
        }
    }

    fn close(&mut self, code: u16, reason: &str) {
        self.here.fetch_sub(1, Ordering::Relaxed);
        println!("{} left: {code} {reason}", self.name);
    }
}

/// A task of the application's runtime that speaks to one connection.
fn remind_later(handle: Handle) {
    tokio_handle().spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        handle.send("still there?");
    });
}

/// Handlers run on throng's workers, outside the runtime: this is the way back to it.
fn tokio_handle() -> &'static tokio::runtime::Handle {
    RUNTIME.get().expect("set in main")
}

static RUNTIME: std::sync::OnceLock<tokio::runtime::Handle> = std::sync::OnceLock::new();

/// The application decides before the 101: path, headers, cookies, a database, anything async.
async fn live(State(app): State<App>, headers: HeaderMap, request: Request) -> Response {
    let Some(name) = cookie(&headers, "user") else {
        return (StatusCode::UNAUTHORIZED, "log in first\n").into_response();
    };
    let here = Arc::clone(&app.here);
    let visitor = move |_: &_| Visitor { name: name.clone(), sent: 0, here: Arc::clone(&here) };
    app.throng.accept(request, &Endpoint::handler(visitor)).await
}

async fn announce(State(app): State<App>, Path(text): Path<String>) -> StatusCode {
    app.throng.broadcast("hall", &format!("announcement: {text}"));
    StatusCode::NO_CONTENT
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _ = RUNTIME.set(tokio::runtime::Handle::current());
    let throng = Server::builder()
        .endpoint("/chat", Endpoint::rooms("lobby")) // the typed protocol, too
        .max_connections_per_ip(100)
        .build()?;
    let app = App { throng: throng.clone(), here: Arc::default() };
    let count = async |State(app): State<App>| app.here.load(Ordering::Relaxed).to_string();
    let router = Router::new()
        .route("/", get(count))
        .route("/live", any(live))
        .route("/announce/{text}", post(announce))
        .with_state(app)
        .merge(throng.routes());
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(3000);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).await?)
}
