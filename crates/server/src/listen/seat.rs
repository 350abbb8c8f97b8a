//! Places among the connections that speak HTTP, in all and for each address, and how fast they are taken.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use throng_hub::{Knocks, Rate};

use super::Front;
use crate::client::Cidr;
use crate::config::{Cidrs, Limits};

/// What one address may have, and what each has.
pub(super) struct Seats {
    exempt: Cidrs,
    /// Whole crowds come by them.
    trusted: Cidrs,
    open: Crowd,
    /// TLS handshakes that are under way.
    handshakes: Crowd,
    /// These of all addresses.
    max_handshakes: usize,
    all_handshakes: AtomicUsize,
    /// How fast connections may come.
    rate: Option<Rate>,
    knocks: Knocks,
    started: Instant,
}

/// How many each address has; who has none is not in it.
struct Crowd {
    most: usize,
    each: Mutex<HashMap<IpAddr, usize>>,
}

/// A place, given back when dropped.
pub(super) struct Seat {
    front: Arc<Front>,
    /// The address it counts for.
    address: Option<IpAddr>,
    is_stream: AtomicBool,
}

/// The right to be in the middle of a TLS handshake, given back when dropped.
pub(super) struct Handshake {
    front: Arc<Front>,
    /// The address it counts for.
    address: Option<IpAddr>,
}

impl Seats {
    pub(super) fn new(limits: &Limits) -> Self {
        let max_handshakes = limits.max_tls_handshakes.value;
        let per_ip = match limits.max_connections_per_ip {
            0 => usize::MAX,
            most => most,
        };
        Self {
            exempt: limits.exempt.clone(),
            trusted: limits.trusted_proxies.clone(),
            open: Crowd::new(per_ip),
            handshakes: Crowd::new((max_handshakes / SHARE).max(1)),
            max_handshakes,
            all_handshakes: AtomicUsize::new(0),
            rate: limits.connects_per_ip.limit(),
            knocks: Knocks::default(),
            started: Instant::now(),
        }
    }

    /// The proxies that are believed.
    pub(super) fn trusted(&self) -> &[Cidr] {
        self.trusted.as_slice()
    }

    /// Whether an address is that of one of them.
    pub(super) fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted().iter().any(|range| range.contains(ip))
    }

    /// One more connection of an address; `false` when it comes too fast.
    pub(super) fn knock(&self, ip: IpAddr) -> bool {
        let (Some(rate), Some(address)) = (&self.rate, self.counted(ip)) else { return true };
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.knocks.knock(rate, address, now).is_ok()
    }

    /// What an address counts as; `None`: it does not.
    fn counted(&self, ip: IpAddr) -> Option<IpAddr> {
        let exempt = self.exempt.as_slice().iter().any(|range| range.contains(ip));
        (!exempt && !self.trusts(ip)).then(|| network(ip))
    }
}

impl Crowd {
    fn new(most: usize) -> Self {
        Self { most, each: Mutex::default() }
    }

    fn enter(&self, address: IpAddr) -> bool {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let open = each.entry(address).or_default();
        let fits = *open < self.most;
        *open += usize::from(fits);
        fits
    }

    fn leave(&self, address: IpAddr) {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = each.get_mut(&address) {
            *open -= 1;
            if *open == 0 {
                each.remove(&address);
            }
        }
    }
}

impl Seat {
    /// A place among all; `None`, and counted as refused, when there is none.
    pub(super) fn take(front: &Arc<Front>) -> Option<Self> {
        let counts = &front.counts;
        if counts.open.fetch_add(1, Ordering::Relaxed) >= front.max_open {
            counts.open.fetch_sub(1, Ordering::Relaxed);
            counts.refused_full.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let is_stream = AtomicBool::new(false);
        Some(Self { front: Arc::clone(front), address: None, is_stream })
    }

    /// Takes a place among those of an address, too; `false`, and counted as refused, when there is none.
    pub(super) fn count(&mut self, ip: IpAddr) -> bool {
        debug_assert!(self.address.is_none());
        let seats = &self.front.seats;
        let Some(address) = seats.counted(ip) else { return true };
        if !seats.open.enter(address) {
            self.front.counts.refused_per_ip.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.address = Some(address);
        true
    }

    pub(super) fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Becomes a place among streams of events instead; `false` when there is none. It still counts for its
    /// address.
    pub(super) fn become_stream(&self) -> bool {
        let (front, counts) = (&self.front, &self.front.counts);
        if self.is_stream.load(Ordering::Relaxed) {
            return true;
        }
        if counts.streams.fetch_add(1, Ordering::Relaxed) >= front.max_streams {
            counts.streams.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.is_stream.store(true, Ordering::Relaxed);
        counts.open.fetch_sub(1, Ordering::Relaxed);
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let counts = &self.front.counts;
        let counter = if *self.is_stream.get_mut() { &counts.streams } else { &counts.open };
        counter.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            self.front.seats.open.leave(address);
        }
    }
}

impl Handshake {
    /// One more; `None`, and counted as refused, when there are as many as there may be, in all or of this
    /// address.
    pub(super) fn begin(front: &Arc<Front>, ip: IpAddr) -> Option<Self> {
        let seats = &front.seats;
        let begun = seats.all_handshakes.fetch_add(1, Ordering::Relaxed);
        // From here on the drop gives back what was taken.
        let mut handshake = Self { front: Arc::clone(front), address: None };
        let address = seats.counted(ip);
        let fits = begun < seats.max_handshakes
            && address.is_none_or(|address| seats.handshakes.enter(address));
        if !fits {
            front.counts.refused_handshakes.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        handshake.address = address;
        Some(handshake)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let seats = &self.front.seats;
        seats.all_handshakes.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            seats.handshakes.leave(address);
        }
    }
}

/// Somebody with IPv6 has at least a /64 of addresses.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// One address may have one in so many of all TLS handshakes.
const SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_counts_by_network() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn connections_come_as_fast_as_they_may() {
        let seats = Seats {
            exempt: Cidrs::default(),
            trusted: Cidrs::default(),
            open: Crowd::new(1),
            handshakes: Crowd::new(1),
            max_handshakes: 1,
            all_handshakes: AtomicUsize::new(0),
            rate: Some(Rate::per_hour(1).with_burst(2)),
            knocks: Knocks::default(),
            started: Instant::now(),
        };
        let comes = |ip: &str| seats.knock(ip.parse().unwrap());
        assert!(comes("192.0.2.1") && comes("::ffff:192.0.2.1") && !comes("192.0.2.1"));
        assert!(comes("2001:db8::1") && comes("2001:db8::2") && !comes("2001:db8::3"));
        assert!(comes("192.0.2.2") && comes("2001:db8:0:1::1"), "others are others");
    }

    #[test]
    fn an_address_has_so_many_places() {
        let seats = Crowd::new(2);
        let [a, b] = ["2001:db8::1", "192.0.2.1"].map(|ip| network(ip.parse().unwrap()));
        assert!(seats.enter(a) && seats.enter(a) && !seats.enter(a) && seats.enter(b));
        seats.leave(a);
        assert!(seats.enter(a) && !seats.enter(a));
        for address in [a, a, b] {
            seats.leave(address);
        }
        assert!(seats.each.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
