//! Everybody loses the connection, misses messages, and comes back at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use throng_chaos::dice::Dice;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::guest::{Guest, gather, source};
use super::lean::{Lean, Opened, field};
use super::server::{self, Server};

/// How big the storm is.
#[derive(Args)]
pub(crate) struct Options {
    /// Clients
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// Rooms; the clients are spread over them
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Messages of each room that are missed
    #[arg(long, default_value_t = 10)]
    missed: u64,
    /// Kill the server instead of the connections, and publish after it is back
    #[arg(long)]
    kill: bool,
}

#[derive(Default)]
struct Counts {
    refused: AtomicU64,
    broken: AtomicU64,
    not_resumed: AtomicU64,
    not_recovered: AtomicU64,
    wrong: AtomicU64,
    back: AtomicU64,
}

/// Measures and prints.
pub(crate) async fn run(server: &server::Options, options: &Options) -> io::Result<()> {
    let mut server = Server::start(server).await?;
    let (address, rooms) = (server.address(), options.rooms.max(1));
    let began = Instant::now();
    let guests = gather(address, 0..options.clients, rooms, "storm").await?;
    println!(
        "{} clients joined {rooms} rooms in {:.1} s",
        guests.len(),
        began.elapsed().as_secs_f64()
    );
    let mut lines = Vec::new();
    let mut asleep = Vec::new();
    for (guest, lean) in guests {
        asleep.push(guest);
        lines.push(lean);
    }
    if options.kill {
        server.kill_and_start().await?;
    }
    lines.into_iter().for_each(Lean::reset);
    publish(address, rooms, options.missed).await?;

    let counts = Arc::new(Counts::default());
    let barrier = Arc::new(Barrier::new(asleep.len() + 1));
    let mut tasks = JoinSet::new();
    for guest in asleep {
        let (counts, barrier) = (Arc::clone(&counts), Arc::clone(&barrier));
        let missed = options.missed;
        tasks.spawn(async move {
            barrier.wait().await;
            let began = Instant::now();
            let lean = come_back(address, guest, missed, &counts).await;
            (began.elapsed(), lean)
        });
    }
    let before = server.used()?;
    let began = Instant::now();
    barrier.wait().await;
    let mut times = Histogram::<u64>::new_with_max(600_000, 3).map_err(io::Error::other)?;
    let mut open = Vec::new();
    let mut lost = 0;
    while let Ok(Some(done)) = timeout(Duration::from_secs(120), tasks.join_next()).await {
        match done {
            Ok((time, Some(lean))) => {
                times.saturating_record(time.as_millis() as u64);
                open.push(lean);
            }
            _ => lost += 1,
        }
    }
    lost += tasks.len();
    let all = began.elapsed();
    let after = server.used()?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "all back after {:.2} s (p50 {:.2} s, p99 {:.2} s); {}",
        all.as_secs_f64(),
        times.value_at_quantile(0.5) as f64 / 1000.0,
        times.value_at_quantile(0.99) as f64 / 1000.0,
        after.since(&before, options.clients as u64, "client"),
    );
    println!(
        "  {} have everything they missed, {lost} have not; refused handshakes {}, broken \
         connections {}, not resumed {}, not recovered {}, wrong messages {}",
        count(&counts.back),
        count(&counts.refused),
        count(&counts.broken),
        count(&counts.not_resumed),
        count(&counts.not_recovered),
        count(&counts.wrong),
    );
    println!("  server memory {:.1} MiB", server.memory("Pss")? as f64 / 1048576.0);
    open.into_iter().for_each(Lean::reset);
    let faults = [&counts.not_resumed, &counts.not_recovered, &counts.wrong];
    if lost > 0 || faults.iter().any(|counter| count(counter) > 0) {
        return Err(io::Error::other("somebody lost something"));
    }
    Ok(())
}

/// What everybody misses.
async fn publish(address: SocketAddr, rooms: usize, messages: u64) -> io::Result<()> {
    let mut lean = Lean::connect(address, Ipv4Addr::LOCALHOST, None).await?.or_refused()?;
    lean.wait_for("connected").await?;
    let mut reference = 0;
    for room in 0..rooms {
        let room = format!("storm-{room}");
        reference += 1;
        lean.send(&format!(r#"{{"type":"join","room":"{room}","echo":false,"ref":{reference}}}"#))
            .await?;
        for message in 0..messages {
            reference += 1;
            let text = "y".repeat(100);
            lean.send(&format!(
                r#"{{"type":"note","room":"{room}","n":{message},"text":"{text}","ref":{reference}}}"#
            ))
            .await?;
            lean.wait_for("ack").await?;
        }
        // A publisher may be in 128 rooms at most.
        reference += 1;
        lean.send(&format!(r#"{{"type":"leave","room":"{room}","ref":{reference}}}"#)).await?;
        lean.wait_for("left").await?;
    }
    Ok(())
}

/// Tries until everything that was missed is there. Returns the connection.
async fn come_back(
    address: SocketAddr,
    mut guest: Guest,
    missed: u64,
    counts: &Counts,
) -> Option<Lean> {
    let mut dice = Dice::new(9, guest.index as u64);
    let wanted = guest.seq + missed;
    for attempt in 0..30_u32 {
        if attempt > 0 {
            // Full jitter, as the protocol asks for.
            let most = Duration::from_millis(500 << attempt.min(6));
            sleep(dice.between(Duration::ZERO, most)).await;
        }
        match once(address, &mut guest, wanted, counts).await {
            Ok(Some(lean)) => {
                counts.back.fetch_add(1, Ordering::Relaxed);
                return Some(lean);
            }
            Ok(None) => counts.refused.fetch_add(1, Ordering::Relaxed),
            Err(_) => counts.broken.fetch_add(1, Ordering::Relaxed),
        };
    }
    None
}

async fn once(
    address: SocketAddr,
    guest: &mut Guest,
    wanted: u64,
    counts: &Counts,
) -> io::Result<Option<Lean>> {
    let opened = Lean::connect(address, source(guest.index), Some(&guest.token)).await?;
    let Opened::Yes(mut lean) = opened else { return Ok(None) };
    let connected = lean.wait_for("connected").await?;
    if field(&connected, "resumed") != Some("true")
        || field(&connected, "userId") != Some(guest.user.as_str())
    {
        counts.not_resumed.fetch_add(1, Ordering::Relaxed);
    }
    lean.send(&format!(
        r#"{{"type":"resume","rooms":{{"{}":{{"epoch":"{}","seq":{}}},"@{}":{{}}}},"ref":9}}"#,
        guest.room, guest.epoch, guest.seq, guest.user
    ))
    .await?;
    let resumed = lean.wait_for("resumed").await?;
    if resumed.contains(r#""recovered":false"#) || resumed.contains(r#""error""#) {
        counts.not_recovered.fetch_add(1, Ordering::Relaxed);
    }
    while guest.seq < wanted {
        let note = lean.wait_for("note").await?;
        let seq = field(&note, "seq").and_then(|seq| seq.parse::<u64>().ok());
        if seq != Some(guest.seq + 1) || field(&note, "room") != Some(guest.room.as_str()) {
            counts.wrong.fetch_add(1, Ordering::Relaxed);
        }
        guest.seq += 1;
    }
    Ok(Some(lean))
}
