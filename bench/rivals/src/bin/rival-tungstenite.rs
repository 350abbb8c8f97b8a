//! tokio-tungstenite, tuned: 4 KiB read buffers, mimalloc, and everything that is ready is fed
//! before one flush, so that it coalesces where it can.

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let room = broadcast::channel(4096).0;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready {}", listener.local_addr()?.port());
    loop {
        let (tcp, _) = listener.accept().await?;
        let _ = tcp.set_nodelay(true);
        tokio::spawn(serve(tcp, room.clone()));
    }
}

// The callback's type is the library's own.
#[allow(clippy::result_large_err)]
async fn serve(tcp: TcpStream, room: broadcast::Sender<Message>) {
    let mut echo = false;
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let callback = |request: &Request, response: Response| {
        echo = request.uri().path() == "/echo";
        Ok(response)
    };
    let accepted =
        tokio_tungstenite::accept_hdr_async_with_config(tcp, callback, Some(config)).await;
    if let Ok(socket) = accepted {
        if echo { echo_back(socket).await } else { relay(socket, room).await }
    }
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}

async fn echo_back(mut socket: WebSocketStream<TcpStream>) {
    while let Some(first) = socket.next().await {
        let mut next = Some(Some(first));
        while let Some(Some(message)) = next {
            let Ok(message) = message else { return };
            if is_data(&message) && socket.feed(message).await.is_err() {
                return;
            }
            next = socket.next().now_or_never();
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

async fn relay(socket: WebSocketStream<TcpStream>, room: broadcast::Sender<Message>) {
    let (mut sender, mut receiver) = socket.split();
    let mut messages = room.subscribe();
    let mut sending = tokio::spawn(async move {
        while let Ok(first) = messages.recv().await {
            if sender.feed(first).await.is_err() {
                return;
            }
            loop {
                match messages.try_recv() {
                    Ok(message) => {
                        if sender.feed(message).await.is_err() {
                            return;
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(_) => return,
                }
            }
            if sender.flush().await.is_err() {
                return;
            }
        }
    });
    let mut receiving = tokio::spawn(async move {
        while let Some(Ok(message)) = receiver.next().await {
            if is_data(&message) {
                let _ = room.send(message);
            }
        }
    });
    tokio::select! {
        _ = &mut sending => receiving.abort(),
        _ = &mut receiving => sending.abort(),
    }
}
