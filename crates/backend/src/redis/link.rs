//! One server: a connection for commands and one for channels, each made again when it breaks.
//!
//! Both are watched: when nothing is heard for a second a `PING` is sent, and a connection that owes an answer for
//! some seconds and sends nothing is given up. What was under way then is [`Failure::Unknown`]; what was not yet sent is
//! [`Failure::Away`].

mod ears;
mod stream;

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use redis::Value;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use stream::Writer;
pub(super) use stream::{Server, Stream, Tls, Trouble};

use super::script::{Call, SCRIPTS};
use super::step::Failure;

/// One server. Dropped, its connections end, and what is under way is reported as [`Failure::Unknown`].
#[derive(Debug)]
pub(super) struct Link {
    calls: UnboundedSender<Sent>,
    wishes: UnboundedSender<Wish>,
}

/// Which link of a [`Topology`](super::topology::Topology). Never used twice.
pub(super) type LinkId = usize;

/// A command on its way.
#[derive(Debug)]
pub(super) struct Sent {
    /// Which answer belongs to it.
    pub(super) id: u64,
    pub(super) call: Call,
    /// The server is to do it although the slot is only on its way there.
    pub(super) asking: bool,
    /// When it was asked for first.
    pub(super) since: Instant,
    /// It was sent somewhere else before.
    pub(super) again: bool,
    /// How often it was sent on without a pause.
    pub(super) hops: u8,
}

/// What is to become of a channel.
#[derive(Debug)]
pub(super) enum Wish {
    Hear(Rc<str>),
    Leave(Rc<str>),
}

/// What a link has to say.
#[derive(Debug)]
pub(super) enum News {
    /// Commands reach the server.
    Up,
    /// They do not.
    Down(Trouble),
    /// How a command ended.
    Answer { sent: Sent, answer: Answer },
    /// Channels can be heard.
    Ears,
    /// They cannot, and none is.
    Deaf(Trouble),
    /// A channel is heard from here on.
    Heard(Rc<str>),
    /// The server no longer has it.
    Moved(Rc<str>),
    /// Something came on a channel.
    Said { channel: String, payload: Vec<u8> },
    /// The sentinels say where the primary is.
    Primary { host: String, port: u16 },
    /// The cluster says who has which slots: first, last, host, port.
    Slots(Vec<(u16, u16, String, u16)>),
    /// Nobody can say where the primaries are.
    Lost(Trouble),
}

/// How a command ended.
#[derive(Debug)]
pub(super) enum Answer {
    Value(Value),
    /// The server says no: the code, and what else it says.
    Error(String, String),
    Failed(Failure),
}

/// What servers are there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expect {
    pub(super) cluster: bool,
}

/// Where news go.
pub(super) type Post = Sender<(LinkId, News)>;

impl Link {
    /// Begins to connect.
    pub(super) fn new(id: LinkId, server: Server, expect: Expect, post: Post) -> Self {
        let server = Rc::new(server);
        let (calls, todo) = unbounded_channel();
        let (wishes, wanted) = unbounded_channel();
        let mouth = Mouth { id, server: server.clone(), expect, post: post.clone(), todo };
        let ears = ears::Ears::new(id, server, expect, post, wanted);
        tokio::task::spawn_local(mouth.run());
        tokio::task::spawn_local(ears.run());
        Self { calls, wishes }
    }

    /// Sends a command; [`News::Answer`] says how it ended.
    pub(super) fn send(&self, sent: Sent) {
        let _ = self.calls.send(sent);
    }

    /// Hears a channel, until it is left, over all reconnections.
    pub(super) fn hear(&self, channel: Rc<str>) {
        let _ = self.wishes.send(Wish::Hear(channel));
    }

    pub(super) fn leave(&self, channel: Rc<str>) {
        let _ = self.wishes.send(Wish::Leave(channel));
    }
}

/// The connection for commands.
struct Mouth {
    id: LinkId,
    server: Rc<Server>,
    expect: Expect,
    post: Post,
    todo: UnboundedReceiver<Sent>,
}

/// A command that was sent.
struct Pending {
    /// Empty for a `PING`.
    sent: Option<Sent>,
    /// Answers before its own: of `ASKING`.
    extra: u8,
    since: Instant,
    /// It was sent with the text of the script.
    whole: bool,
}

impl Mouth {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let server = self.server.clone();
            let connecting = ready(&server, self.expect);
            tokio::pin!(connecting);
            let stream = loop {
                tokio::select! {
                    stream = &mut connecting => break stream,
                    sent = self.todo.recv() => match sent {
                        Some(sent) => self.answer(sent, Answer::Failed(Failure::Away)).await,
                        None => return,
                    },
                }
            };
            let trouble = match stream {
                Ok(stream) => {
                    self.say(News::Up).await;
                    let began = Instant::now();
                    let trouble = self.serve(stream).await;
                    if began.elapsed() > STEADY {
                        backoff = Backoff::default();
                    }
                    trouble
                }
                Err(trouble) => trouble,
            };
            self.say(News::Down(trouble)).await;
            let until = sleep_until(Instant::now() + backoff.next());
            tokio::pin!(until);
            loop {
                tokio::select! {
                    () = &mut until => break,
                    sent = self.todo.recv() => match sent {
                        Some(sent) => self.answer(sent, Answer::Failed(Failure::Away)).await,
                        None => return,
                    },
                }
            }
        }
    }

    /// Sends what comes, until the connection breaks.
    async fn serve(&mut self, stream: Stream) -> Trouble {
        let mut pending = VecDeque::new();
        let trouble = match self.exchange(stream, &mut pending).await {
            Ok(trouble) => trouble,
            Err(error) => Trouble::Away(error.to_string()),
        };
        for Pending { sent, .. } in pending {
            if let Some(sent) = sent {
                self.answer(sent, Answer::Failed(Failure::Unknown)).await;
            }
        }
        trouble
    }

    async fn exchange(
        &mut self,
        stream: Stream,
        pending: &mut VecDeque<Pending>,
    ) -> io::Result<Trouble> {
        let Stream { mut reader, mut writer, .. } = stream;
        let mut heard = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What waits goes together.
            while writer.bytes.len() < TOGETHER {
                match self.todo.try_recv() {
                    Ok(sent) => enqueue(sent, false, &mut writer.bytes, pending),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            tokio::select! {
                value = reader.next() => {
                    heard = Instant::now();
                    let value = value?;
                    if let Some(trouble) = self.hear(value, &mut writer.bytes, pending).await {
                        return Ok(trouble);
                    }
                }
                result = writer.work(), if writer.has_work() => result?,
                sent = self.todo.recv(), if writer.bytes.len() < TOGETHER => match sent {
                    Some(sent) => enqueue(sent, false, &mut writer.bytes, pending),
                    None => return Ok(Trouble::Away("closed".to_owned())),
                },
                _ = tick.tick() => {
                    let oldest = pending.front().map(|pending| pending.since);
                    if oldest.is_some_and(|oldest| is_dead(oldest, heard)) {
                        // Before the time counts, so does what has come already: this thread may have slept.
                        let Ok(value) = timeout(Duration::ZERO, reader.next()).await else {
                            return Ok(Trouble::Away("it does not answer".to_owned()));
                        };
                        heard = Instant::now();
                        let trouble = self.hear(value?, &mut writer.bytes, pending).await;
                        if let Some(trouble) = trouble {
                            return Ok(trouble);
                        }
                    }
                    if pending.is_empty() && heard.elapsed() >= QUIET {
                        writer.bytes.extend_from_slice(PING);
                        let since = Instant::now();
                        pending.push_back(Pending { sent: None, extra: 0, since, whole: false });
                    }
                }
            }
        }
    }

    async fn hear(
        &mut self,
        value: Value,
        out: &mut Vec<u8>,
        pending: &mut VecDeque<Pending>,
    ) -> Option<Trouble> {
        if matches!(value, Value::Push { .. }) {
            return None;
        }
        let front = pending.front_mut()?;
        if front.extra > 0 {
            front.extra -= 1;
            return None;
        }
        let Pending { sent: Some(sent), whole, .. } = pending.pop_front()? else { return None };
        let Value::ServerError(error) = value else {
            self.answer(sent, Answer::Value(value)).await;
            return None;
        };
        let (code, detail) = (error.code().to_owned(), error.details().unwrap_or("").to_owned());
        if code == "NOSCRIPT" && !whole {
            enqueue(sent, true, out, pending);
            return None;
        }
        // No longer the primary: whoever knows which is has to be asked.
        let readonly = code == "READONLY";
        self.answer(sent, Answer::Error(code, detail)).await;
        readonly.then_some(Trouble::Mode(REPLICA))
    }

    async fn answer(&self, sent: Sent, answer: Answer) {
        self.say(News::Answer { sent, answer }).await;
    }

    async fn say(&self, news: News) {
        let _ = self.post.send((self.id, news)).await;
    }
}

fn enqueue(sent: Sent, whole: bool, out: &mut Vec<u8>, pending: &mut VecDeque<Pending>) {
    if sent.asking {
        out.extend_from_slice(ASKING);
    }
    sent.call.write(out, whole);
    let extra = u8::from(sent.asking);
    pending.push_back(Pending { sent: Some(sent), extra, since: Instant::now(), whole });
}

/// A connection to a primary of the right kind that knows our scripts.
async fn ready(server: &Server, expect: Expect) -> Result<Stream, Trouble> {
    let mut stream = fit(server, expect).await?;
    let load = async {
        for script in SCRIPTS {
            stream.ask(&["SCRIPT", "LOAD", script.source]).await?;
        }
        warn_of_eviction(server, &mut stream).await;
        Ok(())
    };
    match tokio::time::timeout(Duration::from_secs(3), load).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(trouble)) => Err(trouble),
        Err(_) => Err(Trouble::Away("no answer".to_owned())),
    }
}

/// A server that forgets what it likes when its memory is full is no good place for rooms.
async fn warn_of_eviction(server: &Server, stream: &mut Stream) {
    let Ok(info) = stream.ask(&["INFO", "memory"]).await else { return };
    let text = match &info {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        _ => return,
    };
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let policy = field("maxmemory_policy:").unwrap_or("noeviction");
    if policy != "noeviction" && field("maxmemory:").is_some_and(|bytes| bytes != "0") {
        let address = server.address();
        tracing::warn!(address, policy, "Redis may forget rooms: set maxmemory-policy noeviction");
    }
}

/// A connection to a primary of the right kind.
async fn fit(server: &Server, expect: Expect) -> Result<Stream, Trouble> {
    let stream = server.connect().await?;
    let hello = &stream.hello;
    let major = hello.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < 7) {
        return Err(Trouble::TooOld(hello.version.clone()));
    }
    match (hello.cluster, expect.cluster) {
        (true, false) => Err(Trouble::Mode("is a node of a cluster")),
        (false, true) => Err(Trouble::Mode("is no node of a cluster")),
        _ if hello.replica => Err(Trouble::Mode(REPLICA)),
        _ => Ok(stream),
    }
}

/// Whether a connection is given up that owes an answer since `owed` and was heard last at `heard`.
fn is_dead(owed: Instant, heard: Instant) -> bool {
    owed.elapsed() > PATIENCE || owed.elapsed() > SILENCE && heard.elapsed() > SILENCE
}

/// How long to wait before the next attempt: 50 ms at first, up to 2 s, never all nodes at once.
#[derive(Debug, Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let most = Duration::from_millis(50 << self.attempts.min(6)).min(Duration::from_secs(2));
        self.attempts += 1;
        let mut byte = [0; 1];
        let _ = getrandom::fill(&mut byte);
        most.mul_f64(0.5 + f64::from(byte[0]) / 512.0)
    }
}

pub(super) const REPLICA: &str = "is a replica";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
/// A connection that has lasted so long was a good one.
const STEADY: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(250);
/// Nothing was heard for so long: ask.
const QUIET: Duration = Duration::from_secs(1);
/// Nothing was heard for so long, and an answer is owed.
const SILENCE: Duration = Duration::from_millis(3500);
/// An answer is owed for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of commands written together.
const TOGETHER: usize = 256 << 10;
