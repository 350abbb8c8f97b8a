//! Redis under test: one server, with sentinels, and Redis Cluster, the latter two also with TLS. Tests that run at the
//! same time share the servers, and have prefixes of their own; the last one ends them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use throng_backend::{Redis, RedisMode, RedisOptions, RedisTls};
use throng_redis_rig::{Cluster, NAME, Papers, Sentinels, Server, Setup};

/// Servers that tests share.
pub trait Rig: Send + Sync + Sized + 'static {
    fn start() -> Self;
    fn options(&self) -> RedisOptions;
    fn shelf() -> &'static Mutex<Weak<Self>>;
}

/// A backend on servers that others may use as well.
pub struct OnRedis<R: Rig> {
    pub redis: Arc<Redis>,
    rig: Arc<R>,
    prefix: String,
}

impl<R: Rig> OnRedis<R> {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let rig = {
            let mut shelf = R::shelf().lock().unwrap();
            shelf.upgrade().unwrap_or_else(|| {
                let rig = Arc::new(R::start());
                *shelf = Arc::downgrade(&rig);
                rig
            })
        };
        let prefix = format!("throng:t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let redis = Self::connect(&rig, &prefix);
        Self { redis, rig, prefix }
    }

    /// Another node with the same rooms.
    pub fn beside(&self) -> Self {
        let redis = Self::connect(&self.rig, &self.prefix);
        Self { redis, rig: self.rig.clone(), prefix: self.prefix.clone() }
    }

    fn connect(rig: &R, prefix: &str) -> Arc<Redis> {
        let options = RedisOptions { prefix: prefix.to_owned(), ..rig.options() };
        Redis::connect(options).unwrap()
    }
}

impl<R: Rig> Drop for OnRedis<R> {
    fn drop(&mut self) {
        self.redis.close();
    }
}

/// Servers that let only those in who have papers.
pub struct Guarded<R> {
    pub rig: R,
    pub papers: Papers,
}

impl<R> Guarded<R> {
    /// Reached by `host`; certificates are for `name`.
    pub fn start(
        host: &'static str,
        name: &str,
        start: fn(Option<&Papers>) -> std::io::Result<R>,
    ) -> std::io::Result<Self> {
        let papers = Papers::new(host, &[name])?;
        Ok(Self { rig: start(Some(&papers))?, papers })
    }

    /// What gets in.
    pub fn with_papers(&self, options: RedisOptions) -> RedisOptions {
        let Papers { authority, certificate, key, .. } = &self.papers;
        let file = |path: &std::path::PathBuf| Some(path.clone());
        let tls =
            RedisTls { ca: file(authority), cert: file(certificate), key: file(key), name: None };
        let asker = (self.papers.asker.to_owned(), self.papers.password.to_owned());
        let mode = match options.mode {
            RedisMode::Sentinel { master, .. } => RedisMode::Sentinel { master, auth: Some(asker) },
            mode => mode,
        };
        RedisOptions { tls, mode, ..options }
    }
}

macro_rules! rigs {
    ($($rig:ty: $start:expr, $options:expr;)+) => {$(
        impl Rig for $rig {
            fn start() -> Self {
                $start.unwrap()
            }

            fn options(&self) -> RedisOptions {
                let options: fn(&Self) -> RedisOptions = $options;
                options(self)
            }

            fn shelf() -> &'static Mutex<Weak<Self>> {
                static SHELF: Mutex<Weak<$rig>> = Mutex::new(Weak::new());
                &SHELF
            }
        }
    )+};
}

rigs! {
    Server: Server::start(Setup::in_memory()), |server| RedisOptions {
        urls: vec![server.url()],
        ..RedisOptions::default()
    };
    Sentinels: Sentinels::start().and_then(Sentinels::calm), |sentinels| RedisOptions {
        urls: sentinels.urls(),
        mode: RedisMode::Sentinel { master: NAME.to_owned(), auth: None },
        ..RedisOptions::default()
    };
    Cluster: Cluster::start().and_then(Cluster::calm), |cluster| RedisOptions {
        urls: cluster.urls(),
        mode: RedisMode::Cluster,
        ..RedisOptions::default()
    };
    Guarded<Sentinels>:
        Guarded::start("localhost", "localhost", |it| Sentinels::guarded(it)?.calm()),
        |it| it.with_papers(it.rig.options());
    Guarded<Cluster>: Guarded::start("127.0.0.1", "127.0.0.1", |it| Cluster::guarded(it)?.calm()),
        |it| it.with_papers(it.rig.options());
}
