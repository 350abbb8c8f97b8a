//! A WebSocket client that does next to nothing: no masking, no JSON, one buffer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// An open connection.
pub(crate) struct Lean {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// What a handshake led to.
pub(crate) enum Opened {
    Yes(Lean),
    /// The server answered with another status than 101.
    No(u16),
}

impl Opened {
    /// The connection, where a refusal is an error.
    pub(crate) fn or_refused(self) -> io::Result<Lean> {
        match self {
            Self::Yes(lean) => Ok(lean),
            Self::No(status) => Err(io::Error::other(format!("refused with {status}"))),
        }
    }
}

impl Lean {
    /// Connects as a full client, from this address.
    pub(crate) async fn connect(
        server: SocketAddr,
        from: Ipv4Addr,
        resume: Option<&str>,
    ) -> io::Result<Opened> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let mut stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        let query = resume.map(|token| format!("?resume={token}")).unwrap_or_default();
        let request = format!(
            "GET /ws{query} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: throng.v1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut this = Self { stream, buffer: vec![0; 2048], start: 0, end: 0 };
        loop {
            let head = &this.buffer[..this.end];
            if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                this.start = at + 4;
                let status = std::str::from_utf8(head.get(9..12).unwrap_or_default());
                let status = status.ok().and_then(|status| status.parse().ok()).unwrap_or(0);
                return Ok(if status == 101 { Opened::Yes(this) } else { Opened::No(status) });
            }
            this.fill().await?;
        }
    }

    /// Sends a text. Its mask is zero, so that the bytes stay as they are.
    pub(crate) async fn send(&mut self, text: &str) -> io::Result<()> {
        self.send_frame(0x81, text.as_bytes()).await
    }

    async fn send_frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frame.push(first);
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await
    }

    /// The next text. Pings are answered. Safe to be cancelled while it waits for bytes.
    pub(crate) async fn next(&mut self) -> io::Result<&str> {
        loop {
            let Some((first, payload)) = self.frame() else {
                self.fill().await?;
                continue;
            };
            match first & 0x0f {
                1 => {
                    let text = std::str::from_utf8(&self.buffer[payload]);
                    return text.map_err(io::Error::other);
                }
                8 => {
                    let code =
                        self.buffer[payload].first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Err(io::Error::other(format!("closed with {code:?}")));
                }
                9 => {
                    let ping = self.buffer[payload].to_vec();
                    self.send_frame(0x8a, &ping).await?;
                }
                _ => {}
            }
        }
    }

    /// Waits for a text of this type.
    pub(crate) async fn wait_for(&mut self, kind: &str) -> io::Result<String> {
        loop {
            let text = self.next().await?;
            if field(text, "type") == Some(kind) {
                return Ok(text.to_owned());
            }
            if field(text, "type") == Some("error") {
                return Err(io::Error::other(text.to_owned()));
            }
        }
    }

    /// Makes the end of the connection a reset, which leaves nothing behind in the system.
    pub(crate) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// Takes one whole frame out of the buffer: its first byte, and where its payload is.
    fn frame(&mut self) -> Option<(u8, std::ops::Range<usize>)> {
        let bytes = &self.buffer[self.start..self.end];
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (header, length) = match second & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?) as usize),
            length => (2, usize::from(length)),
        };
        if bytes.len() < header + length {
            return None;
        }
        let payload = self.start + header..self.start + header + length;
        self.start = payload.end;
        Some((first, payload))
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.end..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.end += length;
                Ok(())
            }
        }
    }
}

/// A field's value as it is written, without quotes: good enough for what a server writes.
pub(crate) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut rest = text;
    loop {
        let at = rest.find(key)?;
        let (before, after) = (&rest[..at], &rest[at + key.len()..]);
        rest = after;
        if let (true, Some(value)) = (before.ends_with('"'), after.strip_prefix("\":")) {
            return match value.strip_prefix('"') {
                Some(value) => value.split('"').next(),
                None => value.split([',', '}']).next(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let text = r#"{"type":"ack","room":"a","seq":12,"ref":7}"#;
        assert_eq!(field(text, "type"), Some("ack"));
        assert_eq!(field(text, "seq"), Some("12"));
        assert_eq!(field(text, "ref"), Some("7"));
        assert_eq!(field(text, "epoch"), None);
    }
}
