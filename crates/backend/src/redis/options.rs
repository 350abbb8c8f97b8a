use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Which Redis, and how it is used.
#[derive(Clone)]
pub struct RedisOptions {
    /// Where the servers are: `redis://` or `rediss://` (TLS), `user:password@`, host, port, and `/n` for a
    /// database. With [`RedisMode::Single`] several are independent servers that share the rooms. With
    /// [`RedisMode::Sentinel`] these are the sentinels, and with [`RedisMode::Cluster`] some of its nodes; the user
    /// and password are those of the servers themselves.
    pub urls: Vec<String>,
    /// How the servers belong together. Default [`RedisMode::Single`].
    pub mode: RedisMode,
    /// What all keys and channels begin with: letters, digits, `_`, `-`, `.` and `:`. Default `throng`.
    pub prefix: String,
    /// Certificates for `rediss://`.
    pub tls: RedisTls,
    /// Whether a server that comes back with its data still knows everything it has acknowledged, as one alone with
    /// `appendfsync always` does. Then rooms go on after its restart; else they begin a new epoch. Default no. Never
    /// with replicas: one that takes over may lack the last messages.
    pub trust_restarts: bool,
    /// How often an open room is looked at when nothing is heard of it. Default 30 s.
    pub probe: Duration,
    /// After how long a node that is not heard of counts as dead. Default 20 s.
    pub node_timeout: Duration,
    /// How many replicas have to be connected for messages to be stored; fewer, and they are refused. So are tickets, as
    /// one whose use is forgotten could be used again. What an application changes and revokes in the vault is done, but not
    /// acknowledged. Default 0.
    pub min_replicas: usize,
    /// For how long a message is tried again whose answer was lost. Default 10 s.
    pub patience: Duration,
}

/// How servers belong together.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisMode {
    /// Each is on its own.
    Single,
    /// One is the primary, and sentinels know which.
    Sentinel {
        /// What the sentinels call it.
        master: String,
        /// What the sentinels want to hear, user and password; an empty user for none.
        auth: Option<(String, String)>,
    },
    /// Redis Cluster.
    Cluster,
}

/// Certificates, as PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Who may have signed the server's. Default: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Our own, with [`key`](Self::key). Default none.
    pub cert: Option<PathBuf>,
    /// The key of our own.
    pub key: Option<PathBuf>,
    /// The name, or address, that the servers' certificates must be for. Default: that by which each is reached, which
    /// is what the URL says, or what sentinels and nodes of a cluster say of the others. For servers that tell
    /// addresses and have certificates for a name.
    pub name: Option<String>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            urls: vec!["redis://127.0.0.1:6379".to_owned()],
            mode: RedisMode::Single,
            prefix: "throng".to_owned(),
            tls: RedisTls::default(),
            trust_restarts: false,
            probe: Duration::from_secs(30),
            node_timeout: Duration::from_secs(20),
            min_replicas: 0,
            patience: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("urls", &self.urls.iter().map(|url| public(url)).collect::<Vec<_>>())
            .field("mode", &self.mode)
            .field("prefix", &self.prefix)
            .field("tls", &self.tls)
            .field("trust_restarts", &self.trust_restarts)
            .field("probe", &self.probe)
            .field("node_timeout", &self.node_timeout)
            .field("min_replicas", &self.min_replicas)
            .field("patience", &self.patience)
            .finish()
    }
}

impl fmt::Debug for RedisMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single => f.write_str("Single"),
            Self::Sentinel { master, .. } => {
                f.debug_struct("Sentinel").field("master", master).finish_non_exhaustive()
            }
            Self::Cluster => f.write_str("Cluster"),
        }
    }
}

/// A URL without user and password.
pub(super) fn public(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…@{}", &url[..scheme], &url[at + 1..])
        }
        _ => url.to_owned(),
    }
}

/// Why Redis cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// An option makes no sense.
    #[error("{option}: {detail}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why.
        detail: String,
    },
    /// A certificate or key cannot be used.
    #[error("{} cannot be used: {detail}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The server says no: a wrong password, a user who may not do what is needed.
    #[error("{address} refuses: {detail}")]
    Denied {
        /// The server.
        address: String,
        /// What it says.
        detail: String,
    },
    /// The server cannot do what is needed.
    #[error("{address} is Redis {version}, and at least 7.0 is needed")]
    TooOld {
        /// The server.
        address: String,
        /// Its version.
        version: String,
    },
    /// The server is not what the mode says.
    #[error("{address} {detail}")]
    Mode {
        /// The server.
        address: String,
        /// In what way.
        detail: String,
    },
    /// The server is not to be reached. Only [`Redis::visit`](super::Redis::visit) gives up for that.
    #[error("{address} cannot be reached: {detail}")]
    Away {
        /// The server.
        address: String,
        /// Why.
        detail: String,
    },
    /// The system has no random numbers, or cannot start a thread.
    #[error("{detail}")]
    System {
        /// What it says.
        detail: String,
    },
}
