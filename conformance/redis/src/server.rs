//! One process.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::papers::{ADMIN, Papers};
use crate::reply::{self, Reply};
use crate::{port, wait_until};

/// What a server is to be.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    append_only: bool,
    guard: Guard,
    arguments: Vec<String>,
}

/// Whom a server lets in.
#[derive(Clone, Debug, Default)]
enum Guard {
    #[default]
    Anybody,
    /// Who has papers that are made with it.
    Own,
    /// Who has these.
    Papers(Papers),
}

/// What a server finds when it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// What it had written.
    Kept,
    /// Nothing.
    Lost,
}

/// A `redis-server` on a port of its own, killed when dropped.
#[derive(Debug)]
pub struct Server {
    port: u16,
    tls_port: Option<u16>,
    papers: Option<Papers>,
    arguments: Vec<String>,
    folder: TempDir,
    child: Option<Child>,
}

impl Setup {
    /// In memory: all is gone when it ends.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// What it acknowledges is on the disk.
    pub fn durable() -> Self {
        Self { append_only: true, ..Self::default() }
    }

    /// Only those with a certificate and a password are let in; see [`Server::papers`].
    #[must_use]
    pub fn secured(mut self) -> Self {
        self.guard = Guard::Own;
        self
    }

    /// The same with papers that several servers share; with none, anybody is let in.
    #[must_use]
    pub fn guarded(mut self, papers: Option<&Papers>) -> Self {
        self.guard = papers.cloned().map_or(Guard::Anybody, Guard::Papers);
        self
    }

    /// More arguments of `redis-server`, such as `["--maxmemory", "10mb"]`.
    #[must_use]
    pub fn with<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments.extend(arguments.into_iter().map(str::to_owned));
        self
    }
}

impl Server {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started: `redis-server` is not there, or does not know TLS.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let port = port::free()?;
        let folder = tempfile::Builder::new().prefix("throng-redis-").tempdir()?;
        let papers = match setup.guard {
            Guard::Anybody => None,
            Guard::Own => Some(Papers::new("127.0.0.1", &["localhost", "127.0.0.1"])?),
            Guard::Papers(papers) => Some(papers),
        };
        let tls_port = papers.as_ref().map(|_| port::free()).transpose()?;
        let append_only = if setup.append_only { "yes" } else { "no" };
        let common = [
            ("--port", port.to_string()),
            ("--bind", "127.0.0.1".into()),
            ("--save", String::new()),
            ("--appendonly", append_only.into()),
            ("--appendfsync", "always".into()),
            ("--repl-diskless-sync-delay", "0".into()),
            ("--enable-debug-command", "local".into()),
        ];
        let mut arguments: Vec<String> =
            common.into_iter().flat_map(|(name, value)| [name.into(), value]).collect();
        if let (Some(papers), Some(port)) = (&papers, tls_port) {
            arguments.extend(papers.arguments(port));
        }
        arguments.extend(setup.arguments);
        Self::spawn(port, tls_port, papers, arguments, folder)
    }

    /// A sentinel, that finds everything in this file.
    pub(crate) fn sentinel(
        port: u16,
        tls: Option<(u16, &Papers)>,
        file: &Path,
    ) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("throng-redis-").tempdir()?;
        let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        let (tls_port, papers) = tls.map(|(port, papers)| (port, papers.clone())).unzip();
        Self::spawn(port, tls_port, papers, arguments, folder)
    }

    fn spawn(
        port: u16,
        tls_port: Option<u16>,
        papers: Option<Papers>,
        arguments: Vec<String>,
        folder: TempDir,
    ) -> io::Result<Self> {
        let mut server = Self { port, tls_port, papers, arguments, folder, child: None };
        server.start_again(Data::Kept)?;
        Ok(server)
    }

    /// Starts it again on the same port after it was killed, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self, data: Data) -> io::Result<()> {
        self.kill();
        let folder = self.folder.path().join("data");
        if data == Data::Lost && folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let output = File::options().create(true).append(true).open(self.log_file())?;
        let program = env::var_os("THRONG_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        command.args(&self.arguments).current_dir(&folder);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        self.child = Some(command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("redis-server cannot be started: {error}"))
        })?);
        let mut ended = None;
        wait_until("redis-server answers", || {
            let child = self.child.as_mut();
            ended = child.and_then(|child| child.try_wait().ok().flatten());
            ended.is_some() || self.ask(&["PING"]).is_ok_and(|reply| reply.text() == Some("PONG"))
        })?;
        match ended {
            None => Ok(()),
            Some(status) => {
                let said = fs::read_to_string(self.log_file()).unwrap_or_default();
                Err(io::Error::other(format!("redis-server ended, {status}: {said}")))
            }
        }
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it for now: its port is open, and nothing happens.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()));
        if let Some(id) = id {
            let _ = kill_process(id, signal);
        }
    }

    /// Whether it runs, or is only stopped for now.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Its port, without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port by which other servers reach it: that with TLS, if it has one.
    pub(crate) fn door(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// Its address, without TLS.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where clients connect: `redis://…`, or `rediss://user:password@…` of a secured one.
    pub fn url(&self) -> String {
        match (&self.papers, self.tls_port) {
            (Some(papers), Some(port)) => {
                format!("rediss://{}:{}@{}:{port}", papers.user, papers.password, papers.host)
            }
            _ => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// What a client of a secured server needs.
    pub fn papers(&self) -> Option<&Papers> {
        self.papers.as_ref()
    }

    /// What it has said.
    pub fn log_file(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.log")
    }

    /// Gives an order on a connection of its own, as the user who may do everything.
    ///
    /// # Errors
    /// When there is no answer in 5 s. An error that Redis answers is a [`Reply::Error`].
    pub fn ask(&self, command: &[&str]) -> io::Result<Reply> {
        self.ask_all(&[command]).map(|mut replies| replies.pop().unwrap_or(Reply::None))
    }

    /// Gives an order that must succeed.
    ///
    /// # Errors
    /// When there is no answer, or an error.
    pub fn order(&self, command: &[&str]) -> io::Result<Reply> {
        match self.ask(command)? {
            Reply::Error(error) => Err(io::Error::other(format!("{}: {error}", command.join(" ")))),
            reply => Ok(reply),
        }
    }

    /// Gives several orders on one connection, all at once.
    ///
    /// # Errors
    /// When there is no answer in 5 s.
    pub fn ask_all(&self, commands: &[&[&str]]) -> io::Result<Vec<Reply>> {
        let mut stream = TcpStream::connect_timeout(&self.address(), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        if self.papers.is_some() {
            reply::write(&mut stream, &["AUTH", ADMIN])?;
            reply::read(&mut reader)?;
        }
        for command in commands {
            reply::write(&mut stream, command)?;
        }
        commands.iter().map(|_| reply::read(&mut reader)).collect()
    }

    /// A line of `INFO`.
    pub fn info(&self, section: &str, field: &str) -> Option<String> {
        let Ok(Reply::Text(text)) = self.ask(&["INFO", section]) else { return None };
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(str::to_owned)
    }

    /// Whether it is a primary, or a replica whose first synchronisation is over.
    pub(crate) fn is_in_step(&self) -> bool {
        self.info("replication", "role").as_deref() == Some("master")
            || self.info("replication", "master_link_status").as_deref() == Some("up")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

const ANSWER: Duration = Duration::from_secs(5);
