//! What operators do beside the running server, in its data directory or in Redis: users, sessions, tokens, secrets.
//!
//! Servers that run there learn of every change within a second.

mod sessions;
mod table;
mod users;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use throng::{Operator, SyncMode, Vault};
use throng_hub::Unavailable;

pub(crate) use self::sessions::{SessionCommand, TokenCommand};
pub(crate) use self::table::{moment, table};
pub(crate) use self::users::UserCommand;
use crate::config::{Config, Flags, Storage, Sync};
use crate::{refuse_to_start, wiring};

/// `throng user`, `throng session`, `throng token`, `throng secret`.
#[derive(Debug)]
pub(crate) enum Command {
    User(UserCommand),
    Session(SessionCommand),
    Token(TokenCommand),
    Secret(SecretCommand),
}

/// The arguments of `throng user` and the like.
#[derive(Args, Debug)]
pub(crate) struct Admin<C: Subcommand> {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: C,
}

/// Which data directory is meant.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The data directory of the server; by default that of its configuration
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<String>,

    /// The Redis that the servers share; by default that of their configuration (repeatable)
    #[arg(long, value_name = "URL", global = true, conflicts_with = "data")]
    redis: Vec<String>,

    /// Read this file instead of ./throng.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

/// What `throng secret` does.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Sign resume tokens with a new secret from now on
    ///
    /// Also a server that is running. Sessions that were begun before can still be resumed: the old secret is known
    /// for 24 hours more.
    Rotate,
}

/// What a command has to say when it has failed: one sentence, and exit status 1.
struct Failure(String);

impl<T: Display> From<T> for Failure {
    fn from(sentence: T) -> Self {
        Self(sentence.to_string())
    }
}

impl<C: Subcommand> Admin<C> {
    /// The settings it says, and the command.
    pub(crate) fn parts(self) -> (Flags, C) {
        let data = self.place.data.map(|data| ("--data".to_owned(), "data".to_owned(), data));
        let redis = (!self.place.redis.is_empty()).then(|| self.place.redis.join(","));
        let redis = redis.map(|urls| ("--redis".to_owned(), "redis.urls".to_owned(), urls));
        let settings = data.into_iter().chain(redis).collect();
        (Flags { file: self.place.config, settings, listen: Vec::new() }, self.command)
    }
}

/// Does what is wanted. Exit status 0: done; 1: not done, with a sentence why; 2: there is no such place.
pub(crate) fn run(config: &Config, command: Command) -> ExitCode {
    let vault = match open(config, &command) {
        Ok(vault) => vault,
        Err(code) => return code,
    };
    let done = match command {
        Command::User(command) => users::run(&vault, command),
        Command::Session(command) => sessions::run(&vault, command),
        Command::Token(command) => sessions::run_token(&vault, command),
        Command::Secret(SecretCommand::Rotate) => {
            ask(|done| vault.rotate_secret(now(), done)).map(|()| {
                "Resume tokens are signed with a new secret now; the old one is known for 24 hours more.\n"
                    .to_owned()
            })
        }
    };
    vault.close();
    match done {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // A reader that has seen enough (`| head`) is no error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(Failure(sentence)) => {
            let _ = writeln!(io::stderr(), "throng: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// What the servers keep: in Redis, or in a directory.
fn open(config: &Config, command: &Command) -> Result<Vault, ExitCode> {
    let refused = |sentence: &dyn Display| Err(refuse_to_start(sentence));
    match wiring::redis(config) {
        Ok(Some(options)) => {
            return match Operator::new(options) {
                Ok(operator) => Ok(operator.vault()),
                Err(error) => refused(&error),
            };
        }
        Ok(None) => {}
        Err(error) => return refused(&error),
    }
    let Storage::Directory(directory) = &config.data else {
        return refused(
            &"there is no data directory: a server with data = \"memory\" keeps users and sessions only for \
              itself and forgets them at its end; give --data DIR or --redis URL, or set data or redis.urls in \
              throng.toml",
        );
    };
    let adds = matches!(command, Command::User(UserCommand::Add(_)));
    if !adds && !directory.join("access.db").is_file() {
        let shown = directory.display();
        return refused(&format!(
            "there is no {shown}/access.db: no server has run with this data directory and no user was \
             added to it"
        ));
    }
    let sync = match config.sync {
        Sync::Full => SyncMode::Full,
        Sync::Normal => SyncMode::Normal,
    };
    match Vault::open(Some(directory), sync) {
        Ok(vault) => Ok(vault),
        Err(error) => refused(&error),
    }
}

/// Asks the vault, and waits for the answer.
fn ask<T: Send + 'static>(
    question: impl FnOnce(Box<dyn FnOnce(Result<T, Unavailable>) + Send>),
) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    question(Box::new(move |answer| drop(sender.send(answer))));
    match receiver.recv() {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Failure(
            "what is kept cannot be used at the moment: is the disk full, does somebody hold access.db locked, is Redis \
             away?"
                .to_owned(),
        )),
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
