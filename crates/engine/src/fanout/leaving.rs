//! Who leaves rooms.

use std::collections::HashMap;

use throng_hub::RoomId;

use crate::inbox::Post;
use crate::wheel::ConnId;

/// Connections that leave rooms further on among the posts of a worker: they have been told that they are no members
/// any more, and must hear nothing more of these rooms.
#[derive(Debug, Default)]
pub(crate) struct Leaving(HashMap<(ConnId, RoomId), u32>);

impl Leaving {
    /// From the posts that are still to be handled.
    pub(crate) fn ahead(posts: &[Post]) -> Self {
        let mut leaving = Self::default();
        for post in posts {
            if let Post::Exit(id, room) = post {
                *leaving.0.entry((*id, *room)).or_default() += 1;
            }
        }
        leaving
    }

    /// One of these posts is handled.
    pub(crate) fn passed(&mut self, id: ConnId, room: RoomId) {
        if let Some(left @ 1..) = self.0.get_mut(&(id, room)) {
            *left -= 1;
        }
    }

    pub(crate) fn has(&self, id: ConnId, room: RoomId) -> bool {
        self.0.get(&(id, room)).is_some_and(|left| *left > 0)
    }
}
