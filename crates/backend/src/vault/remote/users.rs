use std::sync::Arc;

use redis::Value;
use serde::{Deserialize, Serialize};

use super::super::{Answer, UserRow};
use super::pages::Pages;
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
        self.change(&script::PUT_USER, args, |_, _| Some(Ok(())), done);
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
        let rows = |told| pairs(told)?.into_iter().map(|(id, rest)| row(id, &rest)).collect();
        let pages =
            Pages { script: &script::USERS, of: Args::new(), rows, id: |user: &UserRow| &user.id };
        pages.read(&self.core, after, limit, done);
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
        self.change(&script::REMOVE_USER, args, read, done);
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

fn row(id: String, rest: &str) -> Option<UserRow> {
    let Rest { password, record, created, changed, disabled } = serde_json::from_str(rest).ok()?;
    Some(UserRow { id, password, record, created, changed, disabled })
}
