//! Full clients that have joined a room, and know how to come back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::lean::{Lean, field};

/// A client that can come back.
pub(crate) struct Guest {
    pub(crate) index: usize,
    pub(crate) room: String,
    pub(crate) token: String,
    pub(crate) user: String,
    pub(crate) epoch: String,
    pub(crate) seq: u64,
}

/// Connects everybody, some at a time, each with one room that has presence.
pub(crate) async fn gather(
    address: SocketAddr,
    indices: Range<usize>,
    rooms: usize,
    name: &'static str,
) -> io::Result<Vec<(Guest, Lean)>> {
    let turns = Arc::new(Semaphore::new(64));
    let mut tasks = JoinSet::new();
    let mut guests = Vec::with_capacity(indices.len());
    for index in indices {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire().await.map_err(io::Error::other)?;
            arrive(address, index, format!("{name}-{}", index % rooms)).await
        });
    }
    while let Some(arrived) = tasks.join_next().await {
        guests.push(arrived.map_err(io::Error::other)??);
    }
    Ok(guests)
}

/// Connects and joins a room.
async fn arrive(address: SocketAddr, index: usize, room: String) -> io::Result<(Guest, Lean)> {
    let opened = Lean::connect(address, source(index), None).await?;
    let mut lean = opened.or_refused()?;
    let connected = lean.wait_for("connected").await?;
    let take = |text: &str, key: &str| field(text, key).unwrap_or_default().to_owned();
    let (token, user) = (take(&connected, "resume"), take(&connected, "userId"));
    lean.send(&format!(r#"{{"type":"join","room":"{room}","presence":true,"ref":1}}"#)).await?;
    let joined = loop {
        let joined = lean.wait_for("joined").await?;
        if field(&joined, "room") == Some(room.as_str()) {
            break joined;
        }
    };
    let (epoch, seq) = (take(&joined, "epoch"), take(&joined, "seq").parse().unwrap_or(0));
    Ok((Guest { index, room, token, user, epoch, seq }, lean))
}

/// Several addresses of this machine, as one has ports for some 28,000 connections only.
pub(crate) fn source(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + (index % 8) as u8)
}
