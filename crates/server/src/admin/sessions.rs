//! `throng session` and `throng token`: who is signed in, and ending that.

use clap::{Args, Subcommand};
use throng::Vault;

use super::table::{moment, table};
use super::users::user_id;
use super::{Failure, ask, now};

/// What `throng session` does.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions that are signed in
    ///
    /// Those of anonymous visitors are not kept on disk; the HTTP API shows them: GET /api/v1/sessions.
    List {
        /// Only those of this user
        #[arg(long, value_name = "USER", value_parser = user_id)]
        user: Option<String>,
    },
    /// End sessions: a running server closes their connections with 4401 within a second
    Revoke(Revoke),
}

/// Which sessions are revoked.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Revoke {
    /// The id of a session
    session: Option<String>,
    /// All sessions of this user; tickets and tokens of up to now are refused from now on
    #[arg(long, value_name = "USER", value_parser = user_id)]
    user: Option<String>,
}

/// What `throng token` does.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Refuse a token from now on by its id (the claim jti), and end the sessions it has opened
    Revoke {
        /// The id of the token: its claim jti
        token: String,
        /// For how many days: at least until the token has expired by itself
        #[arg(long, value_name = "N", default_value_t = 366, value_parser = clap::value_parser!(u32).range(1..=36_600))]
        days: u32,
    },
}

/// Does it. Returns what to print.
pub(super) fn run(vault: &Vault, command: SessionCommand) -> Result<String, Failure> {
    match command {
        SessionCommand::List { user } => list(vault, user.as_deref()),
        SessionCommand::Revoke(Revoke { session: Some(id), .. }) => {
            match ask(|done| vault.revoke_session(&id, done))? {
                true => Ok(format!("{id} is ended.\n")),
                false => Err(Failure(format!(
                    "there is no session {id:?} that is signed in; `throng session list` shows all"
                ))),
            }
        }
        SessionCommand::Revoke(Revoke { user: Some(user), .. }) => {
            let ended = ask(|done| vault.revoke_user(&user, now(), done))?;
            let sessions = if ended == 1 { "session" } else { "sessions" };
            Ok(format!(
                "{ended} {sessions} of {user} ended; tickets and tokens of up to now are refused.\n"
            ))
        }
        SessionCommand::Revoke(_) => Err(Failure("a session or --user is needed".into())),
    }
}

/// Does it. Returns what to print.
pub(super) fn run_token(vault: &Vault, command: TokenCommand) -> Result<String, Failure> {
    let TokenCommand::Revoke { token, days } = command;
    if token.is_empty() || token.len() > LONGEST_TOKEN_ID {
        return Err(Failure("the id of a token has 1 to 256 bytes".into()));
    }
    let until = now() + u64::from(days) * DAY;
    ask(|done| vault.revoke_token(&token, until, done))?;
    Ok(format!("The token {token:?} is refused until {} UTC.\n", moment(until)))
}

fn list(vault: &Vault, user: Option<&str>) -> Result<String, Failure> {
    let (mut rows, mut after) = (Vec::new(), None::<String>);
    let now = now();
    loop {
        let page = ask(|done| vault.sessions(user, after.as_deref(), PAGE, done))?;
        after = page.last().map(|session| session.id.clone());
        let is_last = page.len() < PAGE;
        let open = page.into_iter().filter(|s| s.expires.is_none_or(|expires| expires > now));
        rows.extend(open.map(|session| {
            let ip = session.ip.map(|ip| ip.to_string()).unwrap_or_default();
            let ends = session.expires.map_or("never".into(), moment);
            [session.id, session.user, session.via, ip, moment(session.started), ends]
        }));
        if is_last {
            return Ok(table(["SESSION", "USER", "BY", "FROM", "STARTED", "ENDS"], &rows));
        }
    }
}

const PAGE: usize = 1000;
const LONGEST_TOKEN_ID: usize = 256;
/// In milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1000;
