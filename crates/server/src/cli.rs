//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::admin::{
    Admin, Command as AdminCommand, SecretCommand, SessionCommand, TokenCommand, UserCommand,
};
use crate::config::{Flags, ListenFlag, Scopes};
use crate::{bench, cert, nodes};

/// What is to be done.
pub(crate) enum Task {
    /// `throng` or `throng serve`.
    Serve(Flags),
    /// `throng config`.
    Config(Flags),
    /// `throng check`, and whether warnings are a failure.
    Check(Flags, bool),
    /// `throng key new`, with the name if one was given, and what the key may do.
    NewKey(Option<String>, Scopes),
    /// `throng user` and the like.
    Admin(Flags, AdminCommand),
    /// `throng nodes`.
    Nodes(Flags, nodes::Wanted),
    /// `throng cert`.
    Cert(cert::Args),
    /// `throng bench`.
    Bench(bench::Args),
}

/// Reads the command line. Prints help, version or what is wrong, and exits, when that is all there is to do.
pub(crate) fn read() -> Task {
    read_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

fn read_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Task, clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let of_command = matches.subcommand().map_or(&matches, |(_, matches)| matches);
    Ok(match cli.command {
        None => Task::Serve(cli.settings.flags(of_command)),
        Some(Command::Serve(settings)) => Task::Serve(settings.flags(of_command)),
        Some(Command::Config(settings)) => Task::Config(settings.flags(of_command)),
        Some(Command::Check(check)) => Task::Check(check.settings.flags(of_command), check.strict),
        Some(Command::Key(Key::New { name, scopes })) => Task::NewKey(name, scopes),
        Some(Command::User(admin)) => admin_task(admin, AdminCommand::User),
        Some(Command::Session(admin)) => admin_task(admin, AdminCommand::Session),
        Some(Command::Token(admin)) => admin_task(admin, AdminCommand::Token),
        Some(Command::Secret(admin)) => admin_task(admin, AdminCommand::Secret),
        Some(Command::Nodes(args)) => {
            let (flags, wanted) = args.parts();
            Task::Nodes(flags, wanted)
        }
        Some(Command::Cert(args)) => Task::Cert(args),
        Some(Command::Bench(args)) => Task::Bench(args),
    })
}

fn admin_task<C: Subcommand>(admin: Admin<C>, command: impl FnOnce(C) -> AdminCommand) -> Task {
    let (flags, wanted) = admin.parts();
    Task::Admin(flags, command(wanted))
}

/// A real-time server: WebSockets, rooms and pages on one port.
///
/// Without a command it serves, so `throng` is all it takes: open http://localhost:3000 in two windows
/// and talk.
#[derive(Parser)]
#[command(name = "throng", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (what `throng` alone does)
    #[command(after_long_help = SERVE_EXAMPLES)]
    Serve(Settings),
    /// Print the effective configuration as a commented throng.toml
    ///
    /// Every key with its meaning, default, environment variable and danger, at the value it has after
    /// defaults, file, THRONG_… variables and flags. What it prints can be used as throng.toml.
    Config(Settings),
    /// Report on the security of the effective configuration
    ///
    /// What is open, what to change for production and by which key, and the limits in force. Takes the
    /// same flags as `serve`, and reads the same file and variables. Nothing is started.
    Check(Check),
    /// Make keys for the HTTP API
    #[command(subcommand)]
    Key(Key),
    /// Make a certificate for development
    ///
    /// Writes cert.pem and key.pem. No browser trusts it unasked; for production, take one from an
    /// authority, or let tls.acme_domains do that.
    Cert(cert::Args),
    /// Add, list and remove users who log in with a password
    User(Admin<UserCommand>),
    /// List and end sessions that are signed in
    Session(Admin<SessionCommand>),
    /// Refuse tokens that somebody else has given out
    Token(Admin<TokenCommand>),
    /// Renew the secret that resume tokens are signed with
    Secret(Admin<SecretCommand>),
    /// List the servers that share a Redis, and empty one of them
    Nodes(nodes::Args),
    /// Measure a WebSocket server
    Bench(bench::Args),
}

#[derive(Subcommand)]
enum Key {
    /// Print a new key, and the line for [api] keys by which the server knows it
    ///
    /// Two lines on stdout: the key, which is shown only now, and NAME:HASH. A key is 160 random bits.
    /// The server keeps SHA-256 of it: nobody can find so many bits by trying, so a slow hash, made for
    /// passwords, would only slow down every request.
    New {
        /// What to call it: 1 to 64 characters of A-Z a-z 0-9 _ . -
        #[arg(long, value_name = "NAME", value_parser = key_name)]
        name: Option<String>,
        /// What it may do: some of publish, read, tickets, sessions, rooms and nodes, with + in between
        #[arg(long, value_name = "SCOPES", value_parser = key_scopes, default_value = "all")]
        scopes: Scopes,
    },
}

fn key_scopes(text: &str) -> Result<Scopes, String> {
    match text {
        "all" => Ok(Scopes::ALL),
        text => Scopes::parse(text).ok_or_else(|| {
            "scopes are publish, read, tickets, sessions, rooms and nodes, such as publish+read; or all"
                .into()
        }),
    }
}

fn key_name(text: &str) -> Result<String, String> {
    match crate::config::is_key_name(text) {
        true => Ok(text.to_owned()),
        false => Err("a name is 1 to 64 characters of A-Z a-z 0-9 _ . -".into()),
    }
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    settings: Settings,
    /// Fail (exit status 1) when there is something to change
    #[arg(long)]
    strict: bool,
}

/// What `serve` and `config` understand.
#[derive(Args)]
struct Settings {
    /// Read this file instead of ./throng.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Listen here (repeatable); by default localhost:3000
    ///
    /// 3001, :3001 and localhost:3001 are this machine only, by IPv4 and IPv6; *:3001 is every interface;
    /// 127.0.0.1:3001, [::1]:3001 and 0.0.0.0:3001 are exactly that; port 0 is any free port.
    /// Replaces the listeners of the configuration file.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,

    /// Put an endpoint at a path: rooms, relay, echo or off (repeatable)
    ///
    /// Adds to the endpoints of the --listen before it, or of the first listener when none precedes, and
    /// overrides by path: /=relay makes / a relay, /echo=off takes /echo away, *=off takes all the
    /// default ones away. Settings may follow: /files=relay,max_message=16MiB.
    #[arg(long, value_name = "PATH=KIND")]
    endpoint: Vec<String>,

    /// Threads that own the WebSockets; by default one per core
    #[arg(long, value_name = "N")]
    workers: Option<String>,

    /// Keep rooms in this directory (SQLite), so that they survive the process
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    data: Option<String>,

    /// Share rooms with other servers through this Redis: redis://HOST:PORT (repeatable)
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "memory"])]
    redis: Vec<String>,

    /// Keep nothing on disk (the default)
    #[arg(long)]
    memory: bool,

    /// Log this much: off, error, warn, info, debug, trace, or directives such as info,throng=debug
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,

    /// Log as text or json, on stderr
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// Set any key of throng.toml (repeatable): --set limits.max_connections=1000
    ///
    /// `throng config` lists the keys. Each can also be set by its environment variable, such as
    /// THRONG_LIMITS_MAX_CONNECTIONS.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  throng                                     chat on http://localhost:3000
  throng --listen '*:3000'                   the same, for everyone in the network
  throng --listen 3000 --listen 3001 --endpoint /=relay
                                             and a plain relay on ws://localhost:3001
  THRONG_ROOMS_MAX_MESSAGE=1MiB throng       settings from the environment

Exit status: 0 after an orderly shutdown (SIGTERM, SIGINT), 1 when a second signal ended it at
once, 2 when the command line, the configuration or an address cannot be used.";

impl Settings {
    fn flags(self, matches: &ArgMatches) -> Flags {
        let mut settings = Vec::new();
        let redis = (!self.redis.is_empty()).then(|| self.redis.join(","));
        for (flag, key, value) in [
            ("--workers", "workers", self.workers),
            ("--data", "data", self.data),
            ("--redis", "redis.urls", redis),
            ("--memory", "data", self.memory.then(|| "memory".to_owned())),
            ("--log", "log.level", self.log),
            ("--log-format", "log.format", self.log_format),
        ] {
            settings.extend(value.map(|value| (flag.to_owned(), key.to_owned(), value)));
        }
        for pair in &self.set {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            settings.push((format!("--set {key}"), key.to_owned(), value.to_owned()));
        }
        // The order among the two flags matters; clap keeps it as indices.
        let places = |id: &str| matches.indices_of(id).into_iter().flatten();
        let listen = places("listen").zip(self.listen.into_iter().map(ListenFlag::Listen));
        let endpoint = places("endpoint").zip(self.endpoint.into_iter().map(ListenFlag::Endpoint));
        let mut ordered: Vec<_> = listen.chain(endpoint).collect();
        ordered.sort_by_key(|(place, _)| *place);
        let listen = ordered.into_iter().map(|(_, flag)| flag).collect();
        Flags { file: self.config, settings, listen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Task, clap::Error> {
        read_from(line.split_whitespace().map(OsString::from))
    }

    fn flags(line: &str) -> Flags {
        match read(line) {
            Ok(
                Task::Serve(flags)
                | Task::Config(flags)
                | Task::Check(flags, _)
                | Task::Admin(flags, _)
                | Task::Nodes(flags, _),
            ) => flags,
            Ok(Task::Bench(_) | Task::NewKey(..) | Task::Cert(_)) => {
                panic!("{line} has no settings")
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_what_throng_alone_does() {
        assert!(matches!(read("throng"), Ok(Task::Serve(_))));
        assert!(matches!(read("throng serve"), Ok(Task::Serve(_))));
        assert!(matches!(read("throng config"), Ok(Task::Config(_))));
        assert!(matches!(read("throng check"), Ok(Task::Check(_, false))));
        assert!(matches!(read("throng check --strict --memory"), Ok(Task::Check(_, true))));
        assert!(matches!(read("throng key new"), Ok(Task::NewKey(None, Scopes::ALL))));
        assert!(matches!(read("throng key new --name ci"), Ok(Task::NewKey(Some(_), _))));
        let some = Scopes::parse("read+tickets").unwrap();
        let task = read("throng key new --scopes tickets+read");
        assert!(matches!(task, Ok(Task::NewKey(None, scopes)) if scopes == some));
        assert_eq!(
            flags("throng --workers 2").settings,
            flags("throng serve --workers 2").settings
        );
    }

    #[test]
    fn the_order_of_listen_and_endpoint_is_kept() {
        let line = "--endpoint /a=echo --listen 1 --endpoint /b=echo --listen 2 --endpoint /c=off";
        for command in ["throng", "throng serve", "throng config"] {
            let words: Vec<String> = flags(&format!("{command} {line}"))
                .listen
                .into_iter()
                .map(|flag| match flag {
                    ListenFlag::Listen(text) | ListenFlag::Endpoint(text) => text,
                })
                .collect();
            assert_eq!(words, ["/a=echo", "1", "/b=echo", "2", "/c=off"], "{command}");
        }
    }

    #[test]
    fn flags_become_settings() {
        let flags = flags("throng --memory --log debug --set limits.backlog=5 --config a.toml");
        let expected = [
            ("--memory", "data", "memory"),
            ("--log", "log.level", "debug"),
            ("--set limits.backlog", "limits.backlog", "5"),
        ]
        .map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(flags.settings, expected);
        assert_eq!(flags.file, Some("a.toml".into()));
    }

    #[test]
    fn administration_has_a_place() {
        for line in ["throng user --data d list", "throng user list --data d"] {
            let Ok(Task::Admin(flags, AdminCommand::User(UserCommand::List))) = read(line) else {
                panic!("{line}");
            };
            assert_eq!(flags.settings, [("--data".into(), "data".into(), "d".into())]);
        }
        for line in [
            "throng user add ann --room a --room b=join --password-stdin",
            "throng user passwd ann --config t.toml",
            "throng session revoke s_1",
            "throng session revoke --user ann",
            "throng token revoke 17 --days 3",
            "throng secret rotate",
        ] {
            assert!(matches!(read(line), Ok(Task::Admin(..))), "{line}");
        }
        for line in [
            "throng user",
            "throng user add",
            "throng user add a%b",
            "throng session revoke",
            "throng session revoke s_1 --user ann",
            "throng token revoke 17 --days 0",
            "throng key new --scopes everything",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn redis_and_nodes_are_named() {
        let urls = |line: &str| flags(line).settings;
        let expected =
            [("--redis".to_owned(), "redis.urls".to_owned(), "redis://a,redis://b".into())];
        assert_eq!(urls("throng --redis redis://a --redis redis://b"), expected);
        assert_eq!(urls("throng nodes --json --redis redis://a --redis redis://b"), expected);
        assert!(matches!(
            read("throng nodes"),
            Ok(Task::Nodes(_, nodes::Wanted::List { json: false }))
        ));
        let task = read("throng nodes drain k3f9 --spread 45 --redis redis://a");
        let Ok(Task::Nodes(flags, nodes::Wanted::Drain { node, spread })) = task else { panic!() };
        assert_eq!((&*node, spread.map(|time| time.as_secs())), ("k3f9", Some(45)));
        assert_eq!(flags.settings.len(), 1);
        let task = read("throng nodes undrain k3f9");
        assert!(
            matches!(task, Ok(Task::Nodes(_, nodes::Wanted::Undrain { node })) if node == "k3f9")
        );
        assert!(read("throng nodes drain").is_err() && read("throng nodes --memory").is_err());
    }

    #[test]
    fn contradictions_and_unknown_flags_are_refused() {
        assert!(read("throng --redis redis://a --data x").is_err());
        assert!(read("throng --memory --data x").is_err());
        assert!(read("throng --lisen 3000").is_err());
        assert!(read("throng sevre").is_err());
        assert!(read("throng key").is_err());
        assert!(read("throng key new --name a:b").is_err());
        assert!(read("throng cert").is_err());
        assert!(read("throng cert --self-signed --host a/b").is_err());
    }
}
