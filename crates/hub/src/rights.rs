//! What somebody may do in a room: the one place where it is decided.

use std::collections::HashMap;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::sync::{Arc, PoisonError, RwLock};

use throng_protocol::Timestamp;

use crate::grants::Grants;
use crate::identity::Identity;
use crate::pass::Pass;
use crate::rule::Rule;

/// A set of things that can be done in a room.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// To come in and receive.
    pub const JOIN: Self = Self(1);
    /// To publish.
    pub const SEND: Self = Self(2);
    /// To see who is there.
    pub const PRESENCE: Self = Self(4);
    /// To read what was said before.
    pub const HISTORY: Self = Self(8);
    /// Everything.
    pub const ALL: Self = Self(15);

    /// Whether all of `others` are among them.
    #[inline]
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Those that are not among `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The right of this name: `join`, `send`, `presence`, `history`.
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, right)| *right)
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMED.iter().filter(move |(_, right)| self.has(*right)).map(|(name, _)| *name)
    }
}

const NAMED: [(&str, Rights); 4] = [
    ("join", Rights::JOIN),
    ("send", Rights::SEND),
    ("presence", Rights::PRESENCE),
    ("history", Rights::HISTORY),
];

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl BitOrAssign for Rights {
    fn bitor_assign(&mut self, others: Self) {
        self.0 |= others.0;
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// What somebody may do in one room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    rights: Rights,
    /// Of which types messages must be; none for any.
    types: Option<Arc<Vec<Box<str>>>>,
}

impl Allowed {
    /// Nothing.
    pub const NOTHING: Self = Self { rights: Rights::NONE, types: None };
    /// Everything.
    pub const EVERYTHING: Self = Self { rights: Rights::ALL, types: None };

    /// Whether all these may be done. Of sending: some type at least.
    #[inline]
    pub fn may(&self, rights: Rights) -> bool {
        self.rights.has(rights)
    }

    /// Whether messages of this type may be sent.
    #[inline]
    pub fn may_send(&self, kind: &str) -> bool {
        let typed = || self.types.as_ref().is_none_or(|types| types.iter().any(|t| **t == *kind));
        self.rights.has(Rights::SEND) && typed()
    }

    fn add(&mut self, grants: &Grants, room: &str) {
        for grant in grants.iter().filter(|grant| grant.pattern.matches(room)) {
            let sent = self.rights.has(Rights::SEND);
            self.rights |= grant.rights;
            if !grant.rights.has(Rights::SEND) {
                continue;
            }
            if grant.types.is_empty() {
                self.types = None;
            } else if !sent {
                self.types = Some(Arc::new(grant.types.to_vec()));
            } else if let Some(types) = &mut self.types {
                Arc::make_mut(types).extend(grant.types.iter().cloned());
            }
        }
    }
}

/// Who may do what: grants for everybody, for whoever is signed in, members of rooms, bans.
///
/// | | |
/// |---|---|
/// | the room's rule says there is no such room | nothing |
/// | banned, there or everywhere | nothing |
/// | one's own room, `@me` | everything |
/// | somebody else's, `@you` | to send, if a grant says so |
/// | the rule says `membership` | what the list of members says, and the grants of one's own pass |
/// | any other | the grants for everybody, those for whoever is signed in, those of one's own pass |
///
/// Reading is one short shared lock and one comparison for each grant; nothing is allocated but for
/// grants of single types.
#[derive(Debug, Default)]
pub struct Access {
    anonymous: Grants,
    users: Grants,
    lists: RwLock<Lists>,
}

/// A ban: of a user, from a room or from everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The room; empty for all of them, and the server itself.
    pub room: String,
    /// The user.
    pub user: String,
    /// Until when; for ever without.
    pub until: Option<Timestamp>,
    /// Why, for people.
    pub reason: String,
}

#[derive(Debug, Default)]
struct Lists {
    /// By room and user.
    members: HashMap<Box<str>, HashMap<Box<str>, Rights>>,
    /// By user.
    bans: HashMap<Box<str>, Vec<Ban>>,
}

impl Access {
    /// Everybody may do what `anonymous` grants, whoever is signed in also what `users` grants.
    pub fn new(anonymous: Grants, users: Grants) -> Self {
        Self { anonymous, users, lists: RwLock::default() }
    }

    /// Everybody may do everything, but for the own rooms of others, where they may send.
    pub fn open() -> Self {
        Self::new(Grants::all(), Grants::NONE)
    }

    /// What is open to everybody where nothing else is said: the rooms of the demo ([`DEMO`]).
    pub fn demo() -> Self {
        let grants = Grants::from_words(DEMO).expect("invariant: the demo's rooms are patterns");
        Self::new(grants, Grants::NONE)
    }

    /// What everybody may do.
    pub fn anonymous(&self) -> &Grants {
        &self.anonymous
    }

    /// What somebody may do in a room. `pass`: of whoever is signed in.
    pub fn of(
        &self,
        who: &Identity,
        pass: Option<&Pass>,
        room: &str,
        rule: &Rule,
        now: Timestamp,
    ) -> Allowed {
        if !rule.allow {
            return Allowed::NOTHING;
        }
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        if lists.bans_of(who.user_id(), room, now) {
            return Allowed::NOTHING;
        }
        let owner = room.strip_prefix('@');
        if owner == Some(who.user_id()) {
            return Allowed::EVERYTHING;
        }
        let mut allowed = Allowed::NOTHING;
        if rule.membership {
            let members = lists.members.get(room);
            let rights = members.and_then(|members| members.get(who.user_id()));
            // A name that anybody could have been given proves nothing.
            allowed.rights |= rights.filter(|_| pass.is_some()).copied().unwrap_or_default();
        } else {
            allowed.add(&self.anonymous, room);
            if pass.is_some() {
                allowed.add(&self.users, room);
            }
        }
        if let Some(pass) = pass {
            allowed.add(&pass.grants, room);
        }
        if owner.is_some() {
            allowed.rights.0 &= Rights::SEND.0;
        }
        allowed
    }

    /// Whether a user is banned from everywhere.
    pub fn is_banned(&self, user: &str, now: Timestamp) -> bool {
        self.lists.read().unwrap_or_else(PoisonError::into_inner).bans_of(user, "", now)
    }

    /// Makes somebody a member of a room with these rights, or no member.
    pub fn set_member(&self, room: &str, user: &str, rights: Option<Rights>) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        match rights {
            Some(rights) => {
                lists.members.entry(room.into()).or_default().insert(user.into(), rights);
            }
            None => {
                let Some(members) = lists.members.get_mut(room) else { return };
                members.remove(user);
                if members.is_empty() {
                    lists.members.remove(room);
                }
            }
        }
    }

    /// The members of a room, by user id.
    pub fn members(&self, room: &str) -> Vec<(String, Rights)> {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let members = lists.members.get(room).into_iter().flatten();
        let mut members: Vec<_> =
            members.map(|(user, rights)| (user.to_string(), *rights)).collect();
        members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        members
    }

    /// Bans somebody; a ban of the same user from the same room is replaced.
    pub fn ban(&self, ban: Ban) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let bans = lists.bans.entry(ban.user.as_str().into()).or_default();
        bans.retain(|other| other.room != ban.room);
        bans.push(ban);
    }

    /// Ends a ban. Whether there was one.
    pub fn lift_ban(&self, room: &str, user: &str) -> bool {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let Some(bans) = lists.bans.get_mut(user) else { return false };
        let before = bans.len();
        bans.retain(|ban| ban.room != room);
        let lifted = bans.len() < before;
        if bans.is_empty() {
            lists.bans.remove(user);
        }
        lifted
    }

    /// All bans, by user and room.
    pub fn bans(&self) -> Vec<Ban> {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let mut bans: Vec<Ban> = lists.bans.values().flatten().cloned().collect();
        bans.sort_unstable_by(|a, b| (&a.user, &a.room).cmp(&(&b.user, &b.room)));
        bans
    }

    /// Replaces both lists by what `read` says: members with their rooms, and bans. Nothing changes meanwhile, so
    /// that what is kept and what holds here stay the same.
    pub fn replace(&self, read: impl FnOnce() -> (Vec<(String, String, Rights)>, Vec<Ban>)) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let (members, bans) = read();
        let mut new = Lists::default();
        for (room, user, rights) in members {
            new.members.entry(room.into()).or_default().insert(user.into(), rights);
        }
        for ban in bans {
            new.bans.entry(ban.user.as_str().into()).or_default().push(ban);
        }
        *lists = new;
    }
}

impl Lists {
    fn bans_of(&self, user: &str, room: &str, now: Timestamp) -> bool {
        let holds = |ban: &Ban| {
            (ban.room.is_empty() || ban.room == room) && ban.until.is_none_or(|until| until > now)
        };
        self.bans.get(user).is_some_and(|bans| bans.iter().any(holds))
    }
}

/// The rooms of the demo: its halls, who is typing there, and letters between its anonymous visitors.
pub const DEMO: [&str; 5] = ["lobby", "demo:*", "live:lobby", "live:demo:*", "@u_*=send"];

#[cfg(test)]
mod tests {
    use super::*;

    fn who(user: &str) -> Identity {
        Identity::anonymous(user, "s_1", None)
    }

    fn pass(grants: &str) -> Pass {
        Pass { grants: Grants::from_json(grants).unwrap(), ..Pass::default() }
    }

    const NOW: Timestamp = Timestamp(1000);

    #[test]
    fn nothing_is_open_but_what_is_granted() {
        let access = Access::demo();
        let rule = Rule::default();
        let may = |who: &Identity, pass: Option<&Pass>, room: &str| {
            access.of(who, pass, room, &rule, NOW).rights
        };
        let ada = who("u_ada");
        assert_eq!(may(&ada, None, "lobby"), Rights::ALL);
        assert_eq!(may(&ada, None, "demo:kitchen"), Rights::ALL);
        assert_eq!(may(&ada, None, "orders"), Rights::NONE);
        assert_eq!(may(&ada, None, "@u_ada"), Rights::ALL);
        assert_eq!(may(&ada, None, "@u_bob"), Rights::SEND);
        assert_eq!(may(&ada, None, "@admin"), Rights::NONE);
        let pass = pass(r#"{"orders":["join"],"@admin":["join","send"]}"#);
        assert_eq!(may(&ada, Some(&pass), "orders"), Rights::JOIN);
        assert_eq!(may(&ada, Some(&pass), "@admin"), Rights::SEND);
        let closed = Rule { allow: false, ..Rule::default() };
        assert_eq!(access.of(&ada, None, "lobby", &closed, NOW), Allowed::NOTHING);
    }

    #[test]
    fn types_add_up() {
        let access = Access::new(Grants::from_words(["a=send:chat"]).unwrap(), Grants::NONE);
        let rule = Rule::default();
        let of = |pass: Option<&Pass>| access.of(&who("ada"), pass, "a", &rule, NOW);
        assert!(of(None).may_send("chat") && !of(None).may_send("move"));
        let more = pass(r#"{"a":["send:move"]}"#);
        assert!(of(Some(&more)).may_send("chat") && of(Some(&more)).may_send("move"));
        assert!(!of(Some(&more)).may_send("draw"));
        assert!(of(Some(&pass(r#"{"*":["send"]}"#))).may_send("draw"));
        assert!(!of(Some(&pass(r#"{"a":["join"]}"#))).may_send("draw"));
    }

    #[test]
    fn rooms_with_members_are_for_members() {
        let access = Access::open();
        let rule = Rule { membership: true, ..Rule::default() };
        let signed = pass("{}");
        let may = |pass: Option<&Pass>| access.of(&who("ada"), pass, "club", &rule, NOW).rights;
        assert_eq!(may(Some(&signed)), Rights::NONE);
        access.set_member("club", "ada", Some(Rights::JOIN | Rights::SEND));
        assert_eq!(may(Some(&signed)), Rights::JOIN | Rights::SEND);
        assert_eq!(may(None), Rights::NONE, "an anonymous visitor of that name");
        assert_eq!(may(Some(&pass(r#"{"club":["history"]}"#))).names().count(), 3);
        assert_eq!(access.members("club").len(), 1);
        access.set_member("club", "ada", None);
        assert_eq!(may(Some(&signed)), Rights::NONE);
    }

    #[test]
    fn bans_hold_until_they_end() {
        let access = Access::open();
        let rule = Rule::default();
        let may = |room, now| access.of(&who("ada"), None, room, &rule, Timestamp(now)).rights;
        let ban = |room: &str, until| Ban {
            room: room.into(),
            user: "ada".into(),
            until,
            reason: String::new(),
        };
        access.ban(ban("a", Some(Timestamp(2000))));
        assert_eq!((may("a", 1999), may("a", 2000)), (Rights::NONE, Rights::ALL));
        assert_eq!(may("b", 0), Rights::ALL);
        assert!(!access.is_banned("ada", NOW));
        access.ban(ban("", None));
        assert_eq!((may("b", 0), may("@ada", 0)), (Rights::NONE, Rights::NONE));
        assert!(access.is_banned("ada", NOW));
        assert!(access.lift_ban("", "ada") && !access.lift_ban("", "ada"));
        assert_eq!(access.bans().len(), 1);
    }
}
