//! The throng server: `throng serve`, `throng config`, `throng key`, `throng user` and others, `throng bench`.
//!
//! [`cli`] reads the command line, [`config`] turns it, `throng.toml` and the environment into a checked
//! configuration, and [`serve`] runs it: [`listen`] takes connections, [`pages`], [`ops`] and [`http`]
//! answer plain requests, and everything about WebSockets is the `throng` crate's.

mod account;
mod acme;
mod admin;
mod announce;
mod auth;
mod bench;
mod cert;
mod check;
mod cli;
mod client;
mod config;
mod http;
mod listen;
mod log;
mod nodes;
mod ops;
mod pages;
mod password;
mod prompt;
mod proxy;
mod reload;
mod serve;
mod tls;
mod turn;
mod wiring;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::Task;
use crate::config::{Config, Flags, Machine, Scopes};

/// Gives memory back to the system from a thread of its own, so that a server that has become quiet
/// becomes small again (the feature `background_threads`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::read() {
        Task::Serve(flags) => configured(&flags, serve::run),
        Task::Config(flags) => configured(&flags, |config| {
            // A reader that has seen enough (`| head`) is no error.
            let _ = io::stdout().write_all(config::print(config).as_bytes());
            ExitCode::SUCCESS
        }),
        Task::Check(flags, strict) => configured(&flags, |config| check::run(config, strict)),
        Task::NewKey(name, scopes) => new_key(name, scopes),
        Task::Admin(flags, command) => configured(&flags, |config| admin::run(config, command)),
        Task::Nodes(flags, wanted) => configured(&flags, |config| nodes::run(config, wanted)),
        Task::Cert(args) => cert::run(&args),
        Task::Bench(args) => bench::run(args),
    }
}

/// The key and its line on stdout, for a person or a script; what to do with them on stderr.
fn new_key(name: Option<String>, scopes: Scopes) -> ExitCode {
    match http::NewKey::draw(name, scopes) {
        Ok(key) => {
            let _ = io::stderr().write_all(ABOUT_THE_KEY.as_bytes());
            match write!(io::stdout(), "{key}").and_then(|()| io::stdout().flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => refuse_to_start(&format!("cannot draw a key: {error}")),
    }
}

const ABOUT_THE_KEY: &str = "\
The first line is the key, for whoever calls the API: Authorization: Bearer tk_... It is shown only now.
The second is what the server needs to know it, for throng.toml: [api] keys = [\"NAME:HASH\"], or a line of
the file api.keys_file, which is read again on SIGHUP.
";

fn configured(flags: &Flags, then: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    let variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let machine = Machine { cores, files: raise_file_limit() };
    match Config::load(flags, &variables, machine) {
        Ok(config) => then(&config),
        Err(sentence) => refuse_to_start(&sentence),
    }
}

/// One sentence on stderr, and exit code 2.
fn refuse_to_start(sentence: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "throng: {}", without_numbers(&sentence.to_string()));
    ExitCode::from(2)
}

/// Raises the limit on open files as far as it goes without privileges, and returns it.
fn raise_file_limit() -> usize {
    /// What `auto` assumes where there is no limit.
    const UNLIMITED: u64 = 1 << 20;
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let current = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    usize::try_from(current).unwrap_or(usize::MAX)
}

/// Without the numbers that the library puts behind what the system says.
fn without_numbers(sentence: &str) -> String {
    let mut rest = sentence;
    let mut clean = String::with_capacity(sentence.len());
    while let Some((before, behind)) = rest.split_once(" (os error ") {
        clean.push_str(before);
        rest = behind.split_once(')').map_or("", |(_, rest)| rest);
    }
    clean + rest
}

/// What the system says about a failure, as the end of a sentence.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_are_left_out() {
        let sentence = "cannot open x: Read-only file system (os error 30); make it writable";
        assert_eq!(
            without_numbers(sentence),
            "cannot open x: Read-only file system; make it writable"
        );
        assert_eq!(without_numbers("nothing here"), "nothing here");
    }
}
