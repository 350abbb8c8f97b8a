//! The server in a process of its own, and what it uses.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use tempfile::TempDir;
use throng_chaos::dice::Dice;
use throng_chaos::record::Log;
use throng_chaos::victim::{Process, Victim as _, free_address};
use throng_redis_rig::{Server as Redis, Setup};

/// Which server.
#[derive(Args)]
pub(crate) struct Options {
    /// The server's program, built for release
    #[arg(long, env = "THRONG_BIN", value_name = "FILE")]
    server: PathBuf,
    /// Keep rooms in memory only
    #[arg(long)]
    memory: bool,
    /// Keep rooms and sessions in a Redis that is started for it (its own memory, nothing on disk)
    #[arg(long, conflicts_with = "memory")]
    redis: bool,
    /// Passed on to the server (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A running server with a data directory that goes with it.
pub(crate) struct Server {
    process: Process,
    _redis: Option<Redis>,
    _folder: TempDir,
}

/// What the server had used at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    at: Instant,
    server: Duration,
    client: Duration,
}

impl Server {
    pub(crate) async fn start(options: &Options) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("throng-measure-").tempdir()?;
        let data = folder.path().join("data");
        let mut arguments = vec!["--log".into(), "warn".into()];
        let redis = options.redis.then(|| Redis::start(Setup::in_memory())).transpose()?;
        match &redis {
            Some(redis) => arguments.extend(["--redis".into(), redis.url().into()]),
            None if options.memory => arguments.push("--memory".into()),
            None => arguments.extend(["--data".into(), data.into()]),
        }
        arguments.extend(options.set.iter().flat_map(|pair| ["--set".into(), pair.into()]));
        let log = Log::create(&folder.path().join("log.jsonl"))?;
        let seed = std::process::id();
        let address = free_address(&mut Dice::new(u64::from(seed), 0))?;
        let program = options.server.canonicalize()?;
        let mut process = Process::new(&program, folder.path(), address, arguments, log);
        process.start().await?;
        Ok(Self { process, _redis: redis, _folder: folder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address()
    }

    /// Kills it and starts it again on the same data.
    pub(crate) async fn kill_and_start(&mut self) -> io::Result<()> {
        self.process.kill().await?;
        self.process.start().await
    }

    pub(crate) fn used(&self) -> io::Result<Used> {
        let server = processor_time(&self.process.proc_file("stat")?)?;
        let client = processor_time(&std::fs::read_to_string("/proc/self/stat")?)?;
        Ok(Used { at: Instant::now(), server, client })
    }

    /// A line of `smaps_rollup`, in bytes.
    pub(crate) fn memory(&self, what: &str) -> io::Result<u64> {
        let text = self.process.proc_file("smaps_rollup")?;
        let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        number.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {what}")))
    }

    /// The size of the data directory.
    pub(crate) fn data_bytes(&self) -> u64 {
        fn size(path: &std::path::Path) -> u64 {
            let Ok(entries) = std::fs::read_dir(path) else { return 0 };
            let sizes = entries.flatten().map(|entry| match entry.metadata() {
                Ok(about) if about.is_dir() => size(&entry.path()),
                Ok(about) => about.len(),
                Err(_) => 0,
            });
            sizes.sum()
        }
        size(&self._folder.path().join("data"))
    }
}

impl Used {
    /// In words: what was used since `before`, for so many of something.
    pub(crate) fn since(&self, before: &Self, many: u64, of: &str) -> String {
        let time = self.at.duration_since(before.at).as_secs_f64();
        let server = (self.server - before.server).as_secs_f64();
        let client = (self.client - before.client).as_secs_f64();
        format!(
            "server CPU {:.0} % ({:.2} s, {:.1} µs for each {of}), client CPU {:.0} %",
            100.0 * server / time,
            server,
            1e6 * server / many.max(1) as f64,
            100.0 * client / time,
        )
    }
}

/// User and system time of `/proc/…/stat`, in hundredths of a second.
fn processor_time(stat: &str) -> io::Result<Duration> {
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    match ticks[..] {
        [user, system] => Ok(Duration::from_millis(10 * (user + system))),
        _ => Err(io::Error::other("an unknown form of /proc/…/stat")),
    }
}
