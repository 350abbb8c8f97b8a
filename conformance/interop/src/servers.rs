//! The servers, each on a free port of the loopback interface.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;

use futures_util::{SinkExt as _, StreamExt as _};
use throng::{CloseCode, DeflateOptions, Endpoint, Message, Peer, Server};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite;

use crate::exchange::wish;

/// The largest message that all of them take.
const LARGEST: usize = 32 << 20;

/// A server that runs until this is dropped, or until the test's runtime ends.
pub struct Running {
    port: u16,
    _process: Option<Child>,
}

impl Running {
    fn here(port: u16) -> Self {
        Self { port, _process: None }
    }

    /// The endpoint that echoes.
    pub fn echo(&self) -> String {
        format!("ws://127.0.0.1:{}/echo", self.port)
    }

    /// The endpoint that closes when it is asked to.
    pub fn closes(&self) -> String {
        format!("ws://127.0.0.1:{}/closes", self.port)
    }
}

/// throng in this process, with deflate: its own echo, and a handler that closes.
pub async fn throng() -> Running {
    let close = |peer: &mut Peer<'_>, message: Message<'_>| {
        if let Message::Text(text) = message
            && let Some((code, reason)) = wish(text)
        {
            let code = CloseCode::new(code).expect("invariant: only codes that may travel");
            peer.close(code, reason).expect("invariant: the reasons are short");
        }
    };
    let server = Server::builder()
        .workers(2)
        .endpoint(
            "/echo",
            Endpoint::echo().max_message(LARGEST).deflate(Some(DeflateOptions::default())),
        )
        .endpoint("/closes", Endpoint::handler(move |_| close))
        .build()
        .expect("throng starts");
    let (listener, port) = listen().await;
    tokio::spawn(async move { axum::serve(listener, server.routes::<()>()).await });
    Running::here(port)
}

/// tungstenite behind tokio.
pub async fn tungstenite() -> Running {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let config = tungstenite::protocol::WebSocketConfig::default()
                    .max_message_size(Some(LARGEST))
                    .max_frame_size(Some(LARGEST));
                let accepted = tokio_tungstenite::accept_async_with_config(stream, Some(config));
                let mut socket = accepted.await.expect("tungstenite accepts the handshake");
                while let Some(Ok(message)) = socket.next().await {
                    if let Some((code, reason)) = message.to_text().ok().and_then(wish) {
                        let frame = tungstenite::protocol::CloseFrame {
                            code: code.into(),
                            reason: reason.into(),
                        };
                        socket.close(Some(frame)).await.expect("tungstenite closes");
                    } else if message.is_text() || message.is_binary() {
                        socket.send(message).await.expect("tungstenite sends");
                    }
                }
            });
        }
    });
    Running::here(port)
}

/// tokio-websockets.
pub async fn tokio_websockets() -> Running {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let limits = tokio_websockets::Limits::default().max_payload_len(Some(LARGEST));
                let builder = tokio_websockets::ServerBuilder::new().limits(limits);
                let accepted = builder.accept(stream).await;
                let (_, mut socket) = accepted.expect("tokio-websockets accepts the handshake");
                while let Some(Ok(message)) = socket.next().await {
                    if let Some((code, reason)) = message.as_text().and_then(wish) {
                        let code = code.try_into().expect("a code that may travel");
                        let close = tokio_websockets::Message::close(Some(code), reason);
                        socket.send(close).await.expect("tokio-websockets closes");
                    } else if message.is_text() || message.is_binary() {
                        socket.send(message).await.expect("tokio-websockets sends");
                    }
                }
            });
        }
    });
    Running::here(port)
}

/// Node's `ws`, with deflate.
pub async fn node() -> Running {
    let mut process = Command::new("node")
        .arg(node_folder().join("echo-server.mjs"))
        .arg(format!("{{\"maxPayload\":{LARGEST}}}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is installed");
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("readable").expect("the server prints its port");
    Running { port: line.parse().expect("a port"), _process: Some(process) }
}

/// The folder of the Node programs, with their dependencies installed.
pub fn node_folder() -> PathBuf {
    static INSTALL: Once = Once::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    INSTALL.call_once(|| {
        if !folder.join("node_modules/ws").exists() {
            let mut npm = std::process::Command::new("npm");
            let status =
                npm.arg("ci").arg("--silent").current_dir(&folder).stdin(Stdio::null()).status();
            assert!(status.is_ok_and(|status| status.success()), "npm ci failed");
        }
    });
    folder
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}
