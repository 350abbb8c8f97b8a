//! Where the load goes: a `ws://` URL, by default only on this machine.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use super::report::Failure;

/// A server to load.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    authority: String,
    path: String,
}

/// The handshake of every connection, and what its answer must contain.
#[derive(Debug)]
pub(super) struct Request {
    text: String,
    subprotocol: Option<String>,
    /// For those whose text has a [`TICKET`]; the next one last.
    tickets: RefCell<Vec<String>>,
}

/// Stands in a URL for the next ticket.
const TICKET: &str = "{ticket}";

/// RFC 6455 §1.3 works this pair out.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Target {
    /// Parses `ws://host[:port][/path]` and resolves the host.
    pub(super) fn parse(url: &str, allow_remote: bool) -> Result<Self, Failure> {
        let rest = url.strip_prefix("ws://").ok_or_else(|| {
            Failure::new(format!("{url} is not a ws:// URL; TLS is not part of the benchmark"))
        })?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => (&rest[..slash], &rest[slash..]),
            None => (rest, "/"),
        };
        if authority.is_empty() || rest.bytes().any(|byte| byte <= b' ' || byte == b'#') {
            return Err(Failure::new(format!("{url} is not a valid URL")));
        }
        let with_port = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            _ => format!("{authority}:80"),
        };
        let address = with_port
            .to_socket_addrs()
            .ok()
            .and_then(|found| found.min_by_key(|address| !address.is_ipv4()))
            .ok_or_else(|| Failure::new(format!("there is no address for {authority}")))?;
        if !address.ip().is_loopback() && !allow_remote {
            return Err(Failure::new(format!(
                "{authority} is not this machine; --allow-remote if the server is yours"
            )));
        }
        Ok(Self { address, authority: authority.to_owned(), path: path.to_owned() })
    }

    /// The handshake for this target.
    pub(super) fn request(&self, subprotocol: Option<&str>) -> Result<Request, Failure> {
        let mut text = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n",
            self.path, self.authority
        );
        if let Some(name) = subprotocol {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Failure::new(format!("{name:?} is not a subprotocol")));
            }
            text.push_str(&format!("Sec-WebSocket-Protocol: {name}\r\n"));
        }
        text.push_str("\r\n");
        let subprotocol = subprotocol.map(str::to_owned);
        Ok(Request { text, subprotocol, tickets: RefCell::default() })
    }
}

impl Request {
    /// Takes tickets, each for one handshake, from a file with one on each line.
    pub(super) fn with_tickets(self, file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::new(format!("cannot read {}: {}", file.display(), crate::reason(&error)))
        })?;
        if !self.text.contains(TICKET) {
            return Err(Failure::new("--tickets needs {ticket} in the URL"));
        }
        let tickets = text.split_whitespace().rev().map(str::to_owned).collect();
        Ok(Self { tickets: RefCell::new(tickets), ..self })
    }

    /// The bytes of the next handshake.
    pub(super) fn next(&self) -> Result<Cow<'_, [u8]>, String> {
        if !self.text.contains(TICKET) {
            return Ok(self.text.as_bytes().into());
        }
        let ticket = self.tickets.borrow_mut().pop().ok_or("there are no tickets left")?;
        Ok(self.text.replace(TICKET, &ticket).into_bytes().into())
    }

    /// Checks an answer's head, without its empty line.
    pub(super) fn check(&self, head: &[u8]) -> Result<(), Failure> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 101") {
            return Err(Failure::new(format!("the server answered {status:?}")));
        }
        let (mut accept, mut subprotocol) = (None, None);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("sec-websocket-accept") {
                accept = Some(value);
            } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
                subprotocol = Some(value);
            } else if name.eq_ignore_ascii_case("sec-websocket-extensions") {
                return Err(Failure::new(format!("the server chose {value:?}, not on offer")));
            }
        }
        if accept != Some(ACCEPT) {
            return Err(Failure::new("the server's Sec-WebSocket-Accept is wrong or missing"));
        }
        if subprotocol != self.subprotocol.as_deref() {
            return Err(Failure::new(format!(
                "asked for the subprotocol {:?}, got {subprotocol:?}",
                self.subprotocol
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_unless_allowed() {
        let target = Target::parse("ws://127.0.0.1:9001/relay/a?b=c", false).expect("loopback");
        assert_eq!(target.address, SocketAddr::from(([127, 0, 0, 1], 9001)));
        assert_eq!(target.path, "/relay/a?b=c");
        assert_eq!(Target::parse("ws://127.0.0.1", false).expect("no path").address.port(), 80);
        assert!(Target::parse("ws://192.0.2.1:80/", false).is_err());
        assert!(Target::parse("ws://192.0.2.1:80/", true).is_ok());
        for bad in ["http://127.0.0.1/", "ws://", "ws:///x", "ws://127.0.0.1/a b", "127.0.0.1"] {
            assert!(Target::parse(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_must_be_ours() {
        let target = Target::parse("ws://127.0.0.1:1/", false).expect("valid");
        let plain = target.request(None).expect("valid");
        let good = format!("HTTP/1.1 101 Yes\r\nsec-websocket-ACCEPT:  {ACCEPT} ");
        assert!(plain.check(good.as_bytes()).is_ok());
        assert!(plain.check(b"HTTP/1.1 404 Not Found").is_err());
        assert!(plain.check(b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: x").is_err());
        let extra = format!("{good}\r\nSec-WebSocket-Extensions: permessage-deflate");
        assert!(plain.check(extra.as_bytes()).is_err());
        let chosen = format!("{good}\r\nSec-WebSocket-Protocol: throng.v1");
        assert!(plain.check(chosen.as_bytes()).is_err());
        let asked = target.request(Some("throng.v1")).expect("valid");
        assert!(asked.check(chosen.as_bytes()).is_ok());
        assert!(asked.check(good.as_bytes()).is_err());
        assert!(target.request(Some("a\r\nb")).is_err());
    }

    #[test]
    fn every_handshake_has_a_ticket_of_its_own() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "t_1\nt_2\n").expect("written");
        let target = Target::parse("ws://127.0.0.1:1/ws?ticket={ticket}", false).expect("valid");
        let request = target.request(None).expect("valid").with_tickets(file.path());
        let request = request.expect("tickets");
        for ticket in ["t_1", "t_2"] {
            let bytes = request.next().expect("a ticket").into_owned();
            let text = String::from_utf8(bytes).expect("text");
            assert!(text.starts_with(&format!("GET /ws?ticket={ticket} HTTP/1.1\r\n")), "{text}");
        }
        assert!(request.next().is_err());
    }
}
