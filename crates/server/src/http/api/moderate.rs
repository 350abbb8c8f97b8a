//! Who is in a room and who is not: members, kicks, bans; and bans from the whole server.

use std::borrow::Cow;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use throng::{Code, Rights};

use super::super::answer::{Problem, json};
use super::{Call, LONGEST_REASON, Listed, now, object, room, user};

impl Call<'_> {
    pub(super) fn list_members(&self) -> Result<Response, Problem> {
        let (after, limit) = self.which()?;
        let members = self.http.server.members(room(self.found.name())?).into_iter();
        let wanted = members.filter(|(user, _)| after.as_ref().is_none_or(|after| user > after));
        let members = wanted.take(limit + 1).map(Member::from).collect();
        Ok(Listed::new("members", members, limit, |member: &Member| &member.user_id).response())
    }

    pub(super) async fn set_member(&self, text: &Bytes) -> Result<Response, Problem> {
        let (room, user) = (room(self.found.name())?, user(self.found.second())?);
        let expected = "an object with `rights`, a list of join, send, presence, history, or {}";
        let wanted: WantedMember<'_> = match text.is_empty() {
            true => WantedMember::default(),
            false => object(text, expected)?,
        };
        let rights = match wanted.rights {
            None => Some(Rights::ALL),
            Some(words) => {
                words.iter().try_fold(Rights::NONE, |all, word| Some(all | Rights::named(word)?))
            }
        };
        let rights = rights.filter(|rights| *rights != Rights::NONE).ok_or_else(|| {
            let text = "`rights` are some of join, send, presence and history.";
            Problem::new(Code::BadMessage, text)
        })?;
        self.http.server.set_member(room, user, Some(rights)).await?;
        Ok(json(StatusCode::OK, &Member::from((user.to_owned(), rights))))
    }

    pub(super) async fn remove_member(&self) -> Result<Response, Problem> {
        let (room, user) = (room(self.found.name())?, user(self.found.second())?);
        let was_one = self.http.server.members(room).iter().any(|(member, _)| member == user);
        self.http.server.set_member(room, user, None).await?;
        Ok(json(StatusCode::OK, &Removed { removed: usize::from(was_one) }))
    }

    pub(super) fn kick(&self, text: &Bytes) -> Result<Response, Problem> {
        let room = room(self.found.name())?;
        let wanted: Kick<'_> = object(text, "an object with `user`, the id of one")?;
        let kicked = self.http.server.kick(room, user(&wanted.user)?);
        Ok(json(StatusCode::OK, &Kicked { kicked }))
    }

    /// Bans from the room, or from the whole server.
    pub(super) fn list_bans(&self, of: Option<&str>) -> Result<Response, Problem> {
        let (after, limit) = self.which()?;
        let of = of.map(room).transpose()?.unwrap_or("");
        let mut bans = self.http.server.bans();
        bans.retain(|ban| {
            let is_over = ban.until.is_some_and(|until| until.0 <= now());
            ban.room == of && !is_over && after.as_ref().is_none_or(|after| ban.user > *after)
        });
        bans.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        bans.truncate(limit + 1);
        let bans = bans.into_iter().map(Ban::from).collect();
        Ok(Listed::new("bans", bans, limit, |ban: &Ban| &ban.user).response())
    }

    pub(super) async fn ban(&self, of: Option<&str>, text: &Bytes) -> Result<Response, Problem> {
        let of = of.map(room).transpose()?;
        let expected = "an object with `user`, and perhaps `until`, a time in milliseconds, and \
                        `reason`, a string, and nothing else";
        let wanted: WantedBan<'_> = object(text, expected)?;
        let (user, reason) = (user(&wanted.user)?, wanted.reason.unwrap_or_default());
        if reason.len() > LONGEST_REASON {
            let text = "`reason` may have at most 123 bytes.";
            return Err(Problem::new(Code::BadMessage, text));
        }
        if wanted.until.is_some_and(|until| until <= now()) {
            return Err(Problem::new(Code::BadMessage, "`until` is over."));
        }
        self.http.server.ban(of, user, wanted.until, &reason).await?;
        let room = of.map(str::to_owned);
        let (user, reason) = (user.to_owned(), reason.into_owned());
        Ok(json(StatusCode::OK, &Ban { user, room, until: wanted.until, reason }))
    }

    pub(super) async fn lift_ban(
        &self,
        of: Option<&str>,
        banned: &str,
    ) -> Result<Response, Problem> {
        let of = of.map(room).transpose()?;
        let lifted = self.http.server.lift_ban(of, user(banned)?).await?;
        Ok(json(StatusCode::OK, &Lifted { lifted: usize::from(lifted) }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    user_id: String,
    rights: Vec<&'static str>,
}

impl From<(String, Rights)> for Member {
    fn from((user_id, rights): (String, Rights)) -> Self {
        Self { user_id, rights: rights.names().collect() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedMember<'a> {
    #[serde(borrow)]
    rights: Option<Vec<Cow<'a, str>>>,
}

#[derive(Serialize)]
struct Removed {
    removed: usize,
}

#[derive(Deserialize)]
struct Kick<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
}

#[derive(Serialize)]
struct Kicked {
    kicked: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedBan<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    until: Option<u64>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Ban {
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    reason: String,
}

impl From<throng::Ban> for Ban {
    fn from(ban: throng::Ban) -> Self {
        let room = Some(ban.room).filter(|room| !room.is_empty());
        Self { user: ban.user, room, until: ban.until.map(|until| until.0), reason: ban.reason }
    }
}

#[derive(Serialize)]
struct Lifted {
    lifted: usize,
}
