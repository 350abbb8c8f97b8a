//! What a room's reader is told, as far as there is room for it.

use super::{Events, Room};
use crate::session::event::RoomEvent;

impl Room {
    /// Tells what is still to be told. False if something is left of it.
    pub(super) fn flush(&mut self, events: &mut Events) -> bool {
        if let Some(position) = self.pending.lost.clone() {
            if !self.give(RoomEvent::Lost(position), events) {
                return false;
            }
            self.pending.lost = None;
        }
        if let Some(joined) = self.pending.joined.clone() {
            if !self.give(RoomEvent::Joined(joined), events) {
                return false;
            }
            self.pending.joined = None;
        }
        if self.pending.presence && !self.roster.is_awaited() {
            let (user_count, users) = (self.roster.count(), self.roster.list());
            let event = RoomEvent::Presence { user_count, users };
            if !self.give(event, events) {
                return false;
            }
            self.pending.presence = false;
        }
        true
    }

    /// Tells of `event`, after what is still to be told. False if there is no room for it.
    pub(super) fn emit(&mut self, event: RoomEvent, events: &mut Events) -> bool {
        self.flush(events) && self.give(event, events)
    }

    fn give(&mut self, event: RoomEvent, events: &mut Events) -> bool {
        let Some(reader) = &mut self.reader else { return true };
        let cost = event.cost();
        // One that is larger than the buffer has room when the buffer is empty.
        if cost > reader.credit && reader.credit < reader.capacity {
            reader.starved = true;
            return false;
        }
        reader.credit = reader.credit.saturating_sub(cost);
        events.push(event);
        true
    }
}
