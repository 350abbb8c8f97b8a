//! How often each address has tried lately: a table that cannot be made to grow.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits::{Meter, Rate};

/// A [`Meter`] for each address that has tried lately.
///
/// At most 65,536 of them, some 4 MiB, whatever comes. Those that owe nothing any more are as good as
/// none, and are forgotten first; when all owe something, the half that owes least is. So who floods is
/// remembered, and who comes from ever new addresses wins no memory, but at most a burst for each.
#[derive(Default)]
pub struct Knocks {
    shards: [Mutex<HashMap<IpAddr, Meter>>; SHARDS],
    hasher: RandomState,
}

const SHARDS: usize = 16;

/// Addresses remembered in one shard.
const IN_SHARD: usize = 4096;

/// Addresses remembered in all.
#[cfg(test)]
const MOST: usize = SHARDS * IN_SHARD;

impl Knocks {
    /// One more try of an address, `now` in nanoseconds of any clock.
    ///
    /// # Errors
    /// How long until it may try again.
    ///
    /// Cost: one short lock. Once in a while the shard is gone through; spread over those who came in
    /// between, that is constant.
    pub fn knock(&self, rate: &Rate, ip: IpAddr, now: u64) -> Result<(), Duration> {
        let shard = &self.shards[self.hasher.hash_one(ip) as usize % SHARDS];
        let mut meters = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= IN_SHARD && !meters.contains_key(&ip) {
            forget_some(&mut meters, rate, now);
        }
        meters.entry(ip).or_default().take(rate, 1, now)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

fn forget_some(meters: &mut HashMap<IpAddr, Meter>, rate: &Rate, now: u64) {
    meters.retain(|_, meter| !meter.is_full(now));
    if meters.len() <= IN_SHARD / 2 {
        return;
    }
    // What is owed beyond one: as if no more than one could be had at once.
    let one = rate.with_burst(1);
    let debt = |meter: &Meter| meter.clone().spend(&one, 0, now);
    let mut debts: Vec<Duration> = meters.values().map(debt).collect();
    let (_, median, _) = debts.select_nth_unstable(meters.len() / 2);
    let median = *median;
    let mut over = meters.len() - IN_SHARD / 2;
    meters.retain(|_, meter| {
        let forget = over > 0 && debt(meter) <= median;
        over -= usize::from(forget);
        !forget
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn ever_new_addresses_win_no_memory_and_who_floods_is_remembered() {
        let (knocks, rate) = (Knocks::default(), Rate::per_second(1).with_burst(3));
        let flooder: IpAddr = "192.0.2.7".parse().unwrap();
        for _ in 0..3 {
            knocks.knock(&rate, flooder, 0).unwrap();
        }
        assert_eq!(knocks.knock(&rate, flooder, 0), Err(Duration::from_secs(1)));
        for number in 0..4 * MOST as u32 {
            let _ = knocks.knock(&rate, IpAddr::from(number.to_be_bytes()), 0);
        }
        assert!(knocks.len() <= MOST, "{}", knocks.len());
        assert!(knocks.len() >= MOST / 3, "{}", knocks.len());
        assert!(knocks.knock(&rate, flooder, 0).is_err());
        assert!(knocks.knock(&rate, flooder, SECOND).is_ok());

        // All that do not owe any more go when there is no place left.
        let later = 100 * SECOND;
        for number in 0..MOST as u32 {
            knocks.knock(&rate, IpAddr::from(number.to_be_bytes()), later).unwrap();
        }
        assert!(knocks.len() <= MOST);
    }

    #[test]
    fn a_full_table_of_equals_is_halved() {
        let rate = Rate::per_second(1);
        let mut meters = HashMap::new();
        for number in 0..IN_SHARD as u32 {
            let mut meter = Meter::default();
            meter.take(&rate, 1, 5).unwrap();
            meters.insert(IpAddr::from(number.to_be_bytes()), meter);
        }
        forget_some(&mut meters, &rate, 6);
        assert_eq!(meters.len(), IN_SHARD / 2);
        forget_some(&mut meters, &rate, 2 * SECOND);
        assert!(meters.is_empty());
    }
}
