//! `measure`: what durable rooms, coming back and idle sessions cost.
//!
//! Starts the server itself, in a process of its own. The client is as thin as possible ([`lean`]), as
//! both share the machine; its own share of the processor is reported, too.

mod guest;
mod lean;
mod memory;
mod publishes;
mod server;
mod storm;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::server::Options;

/// Measures durable publishes, a storm of resumes, and the memory of idle sessions.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    server: Options,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Acknowledged publishes a second, or the time until they are acknowledged
    Publishes(publishes::Options),
    /// Everybody loses the connection, misses messages, and comes back at once
    Storm(storm::Options),
    /// Memory of the server for each idle session that has joined a room
    Memory(memory::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let measured = runtime.and_then(|runtime| {
        runtime.block_on(async {
            match &args.what {
                What::Publishes(options) => publishes::run(&args.server, options).await,
                What::Storm(options) => storm::run(&args.server, options).await,
                What::Memory(options) => memory::run(&args.server, options).await,
            }
        })
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "measure: {error}");
            ExitCode::FAILURE
        }
    }
}
