//! The numbers of a server among others: Redis, the nodes, and how far a drain is.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use throng::{RedisStatus, Server};

use super::{counter, counters, gauge};

/// Why nobody should be sent to a server, in one line; `None` when it is ready.
pub(super) fn reason(server: &Server) -> Option<String> {
    if server.is_draining() {
        return Some("draining".into());
    }
    let redis = server.redis_status()?;
    let away: Vec<&str> = away(&redis).collect();
    match redis.servers.len() {
        0 => Some("redis has not been reached yet".into()),
        // Rooms on the others go on, and all nodes are in the same position.
        all if away.len() < all => None,
        _ => Some(format!("redis is away: {}", away.join(", "))),
    }
}

/// Adds them to the others.
pub(super) fn encode(out: &mut DescriptorEncoder<'_>, server: &Server) -> fmt::Result {
    let draining = server.draining();
    let help = "1 while new connections are refused and clients are sent away, else 0";
    gauge(out, "throng_draining", help, u64::from(server.is_draining()))?;
    if let Some(draining) = draining {
        for (name, help, value) in [
            ("throng_drain_connections", "Connections when the drain began", draining.total),
            ("throng_drain_left", "Connections that have not gone yet", draining.left),
        ] {
            gauge(out, name, help, value as u64)?;
        }
    }
    let Some(redis) = server.redis_status() else { return Ok(()) };
    gauge(out, "throng_nodes", "Servers that share rooms", server.nodes().len() as u64)?;
    servers(out, &redis)?;
    let results = [("stored", redis.stored), ("failed", redis.failed), ("refused", redis.refused)];
    let help = "Messages stored in Redis, and those that were not";
    counters(out, "throng_redis_messages", help, "result", &results)?;
    for (name, help, value) in [
        ("throng_redis_commands", "Commands sent to Redis", redis.commands),
        ("throng_redis_appends", "Commands that store messages", redis.appends),
        (
            "throng_redis_catch_up_reads",
            "Times that messages of a room were missing and were read",
            redis.reads,
        ),
        (
            "throng_redis_renewed_rooms",
            "Times that a room began anew because Redis had lost something",
            redis.renewed,
        ),
        ("throng_redis_cuts", "Connections to Redis that were lost", redis.cuts),
    ] {
        counter(out, name, help, value)?;
    }
    asks(out, &redis)?;
    for (name, help, value) in [
        ("throng_redis_rooms", "Rooms that are open and kept in Redis", redis.rooms),
        ("throng_redis_pending", "Questions to Redis that are not answered yet", redis.asks),
        ("throng_redis_queued", "Messages that wait to be stored", redis.queued),
        ("throng_redis_queued_bytes", "Bytes that wait to be stored", redis.queued_bytes),
    ] {
        gauge(out, name, help, value as u64)?;
    }
    Ok(())
}

/// What was asked of Redis, how it ended, and how long it took.
fn asks(out: &mut DescriptorEncoder<'_>, redis: &RedisStatus) -> fmt::Result {
    let (name, help) = ("throng_redis_asks", "Questions about rooms, by how they ended");
    let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (kind, outcome, count) in &redis.asks_by {
        let labels = [("kind", *kind), ("outcome", *outcome)];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    let waited = ConstCounter::new(redis.latency_sum.as_secs_f64());
    let (name, help) = ("throng_redis_latency", "How long the answers took, all together");
    let unit = Some(&Unit::Seconds);
    waited.encode(out.encode_descriptor(name, help, unit, MetricType::Counter)?)?;
    counter(out, "throng_redis_answers", "Answers that came", redis.latency_count)
}

/// Each server by its address.
fn servers(out: &mut DescriptorEncoder<'_>, redis: &RedisStatus) -> fmt::Result {
    type Ask = fn(&throng::RedisServer) -> bool;
    let asks: [(&str, &str, Ask); 2] = [
        ("throng_redis_up", "1 while commands reach this server, else 0", |s| s.connected),
        ("throng_redis_heard", "1 while its channels are heard, else 0", |s| s.subscribed),
    ];
    for (name, help, ask) in asks {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for server in &redis.servers {
            let labels = [("server", server.address.as_str())];
            ConstGauge::new(i64::from(ask(server))).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn away(redis: &RedisStatus) -> impl Iterator<Item = &str> {
    redis.servers.iter().filter(|server| !server.connected).map(|server| server.address.as_str())
}
