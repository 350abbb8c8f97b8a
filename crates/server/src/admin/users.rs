//! `throng user`: the server's own users, who log in with a password.

use clap::{Args, Subcommand};
use throng::{UserRow, Vault};

use super::table::{moment, table};
use super::{Failure, ask, now};
use crate::account::Account;
use crate::{password, prompt};

/// What `throng user` does.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user, and ask for the password
    ///
    /// The password is asked for twice on the terminal, which does not show it, or read from stdin with
    /// --password-stdin. Only its hash is kept (argon2id, 19 MiB, two passes). The user can log in as soon as
    /// login.enabled is set.
    #[command(after_long_help = ADD_EXAMPLES)]
    Add(Add),
    /// List users
    List,
    /// Give a user another password, and sign the user out everywhere
    Passwd {
        /// The id of the user
        #[arg(value_parser = user_id)]
        user: String,
        /// Read the password from the first line of stdin
        #[arg(long)]
        password_stdin: bool,
    },
    /// Keep a user from logging in, and sign the user out everywhere
    Disable {
        /// The id of the user
        #[arg(value_parser = user_id)]
        user: String,
    },
    /// Let a user log in again who was disabled
    Enable {
        /// The id of the user
        #[arg(value_parser = user_id)]
        user: String,
    },
    /// Remove a user, and sign the user out everywhere
    Remove {
        /// The id of the user
        #[arg(value_parser = user_id)]
        user: String,
    },
}

/// The arguments of `throng user add`.
#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The id of the user: 1 to 127 characters of A-Z a-z 0-9 _ . : @ / -
    #[arg(value_parser = user_id)]
    user: String,
    /// What others call the user
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// What others learn of the user, as JSON
    #[arg(long, value_name = "JSON")]
    info: Option<String>,
    /// What the user may do beside what everybody may who is signed in (repeatable): PATTERN for everything, or
    /// PATTERN=RIGHT,RIGHT of join, send, send:TYPE, presence, history
    #[arg(long = "room", value_name = "GRANT")]
    rooms: Vec<String>,
    /// Read the password from the first line of stdin
    #[arg(long)]
    password_stdin: bool,
}

const ADD_EXAMPLES: &str = "\
Examples:
  throng user add ann --name 'Ann Example' --room 'team:*' --data /var/lib/throng
  pass show throng/bot | throng user add bot --room 'news:*=join,send:news' --password-stdin

Exit status: 0 when the user was added, 1 when not (there is one of this id, the passwords differ), 2 when
the command line, the configuration or the data directory cannot be used.";

/// Does it. Returns what to print.
pub(super) fn run(vault: &Vault, command: UserCommand) -> Result<String, Failure> {
    match command {
        UserCommand::Add(add) => self::add(vault, add),
        UserCommand::List => list(vault),
        UserCommand::Passwd { user, password_stdin } => {
            let row = existing(vault, &user)?;
            let password = prompt::new_password(password_stdin)?;
            put(vault, UserRow { password: password::hash(password.as_bytes())?, ..row })?;
            let ended = sign_out(vault, &user)?;
            Ok(format!("{user} has a new password. {}\n", signed_out(ended)))
        }
        UserCommand::Disable { user } => {
            put(vault, UserRow { disabled: true, ..existing(vault, &user)? })?;
            let ended = sign_out(vault, &user)?;
            Ok(format!("{user} cannot log in any more. {}\n", signed_out(ended)))
        }
        UserCommand::Enable { user } => {
            put(vault, UserRow { disabled: false, ..existing(vault, &user)? })?;
            Ok(format!("{user} can log in again.\n"))
        }
        UserCommand::Remove { user } => match ask(|done| vault.remove_user(&user, now(), done))? {
            true => Ok(format!("{user} is removed and signed out.\n")),
            false => Err(unknown(&user)),
        },
    }
}

fn add(vault: &Vault, add: Add) -> Result<String, Failure> {
    let Add { user, name, info, rooms, password_stdin } = add;
    let account = Account::new(name, info, &rooms)?;
    if ask(|done| vault.user(&user, done))?.is_some() {
        return Err(Failure(format!("there is a user {user} already; see `throng user passwd`")));
    }
    let password = prompt::new_password(password_stdin)?;
    let now = now();
    let row = UserRow {
        id: user.clone(),
        password: password::hash(password.as_bytes())?,
        record: account.record(),
        created: now,
        changed: now,
        disabled: false,
    };
    ask(|done| vault.put_user(row, done))?;
    Ok(format!("{user} is added.\n"))
}

fn list(vault: &Vault) -> Result<String, Failure> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = ask(|done| vault.users(after.take(), PAGE, done))?;
        after = page.last().map(|user| user.id.clone());
        let is_last = page.len() < PAGE;
        rows.extend(page.into_iter().map(|user| {
            let account = Account::read(&user.record).unwrap_or_default();
            let grants =
                account.grants().map_or("(unreadable)".into(), |grants| grants.to_string());
            let state = if user.disabled { "disabled" } else { "active" };
            let name = account.name.unwrap_or_default();
            [user.id, name, state.into(), moment(user.created), moment(user.changed), grants]
        }));
        if is_last {
            return Ok(table(["USER", "NAME", "STATE", "ADDED", "CHANGED", "ROOMS"], &rows));
        }
    }
}

fn existing(vault: &Vault, user: &str) -> Result<UserRow, Failure> {
    ask(|done| vault.user(user, done))?.ok_or_else(|| unknown(user))
}

fn put(vault: &Vault, row: UserRow) -> Result<(), Failure> {
    let row = UserRow { changed: now(), ..row };
    ask(|done| vault.put_user(row, done))
}

fn sign_out(vault: &Vault, user: &str) -> Result<usize, Failure> {
    ask(|done| vault.revoke_user(user, now(), done))
}

fn signed_out(sessions: usize) -> String {
    match sessions {
        0 => "No session was open.".into(),
        1 => "One session was ended.".into(),
        sessions => format!("{sessions} sessions were ended."),
    }
}

fn unknown(user: &str) -> Failure {
    Failure(format!("there is no user {user}; `throng user list` shows all"))
}

/// For the command line: an id that a user can have.
pub(super) fn user_id(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:@/-".contains(&byte);
    match (1..=127).contains(&text.len()) && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("an id is 1 to 127 characters of A-Z a-z 0-9 _ . : @ / -".into()),
    }
}

const PAGE: usize = 1000;
