//! Ending sessions before their time.

use std::sync::Arc;

use throng_protocol::Timestamp;

use super::gone::Revocation;
use super::{Sessions, State, Turn, enter};
use crate::backend::Asker;

impl Sessions {
    /// Ends a session, connected or not: it cannot come back. Names its connection, to be closed.
    pub fn revoke(&self, user_id: &str, session_id: &str, now: Timestamp) -> Option<Asker> {
        let mut guard = self.shard(user_id);
        let shard = &mut *guard;
        let mut over = self.expire(shard, now);
        shard.gone.add(Revocation::Session(session_id.into()), now);
        let mut place = None;
        if let Some(held) = shard.users.get_mut(user_id) {
            held.retain(|held| match held.state {
                _ if held.who.session_id() != session_id => true,
                // It stays until its connection is gone; nobody can take it up any more.
                State::Connected(at) => {
                    place = Some(at);
                    true
                }
                State::Lost { .. } => {
                    self.turns(&held.who, held.pass.is_some(), Turn::Over);
                    over.extend(held.pass.is_some().then(|| Arc::clone(&held.who)));
                    false
                }
            });
            if held.is_empty() {
                shard.users.remove(user_id);
            }
        }
        drop(guard);
        self.tell(&over);
        place
    }

    /// Ends all signed-in sessions of a user, those on their way in included. Names the connections, to be
    /// closed.
    pub fn revoke_all(&self, user_id: &str, now: Timestamp) -> Vec<Asker> {
        let shard = &mut *self.shard(user_id);
        shard.gone.add(Revocation::User(user_id.into()), now);
        let mut places = Vec::new();
        if let Some(held) = shard.users.get_mut(user_id) {
            held.retain(|held| match held.state {
                _ if held.pass.is_none() => true,
                State::Connected(at) => {
                    places.push(at);
                    true
                }
                State::Lost { .. } => {
                    self.turns(&held.who, true, Turn::Over);
                    false
                }
            });
            if held.is_empty() {
                shard.users.remove(user_id);
            }
        }
        places
    }

    /// A session was revoked whose user is not known here: should it be on its way in, it is refused.
    pub fn refuse_session(&self, session_id: &str, now: Timestamp) {
        self.refuse(&Revocation::Session(session_id.into()), now);
    }

    /// The same for all sessions that were opened with a token.
    pub fn refuse_token(&self, token: &str, now: Timestamp) {
        self.refuse(&Revocation::Token(token.into()), now);
    }

    fn refuse(&self, what: &Revocation, now: Timestamp) {
        for shard in &self.shards {
            let mut shard = enter(shard);
            let over = self.expire(&mut shard, now);
            shard.gone.add(what.clone(), now);
            drop(shard);
            self.tell(&over);
        }
    }
}
