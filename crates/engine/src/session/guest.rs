//! Somebody who has signed in, on a connection whose session does not ask who that is.

use std::sync::Arc;

use throng_hub::{Asker, Ending, Identity, Revoked};

use super::typed::{Visitor, Who, asker};
use crate::clock::wall_clock;
use crate::conn::Conn;
use crate::engine::Shared;
use crate::tick::Out;

/// Known among the sessions for as long as the connection lasts, so that it ends when they do.
pub(crate) struct Guest {
    who: Arc<Identity>,
    place: Asker,
}

impl Guest {
    /// `None` for anonymous visitors.
    ///
    /// # Errors
    /// When the session was revoked a moment ago.
    pub(super) fn arrive(
        visitor: Visitor,
        conn: &Conn,
        out: &Out,
        shared: &Shared,
    ) -> Result<Option<Self>, Revoked> {
        let Visitor { who: Who::Known(who), pass: Some(pass) } = visitor else { return Ok(None) };
        let (who, place) = (Arc::new(who), asker(conn, out));
        shared.sessions.arrive(&who, Some(&pass), place, wall_clock())?;
        Ok(Some(Self { who, place }))
    }

    /// The connection has ended, and the session with it: there is nothing to come back to.
    pub(crate) fn depart(self, shared: &Shared) {
        shared.sessions.depart(&self.who, self.place, Ending::Orderly, wall_clock());
    }
}
