//! Where a listener listens: `localhost:3000`, `*:3000`, `127.0.0.1:3001`, `[::1]:3001`, or only a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::units::{Expected, Unit, Value, quoted};

/// The port when none is given.
pub(crate) const DEFAULT_PORT: u16 = 3000;

/// The address of a listener. Port 0 lets the system choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// `localhost:3000`, `3000`, `:3000`: this machine only, by 127.0.0.1 and by ::1.
    Loopback(u16),
    /// `*:3000`: every interface, IPv4 and IPv6.
    Everywhere(u16),
    /// `192.0.2.7:3000`: this one.
    Exact(SocketAddr),
}

impl Address {
    /// The port as configured.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Loopback(port) | Self::Everywhere(port) => port,
            Self::Exact(address) => address.port(),
        }
    }

    /// The socket addresses to bind, in this order; `port` replaces a port of 0 once one is known.
    /// The second one of a pair may be missing on a machine without IPv6 (or without IPv4).
    pub(crate) fn sockets(self, port: u16) -> Vec<SocketAddr> {
        match self {
            Self::Loopback(_) => vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
            ],
            Self::Everywhere(_) => vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            ],
            Self::Exact(address) => vec![SocketAddr::new(address.ip(), port)],
        }
    }

    /// Whether only this machine can reach it.
    pub(crate) fn is_local(self) -> bool {
        match self {
            Self::Loopback(_) => true,
            Self::Everywhere(_) => false,
            Self::Exact(address) => address.ip().is_loopback(),
        }
    }

    /// Reads an address as written in `--listen`, or `None`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self::Exact(address));
        }
        if let Some(port) = port(text.strip_prefix(':').unwrap_or(text)) {
            return Some(Self::Loopback(port));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, number)) if !host.is_empty() && !host.ends_with(':') => {
                match port(number) {
                    Some(port) => (host, port),
                    // The colon was one of an IPv6 address: `::1`.
                    None => (text, DEFAULT_PORT),
                }
            }
            _ => (text, DEFAULT_PORT),
        };
        match host {
            "*" => return Some(Self::Everywhere(port)),
            host if host.eq_ignore_ascii_case("localhost") => return Some(Self::Loopback(port)),
            _ => {}
        }
        // Without brackets a port cannot be told from the last group of an IPv6 address.
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let ip = bare.parse::<IpAddr>().ok()?;
        Some(Self::Exact(SocketAddr::new(ip, DEFAULT_PORT)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(port) => write!(f, "localhost:{port}"),
            Self::Everywhere(port) => write!(f, "*:{port}"),
            Self::Exact(address) => write!(f, "{address}"),
        }
    }
}

impl Unit for Address {
    fn read(value: &Value) -> Result<Self, Expected> {
        let parsed = match value {
            Value::Text(text) => Self::parse(text),
            Value::Integer(number) => u16::try_from(*number).ok().map(Self::Loopback),
            _ => None,
        };
        parsed.ok_or_else(|| {
            "an address such as 3000, localhost:3000, 127.0.0.1:3000, [::1]:3000 or *:3000".into()
        })
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

fn port(text: &str) -> Option<u16> {
    let valid = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_way_to_write_an_address() {
        let exact = |text: &str| Address::Exact(text.parse().unwrap());
        for (text, expected) in [
            ("3001", Address::Loopback(3001)),
            (":3001", Address::Loopback(3001)),
            ("localhost:3001", Address::Loopback(3001)),
            ("LOCALHOST", Address::Loopback(3000)),
            ("*:3001", Address::Everywhere(3001)),
            ("*", Address::Everywhere(3000)),
            ("127.0.0.1:3001", exact("127.0.0.1:3001")),
            ("127.0.0.1", exact("127.0.0.1:3000")),
            ("[::1]:3001", exact("[::1]:3001")),
            ("[::1]", exact("[::1]:3000")),
            ("::1", exact("[::1]:3000")),
            ("0.0.0.0:0", exact("0.0.0.0:0")),
        ] {
            assert_eq!(Address::parse(text), Some(expected), "{text}");
            assert_eq!(Address::parse(&expected.to_string()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for text in
            ["", ":", "65536", "localhost:", "localhost:x", "example.org:80", "1.2.3:4", "-1"]
        {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
