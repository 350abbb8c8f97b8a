use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use throng_protocol::Timestamp;

use crate::identity::Identity;

/// An identity that stands for its user: equal to every other of the same user id, and found
/// by it. Eight bytes, where a map keyed by strings would keep the id a second time.
#[derive(Clone, Debug)]
pub(crate) struct ByUser(pub(crate) Arc<Identity>);

impl Borrow<str> for ByUser {
    fn borrow(&self) -> &str {
        self.0.user_id()
    }
}

impl Hash for ByUser {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.user_id().hash(state); // as `str`, which `Borrow` asks for
    }
}

impl PartialEq for ByUser {
    fn eq(&self, other: &Self) -> bool {
        self.0.user_id() == other.0.user_id()
    }
}

impl Eq for ByUser {}

/// Who is in a room, by user: their connections, and those that were lost lately.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    users: HashMap<ByUser, Seat>,
    /// Users whose last connection was lost, by the time until which they may come back. A seat that
    /// says otherwise in the meantime is right.
    lost: Option<Box<Lost>>,
}

type Lost = VecDeque<(Timestamp, Arc<Identity>)>;

#[derive(Debug, Default)]
struct Seat {
    connections: u32,
    /// On this node: a connection, or one that was lost lately.
    here: bool,
    /// On another node.
    elsewhere: bool,
    /// Without connections: until when the seat is kept.
    kept: Timestamp,
}

/// What a change of one connection means for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The user has come to this node, or has left it.
    pub(crate) here: bool,
    /// The user has come to the room, or has left it.
    pub(crate) anywhere: bool,
}

impl Moved {
    const NOT: Self = Self { here: false, anywhere: false };
}

impl Seats {
    /// One more connection; whether its user is new here, and anywhere.
    pub(crate) fn add(&mut self, who: &Arc<Identity>) -> Moved {
        if let Some(seat) = self.users.get_mut(who.user_id()) {
            seat.connections += 1;
            return Moved { here: !std::mem::replace(&mut seat.here, true), anywhere: false };
        }
        let seat = Seat { connections: 1, here: true, ..Seat::default() };
        self.users.insert(ByUser(who.clone()), seat);
        Moved { here: true, anywhere: true }
    }

    /// Whether a user has a connection here.
    pub(crate) fn has(&self, user_id: &str) -> bool {
        self.users.get(user_id).is_some_and(|seat| seat.connections > 0)
    }

    /// One connection less; whether its user is gone now.
    pub(crate) fn remove(&mut self, user_id: &str) -> Moved {
        let Some(seat) = self.users.get_mut(user_id) else { return Moved::NOT };
        seat.connections = seat.connections.saturating_sub(1);
        if seat.connections > 0 {
            return Moved::NOT;
        }
        self.vacate(user_id)
    }

    /// A user is no longer here.
    fn vacate(&mut self, user_id: &str) -> Moved {
        let Some(seat) = self.users.get_mut(user_id) else { return Moved::NOT };
        let here = std::mem::take(&mut seat.here);
        let anywhere = !seat.elsewhere;
        if anywhere {
            self.users.remove(user_id);
            self.shrink();
        }
        Moved { here, anywhere }
    }

    /// A user is on another node; whether that is news.
    pub(crate) fn add_elsewhere(&mut self, who: &Arc<Identity>) -> bool {
        if let Some(seat) = self.users.get_mut(who.user_id()) {
            seat.elsewhere = true;
            return false;
        }
        let seat = Seat { elsewhere: true, ..Seat::default() };
        self.users.insert(ByUser(who.clone()), seat);
        true
    }

    /// A user is on no other node any more. Names a user who is gone by that.
    pub(crate) fn remove_elsewhere(&mut self, user_id: &str) -> Option<Arc<Identity>> {
        let seat = self.users.get_mut(user_id)?;
        seat.elsewhere = false;
        if seat.here {
            return None;
        }
        let (gone, _) = self.users.remove_entry(user_id)?;
        self.shrink();
        Some(gone.0)
    }

    /// Who is on other nodes.
    pub(crate) fn elsewhere(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.users.iter().filter(|(_, seat)| seat.elsewhere).map(|(user, _)| &user.0)
    }

    /// One connection less, which may be back until `due`. Whether it was the last of its user.
    pub(crate) fn lose(&mut self, who: &Arc<Identity>, due: Timestamp) -> bool {
        let Some(seat) = self.users.get_mut(who.user_id()) else { return false };
        seat.connections = seat.connections.saturating_sub(1);
        if seat.connections > 0 {
            return false;
        }
        seat.kept = due;
        let lost = self.lost.get_or_insert_default();
        // At the end, unless the clock has gone back.
        let at = lost.iter().rposition(|(other, _)| *other <= due).map_or(0, |before| before + 1);
        lost.insert(at, (due, Arc::clone(who)));
        true
    }

    /// A user who has not come back in time, who is then no longer here; whether anywhere.
    pub(crate) fn pop_lost(&mut self, now: Timestamp) -> Option<(Arc<Identity>, Moved)> {
        let lost = self.lost.as_mut()?;
        while lost.front().is_some_and(|(due, _)| *due <= now) {
            let Some((due, who)) = lost.pop_front() else { break };
            let seat = self.users.get(who.user_id());
            if seat.is_some_and(|seat| seat.here && seat.connections == 0 && seat.kept == due) {
                let moved = self.vacate(who.user_id());
                return Some((who, moved));
            }
        }
        if lost.is_empty() {
            self.lost = None;
        }
        None
    }

    /// When [`Seats::pop_lost`] may have the next one.
    pub(crate) fn next_lost(&self) -> Option<Timestamp> {
        self.lost.as_ref()?.front().map(|(due, _)| *due)
    }

    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// The first identity each user came with, in no particular order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Identity>> {
        self.users.keys().map(|user| &user.0)
    }

    fn shrink(&mut self) {
        if self.users.capacity() > 16 && self.users.len() < self.users.capacity() / 8 {
            self.users.shrink_to(self.users.len() * 2); // a crowd has left: give its memory back
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: usize) -> Arc<Identity> {
        Arc::new(Identity::anonymous(&format!("u_{n}"), "", None))
    }

    #[test]
    fn a_crowd_that_leaves_gives_its_memory_back() {
        let crowd: Vec<_> = (0..1000).map(user).collect();
        let mut seats = Seats::default();
        assert!(crowd.iter().all(|who| seats.add(who).anywhere));
        let full = seats.users.capacity();
        for who in &crowd[10..] {
            assert!(seats.remove(who.user_id()).anywhere);
        }
        assert!(seats.users.capacity() < full / 10);
        assert_eq!(seats.len(), 10);
        assert!(
            crowd[..10].iter().all(|who| !seats.add(who).anywhere),
            "the others are still there"
        );
    }

    #[test]
    fn who_comes_back_in_time_was_never_gone() {
        let (ada, bob) = (user(1), user(2));
        let mut seats = Seats::default();
        seats.add(&ada);
        seats.add(&bob);
        assert!(seats.lose(&ada, Timestamp(10)));
        assert!(seats.lose(&bob, Timestamp(11)));
        assert_eq!((seats.len(), seats.next_lost()), (2, Some(Timestamp(10))));
        assert!(!seats.add(&ada).here);
        assert!(seats.lose(&ada, Timestamp(15)));
        assert!(seats.pop_lost(Timestamp(10)).is_none(), "lost once more in the meantime");
        assert_eq!(seats.pop_lost(Timestamp(12)).unwrap().0.user_id(), "u_2");
        assert!(seats.pop_lost(Timestamp(14)).is_none());
        assert_eq!(seats.pop_lost(Timestamp(15)).unwrap().0.user_id(), "u_1");
        assert_eq!((seats.len(), seats.next_lost()), (0, None));
    }

    #[test]
    fn a_user_is_there_as_long_as_on_any_node() {
        let (ada, bob) = (user(1), user(2));
        let mut seats = Seats::default();
        assert_eq!(seats.add(&ada), Moved { here: true, anywhere: true });
        assert!(!seats.add_elsewhere(&ada), "known already");
        assert!(seats.add_elsewhere(&bob));
        assert_eq!(seats.add(&bob), Moved { here: true, anywhere: false });
        assert_eq!(seats.len(), 2);
        assert_eq!(seats.remove("u_1"), Moved { here: true, anywhere: false });
        assert_eq!(seats.remove_elsewhere("u_1").unwrap().user_id(), "u_1");
        assert!(seats.remove_elsewhere("u_2").is_none(), "still here");
        assert!(seats.lose(&bob, Timestamp(5)));
        assert_eq!(seats.add(&bob), Moved { here: false, anywhere: false }, "was never gone");
        assert!(seats.lose(&bob, Timestamp(7)));
        assert!(!seats.add_elsewhere(&bob));
        let (who, moved) = seats.pop_lost(Timestamp(7)).unwrap();
        assert_eq!((who.user_id(), moved), ("u_2", Moved { here: true, anywhere: false }));
        assert_eq!(seats.add(&bob), Moved { here: true, anywhere: false });
        assert_eq!(seats.elsewhere().count(), 1);
    }
}
