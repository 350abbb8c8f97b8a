//! A service on loopback that answers as it is told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Listens until it is dropped.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) line: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

/// An answer.
pub(super) enum Say {
    /// A status, and a body with its length.
    Answer(u16, String),
    /// These bytes, and the end.
    Bytes(Vec<u8>),
    /// These bytes, and then these again and again, after such a pause.
    Endless(&'static str, Vec<u8>, Duration),
    /// Nothing, and no end.
    Silence,
    /// Nothing but the end.
    Nothing,
}

impl Say {
    pub(super) fn json(value: &Value) -> Self {
        Self::Answer(200, value.to_string())
    }
}

impl Service {
    /// Answers each request by what `answer` says about it and how many came before.
    pub(super) async fn start(
        answer: impl Fn(&Heard, usize) -> Say + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    pub(super) fn on(
        listener: TcpListener,
        answer: impl Fn(&Heard, usize) -> Say + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (heard, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let all = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, all) = (Arc::clone(&answer), Arc::clone(&all));
                open.spawn(async move {
                    let mut stream = stream;
                    let Some(heard) = hear(&mut stream).await else { return };
                    let before = {
                        let mut all: std::sync::MutexGuard<'_, Vec<Heard>> = all.lock().unwrap();
                        all.push(heard.clone());
                        all.len() - 1
                    };
                    let _ = say(&mut stream, answer(&heard, before)).await;
                });
            }
        });
        Self { address, heard, task }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Heard {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn hear(stream: &mut TcpStream) -> Option<Heard> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: HashMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Heard { line, headers, body: bytes })
}

async fn say(stream: &mut TcpStream, say: Say) -> std::io::Result<()> {
    match say {
        Say::Answer(status, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all((head + &body).as_bytes()).await
        }
        Say::Bytes(bytes) => stream.write_all(&bytes).await,
        Say::Endless(head, again, pause) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(&again).await?;
                tokio::time::sleep(pause).await;
            }
        }
        Say::Silence => std::future::pending().await,
        Say::Nothing => Ok(()),
    }
}
