//! What somebody may do in a room: the one place where it is decided.

use std::collections::HashMap;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value};
use throng_protocol::{Timestamp, names};

use crate::identity::Identity;
use crate::pass::Pass;
use crate::rule::{Pattern, Rule};

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

/// Rights in the rooms of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Of which rooms.
    pub pattern: Pattern,
    /// What may be done there.
    pub rights: Rights,
    /// Of which types the messages must be that may be sent; empty for any.
    pub types: Box<[Box<str>]>,
}

/// Rights in rooms by the pattern of their name; what several grants give adds up. Cheap to clone.
///
/// As JSON, in tickets and tokens: `{"news:*":["join","history"],"chat:7":["join","send:chat"]}`. As words,
/// in the configuration: `lobby` (everything), `news:*=join,history`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Option<Arc<[Grant]>>);

impl Grants {
    /// No rights anywhere.
    pub const NONE: Self = Self(None);

    /// These.
    pub fn new(grants: impl IntoIterator<Item = Grant>) -> Self {
        let grants: Arc<[Grant]> = grants.into_iter().collect();
        Self((!grants.is_empty()).then_some(grants))
    }

    /// Everything everywhere.
    pub fn all() -> Self {
        let types = Box::default();
        Self::new([Grant { pattern: Pattern::new("*"), rights: Rights::ALL, types }])
    }

    /// From a JSON object: patterns, each with a list of rights.
    ///
    /// # Errors
    /// [`GrantsError`]: nothing of it holds then.
    pub fn from_json(text: &str) -> Result<Self, GrantsError> {
        if text.len() > MAX_TEXT {
            return Err(GrantsError::TooMany);
        }
        let listed: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| GrantsError::Shape)?;
        let grants = listed.iter().map(|(pattern, rights)| {
            let rights = rights.as_array().ok_or(GrantsError::Shape)?;
            let rights = rights.iter().map(|right| right.as_str().ok_or(GrantsError::Shape));
            Grant::read(pattern, rights)
        });
        Self::checked(grants)
    }

    /// From words: `PATTERN` or `PATTERN=RIGHT,RIGHT…`.
    ///
    /// # Errors
    /// [`GrantsError`]: nothing of it holds then.
    pub fn from_words<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<Self, GrantsError> {
        Self::checked(words.into_iter().map(|word| match word.split_once('=') {
            Some((pattern, rights)) => Grant::read(pattern, rights.split(',').map(Ok)),
            None => Grant::read(word, NAMED.iter().map(|(name, _)| Ok(*name))),
        }))
    }

    fn checked(
        grants: impl Iterator<Item = Result<Grant, GrantsError>>,
    ) -> Result<Self, GrantsError> {
        let grants = grants.collect::<Result<Vec<_>, _>>()?;
        if grants.len() > MAX_GRANTS {
            return Err(GrantsError::TooMany);
        }
        Ok(Self::new(grants))
    }

    /// As [`Grants::from_json`] reads it.
    pub fn to_json(&self) -> String {
        let listed = self.iter().map(|grant| {
            let rights = grant.words().into_iter().map(Value::String).collect();
            (grant.pattern.as_str().to_owned(), Value::Array(rights))
        });
        Value::Object(listed.collect()).to_string()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().flat_map(|grants| grants.iter())
    }
}

impl fmt::Display for Grants {
    /// As words, separated by blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, grant) in self.iter().enumerate() {
            let blank = if at > 0 { " " } else { "" };
            let pattern = grant.pattern.as_str();
            match grant.rights == Rights::ALL && grant.types.is_empty() {
                true => write!(f, "{blank}{pattern}")?,
                false => write!(f, "{blank}{pattern}={}", grant.words().join(","))?,
            }
        }
        Ok(())
    }
}

impl Grant {
    fn read<'w>(
        pattern: &str,
        words: impl Iterator<Item = Result<&'w str, GrantsError>>,
    ) -> Result<Self, GrantsError> {
        let plain = pattern.replace('*', "x");
        if !names::is_room(&plain) {
            return Err(GrantsError::Pattern(pattern.chars().take(MAX_SHOWN).collect()));
        }
        let (mut rights, mut types, mut any) = (Rights::NONE, Vec::new(), false);
        for word in words {
            let word = word?;
            if let Some(kind) = word.strip_prefix("send:").filter(|kind| !kind.is_empty()) {
                rights |= Rights::SEND;
                types.push(kind.into());
            } else if let Some(right) = Rights::named(word) {
                rights |= right;
                any |= right == Rights::SEND;
            } else {
                return Err(GrantsError::Right(word.chars().take(MAX_SHOWN).collect()));
            }
        }
        if any {
            types.clear();
        }
        Ok(Self { pattern: Pattern::new(pattern), rights, types: types.into() })
    }

    fn words(&self) -> Vec<String> {
        let (kept, typed) = match self.types.is_empty() {
            true => (self.rights, &[][..]),
            false => (Rights(self.rights.0 & !Rights::SEND.0), &self.types[..]),
        };
        let types = typed.iter().map(|kind| format!("send:{kind}"));
        kept.names().map(str::to_owned).chain(types).collect()
    }
}

/// Why grants are none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantsError {
    /// Not an object of lists of words.
    Shape,
    /// More than 64 patterns, or more than 16 KiB.
    TooMany,
    /// Not a pattern of room names.
    Pattern(String),
    /// Not a right.
    Right(String),
}

impl fmt::Display for GrantsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str(
                "rights are an object of patterns, each with a list of join, send, send:TYPE, \
                 presence, history",
            ),
            Self::TooMany => f.write_str("rights have at most 64 patterns and 16 KiB"),
            Self::Pattern(pattern) => write!(
                f,
                "{pattern:?} is not a pattern of rooms: 1 to 128 characters of A-Z a-z 0-9 _ . : @ / - *"
            ),
            Self::Right(word) => write!(
                f,
                "{word:?} is not a right: join, send, send:TYPE, presence and history are"
            ),
        }
    }
}

impl std::error::Error for GrantsError {}

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

const MAX_GRANTS: usize = 64;
const MAX_TEXT: usize = 16 << 10;
/// How much of what is wrong is shown.
const MAX_SHOWN: usize = 64;

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
    fn grants_read_what_they_write() {
        let json =
            r#"{"a:*":["join","send:chat","send:move"],"b":["join","send","presence","history"]}"#;
        let grants = Grants::from_json(json).unwrap();
        assert_eq!(Grants::from_json(&grants.to_json()).unwrap(), grants);
        let words = grants.to_string();
        assert_eq!(words, "a:*=join,send:chat,send:move b");
        assert_eq!(Grants::from_words(words.split(' ')).unwrap(), grants);
        assert!(Grants::from_json("{}").unwrap().is_empty());
        let both = Grants::from_words(["x=send:chat,send"]).unwrap();
        assert!(both.iter().all(|grant| grant.types.is_empty()));
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for (json, error) in [
            ("[]", GrantsError::Shape),
            ("{", GrantsError::Shape),
            (r#"{"a":"join"}"#, GrantsError::Shape),
            (r#"{"a":[1]}"#, GrantsError::Shape),
            (r#"{"a":["fly"]}"#, GrantsError::Right("fly".into())),
            (r#"{"a":["send:"]}"#, GrantsError::Right("send:".into())),
            (r#"{"a b":["join"]}"#, GrantsError::Pattern("a b".into())),
            (r#"{"":["join"]}"#, GrantsError::Pattern(String::new())),
        ] {
            assert_eq!(Grants::from_json(json).unwrap_err(), error, "{json}");
        }
        let many = (0..65).map(|n| format!("\"r{n}\":[\"join\"]")).collect::<Vec<_>>().join(",");
        assert_eq!(Grants::from_json(&format!("{{{many}}}")), Err(GrantsError::TooMany));
    }

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
