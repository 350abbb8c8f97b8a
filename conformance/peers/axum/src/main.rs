//! An echo server on axum. Prints its port; settings as JSON in the first argument:
//! `{maxPayload, protocol}` (axum has no handshake timeout and no deflate).

use axum::{
    Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    routing::any,
};
use tokio::io::AsyncReadExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "{}".into());
    let settings: serde_json::Value = serde_json::from_str(&argument)?;
    let limit = settings["maxPayload"].as_u64().unwrap_or(16 << 20) as usize;
    let protocol = settings["protocol"].as_str().unwrap_or("").to_owned();

    let pages = Router::new().fallback(any(move |upgrade: WebSocketUpgrade| async move {
        upgrade.max_message_size(limit).max_frame_size(limit).protocols([protocol]).on_upgrade(echo)
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        served = axum::serve(listener, pages) => served?,
        _ = stdin.read_u8() => {} // goes when its starter goes
    }
    Ok(())
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let answer = matches!(message, Message::Text(_) | Message::Binary(_));
        if answer && socket.send(message).await.is_err() {
            break;
        }
    }
}
