//! Free ports, below those that the system gives to outgoing connections: nobody takes one while its
//! server is down.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A free port on 127.0.0.1.
pub(crate) fn free() -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1000 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Processes start at places of their own, far from each other.
        let port = std::process::id().wrapping_mul(911).wrapping_add(number) % SPAN;
        let port = FIRST + u16::try_from(port).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("there is no free port"))
}

const FIRST: u16 = 10_100;
const SPAN: u32 = 20_000;
