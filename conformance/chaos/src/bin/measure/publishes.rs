//! Publishes that are acknowledged: how many a second, and how fast.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::lean::{Lean, field};
use super::server::{self, Server};

/// How they are published.
#[derive(Args)]
pub(crate) struct Options {
    /// Clients
    #[arg(long, default_value_t = 100)]
    clients: u32,
    /// Rooms; the clients are spread over them
    #[arg(long, default_value_t = 1)]
    rooms: u32,
    /// Publishes of one client that wait for their acknowledgement
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// Offer so many messages a second, and measure how long each takes
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// How long, after two seconds to warm up
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[derive(Default)]
struct Counts {
    measuring: AtomicBool,
    stop: AtomicBool,
    acked: AtomicU64,
    received: AtomicU64,
}

/// Measures and prints.
pub(crate) async fn run(server: &server::Options, options: &Options) -> io::Result<()> {
    let server = Server::start(server).await?;
    let counts = Arc::new(Counts::default());
    let times = Arc::new(Mutex::new(histogram()?));
    let mut tasks = JoinSet::new();
    for index in 0..options.clients {
        let opened = Lean::connect(server.address(), Ipv4Addr::LOCALHOST, None).await?;
        let mut lean = opened.or_refused()?;
        lean.wait_for("connected").await?;
        let room = format!("measured-{}", index % options.rooms.max(1));
        lean.send(&format!(r#"{{"type":"join","room":"{room}","ref":1}}"#)).await?;
        loop {
            let joined = lean.wait_for("joined").await?;
            if field(&joined, "room") == Some(room.as_str()) {
                break;
            }
        }
        let publisher = Publisher {
            room,
            text: "x".repeat(options.size),
            window: options.window,
            pause: options
                .rate
                .map(|rate| Duration::from_secs_f64(f64::from(options.clients) / rate)),
            phase: f64::from(index) / f64::from(options.clients),
            counts: Arc::clone(&counts),
            times: Arc::clone(&times),
        };
        tasks.spawn(publisher.run(lean));
    }
    sleep(Duration::from_secs(2)).await;
    let before = server.used()?;
    counts.measuring.store(true, Ordering::Relaxed);
    let began = Instant::now();
    tokio::select! {
        () = sleep(Duration::from_secs(options.seconds)) => {}
        Some(ended) = tasks.join_next() => {
            return Err(io::Error::other(format!("a client ended early: {ended:?}")));
        }
    }
    counts.measuring.store(false, Ordering::Relaxed);
    let seconds = began.elapsed().as_secs_f64();
    let after = server.used()?;
    let (acked, received) =
        (counts.acked.load(Ordering::Relaxed), counts.received.load(Ordering::Relaxed));
    println!(
        "{} clients, {} rooms: {:.0} acknowledged/s, {:.0} deliveries/s; {}; data {:.1} MiB",
        options.clients,
        options.rooms,
        acked as f64 / seconds,
        received as f64 / seconds,
        after.since(&before, acked, "publish"),
        server.data_bytes() as f64 / 1048576.0,
    );
    counts.stop.store(true, Ordering::Relaxed);
    tasks.shutdown().await;
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "  acknowledged after: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, most {:.2} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        times.max() as f64 / 1000.0
    );
    Ok(())
}

struct Publisher {
    room: String,
    text: String,
    window: usize,
    pause: Option<Duration>,
    phase: f64,
    counts: Arc<Counts>,
    times: Arc<Mutex<Histogram<u64>>>,
}

impl Publisher {
    async fn run(self, mut lean: Lean) -> io::Result<()> {
        let mut waiting: HashMap<u64, Instant> = HashMap::new();
        let mut reference = 1;
        let mut next = Instant::now() + self.pause.unwrap_or_default().mul_f64(self.phase);
        while !self.counts.stop.load(Ordering::Relaxed) {
            // When a rate is offered, the time counts from when the message was due.
            while self.pause.is_some_and(|_| Instant::now() >= next)
                || (self.pause.is_none() && waiting.len() < self.window)
            {
                reference += 1;
                let message = format!(
                    r#"{{"type":"note","room":"{}","text":"{}","ref":{reference}}}"#,
                    self.room, self.text
                );
                let due = if self.pause.is_some() { next } else { Instant::now() };
                waiting.insert(reference, due);
                next += self.pause.unwrap_or_default();
                lean.send(&message).await?;
            }
            let text = tokio::select! {
                text = lean.next() => text?,
                () = sleep_until(next), if self.pause.is_some() => continue,
            };
            let measuring = self.counts.measuring.load(Ordering::Relaxed);
            match field(text, "type") {
                Some("ack") => {
                    let acked = field(text, "ref").and_then(|number| number.parse().ok());
                    let due = acked.and_then(|reference: u64| waiting.remove(&reference));
                    if let (true, Some(due)) = (measuring, due) {
                        self.counts.acked.fetch_add(1, Ordering::Relaxed);
                        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                        times.saturating_record(due.elapsed().as_micros() as u64);
                    }
                }
                Some("note") if measuring => {
                    self.counts.received.fetch_add(1, Ordering::Relaxed);
                }
                Some("error") => return Err(io::Error::other(text.to_owned())),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Microseconds up to a minute.
fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_max(60_000_000, 3).map_err(io::Error::other)
}
