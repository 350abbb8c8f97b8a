//! A TCP proxy between a node and what it depends on: cut, silent, or slow.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::dice::Dice;

/// How the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes at once.
    Fair,
    /// All connections are reset, and new ones as well.
    Cut,
    /// Nothing passes, nothing is reset, and new connections are never answered; what was under way
    /// arrives afterwards.
    Silent,
    /// Everything takes so long, give or take the second.
    Slow(Duration, Duration),
}

/// The way of one node. Ends with the runtime.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Link {
    /// Listens on a free port, and leads to `target`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: SocketAddr, dice: Dice) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let weather = watch::Sender::new(Weather::Fair);
        tokio::spawn(accept(listener, target, weather.clone(), Arc::new(Mutex::new(dice))));
        Ok(Self { address, weather })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is like this.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

type Chance = Arc<Mutex<Dice>>;

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    weather: watch::Sender<Weather>,
    dice: Chance,
) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await; // out of files
            continue;
        };
        let (weather, dice) = (weather.subscribe(), Arc::clone(&dice));
        tokio::spawn(pass(near, target, weather, dice));
    }
}

async fn pass(
    near: TcpStream,
    target: SocketAddr,
    mut weather: watch::Receiver<Weather>,
    dice: Chance,
) {
    let _ = (near.set_nodelay(true), near.set_zero_linger());
    let mut cut = weather.clone();
    let passing = async move {
        if weather.wait_for(|weather| *weather != Weather::Silent).await.is_err() {
            return;
        }
        let Ok(far) = TcpStream::connect(target).await else { return };
        let _ = (far.set_nodelay(true), far.set_zero_linger());
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = one_way(from_near, to_far, weather.clone(), Arc::clone(&dice)) => {}
            () = one_way(from_far, to_near, weather.clone(), dice) => {}
        }
    };
    tokio::select! {
        () = passing => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

/// Completes when one side has ended.
async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    dice: Chance,
) {
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let mut sky = weather.clone();
    let reading = async move {
        let mut last = Instant::now();
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let delay = match *sky.borrow_and_update() {
                Weather::Slow(mean, jitter) => {
                    let mut dice = dice.lock().unwrap_or_else(PoisonError::into_inner);
                    dice.between(mean.saturating_sub(jitter), mean + jitter)
                }
                _ => Duration::ZERO,
            };
            last = last.max(Instant::now() + delay); // nothing overtakes
            if sender.send((last, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = queue.recv().await {
            sleep_until(due).await;
            let fair = weather.wait_for(|weather| *weather != Weather::Silent).await.is_ok();
            if !fair || to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    // What was read before the end is still written.
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

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

    async fn there_and_back(stream: &mut TcpStream) -> io::Result<Duration> {
        let began = Instant::now();
        stream.write_all(b"hello").await?;
        let mut back = [0; 5];
        stream.read_exact(&mut back).await?;
        assert_eq!(&back, b"hello");
        Ok(began.elapsed())
    }

    #[tokio::test]
    async fn a_cut_way_resets_and_comes_back() {
        let link = Link::start(echo().await, Dice::new(1, 0)).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        there_and_back(&mut stream).await.unwrap();
        link.set(Weather::Cut);
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
        let mut next = TcpStream::connect(link.address()).await.unwrap();
        assert!(matches!(next.read(&mut [0]).await, Ok(0) | Err(_)), "while it is cut");
        link.set(Weather::Fair);
        let mut next = TcpStream::connect(link.address()).await.unwrap();
        there_and_back(&mut next).await.unwrap();
    }

    #[tokio::test]
    async fn a_silent_way_goes_on_afterwards() {
        let link = Link::start(echo().await, Dice::new(1, 0)).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        there_and_back(&mut stream).await.unwrap();
        link.set(Weather::Silent);
        let mut late = TcpStream::connect(link.address()).await.unwrap();
        for stream in [&mut stream, &mut late] {
            stream.write_all(b"hello").await.unwrap();
            let nothing = timeout(Duration::from_millis(200), stream.read(&mut [0; 5])).await;
            assert!(nothing.is_err(), "neither bytes nor an end");
        }
        link.set(Weather::Fair);
        for stream in [&mut stream, &mut late] {
            let mut back = [0; 5];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"hello");
        }
    }

    #[tokio::test]
    async fn a_slow_way_takes_its_time_and_keeps_the_order() {
        let link = Link::start(echo().await, Dice::new(1, 0)).await.unwrap();
        link.set(Weather::Slow(Duration::from_millis(50), Duration::from_millis(40)));
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        let mut total = Duration::ZERO;
        for _ in 0..10 {
            total += there_and_back(&mut stream).await.unwrap();
        }
        assert!(total >= Duration::from_millis(200), "twice 10 ms at least, ten times: {total:?}");
        let sent: Vec<u8> = (0..=255).cycle().take(50_000).collect();
        let (mut from, mut to) = stream.split();
        let mut back = vec![0; sent.len()];
        let (wrote, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut back));
        wrote.unwrap();
        read.unwrap();
        assert_eq!(back, sent);
    }
}
