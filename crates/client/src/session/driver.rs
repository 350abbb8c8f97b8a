//! The task of a session: does what the core decides, and tells it what happens.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, RETRY_AFTER};
use throng_protocol::SUBPROTOCOL;
use throng_wire::CloseCode;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};

use crate::client::Client;
use crate::connection::WebSocket;
use crate::error::{Error, Fault};
use crate::message::Message;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::session::core::{self, Answer, Core, End, Output, RoomKey, Token};
use crate::session::error::{CloseReason, SessionError};
use crate::session::event::{HistoryQuery, JoinOptions};
use crate::session::feed::Feed;
use crate::session::outgoing::Body;
use crate::session::status::Status;
use crate::subprotocols::Credential;
use crate::target::Target;

/// What the handles ask of the task.
pub(crate) enum Command {
    Join { name: String, options: JoinOptions, feed: Arc<Feed>, buffer: usize, reply: Reply },
    Me { feed: Arc<Feed>, buffer: usize, reply: Reply },
    Leave { key: RoomKey, reply: Reply },
    Publish { target: core::Target, body: Body, reply: Reply },
    Volatile { target: core::Target, body: Body },
    History { key: RoomKey, query: HistoryQuery, reply: Reply },
    Ping { reply: Reply },
    Auth { ticket: String, reply: Reply },
    Hurry,
    Close,
}

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Answer, SessionError>>;

/// How a new session gets its ticket.
pub(crate) type TicketSource = Arc<dyn Fn() -> TicketFuture + Send + Sync>;
/// The ticket, or none for now.
pub(crate) type TicketFuture = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// How connections are opened.
pub(crate) struct Connector {
    pub(crate) client: Client,
    /// Where else to connect.
    pub(crate) others: Vec<Target>,
    /// So many attempts were made.
    pub(crate) attempts: usize,
    pub(crate) name: Option<String>,
    pub(crate) credentials: Credentials,
}

/// What new sessions show.
#[derive(Clone)]
pub(crate) enum Credentials {
    None,
    Token(String),
    Tickets(TicketSource),
}

/// The task.
pub(crate) struct Driver {
    pub(crate) core: Core,
    pub(crate) connector: Connector,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) returned: Arc<Notify>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) max_open: usize,
    tables: Tables,
    socket: Socket,
    next_token: u64,
    /// Whether the session is over.
    over: bool,
}

/// Who waits for what.
#[derive(Default)]
struct Tables {
    replies: HashMap<Token, Waiting>,
    feeds: HashMap<RoomKey, Arc<Feed>>,
}

struct Waiting {
    reply: Reply,
    /// Of one that joins.
    feed: Option<Arc<Feed>>,
}

enum Socket {
    None,
    Connecting(Pin<Box<dyn Future<Output = Result<WebSocket, End>> + Send>>),
    /// With `stuck`, a text could not be sent; the receiver will say why.
    Open {
        sender: Sender,
        receiver: Box<Receiver>,
        stuck: bool,
    },
}

/// What the task was waiting for.
enum Event {
    Opened(Result<Box<WebSocket>, End>),
    Received(Result<Option<Message>, Error>),
    Commanded(Option<Command>),
    Returned,
    Timeout,
    Written,
}

impl Driver {
    pub(crate) fn new(
        core: Core,
        connector: Connector,
        commands: mpsc::Receiver<Command>,
        returned: Arc<Notify>,
        status: watch::Sender<Status>,
        max_open: usize,
    ) -> Self {
        Self {
            core,
            connector,
            commands,
            returned,
            status,
            max_open,
            tables: Tables::default(),
            socket: Socket::None,
            next_token: 0,
            over: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut closed = None;
        loop {
            while let Some(output) = self.core.poll_output() {
                match output {
                    Output::Close => self.over = true,
                    Output::Status(status @ Status::Closed(_)) => {
                        self.over |= status != Status::Closed(CloseReason::Ours);
                        closed = Some(status);
                    }
                    output => self.perform(output),
                }
            }
            if self.over {
                break;
            }
            let more = self.transmit().await;
            match self.wait(more).await {
                Event::Timeout => self.handle_timeout().await,
                event => self.handle(event),
            }
        }
        // No more commands are taken; those that wait find the session closed.
        self.commands.close();
        self.tables = Tables::default();
        if let Socket::Open { sender, mut receiver, .. } =
            std::mem::replace(&mut self.socket, Socket::None)
            && sender.close(CloseCode::NORMAL, "").is_ok()
        {
            // The time this takes is limited by the close timeout.
            while let Ok(Some(_)) = receiver.next().await {}
        }
        if let Some(status) = closed {
            self.status.send_replace(status);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { resume } => {
                self.socket = Socket::Connecting(Box::pin(self.connector.open(resume)));
            }
            Output::Disconnect => {
                if let Socket::Open { sender, .. } = &self.socket {
                    sender.terminate();
                }
                self.socket = Socket::None;
            }
            Output::Status(status) => {
                self.status.send_replace(status);
            }
            Output::Answer(token, answer) => self.answer(token, answer),
            Output::Event(key, event) => {
                if let Some(feed) = self.tables.feeds.get(&key) {
                    feed.put(event);
                }
            }
            Output::Starved(key) => {
                if let Some(feed) = self.tables.feeds.get(&key) {
                    feed.set_starved();
                }
            }
            Output::Close => {}
        }
    }

    fn answer(&mut self, token: Token, answer: Result<Answer, SessionError>) {
        let Some(waiting) = self.tables.replies.remove(&token) else { return };
        let joined = match (&answer, waiting.feed) {
            (Ok(Answer::Joined(key)), Some(feed)) => {
                self.tables.feeds.insert(*key, feed);
                Some(*key)
            }
            _ => None,
        };
        // Nobody waits any more for a room that was joined: nobody will read it.
        if waiting.reply.send(answer).is_err()
            && let Some(key) = joined
        {
            self.leave(key);
        }
    }

    fn leave(&mut self, key: RoomKey) {
        self.tables.feeds.remove(&key);
        self.core.handle_leave(key, None);
    }

    /// Gives the connection what it takes. True if something is left.
    async fn transmit(&mut self) -> bool {
        let Socket::Open { sender, stuck, .. } = &mut self.socket else { return false };
        let capacity = self.connector.client.send_buffer;
        let now = Instant::now();
        while !*stuck && (sender.buffered_amount() == 0 || sender.buffered_amount() < capacity) {
            let Some(text) = self.core.poll_transmit(now) else { return false };
            // Does not wait, as there is room.
            *stuck = sender.send_text(&text).await.is_err();
        }
        !*stuck && self.core.has_transmit(now)
    }

    async fn wait(&mut self, more: bool) -> Event {
        let deadline = self.core.poll_timeout().map(tokio::time::Instant::from_std);
        let timer = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let socket = async {
            match &mut self.socket {
                Socket::None => std::future::pending().await,
                Socket::Connecting(open) => Event::Opened(open.await.map(Box::new)),
                Socket::Open { sender, receiver, .. } if more => tokio::select! {
                    received = receiver.next() => Event::Received(received),
                    _ = sender.flush() => Event::Written,
                },
                Socket::Open { receiver, .. } => Event::Received(receiver.next().await),
            }
        };
        tokio::select! {
            event = socket => event,
            command = self.commands.recv() => Event::Commanded(command),
            () = self.returned.notified() => Event::Returned,
            () = timer => Event::Timeout,
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Opened(Ok(socket)) => {
                let (sender, receiver) = socket.split();
                self.socket = Socket::Open { sender, receiver: Box::new(receiver), stuck: false };
                self.core.handle_open(now);
            }
            Event::Opened(Err(end)) => {
                self.socket = Socket::None;
                self.core.handle_end(now, end);
            }
            Event::Received(Ok(Some(Message::Text(text)))) => self.core.handle_text(now, &text),
            Event::Received(Ok(Some(_))) => self.core.handle_sign(now),
            Event::Received(ended) => {
                let end = match (&self.socket, ended) {
                    (Socket::Open { receiver, .. }, Ok(None)) => match receiver.closed() {
                        Some(close) => End::Closed {
                            code: close.code.map(CloseCode::get),
                            reason: close.reason.clone(),
                        },
                        None => End::Lost,
                    },
                    _ => End::Lost,
                };
                self.socket = Socket::None;
                self.core.handle_end(now, end);
            }
            Event::Commanded(Some(command)) => self.command(now, command),
            // All handles are gone.
            Event::Commanded(None) => self.core.handle_close(),
            Event::Returned => self.take_back(now),
            Event::Written => {}
            Event::Timeout => self.core.handle_timeout(now),
        }
    }

    /// Before the time counts, so does what has come already: this task may have slept.
    async fn handle_timeout(&mut self) {
        if let Socket::Open { receiver, .. } = &mut self.socket
            && let Ok(received) = timeout(Duration::ZERO, receiver.next()).await
        {
            return self.handle(Event::Received(received));
        }
        self.handle(Event::Timeout);
    }

    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Join { name, options, feed, buffer, reply } => {
                if let Some(token) = self.token(reply, Some(feed)) {
                    self.core.handle_join(token, &name, options, buffer);
                }
            }
            Command::Me { feed, buffer, reply } => {
                if let Some(token) = self.token(reply, Some(feed)) {
                    self.core.handle_me(token, buffer);
                }
            }
            Command::Leave { key, reply } => {
                self.tables.feeds.remove(&key);
                let token = self.token(reply, None);
                self.core.handle_leave(key, token);
            }
            Command::Publish { target, body, reply } => {
                if let Some(token) = self.token(reply, None) {
                    self.core.handle_publish(token, &target, body);
                }
            }
            Command::Volatile { target, body } => self.core.handle_volatile(&target, &body),
            Command::History { key, query, reply } => {
                if let Some(token) = self.token(reply, None) {
                    self.core.handle_history(token, key, query);
                }
            }
            Command::Ping { reply } => {
                if let Some(token) = self.token(reply, None) {
                    self.core.handle_ping(now, token);
                }
            }
            Command::Auth { ticket, reply } => {
                if let Some(token) = self.token(reply, None) {
                    self.core.handle_auth(token, &ticket);
                }
            }
            Command::Hurry => self.core.handle_hurry(now),
            Command::Close => self.core.handle_close(),
        }
    }

    /// A place for an answer, unless too many are awaited.
    fn token(&mut self, reply: Reply, feed: Option<Arc<Feed>>) -> Option<Token> {
        if self.tables.replies.len() >= self.max_open {
            let _ = reply.send(Err(SessionError::Full));
            return None;
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        self.tables.replies.insert(token, Waiting { reply, feed });
        Some(token)
    }

    /// Looks which readers have given credit back, or are gone.
    fn take_back(&mut self, now: Instant) {
        let (mut gone, mut credits) = (Vec::new(), Vec::new());
        for (key, feed) in &self.tables.feeds {
            match feed.take_credit() {
                _ if feed.is_abandoned() => gone.push(*key),
                0 => {}
                credit => credits.push((*key, credit)),
            }
        }
        for key in gone {
            self.leave(key);
        }
        for (key, credit) in credits {
            self.core.handle_credit(now, key, credit);
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        // Also where the runtime drops the task.
        for feed in self.feeds.values() {
            feed.end();
        }
    }
}

impl Connector {
    /// Opens a connection, each time at the next address: with the token of a session, or with a
    /// new ticket.
    fn open(
        &mut self,
        resume: Option<String>,
    ) -> impl Future<Output = Result<WebSocket, End>> + Send + 'static {
        let mut client = self.client.clone().subprotocol(SUBPROTOCOL);
        let turn = self.attempts % (self.others.len() + 1);
        if let Some(other) = turn.checked_sub(1).and_then(|turn| self.others.get(turn)) {
            client.target = other.clone();
        }
        self.attempts = self.attempts.wrapping_add(1);
        if let Some(name) = &self.name {
            client.target.add_query("name", name);
        }
        let credentials = match resume {
            Some(token) => {
                client = show(client, Credential::Resume, &token);
                Credentials::None
            }
            None => self.credentials.clone(),
        };
        async move {
            match credentials {
                Credentials::None => {}
                Credentials::Token(token) => client = show(client, Credential::Token, &token),
                Credentials::Tickets(tickets) => {
                    let ticket = timeout(client.handshake_timeout, tickets()).await;
                    let ticket = ticket.ok().flatten().ok_or(End::Lost)?;
                    client = show(client, Credential::Ticket, &ticket);
                }
            }
            client.connect().await.map_err(|error| end(&error))
        }
    }
}

/// Adds a credential where it is not logged, if it can be there.
fn show(mut client: Client, credential: Credential, value: &str) -> Client {
    if let Some(subprotocol) = credential.subprotocol(value) {
        return client.subprotocol(subprotocol);
    }
    if credential == Credential::Token {
        return client.header(AUTHORIZATION, format!("Bearer {value}"));
    }
    client.target.add_query(credential.name(), value);
    client
}

/// What an attempt to connect came to.
fn end(error: &Error) -> End {
    match error {
        Error::Refused(response) => {
            let retry_after = response.headers().get(RETRY_AFTER);
            let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            End::Refused {
                status: response.status().as_u16(),
                retry_after: seconds.map(|it: u64| Duration::from_secs(it.min(MAX_RETRY_AFTER))),
            }
        }
        error if error.fault() == Fault::Caller => End::Settings(error.to_string()),
        _ => End::Lost,
    }
}

/// The longest pause that a server can ask for, in seconds.
const MAX_RETRY_AFTER: u64 = 24 * 60 * 60;
