//! Whether there is a processor for everybody who wants one.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Asks a Redis that has little to do for nothing at all, again and again: when the answer takes long, it is because
/// neither of the two gets a processor.
#[derive(Debug)]
pub(super) struct Witness {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Duration>>,
}

impl Witness {
    pub(super) fn start(redis: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        Self { is_over, thread: std::thread::spawn(move || watch(redis, &ends)) }
    }

    /// How long an answer took at most, in milliseconds; very long when that is not known.
    pub(super) fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let worst = self.thread.join().ok().and_then(Result::ok);
        worst.map_or(u64::MAX, |worst| worst.as_millis() as u64)
    }
}

fn watch(redis: SocketAddr, is_over: &AtomicBool) -> io::Result<Duration> {
    let mut stream = TcpStream::connect(redis)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut worst = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let due = Instant::now() + PAUSE;
        std::thread::sleep(PAUSE);
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; b"+PONG\r\n".len()];
        stream.read_exact(&mut answer)?;
        worst = worst.max(due.elapsed());
    }
    Ok(worst)
}

const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(5);
