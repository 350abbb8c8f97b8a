//! A server on a free port, and clients that fail instead of waiting for ever.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use throng::{Builder, Server, axum::Router};
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

pub type Socket = WebSocket<TcpStream>;

pub struct Rig {
    pub server: Server,
    pub address: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    pub fn start(builder: Builder) -> Self {
        let server = builder.build().unwrap();
        let routes = server.routes();
        Self::serve(server, routes)
    }

    pub fn serve(server: Server, router: Router) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        runtime.spawn(async move { axum::serve(listener, service).await });
        Self { server, address, runtime }
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    pub fn connect(&self, path: &str) -> Socket {
        self.try_connect(path, &[]).unwrap()
    }

    pub fn try_connect(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(64 << 20))
            .max_frame_size(Some(64 << 20));
        match tungstenite::client::client_with_config(request, stream, Some(config)) {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    /// The status of a refused upgrade.
    pub fn refusal(&self, path: &str, headers: &[(&'static str, &str)]) -> (u16, http::HeaderMap) {
        match self.try_connect(path, headers) {
            Err(tungstenite::Error::Http(response)) => {
                (response.status().as_u16(), response.headers().clone())
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// A test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn text(socket: &mut Socket) -> String {
    match socket.read().unwrap() {
        Message::Text(text) => text.to_string(),
        other => panic!("not text: {other:?}"),
    }
}

/// Reads up to the end; the peer's close code, or `None` when there was no close frame.
pub fn drain(socket: &mut Socket) -> Option<u16> {
    let mut code = None;
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                panic!("the connection was not closed")
            }
            Err(_) => return code,
        }
    }
}

/// Waits until something is true that another thread brings about.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
