//! What holds for rooms, by the pattern of their name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::Rate;
use crate::schema::Schema;

/// What holds for the rooms of a pattern.
#[derive(Clone, Debug)]
pub struct Rule {
    /// How much of a room's past is kept.
    pub history: History,
    /// Whether messages are stored by the durable backend before anybody gets them. Without one it has no
    /// effect. Default `true`.
    pub durable: bool,
    /// No numbers, no history: at most once. Default `false`.
    pub volatile: bool,
    /// What members learn of each other.
    pub presence: Presence,
    /// How long a user whose last connection was lost still counts as there. Default 10 s.
    pub grace: Duration,
    /// Connections in one room; 0 for no limit (the default).
    pub max_members: usize,
    /// Whether there are rooms of this pattern. Default `true`.
    pub allow: bool,
    /// Whether only members may do anything there, as the list of the room's members says. Default
    /// `false`.
    pub membership: bool,
    /// What may be published.
    pub types: Types,
    /// How often somebody may publish here, all members together; `None` (the default) for no limit.
    pub rate: Option<Rate>,
    /// What a message of a type costs its sender's rate, if not 1.
    pub costs: HashMap<String, u32>,
    /// What happens to messages for a member that cannot keep up; `None` (the default) for what its
    /// endpoint says.
    pub slow: Option<SlowPolicy>,
    /// With [`SlowPolicy::Latest`]: the field of the payload whose value says which message takes the place
    /// of which. Empty (the default) for the sender and the type.
    pub slow_key: String,
    /// In how many copies besides the first a message has to be kept at once, where the backend has copies: with
    /// fewer it is refused. Default 0.
    pub replicas: usize,
}

/// What happens to the messages of a room for a member that reads too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPolicy {
    /// The connection is closed with `4508`; the client comes back and resumes.
    Disconnect,
    /// They are dropped for this member and counted. Control frames never are.
    Drop,
    /// Of each key ([`Rule::slow_key`]) only the newest is kept, and sent when the member has caught up.
    Latest,
}

/// How much of a room's past is kept: whatever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Messages. Default 1000; 0 keeps none.
    pub size: usize,
    /// Bytes of messages. Default 1 MiB.
    pub bytes: usize,
    /// How long. Default 24 h.
    pub ttl: Duration,
}

/// What the members of a room learn of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Who comes and goes.
    #[default]
    Full,
    /// How many there are, at most once a second.
    Count,
    /// Nothing.
    Off,
}

/// The types of messages that may be published.
#[derive(Clone, Debug)]
pub struct Types {
    /// Those with a rule of their own, by name; with a schema, only payload that matches it.
    pub known: HashMap<String, Option<Arc<Schema>>>,
    /// Whether any other type may be published. Default `true`.
    pub others: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            history: History::default(),
            durable: true,
            volatile: false,
            presence: Presence::Full,
            grace: Duration::from_secs(10),
            max_members: 0,
            allow: true,
            membership: false,
            types: Types::default(),
            rate: None,
            costs: HashMap::new(),
            slow: None,
            slow_key: String::new(),
            replicas: 0,
        }
    }
}

impl Rule {
    /// What a message of this type costs its sender's rate.
    pub fn cost(&self, kind: &str) -> u32 {
        if self.costs.is_empty() { 1 } else { self.costs.get(kind).copied().unwrap_or(1) }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { size: 1000, bytes: 1 << 20, ttl: Duration::from_secs(24 * 60 * 60) }
    }
}

impl History {
    /// Nothing is kept.
    pub const NONE: Self = Self { size: 0, bytes: 0, ttl: Duration::ZERO };
}

impl Default for Types {
    fn default() -> Self {
        Self { known: HashMap::new(), others: true }
    }
}

/// The rules of all rooms: the first pattern that matches a name counts.
#[derive(Clone, Debug)]
pub struct Rules {
    listed: Vec<(Pattern, Arc<Rule>)>,
    fallback: Arc<Rule>,
    costly: bool,
}

impl Rules {
    /// These rules in this order, then the built-in ones: `live:*` is volatile and without presence,
    /// `@*` (the rooms of single users) without presence, and [`Rule::default`] holds for all others.
    pub fn new(listed: impl IntoIterator<Item = (Pattern, Rule)>) -> Self {
        let live = Rule {
            volatile: true,
            durable: false,
            history: History::NONE,
            presence: Presence::Off,
            ..Rule::default()
        };
        let own = Rule { presence: Presence::Off, ..Rule::default() };
        let built_in = [(Pattern::new("live:*"), live), (Pattern::new("@*"), own)];
        let listed = listed.into_iter().chain(built_in);
        let listed: Vec<_> = listed.map(|(pattern, rule)| (pattern, Arc::new(rule))).collect();
        let costly = listed.iter().any(|(_, rule)| !rule.costs.is_empty());
        Self { listed, fallback: Arc::default(), costly }
    }

    /// The rule of a room. One comparison for each pattern before it; no allocation.
    pub fn of(&self, name: &str) -> &Arc<Rule> {
        let listed = self.listed.iter().find(|(pattern, _)| pattern.matches(name));
        listed.map_or(&self.fallback, |(_, rule)| rule)
    }

    /// Whether any type costs other than 1 anywhere.
    pub fn has_costs(&self) -> bool {
        self.costly
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new([])
    }
}

/// A pattern of room names: `*` stands for any run of characters, none included; everything else for
/// itself, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// The pattern written like this.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a name is of this pattern. Linear in the name for one `*`, at worst their product.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last `*` was, and how far the name had been read when it was tried.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                star = Some((p, n));
                p += 1;
            } else if pattern.get(p) == Some(&name[n]) {
                p += 1;
                n += 1;
            } else if let Some((at, from)) = star {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, matches) in [
            ("*", "lobby", true),
            ("chat:*", "chat:1", true),
            ("chat:*", "chat:", true),
            ("chat:*", "chat", false),
            ("chat:*", "xchat:1", false),
            ("*:typing", "chat:1:typing", true),
            ("*:typing", "chat:1:typing:2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("*a*a*a*b", &"a".repeat(128), false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_match_counts() {
        let rule =
            |size| Rule { history: History { size, ..History::default() }, ..Rule::default() };
        let rules = Rules::new([
            (Pattern::new("chat:vip:*"), rule(1)),
            (Pattern::new("chat:*"), rule(2)),
            (Pattern::new("live:kept"), rule(3)),
        ]);
        let size = |name| rules.of(name).history.size;
        assert_eq!((size("chat:vip:1"), size("chat:1"), size("lobby")), (1, 2, 1000));
        assert_eq!((size("live:kept"), size("live:x")), (3, 0));
        assert!(rules.of("live:x").volatile && !rules.of("@u_1").volatile);
        assert_eq!(rules.of("@u_1").presence, Presence::Off);
    }
}
