//! What a client of the typed protocol pays for what it asks for, in tokens of its rate.

use throng_protocol::Command;

use super::typed::Typed;
use crate::engine::Shared;

/// What asks for a message to be handled and is refused for what it says.
pub(super) const MISTAKE: u32 = 1;

/// What a command costs.
///
/// | command | cost | |
/// |---|---|---|
/// | a message | 1 | or what the room's rule says of its type |
/// | `ping`, `leave` | 1 | |
/// | `join` | 2 | may open a room, is announced |
/// | `resume` | 2, and 1 for each room | |
/// | `presence`, `history` | 5 | long answers |
/// | `auth` | 10 | somebody has to look the credential up |
pub(super) fn cost(command: &Command<'_>) -> u32 {
    match command {
        Command::Join(_) => 2,
        Command::Resume(resume) => 2 + u32::try_from(resume.rooms.len()).unwrap_or(u32::MAX - 2),
        Command::Presence(_) | Command::History(_) => 5,
        Command::Auth(_) => 10,
        _ => 1,
    }
}

impl Typed {
    /// The same with what the rules say of types.
    #[inline]
    pub(super) fn cost(&self, command: &Command<'_>, shared: &Shared) -> u32 {
        let Command::Publish(message) = command else { return cost(command) };
        if !shared.hub().rules().has_costs() {
            return cost(command);
        }
        match (&message.to, self.room(message.room.as_deref())) {
            (Some(user), _) => shared.hub().rule(&format!("@{user}")).cost(&message.kind),
            (None, Ok(member)) => member.room.rule().cost(&message.kind),
            (None, Err(_)) => MISTAKE,
        }
    }
}
