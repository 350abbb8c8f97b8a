//! Who comes in: credentials become identities, before the 101 and in `auth`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use throng_backend::{
    Answer, Begun, Directory, NewSession, NewTicket as TicketRow, Redeemed, SessionRow, Vault,
};
use throng_engine::{Front, Refresh, Who};
use throng_hub::{Grants, Identity, Listed, Pass, Timestamp, Unavailable, Via, ids};
use throng_protocol::{Code, Credential, Fault};
use tokio::sync::oneshot;

use crate::credentials::{Authenticate, Denied, Visa, Visit};
use crate::server::Server;
use crate::stats::Refused;

/// What decides who comes in.
pub(crate) struct Gate {
    pub(crate) vault: Vault,
    /// Where sessions of other nodes are.
    pub(crate) directory: Option<Directory>,
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    pub(crate) ticket_ttl: Duration,
    pub(crate) session_ttl: Option<Duration>,
    pub(crate) refused: Refused,
}

/// What a client shows.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) resume: Option<String>,
    pub(crate) ticket: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) name: Option<String>,
}

/// Somebody who may come in.
pub(crate) struct Entrance {
    pub(crate) who: Who,
    pub(crate) pass: Option<Arc<Pass>>,
    /// What is kept of a new session, until it has a connection.
    pub(crate) unclaimed: Option<Unclaimed>,
}

impl Entrance {
    /// The user, if it is known by now.
    pub(crate) fn user_id(&self) -> Option<&str> {
        match &self.who {
            Who::Known(who) | Who::Resumed(who) => Some(who.user_id()),
            _ => None,
        }
    }

    /// Who it is, for rights: whoever is anonymous has no name yet.
    pub(crate) fn identity(&self) -> Identity {
        match &self.who {
            Who::Known(who) | Who::Resumed(who) => who.clone(),
            _ => Identity::anonymous("u_", "", None),
        }
    }
}

/// A new session that is kept but has no connection yet. Dropped, it is over.
pub(crate) struct Unclaimed {
    vault: Vault,
    session: Option<String>,
}

impl Unclaimed {
    fn new(session: &str, vault: &Vault) -> Self {
        Self { vault: vault.clone(), session: Some(session.to_owned()) }
    }

    /// It has a connection.
    pub(crate) fn claim(mut self) {
        self.session = None;
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            self.vault.end(session);
        }
    }
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// `401`
    Unauthorized,
    /// `403`
    Forbidden,
    /// `403`, whatever is wanted.
    Banned,
    /// `503`
    Unavailable,
}

impl Gate {
    /// Says who comes, by what is shown: a session that may be taken up again, else a ticket, else a token, else
    /// nobody in particular. What is shown and not good is never as if nothing had been shown; but for a
    /// resume token, which is only ever out of date.
    pub(crate) async fn admit(
        &self,
        shown: Shown,
        visit: Visit,
        front: &Front,
    ) -> Result<Entrance, Turned> {
        let signs_in = shown.ticket.is_some() || shown.token.is_some();
        if let Some(token) = &shown.resume {
            match self.resumable(token, visit.ip, front).await {
                Ok(Some(entrance)) => return self.unless_banned(entrance, front),
                Ok(None) if signs_in => {}
                Ok(None) => self.refused.resume.add(),
                Err(Unavailable) => return Err(self.unavailable()),
            }
        }
        let entrance = match (shown.ticket, shown.token) {
            (Some(ticket), _) => self.redeem(&ticket, visit.ip, front).await?,
            (None, Some(token)) if hash_of(&token).is_some() => {
                self.redeem(&token, visit.ip, front).await?
            }
            (None, Some(token)) => self.look_at(token, visit, front).await?,
            (None, None) => {
                let who = Who::Anonymous(shown.name);
                return Ok(Entrance { who, pass: None, unclaimed: None });
            }
        };
        self.unless_banned(entrance, front)
    }

    fn unless_banned(&self, entrance: Entrance, front: &Front) -> Result<Entrance, Turned> {
        let banned = |user| front.access().is_banned(user, front.now());
        if entrance.user_id().is_some_and(banned) {
            self.refused.forbidden.add();
            return Err(Turned::Banned);
        }
        Ok(entrance)
    }

    fn unavailable(&self) -> Turned {
        self.refused.unavailable.add();
        Turned::Unavailable
    }

    /// Whose session a token stands for, if it is genuine and the session is connected or may come back.
    /// `ip`: where it is taken up from now.
    pub(crate) async fn resumable(
        &self,
        token: &str,
        ip: Option<IpAddr>,
        front: &Front,
    ) -> Answer<Option<Entrance>> {
        let now = front.now();
        let Some(claim) = front.tokens().read(token, now) else { return Ok(None) };
        let (user, session) = (claim.who.user_id(), claim.who.session_id());
        if let Some(listed) = front.sessions().find(user, session, now) {
            let over = listed.pass.as_ref().is_some_and(|pass| pass.is_over(now));
            let who = Who::Resumed((*listed.who).clone());
            let pass = listed.pass.map(|pass| Arc::new(Pass { ip, ..(*pass).clone() }));
            return Ok((!over).then_some(Entrance { who, pass, unclaimed: None }));
        }
        // Of an earlier run of the server nothing is known but that it ended not long ago.
        let may_come = match &self.directory {
            None => !claim.ours && front.sessions().is_young(now),
            Some(_) => true,
        };
        if !may_come {
            return Ok(None);
        }
        // Both at once: coming back costs one round trip.
        let found = self.directory.as_ref().map(|it| asked(|done| it.find(session, done)));
        let row = claim.signed_in.then(|| asked(|done| self.vault.find(session, done)));
        if let Some(found) = found
            && !found.await.unwrap_or(Err(Unavailable))?
        {
            return Ok(None);
        }
        let Some(row) = row else {
            let who = Who::Resumed(claim.who);
            return Ok(Some(Entrance { who, pass: None, unclaimed: None }));
        };
        let row = row.await.unwrap_or(Err(Unavailable))?;
        let Some(row) = row.filter(|row| row.user == claim.who.user_id()) else { return Ok(None) };
        let SessionRow { user, id, expires, token, via, record, .. } = row;
        let opened = Opened { user: &user, session: &id, ip, now, expires, via: &via, token };
        let made = Record::read(&record).and_then(|record| record.into_session(opened));
        let Some((who, pass)) = made else { return Ok(None) };
        let over = pass.is_over(now);
        let (who, pass) = (Who::Resumed(who), Some(Arc::new(pass)));
        Ok((!over).then_some(Entrance { who, pass, unclaimed: None }))
    }

    /// Keeps a session that is known here, when what was kept of it is lost.
    pub(crate) fn keep_again(&self, listed: &Listed) {
        let Some(pass) = &listed.pass else { return };
        let raw = |text: String| RawValue::from_string(text).ok();
        let record = Record {
            name: listed.who.name().map(str::to_owned),
            info: listed.who.info().map(str::to_owned).and_then(raw),
            rooms: (!pass.grants.is_empty()).then(|| pass.grants.to_json()).and_then(raw),
        };
        let row = SessionRow {
            id: listed.who.session_id().to_owned(),
            user: listed.who.user_id().to_owned(),
            ip: pass.ip,
            started: listed.since.0,
            expires: pass.expires.map(|expires| expires.0),
            issued: Some(pass.opened.0),
            token: pass.token.as_deref().map(str::to_owned),
            via: pass.via.name().to_owned(),
            record: record.write(),
        };
        // What fails is seen by the next comparison of sessions with what is kept.
        self.vault.begin(row, drop);
    }

    async fn redeem(
        &self,
        ticket: &str,
        ip: Option<IpAddr>,
        front: &Front,
    ) -> Result<Entrance, Turned> {
        let now = front.now();
        let Some(hash) = hash_of(ticket) else {
            self.refused.ticket.add();
            return Err(Turned::Unauthorized);
        };
        let id = front.identify(None).session_id().to_owned();
        let session = NewSession { id: id.clone(), started: now.0 };
        let redeemed = ask(|done| self.vault.redeem(hash, ip, now.0, session, done)).await;
        let (user, record, expires, via) = self.redeemed(redeemed)?;
        let opened = Opened { user: &user, session: &id, ip, now, expires, via: &via, token: None };
        let session = Record::read(&record).and_then(|record| record.into_session(opened));
        let Some((who, pass)) = session.filter(|(_, pass)| !pass.is_over(now)) else {
            self.vault.end(&id);
            self.refused.ticket.add();
            return Err(Turned::Unauthorized);
        };
        let unclaimed = Some(Unclaimed::new(&id, &self.vault));
        Ok(Entrance { who: Who::Known(who), pass: Some(Arc::new(pass)), unclaimed })
    }

    /// User, record, end and origin of a ticket that was good.
    fn redeemed(
        &self,
        answer: Answer<Redeemed>,
    ) -> Result<(String, String, Option<u64>, String), Turned> {
        match answer {
            Ok(Redeemed::Admitted { user, record, expires, via }) => {
                Ok((user, record, expires, via))
            }
            Ok(Redeemed::WrongAddress) => {
                self.refused.address.add();
                Err(Turned::Unauthorized)
            }
            Ok(_) => {
                self.refused.ticket.add();
                Err(Turned::Unauthorized)
            }
            Err(Unavailable) => Err(self.unavailable()),
        }
    }

    async fn look_at(
        &self,
        token: String,
        visit: Visit,
        front: &Front,
    ) -> Result<Entrance, Turned> {
        // Before the question: what is revoked while it is under way is revoked.
        let (ip, asked) = (visit.ip, front.now());
        let visa = self.verdict(token, visit).await?;
        let id = front.identify(None).session_id().to_owned();
        let (who, pass) = self.begin(visa, &id, ip, asked).await?;
        let unclaimed = Some(Unclaimed::new(&id, &self.vault));
        Ok(Entrance { who: Who::Known(who), pass: Some(Arc::new(pass)), unclaimed })
    }

    async fn verdict(&self, token: String, visit: Visit) -> Result<Visa, Turned> {
        let Some(authenticate) = &self.authenticate else {
            self.refused.token.add();
            return Err(Turned::Unauthorized);
        };
        authenticate.authenticate(token, visit).await.map_err(|denied| match denied {
            Denied::Unauthorized => {
                self.refused.token.add();
                Turned::Unauthorized
            }
            Denied::Forbidden => {
                self.refused.forbidden.add();
                Turned::Forbidden
            }
            Denied::Unavailable => self.unavailable(),
        })
    }

    /// Keeps a session that a visa opens, unless it was revoked.
    async fn begin(
        &self,
        visa: Visa,
        session: &str,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<(Identity, Pass), Turned> {
        let record = Record::of(&visa);
        let usual = self.session_ttl.map(|ttl| now.0.saturating_add(ttl.as_millis() as u64));
        let expires = visa.expires.or(usual);
        let row = SessionRow {
            id: session.to_owned(),
            user: visa.user_id.clone(),
            ip,
            started: now.0,
            expires,
            // What a webhook says, it says of when it was asked.
            issued: if visa.via == Via::Webhook { Some(now.0) } else { visa.issued },
            token: visa.token_id.clone(),
            via: visa.via.name().to_owned(),
            record: record.write(),
        };
        let opened = Opened {
            user: &visa.user_id,
            session,
            ip,
            now,
            expires,
            via: visa.via.name(),
            token: visa.token_id.clone(),
        };
        let made = record.into_session(opened);
        let Some((who, pass)) = made.filter(|(_, pass)| !pass.is_over(now)) else {
            self.refused.token.add();
            return Err(Turned::Unauthorized);
        };
        match ask(|done| self.vault.begin(row, done)).await {
            Ok(Begun::Yes) => Ok((who, pass)),
            Ok(_) => {
                self.refused.revoked.add();
                Err(Turned::Unauthorized)
            }
            Err(Unavailable) => Err(self.unavailable()),
        }
    }

    /// Another credential for a session that goes on: of the same user only.
    pub(crate) async fn refresh(
        &self,
        refresh: &Refresh,
        front: &Front,
    ) -> Result<Arc<Pass>, Fault> {
        let (user, session) = (refresh.who.user_id(), refresh.who.session_id());
        let (ip, now) = (refresh.pass.ip, front.now());
        let pass = match &refresh.credential {
            Credential::Ticket(shown) | Credential::Token(shown)
                if matches!(refresh.credential, Credential::Ticket(_))
                    || hash_of(shown).is_some() =>
            {
                let hash = hash_of(shown).ok_or_else(|| fault(Turned::Unauthorized))?;
                let renewed = ask(|done| self.vault.renew(hash, ip, now.0, session, user, done));
                let (_, record, expires, via) = self.redeemed(renewed.await).map_err(fault)?;
                let opened = Opened { user, session, ip, now, expires, via: &via, token: None };
                Record::read(&record).and_then(|record| record.into_session(opened))
            }
            Credential::Ticket(token) | Credential::Token(token) => {
                let visit = Visit { ip, path: "auth".into(), ..Visit::default() };
                let visa = self.verdict(token.to_string(), visit).await.map_err(fault)?;
                if visa.user_id != user {
                    self.refused.token.add();
                    return Err(fault(Turned::Unauthorized));
                }
                let begun = self.begin(visa, session, ip, now).await.map_err(fault)?;
                // Revoked while the token was looked at: what was kept just now must not revive it.
                if front.sessions().find(user, session, front.now()).is_none() {
                    self.vault.end(session);
                    return Err(fault(Turned::Unauthorized));
                }
                Some(begun)
            }
        };
        let pass = pass.map(|(_, pass)| pass).filter(|pass| !pass.is_over(now));
        pass.map(Arc::new).ok_or_else(|| fault(Turned::Unauthorized))
    }
}

/// The same as an error of the protocol.
pub(crate) fn fault(turned: Turned) -> Fault {
    Fault::new(match turned {
        Turned::Unauthorized => Code::Unauthorized,
        Turned::Forbidden | Turned::Banned => Code::Forbidden,
        Turned::Unavailable => Code::Unavailable,
    })
}

/// What a ticket is known by; `None` for what cannot be one.
fn hash_of(ticket: &str) -> Option<[u8; 32]> {
    let letters = ticket.strip_prefix("t_")?;
    let sound = letters.len() == 32 && letters.bytes().all(|byte| byte.is_ascii_alphanumeric());
    sound.then(|| Sha256::digest(ticket.as_bytes()).into())
}

/// Asks the vault or the directory, and waits.
pub(crate) async fn ask<T: Send + 'static>(
    question: impl FnOnce(Box<dyn FnOnce(Answer<T>) + Send>),
) -> Answer<T> {
    asked(question).await.unwrap_or(Err(Unavailable))
}

/// Asks at once, to wait later.
fn asked<T: Send + 'static>(
    question: impl FnOnce(Box<dyn FnOnce(Answer<T>) + Send>),
) -> oneshot::Receiver<Answer<T>> {
    let (told, tells) = oneshot::channel();
    question(Box::new(move |answer| {
        let _ = told.send(answer);
    }));
    tells
}

/// What is kept of a ticket, and of the session it opens.
#[derive(Deserialize, Serialize)]
struct Record {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rooms: Option<Box<RawValue>>,
}

/// What is kept of a session beside its [`Record`].
struct Opened<'a> {
    user: &'a str,
    session: &'a str,
    ip: Option<IpAddr>,
    now: Timestamp,
    expires: Option<u64>,
    via: &'a str,
    token: Option<String>,
}

impl Record {
    fn of(visa: &Visa) -> Self {
        let raw = |text: String| RawValue::from_string(text).ok();
        Self {
            name: visa.name.clone(),
            info: visa.info.clone().and_then(raw),
            rooms: (!visa.grants.is_empty()).then(|| visa.grants.to_json()).and_then(raw),
        }
    }

    fn write(&self) -> String {
        serde_json::to_string(self).expect("invariant: names and numbers can be written")
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn into_session(self, opened: Opened<'_>) -> Option<(Identity, Pass)> {
        let Opened { user, session, ip, now, expires, via, token } = opened;
        let name = self.name.as_deref().and_then(throng_protocol::names::display_name);
        let shown = name.as_ref().map(|name| serde_json::json!({ "name": name }).to_string());
        let info = self.info.as_ref().map(|info| info.get()).or(shown.as_deref());
        let who = Identity::known(user, session, name.as_deref(), info).ok()?;
        let grants = match &self.rooms {
            Some(rooms) => Grants::from_json(rooms.get()).ok()?,
            None => Grants::NONE,
        };
        let pass = Pass {
            grants,
            expires: expires.map(Timestamp),
            opened: now,
            via: Via::named(via)?,
            ip,
            token: token.map(String::into_boxed_str),
        };
        Some((who, pass))
    }
}

/// A ticket to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTicket {
    /// For whom: 1 to 127 characters of `A-Z a-z 0-9 _ . : @ / -`.
    pub user_id: String,
    /// What the user is called. Becomes `info.name` where there is no `info`.
    pub name: Option<String>,
    /// What others see of the user, as JSON; at most 4 KiB.
    pub info: Option<String>,
    /// Rights beside those that every signed-in user has.
    pub grants: Grants,
    /// The only address it may be used from.
    pub ip: Option<IpAddr>,
    /// How long it may be used; [`Builder::ticket_ttl`](crate::Builder::ticket_ttl) without.
    pub ttl: Option<Duration>,
    /// How long from now on the session lasts that it opens; [`Builder::session_ttl`](crate::Builder::session_ttl)
    /// without; zero for as long as its connections.
    pub session_ttl: Option<Duration>,
    /// Who makes it.
    pub via: Via,
}

/// A ticket: good for one handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The secret.
    pub ticket: String,
    /// Until when it may be used, in milliseconds since 1970.
    pub expires_at: u64,
}

impl std::fmt::Debug for Ticket {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a ticket, which opens one session: `?ticket=` or the subprotocol `ticket.<value>` in the
    /// handshake. Only its hash is kept.
    ///
    /// # Errors
    /// `bad_message` for a user, info or name that cannot be, or a lifetime beyond 24 h (of the ticket) or a year
    /// (of the session); `forbidden` for a user who is banned; `unavailable`.
    pub async fn issue_ticket(&self, new: NewTicket) -> Result<Ticket, Fault> {
        let gate = &self.inner.gate;
        let front = self.inner.desk.front();
        let now = front.now();
        let bad = |text: String| Fault::new(Code::BadMessage).with_message(text);
        let ttl = new.ttl.unwrap_or(gate.ticket_ttl);
        let session_ttl = new.session_ttl.or(gate.session_ttl).filter(|ttl| !ttl.is_zero());
        if ttl.is_zero() || ttl > MAX_TICKET {
            return Err(bad("A ticket lasts more than nothing and at most 24 hours.".into()));
        }
        if session_ttl.is_some_and(|ttl| ttl > MAX_SESSION) {
            return Err(bad("A session lasts at most a year.".into()));
        }
        let after = |time: Duration| now.0.saturating_add(time.as_millis() as u64);
        let visa = Visa {
            user_id: new.user_id,
            name: new.name,
            info: new.info,
            grants: new.grants,
            expires: session_ttl.map(after),
            issued: Some(now.0),
            token_id: None,
            via: new.via,
        };
        if visa.info.as_deref().is_some_and(|info| !throng_protocol::is_value(info)) {
            return Err(bad("The info of a user must be one JSON value.".into()));
        }
        Identity::known(&visa.user_id, "s", None, visa.info.as_deref())
            .map_err(|error| bad(format!("Not a ticket: {error}.")))?;
        if front.access().is_banned(&visa.user_id, now) {
            return Err(Fault::new(Code::Forbidden).with_message("This user is banned."));
        }
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(|_| Fault::new(Code::Internal))?;
        let ticket = ids::ticket(random);
        let row = TicketRow {
            hash: Sha256::digest(ticket.as_bytes()).into(),
            record: Record::of(&visa).write(),
            user: visa.user_id,
            ip: new.ip.map(|ip| ip.to_canonical()),
            expires: after(ttl),
            session_ttl: session_ttl.map(|ttl| ttl.as_millis() as u64),
            via: new.via.name().to_owned(),
        };
        let issued = ask(|done| gate.vault.issue(row, done)).await;
        issued.map_err(|Unavailable| Fault::new(Code::Unavailable))?;
        Ok(Ticket { ticket, expires_at: after(ttl) })
    }
}

const MAX_TICKET: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_SESSION: Duration = Duration::from_secs(366 * 24 * 60 * 60);
