use std::sync::Arc;

use redis::Value;
use serde::{Deserialize, Serialize};
use throng_hub::Unavailable;

use super::super::{Answer, UserRow};
use super::text::{Args, pairs, text};
use super::{Core, Shared, script};

/// Users with a password.
impl Shared {
    pub(in super::super) fn put_user(
        &self,
        user: UserRow,
        done: impl FnOnce(Answer<()>) + Send + 'static,
    ) {
        let UserRow { id, password, record, created, changed, disabled } = user;
        let rest = Rest { password, record, created, changed, disabled };
        let rest = serde_json::to_string(&rest).unwrap_or_default();
        let args = Args::new().text(&id).text(&rest);
        self.ask(&script::PUT_USER, args, |_, _| Some(Ok(())), done);
    }

    pub(in super::super) fn user(
        &self,
        id: &str,
        done: impl FnOnce(Answer<Option<UserRow>>) + Send + 'static,
    ) {
        let args = Args::new().text(id);
        let id = id.to_owned();
        let read = move |_: &Arc<Core>, told: Value| match told {
            Value::Nil => Some(Ok(None)),
            told => Some(Ok(Some(row(id, &text(told)?)?))),
        };
        self.ask(&script::USER, args, read, done);
    }

    pub(in super::super) fn users(
        &self,
        after: &str,
        limit: usize,
        done: impl FnOnce(Answer<Vec<UserRow>>) + Send + 'static,
    ) {
        more_users(&self.core, after.to_owned(), limit, Vec::new(), done);
    }

    pub(in super::super) fn remove_user(
        &self,
        id: &str,
        now: u64,
        done: impl FnOnce(Answer<bool>) + Send + 'static,
    ) {
        let args = self.signed(Args::new().text(id).number(now));
        let read =
            |core: &Arc<Core>, told: Value| core.revoked(told).map(|removed| Ok(removed > 0));
        self.ask(&script::REMOVE_USER, args, read, done);
    }
}

/// A user as Redis has it, beside the id.
#[derive(Deserialize, Serialize)]
struct Rest {
    password: String,
    record: String,
    created: u64,
    changed: u64,
    disabled: bool,
}

/// Asks for pages until there are as many as wanted, or no more.
fn more_users(
    core: &Arc<Core>,
    after: String,
    limit: usize,
    mut found: Vec<UserRow>,
    done: impl FnOnce(Answer<Vec<UserRow>>) + Send + 'static,
) {
    let wanted = limit.saturating_sub(found.len()).min(PAGE);
    let args = Args::new().text(&after).number(wanted as u64);
    let read = |_: &Arc<Core>, told: Value| {
        let users = pairs(told)?.into_iter().map(|(id, rest)| row(id, &rest));
        users.collect::<Option<Vec<_>>>().map(Ok)
    };
    let again = core.clone();
    // Boxed, as it contains itself.
    let done: Box<dyn FnOnce(Answer<Vec<UserRow>>) + Send> = Box::new(done);
    core.ask(&script::USERS, args, read, move |page| {
        let page = match page {
            Ok(page) => page,
            Err(Unavailable) => return done(Err(Unavailable)),
        };
        let is_last = page.len() < PAGE;
        found.extend(page);
        match found.last().map(|last| last.id.clone()) {
            Some(last) if !is_last && found.len() < limit => {
                more_users(&again, last, limit, found, done);
            }
            _ => done(Ok(found)),
        }
    });
}

fn row(id: String, rest: &str) -> Option<UserRow> {
    let Rest { password, record, created, changed, disabled } = serde_json::from_str(rest).ok()?;
    Some(UserRow { id, password, record, created, changed, disabled })
}

/// So many users are read by one script.
const PAGE: usize = 1000;
