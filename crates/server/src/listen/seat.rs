//! Places among the connections that speak HTTP, in all and for each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Front;
use crate::client::Cidr;
use crate::config::{Cidrs, Limits};

/// How many there may be from one address, and how many there are.
pub(super) struct Seats {
    /// 0: no limit.
    max_per_ip: usize,
    exempt: Cidrs,
    /// Whole crowds come by them.
    trusted: Cidrs,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
}

/// A place, given back when dropped.
pub(super) struct Seat {
    front: Arc<Front>,
    /// The address it counts for.
    address: Option<IpAddr>,
    is_stream: AtomicBool,
}

impl Seats {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            max_per_ip: limits.max_connections_per_ip,
            exempt: limits.exempt.clone(),
            trusted: limits.trusted_proxies.clone(),
            per_ip: Mutex::default(),
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

    /// What an address counts as; `None`: it does not.
    fn counted(&self, ip: IpAddr) -> Option<IpAddr> {
        let exempt = self.exempt.as_slice().iter().any(|range| range.contains(ip));
        (self.max_per_ip > 0 && !exempt && !self.trusts(ip)).then(|| network(ip))
    }

    fn enter(&self, address: IpAddr) -> bool {
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let open = per_ip.entry(address).or_default();
        let fits = *open < self.max_per_ip;
        *open += usize::from(fits);
        fits
    }

    fn leave(&self, address: IpAddr) {
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = per_ip.get_mut(&address) {
            *open -= 1;
            if *open == 0 {
                per_ip.remove(&address);
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
        if !seats.enter(address) {
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
            self.front.seats.leave(address);
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
    fn an_address_has_so_many_places() {
        let seats = Seats {
            max_per_ip: 2,
            exempt: Cidrs::default(),
            trusted: Cidrs::default(),
            per_ip: Mutex::default(),
        };
        let [a, b] = ["2001:db8::1", "192.0.2.1"].map(|ip| seats.counted(ip.parse().unwrap()));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(seats.enter(a) && seats.enter(a) && !seats.enter(a) && seats.enter(b));
        seats.leave(a);
        assert!(seats.enter(a) && !seats.enter(a));
        for address in [a, a, b] {
            seats.leave(address);
        }
        assert!(seats.per_ip.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
