//! What operators ask: `/healthz`, `/readyz` and `/metrics`.

mod cluster;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::http::Http;
use crate::pages::plain;

/// Adds the three paths to a router.
pub(crate) fn add_to(router: Router, http: Arc<Http>) -> Router {
    let readiness = http.server.clone();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Numbers { http, started: SystemTime::now() }));
    let registry = Arc::new(registry);
    router
        .route("/healthz", get(async || plain(StatusCode::OK, "ok\n")))
        .route("/readyz", get(async move || ready(&readiness)))
        .route("/metrics", get(async move || metrics(&registry)))
}

fn ready(server: &throng::Server) -> Response {
    match cluster::reason(server) {
        None => plain(StatusCode::OK, "ready\n"),
        Some(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Reads all counters when somebody asks; nothing is counted twice for the metrics' sake.
struct Numbers {
    http: Arc<Http>,
    started: SystemTime,
}

impl Collector for Numbers {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.http.server.stats();
        let counts = self.http.server.counts();
        let front = &self.http.front.counts;
        let out = &mut out;

        gauge(out, "throng_connections", "WebSockets open now", stats.connections)?;
        for (name, help, value) in [
            ("throng_connections_opened", "WebSockets opened", stats.opened),
            ("throng_connections_closed", "WebSockets closed, however", stats.closed),
            (
                "throng_protocol_errors",
                "Connections failed for breaking the protocol",
                stats.protocol_errors,
            ),
            (
                "throng_slow_disconnects",
                "Connections closed for reading too slowly",
                stats.slow_disconnects,
            ),
            ("throng_dropped_frames", "Frames dropped for slow readers", stats.dropped),
            (
                "throng_heartbeat_timeouts",
                "Connections terminated because they were silent",
                stats.heartbeat_timeouts,
            ),
            (
                "throng_paused",
                "Times a connection was not read because it did not take its answers",
                stats.paused,
            ),
            ("throng_handler_panics", "Panics of handlers", stats.handler_panics),
            ("throng_flushes", "Batches written to the members of a room", stats.flushes),
        ] {
            counter(out, name, help, value)?;
        }
        let awake = ConstCounter::new(stats.awake as f64 / 1e9);
        let help = "Time that workers were not asleep, that of all of them together";
        let unit = Some(&Unit::Seconds);
        let name = "throng_workers_awake";
        awake.encode(out.encode_descriptor(name, help, unit, MetricType::Counter)?)?;
        counters(
            out,
            "throng_messages",
            "Messages received, and handed to sockets",
            "direction",
            &[("in", stats.messages_in), ("out", stats.messages_out)],
        )?;
        counters(
            out,
            "throng_websocket_bytes",
            "Bytes read from sockets, and written or queued",
            "direction",
            &[("in", stats.bytes_in), ("out", stats.bytes_out)],
        )?;
        counters(
            out,
            "throng_refused_upgrades",
            "WebSocket handshakes refused",
            "reason",
            &[
                ("path", stats.refused_path),
                ("handshake", stats.refused_handshake),
                ("origin", stats.refused_origin),
                ("draining", stats.refused_draining),
                ("full", stats.refused_total),
                ("per_ip", stats.refused_per_ip),
                ("per_user", stats.refused_per_user),
                ("handshakes", stats.refused_handshakes),
                ("memory", stats.refused_memory),
                ("ticket", stats.refused_ticket),
                ("address", stats.refused_address),
                ("token", stats.refused_token),
                ("revoked", stats.refused_revoked),
                ("anonymous", stats.refused_anonymous),
                ("forbidden", stats.refused_forbidden),
                ("unavailable", stats.refused_unavailable),
            ],
        )?;
        self.limits(out, &stats)?;
        self.access(out, &stats)?;

        let open = front.open.load(Ordering::Relaxed) as u64;
        let streams = front.streams.load(Ordering::Relaxed) as u64;
        for (name, help, value) in [
            ("throng_rooms", "Rooms in use", counts.rooms as u64),
            ("throng_users", "Users connected", counts.users as u64),
            ("throng_sse_streams", "Streams of events open now", streams),
            (
                "throng_http_connections",
                "TCP connections open now that are neither WebSockets nor streams of events",
                open,
            ),
        ] {
            gauge(out, name, help, value)?;
        }
        let answers: Vec<(&str, u64)> = self.http.tally.read().collect();
        let help = "Requests to the API, by the status of their answers";
        counters(out, "throng_api_requests", help, "status", &answers)?;
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        counter(out, "throng_accepted", "TCP connections accepted", read(&front.accepted))?;
        counter(
            out,
            "throng_http_timeouts",
            "Connections cut for slow requests, slow reading or idleness",
            read(&front.timed_out),
        )?;
        counter(
            out,
            "throng_accept_failures",
            "Times that accepting failed, for want of file descriptors most likely",
            read(&front.accept_failed),
        )?;
        counters(
            out,
            "throng_refused_connections",
            "TCP connections refused",
            "reason",
            &[
                ("full", read(&front.refused_full)),
                ("per_ip", read(&front.refused_per_ip)),
                ("rate", read(&front.refused_rate)),
                ("tls_handshakes", read(&front.refused_handshakes)),
                ("proxy", read(&front.refused_proxy)),
                ("tls", read(&front.refused_tls)),
            ],
        )?;

        cluster::encode(out, &self.http.server)?;
        if let Some(disk) = self.http.server.storage() {
            storage(out, &disk)?;
        }

        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        process(out, "process_start_time", "When the process started", Unit::Seconds, started)?;
        if let Some((cpu, resident)) = usage() {
            process(out, "process_resident_memory", "Memory in use", Unit::Bytes, resident)?;
            let value = ConstCounter::new(cpu);
            let help = "CPU time used, in user and system mode";
            let unit = Some(&Unit::Seconds);
            value.encode(out.encode_descriptor(
                "process_cpu",
                help,
                unit,
                MetricType::Counter,
            )?)?;
        }
        Ok(())
    }
}

impl Numbers {
    /// What was refused or ended because it was too much.
    fn limits(&self, out: &mut DescriptorEncoder<'_>, stats: &throng::Stats) -> fmt::Result {
        counters(
            out,
            "throng_refused_messages",
            "Messages refused because there were too many, or no memory was left",
            "reason",
            &[
                ("rate", stats.rate_limited),
                ("room_rate", stats.room_rate_limited),
                ("overloaded", stats.overloaded),
            ],
        )?;
        counters(
            out,
            "throng_limit_disconnects",
            "Connections closed because they went beyond a limit",
            "reason",
            &[
                ("rate", stats.rate_closed),
                ("partial_timeout", stats.partial_timeouts),
                ("budget", stats.budget_exceeded),
                ("memory", stats.memory_closed),
            ],
        )?;
        counters(
            out,
            "throng_refused_new_rooms",
            "Rooms refused because one address or user had brought too many into being",
            "reason",
            &[("per_ip", stats.refused_rooms_per_ip), ("per_user", stats.refused_rooms_per_user)],
        )?;
        for (name, help, value) in [
            (
                "throng_throttled",
                "Times a connection was not read because it sent too fast",
                stats.throttled,
            ),
            (
                "throng_ignored_control_frames",
                "Pings and pongs that were not answered",
                stats.control_ignored,
            ),
            (
                "throng_replaced_messages",
                "Messages that a newer one took the place of",
                stats.replaced,
            ),
            (
                "throng_refused_rooms",
                "Rooms refused: too many, or little memory was left",
                stats.refused_rooms,
            ),
        ] {
            counter(out, name, help, value)?;
        }
        let bytes = |name: &str, help: &str, value: u64, out: &mut DescriptorEncoder<'_>| {
            process(out, name, help, Unit::Bytes, value as f64)
        };
        bytes("throng_memory_kept", "Kept for connections and rooms", stats.memory, out)?;
        bytes("throng_memory_budget", "What may be kept in all", stats.memory_budget, out)
    }

    /// Who came in, and who was sent away.
    fn access(&self, out: &mut DescriptorEncoder<'_>, stats: &throng::Stats) -> fmt::Result {
        counters(
            out,
            "throng_sessions_ended",
            "Sessions of people who were signed in, ended by the server",
            "reason",
            &[("expired", stats.sessions_expired), ("revoked", stats.sessions_revoked)],
        )?;
        counter(
            out,
            "throng_refused_resumes",
            "Resume tokens that were of no use; a new session was begun",
            stats.refused_resume,
        )?;
        if let Some(login) = &self.http.login {
            counters(out, "throng_logins", "Attempts to log in", "result", &login.counts())?;
        }
        let vault = self.http.server.vault().stats();
        for (name, help, value) in [
            ("throng_vault_tickets", "Tickets that can be used", vault.tickets),
            ("throng_vault_sessions", "Sessions that are signed in", vault.sessions),
            ("throng_vault_users", "Users with a password", vault.users),
            (
                "throng_vault_queued",
                "Questions to the vault that are not answered yet",
                vault.queued as u64,
            ),
            (
                "throng_vault_trouble",
                "1 while tickets and sessions cannot be written, else 0",
                u64::from(vault.trouble.is_some()),
            ),
        ] {
            gauge(out, name, help, value)?;
        }
        counter(out, "throng_vault_commits", "Transactions of the vault", vault.commits)
    }
}

/// The numbers of the data directory.
fn storage(out: &mut DescriptorEncoder<'_>, disk: &throng::StorageStats) -> fmt::Result {
    for (name, help, value) in [
        ("throng_storage_commits", "Transactions with messages", disk.commits),
        ("throng_storage_loaded_rooms", "Rooms opened from the disk", disk.loaded),
        (
            "throng_storage_trimmed",
            "Messages removed because they were too many or too old",
            disk.trimmed,
        ),
    ] {
        counter(out, name, help, value)?;
    }
    let help = "Messages stored, and those that were not";
    let results = [("stored", disk.appended), ("failed", disk.failed), ("refused", disk.refused)];
    counters(out, "throng_storage_messages", help, "result", &results)?;
    for (name, help, value) in [
        ("throng_storage_rooms", "Rooms on the disk", disk.rooms as u64),
        ("throng_storage_queued", "Messages that wait to be stored", disk.queued as u64),
        ("throng_storage_queued_bytes", "Bytes that wait to be stored", disk.queued_bytes as u64),
        (
            "throng_storage_trouble",
            "1 while the disk cannot be written, else 0",
            u64::from(disk.trouble.is_some()),
        ),
    ] {
        gauge(out, name, help, value)?;
    }
    let seconds = disk.last_commit.as_secs_f64();
    let help = "How long the last transaction took";
    process(out, "throng_storage_last_commit", help, Unit::Seconds, seconds)
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    value.encode(out.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let value = ConstCounter::new(value);
    value.encode(out.encode_descriptor(name, help, None, MetricType::Counter)?)
}

/// One counter for each value of a label.
fn counters(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(&str, u64)],
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (of, value) in values {
        ConstCounter::new(*value).encode(family.encode_family(&[(label, *of)])?)?;
    }
    Ok(())
}

fn process(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Unit,
    value: f64,
) -> fmt::Result {
    let value = ConstGauge::new(value);
    value.encode(out.encode_descriptor(name, help, Some(&unit), MetricType::Gauge)?)
}

/// CPU seconds and resident bytes of this process, where the system tells (Linux).
fn usage() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold blanks; proc(5) counts the fields behind it from 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<f64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    Some(((field(14)? + field(15)?) / ticks, field(24)? * page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_knows_what_it_uses() {
        let (cpu, resident) = usage().unwrap();
        assert!((0.0..86_400.0).contains(&cpu), "{cpu}");
        assert!((1e5..1e11).contains(&resident), "{resident}");
    }
}
