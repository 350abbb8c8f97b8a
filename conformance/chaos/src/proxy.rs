//! A TCP proxy that breaks connections: at any byte, in either direction, in several ways.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::dice::Dice;

/// Stands between the clients and the server. Ends with the runtime.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Both sides see the end of the stream.
    End,
    /// Both sides see a reset; what was on its way is lost.
    Reset,
    /// The client sees a reset. The server sees nothing yet: what the client had written arrives
    /// late, when the client is long back.
    Late,
    /// Nothing passes for a while; then everything goes on.
    Freeze,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    harmful: AtomicBool,
    cuts: AtomicU64,
    next: AtomicU64,
    lines: Mutex<HashMap<u64, Arc<Fate>>>,
    dice: Mutex<Dice>,
}

/// What is going to happen to a connection.
#[derive(Debug)]
struct Fate {
    /// Bytes that still pass, from the client and to it.
    left: [AtomicU64; 2],
    style: Mutex<Style>,
    /// The fate has been changed.
    changed: Notify,
}

impl Proxy {
    /// Listens on a free port. Nothing is cut yet.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(server: SocketAddr, dice: Dice) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            harmful: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            next: AtomicU64::new(0),
            lines: Mutex::default(),
            dice: Mutex::new(dice),
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// From now on a part of all handshakes is cut; or nothing is any more.
    pub fn set_harmful(&self, harmful: bool) {
        self.shared.harmful.store(harmful, Ordering::Relaxed);
        if !harmful {
            for fate in self.shared.lines().values() {
                fate.left.iter().for_each(|left| left.store(u64::MAX, Ordering::Relaxed));
            }
        }
    }

    /// Cuts one connection soon: after some more bytes, or in half a second when there are none.
    pub fn cut_one(&self) {
        let lines = self.shared.lines();
        let mut ids: Vec<u64> = lines.keys().copied().collect();
        ids.sort_unstable();
        let mut dice = self.shared.dice();
        let Some(fate) = dice.pick(&ids).and_then(|id| lines.get(id)) else { return };
        let direction = usize::from(dice.percent(60));
        *fate.style.lock().unwrap_or_else(PoisonError::into_inner) = Style::any(&mut dice);
        fate.left[direction].store(1 + dice.below(600), Ordering::Relaxed);
        fate.changed.notify_one();
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, HashMap<u64, Arc<Fate>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self) -> Fate {
        let mut dice = self.dice();
        let left = [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)];
        if self.harmful.load(Ordering::Relaxed) && dice.percent(HANDSHAKES_CUT) {
            // A request has some 250 bytes, a response some 200, `connected` some 400.
            left[usize::from(dice.percent(50))].store(dice.below(800), Ordering::Relaxed);
        }
        let style = Style::any(&mut dice);
        Fate { left, style: Mutex::new(style), changed: Notify::new() }
    }
}

impl Style {
    fn any(dice: &mut Dice) -> Self {
        match dice.below(100) {
            0..30 => Self::End,
            30..60 => Self::Reset,
            60..85 => Self::Late,
            _ => Self::Freeze,
        }
    }
}

impl Fate {
    fn style(&self) -> Style {
        *self.style.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes half a second after the connection was chosen, in case nothing moves on it.
    async fn overdue(&self) {
        self.changed.notified().await;
        sleep(Duration::from_millis(500)).await;
        if self.left.iter().all(|left| left.load(Ordering::Relaxed) == u64::MAX) {
            std::future::pending::<()>().await; // it was pardoned meanwhile
        }
    }

    fn pardon(&self) {
        self.left.iter().for_each(|left| left.store(u64::MAX, Ordering::Relaxed));
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await; // out of files
            continue;
        };
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let fate = Arc::new(shared.fate());
            shared.lines().insert(id, Arc::clone(&fate));
            pass(client, &shared, &fate).await;
            shared.lines().remove(&id);
        });
    }
}

async fn pass(mut client: TcpStream, shared: &Shared, fate: &Fate) {
    let Ok(mut server) = TcpStream::connect(shared.server).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut pumps = [Pump::new(), Pump::new()];
    loop {
        let why = one_life(&mut client, &mut server, &mut pumps, fate).await;
        let style = match why {
            // One side has ended the stream, or is dead: let the other one know.
            Why::Over => return,
            Why::Cut => fate.style(),
        };
        if style != Style::Freeze {
            shared.cuts.fetch_add(1, Ordering::Relaxed);
        }
        let wait = |most| shared.dice().between(Duration::ZERO, Duration::from_millis(most));
        match style {
            Style::End => {
                let _ = tokio::join!(client.shutdown(), server.shutdown());
                return;
            }
            Style::Reset => {
                let _ = (client.set_zero_linger(), server.set_zero_linger());
                return;
            }
            Style::Late => {
                let mut late = pumps[0].pending().to_vec();
                let mut more = vec![0; 64 << 10];
                let length = client.try_read(&mut more).unwrap_or(0);
                late.extend_from_slice(&more[..length]);
                let _ = client.set_zero_linger();
                drop(client);
                let (before, after) = (wait(600), wait(300));
                sleep(before).await;
                let _ = server.write_all(&late).await;
                sleep(after).await;
                return;
            }
            Style::Freeze => {
                let duration = wait(1200);
                fate.pardon();
                sleep(duration).await;
            }
        }
    }
}

enum Why {
    Over,
    Cut,
}

/// Passes bytes in both directions until one side ends or the fate is fulfilled.
async fn one_life(
    client: &mut TcpStream,
    server: &mut TcpStream,
    pumps: &mut [Pump; 2],
    fate: &Fate,
) -> Why {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let [up, down] = pumps;
    tokio::select! {
        why = up.run(&mut from_client, &mut to_server, &fate.left[0]) => why,
        why = down.run(&mut from_server, &mut to_client, &fate.left[1]) => why,
        () = fate.overdue() => Why::Cut,
    }
}

/// One direction: bytes that were read and are still to be written. They survive an interruption,
/// as a stream that goes on must not have a hole.
struct Pump {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Pump {
    fn new() -> Self {
        Self { buffer: vec![0; 16 << 10], start: 0, end: 0 }
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    async fn run(
        &mut self,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        left: &AtomicU64,
    ) -> Why {
        loop {
            if self.start == self.end {
                let length = match from.read(&mut self.buffer).await {
                    Ok(0) => {
                        let _ = to.shutdown().await;
                        return Why::Over;
                    }
                    Err(_) => return Why::Over,
                    Ok(length) => length,
                };
                (self.start, self.end) = (0, length);
            }
            let allowed = left.load(Ordering::Relaxed);
            let reach = usize::try_from(allowed).unwrap_or(usize::MAX).min(self.end - self.start);
            if reach == 0 {
                return Why::Cut;
            }
            let Ok(length) = to.write(&self.buffer[self.start..self.start + reach]).await else {
                return Why::Over;
            };
            self.start += length;
            if allowed != u64::MAX {
                let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    (left != u64::MAX).then(|| left.saturating_sub(length as u64))
                });
            }
        }
    }
}

/// How many of a hundred handshakes are cut while the proxy is harmful.
const HANDSHAKES_CUT: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn bytes_pass() {
        let proxy = Proxy::start(echo().await, Dice::new(1, 0)).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let sent: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let (mut from, mut to) = stream.split();
        let mut back = vec![0; sent.len()];
        let (wrote, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut back));
        wrote.unwrap();
        read.unwrap();
        assert_eq!(back, sent);
        assert_eq!(proxy.cuts(), 0);
    }

    #[tokio::test]
    async fn a_chosen_connection_is_cut_in_the_middle() {
        let mut partial = 0;
        for seed in 0..20 {
            let proxy = Proxy::start(echo().await, Dice::new(seed, 0)).await.unwrap();
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            proxy.cut_one();
            let _ = stream.write_all(&[7; 1000]).await;
            let mut back = vec![0; 1000];
            let mut length = 0;
            while let Ok(more @ 1..) = stream.read(&mut back[length..]).await {
                length += more;
                if length == 1000 {
                    break; // frozen for a while, and not cut
                }
            }
            if length < 1000 {
                assert_eq!(proxy.cuts(), 1, "seed {seed}");
            }
            partial += usize::from(length < 1000);
        }
        assert!(partial > 10, "{partial}");
    }

    /// What still passes is what was sent: a prefix of it, or all of it after a freeze.
    #[tokio::test]
    async fn nothing_is_changed_or_repeated() {
        let mut whole = 0;
        for seed in 0..30 {
            let proxy = Proxy::start(echo().await, Dice::new(seed, 0)).await.unwrap();
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            let mut sent = 0_u32;
            let mut next = 0_u32;
            for round in 0..40 {
                if round == 5 {
                    proxy.cut_one();
                }
                let block: Vec<u8> = (sent..sent + 50).flat_map(u32::to_be_bytes).collect();
                sent += 50;
                if stream.write_all(&block).await.is_err() {
                    break;
                }
                let mut back = vec![0; block.len()];
                if stream.read_exact(&mut back).await.is_err() {
                    break;
                }
                for number in back.chunks_exact(4) {
                    assert_eq!(number, next.to_be_bytes(), "seed {seed}");
                    next += 1;
                }
            }
            whole += usize::from(next == 2000);
        }
        assert!(whole > 0, "some are frozen only");
    }

    #[tokio::test]
    async fn without_a_server_connections_end() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let proxy = Proxy::start(nobody, Dice::new(1, 0)).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
    }
}
