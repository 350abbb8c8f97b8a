//! `chaos`: runs the server among faults, and checks what everybody saw.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::{Parser, ValueEnum};
use throng_chaos::check::check_file;
use throng_chaos::cluster::{self, Fault, Nodes, Pace};
use throng_chaos::dice::Dice;
use throng_chaos::disk::{self, Failure, Tmpfs};
use throng_chaos::plan::Size;
use throng_chaos::record::{Keeps, Log};
use throng_chaos::run::Run;
use throng_chaos::victim::{Process, free_address};

/// Kills the server, cuts its connections, fills its disk, and checks that nothing is lost.
///
/// Without options: 60 clients for 12 s with 2 kills. A long run:
/// chaos --clients 200 --seconds 60 --kills 6 --cuts-per-second 5 --rate 400
#[derive(Parser)]
struct Args {
    /// The server's program
    #[arg(long, env = "THRONG_BIN", value_name = "FILE")]
    server: PathBuf,
    /// All choices follow from it; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// Clients
    #[arg(long, default_value_t = 60)]
    clients: u32,
    /// Rooms; by default one for ten clients
    #[arg(long)]
    rooms: Option<u32>,
    /// How long faults happen
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// How often the server is killed with SIGKILL and started again; by default 2, in memory 0
    #[arg(long)]
    kills: Option<u32>,
    /// How often the server is stopped with SIGTERM and started again; by default 1, in memory 0
    #[arg(long)]
    stops: Option<u32>,
    /// Only WebSockets: no server-sent events
    #[arg(long)]
    no_streams: bool,
    /// How much may wait for a slow reader, such as 16KiB, before it is disconnected
    #[arg(long, value_name = "SIZE")]
    outbox: Option<String>,
    /// How many messages of a room the server keeps
    #[arg(long, default_value_t = 1000)]
    history: u64,
    /// Connections cut in a second
    #[arg(long, default_value_t = 5.0)]
    cuts_per_second: f64,
    /// Messages published in a second, by all clients together
    #[arg(long, default_value_t = 150.0)]
    rate: f64,
    /// Keep rooms in memory only: nothing survives a kill, but nobody may be deceived about that
    #[arg(long, conflicts_with = "disk_full")]
    memory: bool,
    /// Let the disk fail instead: `limit` works for everybody, the others need the right to mount
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "limit")]
    disk_full: Option<Disk>,
    /// Several short runs: durable, in memory, and each failure of the disk that can be made here
    #[arg(long, conflicts_with_all = ["memory", "disk_full"])]
    all: bool,
    /// Three nodes that share their rooms through Redis, and this done to them (repeatable); clients come
    /// back to any node. 30 clients, 4 rooms, 100 messages a second
    #[arg(long, value_name = "FAULT", conflicts_with_all = ["memory", "disk_full", "all"])]
    cluster: Vec<Fault>,
    /// The same with each fault, one after the other
    #[arg(long, conflicts_with_all = ["memory", "disk_full", "all"])]
    all_cluster: bool,
    /// Each fault five times and for longer, with 90 clients, 9 rooms and 300 messages a second
    #[arg(long)]
    long: bool,
    /// Keep log, data and the server's output here; by default only those of a failed run are kept
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Passed on to the server (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Disk {
    /// Files may not grow
    Limit,
    /// No space left
    Full,
    /// Read-only
    ReadOnly,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Durable,
    Memory,
    Disk(Failure),
    Cluster(Fault),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let played = runtime.and_then(|runtime| runtime.block_on(play(&args)));
    match played {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "chaos: {error}");
            ExitCode::from(2)
        }
    }
}

/// Plays all the runs that are wanted.
async fn play(args: &Args) -> io::Result<(usize, usize)> {
    let seed = args.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.as_micros() as u64 % 1_000_000_000
    });
    let faults = if args.all_cluster { Fault::all() } else { &args.cluster };
    let modes: Vec<Mode> = match (args.all, args.memory, args.disk_full) {
        _ if !faults.is_empty() => faults.iter().copied().map(Mode::Cluster).collect(),
        (true, ..) => {
            let disk = Failure::ALL.into_iter().map(Mode::Disk);
            [Mode::Durable, Mode::Memory].into_iter().chain(disk).collect()
        }
        (_, true, _) => vec![Mode::Memory],
        (_, _, Some(disk)) => vec![Mode::Disk(disk.into())],
        _ => vec![Mode::Durable],
    };
    let (mut passed, mut failed) = (0, 0);
    for mode in modes {
        let began = Instant::now();
        println!("== {} (seed {seed})", mode.name());
        let played = match mode {
            Mode::Cluster(fault) => cluster(args, seed, fault).await,
            _ => one(args, seed, mode).await,
        };
        println!("   {:.1} s", began.elapsed().as_secs_f64());
        match played {
            Ok((kept, broken)) => {
                passed += kept;
                failed += broken;
            }
            Err(error)
                if (args.all || args.all_cluster)
                    && error.kind() == io::ErrorKind::PermissionDenied =>
            {
                println!("left out: {error}");
            }
            Err(error) => {
                println!("FAILED {error}");
                failed += 1;
            }
        }
    }
    Ok((passed, failed))
}

async fn one(args: &Args, seed: u64, mode: Mode) -> io::Result<(usize, usize)> {
    let temporary = tempfile::Builder::new().prefix("throng-chaos-").tempdir()?;
    let folder = args.out.as_ref().map_or(temporary.path(), |out| out);
    std::fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    let data = folder.join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    std::fs::create_dir_all(&data)?;
    let mounted = match mode {
        Mode::Disk(failure) if failure.needs_mount() => Some(
            Tmpfs::mount(&data)
                .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?,
        ),
        _ => None,
    };
    let log_file = folder.join("log.jsonl");
    let log = Log::create(&log_file)?;
    let mut server = Server { args, mode, folder: &folder, data: &data };
    let process = server.process(seed, &log)?;
    let size = args.size(seed, mode);
    let mut run = Run::begin(size, process, log).await?;
    match mode {
        Mode::Disk(failure) => disk::harm(&mut run, failure, &data).await?,
        _ => run.harm().await?,
    }
    run.finish().await?;
    let (cuts, (acked, refused)) = (run.cuts(), run.board.answers());
    println!("{acked} messages acknowledged, {refused} refused, {cuts} connections cut");
    drop(mounted);
    let verdict = check_file(&log_file)?;
    verdict.print(&log_file, &mut io::stdout().lock())?;
    if !verdict.holds() && args.out.is_none() {
        println!("kept: {}", temporary.keep().display());
    }
    Ok(verdict.totals())
}

/// Plays one fault of several nodes.
async fn cluster(args: &Args, seed: u64, fault: Fault) -> io::Result<(usize, usize)> {
    if let Some(why) = fault.is_impossible() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{fault}: {why}")));
    }
    if fault == Fault::Loss && !cluster::is_inside() {
        return cluster::play_inside(&args.of_one_fault(seed, fault));
    }
    let temporary = tempfile::Builder::new().prefix("throng-chaos-").tempdir()?;
    let folder = match &args.out {
        Some(out) => out.join(fault.to_string()),
        None => temporary.path().to_owned(),
    };
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let log_file = folder.join("log.jsonl");
    let log = Log::create(&log_file)?;
    let nodes = Nodes::prepare(fault, &args.server, &folder, &args.set, seed, &log).await?;
    let redis_logs = nodes.redis_logs();
    let mut run = Run::begin(args.cluster_size(seed, fault), nodes, log).await?;
    let pace = if args.long { Pace::Long } else { Pace::Short };
    cluster::harm(&mut run, fault, pace).await?;
    run.finish().await?;
    for (index, log) in redis_logs.iter().enumerate() {
        std::fs::copy(log, folder.join(format!("redis-{index}.log")))?;
    }
    let (acked, refused) = run.board.answers();
    println!("{acked} messages acknowledged, {refused} refused");
    let verdict = check_file(&log_file)?;
    verdict.print(&log_file, &mut io::stdout().lock())?;
    if !verdict.holds() && args.out.is_none() {
        println!("kept: {}", temporary.keep().display());
    }
    Ok(verdict.totals())
}

struct Server<'a> {
    args: &'a Args,
    mode: Mode,
    folder: &'a Path,
    data: &'a Path,
}

impl Server<'_> {
    fn process(&mut self, seed: u64, log: &Log) -> io::Result<Process> {
        let config = self.folder.join("throng.toml");
        let history = self.args.history;
        // A short grace, so that a run need not wait for those who were cut.
        let rooms = format!("[[room]]\nmatch = \"room-*\"\ngrace = \"2s\"\nhistory = {history}\n");
        std::fs::write(&config, rooms)?;
        let mut arguments: Vec<OsString> = vec!["--config".into(), config.into()];
        match self.mode {
            Mode::Memory => arguments.push("--memory".into()),
            _ => arguments.extend(["--data".into(), self.data.into()]),
        }
        arguments.extend(self.args.set.iter().flat_map(|pair| ["--set".into(), pair.into()]));
        if let Some(size) = &self.args.outbox {
            arguments.extend(["--set".into(), format!("rooms.outbox={size}").into()]);
        }
        let program = self.args.server.canonicalize()?;
        let address = free_address(&mut Dice::new(seed, 5))?;
        Ok(Process::new(&program, self.folder, address, arguments, log.clone()))
    }
}

impl Args {
    fn cluster_size(&self, seed: u64, fault: Fault) -> Size {
        let (clients, rooms, rate) = match (fault, self.long) {
            // Enough to tell how evenly they come.
            (Fault::Rolling, false) => (120, 12, 100.0),
            (Fault::Rolling, true) => (180, 18, 300.0),
            (_, false) => (30, 4, 100.0),
            (_, true) => (90, 9, 300.0),
        };
        Size {
            seed,
            clients,
            rooms,
            duration: Duration::ZERO,
            kills: 0,
            stops: 0,
            cuts: 0.0,
            rate,
            streams: !self.no_streams,
            keeps: Keeps {
                durable: true,
                history: cluster::HISTORY,
                little: false,
                shared: Some(fault.promise()),
            },
            patience: Duration::from_secs(20),
        }
    }

    /// The arguments of a process that plays only this fault.
    fn of_one_fault(&self, seed: u64, fault: Fault) -> Vec<String> {
        let mut arguments = vec![
            "--server".to_owned(),
            self.server.display().to_string(),
            "--seed".into(),
            seed.to_string(),
            "--cluster".into(),
            fault.to_string(),
        ];
        arguments.extend(self.long.then(|| "--long".to_owned()));
        arguments.extend(self.no_streams.then(|| "--no-streams".to_owned()));
        arguments.extend(self.set.iter().flat_map(|pair| ["--set".into(), pair.clone()]));
        if let Some(out) = &self.out {
            arguments.extend(["--out".into(), out.display().to_string()]);
        }
        arguments
    }

    fn size(&self, seed: u64, mode: Mode) -> Size {
        let disk = matches!(mode, Mode::Disk(_));
        Size {
            seed,
            clients: self.clients.max(2),
            rooms: self.rooms.unwrap_or(self.clients / 10).max(1),
            duration: Duration::from_secs(self.seconds),
            kills: self.kills.unwrap_or(if mode == Mode::Memory { 0 } else { 2 }),
            stops: self.stops.unwrap_or(if mode == Mode::Memory { 0 } else { 1 }),
            cuts: if disk { 0.0 } else { self.cuts_per_second },
            rate: self.rate,
            streams: !self.no_streams,
            keeps: Keeps {
                durable: mode != Mode::Memory,
                history: self.history,
                little: self.outbox.is_some(),
                shared: None,
            },
            patience: Duration::from_secs(20),
        }
    }
}

impl Mode {
    fn name(self) -> String {
        let name = match self {
            Self::Durable => "durable rooms, kills and cuts",
            Self::Memory => "rooms in memory, cuts",
            Self::Disk(Failure::Limit) => "files may not grow",
            Self::Disk(Failure::Full) => "no space left",
            Self::Disk(Failure::ReadOnly) => "started on a read-only file system",
            Self::Cluster(fault) => return format!("three nodes: {fault}"),
        };
        name.to_owned()
    }
}

impl From<Disk> for Failure {
    fn from(disk: Disk) -> Self {
        match disk {
            Disk::Limit => Self::Limit,
            Disk::Full => Self::Full,
            Disk::ReadOnly => Self::ReadOnly,
        }
    }
}
