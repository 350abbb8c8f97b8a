//! The PROXY protocol, versions 1 and 2: what a proxy says of the client before the client's own bytes.
//!
//! <https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Reads a header and not one byte more. `None`: the proxy speaks for itself, or does not know.
///
/// # Errors
/// When the connection ends first, or what comes is no header.
pub(crate) async fn read_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; V2.len()];
    stream.read_exact(&mut start).await?;
    if start == *V2 {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let [what, family, high, low] = head;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > LONGEST_V2 {
            return Err(Invalid.into());
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        return Ok(binary(what, family, &body)?);
    }
    if !start.starts_with(V1) {
        return Err(Invalid.into());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        if line.len() >= LONGEST_V1 {
            return Err(Invalid.into());
        }
        // Looks first, so as not to take what belongs to the client.
        let mut ahead = [0; LONGEST_V1];
        let seen = stream.peek(&mut ahead[..LONGEST_V1 - line.len()]).await?;
        let seen = &mut ahead[..seen];
        let end = seen.iter().position(|byte| *byte == b'\n').map_or(seen.len(), |at| at + 1);
        if end == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = stream.read(&mut seen[..end]).await?;
        line.extend_from_slice(&seen[..taken]);
    }
    Ok(text(&line)?)
}

/// What came is no header.
#[derive(Debug, PartialEq, Eq)]
struct Invalid;

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.
fn text(line: &[u8]) -> Result<Option<SocketAddr>, Invalid> {
    let line = line.strip_suffix(b"\r\n").ok_or(Invalid)?;
    let line = std::str::from_utf8(line).map_err(|_| Invalid)?;
    let mut words = line.split(' ');
    let (proxy, family) = (words.next(), words.next());
    if proxy != Some("PROXY") {
        return Err(Invalid);
    }
    if family == Some("UNKNOWN") {
        return Ok(None); // whatever follows
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, port, other_port] = words[..] else { return Err(Invalid) };
    let (source, destination): (IpAddr, IpAddr) = match family {
        Some("TCP4") => (address::<Ipv4Addr>(source)?, address::<Ipv4Addr>(destination)?),
        Some("TCP6") => (address::<Ipv6Addr>(source)?, address::<Ipv6Addr>(destination)?),
        _ => return Err(Invalid),
    };
    let _ = (destination, self::port(other_port)?);
    Ok(Some(SocketAddr::new(source, self::port(port)?)))
}

/// Version 2, behind its signature.
fn binary(what: u8, family: u8, body: &[u8]) -> Result<Option<SocketAddr>, Invalid> {
    match what {
        LOCAL => return Ok(None),
        PROXY => {}
        _ => return Err(Invalid),
    }
    let port = |at: usize| -> Result<u16, Invalid> {
        let bytes = body.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u16::from_be_bytes).ok_or(Invalid)
    };
    let ip: (IpAddr, u16) = match family {
        UNSPECIFIED => return Ok(None),
        TCP4 => {
            let ip: [u8; 4] = body.get(..4).and_then(|ip| ip.try_into().ok()).ok_or(Invalid)?;
            port(10)?;
            (IpAddr::from(ip), port(8)?)
        }
        TCP6 => {
            let ip: [u8; 16] = body.get(..16).and_then(|ip| ip.try_into().ok()).ok_or(Invalid)?;
            port(34)?;
            (IpAddr::from(ip), port(32)?)
        }
        _ => return Err(Invalid),
    };
    Ok(Some(SocketAddr::new(ip.0, ip.1)))
}

fn address<T: std::str::FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Invalid> {
    text.parse::<T>().map(Into::into).map_err(|_| Invalid)
}

fn port(text: &str) -> Result<u16, Invalid> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map_err(|_| Invalid),
        false => Err(Invalid),
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what came is no header of the PROXY protocol")
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for io::Error {
    fn from(invalid: Invalid) -> Self {
        Self::new(io::ErrorKind::InvalidData, invalid)
    }
}

const V1: &[u8] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// With its line break, as the specification says.
const LONGEST_V1: usize = 107;
/// Addresses, and what some clouds add.
const LONGEST_V2: usize = 4096;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1() {
        let read = |line: &str| text(line.as_bytes()).map(|found| found.map(|a| a.to_string()));
        let known = |address: &str| Ok(Some(address.to_owned()));
        assert_eq!(
            read("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"),
            known("192.0.2.1:56324")
        );
        assert_eq!(read("PROXY TCP6 2001:db8::1 ::1 1 2\r\n"), known("[2001:db8::1]:1"));
        assert_eq!(read("PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(read("PROXY UNKNOWN ffff:: ff:: 1 2\r\n"), Ok(None));
        for wrong in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY\r\n",
            "proxy UNKNOWN\r\n",
        ] {
            assert_eq!(read(wrong), Err(Invalid), "{wrong}");
        }
    }

    #[test]
    fn version_2() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 187];
        let of = |text: &str| Ok(Some(text.parse().unwrap()));
        assert_eq!(binary(PROXY, TCP4, &v4), of("192.0.2.1:56324"));
        let mut more = v4.to_vec();
        more.extend([3, 0, 4, 1, 2, 3, 4]); // a value that we do not know
        assert_eq!(binary(PROXY, TCP4, &more), of("192.0.2.1:56324"));
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 80);
        assert_eq!(binary(PROXY, TCP6, &v6), of("[::1]:80"));
        assert_eq!(binary(LOCAL, TCP4, &v4), Ok(None));
        assert_eq!(binary(LOCAL, 0, &[]), Ok(None));
        assert_eq!(binary(PROXY, UNSPECIFIED, &[]), Ok(None));
        for (what, family, body) in [
            (PROXY, TCP4, &v4[..11]),
            (PROXY, TCP6, &v6[..35]),
            (PROXY, 0x12, &v4[..]), // UDP
            (0x22, TCP4, &v4[..]),
            (0x11, TCP4, &v4[..]),
        ] {
            assert_eq!(binary(what, family, body), Err(Invalid));
        }
    }
}
