//! What one client has seen of one room.

use crate::record::Position;

/// A client's place in a room.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// The epoch of its position.
    pub(super) epoch: String,
    /// The line with which it was entered last.
    pub(super) entered: usize,
    connection: Option<u32>,
    position: u64,
    /// What is owed: all numbers after the first, up to the second.
    spans: Vec<Owed>,
    received: Vec<u64>,
    sorted: bool,
}

/// The numbers a client must receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    after: u64,
    until: Option<u64>,
}

/// How a message meets what came before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// As it should.
    Next,
    /// Nobody on this connection has joined the room.
    NotMember,
    /// It had been received, or a later one had.
    Again {
        /// The last one.
        before: u64,
    },
    /// Something is missing in between.
    Hole {
        /// The last one.
        before: u64,
    },
}

impl Seat {
    /// The client is a member on this connection, and gets everything after `after`, else after the
    /// room's position of `now`. False when it says that it was further than it is.
    pub(super) fn enter(
        &mut self,
        connection: u32,
        line: usize,
        now: &Position,
        after: Option<u64>,
    ) -> bool {
        let known = !self.spans.is_empty() && self.epoch == now.epoch;
        let honest = !known || after.is_none_or(|after| after == self.position);
        if !known || after.is_none() {
            self.close();
            if self.epoch != now.epoch {
                // Numbers of another epoch cannot be compared; the new epoch is a finding by itself.
                (self.spans, self.received) = (Vec::new(), Vec::new());
                self.epoch.clone_from(&now.epoch);
            }
            self.position = after.unwrap_or(now.seq);
        }
        if self.spans.last().is_none_or(|owed| owed.until.is_some()) {
            self.spans.push(Owed { after: self.position, until: None });
        }
        self.connection = Some(connection);
        self.entered = line;
        honest
    }

    /// The room begins anew for a member, which is owed what comes behind `now`. False when it is none.
    pub(super) fn renew(&mut self, connection: u32, line: usize, now: &Position) -> bool {
        let member = self.connection == Some(connection);
        self.close();
        if self.epoch != now.epoch {
            (self.spans, self.received) = (Vec::new(), Vec::new());
            self.epoch.clone_from(&now.epoch);
        }
        (self.position, self.entered) = (now.seq, line);
        self.spans.push(Owed { after: now.seq, until: None });
        member
    }

    /// How far the client is.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The connection is gone; the client may come back.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// The client is no longer a member.
    pub(super) fn leave(&mut self) {
        self.connection = None;
        self.close();
    }

    /// A message has arrived.
    pub(super) fn receive(&mut self, connection: u32, epoch: &str, seq: u64) -> Arrival {
        if self.connection != Some(connection) || self.epoch != epoch {
            return Arrival::NotMember;
        }
        let before = self.position;
        self.received.push(seq);
        self.position = before.max(seq);
        if seq == before + 1 {
            return Arrival::Next;
        }
        if seq <= before { Arrival::Again { before } } else { Arrival::Hole { before } }
    }

    /// Whether the client is a member.
    pub(super) fn here(&self) -> bool {
        self.connection.is_some()
    }

    /// What the client must have received in the end.
    pub(super) fn owed(&mut self) -> Vec<Owed> {
        if !self.here() {
            self.close();
        }
        self.received.sort_unstable();
        self.sorted = true;
        self.spans.clone()
    }

    /// How often it has received a message; to be asked after [`owed`](Self::owed).
    pub(super) fn times(&self, seq: u64) -> usize {
        debug_assert!(self.sorted, "owed() comes first");
        let from = self.received.partition_point(|received| *received < seq);
        self.received[from..].iter().take_while(|received| **received == seq).count()
    }

    /// Nothing more is owed.
    fn close(&mut self) {
        if let Some(owed) = self.spans.last_mut()
            && owed.until.is_none()
        {
            owed.until = Some(self.position);
        }
    }
}

impl Owed {
    /// Whether this number is among them.
    pub(super) fn contains(self, seq: u64) -> bool {
        seq > self.after && self.until.is_none_or(|until| seq <= until)
    }
}
