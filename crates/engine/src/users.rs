//! What the connections of a user have spent together.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use throng_hub::CountedMeter;

/// The meters of the users who are signed in.
#[derive(Default)]
pub(crate) struct UserMeters {
    shards: [Mutex<Shard>; 16],
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    meters: HashMap<Box<str>, Purse>,
    /// How many there were after the last sweep.
    swept: usize,
}

/// What one user has spent.
#[derive(Default)]
struct Purse {
    meter: Arc<CountedMeter>,
    /// As of when it was [told](UserMeters::spent) last.
    told: u64,
}

impl UserMeters {
    /// The meter of a user, the same for all connections. It is remembered for as long as it is in use, and
    /// until what was spent is there again, so that nobody is better off by coming back.
    ///
    /// Cost: one short lock of a shard; now and then a look at all of its users.
    pub(crate) fn of(&self, user: &str, now: u64) -> Arc<CountedMeter> {
        let shard = &self.shards[self.hasher.hash_one(user) as usize % self.shards.len()];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(purse) = shard.meters.get(user) {
            return Arc::clone(&purse.meter);
        }
        if shard.meters.len() >= 64.max(shard.swept * 2) {
            let in_use = |purse: &Purse| Arc::strong_count(&purse.meter) > 1;
            shard.meters.retain(|_, purse| in_use(purse) || !purse.meter.is_full(now));
            shard.meters.shrink_to_fit();
            shard.swept = shard.meters.len();
        }
        let purse = Purse::default();
        let meter = Arc::clone(&purse.meter);
        shard.meters.insert(user.into(), purse);
        meter
    }

    /// What users have spent since this was asked last, in nanoseconds that it takes to be there again: of those who have
    /// spent at least `least`. Looks at all users.
    pub(crate) fn spent(&self, least: u64) -> Vec<(Box<str>, u64)> {
        let mut spent = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (user, purse) in &mut shard.meters {
                let taken = purse.meter.taken();
                let since = taken.wrapping_sub(std::mem::replace(&mut purse.told, taken));
                if since >= least.max(1) {
                    spent.push((user.clone(), since));
                }
            }
        }
        spent
    }

    /// A user has spent so much, here and elsewhere.
    pub(crate) fn owes(&self, user: &str, ahead: Duration, now: u64) {
        let shard = self.shards[self.hasher.hash_one(user) as usize % self.shards.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(purse) = shard.meters.get(user) {
            purse.meter.owe(ahead, now);
        }
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
    fn what_was_spent_is_told_once() {
        let (users, rate) = (UserMeters::default(), Rate::per_second(10));
        users.of("u_a", 0).take(&rate, 5, 0).unwrap();
        users.of("u_b", 0).take(&rate, 1, 0).unwrap();
        assert_eq!(users.spent(200_000_000), [(Box::from("u_a"), 500_000_000)]);
        assert_eq!(users.spent(0), []);
        users.owes("u_a", Duration::from_secs(2), 0);
        users.owes("u_c", Duration::from_secs(2), 0);
        assert!(users.of("u_a", 0).take(&rate, 1, 1_000_000_000).is_err());
        assert!(users.of("u_c", 0).take(&rate, 1, 0).is_ok());
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
