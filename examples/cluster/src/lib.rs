//! Runs `up`, for the test.

use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The cluster; it ends when this is dropped, as with Ctrl-C.
#[derive(Debug)]
pub struct Cluster {
    up: Child,
    /// That of nginx; the nodes and Redis have the next four.
    pub port: u16,
    /// Where logs and data are.
    pub folder: String,
}

impl Cluster {
    /// Starts it on free ports, and waits until it can be used.
    ///
    /// # Errors
    /// When something is not installed, or does not start.
    pub fn start() -> io::Result<Self> {
        let port = free_ports()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("up");
        let mut command = Command::new(script);
        command.env("PORT", port.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut up = command.spawn()?;
        let mut line = String::new();
        if let Some(stdout) = up.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let folder = line.split("logs are in ").nth(1).and_then(|rest| rest.split(';').next());
        let folder = folder.unwrap_or_default().to_owned();
        if folder.is_empty() {
            let status = up.wait()?;
            return Err(io::Error::other(format!("`up` ended with {status}, and said {line:?}")));
        }
        Ok(Self { up, port, folder })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.up.id().to_string()).status();
        let _ = self.up.wait();
    }
}

/// The first of five free ports in a row.
fn free_ports() -> io::Result<u16> {
    let start = u16::try_from(std::process::id() % 4000).unwrap_or_default() * 5;
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut firsts = (0..4000u16).map(|n| 11_000 + (start + n * 5) % 20_000);
    let found = firsts.find(|first| (*first..first + 5).all(free));
    found.ok_or_else(|| io::Error::other("there are no five free ports in a row"))
}
