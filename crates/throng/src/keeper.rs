//! A thread that ends what is over: sessions whose time has come, or that have been revoked elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use throng_backend::Vault;
use throng_hub::{Access, Listed, Rights};
use throng_wire::CloseCode;

use crate::server::Inner;

/// Wakes the thread.
#[derive(Default)]
pub(crate) struct Keeper {
    wake: Arc<(Mutex<Wake>, Condvar)>,
}

#[derive(Default)]
struct Wake {
    /// Another process has changed what is kept.
    changed: bool,
    ended: bool,
}

/// A walk through all sessions that are signed in, of which there is one at a time.
struct Walk {
    /// Those that come next.
    rest: Vec<Listed>,
    /// Rights may be others, too.
    changed: bool,
    _under_way: UnderWay,
}

struct UnderWay(Arc<AtomicBool>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What bans and memberships are kept, for rights.
pub(crate) fn load(vault: &Vault, access: &Access) {
    access.replace(|| {
        let members = vault.members().into_iter().map(|member| {
            let rights = member.rights.split(',').filter_map(Rights::named);
            (member.room, member.user, rights.fold(Rights::NONE, |all, right| all | right))
        });
        (members.collect(), vault.bans())
    });
}

impl Keeper {
    /// Begins to work, until [`Keeper::end`] or until the server is gone.
    pub(crate) fn start(inner: &Arc<Inner>, recheck: Duration) -> std::io::Result<()> {
        let (weak, wake) = (Arc::downgrade(inner), Arc::clone(&inner.keeper.wake));
        let told = Arc::clone(&wake);
        inner.gate.vault.on_change(move || {
            told.0.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
            told.1.notify_one();
        });
        let recheck = recheck.max(Duration::from_secs(1));
        std::thread::Builder::new()
            .name("throng-keeper".into())
            .spawn(move || run(&weak, &wake, recheck))?;
        Ok(())
    }

    /// Lists are to be loaded and sessions compared with what is kept of them, now.
    pub(crate) fn recheck(&self) {
        self.wake.0.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
        self.wake.1.notify_one();
    }

    /// Nothing is to be done any more.
    pub(crate) fn end(&self) {
        self.wake.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.wake.1.notify_one();
    }
}

fn run(inner: &Weak<Inner>, wake: &(Mutex<Wake>, Condvar), recheck: Duration) {
    let mut next_check = Instant::now() + recheck;
    let (walking, mut changes) = (Arc::new(AtomicBool::new(false)), false);
    loop {
        let Some(server) = inner.upgrade() else { return };
        server.end_expired();
        let changed = {
            let mut state = wake.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut state.changed)
        };
        if changed {
            load(&server.gate.vault, &server.access);
        }
        if changed || Instant::now() >= next_check {
            changes |= changed;
            if walking.swap(true, Ordering::AcqRel) {
                next_check = Instant::now() + BUSY;
            } else {
                next_check = Instant::now() + recheck;
                server.desk.front().tokens().replace(&server.gate.vault.secrets());
                let under_way = UnderWay(Arc::clone(&walking));
                server.end_revoked(std::mem::take(&mut changes), under_way);
            }
        }
        let front = server.desk.front();
        let soon = front.sessions().next_expiry().map_or(recheck, |expiry| {
            Duration::from_millis(expiry.0.saturating_sub(front.now().0))
        });
        let pause = soon.min(next_check.saturating_duration_since(Instant::now())).min(LONGEST);
        drop(server); // so that it can be dropped while we wait
        let state = wake.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut Wake| !state.changed && !state.ended;
        let waited = wake.1.wait_timeout_while(state, pause.max(SHORTEST), idle);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return;
        }
    }
}

impl Inner {
    fn end_expired(&self) {
        let front = self.desk.front();
        let now = front.now();
        for listed in front.sessions().expired(now) {
            let (user, session) = (listed.who.user_id(), listed.who.session_id());
            self.gate.refused.expired.add();
            if self.cluster.is_none() {
                self.gate.vault.end(session); // else it may go on elsewhere: the directory knows
            }
            if let Some(place) = front.sessions().revoke(user, session, now) {
                front.close(place, SIGNED_OUT, "session expired");
            }
        }
    }

    /// Compares the sessions that are signed in with what is kept of them. `changed`: rights may be others, too.
    fn end_revoked(self: &Arc<Self>, changed: bool, under_way: UnderWay) {
        let front = self.desk.front();
        let now = front.now();
        self.gate.vault.sweep(now.0, front.sessions().window().as_millis() as u64);
        let rest = front.sessions().list(None, now, |listed| listed.pass.is_some());
        self.go_on(Walk { rest, changed, _under_way: under_way });
    }

    /// Asks for some of them; for the next ones when that is answered, so that what answers is not overrun.
    fn go_on(self: &Arc<Self>, mut walk: Walk) {
        if walk.rest.is_empty() {
            return;
        }
        let some = walk.rest.split_off(walk.rest.len().saturating_sub(AT_ONCE));
        let ids = some.iter().map(|listed| listed.who.session_id().into()).collect();
        let server = Arc::downgrade(self);
        self.gate.vault.check(ids, move |gone| {
            let Some(server) = server.upgrade() else { return };
            let Ok(gone) = gone else { return server.break_off(&some, &walk) };
            let Some(cluster) = server.cluster.as_ref().filter(|_| !gone.is_empty()) else {
                server.compare(&some, &gone, walk.changed);
                return server.go_on(walk);
            };
            // All of them may be gone, because Redis has lost its data: then they go on.
            let inner = Arc::downgrade(&server);
            cluster.redis.registry().is_whole(move |is_whole| {
                let Some(server) = inner.upgrade() else { return };
                if !is_whole {
                    return server.break_off(&some, &walk);
                }
                server.compare(&some, &gone, walk.changed);
                server.go_on(walk);
            });
        });
    }

    /// They are compared again soon; rights follow from what is known here.
    fn break_off(&self, some: &[Listed], walk: &Walk) {
        self.compare(some, &[], walk.changed);
        self.compare(&walk.rest, &[], walk.changed);
    }

    fn compare(&self, some: &[Listed], gone: &[Box<str>], changed: bool) {
        let front = self.desk.front();
        for listed in some {
            let (user, session) = (listed.who.user_id(), listed.who.session_id());
            if gone.iter().any(|gone| **gone == *session) {
                self.gate.refused.ended.add();
                if let Some(place) = front.sessions().revoke(user, session, front.now()) {
                    front.close(place, SIGNED_OUT, "session revoked");
                }
            } else if let Some(place) = listed.place.filter(|_| changed) {
                front.review(place);
            }
        }
    }

    /// Keeps all signed-in sessions anew: what was kept of them is lost.
    pub(crate) fn keep_again(&self) {
        let front = self.desk.front();
        let kept = |listed: &Listed| listed.pass.is_some() && !listed.is_over;
        for listed in front.sessions().list(None, front.now(), kept) {
            self.gate.keep_again(&listed);
        }
    }
}

/// The close code for a session that is not good any more.
pub(crate) const SIGNED_OUT: CloseCode = match CloseCode::new(4401) {
    Some(code) => code,
    None => CloseCode::INTERNAL, // not reached: it may travel
};

/// So many sessions are asked for in one go.
const AT_ONCE: usize = 1000;
/// While the walk before is under way, another one is tried this often.
const BUSY: Duration = Duration::from_millis(100);
const SHORTEST: Duration = Duration::from_millis(10);
/// A session may have come in the meantime that is over soon.
const LONGEST: Duration = Duration::from_secs(1);
