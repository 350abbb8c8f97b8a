//! The server's side: what is done for a connection, and what the slow backend answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use throng_hub::{
    Asker, Author, Closed, Ending, Order, Published, Replay, Room, Space, Start, Timestamp,
};
use throng_protocol::Code;
use throng_wire::Prepared;

use super::client::View;
use super::ledger::Expected;
use super::{Behind, Command, Conn, Frame, LIVE, Membership, NAMES, World, hub, line, number};
use crate::support::{Answer, Slow, message};

impl World {
    pub(super) fn send(&mut self, conn: u64, command: Command) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if state.parked.is_empty() {
            self.handle(conn, command);
        } else {
            state.parked.push_back(command);
        }
    }

    /// A room that the connection waits for is open now, or cannot be.
    fn unpark(&mut self, conn: u64) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let commands = std::mem::take(&mut state.parked);
        for command in commands {
            self.send(conn, command);
        }
    }

    fn handle(&mut self, conn: u64, command: Command) {
        match command {
            Command::Join { room, rewind, ref known } => {
                if self.conns[&conn].rooms.contains_key(&room) {
                    return; // asked for twice while the first was waiting
                }
                let since = known.since.as_ref().map(|(epoch, seq)| (epoch.as_str(), *seq));
                match self.join(conn, room, &Start { since, rewind }, known.presence_seq) {
                    Ok(()) => {}
                    Err(Closed::Opening) => {
                        self.conn(conn).parked.push_back(command);
                    }
                    Err(Closed::Unavailable) => {
                        self.tally.not_opened += 1;
                        self.push(conn, Frame::NotJoined { room });
                    }
                    Err(Closed::Forgotten) => panic!("found, and forgotten"),
                }
            }
            Command::Leave { room } => {
                if let Some(member) = self.conn(conn).rooms.remove(&room) {
                    self.leave(conn, room, &member.room, Ending::Orderly);
                }
            }
            Command::Publish { room, reference, n } => self.publish(conn, room, reference, n),
        }
    }

    fn join(
        &mut self,
        id: u64,
        at: usize,
        start: &Start<'_>,
        known: Option<u64>,
    ) -> Result<(), Closed> {
        let now = Timestamp(self.now);
        let fresh = self.hub.find(Space::ROOMS, NAMES[at]).is_none();
        let room = self.hub.room(Space::ROOMS, NAMES[at], now);
        let asker = asker(id, self.conns[&id].worker);
        let mut order = room.order();
        order.ready(asker)?;
        if fresh {
            self.ledgers[at].opened(&order.epoch().to_string());
        }
        let (who, worker) = (Arc::clone(&self.conns[&id].who), self.conns[&id].worker);
        let joined = order.join(&who, worker, start, now);
        let joined = joined.expect("room for all, and nobody comes from the future");
        let expected = self.ledgers[at].start(start, self.now);
        if at == LIVE {
            assert_eq!((joined.seq, joined.after), (0, 0));
        } else {
            assert_eq!((joined.recovered, joined.after), expected, "{} {start:?}", NAMES[at]);
            assert_eq!(joined.seq, self.ledgers[at].seq());
        }
        self.tally.recovered += u64::from(start.since.is_some() && joined.recovered && at != LIVE);
        self.tally.not_recovered += u64::from(!joined.recovered);
        self.tally.behind += u64::from(joined.after < joined.seq);
        if let Some(announcement) = &joined.announcement {
            self.deliver(&order, at, announcement);
        }
        self.timers.extend(joined.wake.map(|wake| (wake.0, at)));
        let live = joined.after >= joined.seq;
        let list = start.since.is_none() && known.is_none();
        self.push(
            id,
            Frame::Joined {
                room: at,
                epoch: joined.epoch.to_string(),
                seq: joined.seq,
                recovered: joined.recovered,
                rewind: start.rewind,
                view: (list && at != LIVE).then(|| View::of(&order)),
            },
        );
        let known = if list { joined.presence_seq } else { known.unwrap_or(0) };
        if live && known != joined.presence_seq {
            self.push_presence(id, &order, at);
        }
        let behind = (!live).then_some(Behind { after: joined.after, presence_seq: known });
        drop(order);
        self.conn(id).rooms.insert(at, Membership { room, behind });
        Ok(())
    }

    fn leave(&mut self, id: u64, at: usize, room: &Arc<Room>, ending: Ending) {
        let (who, worker) = (Arc::clone(&self.conns[&id].who), self.conns[&id].worker);
        let mut order = room.order();
        let left = order.leave(&who, worker, ending, Timestamp(self.now));
        if let Some(announcement) = &left.announcement {
            self.deliver(&order, at, announcement);
        }
        drop(order);
        self.timers.extend(left.wake.map(|wake| (wake.0, at)));
        if left.empty {
            self.release(at, room);
        }
    }

    /// A connection ends.
    pub(super) fn end(&mut self, id: u64, ending: Ending) {
        self.conn(id).parked.clear();
        while let Some((at, member)) = self.conn(id).rooms.pop_first() {
            self.leave(id, at, &member.room, ending);
        }
        self.conns.remove(&id);
    }

    fn publish(&mut self, id: u64, at: usize, reference: u64, n: u64) {
        let Some(member) = self.conns[&id].rooms.get(&at) else {
            return self.push(id, Frame::Failed { reference, for_ever: false });
        };
        let room = Arc::clone(&member.room);
        let (who, worker) = (Arc::clone(&self.conns[&id].who), self.conns[&id].worker);
        let text = format!(r#"{{"type":"chat","n":{n},"ref":{reference}}}"#);
        let session = who.session_id();
        let asker = asker(id, worker);
        let author = Author { user_id: who.user_id(), session, asker };
        let mut order = room.order();
        let epoch = order.epoch().to_string();
        let expected = self.ledgers[at].look_up(session, reference);
        let published = order.publish(&author, &message(&text), Timestamp(self.now));
        if at == LIVE {
            let Ok(Published::Now { frame, seq: None, .. }) = published else { panic!() };
            self.deliver(&order, at, &frame);
            return self.push(id, Frame::Ack { room: at, reference, epoch, seq: 0 });
        }
        match (expected, published) {
            (Expected::Before(before), Ok(Published::Before { seq, .. })) => {
                assert_eq!(seq, before);
                self.tally.published_before += 1;
                self.push(id, Frame::Ack { room: at, reference, epoch, seq });
            }
            (Expected::Pending, Ok(Published::Later)) => self.tally.repeated_while_stored += 1,
            (Expected::TooOld, Err(fault)) => {
                assert_eq!(fault.code, Code::BadMessage);
                self.push(id, Frame::Failed { reference, for_ever: true });
            }
            (Expected::New, Ok(Published::Now { frame, seq: Some(seq), timestamp })) => {
                self.ledgers[at].stored(session, reference, n, seq, timestamp.0);
                self.deliver(&order, at, &frame);
                self.push(id, Frame::Ack { room: at, reference, epoch, seq });
            }
            (Expected::New, Ok(Published::Later)) => {
                self.ledgers[at].under_way(session, reference);
            }
            (Expected::New, Err(fault)) => {
                assert_eq!(fault.code, Code::Unavailable);
                self.push(id, Frame::Failed { reference, for_ever: false });
            }
            (expected, published) => panic!("{expected:?}: {published:?}"),
        }
    }

    pub(super) fn store(&mut self, pick: usize, well: bool) {
        let Some(Answer::Appended(outcome)) = self.slow.answer_append(pick, well) else { return };
        let at = NAMES.iter().position(|name| *name == outcome.room.name()).unwrap();
        let (session, reference) = (&*outcome.session, outcome.reference);
        let mut order = outcome.room.order();
        let completed = order.complete(&outcome);
        let epoch = order.epoch().to_string();
        assert_eq!(completed.stored.is_some(), well);
        self.tally.failed += u64::from(!well);
        let waiting = self.ledgers[at].answered(session, reference);
        if let Some(((seq, timestamp), frame)) =
            completed.stored.as_ref().zip(completed.frame.as_ref())
        {
            let n = number(frame.payload());
            self.ledgers[at].stored(session, reference, n, *seq, timestamp.0);
            self.deliver(&order, at, frame);
        }
        let empty = order.is_empty();
        drop(order);
        assert_eq!(completed.askers.len(), waiting, "everybody who asked is answered");
        for asker in completed.askers {
            let frame = match &completed.stored {
                Some((seq, _)) => {
                    Frame::Ack { room: at, reference, epoch: epoch.clone(), seq: *seq }
                }
                None => Frame::Failed { reference, for_ever: false },
            };
            self.push(asker.token, frame);
        }
        if empty {
            self.release(at, &outcome.room);
        }
    }

    pub(super) fn open(&mut self, well: bool) {
        let Some(Answer::Opened(room, result)) = self.slow.answer_opening(well) else { return };
        let at = NAMES.iter().position(|name| *name == room.name()).unwrap();
        let waiting = self.hub.opened(&room, result);
        if well {
            self.ledgers[at].opened(&room.order().epoch().to_string());
        }
        for asker in waiting {
            self.unpark(asker.token);
        }
        if room.order().is_empty() {
            self.release(at, &room);
        }
    }

    fn release(&mut self, at: usize, room: &Arc<Room>) {
        if self.hub.release(room) {
            self.ledgers[at].closed();
        }
    }

    pub(super) fn catch_up(&mut self, client: usize, chunk: usize) {
        let Some(id) = self.clients[client].conn else { return };
        let rooms = &self.conns[&id].rooms;
        let behind = rooms.iter().find(|(_, member)| member.behind.is_some());
        let Some((&at, Membership { room, behind: Some(behind) })) = behind else { return };
        let (room, after, known) = (Arc::clone(room), behind.after, behind.presence_seq);
        let order = room.order();
        let mut texts = Vec::new();
        let replay = order.replay(after, |frame| {
            texts.push(throng_hub::text_of(frame).to_vec());
            texts.len() < chunk
        });
        let lost = self.ledgers[at].is_lost(after);
        assert_eq!(replay == Replay::Lost, lost, "behind {after} in {}", NAMES[at]);
        for text in texts {
            self.push(id, Frame::Push { room: at, text });
        }
        match replay {
            Replay::Lost => {
                drop(order);
                self.tally.overtaken += 1;
                // Too slow: the server closes the connection.
                self.drop_client(client, Ending::Lost);
            }
            Replay::More(after) => {
                let member = self.conn(id).rooms.get_mut(&at).unwrap();
                member.behind = Some(Behind { after, presence_seq: known });
            }
            Replay::Live => {
                if order.presence_seq() != known {
                    self.push_presence(id, &order, at);
                }
                self.conn(id).rooms.get_mut(&at).unwrap().behind = None;
            }
        }
    }

    pub(super) fn look(&mut self) {
        while let Some((due, at)) = self.timers.first().copied()
            && due <= self.now
        {
            self.timers.pop_first();
            let Some(room) = self.hub.find(Space::ROOMS, NAMES[at]) else { continue };
            let mut order = room.order();
            let looked = order.handle_timeout(Timestamp(self.now));
            self.tally.graces += looked.frames.len() as u64;
            for frame in &looked.frames {
                self.deliver(&order, at, frame);
            }
            let empty = order.is_empty();
            drop(order);
            self.timers.extend(looked.wake.map(|wake| (wake.0, at)));
            if empty {
                self.release(at, &room);
            }
        }
    }

    pub(super) fn restart(&mut self, stored: usize) {
        self.slow.crash(stored);
        for client in &mut self.clients {
            client.disconnect();
        }
        self.conns.clear();
        self.timers.clear();
        self.runs += 1;
        // A process begins after the one before has ended, and later than anything there.
        self.now = self.latest + 1;
        self.latest = self.now;
        self.started = self.now;
        self.slow = Slow::new(&self.disk);
        self.hub = hub(self.runs, &self.slow);
        for (at, ledger) in self.ledgers.iter_mut().enumerate() {
            let stored = self.disk.messages(NAMES[at]);
            if NAMES[at].starts_with("disk") {
                self.tally.survived_a_crash += stored.len() as u64 - ledger.seq();
            }
            ledger.restart(&stored.iter().map(line).collect::<Vec<_>>());
        }
    }

    /// A frame for all members goes into the queues of those that are live.
    fn deliver(&mut self, order: &Order<'_>, at: usize, frame: &Prepared) {
        let workers: BTreeSet<_> = order.workers().collect();
        for conn in self.conns.values_mut().filter(|conn| workers.contains(&conn.worker)) {
            if conn.rooms.get(&at).is_some_and(|member| member.behind.is_none()) {
                let text = frame.payload().to_vec();
                conn.out.push_back(Frame::Push { room: at, text });
            }
        }
    }

    fn push_presence(&mut self, conn: u64, order: &Order<'_>, at: usize) {
        let mut text = Vec::new();
        if order.presence(&mut text, None).is_ok() {
            self.push(conn, Frame::Push { room: at, text });
        }
    }

    fn push(&mut self, conn: u64, frame: Frame) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.out.push_back(frame);
        }
    }

    fn conn(&mut self, conn: u64) -> &mut Conn {
        self.conns.get_mut(&conn).expect("a connection that is there")
    }
}

fn asker(conn: u64, worker: usize) -> Asker {
    Asker { worker: worker as u32, token: conn }
}
