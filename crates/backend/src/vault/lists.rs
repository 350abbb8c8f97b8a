use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use throng_hub::{Ban, Timestamp};

use super::Answer;
use super::ledger::{Edit, Ledger, stamp, time};
use super::secrets;

/// A member of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The room.
    pub room: String,
    /// The user.
    pub user: String,
    /// What the member may do there.
    pub rights: String,
}

/// What is kept in memory, as the file has it.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// By room and user.
    members: BTreeMap<(String, String), String>,
    bans: BTreeMap<(String, String), Ban>,
    /// The newest first.
    pub(super) secrets: Vec<[u8; 32]>,
}

impl Lists {
    /// Reads them.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut select = connection.prepare("SELECT room, user, rights FROM members")?;
        let members = select.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
        let members = members.collect::<Result<_, _>>()?;
        let mut select = connection.prepare("SELECT room, user, until, reason FROM bans")?;
        let bans = select.query_map([], |row| {
            let until = row.get::<_, Option<i64>>(2)?.map(|until| Timestamp(time(until)));
            let ban = Ban { room: row.get(0)?, user: row.get(1)?, until, reason: row.get(3)? };
            Ok(((ban.room.clone(), ban.user.clone()), ban))
        })?;
        let bans = bans.collect::<Result<_, _>>()?;
        Ok(Self { members, bans, secrets: secrets::load(connection)? })
    }

    /// Something was committed.
    pub(super) fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Member(place, Some(rights)) => drop(self.members.insert(place, rights)),
            Edit::Member(place, None) => drop(self.members.remove(&place)),
            Edit::Ban(ban) => {
                self.bans.insert((ban.room.clone(), ban.user.clone()), ban);
            }
            Edit::Lifted(place) => drop(self.bans.remove(&place)),
            Edit::Secrets(secrets) => self.secrets = secrets,
        }
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let member = |((room, user), rights): (&(String, String), &String)| Member {
            room: room.clone(),
            user: user.clone(),
            rights: rights.clone(),
        };
        self.members.iter().map(member).collect()
    }

    pub(super) fn bans(&self) -> Vec<Ban> {
        self.bans.values().cloned().collect()
    }
}

impl Ledger<'_> {
    pub(super) fn set_member(
        &mut self,
        room: &str,
        user: &str,
        rights: Option<&str>,
    ) -> rusqlite::Result<Answer<()>> {
        match rights {
            Some(rights) => self
                .connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO members (room, user, rights) VALUES (?1, ?2, ?3)",
                )?
                .execute([room, user, rights])?,
            None => self
                .connection
                .prepare_cached("DELETE FROM members WHERE room = ?1 AND user = ?2")?
                .execute([room, user])?,
        };
        let place = (room.to_owned(), user.to_owned());
        self.tally.edits.push(Edit::Member(place, rights.map(str::to_owned)));
        Ok(Ok(()))
    }

    pub(super) fn set_ban(&mut self, ban: &Ban) -> rusqlite::Result<Answer<()>> {
        let mut put = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO bans (room, user, until, reason) VALUES (?1, ?2, ?3, ?4)",
        )?;
        put.execute(params![ban.room, ban.user, ban.until.map(|it| stamp(it.0)), ban.reason])?;
        self.tally.edits.push(Edit::Ban(ban.clone()));
        Ok(Ok(()))
    }

    pub(super) fn lift_ban(&mut self, room: &str, user: &str) -> rusqlite::Result<Answer<bool>> {
        let mut delete =
            self.connection.prepare_cached("DELETE FROM bans WHERE room = ?1 AND user = ?2")?;
        let removed = delete.execute([room, user])?;
        self.tally.edits.push(Edit::Lifted((room.to_owned(), user.to_owned())));
        Ok(Ok(removed > 0))
    }
}
