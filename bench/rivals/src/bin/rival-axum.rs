//! axum's own WebSocket, as in its chat example: a broadcast channel, one `send` for each
//! message. With `--tuned` the read buffer is 4 KiB instead of tungstenite's 128 KiB.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

struct App {
    tuned: bool,
    room: broadcast::Sender<Message>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let tuned = std::env::args().any(|argument| argument == "--tuned");
    let app = Arc::new(App { tuned, room: broadcast::channel(4096).0 });
    let router = Router::new()
        .route("/echo", any(|State(app): State<Arc<App>>, up| upgrade(app, up, true)))
        .route("/relay", any(|State(app): State<Arc<App>>, up| upgrade(app, up, false)))
        .with_state(app);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready {}", listener.local_addr()?.port());
    let listener = axum::serve::ListenerExt::tap_io(listener, |tcp| {
        let _ = tcp.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

async fn upgrade(app: Arc<App>, upgrade: WebSocketUpgrade, echo: bool) -> Response {
    let upgrade = if app.tuned { upgrade.read_buffer_size(4096) } else { upgrade };
    upgrade.on_upgrade(move |socket| async move {
        if echo { echo_back(socket).await } else { relay(socket, app).await }
    })
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}

async fn echo_back(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if is_data(&message) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn relay(socket: WebSocket, app: Arc<App>) {
    let (mut sender, mut receiver) = socket.split();
    let mut messages = app.room.subscribe();
    let mut sending = tokio::spawn(async move {
        while let Ok(message) = messages.recv().await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut receiving = tokio::spawn(async move {
        while let Some(Ok(message)) = receiver.next().await {
            if is_data(&message) {
                let _ = app.room.send(message);
            }
        }
    });
    tokio::select! {
        _ = &mut sending => receiving.abort(),
        _ = &mut receiving => sending.abort(),
    }
}
