//! fastwebsockets on hyper, as in its examples; the broadcast through a channel, as it has none.

use std::convert::Infallible;
use std::sync::Arc;

use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, WebSocket, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

type Room = broadcast::Sender<(OpCode, Arc<[u8]>)>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let room: Room = broadcast::channel(4096).0;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready {}", listener.local_addr()?.port());
    loop {
        let (tcp, _) = listener.accept().await?;
        let _ = tcp.set_nodelay(true);
        let room = room.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, room.clone()));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn answer(
    mut request: Request<Incoming>,
    room: Room,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let echo = request.uri().path() == "/echo";
    if is_upgrade_request(&request)
        && let Ok((response, upgraded)) = upgrade(&mut request)
    {
        tokio::spawn(async move {
            let _ = serve(upgraded, room, echo).await;
        });
        return Ok(response);
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    Ok(response)
}

async fn serve(upgraded: UpgradeFut, room: Room, echo: bool) -> Result<(), WebSocketError> {
    let socket = upgraded.await?;
    if echo { echo_back(socket).await } else { relay(socket, room).await }
}

async fn echo_back(socket: WebSocket<TokioIo<Upgraded>>) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn relay(socket: WebSocket<TokioIo<Upgraded>>, room: Room) -> Result<(), WebSocketError> {
    let (mut reader, mut writer) = socket.split(tokio::io::split);
    let mut messages = room.subscribe();
    let mut sending = tokio::spawn(async move {
        while let Ok((opcode, payload)) = messages.recv().await {
            let frame = Frame::new(true, opcode, None, Payload::Borrowed(&payload));
            if writer.write_frame(frame).await.is_err() {
                return;
            }
        }
    });
    let mut receiving = tokio::spawn(async move {
        let mut obliged = |_| async { Ok::<(), WebSocketError>(()) };
        while let Ok(frame) = reader.read_frame(&mut obliged).await {
            match frame.opcode {
                OpCode::Close => return,
                OpCode::Text | OpCode::Binary => {
                    let _ = room.send((frame.opcode, Arc::from(&frame.payload[..])));
                }
                _ => {}
            }
        }
    });
    tokio::select! {
        _ = &mut sending => receiving.abort(),
        _ = &mut receiving => sending.abort(),
    }
    Ok(())
}
