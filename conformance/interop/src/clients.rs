//! The clients.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{Got, Talk};

/// After this a test has failed; nothing here takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}

/// tungstenite behind tokio.
pub struct Tungstenite(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Talk for Tungstenite {
    async fn connect(url: &str) -> Self {
        let (socket, _) =
            tokio_tungstenite::connect_async(url).await.expect("tungstenite connects");
        Self(socket)
    }

    async fn text(&mut self, text: String) {
        soon(self.0.send(tungstenite::Message::text(text))).await.expect("tungstenite sends");
    }

    async fn binary(&mut self, bytes: Vec<u8>) {
        soon(self.0.send(tungstenite::Message::binary(bytes))).await.expect("tungstenite sends");
    }

    async fn fragments(&mut self, parts: &[&str]) {
        for (at, part) in parts.iter().enumerate() {
            let kind = if at == 0 { Data::Text } else { Data::Continue };
            let last = at + 1 == parts.len();
            let frame = Frame::message(part.as_bytes().to_vec(), OpCode::Data(kind), last);
            let sent = self.0.send(tungstenite::Message::Frame(frame)).await;
            sent.expect("tungstenite sends a frame");
        }
    }

    async fn ping(&mut self, payload: &[u8]) {
        let ping = tungstenite::Message::Ping(payload.to_vec().into());
        self.0.send(ping).await.expect("tungstenite pings");
    }

    async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.0.close(Some(frame)).await.expect("tungstenite closes");
    }

    async fn next(&mut self) -> Got {
        loop {
            match soon(self.0.next()).await {
                Some(Ok(tungstenite::Message::Text(text))) => {
                    return Got::Text(text.as_str().into());
                }
                Some(Ok(tungstenite::Message::Binary(bytes))) => {
                    return Got::Binary(bytes.to_vec());
                }
                Some(Ok(tungstenite::Message::Pong(payload))) => {
                    return Got::Pong(payload.to_vec());
                }
                Some(Ok(tungstenite::Message::Close(frame))) => {
                    let end = soon(self.0.next()).await;
                    assert!(end.is_none(), "after the close comes {end:?}");
                    let said = frame.map(|frame| (frame.code.into(), frame.reason.as_str().into()));
                    return Got::Closed(said);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("tungstenite: {error}"),
                None => return Got::Closed(None),
            }
        }
    }
}

/// tokio-websockets. It sends fragments by a frame size of its own: 3 bytes.
pub struct TokioWebsockets {
    socket: tokio_websockets::WebSocketStream<tokio_websockets::MaybeTlsStream<TcpStream>>,
    url: String,
}

impl TokioWebsockets {
    async fn open(
        url: &str,
        frame_size: usize,
    ) -> tokio_websockets::WebSocketStream<tokio_websockets::MaybeTlsStream<TcpStream>> {
        let builder = tokio_websockets::ClientBuilder::new().uri(url).expect("a URL");
        let config = tokio_websockets::Config::default().frame_size(frame_size);
        builder.config(config).connect().await.expect("tokio-websockets connects").0
    }
}

impl Talk for TokioWebsockets {
    async fn connect(url: &str) -> Self {
        Self { socket: Self::open(url, 4 << 20).await, url: url.to_owned() }
    }

    async fn text(&mut self, text: String) {
        let sent = soon(self.socket.send(tokio_websockets::Message::text(text))).await;
        sent.expect("tokio-websockets sends");
    }

    async fn binary(&mut self, bytes: Vec<u8>) {
        let sent = soon(self.socket.send(tokio_websockets::Message::binary(bytes))).await;
        sent.expect("tokio-websockets sends");
    }

    async fn fragments(&mut self, parts: &[&str]) {
        self.socket = Self::open(&self.url, 3).await;
        self.text(parts.concat()).await;
    }

    async fn ping(&mut self, payload: &[u8]) {
        let ping = tokio_websockets::Message::ping(payload.to_vec());
        self.socket.send(ping).await.expect("tokio-websockets pings");
    }

    async fn close(&mut self, code: u16, reason: &str) {
        let code = code.try_into().expect("a code that may travel");
        let close = tokio_websockets::Message::close(Some(code), reason);
        self.socket.send(close).await.expect("tokio-websockets closes");
    }

    async fn next(&mut self) -> Got {
        loop {
            let message = match soon(self.socket.next()).await {
                Some(Ok(message)) => message,
                Some(Err(error)) => panic!("tokio-websockets: {error}"),
                None => return Got::Closed(None),
            };
            if let Some((code, reason)) = message.as_close() {
                let said = (code.into(), reason.to_owned());
                let end = soon(self.socket.next()).await;
                assert!(end.is_none(), "after the close comes {end:?}");
                return Got::Closed(Some(said));
            }
            if let Some(text) = message.as_text() {
                return Got::Text(text.into());
            }
            if message.is_binary() {
                return Got::Binary(message.into_payload().to_vec());
            }
            if message.is_pong() {
                return Got::Pong(message.into_payload().to_vec());
            }
        }
    }
}

/// Our own client, with deflate. It sends every message in one frame.
pub struct Throng(throng_client::WebSocket);

impl Talk for Throng {
    async fn connect(url: &str) -> Self {
        let limits = throng_client::Limits {
            max_frame: 32 << 20,
            max_message: 32 << 20,
            ..throng_client::Limits::default()
        };
        let client = throng_client::Client::new(url).expect("a URL").limits(limits);
        let deflate = throng_client::DeflateOptions::default();
        Self(client.deflate(deflate).connect().await.expect("throng connects"))
    }

    async fn text(&mut self, text: String) {
        soon(self.0.send(text)).await.expect("throng sends");
    }

    async fn binary(&mut self, bytes: Vec<u8>) {
        soon(self.0.send(bytes)).await.expect("throng sends");
    }

    async fn fragments(&mut self, parts: &[&str]) {
        self.text(parts.concat()).await;
    }

    async fn ping(&mut self, payload: &[u8]) {
        self.0.ping(payload).await.expect("throng pings");
    }

    async fn close(&mut self, code: u16, reason: &str) {
        let code = throng_client::CloseCode::new(code).expect("a code that may travel");
        soon(self.0.close(code, reason)).await.expect("throng closes");
    }

    async fn next(&mut self) -> Got {
        use throng_client::Message;

        loop {
            match soon(self.0.next()).await.expect("throng receives") {
                Some(Message::Text(text)) => return Got::Text(text),
                Some(Message::Binary(bytes)) => return Got::Binary(bytes.to_vec()),
                Some(Message::Pong(payload)) => return Got::Pong(payload.to_vec()),
                Some(Message::Ping(_)) => {}
                None => {
                    let close = self.0.closed().expect("the server said so");
                    let said = close.code.map(|code| (u16::from(code), close.reason.clone()));
                    return Got::Closed(said);
                }
            }
        }
    }
}
