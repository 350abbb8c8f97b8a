use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use redis::{Value, ValueCodec};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::codec::Decoder;

/// Where a server is, and as whom we come.
#[derive(Clone)]
pub(in crate::redis) struct Server {
    pub(in crate::redis) host: String,
    pub(in crate::redis) port: u16,
    pub(in crate::redis) tls: Option<Tls>,
    /// User and password; an empty user is the default one.
    pub(in crate::redis) auth: Option<(String, String)>,
    pub(in crate::redis) database: u32,
}

/// How a server is known for who it says it is.
#[derive(Clone)]
pub(in crate::redis) struct Tls {
    pub(in crate::redis) config: Arc<ClientConfig>,
    /// Whom its certificate must be for; nothing for its host.
    pub(in crate::redis) name: Option<ServerName<'static>>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Trouble {
    /// It is not there, or does not answer.
    Away(String),
    /// It does not let us in.
    Denied(String),
    /// It is Redis of this version.
    TooOld(String),
    /// It is a replica, or no node of a cluster, or is one.
    Mode(&'static str),
}

/// What the server says of itself.
#[derive(Clone, Debug, Default)]
pub(in crate::redis) struct Hello {
    pub(in crate::redis) version: String,
    pub(in crate::redis) cluster: bool,
    pub(in crate::redis) replica: bool,
}

/// A connection, in two halves.
pub(in crate::redis) struct Stream {
    pub(in crate::redis) reader: Reader,
    pub(in crate::redis) writer: Writer,
    pub(in crate::redis) hello: Hello,
}

/// Reads values.
pub(in crate::redis) struct Reader {
    half: ReadHalf<Box<dyn Io>>,
    buffer: BytesMut,
    codec: ValueCodec,
}

/// Writes what waits.
pub(in crate::redis) struct Writer {
    half: WriteHalf<Box<dyn Io>>,
    /// What waits.
    pub(in crate::redis) bytes: Vec<u8>,
    written: usize,
    flushed: bool,
}

pub(in crate::redis) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Server {
    /// Host and port, as it is shown and as rooms are shared by.
    pub(in crate::redis) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The same, somewhere else.
    pub(in crate::redis) fn at(&self, host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, ..self.clone() }
    }

    /// Connects and introduces us, within some seconds.
    pub(in crate::redis) async fn connect(&self) -> Result<Stream, Trouble> {
        let away = |error: io::Error| Trouble::Away(error.to_string());
        match timeout(CONNECT, self.open()).await {
            Ok(Ok(io)) => match timeout(CONNECT, self.introduce(io)).await {
                Ok(stream) => stream,
                Err(_) => Err(Trouble::Away("no answer".to_owned())),
            },
            Ok(Err(error)) => Err(away(error)),
            Err(_) => Err(Trouble::Away("no connection within 3 s".to_owned())),
        }
    }

    async fn open(&self) -> io::Result<Box<dyn Io>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(Tls { config, name }) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = match name {
            Some(name) => name.clone(),
            None => ServerName::try_from(self.host.clone()).map_err(io::Error::other)?,
        };
        let tls = TlsConnector::from(config.clone()).connect(name, tcp).await?;
        Ok(Box::new(tls))
    }

    async fn introduce(&self, io: Box<dyn Io>) -> Result<Stream, Trouble> {
        let (read, write) = split(io);
        let reader = Reader { half: read, buffer: BytesMut::new(), codec: ValueCodec::default() };
        let writer = Writer { half: write, bytes: Vec::new(), written: 0, flushed: true };
        let mut stream = Stream { reader, writer, hello: Hello::default() };
        let mut hello = vec!["HELLO", "3"];
        if let Some((user, password)) = &self.auth {
            let user = if user.is_empty() { "default" } else { user };
            hello.extend(["AUTH", user, password]);
        }
        let Value::Map(fields) = stream.ask(&hello).await? else {
            return Err(Trouble::TooOld("before 6".to_owned()));
        };
        let text = |value: &Value| match value {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::SimpleString(text) => text.clone(),
            _ => String::new(),
        };
        for (key, value) in &fields {
            match (text(key).as_str(), text(value)) {
                ("version", version) => stream.hello.version = version,
                ("mode", mode) => stream.hello.cluster = mode == "cluster",
                ("role", role) => stream.hello.replica = role != "master",
                _ => {}
            }
        }
        // Who looks at the list of clients sees who this is; old servers and narrow users may refuse.
        let _ = stream.ask(&["CLIENT", "SETNAME", "throng"]).await;
        if self.database != 0 {
            stream.ask(&["SELECT", &self.database.to_string()]).await?;
        }
        Ok(stream)
    }
}

impl Stream {
    /// Asks one thing and waits for the answer. An error is [`Trouble`], pushes are passed over.
    pub(in crate::redis) async fn ask(&mut self, command: &[&str]) -> Result<Value, Trouble> {
        let away = |error: io::Error| Trouble::Away(error.to_string());
        self.writer.command(command);
        while self.writer.has_work() {
            self.writer.work().await.map_err(away)?;
        }
        loop {
            match self.reader.next().await.map_err(away)? {
                Value::Push { .. } => {}
                Value::ServerError(error) => {
                    let said = format!("{} {}", error.code(), error.details().unwrap_or(""));
                    return Err(match error.code() {
                        "WRONGPASS" | "NOAUTH" | "NOPERM" | "DENIED" => Trouble::Denied(said),
                        // HELLO of a server whose default user has no password, with AUTH.
                        "ERR" if said.contains("AUTH") => Trouble::Denied(said),
                        "ERR" if said.contains("unknown command") => Trouble::TooOld(said),
                        _ => Trouble::Away(said),
                    });
                }
                value => return Ok(value),
            }
        }
    }
}

impl Writer {
    /// Appends a command.
    pub(in crate::redis) fn command(&mut self, words: &[&str]) {
        let mut out = format!("*{}\r\n", words.len());
        for word in words {
            out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.bytes.extend_from_slice(out.as_bytes());
    }

    /// Whether there is anything to do.
    pub(in crate::redis) fn has_work(&self) -> bool {
        self.written < self.bytes.len() || !self.flushed
    }

    /// Writes some of it. May be dropped and called again.
    pub(in crate::redis) async fn work(&mut self) -> io::Result<()> {
        if self.written < self.bytes.len() {
            self.flushed = false;
            self.written += self.half.write(&self.bytes[self.written..]).await?;
            if self.written == self.bytes.len() {
                self.bytes.clear();
                self.written = 0;
            }
        } else {
            self.half.flush().await?;
            self.flushed = true;
        }
        Ok(())
    }
}

impl Reader {
    /// The next value. May be dropped and called again.
    pub(in crate::redis) async fn next(&mut self) -> io::Result<Value> {
        loop {
            let value = self.codec.decode(&mut self.buffer).map_err(io::Error::other)?;
            if let Some(value) = value {
                return Ok(value);
            }
            self.buffer.reserve(READ);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away(why) | Self::Denied(why) => f.write_str(why),
            Self::TooOld(version) => write!(f, "it is Redis {version}, and 7.0 is needed"),
            Self::Mode(what) => f.write_str(what),
        }
    }
}

const CONNECT: Duration = Duration::from_secs(3);
const READ: usize = 16 << 10;
