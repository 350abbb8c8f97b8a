//! As much HTTP as server-sent events need.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An open stream of events.
#[derive(Debug)]
pub(super) struct Source {
    stream: TcpStream,
    /// As it came, in chunks.
    raw: Vec<u8>,
    /// What the chunks contain.
    text: Vec<u8>,
}

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) data: String,
    pub(super) id: String,
}

impl Source {
    /// Opens a stream; the status when it is another than 200.
    pub(super) async fn open(
        server: SocketAddr,
        path: &str,
        last: Option<&str>,
    ) -> Result<Self, Option<u16>> {
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nAccept: text/event-stream\r\n{last}\r\n"
        );
        let opening = async {
            let mut stream = TcpStream::connect(server).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut raw = Vec::new();
            loop {
                if let Some((status, body)) = head(&raw) {
                    return Ok((
                        status,
                        Self { stream, raw: raw.split_off(body), text: Vec::new() },
                    ));
                }
                fill(&mut stream, &mut raw).await?;
            }
        };
        match timeout(PATIENCE, opening).await {
            Ok(Ok((200, source))) => Ok(source),
            Ok(Ok((status, _))) => Err(Some(status)),
            Ok(Err::<_, io::Error>(_)) | Err(_) => Err(None),
        }
    }

    /// The next event with data. Safe to be cancelled.
    pub(super) async fn next(&mut self) -> io::Result<Received> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                let event = parse(&String::from_utf8(block).map_err(io::Error::other)?);
                if !event.data.is_empty() {
                    return Ok(event);
                }
                continue;
            }
            match chunk(&self.raw) {
                Some((0, ..)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some((_, data, next)) => {
                    self.text.extend_from_slice(&self.raw[data]);
                    self.raw.drain(..next);
                }
                None => fill(&mut self.stream, &mut self.raw).await?,
            }
        }
    }
}

/// Posts a JSON text. Nothing when there was no whole answer.
pub(super) async fn post(server: SocketAddr, path: &str, token: &str, body: &str) -> Option<Value> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let asking = async {
        let mut stream = TcpStream::connect(server).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        while fill(&mut stream, &mut answer).await.is_ok() {}
        let (_, body) = head(&answer)?;
        serde_json::from_slice(&answer[body..]).ok()
    };
    timeout(PATIENCE, asking).await.ok()?
}

/// The status of a response, and where its body begins.
fn head(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
    Some((status, end + 4))
}

/// The first chunk: its length, where its data is, and where the next one begins.
fn chunk(bytes: &[u8]) -> Option<(usize, std::ops::Range<usize>, usize)> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let size = std::str::from_utf8(&bytes[..line]).ok()?.split(';').next()?;
    let size = usize::from_str_radix(size.trim(), 16).ok()?;
    let data = line + 2..line + 2 + size;
    (bytes.len() >= data.end + 2).then(|| (size, data.clone(), data.end + 2))
}

fn parse(block: &str) -> Received {
    let mut event = Received::default();
    for line in block.lines() {
        if let Some(data) = line.strip_prefix("data:") {
            if !event.data.is_empty() {
                event.data.push('\n');
            }
            event.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        } else if let Some(id) = line.strip_prefix("id:") {
            event.id = id.strip_prefix(' ').unwrap_or(id).to_owned();
        }
    }
    event
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_events_are_taken_apart() {
        let bytes = b"1d\r\n: hb\n\nid: e.1\ndata: {\"a\":1}\r\n5\r\n\n\nxyz";
        let (size, data, next) = chunk(bytes).unwrap();
        assert_eq!((size, next), (0x1d, 35));
        let text = std::str::from_utf8(&bytes[data]).unwrap();
        let event = parse(text.split("\n\n").nth(1).unwrap());
        assert_eq!(event, Received { data: "{\"a\":1}".into(), id: "e.1".into() });
        assert!(chunk(&bytes[next..]).is_none(), "not whole yet");
        assert_eq!(head(b"HTTP/1.1 503 Busy\r\nA: b\r\n\r\nbody"), Some((503, 27)));
    }
}
