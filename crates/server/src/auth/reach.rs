//! Where the server may go by itself: public addresses, and what the configuration allows besides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Hosts;

/// Decides about addresses before anything is sent there.
///
/// A name in a URL is somebody's who may let it point anywhere: to this machine, to the metadata service
/// of a cloud, into the network behind the firewall. Only public unicast addresses are gone to, or those
/// in `webhook.allow`, by range or by the name of the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach(Hosts);

impl Reach {
    /// Public addresses, and these.
    pub(super) fn new(allow: Hosts) -> Self {
        Self(allow)
    }

    /// Whether a connection may be made to this address, which the name `host` stands for.
    pub(super) fn allows(&self, host: &str, address: IpAddr) -> bool {
        let named = || {
            let host = host.strip_suffix('.').unwrap_or(host);
            self.0.names.iter().any(|name| name.eq_ignore_ascii_case(host))
        };
        is_public(address) || self.0.ranges.iter().any(|range| range.contains(address)) || named()
    }
}

/// Whether the address is one of the public Internet (the IANA registries of special addresses).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127 | 224..=255, ..] => false, // this host, private, loopback, multicast, reserved
        [100, 64..=127, ..] => false,            // behind a carrier's NAT
        [169, 254, ..] => false,                 // link-local, metadata services
        [172, 16..=31, ..] | [192, 168, ..] => false, // private
        [192, 0, 0 | 2, _] | [192, 88, 99, _] => false, // protocols, documentation, 6to4 relays
        [198, 18 | 19, ..] => false,             // measurements
        [198, 51, 100, _] | [203, 0, 113, _] => false, // documentation
        _ => true,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // What an IPv4 address behind NAT64 is called.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4((u32::from(high) << 16 | u32::from(low)).into())
        }
        [0x2001, 0..=0x01ff, ..] => false, // protocols: Teredo, ORCHID, anycast
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => false, // documentation
        [0x2002, ..] => false,             // 6to4: any IPv4 address
        // Global unicast. All else is unspecified, loopback, an IPv4 address in disguise, local,
        // multicast, or nothing yet.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Cidr;

    #[test]
    fn only_public_addresses_are_gone_to() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("1.1.1.1", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("9.255.255.255", true),
            ("10.0.0.1", false),
            ("10.255.255.255", false),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.253.1.1", true),
            ("169.254.169.254", false),
            ("172.15.255.255", true),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.0.0.192", false),
            ("192.0.1.1", true),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.167.1.1", true),
            ("192.168.1.1", false),
            ("198.17.1.1", true),
            ("198.18.0.1", false),
            ("198.19.255.255", false),
            ("198.20.0.0", true),
            ("198.51.100.7", false),
            ("203.0.113.7", false),
            ("224.0.0.1", false),
            ("239.255.255.250", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("2a00:1450::1", true),
            ("2001:200::1", true),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::127.0.0.1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b:1::8.8.8.8", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:10::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::", false),
            ("3fff::1", false),
            ("3fff:1000::1", true),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn what_is_allowed_is_gone_to_as_well() {
        let ranges = ["10.1.0.0/16", "::1"].map(|range| Cidr::parse(range).unwrap()).to_vec();
        let reach = Reach::new(Hosts { names: vec!["auth.internal".into()], ranges });
        for (host, address, allowed) in [
            ("a.example", "10.1.2.3", true),
            ("a.example", "::ffff:10.1.2.3", true),
            ("a.example", "10.2.0.1", false),
            ("a.example", "::1", true),
            ("a.example", "127.0.0.1", false),
            ("a.example", "8.8.8.8", true),
            ("auth.internal", "127.0.0.1", true),
            ("AUTH.internal.", "192.168.0.1", true),
            ("x.auth.internal", "192.168.0.1", false),
            ("auth.internal.example", "192.168.0.1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(reach.allows(host, address), allowed, "{host} {address}");
        }
    }
}
