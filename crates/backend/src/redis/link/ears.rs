use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use redis::{PushKind, Value};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{
    Backoff, Expect, LinkId, News, PING, Post, QUIET, STEADY, Server, Stream, TICK, Trouble, Wish,
    Writer, fit, is_dead,
};

/// The connection for channels.
pub(super) struct Ears {
    id: LinkId,
    server: Rc<Server>,
    expect: Expect,
    post: Post,
    wishes: UnboundedReceiver<Wish>,
    /// What is to be heard.
    wanted: HashMap<Rc<str>, State>,
    /// It was told that the server does not let us hear something.
    warned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Asked,
    Heard,
    /// The server did not let us; asked again later.
    Refused(Instant),
}

/// What the server still has to confirm.
enum Owed {
    Pong,
    Hear(Rc<str>),
    Leave(Rc<str>),
}

/// What is to be sent, and what was.
#[derive(Default)]
struct Talk {
    todo: VecDeque<Wish>,
    owed: VecDeque<(Owed, Instant)>,
}

impl Ears {
    pub(super) fn new(
        id: LinkId,
        server: Rc<Server>,
        expect: Expect,
        post: Post,
        wishes: UnboundedReceiver<Wish>,
    ) -> Self {
        Self { id, server, expect, post, wishes, wanted: HashMap::new(), warned: false }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let trouble = match fit(&self.server, self.expect).await {
                Ok(stream) => {
                    self.say(News::Ears).await;
                    let began = Instant::now();
                    let trouble = match self.exchange(stream).await {
                        Ok(trouble) => trouble,
                        Err(error) => Trouble::Away(error.to_string()),
                    };
                    if began.elapsed() > STEADY {
                        backoff = Backoff::default();
                    }
                    trouble
                }
                Err(trouble) => trouble,
            };
            self.say(News::Deaf(trouble)).await;
            if self.wishes.is_closed() {
                return;
            }
            sleep(backoff.next()).await;
        }
    }

    async fn exchange(&mut self, stream: Stream) -> io::Result<Trouble> {
        let Stream { mut reader, mut writer, .. } = stream;
        let mut talk = Talk::default();
        self.warned = false;
        let mut heard = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for (channel, state) in &mut self.wanted {
            *state = State::Asked;
            talk.todo.push_back(Wish::Hear(channel.clone()));
        }
        loop {
            talk.fill(&mut writer);
            tokio::select! {
                value = reader.next() => {
                    heard = Instant::now();
                    if let Some(trouble) = self.hear(value?, &mut talk).await {
                        return Ok(trouble);
                    }
                }
                result = writer.work(), if writer.has_work() => result?,
                wish = self.wishes.recv() => match wish {
                    Some(wish) => self.wish(wish, &mut talk),
                    None => return Ok(Trouble::Away("closed".to_owned())),
                },
                _ = tick.tick() => {
                    if talk.owed.front().is_some_and(|(_, since)| is_dead(*since, heard)) {
                        // As in the other connection.
                        let Ok(value) = timeout(Duration::ZERO, reader.next()).await else {
                            return Ok(Trouble::Away("it does not answer".to_owned()));
                        };
                        heard = Instant::now();
                        if let Some(trouble) = self.hear(value?, &mut talk).await {
                            return Ok(trouble);
                        }
                    }
                    if talk.owed.is_empty() && heard.elapsed() >= QUIET {
                        writer.bytes.extend_from_slice(PING);
                        talk.owed.push_back((Owed::Pong, Instant::now()));
                    }
                    for (channel, state) in &mut self.wanted {
                        if matches!(state, State::Refused(since) if since.elapsed() >= QUIET) {
                            *state = State::Asked;
                            talk.todo.push_back(Wish::Hear(channel.clone()));
                        }
                    }
                }
            }
        }
    }

    /// Between connections wishes only wait in their queue.
    fn wish(&mut self, wish: Wish, talk: &mut Talk) {
        match &wish {
            Wish::Hear(channel) => {
                self.wanted.insert(channel.clone(), State::Asked);
            }
            Wish::Leave(channel) => {
                self.wanted.remove(channel);
            }
        }
        talk.todo.push_back(wish);
    }

    async fn hear(&mut self, value: Value, talk: &mut Talk) -> Option<Trouble> {
        let strange = || Some(Trouble::Away("it answers what was not asked".to_owned()));
        match value {
            Value::Push { kind: PushKind::SMessage, data } => {
                let [channel, payload] = <[Value; 2]>::try_from(data).ok()?;
                let (Value::BulkString(channel), Value::BulkString(payload)) = (channel, payload)
                else {
                    return None;
                };
                let channel = String::from_utf8(channel).ok()?;
                self.say(News::Said { channel, payload }).await;
            }
            Value::Push { kind: PushKind::SSubscribe, data } => {
                let channel = channel(&data)?;
                let Some((Owed::Hear(asked), _)) = talk.owed.pop_front() else { return strange() };
                if *asked != *channel {
                    return strange();
                }
                if let Some(state) = self.wanted.get_mut(channel) {
                    *state = State::Heard;
                    self.say(News::Heard(asked)).await;
                }
            }
            Value::Push { kind: PushKind::SUnsubscribe, data } => {
                let channel = channel(&data)?;
                match talk.owed.front() {
                    Some((Owed::Leave(asked), _)) if **asked == *channel => {
                        talk.owed.pop_front();
                    }
                    // Not asked for: the slot has moved to another server.
                    _ => {
                        if let Some((channel, _)) = self.wanted.remove_entry(channel) {
                            self.say(News::Moved(channel)).await;
                        }
                    }
                }
            }
            Value::Push { .. } => {}
            Value::ServerError(error) => match talk.owed.pop_front() {
                Some((Owed::Hear(asked), _)) if error.code() == "MOVED" => {
                    if let Some((channel, _)) = self.wanted.remove_entry(&asked) {
                        self.say(News::Moved(channel)).await;
                    }
                }
                Some((Owed::Hear(asked), _)) => {
                    if !std::mem::replace(&mut self.warned, true) {
                        let (code, detail) = (error.code(), error.details());
                        tracing::warn!(channel = &*asked, code, detail, "this cannot be heard");
                    }
                    if let Some(state) = self.wanted.get_mut(&asked) {
                        *state = State::Refused(Instant::now());
                    }
                }
                _ => {}
            },
            _ => {
                let Some((Owed::Pong, _)) = talk.owed.pop_front() else { return strange() };
            }
        }
        None
    }

    async fn say(&self, news: News) {
        let _ = self.post.send((self.id, news)).await;
    }
}

impl Talk {
    /// Asks for some more channels when the server has confirmed enough of the last ones. One command for each: in a
    /// cluster those of one command must be of one slot.
    fn fill(&mut self, writer: &mut Writer) {
        while self.owed.len() < TOGETHER {
            let Some(wish) = self.todo.pop_front() else { break };
            let (name, owed) = match wish {
                Wish::Hear(channel) => ("SSUBSCRIBE", Owed::Hear(channel)),
                Wish::Leave(channel) => ("SUNSUBSCRIBE", Owed::Leave(channel)),
            };
            let (Owed::Hear(channel) | Owed::Leave(channel)) = &owed else { continue };
            writer.command(&[name, channel]);
            self.owed.push_back((owed, Instant::now()));
        }
    }
}

fn channel(data: &[Value]) -> Option<&str> {
    let Some(Value::BulkString(channel)) = data.first() else { return None };
    std::str::from_utf8(channel).ok()
}

/// Channels asked for at once.
const TOGETHER: usize = 512;
