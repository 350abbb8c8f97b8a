//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The caps and what is used of them. Shared by the front and the workers.
pub struct Admission {
    max_total: usize,
    max_per_ip: usize,
    total: AtomicUsize,
    per_ip: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
    hasher: RandomState,
    refused_total: AtomicU64,
    refused_per_ip: AtomicU64,
}

/// Why a connection is not admitted. Answered with `429` and `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The server has all the connections it may have.
    #[error("the server has reached its limit of connections")]
    Total,
    /// This address has all the connections it may have.
    #[error("this address has reached its limit of connections")]
    Address,
}

/// The right to one connection; given back when dropped.
pub struct Permit {
    admission: Arc<Admission>,
    ip: Option<IpAddr>,
}

const SHARDS: usize = 16;

impl Admission {
    /// Caps on connections in all and for each address.
    pub fn new(max_total: usize, max_per_ip: usize) -> Arc<Self> {
        Arc::new(Self {
            max_total,
            max_per_ip,
            total: AtomicUsize::new(0),
            per_ip: Default::default(),
            hasher: RandomState::new(),
            refused_total: AtomicU64::new(0),
            refused_per_ip: AtomicU64::new(0),
        })
    }

    /// Asks for one more connection. An address that is not known (a listener without
    /// addresses, an embedder that does not tell) counts for the total only.
    ///
    /// Costs one atomic addition and one short lock of a shard; an address is remembered only
    /// while it has connections.
    pub fn admit(self: &Arc<Self>, ip: Option<IpAddr>) -> Result<Permit, Full> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.max_total {
            self.total.fetch_sub(1, Ordering::Relaxed);
            self.refused_total.fetch_add(1, Ordering::Relaxed);
            return Err(Full::Total);
        }
        // From here on the permit's drop gives back what was taken.
        let mut permit = Permit { admission: Arc::clone(self), ip: None };
        if let Some(ip) = ip.map(|ip| ip.to_canonical()) {
            let mut shard = self.shard(&ip).lock().unwrap_or_else(PoisonError::into_inner);
            let used = shard.entry(ip).or_insert(0);
            if *used as usize >= self.max_per_ip {
                if *used == 0 {
                    shard.remove(&ip);
                }
                drop(shard);
                self.refused_per_ip.fetch_add(1, Ordering::Relaxed);
                return Err(Full::Address);
            }
            *used += 1;
            permit.ip = Some(ip);
        }
        Ok(permit)
    }

    /// Connections admitted now.
    pub fn in_use(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Refusals so far: for the total, for an address.
    pub fn refused(&self) -> (u64, u64) {
        (self.refused_total.load(Ordering::Relaxed), self.refused_per_ip.load(Ordering::Relaxed))
    }

    fn shard(&self, ip: &IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.per_ip[self.hasher.hash_one(ip) as usize % SHARDS]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.total.fetch_sub(1, Ordering::Relaxed);
        let Some(ip) = self.ip else { return };
        let mut shard = self.admission.shard(&ip).lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut used) = shard.entry(ip) {
            *used.get_mut() -= 1;
            if *used.get() == 0 {
                used.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_hold_and_permits_come_back() {
        let admission = Admission::new(3, 2);
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let b: IpAddr = "10.0.0.2".parse().unwrap();
        let first = admission.admit(Some(a)).ok().unwrap();
        let _second = admission.admit(Some(mapped)).ok().unwrap();
        assert_eq!(admission.admit(Some(a)).err(), Some(Full::Address));
        let _third = admission.admit(Some(b)).ok().unwrap();
        assert_eq!(admission.admit(None).err(), Some(Full::Total));
        drop(first);
        let _fourth = admission.admit(Some(a)).ok().unwrap();
        assert_eq!(admission.refused(), (1, 1));
        assert_eq!(admission.in_use(), 3);
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let admission = Admission::new(10, 1);
        for i in 0..100u8 {
            drop(admission.admit(Some([127, 0, 0, i].into())));
        }
        assert!(admission.per_ip.iter().all(|shard| shard.lock().unwrap().is_empty()));
        let none = Admission::new(10, 0);
        assert!(none.admit(Some([127, 0, 0, 1].into())).is_err());
        assert!(none.per_ip.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
