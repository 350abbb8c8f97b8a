//! What was revoked lately.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use throng_protocol::Timestamp;

use crate::identity::Identity;
use crate::pass::Pass;

/// Revocations of the last while: whoever is on the way in must not slip through. To look is constant, however many
/// there are.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Oldest first.
    order: VecDeque<(Timestamp, Revocation)>,
    sessions: Latest,
    tokens: Latest,
    users: Latest,
}

/// When something was revoked last.
type Latest = HashMap<Arc<str>, Timestamp>;

#[derive(Clone, Debug)]
pub(super) enum Revocation {
    /// Of one session.
    Session(Arc<str>),
    /// Of all that were opened with this token.
    Token(Arc<str>),
    /// Of all that this user had opened by then.
    User(Arc<str>),
}

impl Gone {
    pub(super) fn add(&mut self, what: Revocation, at: Timestamp) {
        let (latest, name) = self.latest(&what);
        latest.insert(name, at);
        self.order.push_back((at, what));
    }

    /// Lets go of what is older than this.
    pub(super) fn forget(&mut self, before: Timestamp) {
        while self.order.front().is_some_and(|(at, _)| *at < before) {
            let Some((at, what)) = self.order.pop_front() else { break };
            let (latest, name) = self.latest(&what);
            if latest.get(&name) == Some(&at) {
                latest.remove(&name);
            }
        }
        if self.order.is_empty() && self.order.capacity() > MANY {
            *self = Self::default();
        }
    }

    /// Whether this session was revoked.
    pub(super) fn has(&self, who: &Identity, pass: Option<&Pass>) -> bool {
        if self.order.is_empty() {
            return false;
        }
        let of_user =
            |pass: &Pass| self.users.get(who.user_id()).is_some_and(|at| pass.opened <= *at);
        let token = pass.and_then(|pass| pass.token.as_deref());
        self.sessions.contains_key(who.session_id())
            || token.is_some_and(|token| self.tokens.contains_key(token))
            || pass.is_some_and(of_user)
    }

    fn latest(&mut self, what: &Revocation) -> (&mut Latest, Arc<str>) {
        match what {
            Revocation::Session(session) => (&mut self.sessions, Arc::clone(session)),
            Revocation::Token(token) => (&mut self.tokens, Arc::clone(token)),
            Revocation::User(user) => (&mut self.users, Arc::clone(user)),
        }
    }
}

/// After so many the memory is given back.
const MANY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn who(session: &str) -> Identity {
        Identity::anonymous("ada", session, None)
    }

    #[test]
    fn what_was_revoked_is_known_for_a_while() {
        let mut gone = Gone::default();
        gone.add(Revocation::Session("s_1".into()), Timestamp(10));
        gone.add(Revocation::Token("t_1".into()), Timestamp(20));
        gone.add(Revocation::User("ada".into()), Timestamp(30));
        let pass = |token: Option<&str>, opened| Pass {
            token: token.map(Into::into),
            opened: Timestamp(opened),
            ..Pass::default()
        };
        assert!(gone.has(&who("s_1"), None) && !gone.has(&who("s_2"), None));
        assert!(gone.has(&who("s_2"), Some(&pass(Some("t_1"), 99))));
        assert!(!gone.has(&who("s_2"), Some(&pass(Some("t_2"), 99))));
        assert!(gone.has(&who("s_2"), Some(&pass(None, 30))));
        assert!(!gone.has(&who("s_2"), Some(&pass(None, 31))), "opened since");
        gone.forget(Timestamp(30));
        assert!(!gone.has(&who("s_1"), None));
        assert!(!gone.has(&who("s_2"), Some(&pass(Some("t_1"), 99))));
        assert!(gone.has(&who("s_2"), Some(&pass(None, 30))));
    }

    #[test]
    fn what_was_revoked_again_is_known_for_longer() {
        let mut gone = Gone::default();
        gone.add(Revocation::Session("s_1".into()), Timestamp(10));
        gone.add(Revocation::Session("s_1".into()), Timestamp(20));
        gone.forget(Timestamp(15));
        assert!(gone.has(&who("s_1"), None));
        gone.forget(Timestamp(25));
        assert!(!gone.has(&who("s_1"), None));
        assert!(gone.sessions.is_empty());
    }
}
