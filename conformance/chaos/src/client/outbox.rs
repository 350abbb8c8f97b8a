//! What the client publishes, again and again until it is acknowledged.

use tokio::time::Instant;

use super::letter::Letter;
use super::wire::{self, Ended, Socket};
use super::{Client, Talk};
use crate::plan::Kind;
use crate::record::Event;

/// A letter in the outbox.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) letter: Letter,
    /// When it was written to this connection.
    pub(super) sent: Option<Instant>,
    /// It was ever sent.
    pub(super) tried: bool,
    /// Refused for now: when to send it again.
    pub(super) again: Option<Instant>,
}

impl Client {
    /// Sends letters that were not sent on this connection, or were refused for now.
    pub(super) async fn post(&mut self, now: Instant, socket: &mut Socket) -> Result<(), Ended> {
        for index in 0..self.outbox.len() {
            let posted = &mut self.outbox[index];
            let due = match posted.again {
                Some(again) => again <= now,
                None => posted.sent.is_none(),
            };
            if due {
                (posted.sent, posted.again, posted.tried) = (Some(now), None, true);
                let letter = posted.letter.clone();
                self.mail(&letter, socket).await?;
            }
        }
        Ok(())
    }

    async fn mail(&mut self, letter: &Letter, socket: &mut Socket) -> Result<(), Ended> {
        self.write(Event::Sent {
            room: letter.room.clone(),
            id: letter.id.clone(),
            reference: letter.reference,
        });
        wire::feed(socket, letter.text()).await
    }

    pub(super) async fn publish(
        &mut self,
        now: Instant,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        if now < self.next_publish {
            return Ok(());
        }
        self.next_publish = now + self.dice.wait(self.pause);
        if self.dice.percent(4)
            && let Some(letter) = self.known.pop_front()
        {
            self.mail(&letter, socket).await?;
            talk.repeats.insert(letter.reference, letter);
        }
        if self.outbox.len() >= WINDOW {
            return Ok(());
        }
        let Some((room, to)) = self.choose_room() else { return Ok(()) };
        self.published += 1;
        let letter = Letter {
            reference: self.next_reference(),
            id: format!("{}-{}", self.part.index, self.published),
            room,
            to,
            implied: self.part.kind == Kind::Plain && self.dice.percent(50),
        };
        self.outbox.push_back(Posted { letter, sent: None, tried: false, again: None });
        self.post(now, socket).await
    }

    /// Where the next message goes. Not to the room that is only visited: it may be left before
    /// the message can be repeated.
    fn choose_room(&mut self) -> Option<(String, Option<String>)> {
        if self.dice.percent(10) {
            let users: Vec<String> = self.board.look(|statuses| {
                statuses.iter().filter_map(|status| status.user.clone()).collect()
            });
            if let Some(user) = self.dice.pick(&users) {
                return Some((format!("@{user}"), Some(user.clone())));
            }
        }
        let own = &self.part.rooms[..self.part.rooms.len() - usize::from(self.part.visits)];
        let joined: Vec<&String> =
            own.iter().filter(|room| self.places.get(*room).is_some_and(|p| p.joined)).collect();
        self.dice.pick(&joined).map(|room| ((*room).clone(), None))
    }
}

/// Letters without an answer.
const WINDOW: usize = 16;
