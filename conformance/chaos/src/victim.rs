//! The server under test: a process that is started, killed and started again on the same address and data.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::dice::Dice;
use crate::record::{Event, Log};

/// What a run does with a server.
pub trait Victim: Send {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Where its nodes listen, when it has several.
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address()]
    }

    /// Starts it, and waits until it is up.
    fn start(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends it at once, without a chance to do anything.
    fn kill(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Asks it to end in order. Says what went wrong with that.
    fn stop(&mut self) -> impl Future<Output = io::Result<Option<String>>> + Send;

    /// How it ended, when it has.
    fn ended(&mut self) -> Option<String>;
}

/// The real server.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
    address: SocketAddr,
    user: Option<u32>,
    environment: Vec<(String, OsString)>,
    log: Log,
    child: Option<Child>,
}

impl Process {
    /// Prepares a server that listens on `address` and runs in `folder`, where its output is written
    /// to `server.log`.
    pub fn new(
        program: &Path,
        folder: &Path,
        address: SocketAddr,
        arguments: impl IntoIterator<Item = OsString>,
        log: Log,
    ) -> Self {
        let listen = ["--listen".into(), address.to_string().into()];
        // Every room is open, and whoever can send more may.
        let free = ["access.anonymous=*", "rooms.rate=off", "rooms.bytes_rate=off"];
        let free = free.into_iter().flat_map(|set| ["--set".into(), set.into()]);
        Self {
            program: program.to_owned(),
            arguments: listen.into_iter().chain(free).chain(arguments).collect(),
            folder: folder.to_owned(),
            address,
            user: None,
            environment: Vec::new(),
            log,
            child: None,
        }
    }

    /// Runs it as another user, which only root can do.
    #[must_use]
    pub fn run_as(mut self, user: Option<u32>) -> Self {
        self.user = user;
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Stops it for now: its port is open, and nothing happens.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn go_on(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = self.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("the server does not run"))?;
        Ok(kill_process(id, signal)?)
    }

    /// The process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Lets its files grow up to this size only, or without limit. It is not told: writes fail.
    ///
    /// # Errors
    /// When it does not run.
    pub fn limit_files(&self, bytes: Option<u64>) -> io::Result<()> {
        let id = self.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("the server does not run"))?;
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(id), Resource::Fsize, limit)?;
        Ok(())
    }

    /// Memory and processor time: `VmRSS` and the like from `/proc`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn proc_file(&self, name: &str) -> io::Result<String> {
        let id = self.id().ok_or_else(|| io::Error::other("the server does not run"))?;
        std::fs::read_to_string(format!("/proc/{id}/{name}"))
    }
}

impl Victim for Process {
    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn start(&mut self) -> io::Result<()> {
        // `trap`: a write beyond the limit on files fails then, and does not end the process.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        command.arg(&self.program).args(&self.arguments).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("RUST_LOG").env_remove("THRONG_BIN").kill_on_drop(true);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn()?;
        let path = self.folder.join("server.log");
        let output = OpenOptions::new().create(true).append(true).open(path)?;
        if let Some(stream) = child.stdout.take() {
            tokio::spawn(copy(stream, output.try_clone()?, self.log.clone()));
        }
        if let Some(stream) = child.stderr.take() {
            tokio::spawn(copy(stream, output, self.log.clone()));
        }
        self.child = Some(child);
        tokio::select! {
            alive = alive(self.address) => alive,
            status = wait(&mut self.child) => {
                Err(io::Error::other(format!("the server ended: {status}")))
            }
        }
    }

    async fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        match child.try_wait()? {
            Some(_) => Ok(()), // it has ended by itself
            None => child.kill().await,
        }
    }

    async fn stop(&mut self) -> io::Result<Option<String>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        if let Some(id) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(id, Signal::TERM)?;
        }
        match timeout(STOP, child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => Ok(None),
            Ok(status) => Ok(Some(format!("the server was stopped and ended with {status:?}"))),
            Err(_) => {
                child.kill().await?;
                Ok(Some(format!("the server did not stop within {STOP:?}")))
            }
        }
    }

    fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status.to_string())
    }
}

async fn wait(child: &mut Option<Child>) -> String {
    match child {
        Some(child) => match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        },
        None => std::future::pending().await,
    }
}

async fn copy(stream: impl AsyncRead + Unpin, mut output: File, log: Log) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains("panicked at") {
            log.run(Event::Panicked { line: line.clone() });
        }
        let _ = writeln!(output, "{line}");
    }
}

/// Waits until the server answers that it is alive. That it accepts connections is not enough: it may
/// still find that it cannot use its data.
async fn alive(address: SocketAddr) -> io::Result<()> {
    let end = Instant::now() + START;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    while Instant::now() < end {
        let asking = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        match timeout(Duration::from_secs(1), asking).await {
            Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 200") => return Ok(()),
            _ => sleep(Duration::from_millis(10)).await,
        }
    }
    Err(io::Error::other(format!("the server on {address} does not answer")))
}

/// A free port on a loopback address of its own, so that nobody takes it while the server is down.
///
/// # Errors
/// When there is none.
pub fn free_address(dice: &mut Dice) -> io::Result<SocketAddr> {
    let process = u64::from(std::process::id());
    for _ in 0..50 {
        let [a, b, c, ..] = (dice.roll() ^ process.wrapping_mul(0x9e37_79b9)).to_le_bytes();
        let port = 10_000 + u16::from(a) * 64 + u16::from(b) % 64;
        let ip = Ipv4Addr::new(127, 1 + (b % 200), c, 1 + (a % 250));
        if TcpListener::bind((ip, port)).is_ok() {
            return Ok((ip, port).into());
        }
    }
    // Not Linux: only 127.0.0.1 is there.
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// How long the server may take to start.
const START: Duration = Duration::from_secs(30);
/// How long the server may take to stop: its own grace for connections, and some more.
const STOP: Duration = Duration::from_secs(15);
