//! How often somebody may try, for names and addresses without number, in memory that does not grow.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use throng_hub::{Rate, SharedMeter};

/// Meters for whatever can be hashed, in a table of fixed size.
///
/// Who shares a place in the table shares the rate. Nobody can find out with whom: the hashes have random keys.
pub(super) struct Throttle {
    rate: Rate,
    hasher: RandomState,
    meters: Box<[SharedMeter]>,
    start: Instant,
}

impl Throttle {
    /// Takes 256 KiB.
    pub(super) fn new(rate: Rate) -> Self {
        let meters = (0..PLACES).map(|_| SharedMeter::default()).collect();
        Self { rate, hasher: RandomState::new(), meters, start: Instant::now() }
    }

    /// Takes one try, or says how long to wait.
    pub(super) fn take(&self, who: impl Hash) -> Result<(), Duration> {
        let hash = self.hasher.hash_one(who);
        let place = usize::try_from(hash % PLACES as u64).unwrap_or(0);
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.meters.get(place).map_or(Ok(()), |meter| meter.take(&self.rate, 1, now))
    }
}

/// What counts as one address: a machine with IPv6 has a /64 of them.
pub(super) fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

const PLACES: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_rate() {
        let throttle = Throttle::new("2/h".parse().unwrap());
        assert!(throttle.take("ann").is_ok() && throttle.take("ann").is_ok());
        let wait = throttle.take("ann").unwrap_err();
        assert!(wait > Duration::from_secs(1500) && wait <= Duration::from_secs(1800), "{wait:?}");
        // One in 32,768 would share her place; ten of them do not.
        let free = (0..10).filter(|n| throttle.take(n).is_ok()).count();
        assert!(free >= 9, "{free}");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| household(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
