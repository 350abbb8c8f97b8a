//! What an idle session costs the server.

use std::io;
use std::ops::Range;
use std::time::Duration;

use clap::Args;
use tokio::time::{sleep, timeout};

use super::guest::gather;
use super::lean::Lean;
use super::server::{self, Server};

/// How many sessions.
#[derive(Args)]
pub(crate) struct Options {
    /// Sessions
    #[arg(long, default_value_t = 5_000)]
    sessions: usize,
    /// Rooms; the sessions are spread over them, one room each
    #[arg(long, default_value_t = 50)]
    rooms: usize,
}

/// Measures and prints.
pub(crate) async fn run(server: &server::Options, options: &Options) -> io::Result<()> {
    let server = Server::start(server).await?;
    // Rooms, threads and caches are there before the first measurement.
    let warm = join(&server, 0..options.rooms, options.rooms).await?;
    sleep(SETTLE).await;
    let before = (server.memory("Pss")?, server.memory("Rss")?);
    let sessions =
        join(&server, options.rooms..options.rooms + options.sessions, options.rooms).await?;
    sleep(SETTLE).await;
    let after = (server.memory("Pss")?, server.memory("Rss")?);
    let each =
        |before: u64, after: u64| (after as f64 - before as f64) / options.sessions.max(1) as f64;
    println!(
        "{} idle sessions in {} rooms with presence: {:.0} bytes each (Pss {:.1} to {:.1} MiB, Rss {:.0} each)",
        options.sessions,
        options.rooms,
        each(before.0, after.0),
        before.0 as f64 / MIB,
        after.0 as f64 / MIB,
        each(before.1, after.1),
    );
    sessions.into_iter().chain(warm).for_each(Lean::reset);
    sleep(Duration::from_secs(15)).await; // the grace of rooms, and what the allocator gives back
    println!("  after all have gone: Pss {:.1} MiB", server.memory("Pss")? as f64 / MIB);
    Ok(())
}

/// Joins, and reads what others' arrivals say, so that it does not wait in the server.
async fn join(server: &Server, indices: Range<usize>, rooms: usize) -> io::Result<Vec<Lean>> {
    let guests = gather(server.address(), indices, rooms.max(1), "idle").await?;
    let readers = guests.into_iter().map(|(_, mut lean)| {
        tokio::spawn(async move {
            let reading = async { while lean.next().await.is_ok() {} };
            let _ = timeout(SETTLE, reading).await;
            lean
        })
    });
    let mut leans = Vec::new();
    for reader in readers.collect::<Vec<_>>() {
        leans.push(reader.await.map_err(io::Error::other)?);
    }
    Ok(leans)
}

const SETTLE: Duration = Duration::from_secs(12);
const MIB: f64 = 1048576.0;
