use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};

use crate::client::Client;
use crate::entropy;
use crate::error::Error;
use crate::session::core::{Admission, Core, Settings};
use crate::session::driver::{Connector, Credentials, Driver, TicketFuture};
use crate::session::status::Status;
use crate::session::{Handle, Session};
use crate::target::Target;

/// How a [`Session`] is to be.
#[must_use]
pub struct SessionBuilder {
    client: Result<Client, Error>,
    others: Vec<Result<Target, Error>>,
    name: Option<String>,
    credentials: Credentials,
    buffer: usize,
    settings: Settings,
}

impl SessionBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self::with(Client::new(url))
    }

    pub(crate) fn with(client: Result<Client, Error>) -> Self {
        Self {
            client,
            others: Vec::new(),
            name: None,
            credentials: Credentials::None,
            buffer: 256 << 10,
            settings: Settings {
                base: Duration::from_millis(500),
                max: Duration::from_secs(30),
                outbox: 1000,
                outbox_bytes: 8 << 20,
                resend: false,
                admission: Admission::Open,
                seed: 0,
            },
        }
    }

    /// Other addresses of the same server or cluster: each attempt to connect goes to the next
    /// address, after the last to the first again. So a session comes back through whichever node
    /// is there, and leaves one that is about to stop. The first address is that of the session.
    /// Default: none.
    pub fn urls<U: AsRef<str>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.others = urls.into_iter().map(|url| Target::parse(url.as_ref())).collect();
        self
    }

    /// The display name that a visitor without a ticket asks for. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where tickets come from: called before each new session, not before one is resumed. An
    /// error counts as a failed attempt to connect, and so does one that takes longer than the
    /// [handshake timeout](Client::handshake_timeout). Takes the place of a
    /// [token](Self::token). Default: none, for servers that let everybody in.
    ///
    /// Tickets and tokens travel as subprotocols, which are not in access logs; what cannot,
    /// because of its characters or more than 3,000 of them, goes into the query, a token into
    /// `Authorization`.
    pub fn ticket<F, T, E>(mut self, ticket: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, E>> + Send + 'static,
    {
        self.settings.admission = Admission::Tickets;
        self.credentials = Credentials::Tickets(Arc::new(move || -> TicketFuture {
            let ticket = ticket();
            Box::pin(async move { ticket.await.ok() })
        }));
        self
    }

    /// A token, such as a JWT, that is shown before each new session, not before one is resumed.
    /// When the server does not take it any more, the session is closed for good, with status 401.
    /// Takes the place of [tickets](Self::ticket). Default: none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.admission = Admission::Token;
        self.credentials = Credentials::Token(token.into());
        self
    }

    /// The pauses between attempts to connect: a random time between none and a bound that
    /// doubles from `base` to `max`, at most a day. Default 0.5 and 30 seconds.
    pub fn backoff(mut self, base: Duration, max: Duration) -> Self {
        self.settings.base = base.min(DAY);
        self.settings.max = max.min(DAY);
        self
    }

    /// How many messages may wait for a connection or an answer, and how many bytes of them in
    /// all. More fail with [`Full`](crate::SessionError::Full). Default 1,000 and 8 MiB.
    pub fn outbox(mut self, messages: usize, bytes: usize) -> Self {
        self.settings.outbox = messages;
        self.settings.outbox_bytes = bytes;
        self
    }

    /// How many bytes of events may wait in a room for its reader, see [`Room`](crate::Room).
    /// An event takes its text and some 160 bytes more; a single one may be longer. Default
    /// 256 KiB.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes.max(1);
        self
    }

    /// Whether messages are sent again of which it is not known if they were published, because
    /// the session could not be resumed. They may be published twice then. Default false: they
    /// fail with [`Uncertain`](crate::SessionError::Uncertain).
    pub fn resend_uncertain(mut self, resend: bool) -> Self {
        self.settings.resend = resend;
        self
    }

    /// Starts the session. Does not wait for the connection, see
    /// [`online`](Session::online). Has to be called in a tokio runtime with IO and time.
    ///
    /// # Errors
    ///
    /// [`Url`](Error::Url), also of one of [`urls`](Self::urls), [`Entropy`](Error::Entropy). Other settings that cannot be used
    /// close the session.
    pub fn connect(mut self) -> Result<Session, Error> {
        let client = self.client?;
        let others = self.others.into_iter().collect::<Result<_, _>>()?;
        self.settings.seed = entropy::seed()?;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (sender, status) = watch::channel(Status::Connecting);
        let returned = Arc::new(Notify::new());
        let max_open = self.settings.outbox.saturating_add(OPEN);
        let core = Core::new(Instant::now(), self.settings);
        let connector = Connector {
            client,
            others,
            attempts: 0,
            name: self.name,
            credentials: self.credentials,
        };
        let driver =
            Driver::new(core, connector, receiver, Arc::clone(&returned), sender, max_open);
        tokio::spawn(driver.run());
        Ok(Session { handle: Handle { commands, status }, returned, buffer: self.buffer })
    }
}

impl Client {
    /// A session that connects with these settings, such as a proxy or certificates.
    pub fn session(self) -> SessionBuilder {
        SessionBuilder::with(Ok(self))
    }
}

impl std::fmt::Debug for SessionBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionBuilder")
            .field("client", &self.client)
            .field("others", &self.others)
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// How many requests wait for the session's task before their callers do.
const COMMANDS: usize = 64;
/// How many requests besides the messages of the outbox may wait for answers.
const OPEN: usize = 512;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
