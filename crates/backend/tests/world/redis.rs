//! Redis under test: one server, with sentinels, and Redis Cluster. Tests that run at the same time share the
//! servers, and have prefixes of their own; the last one ends them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use throng_backend::{Redis, RedisMode, RedisOptions};
use throng_redis_rig::{Cluster, NAME, Sentinels, Server, Setup};

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
        let prefix = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
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
}
