//! Sessions, members and bans, for whoever runs the server.

use std::net::IpAddr;
use std::time::Duration;

use throng_hub::{Ban, Listed, Rights, Timestamp, Unavailable};
use throng_protocol::{Code, Fault, names};
use throng_wire::CloseCode;

use crate::cluster::Told;
use crate::gate::ask;
use crate::keeper::SIGNED_OUT;
use crate::server::Server;

/// A session at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its id; no secret.
    pub session_id: String,
    /// Its user.
    pub user_id: String,
    /// What the user is called.
    pub name: Option<String>,
    /// What it was opened with: `ticket`, `token`, `webhook`, `login`; none of anonymous visitors.
    pub via: Option<&'static str>,
    /// Where it was opened from; not of anonymous visitors.
    pub ip: Option<IpAddr>,
    /// When it began, or was taken up after a restart, in milliseconds since 1970.
    pub started: u64,
    /// When it ends by itself, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// Whether it is connected; else its connection was lost, and it may come back.
    pub is_connected: bool,
}

impl Server {
    /// Sessions of one user, or of all, by their id, from behind `after` on. Of all it looks at every one: for
    /// people.
    pub fn sessions(
        &self,
        user: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<SessionInfo> {
        let front = self.inner.desk.front();
        let behind = |listed: &Listed| {
            !listed.is_over && after.is_none_or(|after| listed.who.session_id() > after)
        };
        let mut listed = front.sessions().list(user, front.now(), behind);
        listed.sort_unstable_by(|a, b| a.who.session_id().cmp(b.who.session_id()));
        listed.truncate(limit);
        listed.iter().map(SessionInfo::of).collect()
    }

    /// Ends a session at once, connected or not, on whichever node: `4401`. Whether there was one.
    ///
    /// # Errors
    /// `unavailable` when that cannot be kept: then the session has ended here, but might come back after
    /// a restart, or on another node.
    pub async fn revoke_session(&self, id: &str) -> Result<bool, Fault> {
        let found = self.end_session(id);
        let mut is_elsewhere = false;
        if let Some(cluster) = self.inner.cluster.as_ref().filter(|_| found == 0) {
            is_elsewhere = ask(|done| cluster.directory.find(id, done)).await.unwrap_or(false);
        }
        self.tell(|| Told::RevokeSession { session: id.to_owned() });
        if let Some(cluster) = &self.inner.cluster {
            cluster.directory.end(id);
        }
        let kept = ask(|done| self.vault().revoke_session(id, done)).await;
        Ok(kept.map_err(unavailable)? || found > 0 || is_elsewhere)
    }

    /// Ends a session here; how many that were.
    pub(crate) fn end_session(&self, id: &str) -> usize {
        let front = self.inner.desk.front();
        front.sessions().refuse_session(id, front.now());
        let found = front.sessions().list(None, front.now(), |l| l.who.session_id() == id);
        found.iter().for_each(|listed| self.end(listed));
        found.len()
    }

    /// Ends all sessions of a user who is signed in, and makes tickets and tokens of up to now worthless. How many
    /// sessions that were.
    ///
    /// # Errors
    /// `unavailable`, as [`Server::revoke_session`].
    pub async fn revoke_user(&self, user: &str) -> Result<usize, Fault> {
        let front = self.inner.desk.front();
        let now = front.now();
        // First what is kept, so that nothing slips in between.
        let kept = ask(|done| self.vault().revoke_user(user, now.0, done)).await;
        let ended = self.end_user(user);
        self.tell(|| Told::RevokeUser { user: user.to_owned() });
        // Times are in milliseconds: what is shown from here on is not of the one in which that happened.
        let revoked = front.now();
        while front.now() <= revoked {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(kept.map_err(unavailable)?.max(ended))
    }

    /// Ends the signed-in sessions of a user here; how many were connected.
    pub(crate) fn end_user(&self, user: &str) -> usize {
        let front = self.inner.desk.front();
        let places = front.sessions().revoke_all(user, front.now());
        for place in &places {
            self.inner.gate.refused.ended.add();
            front.close(*place, SIGNED_OUT, "session revoked");
        }
        places.len()
    }

    /// Makes a token worthless by its id (`jti`), until a time in milliseconds since 1970 when it is out of date
    /// anyway, and ends its sessions.
    ///
    /// # Errors
    /// `unavailable`, as [`Server::revoke_session`].
    pub async fn revoke_token(&self, id: &str, until: u64) -> Result<(), Fault> {
        let front = self.inner.desk.front();
        front.sessions().refuse_token(id, front.now());
        let kept = ask(|done| self.vault().revoke_token(id, until, done)).await;
        self.end_token(id);
        self.tell(|| Told::RevokeToken { token: id.to_owned() });
        kept.map_err(unavailable)
    }

    /// Ends the sessions here that a token has opened.
    pub(crate) fn end_token(&self, id: &str) {
        let front = self.inner.desk.front();
        front.sessions().refuse_token(id, front.now());
        let of_it = |listed: &Listed| {
            listed.pass.as_ref().and_then(|pass| pass.token.as_deref()) == Some(id)
        };
        for listed in &front.sessions().list(None, front.now(), of_it) {
            self.end(listed);
        }
    }

    fn end(&self, listed: &Listed) {
        let front = self.inner.desk.front();
        let (user, session) = (listed.who.user_id(), listed.who.session_id());
        self.inner.gate.refused.ended.add();
        if let Some(place) = front.sessions().revoke(user, session, front.now()) {
            front.close(place, SIGNED_OUT, "session revoked");
        }
    }

    /// The members of a room, by user id.
    pub fn members(&self, room: &str) -> Vec<(String, Rights)> {
        self.inner.access.members(room)
    }

    /// Makes somebody a member of a room with these rights, or no member. Holds at once, also for whoever is there.
    ///
    /// # Errors
    /// `bad_message` for names that cannot be; `unavailable`: nothing has changed then.
    pub async fn set_member(
        &self,
        room: &str,
        user: &str,
        rights: Option<Rights>,
    ) -> Result<(), Fault> {
        check(Some(room), user)?;
        let words = rights.map(|rights| rights.names().collect::<Vec<_>>().join(","));
        let kept = ask(|done| self.vault().set_member(room, user, words.clone(), done)).await;
        kept.map_err(unavailable)?;
        self.inner.access.set_member(room, user, rights);
        self.review(user);
        self.tell(|| Told::Member { room: room.to_owned(), user: user.to_owned(), rights: words });
        Ok(())
    }

    /// Takes a user out of a room; nothing keeps the user from coming back. How many connections that were, of all
    /// that the user has on this node.
    pub fn kick(&self, room: &str, user: &str) -> usize {
        self.tell(|| Told::Kick { room: room.to_owned(), user: user.to_owned() });
        self.evict(room, user)
    }

    /// Takes a user out of a room here.
    pub(crate) fn evict(&self, room: &str, user: &str) -> usize {
        let front = self.inner.desk.front();
        let places = front.sessions().places(user);
        places.iter().for_each(|place| front.evict(*place, room));
        places.len()
    }

    /// Bans a user from a room, or from the server: at once, until a time in milliseconds since 1970 or for ever.
    ///
    /// # Errors
    /// `bad_message` for names that cannot be; `unavailable`: nothing has changed then.
    pub async fn ban(
        &self,
        room: Option<&str>,
        user: &str,
        until: Option<u64>,
        reason: &str,
    ) -> Result<(), Fault> {
        check(room, user)?;
        let until = until.map(Timestamp);
        let room = room.unwrap_or("").to_owned();
        let ban = Ban { room, user: user.to_owned(), until, reason: reason.to_owned() };
        let kept = ask(|done| self.vault().set_ban(ban.clone(), done)).await;
        kept.map_err(unavailable)?;
        self.tell(|| {
            let Ban { room, user, until, reason } = ban.clone();
            Told::Ban { room, user, until: until.map(|until| until.0), reason }
        });
        self.shut_out(ban);
        Ok(())
    }

    /// Puts a ban into force here.
    pub(crate) fn shut_out(&self, ban: Ban) {
        let (user, is_everywhere) = (ban.user.clone(), ban.room.is_empty());
        self.inner.access.ban(ban);
        if is_everywhere {
            self.inner.desk.front().disconnect(&user, FORBIDDEN, "banned");
        } else {
            self.review(&user);
        }
    }

    /// Ends a ban. Whether there was one.
    ///
    /// # Errors
    /// `unavailable`: nothing has changed then.
    pub async fn lift_ban(&self, room: Option<&str>, user: &str) -> Result<bool, Fault> {
        let room = room.unwrap_or("");
        let kept = ask(|done| self.vault().lift_ban(room, user, done)).await;
        let kept = kept.map_err(unavailable)?;
        let lifted = self.inner.access.lift_ban(room, user);
        self.tell(|| Told::LiftBan { room: room.to_owned(), user: user.to_owned() });
        self.review(user);
        Ok(kept || lifted)
    }

    /// All bans, by user and room.
    pub fn bans(&self) -> Vec<Ban> {
        self.inner.access.bans()
    }

    /// Has the connections of a user look again at what they may do.
    pub(crate) fn review(&self, user: &str) {
        let front = self.inner.desk.front();
        front.sessions().places(user).into_iter().for_each(|place| front.review(place));
    }
}

impl SessionInfo {
    fn of(listed: &Listed) -> Self {
        let (who, pass) = (&listed.who, listed.pass.as_ref());
        Self {
            session_id: who.session_id().to_owned(),
            user_id: who.user_id().to_owned(),
            name: who.name().map(str::to_owned),
            via: pass.map(|pass| pass.via.name()),
            ip: pass.and_then(|pass| pass.ip),
            started: listed.since.0,
            expires: pass.and_then(|pass| pass.expires).map(|expires| expires.0),
            is_connected: listed.place.is_some(),
        }
    }
}

fn check(room: Option<&str>, user: &str) -> Result<(), Fault> {
    let bad = |text| Err(Fault::new(Code::BadMessage).with_message(text));
    if room.is_some_and(|room| !names::is_room(room)) {
        return bad("No room can have this name.");
    }
    if !names::is_user(user) {
        return bad("No user can have this id.");
    }
    Ok(())
}

fn unavailable(_: Unavailable) -> Fault {
    Fault::new(Code::Unavailable)
}

/// The close code of somebody who is sent away.
pub(crate) const FORBIDDEN: CloseCode = match CloseCode::new(4403) {
    Some(code) => code,
    None => CloseCode::INTERNAL, // not reached: it may travel
};
