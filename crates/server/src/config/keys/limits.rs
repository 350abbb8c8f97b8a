//! The settings of `[limits]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::trust::Amount;
use super::super::units::{self, Expected, Size, Unit, Value};
use super::{Key, into};

/// In the order in which they are printed.
pub(super) static LIMIT_KEYS: &[Key] = &[
    Key {
        name: "limits.trusted_proxies",
        default: "",
        doc: "Addresses and ranges of the proxies in front: what they say about the client's address \
              (X-Forwarded-For, the PROXY protocol) is believed, and nobody else's word.",
        danger: "Whoever connects from such an address can pretend to be any other: get round the limits \
                 by address, and use tickets that are bound to one.",
        set: |raw, v| into(&mut raw.limits.trusted_proxies, Unit::read(v)),
        get: |config| config.limits.trusted_proxies.write(),
        resolved: None,
    },
    Key {
        name: "limits.exempt",
        default: "127.0.0.0/8 ::1",
        doc: "Addresses and ranges to which the limits by address do not apply.",
        danger: "Behind a proxy on this machine that is not in trusted_proxies, everybody is exempt.",
        set: |raw, v| into(&mut raw.limits.exempt, Unit::read(v)),
        get: |config| config.limits.exempt.write(),
        resolved: None,
    },
    Key {
        name: "limits.connects_per_ip",
        default: "200/s burst 2000",
        doc: "How often one address may open a TCP connection. More are closed, without TLS with 429, before \
              anything is computed for them. IPv6 addresses count by their /64.",
        danger: "off lets one machine keep the server busy with TLS handshakes that become nothing.",
        set: |raw, v| into(&mut raw.limits.connects_per_ip, Unit::read(v)),
        get: |config| config.limits.connects_per_ip.write(),
        resolved: None,
    },
    Key {
        name: "limits.handshakes_per_ip",
        default: "100/s burst 1000",
        doc: "How often one address may try to open a WebSocket or a stream of events. More are refused \
              with 429. IPv6 addresses count by their /64.",
        danger: "off lets one machine keep the front busy with handshakes.",
        set: |raw, v| into(&mut raw.limits.handshakes_per_ip, Unit::read(v)),
        get: |config| config.limits.handshakes_per_ip.write(),
        resolved: None,
    },
    Key {
        name: "limits.max_connections",
        default: "auto",
        doc: "WebSockets open at once, and as many streams of events: a number, or auto for what the limit \
              on open files allows. One more is refused with 429.",
        danger: "Each connection needs a file descriptor (ulimit -n).",
        set: |raw, v| into(&mut raw.limits.max_connections, units::choice(v, COUNTS)),
        get: |config| config.limits.max_connections.choice.write(),
        resolved: Some(|config| config.limits.max_connections.value),
    },
    Key {
        name: "limits.max_connections_per_ip",
        default: "1000",
        doc: "WebSockets, and HTTP connections and streams of events together, open at once from one IP \
              address (IPv6: its /64); 0 for no limit. One more is refused with 429.",
        danger: "Behind a company's or a mobile network's gateway many people share one address, and behind \
                 a proxy that is not in trusted_proxies everybody does.",
        set: |raw, v| {
            into(&mut raw.limits.max_connections_per_ip, units::number(v, COUNTS_OR_NONE))
        },
        get: |config| config.limits.max_connections_per_ip.write(),
        resolved: None,
    },
    Key {
        name: "limits.max_connections_per_user",
        default: "100",
        doc: "WebSockets and streams of events open at once of one user who is signed in; 0 for no limit. \
              One more is refused with 429.",
        danger: "",
        set: |raw, v| {
            into(&mut raw.limits.max_connections_per_user, units::number(v, COUNTS_OR_NONE))
        },
        get: |config| config.limits.max_connections_per_user.write(),
        resolved: None,
    },
    Key {
        name: "limits.max_http_connections",
        default: "auto",
        doc: "TCP connections open at once that are neither WebSockets (yet) nor streams of events: a \
              number, or auto for an eighth of the limit on open files, at most 8192. One more is refused \
              with 429.",
        danger: "Each one costs some 10 KiB while it lives; a flood of slow handshakes fills this first.",
        set: |raw, v| into(&mut raw.limits.max_http_connections, units::choice(v, COUNTS)),
        get: |config| config.limits.max_http_connections.choice.write(),
        resolved: Some(|config| config.limits.max_http_connections.value),
    },
    Key {
        name: "limits.max_tls_handshakes",
        default: "auto",
        doc: "TLS handshakes under way at once: a number, or auto for half of max_http_connections. A quarter \
              of them may come from one address. One more is closed. Each has handshake_timeout.",
        danger: "Each costs some 20 KiB while it lasts; too few, and clients have to try again after an outage.",
        set: |raw, v| into(&mut raw.limits.max_tls_handshakes, units::choice(v, COUNTS)),
        get: |config| config.limits.max_tls_handshakes.choice.write(),
        resolved: Some(|config| config.limits.max_tls_handshakes.value),
    },
    Key {
        name: "limits.max_rooms",
        default: "128",
        doc: "The most rooms that one connection may be in. One more is refused with too_many_rooms.",
        danger: "Each costs some 200 bytes for each connection.",
        set: |raw, v| into(&mut raw.limits.max_rooms, units::number(v, 1..=1000)),
        get: |config| config.limits.max_rooms.write(),
        resolved: None,
    },
    Key {
        name: "limits.max_rooms_per_ip",
        default: "5000",
        doc: "The most rooms, open at once, that were brought into being from one address (IPv6: its /64); 0 for \
              no limit. One more is refused with too_many_rooms; rooms that are there can be joined.",
        danger: "With 0, or as many as max_total_rooms, one address can use up all rooms.",
        set: |raw, v| into(&mut raw.limits.max_rooms_per_ip, units::number(v, COUNTS_OR_NONE)),
        get: |config| config.limits.max_rooms_per_ip.write(),
        resolved: None,
    },
    Key {
        name: "limits.max_rooms_per_user",
        default: "1000",
        doc: "The most rooms, open at once, that one user who is signed in has brought into being; 0 for no \
              limit. One more is refused with too_many_rooms; rooms that are there can be joined.",
        danger: "With 0, or as many as max_total_rooms, one user can use up all rooms.",
        set: |raw, v| into(&mut raw.limits.max_rooms_per_user, units::number(v, COUNTS_OR_NONE)),
        get: |config| config.limits.max_rooms_per_user.write(),
        resolved: None,
    },
    Key {
        name: "limits.max_total_rooms",
        default: "100000",
        doc: "Rooms open at once, of everybody together. One more is refused with too_many_rooms.",
        danger: "Each costs some KiB, besides its past.",
        set: |raw, v| into(&mut raw.limits.max_total_rooms, units::number(v, COUNTS)),
        get: |config| config.limits.max_total_rooms.write(),
        resolved: None,
    },
    Key {
        name: "limits.memory",
        default: "auto",
        doc: "The most memory for everything that is kept for clients, in bytes: at nine tenths of it new \
              connections are refused with 503 and messages with overloaded. auto: half of what the \
              machine, or the control group, has.",
        danger: "Too much, and the system kills the process instead.",
        set: |raw, v| into(&mut raw.limits.memory, amount(v, MEMORY)),
        get: |config| config.limits.memory.choice.write(),
        resolved: Some(|config| config.limits.memory.value),
    },
    Key {
        name: "limits.memory_history",
        default: "64MiB",
        doc: "Memory for the past of rooms that nobody is in and that are not on the disk. When it is used \
              up, the past of the rooms that were left longest ago goes first.",
        danger: "A room whose past has gone starts a new epoch: clients that come back to it are told \
                 recovered = false.",
        set: |raw, v| into(&mut raw.limits.memory_history, units::size(v, 0..=1 << 40)),
        get: |config| config.limits.memory_history.write(),
        resolved: None,
    },
    Key {
        name: "limits.handshake_timeout",
        default: "10s",
        doc: "How long a TCP connection may take to send the head of a request, and as long again for \
              its body, to take the next 16 KiB of a response, or to be idle between requests, before \
              it is cut. A stream of events may be silent for ever.",
        danger: "Long times help attackers that send a byte now and then (slowloris).",
        set: |raw, v| into(&mut raw.limits.handshake_timeout, units::duration(v, HANDSHAKES)),
        get: |config| config.limits.handshake_timeout.write(),
        resolved: None,
    },
    Key {
        name: "limits.partial_timeout",
        default: "30s",
        doc: "How long a message may be incomplete, from its first byte to its last, before the \
              connection is closed with 1008.",
        danger: "Slow networks need some time for large messages.",
        set: |raw, v| into(&mut raw.limits.partial_timeout, units::duration(v, HANDSHAKES)),
        get: |config| config.limits.partial_timeout.write(),
        resolved: None,
    },
    Key {
        name: "limits.header_size",
        default: "16KiB",
        doc: "The largest head of a request: its first line and all headers, in bytes. More is \
              answered 431.",
        danger: "Memory that every connection can make the server use. Cookies and tickets must fit in.",
        set: |raw, v| into(&mut raw.limits.header_size, units::size(v, HEADERS)),
        get: |config| config.limits.header_size.write(),
        resolved: None,
    },
    Key {
        name: "limits.header_count",
        default: "100",
        doc: "The most headers in a request. More are answered 431.",
        danger: "Other values than 100 cost an allocation per request.",
        set: |raw, v| into(&mut raw.limits.header_count, units::number(v, 16..=4096)),
        get: |config| config.limits.header_count.write(),
        resolved: None,
    },
    Key {
        name: "limits.backlog",
        default: "4096",
        doc: "TCP connections the system may hold for us before they are accepted, per listener. The \
              system may have a lower limit (net.core.somaxconn).",
        danger: "When it is full, clients see slow connects: SYN packets are dropped.",
        set: |raw, v| into(&mut raw.limits.backlog, units::number(v, 1..=65_535)),
        get: |config| config.limits.backlog.write(),
        resolved: None,
    },
];

/// Reads an [`Amount`] and holds it to a range.
pub(super) fn amount(value: &Value, range: RangeInclusive<usize>) -> Result<Amount, Expected> {
    match Amount::read(value) {
        Ok(Amount::Auto) => Ok(Amount::Auto),
        Ok(Amount::Fixed(Size(size))) if range.contains(&size) => Ok(Amount::Fixed(Size(size))),
        _ => Err(format!(
            "\"auto\" or a size from {} to {}",
            Size(*range.start()).write(),
            Size(*range.end()).write()
        )),
    }
}

const HANDSHAKES: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(600);
const COUNTS: RangeInclusive<usize> = 1..=100_000_000;
const COUNTS_OR_NONE: RangeInclusive<usize> = 0..=100_000_000;
const HEADERS: RangeInclusive<usize> = 1024..=1 << 20;
const MEMORY: RangeInclusive<usize> = 16 << 20..=1 << 50;
