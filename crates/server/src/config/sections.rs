//! The sections about who gets in: `[access]`, `[login]`, `[jwt]`, `[webhook]`, `[tls]`; and those about other servers:
//! `[redis]`, `[cluster]`.
//!
//! Each is written down once, and becomes two types: as written in the layers, and as used.

use std::time::Duration;

use super::checked::set;
use super::lists::{Domains, GrantWords, Hosts};
use super::rate::Rate;
use super::redis::{Prefix, RedisMode, RedisUrls, Spread};
use super::secret::{FilePath, FilePaths};
use super::trust::{Algorithms, ClientAuth, Line, ServiceUrl, TlsVersion};

macro_rules! section {
    ($(#[$about:meta])* $name:ident, $raw:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: $type,)*
        }

        /// The same as written; `None` where no layer has said anything yet.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $raw {
            $(pub(crate) $field: Option<$type>,)*
        }

        impl $name {
            /// As used, once the layer of defaults has set every key.
            pub(super) fn of(raw: $raw) -> Self {
                Self { $($field: set(raw.$field),)* }
            }
        }
    };
}

section! {
    /// `[access]`: what people may do, and how their credentials live.
    Access, RawAccess {
        /// Of those without credentials.
        anonymous: GrantWords,
        /// Of everybody who is signed in, besides what their credentials say.
        users: GrantWords,
        recheck: Duration,
        ticket_ttl: Duration,
        /// Zero: no end.
        session_ttl: Duration,
    }
}

section! {
    /// `[login]`: `POST /login` with a name and a password.
    Login, RawLogin {
        enabled: bool,
        /// For each name, and for each address.
        attempts: Rate,
        /// Zero: no end.
        session_ttl: Duration,
    }
}

section! {
    /// `[jwt]`: signed tokens that somebody else gives out.
    Jwt, RawJwt {
        /// None: no token is taken.
        algorithms: Algorithms,
        secret_file: FilePath,
        key_file: FilePath,
        jwks_url: ServiceUrl,
        jwks_file: FilePath,
        /// Empty: any.
        issuer: Line,
        /// Empty: any.
        audience: Line,
        leeway: Duration,
        user_claim: Line,
        info_claim: Line,
        rooms_claim: Line,
    }
}

section! {
    /// `[webhook]`: a service that is asked who somebody is.
    Webhook, RawWebhook {
        url: ServiceUrl,
        secret_file: FilePath,
        timeout: Duration,
        retries: usize,
        /// Where it may be besides public addresses.
        allow: Hosts,
        /// Whether it is asked for names and passwords, too.
        login: bool,
    }
}

section! {
    /// `[tls]`: certificates, of listeners with `tls = true`.
    Tls, RawTls {
        cert: FilePaths,
        /// One for each certificate.
        key: FilePaths,
        client_ca: FilePath,
        client_auth: ClientAuth,
        /// Zero: the header is not sent.
        hsts: Duration,
        min_version: TlsVersion,
        acme_domains: Domains,
        acme_contact: Line,
        acme_directory: ServiceUrl,
        acme_ca: FilePath,
        acme_cache: FilePath,
    }
}

section! {
    /// `[redis]`: what several servers share.
    Redis, RawRedis {
        /// None: this server is on its own.
        urls: RedisUrls,
        mode: RedisMode,
        master: Line,
        prefix: Prefix,
        /// Empty: that of Redis' own default.
        username: Line,
        password_file: FilePath,
        sentinel_username: Line,
        sentinel_password_file: FilePath,
        ca: FilePath,
        /// With a key.
        cert: FilePath,
        key: FilePath,
        /// Empty: that by which each is reached.
        tls_name: Line,
        trust_restarts: bool,
        probe: Duration,
        min_replicas: usize,
        patience: Duration,
    }
}

section! {
    /// `[cluster]`: this server among others.
    Cluster, RawCluster {
        advertise: Line,
        node_timeout: Duration,
        drain_spread: Spread,
    }
}
