//! `throng check`: what the effective configuration opens, what is as it came, and what to change before
//! strangers come.

mod findings;

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::announce;
use crate::config::{Config, Kind, Listener};

pub(crate) use self::findings::findings;

/// Something to know about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What is, and why it matters: whole sentences.
    pub(crate) what: String,
    /// What to set, as in `throng.toml`.
    pub(crate) change: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Somebody will get hurt; also said at every start.
    Danger,
    /// Not for production.
    Warning,
    /// Worth a thought.
    Note,
}

/// Prints the report. Fails with `strict` when there is more than notes.
pub(crate) fn run(config: &Config, strict: bool) -> ExitCode {
    use std::io::Write as _;
    let findings = findings(config);
    // A reader that has seen enough (`| head`) is no error.
    let _ = std::io::stdout().write_all(report(config, &findings).as_bytes());
    match strict && findings.iter().any(|finding| finding.level < Level::Note) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// The report, for people.
fn report(config: &Config, findings: &[Finding]) -> String {
    let mut out = String::from("What is open\n\n");
    for listener in &config.listeners {
        describe(&mut out, listener);
    }
    out.push('\n');
    paragraph(&mut out, "  ", "  ", &announce::anonymous(config));
    let users = announce::grants(&config.access.users);
    if !users.is_empty() {
        let sentence = format!("Everybody who is signed in may also use {users}.");
        paragraph(&mut out, "  ", "  ", &sentence);
    }
    paragraph(&mut out, "  ", "  ", &ways_in(config));

    let of = |level| findings.iter().filter(move |finding: &&Finding| finding.level == level);
    let pressing: Vec<_> = of(Level::Danger).chain(of(Level::Warning)).collect();
    out.push_str("\nWhat to change for production\n\n");
    if pressing.is_empty() {
        out.push_str("  Nothing.\n");
    }
    for finding in &pressing {
        let mark = if finding.level == Level::Danger { "  !! " } else { "  !  " };
        tell(&mut out, mark, finding);
    }
    if of(Level::Note).next().is_some() {
        out.push_str("\nWorth a thought\n\n");
        for finding in of(Level::Note) {
            tell(&mut out, "  -  ", finding);
        }
    }
    out.push_str("\nLimits and times (* as they came)\n\n");
    let width = SHOWN.iter().map(|path| path.len()).max().unwrap_or(0);
    for path in SHOWN {
        let Some((value, is_default)) = config.shown(path) else { continue };
        let mark = if is_default { '*' } else { ' ' };
        let _ = writeln!(out, "  {mark} {path:width$}  {value}");
    }
    let dangers = of(Level::Danger).count();
    let count = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    };
    let _ = write!(
        out,
        "\n{}, {}, {}. `throng config` explains every key.\n",
        count(dangers, "danger"),
        count(pressing.len() - dangers, "warning"),
        count(of(Level::Note).count(), "note"),
    );
    out
}

/// One line: where, how, and what is there.
fn describe(out: &mut String, listener: &Listener) {
    let reach = if listener.address.is_local() { "this machine only" } else { "the network" };
    let how = match (listener.tls, listener.redirect) {
        (true, _) => "TLS",
        (_, true) => "redirect to https",
        _ => "no TLS",
    };
    let _ = writeln!(out, "  {}  {reach}, {how}", listener.address);
    if listener.redirect {
        return;
    }
    let parts = [
        (listener.pages, "pages"),
        (listener.ops, "/metrics /healthz /readyz"),
        (listener.api, "/api/v1"),
        (listener.sse, "/sse /send"),
    ];
    let mut things: Vec<String> =
        parts.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect();
    for kind in Kind::ALL {
        let of_kind = listener.endpoints.iter().filter(|endpoint| endpoint.kind == kind);
        let paths: Vec<&str> = of_kind.map(|endpoint| endpoint.path.as_str()).collect();
        if !paths.is_empty() {
            things.push(format!("{} at {}", kind.name(), paths.join(" ")));
        }
    }
    paragraph(out, "      ", "      ", &things.join("; "));
}

fn ways_in(config: &Config) -> String {
    let mut ways = Vec::new();
    if !config.keys.is_empty() {
        ways.push("with tickets from the HTTP API".to_owned());
    }
    if config.login.enabled {
        ways.push(match config.webhook.login {
            true => "by POST /login, which asks the webhook".to_owned(),
            false => "by POST /login, with the users of `throng user`".to_owned(),
        });
    }
    if !config.jwt.algorithms.is_empty() {
        let names = config.jwt.algorithms.as_slice().iter().map(|algorithm| algorithm.name());
        ways.push(format!("with JWTs ({})", names.collect::<Vec<_>>().join(", ")));
    }
    if !config.webhook.url.is_empty() {
        ways.push("with tokens that the webhook knows".to_owned());
    }
    match ways.as_slice() {
        [] => {
            "Nobody can sign in: there are no API keys, no login, no JWT and no webhook.".to_owned()
        }
        ways => format!("People sign in {}.", ways.join(", ")),
    }
}

fn tell(out: &mut String, mark: &str, finding: &Finding) {
    paragraph(out, mark, "     ", &finding.what);
    paragraph(out, "       ", "       ", &finding.change);
}

/// A text in lines of at most 96 characters.
fn paragraph(out: &mut String, first: &str, others: &str, text: &str) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > 96 {
            out.push_str(&line);
            out.push('\n');
            line = others.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    out.push_str(&line);
    out.push('\n');
}

/// The keys whose values the report lists.
const SHOWN: [&str; 26] = [
    "access.recheck",
    "access.ticket_ttl",
    "access.session_ttl",
    "limits.connects_per_ip",
    "limits.handshakes_per_ip",
    "limits.max_connections",
    "limits.max_connections_per_ip",
    "limits.max_connections_per_user",
    "limits.max_tls_handshakes",
    "limits.exempt",
    "limits.trusted_proxies",
    "limits.memory",
    "limits.max_rooms",
    "limits.max_total_rooms",
    "limits.max_rooms_per_ip",
    "limits.max_rooms_per_user",
    "limits.handshake_timeout",
    "limits.partial_timeout",
    "rooms.origins",
    "rooms.max_message",
    "rooms.outbox",
    "rooms.rate",
    "rooms.bytes_rate",
    "rooms.user_rate",
    "relay.rate",
    "echo.rate",
];

#[cfg(test)]
mod tests;
