//! Who may come in as far as numbers go: handshakes of an address, connections in all, of an address and of a
//! user, and memory.

mod knocks;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use throng_hub::{Budget, Rate};

use self::knocks::Knocks;

/// The caps and what is used of them. Shared by the front and the workers.
///
/// In the order of a handshake: [`knock`](Self::knock) before anything else is looked at,
/// [`admit`](Self::admit) when the credentials are good, [`Permit::of_user`] when they say who it is.
pub struct Admission {
    caps: Caps,
    budget: Arc<Budget>,
    total: AtomicUsize,
    addresses: Uses<IpAddr>,
    users: Uses<Box<str>>,
    knocks: Knocks,
    started: Instant,
    refused: Counters,
}

/// How much there may be.
#[derive(Clone, Debug)]
pub struct Caps {
    /// Connections in all. Default 1,000,000.
    pub total: usize,
    /// Connections from one address. Default 1,000,000.
    pub per_address: usize,
    /// Connections of one user who is signed in. Default 1,000,000.
    pub per_user: usize,
    /// Handshakes of one address. Default: any number.
    pub handshakes: Option<Rate>,
    /// Addresses that the two caps by address do not concern. Default: none.
    pub exempt: Option<Exempt>,
}

/// Whether an address is one of those. Asked in every handshake, so it must be quick.
#[derive(Clone)]
pub struct Exempt(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Full {
    /// The server has all the connections it may have.
    #[error("the server has reached its limit of connections")]
    Total,
    /// This address has all the connections it may have.
    #[error("this address has reached its limit of connections")]
    Address,
    /// This user has all the connections they may have.
    #[error("this user has reached the limit of connections")]
    User,
    /// This address tries too often; it may again after so long.
    #[error("too many handshakes from this address")]
    Handshakes(Duration),
    /// Most of the memory for connections is used.
    #[error("the server is short of memory")]
    Memory,
}

/// How often it was refused, by reason, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// [`Full::Total`].
    pub total: u64,
    /// [`Full::Address`].
    pub address: u64,
    /// [`Full::User`].
    pub user: u64,
    /// [`Full::Handshakes`].
    pub handshakes: u64,
    /// [`Full::Memory`].
    pub memory: u64,
}

/// The right to one connection; given back when dropped.
pub struct Permit {
    admission: Arc<Admission>,
    /// Whether it counts as one of all.
    counts: bool,
    ip: Option<IpAddr>,
    user: Option<Box<str>>,
}

impl Admission {
    /// Caps on connections in all and for each address, and nothing else.
    pub fn new(max_total: usize, max_per_ip: usize) -> Arc<Self> {
        let caps = Caps { total: max_total, per_address: max_per_ip, ..Caps::default() };
        Self::with(caps, Arc::default())
    }

    /// All caps; nobody is admitted while the budget is tight.
    pub fn with(caps: Caps, budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            caps,
            budget,
            total: AtomicUsize::new(0),
            addresses: Uses::default(),
            users: Uses::default(),
            knocks: Knocks::default(),
            started: Instant::now(),
            refused: Counters::default(),
        })
    }

    /// One more handshake of an address, which may or may not become a connection. An address that is not
    /// known is always let through.
    ///
    /// # Errors
    /// [`Full::Handshakes`].
    ///
    /// Cost: one short lock of a shard. What is remembered is bounded, see [`Caps::handshakes`].
    pub fn knock(&self, ip: Option<IpAddr>) -> Result<(), Full> {
        let (Some(rate), Some(ip)) = (&self.caps.handshakes, self.counted(ip)) else {
            return Ok(());
        };
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.knocks.knock(rate, ip, now).map_err(|wait| self.refuse(Full::Handshakes(wait)))
    }

    /// Asks for one more connection. An address that is not known (a listener without
    /// addresses, an embedder that does not tell) counts for the total only. IPv6 addresses count by
    /// their /64, which is what one customer has at least.
    ///
    /// # Errors
    /// [`Full::Total`], [`Full::Address`], [`Full::Memory`].
    ///
    /// Cost: one atomic addition and one short lock of a shard; an address is remembered only
    /// while it has connections.
    pub fn admit(self: &Arc<Self>, ip: Option<IpAddr>) -> Result<Permit, Full> {
        if self.budget.is_tight() {
            return Err(self.refuse(Full::Memory));
        }
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.caps.total {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(self.refuse(Full::Total));
        }
        // From here on the permit's drop gives back what was taken.
        let mut permit = Permit { admission: Arc::clone(self), counts: true, ip: None, user: None };
        if let Some(ip) = self.counted(ip) {
            if !self.addresses.take(&ip, self.caps.per_address) {
                return Err(self.refuse(Full::Address));
            }
            permit.ip = Some(ip);
        }
        Ok(permit)
    }

    /// Asks for something that counts for a user who is signed in, but is no connection of ours: a stream
    /// of events.
    ///
    /// # Errors
    /// [`Full::User`].
    pub fn admit_user(self: &Arc<Self>, user: &str) -> Result<Permit, Full> {
        Permit { admission: Arc::clone(self), counts: false, ip: None, user: None }.of_user(user)
    }

    /// Connections admitted now.
    pub fn in_use(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Refusals so far.
    pub fn refusals(&self) -> Refusals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { total, address, user, handshakes, memory } = &self.refused;
        Refusals {
            total: load(total),
            address: load(address),
            user: load(user),
            handshakes: load(handshakes),
            memory: load(memory),
        }
    }

    /// As what an address counts, if it does.
    fn counted(&self, ip: Option<IpAddr>) -> Option<IpAddr> {
        let ip = ip?.to_canonical();
        let exempt = self.caps.exempt.as_ref().is_some_and(|Exempt(is_exempt)| is_exempt(ip));
        (!exempt).then(|| neighbourhood(ip))
    }

    fn refuse(&self, full: Full) -> Full {
        let counter = match full {
            Full::Total => &self.refused.total,
            Full::Address => &self.refused.address,
            Full::User => &self.refused.user,
            Full::Handshakes(_) => &self.refused.handshakes,
            Full::Memory => &self.refused.memory,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        full
    }
}

impl Permit {
    /// The right to one connection of this user, who is signed in; also, it counts for them.
    ///
    /// # Errors
    /// [`Full::User`]; the permit is given back.
    ///
    /// Cost: one short lock of a shard, and a copy of the id; a user is remembered only while connected.
    pub fn of_user(mut self, user: &str) -> Result<Self, Full> {
        if !self.admission.users.take(user, self.admission.caps.per_user) {
            return Err(self.admission.refuse(Full::User));
        }
        if let Some(before) = self.user.replace(user.into()) {
            self.admission.users.give_back(&before);
        }
        Ok(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.counts {
            self.admission.total.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(ip) = &self.ip {
            self.admission.addresses.give_back(ip);
        }
        if let Some(user) = &self.user {
            self.admission.users.give_back(user);
        }
    }
}

impl Full {
    /// After how long it makes sense to try again: what `Retry-After` says, in whole seconds, at least one.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Handshakes(wait) => {
                let rounded = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                Duration::from_secs(rounded.max(1))
            }
            Self::Total | Self::Address | Self::User => Duration::from_secs(5),
            Self::Memory => Duration::from_secs(10),
        }
    }
}

impl Default for Caps {
    fn default() -> Self {
        const MANY: usize = 1_000_000;
        Self { total: MANY, per_address: MANY, per_user: MANY, handshakes: None, exempt: None }
    }
}

impl Exempt {
    /// Those for which this holds. Addresses that are IPv4 come as such.
    pub fn new(holds: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }
}

impl fmt::Debug for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exempt")
    }
}

/// An IPv4 address, or the /64 of an IPv6 one.
fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// How many connections each one has; who has none is not in it.
struct Uses<K> {
    shards: [Mutex<HashMap<K, usize>>; SHARDS],
    hasher: RandomState,
}

const SHARDS: usize = 16;

impl<K: Hash + Eq> Uses<K> {
    /// One more, if there are not as many already.
    fn take<Q>(&self, who: &Q, most: usize) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        let mut shard = self.shard(who).lock().unwrap_or_else(PoisonError::into_inner);
        match shard.get_mut(who) {
            Some(used) if *used >= most => return false,
            Some(used) => *used += 1,
            None if most == 0 => return false,
            None => {
                shard.insert(who.to_owned().into(), 1);
            }
        }
        true
    }

    fn give_back<Q>(&self, who: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut shard = self.shard(who).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = shard.get_mut(who) {
            *used -= 1;
            if *used == 0 {
                shard.remove(who);
            }
        }
    }

    fn shard<Q: Hash + ?Sized>(&self, who: &Q) -> &Mutex<HashMap<K, usize>> {
        &self.shards[self.hasher.hash_one(who) as usize % SHARDS]
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().unwrap().is_empty())
    }
}

impl<K> Default for Uses<K> {
    fn default() -> Self {
        Self { shards: Default::default(), hasher: RandomState::new() }
    }
}

#[derive(Default)]
struct Counters {
    total: AtomicU64,
    address: AtomicU64,
    user: AtomicU64,
    handshakes: AtomicU64,
    memory: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn caps_hold_and_permits_come_back() {
        let admission = Admission::new(3, 2);
        let a = ip("10.0.0.1");
        let mapped = ip("::ffff:10.0.0.1");
        let first = admission.admit(a).ok().unwrap();
        let _second = admission.admit(mapped).ok().unwrap();
        assert_eq!(admission.admit(a).err(), Some(Full::Address));
        let _third = admission.admit(ip("10.0.0.2")).ok().unwrap();
        assert_eq!(admission.admit(None).err(), Some(Full::Total));
        drop(first);
        let _fourth = admission.admit(a).ok().unwrap();
        assert_eq!(admission.refusals(), Refusals { total: 1, address: 1, ..Refusals::default() });
        assert_eq!(admission.in_use(), 3);
    }

    #[test]
    fn who_has_no_connections_is_forgotten() {
        let admission = Admission::with(
            Caps { per_address: 1, per_user: 1, ..Caps::default() },
            Arc::default(),
        );
        for i in 0..100u8 {
            let permit = admission.admit(Some([127, 0, 0, i].into())).ok().unwrap();
            drop(permit.of_user(&format!("user {i}")));
        }
        assert!(admission.addresses.is_empty() && admission.users.is_empty());
        let none = Admission::new(10, 0);
        assert!(none.admit(ip("127.0.0.1")).is_err());
        assert!(none.addresses.is_empty());
        assert_eq!(none.in_use(), 0);
    }

    #[test]
    fn a_customer_with_many_ipv6_addresses_is_one() {
        let admission = Admission::new(10, 1);
        let _permit = admission.admit(ip("2001:db8:0:1::1")).ok().unwrap();
        assert_eq!(admission.admit(ip("2001:db8:0:1:ffff::2")).err(), Some(Full::Address));
        assert!(admission.admit(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn a_user_has_so_many_from_wherever() {
        let caps = Caps { per_user: 2, ..Caps::default() };
        let admission = Admission::with(caps, Arc::default());
        let of = |text, user| admission.admit(ip(text)).and_then(|permit| permit.of_user(user));
        let first = of("10.0.0.1", "ann").ok().unwrap();
        let second = of("10.0.0.2", "ann").ok().unwrap();
        assert_eq!(of("10.0.0.3", "ann").err(), Some(Full::User));
        assert_eq!(admission.in_use(), 2, "the permit is given back");
        let _ben = of("10.0.0.3", "ben").ok().unwrap();
        // Who turns out to be somebody else does not count twice.
        let second = second.of_user("carl").ok().unwrap();
        let _third = of("10.0.0.3", "ann").ok().unwrap();
        drop((first, second));
        let stream = admission.admit_user("ann").ok().unwrap();
        assert_eq!(admission.in_use(), 2, "a stream is no connection of ours");
        assert_eq!(of("10.0.0.3", "ann").err(), Some(Full::User));
        drop(stream);
        let _fourth = of("10.0.0.3", "ann").ok().unwrap();
        assert_eq!((admission.refusals().user, admission.in_use()), (2, 3));
    }

    #[test]
    fn an_address_knocks_as_often_as_it_may() {
        let caps = Caps {
            handshakes: Some(Rate::per_hour(1).with_burst(3)),
            per_address: 1,
            exempt: Some(Exempt::new(|ip| ip.is_loopback())),
            ..Caps::default()
        };
        let admission = Admission::with(caps, Arc::default());
        for _ in 0..3 {
            admission.knock(ip("192.0.2.7")).unwrap();
        }
        let full = admission.knock(ip("192.0.2.7")).unwrap_err();
        let Full::Handshakes(wait) = full else { panic!("{full}") };
        assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600), "{wait:?}");
        assert_eq!(full.retry_after(), Duration::from_secs(3600));
        admission.knock(ip("192.0.2.8")).unwrap();
        let mut permits = Vec::new();
        for _ in 0..10 {
            admission.knock(ip("127.0.0.1")).unwrap();
            admission.knock(None).unwrap();
            permits.extend(admission.admit(ip("127.0.0.1")));
        }
        assert_eq!(permits.len(), 10);
        assert_eq!(admission.refusals(), Refusals { handshakes: 1, ..Refusals::default() });
    }

    #[test]
    fn nobody_comes_in_while_memory_is_short() {
        let budget = Arc::new(Budget::new(1000));
        let admission = Admission::with(Caps::default(), Arc::clone(&budget));
        let _before = admission.admit(None).ok().unwrap();
        budget.change(0, 950);
        assert_eq!(admission.admit(None).err(), Some(Full::Memory));
        budget.change(950, 0);
        assert!(admission.admit(None).is_ok());
        assert_eq!(admission.refusals().memory, 1);
    }

    #[test]
    fn many_at_once_never_exceed_a_cap() {
        let caps = Caps { total: 40, per_address: 30, per_user: 20, ..Caps::default() };
        let admission = Admission::with(caps, Arc::default());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let permits: Vec<_> = (0..10)
                            .filter_map(|_| {
                                let permit = admission.admit(ip("192.0.2.7")).ok()?;
                                permit.of_user("ann").ok()
                            })
                            .collect();
                        assert!(permits.len() <= 10 && admission.in_use() <= 40 + 8);
                    }
                });
            }
        });
        assert_eq!(admission.in_use(), 0);
        assert!(admission.addresses.is_empty() && admission.users.is_empty());
    }
}
