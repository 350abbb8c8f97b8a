//! What the client asks about its rooms: history, and who is there.

use serde_json::json;
use tokio::time::Instant;

use super::wire::{self, Ended, Socket};
use super::{Ask, Client, Talk};

impl Client {
    /// Asks again what was refused for now.
    pub(super) async fn ask_again(
        &mut self,
        now: Instant,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        let (due, later) = std::mem::take(&mut talk.later).into_iter().partition(|l| l.0 <= now);
        talk.later = later;
        let due: Vec<(Instant, Ask)> = due;
        for (_, ask) in due {
            let reference = self.next_reference();
            let question = match &ask {
                Ask::History(room) => json!({"type": "history", "room": room, "ref": reference}),
                Ask::Presence(room, _) => {
                    json!({"type": "presence", "room": room, "ref": reference})
                }
                Ask::Leave(room) => json!({"type": "leave", "room": room, "ref": reference}),
                Ask::Join(..) | Ask::Resume(_) => continue, // see `join_again`
            };
            talk.asks.insert(reference, (ask, now));
            wire::feed(socket, question.to_string()).await?;
        }
        Ok(())
    }

    /// Fetches the newest page of each room's history, once.
    pub(super) async fn compare(
        &mut self,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        let rooms: Vec<String> = self
            .places
            .iter()
            .filter(|(_, place)| place.joined && place.target.is_none())
            .map(|(room, _)| room.clone())
            .collect();
        for room in rooms {
            let ask = Ask::History(room.clone());
            if talk.is_asking(|other| *other == ask) {
                continue;
            }
            let reference = self.next_reference();
            talk.asks.insert(reference, (ask, Instant::now()));
            let limit = 1 + self.dice.below(200);
            let history =
                json!({"type": "history", "room": room, "limit": limit, "ref": reference});
            wire::feed(socket, history.to_string()).await?;
        }
        Ok(())
    }

    /// Asks who is in each room, once for each round.
    pub(super) async fn list(
        &mut self,
        round: u32,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        if talk.listing >= round || !talk.returned {
            return Ok(());
        }
        talk.listing = round;
        for room in self.public_rooms() {
            let reference = self.next_reference();
            let presence = json!({"type": "presence", "room": room, "ref": reference});
            talk.asks.insert(reference, (Ask::Presence(room, round), Instant::now()));
            wire::feed(socket, presence.to_string()).await?;
        }
        Ok(())
    }
}
