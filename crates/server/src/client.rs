//! Whose request it is when proxies stand between: the address of the client, as far as trusted proxies tell it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName};

/// Whose request this is: the peer, or when that is a trusted proxy, the last address in `X-Forwarded-For`
/// that is not one itself.
///
/// No other header is read: a proxy that writes one passes the others on as the client made them up.
///
/// Each proxy appends who connected to it. So what stands to the right was written by proxies that are
/// trusted, and everything left of the first address that is not trusted may be made up. When the list is
/// malformed as far as it counts, the peer is all that is known. When all in it are trusted, the first one
/// began.
///
/// Cost: no allocation; linear in the length of the headers.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |ip: IpAddr| trusted.iter().any(|range| range.contains(ip));
    if !is_trusted(peer) {
        return peer;
    }
    last_stranger(headers, is_trusted).unwrap_or(peer)
}

/// The last address of a list that is not trusted, or the first when all are. `None` when there is no list,
/// or it cannot be read so far.
fn last_stranger(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut first = None;
    // Several headers of one name are one list (RFC 9110 §5.2).
    for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        for item in value.to_str().ok()?.rsplit(',') {
            let ip = address(item.trim())?.to_canonical();
            if !is_trusted(ip) {
                return Some(ip);
            }
            first = Some(ip);
        }
    }
    first
}

/// `192.0.2.7`, `2001:db8::1`, `[2001:db8::1]`, each with a port or without (but for the second).
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let bare = text.strip_prefix('[')?.strip_suffix(']')?;
    bare.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6)
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// IPv4 addresses written as IPv6 (`::ffff:10.0.0.1`) count as IPv4, in ranges and in what is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Reads `ADDRESS/BITS` or `ADDRESS`. Bits behind the prefix must be 0: `10.0.0.1/8` is a mistake.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = match bits {
            // `parse` would take a sign.
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => width(address),
        };
        if bits > width(address) {
            return None;
        }
        let canonical = address.to_canonical();
        let bits = match (address, canonical) {
            // The 96 bits that say that it is an IPv4 address.
            (IpAddr::V6(_), IpAddr::V4(_)) => bits.checked_sub(96)?,
            _ => bits,
        };
        let cidr = Self { address: canonical, bits };
        (network(canonical, bits) == canonical).then_some(cidr)
    }

    /// How many bits at the beginning are said; 0 for every address.
    pub(crate) fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether the address is in the range.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && network(ip, self.bits) == self.address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits == width(self.address) {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with only its first bits.
fn network(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| Cidr::parse(text).unwrap()).collect()
    }

    /// Whose request it is that came from 10.0.0.1 through a proxy in 10.0.0.0/8.
    fn client(headers: &[(&str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let trusted = ranges(&["10.0.0.0/8", "fd00::/8"]);
        client_address("10.0.0.1".parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxy_counts() {
        for (value, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7, 10.0.0.2, fd00::2", "192.0.2.7"),
            ("192.0.2.7,10.0.0.2", "192.0.2.7"),
            // All are trusted: it began inside.
            ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ] {
            assert_eq!(client(&[("x-forwarded-for", value)]), expected, "{value}");
        }
        let lists = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-for", "10.0.0.2, 10.0.0.3")];
        assert_eq!(client(&lists), "192.0.2.7");
        assert_eq!(client(&[]), "10.0.0.1");
    }

    #[test]
    fn what_a_client_makes_up_is_not_believed() {
        for (value, expected) in [
            // To the left of what the proxy wrote.
            ("1.1.1.1, 192.0.2.7", "192.0.2.7"),
            ("10.0.0.5, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
            ("127.0.0.1, 192.0.2.7", "192.0.2.7"),
            ("nonsense \"\\, 192.0.2.7", "192.0.2.7"),
            (",,,, 192.0.2.7", "192.0.2.7"),
            // Where the proxy should have written.
            ("192.0.2.7, ", "10.0.0.1"),
            ("192.0.2.7, unknown", "10.0.0.1"),
            ("192.0.2.7, 10.0.0.2, 1.2.3", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("localhost", "10.0.0.1"),
            ("192.0.2.07", "10.0.0.1"),
            ("fe80::1%eth0", "10.0.0.1"),
            ("[192.0.2.7]", "10.0.0.1"),
        ] {
            assert_eq!(client(&[("x-forwarded-for", value)]), expected, "{value}");
        }
        for other in ["forwarded", "x-real-ip", "client-ip", "true-client-ip"] {
            assert_eq!(client(&[(other, "1.1.1.1")]), "10.0.0.1");
            assert_eq!(client(&[(other, "for=1.1.1.1")]), "10.0.0.1");
        }

        // Who is no proxy is not believed at all.
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("10.0.0.2"));
        let peer = "192.0.2.9".parse().unwrap();
        assert_eq!(client_address(peer, &headers, &ranges(&["10.0.0.0/8"])), peer);
        assert_eq!(client_address(peer, &headers, &[]), peer);
        let bytes = HeaderValue::from_bytes(b"192.0.2.7, \xff").unwrap();
        headers.insert(X_FORWARDED_FOR, bytes);
        let proxy = "10.0.0.1".parse().unwrap();
        assert_eq!(client_address(proxy, &headers, &ranges(&["10.0.0.0/8"])), proxy);
    }

    proptest! {
        /// Whatever a client sends, the proxy's own line decides.
        #[test]
        fn no_prefix_changes_the_outcome(
            made_up in "[ -~]{0,80}",
            client: [u8; 4],
            proxies in prop::collection::vec(any::<[u8; 3]>(), 0..4),
        ) {
            let client = IpAddr::from(client);
            prop_assume!(!Cidr::parse("10.0.0.0/8").unwrap().contains(client));
            let mut said = vec![client.to_string()];
            said.extend(proxies.iter().map(|[a, b, c]| format!("10.{a}.{b}.{c}")));
            let said = said.join(", ");
            let trusted = ranges(&["10.0.0.0/8"]);
            let peer = "10.0.0.1".parse().unwrap();
            // As one line, and as a line of its own.
            let mut one = HeaderMap::new();
            let value = format!("{made_up}, {said}");
            one.insert(X_FORWARDED_FOR, HeaderValue::from_str(&value).unwrap());
            prop_assert_eq!(client_address(peer, &one, &trusted), client);
            let mut two = HeaderMap::new();
            two.append(X_FORWARDED_FOR, HeaderValue::from_str(&made_up).unwrap());
            two.append(X_FORWARDED_FOR, HeaderValue::from_str(&said).unwrap());
            prop_assert_eq!(client_address(peer, &two, &trusted), client);
        }

        /// No bytes break it, and the answer is the peer or somebody in the list.
        #[test]
        fn anything_may_come(lines in prop::collection::vec("[0-9a-f:.,\\[\\] \"=;for]{0,60}", 0..4)) {
            let trusted = ranges(&["10.0.0.0/8", "::/0"]);
            let peer: IpAddr = "10.0.0.1".parse().unwrap();
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            let found = client_address(peer, &headers, &trusted);
            prop_assert_eq!(found, found.to_canonical());
        }

        #[test]
        fn ranges_hold_what_has_their_prefix(ip: [u8; 16], other: [u8; 16], bits in 0..=128u8) {
            let (ip, other) = (IpAddr::from(ip), IpAddr::from(other));
            prop_assume!(ip == ip.to_canonical() && other == other.to_canonical());
            let range = Cidr::parse(&format!("{}/{bits}", network(ip, bits))).unwrap();
            prop_assert!(range.contains(ip));
            prop_assert_eq!(range.contains(other), network(other, bits) == network(ip, bits));
            prop_assert_eq!(Cidr::parse(&range.to_string()), Some(range));
        }
    }

    #[test]
    fn ranges_are_read_and_written() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("::1", "::1", "::2"),
            ("::/0", "fe80::1", "1.2.3.4"),
        ] {
            let cidr = Cidr::parse(text).unwrap();
            assert_eq!(cidr.to_string(), text);
            assert!(cidr.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{text} {outside}");
        }
        let mapped = Cidr::parse("::ffff:10.0.0.0/104").unwrap();
        assert_eq!(mapped.to_string(), "10.0.0.0/8");
        assert!(Cidr::parse("10.0.0.0/8").unwrap().contains("::ffff:10.1.2.3".parse().unwrap()));
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::1/129",
            "10/8",
            "a",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::ffff:10.0.0.0/8",
        ] {
            assert_eq!(Cidr::parse(wrong), None, "{wrong}");
        }
    }
}
