//! The settings of `[jwt]` and `[webhook]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::units::{self, Unit};
use super::{Key, into};

/// In the order in which they are printed.
pub(super) static TOKEN_KEYS: &[Key] = &[
    Key {
        name: "jwt.algorithms",
        default: "",
        doc: "The algorithms by which tokens (JWT) may be signed: a list of HS256, RS256, ES256, EdDSA. \
              Empty: no JWT is taken. What a token says about its algorithm must be in the list.",
        danger: "HS256: whoever can check a token can also make one.",
        set: |raw, v| into(&mut raw.jwt.algorithms, Unit::read(v)),
        get: |config| config.jwt.algorithms.write(),
        resolved: None,
    },
    Key {
        name: "jwt.secret_file",
        default: "",
        doc: "The file with the secret of HS256, at least 32 bytes; a line break at its end does not \
              count. Read again on SIGHUP.",
        danger: "Whoever can read it can be anybody.",
        set: |raw, v| into(&mut raw.jwt.secret_file, Unit::read(v)),
        get: |config| config.jwt.secret_file.write(),
        resolved: None,
    },
    Key {
        name: "jwt.key_file",
        default: "",
        doc: "The file with the public key (PEM) of RS256, ES256 or EdDSA. Read again on SIGHUP.",
        danger: "Whoever can write to it can be anybody.",
        set: |raw, v| into(&mut raw.jwt.key_file, Unit::read(v)),
        get: |config| config.jwt.key_file.write(),
        resolved: None,
    },
    Key {
        name: "jwt.jwks_url",
        default: "",
        doc: "Where the public keys are published as a JWKS (RFC 7517). They are kept, and fetched again \
              when they are old or a token names one that is not known.",
        danger: "With http:// somebody on the way can give the server keys of their own.",
        set: |raw, v| into(&mut raw.jwt.jwks_url, Unit::read(v)),
        get: |config| config.jwt.jwks_url.write(),
        resolved: None,
    },
    Key {
        name: "jwt.jwks_file",
        default: "",
        doc: "A file with a JWKS. Read again on SIGHUP.",
        danger: "Whoever can write to it can be anybody.",
        set: |raw, v| into(&mut raw.jwt.jwks_file, Unit::read(v)),
        get: |config| config.jwt.jwks_file.write(),
        resolved: None,
    },
    Key {
        name: "jwt.issuer",
        default: "",
        doc: "What the claim iss of a token must be; empty: anything.",
        danger: "Empty: tokens that the same keys sign for other purposes are taken, too.",
        set: |raw, v| into(&mut raw.jwt.issuer, Unit::read(v)),
        get: |config| config.jwt.issuer.write(),
        resolved: None,
    },
    Key {
        name: "jwt.audience",
        default: "",
        doc: "What the claim aud of a token must be or contain; empty: anything.",
        danger: "Empty: tokens for other services that trust the same issuer are taken, too.",
        set: |raw, v| into(&mut raw.jwt.audience, Unit::read(v)),
        get: |config| config.jwt.audience.write(),
        resolved: None,
    },
    Key {
        name: "jwt.leeway",
        default: "30s",
        doc: "How far apart the clocks may be when exp and nbf are looked at.",
        danger: "Tokens are good for so much longer.",
        set: |raw, v| into(&mut raw.jwt.leeway, units::duration(v, LEEWAYS)),
        get: |config| config.jwt.leeway.write(),
        resolved: None,
    },
    Key {
        name: "jwt.user_claim",
        default: "sub",
        doc: "The claim that is the user's id.",
        danger: "It must be one that users cannot choose themselves.",
        set: |raw, v| into(&mut raw.jwt.user_claim, Unit::read(v)),
        get: |config| config.jwt.user_claim.write(),
        resolved: None,
    },
    Key {
        name: "jwt.info_claim",
        default: "info",
        doc: "The claim with what others learn of the user; empty: nothing is taken over.",
        danger: "",
        set: |raw, v| into(&mut raw.jwt.info_claim, Unit::read(v)),
        get: |config| config.jwt.info_claim.write(),
        resolved: None,
    },
    Key {
        name: "jwt.rooms_claim",
        default: "rooms",
        doc: "The claim with what the user may do, {\"PATTERN\": [\"join\", \"send\", …]}; empty: tokens \
              grant nothing.",
        danger: "It must be one that users cannot choose themselves.",
        set: |raw, v| into(&mut raw.jwt.rooms_claim, Unit::read(v)),
        get: |config| config.jwt.rooms_claim.write(),
        resolved: None,
    },
    Key {
        name: "webhook.url",
        default: "",
        doc: "The service that is asked who somebody with a token is, and what they may do; empty: none.",
        danger: "With http:// somebody on the way can read the tokens, and let anybody in.",
        set: |raw, v| into(&mut raw.webhook.url, Unit::read(v)),
        get: |config| config.webhook.url.write(),
        resolved: None,
    },
    Key {
        name: "webhook.secret_file",
        default: "",
        doc: "The file with the secret by which our questions are signed (HMAC-SHA-256), at least 32 \
              bytes. Needed with a webhook. Read again on SIGHUP.",
        danger: "",
        set: |raw, v| into(&mut raw.webhook.secret_file, Unit::read(v)),
        get: |config| config.webhook.secret_file.write(),
        resolved: None,
    },
    Key {
        name: "webhook.timeout",
        default: "3s",
        doc: "How long one try may take.",
        danger: "Handshakes wait for it, with all its retries.",
        set: |raw, v| into(&mut raw.webhook.timeout, units::duration(v, TIMEOUTS)),
        get: |config| config.webhook.timeout.write(),
        resolved: None,
    },
    Key {
        name: "webhook.retries",
        default: "2",
        doc: "How often it is asked again when it does not answer or answers 5xx.",
        danger: "",
        set: |raw, v| into(&mut raw.webhook.retries, units::number(v, 0..=10)),
        get: |config| config.webhook.retries.write(),
        resolved: None,
    },
    Key {
        name: "webhook.allow",
        default: "",
        doc: "Where the webhook and the JWKS may be besides public addresses: a list of ranges of \
              addresses and names of hosts.",
        danger: "Every address that is listed can be reached through this server by whoever controls \
                 the name in the URL.",
        set: |raw, v| into(&mut raw.webhook.allow, Unit::read(v)),
        get: |config| config.webhook.allow.write(),
        resolved: None,
    },
    Key {
        name: "webhook.login",
        default: "false",
        doc: "Whether POST /login asks the webhook instead of the users made with `throng user add`.",
        danger: "It gets the passwords.",
        set: |raw, v| into(&mut raw.webhook.login, Unit::read(v)),
        get: |config| config.webhook.login.write(),
        resolved: None,
    },
];

const LEEWAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(60);
