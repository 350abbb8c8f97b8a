//! The settings of `[tls]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::units::{self, Unit};
use super::{Key, into};

/// In the order in which they are printed.
pub(super) static TLS_KEYS: &[Key] = &[
    Key {
        name: "tls.cert",
        default: "",
        doc: "Files (PEM) with certificates and their chains, for listeners with tls = true. Several: the \
              client's SNI chooses, the first is for everybody else. Read again on SIGHUP and when they \
              change. `throng cert --self-signed` makes one for development.",
        danger: "",
        set: |raw, v| into(&mut raw.tls.cert, Unit::read(v)),
        get: |config| config.tls.cert.write(),
        resolved: None,
    },
    Key {
        name: "tls.key",
        default: "",
        doc: "Files (PEM) with their private keys, in the same order.",
        danger: "Whoever can read one can be this server.",
        set: |raw, v| into(&mut raw.tls.key, Unit::read(v)),
        get: |config| config.tls.key.write(),
        resolved: None,
    },
    Key {
        name: "tls.client_ca",
        default: "",
        doc: "The file (PEM) with the authorities whose client certificates are accepted.",
        danger: "",
        set: |raw, v| into(&mut raw.tls.client_ca, Unit::read(v)),
        get: |config| config.tls.client_ca.write(),
        resolved: None,
    },
    Key {
        name: "tls.client_auth",
        default: "off",
        doc: "Whether clients show certificates: off, optional (a wrong one is refused) or required.",
        danger: "",
        set: |raw, v| into(&mut raw.tls.client_auth, Unit::read(v)),
        get: |config| config.tls.client_auth.write(),
        resolved: None,
    },
    Key {
        name: "tls.hsts",
        default: "0s",
        doc: "For how long browsers must use only TLS with this host (Strict-Transport-Security), said \
              by listeners with tls = true; 0s: it is not said.",
        danger: "Cannot be taken back: browsers that have seen it refuse plain http for so long, on all \
                 ports.",
        set: |raw, v| into(&mut raw.tls.hsts, units::duration(v, HSTS)),
        get: |config| config.tls.hsts.write(),
        resolved: None,
    },
    Key {
        name: "tls.min_version",
        default: "1.2",
        doc: "The oldest version of TLS that is spoken: 1.2 or 1.3.",
        danger: "",
        set: |raw, v| into(&mut raw.tls.min_version, Unit::read(v)),
        get: |config| config.tls.min_version.write(),
        resolved: None,
    },
    Key {
        name: "tls.acme_domains",
        default: "",
        doc: "Names for which certificates are fetched by ACME (RFC 8555, TLS-ALPN-01), as from Let's \
              Encrypt; empty: none. The names must lead to port 443 of this machine.",
        danger: "Whoever uses this accepts the terms of the authority.",
        set: |raw, v| into(&mut raw.tls.acme_domains, Unit::read(v)),
        get: |config| config.tls.acme_domains.write(),
        resolved: None,
    },
    Key {
        name: "tls.acme_contact",
        default: "",
        doc: "The mail address for the authority, such as ops@example.org.",
        danger: "",
        set: |raw, v| into(&mut raw.tls.acme_contact, Unit::read(v)),
        get: |config| config.tls.acme_contact.write(),
        resolved: None,
    },
    Key {
        name: "tls.acme_directory",
        default: "https://acme-v02.api.letsencrypt.org/directory",
        doc: "The directory of the authority.",
        danger: "",
        set: |raw, v| into(&mut raw.tls.acme_directory, Unit::read(v)),
        get: |config| config.tls.acme_directory.write(),
        resolved: None,
    },
    Key {
        name: "tls.acme_ca",
        default: "",
        doc: "The file (PEM) with the authorities that the directory's own certificate may come from; \
              empty: the usual ones. For an authority of one's own.",
        danger: "",
        set: |raw, v| into(&mut raw.tls.acme_ca, Unit::read(v)),
        get: |config| config.tls.acme_ca.write(),
        resolved: None,
    },
    Key {
        name: "tls.acme_cache",
        default: "",
        doc: "The directory where account and certificates are kept; empty: acme in the data directory.",
        danger: "It holds private keys. Without it, every start asks for new certificates, of which the \
                 authority gives only a few each week.",
        set: |raw, v| into(&mut raw.tls.acme_cache, Unit::read(v)),
        get: |config| config.tls.acme_cache.write(),
        resolved: None,
    },
];

const HSTS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(2 * 8760 * 3600);
