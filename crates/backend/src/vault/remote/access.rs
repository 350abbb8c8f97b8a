use std::net::IpAddr;
use std::sync::Arc;

use redis::Value;
use throng_hub::Unavailable;

use super::super::ledger::address;
use super::super::{Answer, Begun, NewSession, NewTicket, Redeemed, SessionRow};
use super::held::Step;
use super::pages::Pages;
use super::text::{Args, hex, left, list, nonce, number, some, text};
use super::{Core, Shared, script};

/// Tickets, sessions, and their end.
impl Shared {
    pub(in super::super) fn issue(
        &self,
        ticket: &NewTicket,
        done: impl FnOnce(Answer<()>) + Send + 'static,
    ) {
        let NewTicket { hash, user, ip, expires, session_ttl, via, record } = ticket;
        let args = Args::new().text(&hex(hash)).text(user).text(&shown(*ip)).number(left(*expires));
        let args = args.maybe_number(*session_ttl).text(via).text(record);
        let read = |_: &Arc<Core>, told: Value| match number(&told)? {
            0 => Some(Err(Unavailable)),
            _ => Some(Ok(())),
        };
        self.ask(&script::ISSUE, args, read, done);
    }

    pub(in super::super) fn redeem(
        &self,
        hash: &[u8; 32],
        ip: Option<IpAddr>,
        now: u64,
        session: &NewSession,
        done: impl FnOnce(Answer<Redeemed>) + Send + 'static,
    ) {
        let args = Args::new().text(&hex(hash)).text(&shown(ip)).number(now);
        let args = args.text(&session.id).number(session.started).text(&self.core.run);
        self.ask(&script::REDEEM, self.with_replicas(args), |_, told| redeemed(told), done);
    }

    pub(in super::super) fn renew(
        &self,
        hash: &[u8; 32],
        ip: Option<IpAddr>,
        now: u64,
        session_id: &str,
        user: &str,
        done: impl FnOnce(Answer<Redeemed>) + Send + 'static,
    ) {
        let args = Args::new().text(&hex(hash)).text(&shown(ip)).number(now);
        let args = args.text(session_id).text(user).text(&self.core.run);
        self.ask(&script::RENEW, self.with_replicas(args), |_, told| redeemed(told), done);
    }

    pub(in super::super) fn begin(
        &self,
        session: &SessionRow,
        done: impl FnOnce(Answer<Begun>) + Send + 'static,
    ) {
        let SessionRow { id, user, ip, started, expires, issued, token, via, record } = session;
        let args = Args::new().text(id).text(user).text(&shown(*ip)).number(*started);
        let args = args.maybe_number(*expires).maybe_number(expires.map(left));
        let args = args.maybe_number(*issued).maybe(token.as_deref());
        let args = args.text(via).text(record).text(&self.core.run);
        let read = |_: &Arc<Core>, told: Value| match number(&told)? {
            0 => Some(Ok(Begun::Revoked)),
            _ => Some(Ok(Begun::Yes)),
        };
        self.ask(&script::BEGIN, args, read, done);
    }

    pub(in super::super) fn find(
        &self,
        session_id: &str,
        done: impl FnOnce(Answer<Option<SessionRow>>) + Send + 'static,
    ) {
        let args = Args::new().text(session_id).text(&self.core.run);
        let read = |_: &Arc<Core>, told: Value| match told {
            Value::Nil => Some(Ok(None)),
            told => Some(Ok(Some(row(told)?))),
        };
        self.ask(&script::FIND, args, read, done);
    }

    pub(in super::super) fn end(&self, session_id: &str) {
        if !self.core.closed.load(std::sync::atomic::Ordering::SeqCst) {
            self.core.end(vec![session_id.into()]);
        }
    }

    pub(in super::super) fn check(
        &self,
        ids: Vec<Box<str>>,
        done: impl FnOnce(Answer<Vec<Box<str>>>) + Send + 'static,
    ) {
        let args = ids.iter().fold(Args::new(), |args, id| args.text(id));
        let read = move |_: &Arc<Core>, told: Value| {
            let gone = list(told)?.into_iter().map(|at| {
                let at = usize::try_from(number(&at)?).ok()?;
                ids.get(at).cloned()
            });
            gone.collect::<Option<Vec<_>>>().map(Ok)
        };
        self.ask(&script::CHECK, args, read, done);
    }

    pub(in super::super) fn sessions(
        &self,
        user: Option<&str>,
        after: &str,
        limit: usize,
        done: impl FnOnce(Answer<Vec<SessionRow>>) + Send + 'static,
    ) {
        let pages = Pages {
            script: &script::SESSIONS,
            of: Args::new().maybe(user),
            rows: |told| list(told)?.into_iter().map(row).collect(),
            id: |session: &SessionRow| &session.id,
        };
        pages.read(&self.core, after, limit, done);
    }

    pub(in super::super) fn revoke_session(
        &self,
        id: &str,
        done: impl FnOnce(Answer<bool>) + Send + 'static,
    ) {
        let args = self.signed(Args::new().text(id));
        self.change(
            &script::REVOKE_SESSION,
            args,
            |core, told| core.revoked(told).map(|n| Ok(n > 0)),
            done,
        );
    }

    pub(in super::super) fn revoke_user(
        &self,
        user: &str,
        now: u64,
        done: impl FnOnce(Answer<usize>) + Send + 'static,
    ) {
        let args = self.signed(Args::new().text(user).number(now));
        self.change(&script::REVOKE_USER, args, |core, told| core.revoked(told).map(Ok), done);
    }

    pub(in super::super) fn revoke_token(
        &self,
        token: &str,
        until: u64,
        done: impl FnOnce(Answer<()>) + Send + 'static,
    ) {
        let args = self.signed(Args::new().text(token).number(left(until)));
        self.change(
            &script::REVOKE_TOKEN,
            args,
            |core, told| core.revoked(told).map(|_| Ok(())),
            done,
        );
    }

    /// Who changes something, and what the version is behind it.
    pub(super) fn signed(&self, args: Args) -> Args {
        args.text(&self.core.run).text(&nonce())
    }
}

impl Core {
    /// The number of what was revoked. Without versions nothing was.
    pub(super) fn revoked(&self, told: Value) -> Option<usize> {
        let mut told = list(told)?.into_iter();
        let count = usize::try_from(number(&told.next()?)?).ok()?;
        if let Some(versions) = told.next() {
            let step = step(versions)?;
            super::lock(&self.held).revoked(step);
        }
        Some(count)
    }
}

pub(super) fn step(versions: Value) -> Option<Step> {
    let [before, after] = some(versions)?;
    Some((text(before)?, text(after)?))
}

fn redeemed(told: Value) -> Option<Answer<Redeemed>> {
    let mut told = list(told)?.into_iter();
    Some(Ok(match &*text(told.next()?)? {
        "unknown" => Redeemed::Unknown,
        "address" => Redeemed::WrongAddress,
        "taken" => return Some(Err(Unavailable)), // the id; the ticket stays
        "admitted" => {
            let (user, record) = (text(told.next()?)?, text(told.next()?)?);
            let expires = text(told.next()?)?;
            let expires = (!expires.is_empty()).then(|| expires.parse()).transpose().ok()?;
            Redeemed::Admitted { user, record, expires, via: text(told.next()?)? }
        }
        _ => return None,
    }))
}

fn row(told: Value) -> Option<SessionRow> {
    let [id, user, ip, started, expires, issued, token, via, record] = some(told)?;
    let maybe = |value: Value| match value {
        Value::Nil => Some(None),
        value => text(value).map(Some),
    };
    let time = |value: Value| match maybe(value)? {
        None => Some(None),
        Some(time) => time.parse().ok().map(Some),
    };
    Some(SessionRow {
        id: text(id)?,
        user: text(user)?,
        ip: maybe(ip)?.and_then(|ip| ip.parse().ok()),
        started: time(started)??,
        expires: time(expires)?,
        issued: time(issued)?,
        token: maybe(token)?,
        via: text(via)?,
        record: text(record)?,
    })
}

/// An address in one way only; empty for none.
fn shown(ip: Option<IpAddr>) -> String {
    ip.map(address).unwrap_or_default()
}
