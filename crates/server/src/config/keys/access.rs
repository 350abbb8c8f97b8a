//! The settings of `[access]` and `[login]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::units::{self, Unit};
use super::{Key, into};

/// In the order in which they are printed.
pub(super) static ACCESS_KEYS: &[Key] = &[
    Key {
        name: "access.anonymous",
        default: "lobby demo:* live:lobby live:demo:* @u_*=send",
        doc: "What people without credentials may do: a list of PATTERN (everything) or \
              PATTERN=RIGHT,RIGHT… with the rights join, send, send:TYPE, presence, history. * in a \
              pattern is any run of characters. The default is the demo; @u_*=send lets them write to \
              each other. Nothing that is not granted is allowed.",
        danger: "[\"*\"] opens every room to everybody who can reach a listener; [] closes all of them.",
        set: |raw, v| into(&mut raw.access.anonymous, Unit::read(v)),
        get: |config| config.access.anonymous.write(),
        resolved: None,
    },
    Key {
        name: "access.users",
        default: "",
        doc: "What everybody who is signed in may do, besides what people without credentials may and \
              what their ticket or token grants: a list as above.",
        danger: "",
        set: |raw, v| into(&mut raw.access.users, Unit::read(v)),
        get: |config| config.access.users.write(),
        resolved: None,
    },
    Key {
        name: "access.recheck",
        default: "30s",
        doc: "How often every session is looked up again, in case that a revocation was not heard of. \
              Revocations through this server close connections at once.",
        danger: "Short times cost reads of the whole list of sessions.",
        set: |raw, v| into(&mut raw.access.recheck, units::duration(v, RECHECKS)),
        get: |config| config.access.recheck.write(),
        resolved: None,
    },
    Key {
        name: "access.ticket_ttl",
        default: "30s",
        doc: "How long a ticket can be used after it was issued, when the request for it does not say.",
        danger: "Whoever gets hold of a ticket before it is used can use it instead.",
        set: |raw, v| into(&mut raw.access.ticket_ttl, units::duration(v, TICKETS)),
        get: |config| config.access.ticket_ttl.write(),
        resolved: None,
    },
    Key {
        name: "access.session_ttl",
        default: "24h",
        doc: "How long a session lasts that was opened with a ticket or a token that does not say: then \
              it is closed with 4401. 0s: it does not end by itself.",
        danger: "Without an end, whoever was let in once stays until revoked.",
        set: |raw, v| into(&mut raw.access.session_ttl, units::duration(v, SESSIONS)),
        get: |config| config.access.session_ttl.write(),
        resolved: None,
    },
    Key {
        name: "login.enabled",
        default: "false",
        doc: "Whether POST /login gives a ticket for a name and a password: of the users made with \
              `throng user add`, or those of the webhook.",
        danger: "Passwords travel in the clear without TLS.",
        set: |raw, v| into(&mut raw.login.enabled, Unit::read(v)),
        get: |config| config.login.enabled.write(),
        resolved: None,
    },
    Key {
        name: "login.attempts",
        default: "5/m burst 5",
        doc: "How often somebody may try: for each name, and for each address. More are answered 429.",
        danger: "off lets attackers guess as fast as the server can check.",
        set: |raw, v| into(&mut raw.login.attempts, Unit::read(v)),
        get: |config| config.login.attempts.write(),
        resolved: None,
    },
    Key {
        name: "login.session_ttl",
        default: "12h",
        doc: "How long a session lasts that began with a login; 0s: it does not end by itself.",
        danger: "",
        set: |raw, v| into(&mut raw.login.session_ttl, units::duration(v, SESSIONS)),
        get: |config| config.login.session_ttl.write(),
        resolved: None,
    },
];

const RECHECKS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const TICKETS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const SESSIONS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(8760 * 3600);
