//! The settings of `[redis]` and `[cluster]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::redis::Spread;
use super::super::units::{self, Unit};
use super::{Key, into};

/// In the order in which they are printed.
pub(super) static REDIS_KEYS: &[Key] = &[
    Key {
        name: "redis.urls",
        default: "",
        doc: "The Redis (7.0 or newer) or Valkey that several servers share: redis://HOST:PORT, or rediss:// with TLS, and \
              /N for a database. Empty: none, this server is on its own. Several: independent servers that rooms are \
              spread over, or the sentinels, or nodes of a Redis Cluster, as redis.mode says. All rooms, sessions, tickets, \
              users and bans are kept there, and nothing in `data`. Flag: --redis URL.",
        danger: "Whoever can reach it can read and write every room, and be anybody. With several independent servers, all \
                 nodes must list the same ones in the same order.",
        set: |raw, v| into(&mut raw.redis.urls, Unit::read(v)),
        get: |config| config.redis.urls.write(),
        resolved: None,
    },
    Key {
        name: "redis.mode",
        default: "single",
        doc: "How the servers of redis.urls belong together: single, each is on its own; sentinel, they are sentinels that \
              know the primary; cluster, they are nodes of a Redis Cluster.",
        danger: "",
        set: |raw, v| into(&mut raw.redis.mode, Unit::read(v)),
        get: |config| config.redis.mode.write(),
        resolved: None,
    },
    Key {
        name: "redis.master",
        default: "mymaster",
        doc: "What the sentinels call the primary.",
        danger: "",
        set: |raw, v| into(&mut raw.redis.master, Unit::read(v)),
        get: |config| config.redis.master.write(),
        resolved: None,
    },
    Key {
        name: "redis.prefix",
        default: "throng",
        doc: "What all keys and channels in Redis begin with: letters, digits, _ - . and :.",
        danger: "Servers with the same prefix in the same Redis are one: also those of another environment.",
        set: |raw, v| into(&mut raw.redis.prefix, Unit::read(v)),
        get: |config| config.redis.prefix.write(),
        resolved: None,
    },
    Key {
        name: "redis.username",
        default: "",
        doc: "The user (ACL) that the server is in Redis; empty: default.",
        danger: "",
        set: |raw, v| into(&mut raw.redis.username, Unit::read(v)),
        get: |config| config.redis.username.write(),
        resolved: None,
    },
    Key {
        name: "redis.password_file",
        default: "",
        doc: "The file with the password for Redis; a line break at its end does not count.",
        danger: "Whoever can read it can be anybody.",
        set: |raw, v| into(&mut raw.redis.password_file, Unit::read(v)),
        get: |config| config.redis.password_file.write(),
        resolved: None,
    },
    Key {
        name: "redis.sentinel_username",
        default: "",
        doc: "The same for sentinels.",
        danger: "",
        set: |raw, v| into(&mut raw.redis.sentinel_username, Unit::read(v)),
        get: |config| config.redis.sentinel_username.write(),
        resolved: None,
    },
    Key {
        name: "redis.sentinel_password_file",
        default: "",
        doc: "The file with the password that the sentinels want to hear. Empty: they want none.",
        danger: "Whoever can read it can tell the sentinels to choose another primary.",
        set: |raw, v| into(&mut raw.redis.sentinel_password_file, Unit::read(v)),
        get: |config| config.redis.sentinel_password_file.write(),
        resolved: None,
    },
    Key {
        name: "redis.ca",
        default: "",
        doc: "The file (PEM) with the authorities that may have signed the certificates of rediss:// servers. Empty: those \
              that the system trusts.",
        danger: "",
        set: |raw, v| into(&mut raw.redis.ca, Unit::read(v)),
        get: |config| config.redis.ca.write(),
        resolved: None,
    },
    Key {
        name: "redis.cert",
        default: "",
        doc: "The file (PEM) with the certificate that is shown to rediss:// servers; needs redis.key.",
        danger: "",
        set: |raw, v| into(&mut raw.redis.cert, Unit::read(v)),
        get: |config| config.redis.cert.write(),
        resolved: None,
    },
    Key {
        name: "redis.key",
        default: "",
        doc: "The file (PEM) with its private key.",
        danger: "Whoever can read it can be this server for Redis.",
        set: |raw, v| into(&mut raw.redis.key, Unit::read(v)),
        get: |config| config.redis.key.write(),
        resolved: None,
    },
    Key {
        name: "redis.tls_name",
        default: "",
        doc: "The name or address that the certificates of all rediss:// servers must be for. Empty: that by which each is \
              reached, which is what redis.urls says, or what sentinels and nodes of a cluster say of the others.",
        danger: "Whoever has a certificate for this name can be each of the servers.",
        set: |raw, v| into(&mut raw.redis.tls_name, Unit::read(v)),
        get: |config| config.redis.tls_name.write(),
        resolved: None,
    },
    Key {
        name: "redis.trust_restarts",
        default: "false",
        doc: "Whether a Redis that restarts still knows everything it has acknowledged, as one without replicas and with \
              appendfsync always does. Then rooms go on after its restart; else they begin a new epoch, and clients are \
              told that something may be missing.",
        danger: "When that is not so, numbers of messages are given twice: clients have holes that nobody tells them of.",
        set: |raw, v| into(&mut raw.redis.trust_restarts, Unit::read(v)),
        get: |config| config.redis.trust_restarts.write(),
        resolved: None,
    },
    Key {
        name: "redis.probe",
        default: "30s",
        doc: "How often an open room is looked at in Redis when nothing is heard of it: what an outage has swallowed is \
              found then at the latest.",
        danger: "Each open room costs a command in this time, on each node that has members of it.",
        set: |raw, v| into(&mut raw.redis.probe, units::duration(v, PROBES)),
        get: |config| config.redis.probe.write(),
        resolved: None,
    },
    Key {
        name: "redis.min_replicas",
        default: "0",
        doc: "How many replicas must be connected to a primary for messages to be stored and tickets to be used; with fewer \
              they are refused. Revocations and other changes of users and rights are made, but not acknowledged.",
        danger: "With 0, what was acknowledged last is lost when a primary fails before its replicas have it; clients are \
                 told (a new epoch). With more, rooms are read-only while replicas are missing, and nobody comes in by \
                 a ticket.",
        set: |raw, v| into(&mut raw.redis.min_replicas, units::number(v, REPLICAS)),
        get: |config| config.redis.min_replicas.write(),
        resolved: None,
    },
    Key {
        name: "redis.patience",
        default: "10s",
        doc: "For how long a message whose answer was lost is tried again before its sender is told `unavailable`.",
        danger: "",
        set: |raw, v| into(&mut raw.redis.patience, units::duration(v, PATIENCES)),
        get: |config| config.redis.patience.write(),
        resolved: None,
    },
    Key {
        name: "cluster.advertise",
        default: "",
        doc: "Where this server can be reached, as `throng nodes` and the API are to show it. Nobody connects there.",
        danger: "",
        set: |raw, v| into(&mut raw.cluster.advertise, Unit::read(v)),
        get: |config| config.cluster.advertise.write(),
        resolved: None,
    },
    Key {
        name: "cluster.node_timeout",
        default: "20s",
        doc: "After how long a server that has gone without a word counts as dead: its users leave their rooms then.",
        danger: "One that is only slow, or was stopped for longer, is taken for dead, too: its users are gone for the others \
                 until it is back.",
        set: |raw, v| into(&mut raw.cluster.node_timeout, units::duration(v, TIMEOUTS)),
        get: |config| config.cluster.node_timeout.write(),
        resolved: None,
    },
    Key {
        name: "cluster.drain_spread",
        default: "auto",
        doc: "Over how long clients are sent away after SIGTERM or by the API, each at a time of its own: a duration, or auto \
              for 30s with Redis and 0s without. 0s: all at once, and each is told when to come back.",
        danger: "The service manager must wait for this long, 2 s and shutdown_grace before it kills the process.",
        set: |raw, v| into(&mut raw.cluster.drain_spread, Spread::read_within(v, SPREADS)),
        get: |config| config.cluster.drain_spread.write(),
        resolved: None,
    },
];

const PROBES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const REPLICAS: RangeInclusive<usize> = 0..=16;
const PATIENCES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(600);
const SPREADS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
