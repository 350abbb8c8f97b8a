//! The client's socket: tungstenite over TCP, with an end to every wait.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::SinkExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub(super) type Socket = WebSocketStream<TcpStream>;

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The connection is gone.
    Lost(String),
    /// An answer did not come, and there are other nodes.
    Silent(String),
    /// The server closed it.
    Closed(u16),
    /// The server has told it to go by now.
    Sent,
    /// The client's part is over.
    Over,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refused {
    /// The server said no.
    Status(u16),
    /// Something broke.
    Broken,
}

/// What the handshake asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) protocols: Vec<String>,
}

pub(super) async fn connect(server: SocketAddr, request: &Request) -> Result<Socket, Refused> {
    let uri = format!("ws://{server}{}", request.path);
    let uri = uri.parse().map_err(|_| Refused::Broken)?;
    let mut builder = ClientRequestBuilder::new(uri);
    for protocol in &request.protocols {
        builder = builder.with_sub_protocol(protocol);
    }
    let config = WebSocketConfig::default().read_buffer_size(8 << 10).write_buffer_size(0);
    let handshake = async {
        let stream = TcpStream::connect(server).await.map_err(Error::Io)?;
        stream.set_nodelay(true).map_err(Error::Io)?;
        client_async_with_config(builder, stream, Some(config)).await
    };
    match timeout(PATIENCE, handshake).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(response))) => Err(Refused::Status(response.status().as_u16())),
        Ok(Err(_)) | Err(_) => Err(Refused::Broken),
    }
}

/// The text of a frame, if it is one.
pub(super) fn text(frame: Option<Result<Message, Error>>) -> Result<Option<String>, Ended> {
    match frame {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        Some(Ok(Message::Close(frame))) => {
            Err(Ended::Closed(frame.map_or(1005, |frame| frame.code.into())))
        }
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(Ended::Lost(error.to_string())),
        None => Err(Ended::Lost("the end of the stream".into())),
    }
}

/// Writes a text; [`flush`] sends it.
pub(super) async fn feed(socket: &mut Socket, text: String) -> Result<(), Ended> {
    in_time(socket.feed(Message::text(text))).await
}

pub(super) async fn flush(socket: &mut Socket) -> Result<(), Ended> {
    in_time(socket.flush()).await
}

/// Closes in order for good, and waits for the answer.
pub(super) async fn close(socket: &mut Socket) {
    close_with(socket, None).await;
}

/// Closes in order, to come back: no code that ends the session.
pub(super) async fn leave(socket: &mut Socket) {
    close_with(socket, Some(CloseFrame { code: BACK_SOON.into(), reason: "".into() })).await;
}

async fn close_with(socket: &mut Socket, frame: Option<CloseFrame>) {
    let closing = async {
        if socket.close(frame).await.is_ok() {
            use futures_util::StreamExt as _;
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = timeout(PATIENCE, closing).await;
}

async fn in_time(doing: impl Future<Output = Result<(), Error>>) -> Result<(), Ended> {
    match timeout(PATIENCE, doing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ended::Lost(error.to_string())),
        Err(_) => Err(Ended::Lost("the server does not read".into())),
    }
}

const BACK_SOON: u16 = 4000;
const PATIENCE: Duration = Duration::from_secs(5);
