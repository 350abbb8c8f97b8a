//! `throng bench`: a load generator for any WebSocket server.
//!
//! One thread, one poll, one read buffer for all connections, so that it takes less CPU for a
//! frame than any server does and is not what is measured. Four workloads:
//!
//! * [`echo`]: every connection keeps a number of messages in flight and gets each one back;
//! * [`fanout`]: one publisher, every connection receives, the publisher included;
//! * [`idle`]: many connections that do nothing: memory and handshakes;
//! * [`churn`]: connect, shake hands, close, again.
//!
//! Every message carries its sender and a counter, and every delivery is compared byte by byte
//! with what it must be: nothing lost, duplicated, reordered or altered, or the exit code is 1.
//! The comparison is the fast path: as a server's frames are unmasked, the bytes each connection
//! must receive next are known, or were seen before on another connection. Whatever differs
//! (a ping, a fragment, a frame of another kind) goes through [`throng_wire::Decoder`].
//!
//! The mask key is fixed, and one handshake key serves all connections: both are public knowledge
//! here, and fresh ones would only cost the generator time.

mod churn;
mod echo;
mod fanout;
mod fleet;
mod frames;
mod idle;
mod interrupt;
mod order;
mod process;
mod report;
mod span;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use self::fleet::Fleet;
use self::process::Process;
use self::report::{Failure, Report};
use self::target::Target;

/// What `throng bench` understands.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand, Debug)]
enum Workload {
    /// Every connection sends messages and gets each one back
    Echo(echo::Options),
    /// One connection publishes, all receive
    Fanout(fanout::Options),
    /// Many connections that do nothing: the server's memory for each of them
    Idle(idle::Options),
    /// Connect, shake hands, close, again
    Churn(churn::Options),
}

/// What all workloads have in common.
#[derive(clap::Args, Debug)]
struct Common {
    /// Process id of the server: its CPU time and memory are reported; several times for several nodes, which are added up
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Another node that the connections are spread over, in turn; the first connection has the first URL
    #[arg(long, value_name = "URL")]
    also: Vec<String>,
    /// Pin the generator to this core
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Allow a target that is not this machine; only for servers that are yours
    #[arg(long)]
    allow_remote: bool,
    /// Subprotocol to ask for
    #[arg(long, value_name = "NAME")]
    subprotocol: Option<String>,
    /// Addresses 127.0.0.1, .2, … to connect from; by default as many as the ports require
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=200))]
    sources: Option<u8>,
    /// A file of tickets, one on each line: each handshake has the next one for {ticket} in the URL
    #[arg(long, value_name = "FILE")]
    tickets: Option<PathBuf>,
}

/// For how long a workload is measured.
#[derive(clap::Args, Debug)]
struct Span {
    /// Seconds to measure for
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    duration: Duration,
    /// Seconds to run before measuring begins
    #[arg(long, value_name = "SECONDS", default_value = "0.6", value_parser = seconds)]
    warmup: Duration,
}

/// How long messages under way may take to arrive after the last was sent.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections from one address, which by default has 28,000 ports.
const PORTS: usize = 20_000;

/// Runs a workload and prints its report.
///
/// The exit code is 0 when every message arrived exactly once, in order and unaltered; 1 when
/// not, or when the server closed a connection; 2 when the run could not be made at all.
pub(crate) fn run(args: Args) -> ExitCode {
    let (common, outcome) = match args.workload {
        Workload::Echo(options) => (options.common.json, echo::run(&options)),
        Workload::Fanout(options) => (options.common.json, fanout::run(&options)),
        Workload::Idle(options) => (options.common.json, idle::run(&options)),
        Workload::Churn(options) => (options.common.json, churn::run(&options)),
    };
    match outcome {
        Ok(report) => {
            report.print(common);
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(failure) => {
            eprintln!("throng bench: {failure}");
            ExitCode::from(2)
        }
    }
}

impl Common {
    /// Checks the target and the server's process, pins the generator, and prepares the fleet.
    fn prepare(&self, url: &str, connections: usize) -> Result<(Fleet, Option<Process>), Failure> {
        let server = match &*self.pid {
            [] => None,
            pids => Some(Process::open(pids)?),
        };
        if let Some(cpu) = self.cpu {
            process::pin(cpu)?;
        }
        process::allow_files(connections + 64)?;
        interrupt::listen();
        let least = connections.div_ceil(PORTS).try_into().unwrap_or(u8::MAX);
        let sources = self.sources.unwrap_or(least);
        let mut targets = Vec::new();
        for url in [url].into_iter().chain(self.also.iter().map(String::as_str)) {
            let target = Target::parse(url, self.allow_remote)?;
            let mut request = target.request(self.subprotocol.as_deref())?;
            if let Some(file) = &self.tickets {
                request = request.with_tickets(file)?;
            }
            targets.push((target.address, request));
        }
        let fleet = Fleet::new(targets, connections, sources)?;
        Ok((fleet, server))
    }

    /// A report that begins with what was run.
    fn report(&self, workload: &'static str, url: &str, connections: usize) -> Report {
        let mut report = Report::new(workload, url);
        report.whole("connections", "connections", connections as u64, "");
        report
    }
}

/// Parses a number of seconds; an hour at most.
fn seconds(text: &str) -> Result<Duration, String> {
    let text = text.strip_suffix('s').unwrap_or(text);
    match text.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&value) => Ok(Duration::from_secs_f64(value)),
        _ => Err("expected seconds from 0 to 3600".to_owned()),
    }
}

/// Parses a number of connections.
fn connections(text: &str) -> Result<usize, String> {
    match text.replace(['_', ','], "").parse() {
        Ok(count @ 1..=1_000_000) => Ok(count),
        _ => Err("expected a number from 1 to 1,000,000".to_owned()),
    }
}

/// Parses a message size.
fn size(text: &str) -> Result<usize, String> {
    match text.replace(['_', ','], "").parse() {
        Ok(bytes @ 16..=16_777_216) => Ok(bytes),
        _ => Err("expected a number of bytes from 16 to 16,777,216".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_bounded() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("2s"), Ok(Duration::from_secs(2)));
        for bad in ["-1", "3601", "NaN", "inf", "soon", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
