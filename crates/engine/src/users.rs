//! What the connections of a user have spent together.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use throng_hub::SharedMeter;

/// The meters of the users who are signed in.
#[derive(Default)]
pub(crate) struct UserMeters {
    shards: [Mutex<Shard>; 16],
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    meters: HashMap<Box<str>, Arc<SharedMeter>>,
    /// How many there were after the last sweep.
    swept: usize,
}

impl UserMeters {
    /// The meter of a user, the same for all connections. It is remembered for as long as it is in use, and
    /// until what was spent is there again, so that nobody is better off by coming back.
    ///
    /// Cost: one short lock of a shard; now and then a look at all of its users.
    pub(crate) fn of(&self, user: &str, now: u64) -> Arc<SharedMeter> {
        let shard = &self.shards[self.hasher.hash_one(user) as usize % self.shards.len()];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = shard.meters.get(user) {
            return Arc::clone(meter);
        }
        if shard.meters.len() >= 64.max(shard.swept * 2) {
            let in_use = |meter: &Arc<SharedMeter>| Arc::strong_count(meter) > 1;
            shard.meters.retain(|_, meter| in_use(meter) || !meter.is_full(now));
            shard.meters.shrink_to_fit();
            shard.swept = shard.meters.len();
        }
        let meter = Arc::<SharedMeter>::default();
        shard.meters.insert(user.into(), Arc::clone(&meter));
        meter
    }
}

#[cfg(test)]
mod tests {
    use throng_hub::Rate;

    use super::*;

    #[test]
    fn one_for_all_connections_and_no_fresh_start() {
        let (users, rate) = (UserMeters::default(), Rate::per_second(1).with_burst(3));
        let (one, two) = (users.of("u_a", 0), users.of("u_a", 0));
        assert!(one.take(&rate, 2, 0).is_ok() && two.take(&rate, 1, 0).is_ok());
        assert!(two.take(&rate, 1, 0).is_err() && users.of("u_b", 0).take(&rate, 1, 0).is_ok());
        drop((one, two));
        assert!(users.of("u_a", 0).take(&rate, 1, 0).is_err());
    }

    #[test]
    fn forgotten_when_nothing_is_owed() {
        let users = UserMeters::default();
        let kept = users.of("kept", 0);
        for n in 0..100_000 {
            users.of(&format!("u_{n}"), 0);
        }
        let all: usize = users.shards.iter().map(|shard| shard.lock().unwrap().meters.len()).sum();
        assert!(all <= 16 * 64, "{all}");
        assert!(Arc::ptr_eq(&kept, &users.of("kept", 0)));
    }
}
