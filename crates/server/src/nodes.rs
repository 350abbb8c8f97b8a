//! `throng nodes`: the servers that share a Redis, and sending the clients of one to the others.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use throng::Operator;

use crate::admin::{moment, table};
use crate::config::{Config, Flags};
use crate::http::shown_nodes;
use crate::{refuse_to_start, wiring};

/// The arguments of `throng nodes`.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Print JSON, as GET /api/v1/nodes answers
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

/// Which Redis is meant.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Place {
    /// The Redis of the servers; by default that of their configuration (repeatable)
    #[arg(long, value_name = "URL")]
    redis: Vec<String>,

    /// Read this file instead of ./throng.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Send the clients of a server to the others
    ///
    /// From then on it refuses new connections, and each of its clients gets a time of its own to go. It goes on without
    /// clients until it is ended, or until `throng nodes undrain`.
    Drain {
        /// Its id, as `throng nodes` shows it; the first letters do
        node: String,
        /// Over how long, in seconds; by default as cluster.drain_spread says
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
        spread: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// Let a server take clients again
    ///
    /// Takes `throng nodes drain` back. Clients that were told when to go still go. A server that is ending (SIGTERM) goes on
    /// ending.
    Undrain {
        /// Its id, as `throng nodes` shows it; the first letters do
        node: String,
        #[command(flatten)]
        place: Place,
    },
}

/// What is wanted.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// A list, as JSON or for people.
    List { json: bool },
    /// One of them is to send its clients away.
    Drain { node: String, spread: Option<Duration> },
    /// It is to take clients again.
    Undrain { node: String },
}

impl Args {
    /// The settings it says, and what is wanted.
    pub(crate) fn parts(self) -> (Flags, Wanted) {
        let (place, wanted) = match self.command {
            None => (self.place, Wanted::List { json: self.json }),
            Some(Command::Drain { node, spread, place }) => {
                (place, Wanted::Drain { node, spread: spread.map(Duration::from_secs) })
            }
            Some(Command::Undrain { node, place }) => (place, Wanted::Undrain { node }),
        };
        let urls = (!place.redis.is_empty()).then(|| place.redis.join(","));
        let settings = urls.map(|urls| ("--redis".to_owned(), "redis.urls".to_owned(), urls));
        let settings = settings.into_iter().collect();
        (Flags { file: place.config, settings, listen: Vec::new() }, wanted)
    }
}

/// Does it. Exit status 0: done; 1: not done, with a sentence why; 2: there is no Redis.
pub(crate) fn run(config: &Config, wanted: Wanted) -> ExitCode {
    let options = match wiring::redis(config) {
        Ok(Some(options)) => options,
        Ok(None) => {
            return refuse_to_start(
                &"there is no Redis: a server without one is on its own; give --redis URL, or set redis.urls in \
                  throng.toml",
            );
        }
        Err(error) => return refuse_to_start(&error),
    };
    let operator = match Operator::new(options) {
        Ok(operator) => operator,
        Err(error) => return refuse_to_start(&error),
    };
    let done = match wanted {
        Wanted::List { json } => list(&operator, json),
        Wanted::Drain { node, spread } => {
            drain(&operator, &node, spread.unwrap_or_else(|| config.drain_spread()))
        }
        Wanted::Undrain { node } => undrain(&operator, &node),
    };
    match done {
        // A reader that has seen enough (`| head`) is no error.
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        },
        Err(sentence) => {
            let _ = writeln!(io::stderr(), "throng: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn list(operator: &Operator, json: bool) -> Result<String, String> {
    let nodes = operator.nodes().map_err(|_| SILENT)?;
    if json {
        return Ok(shown_nodes(nodes));
    }
    let rows: Vec<[String; 9]> = nodes
        .into_iter()
        .map(|node| {
            let report = node.report;
            let state = if report.draining { "draining" } else { "up" };
            [
                node.id,
                report.address,
                report.version,
                moment(report.started),
                report.connections.to_string(),
                report.users.to_string(),
                report.rooms.to_string(),
                format!("{:.0} %", report.load * 100.0),
                format!("{state}, {:.0} s ago", node.last_beat.as_secs_f64()),
            ]
        })
        .collect();
    Ok(table(HEAD, &rows))
}

fn drain(operator: &Operator, wanted: &str, spread: Duration) -> Result<String, String> {
    let id = find(operator, wanted)?;
    match operator.drain(&id, spread).map_err(|_| SILENT)? {
        true => Ok(format!("{id} sends everybody away within {spread:?}\n")),
        false => Err(format!("{id} has gone in the meantime")),
    }
}

fn undrain(operator: &Operator, wanted: &str) -> Result<String, String> {
    let id = find(operator, wanted)?;
    match operator.undrain(&id).map_err(|_| SILENT)? {
        true => Ok(format!("{id} takes clients again, unless it is ending\n")),
        false => Err(format!("{id} has gone in the meantime")),
    }
}

/// The id that begins with this.
fn find(operator: &Operator, wanted: &str) -> Result<String, String> {
    let nodes = operator.nodes().map_err(|_| SILENT)?;
    let mut found = nodes.into_iter().filter(|node| node.id.starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(node), None) => Ok(node.id),
        _ => Err(format!("there is not one node whose id begins with {wanted:?}")),
    }
}

const HEAD: [&str; 9] =
    ["ID", "ADDRESS", "VERSION", "STARTED (UTC)", "CONNECTIONS", "USERS", "ROOMS", "LOAD", "STATE"];
const SILENT: &str = "Redis does not answer";
