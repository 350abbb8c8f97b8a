//! `check LOG`: judges the log of a run again.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Judges the log of a run.
#[derive(Parser)]
struct Args {
    /// The log, one JSON object a line
    log: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let judged = throng_chaos::check::check_file(&args.log).and_then(|verdict| {
        verdict.print(&args.log, &mut io::stdout().lock())?;
        let (kept, broken) = verdict.totals();
        println!("{kept} passed, {broken} failed");
        Ok(verdict.holds())
    });
    match judged {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "check: {}: {error}", args.log.display());
            ExitCode::from(2)
        }
    }
}
