//! What other threads, and other connections, have for a worker.

use std::time::Instant;

use super::{Worker, find};
use crate::conn::Farewell;
use crate::fanout::Leaving;
use crate::inbox::Post;
use crate::policy::REPLACED;
use crate::session::Session;
use crate::wheel::ConnId;

impl Worker {
    /// Handles what waits.
    pub(super) fn drain_inbox(&mut self) {
        // Handling posts makes posts (a handler's broadcast, a leave's announcement); they
        // belong to this turn. Bounded, so that two workers can't keep each other from polling.
        for _ in 0..8 {
            let mut posts = std::mem::take(&mut self.posts);
            self.shared.inbox(self.index).drain(&mut posts);
            let empty = posts.is_empty();
            // Known from the first room that begins anew.
            let mut leaving = None;
            let mut rest = posts.drain(..);
            while let Some(post) = rest.next() {
                match (post, &mut leaving) {
                    (Post::Renew(room, message), leaving) => {
                        let leaving =
                            leaving.get_or_insert_with(|| Leaving::ahead(rest.as_slice()));
                        let Self { fanout, conns, tick, touched, .. } = self;
                        fanout.renew(room, &message, leaving, conns, &mut tick.out, touched);
                    }
                    (Post::Exit(id, room), Some(leaving)) => {
                        leaving.passed(id, room);
                        self.handle_post(Post::Exit(id, room));
                    }
                    (post, _) => self.handle_post(post),
                }
            }
            drop(rest);
            if posts.capacity() > 4096 {
                posts.shrink_to(4096);
            }
            self.posts = posts;
            self.settle_touched();
            if empty {
                break;
            }
        }
    }

    fn handle_post(&mut self, post: Post) {
        match post {
            Post::Deliver(room, message) => {
                if let Some(full) = self.fanout.deliver(room, &message, &mut self.tick.out) {
                    let Self { fanout, conns, tick, touched, .. } = self;
                    fanout.flush_full(full, conns, &mut tick.out, touched);
                }
            }
            Post::DeliverNews(room, message) => {
                let Self { fanout, conns, tick, touched, .. } = self;
                if let Some(full) = fanout.deliver_news(room, &message, &mut tick.out) {
                    fanout.flush_full(full, conns, &mut tick.out, touched);
                }
            }
            Post::DeliverFrom(room, message, from) => {
                let Self { fanout, conns, tick, touched, .. } = self;
                let full = fanout.deliver_from(room, &message, from, conns, &mut tick.out);
                touched.push(from.key);
                if let Some(full) = full {
                    fanout.flush_full(full, conns, &mut tick.out, touched);
                }
            }
            Post::Ready(token) => {
                let id = ConnId::from_token(token);
                let Some(conn) = find(&mut self.conns, id) else { return };
                if conn.is_parked() {
                    conn.unpark(&mut self.tick, &self.shared);
                    if !conn.is_parked() {
                        self.queue(id.key);
                    }
                    self.touched.push(id.key);
                }
            }
            Post::Renew(..) => {} // handled where the posts behind it are known
            Post::Stored(..) | Post::Refresh(_) | Post::End => {} // for the front
            Post::Review(id, review) => {
                let Some(conn) = find(&mut self.conns, id) else { return };
                Session::review(conn, *review, &mut self.tick.out, &self.shared);
                conn.flush_cork(&mut self.tick.out);
                self.touched.push(id.key);
            }
            Post::Adopt(arrival) => self.adopt(*arrival),
            Post::Enter(id, room, echo, sight) => {
                if let Some(conn) = find(&mut self.conns, id)
                    && conn.is_open()
                    && conn.session.is_in(&room)
                {
                    self.fanout.enter(conn, &room, echo, sight);
                }
            }
            Post::Exit(id, room) => {
                if find(&mut self.conns, id).is_some() {
                    self.fanout.leave(&mut self.conns, id.key, Some(room), &self.tick.out);
                }
            }
            Post::Send(id, frame) => {
                let Some(conn) = find(&mut self.conns, id) else { return };
                self.touched.push(id.key);
                conn.post_frame(frame, &mut self.tick.out);
            }
            Post::Answer(id, frame) => {
                let Some(conn) = find(&mut self.conns, id) else { return };
                self.touched.push(id.key);
                conn.post_answer(frame, &mut self.tick.out);
            }
            Post::Close(id, code, reason) => {
                let Some(conn) = find(&mut self.conns, id) else { return };
                if code != REPLACED {
                    conn.set_farewell(Farewell::Over);
                }
                conn.begin_close(&mut self.tick.out, code, &reason);
                conn.flush_cork(&mut self.tick.out);
                self.touched.push(id.key);
            }
            Post::Terminate(id) => {
                let Some(conn) = find(&mut self.conns, id) else { return };
                conn.kill();
                self.touched.push(id.key);
            }
            Post::Drain(slots) => self.begin_drain(slots),
            Post::Undrain => self.departures.end(),
            Post::Shutdown(grace) => {
                self.hurry_departures();
                let end = Instant::now() + grace;
                self.end = Some(end);
                let keys: Vec<u32> = self.conns.iter().map(|(key, _)| key as u32).collect();
                for key in keys {
                    self.say_goodbye(key, end);
                }
            }
        }
    }
}
