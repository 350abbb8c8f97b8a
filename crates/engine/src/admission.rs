//! Who may come in as far as numbers go: handshakes of an address, connections in all, of an address and of a
//! user, and memory.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use throng_hub::{Budget, Crowded, Deed, Knocks, Rate};

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
    rooms_of_addresses: Uses<IpAddr>,
    rooms_of_users: Uses<Box<str>>,
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
    /// Open rooms that one address has brought into being. Default 1,000,000.
    pub rooms_per_address: usize,
    /// Open rooms that one user who is signed in has brought into being. Default 1,000,000.
    pub rooms_per_user: usize,
    /// Handshakes of one address. Default: any number.
    pub handshakes: Option<Rate>,
    /// Addresses that the caps by address do not concern. Default: none.
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
    /// This address has brought as many rooms into being as it may.
    #[error("this address has opened as many new rooms as it may")]
    AddressRooms,
    /// This user has brought as many rooms into being as they may.
    #[error("this user has opened as many new rooms as they may")]
    UserRooms,
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
    /// [`Full::AddressRooms`].
    pub address_rooms: u64,
    /// [`Full::UserRooms`].
    pub user_rooms: u64,
    /// [`Full::Memory`].
    pub memory: u64,
}

/// The right to one connection; given back when dropped.
pub struct Permit {
    admission: Arc<Admission>,
    /// Whether it counts as one of all.
    counts: bool,
    /// Whether it counts nothing, and only says for whom rooms count.
    is_witness: bool,
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
            rooms_of_addresses: Uses::default(),
            rooms_of_users: Uses::default(),
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
        let mut permit = Permit::of(self, true);
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
        Permit::of(self, false).of_user(user)
    }

    /// Connections admitted now.
    pub fn in_use(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Refusals so far.
    pub fn refusals(&self) -> Refusals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { total, address, user, handshakes, address_rooms, user_rooms, memory } =
            &self.refused;
        Refusals {
            total: load(total),
            address: load(address),
            user: load(user),
            handshakes: load(handshakes),
            address_rooms: load(address_rooms),
            user_rooms: load(user_rooms),
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
            Full::AddressRooms => &self.refused.address_rooms,
            Full::UserRooms => &self.refused.user_rooms,
            Full::Memory => &self.refused.memory,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        full
    }
}

impl Permit {
    fn of(admission: &Arc<Admission>, counts: bool) -> Self {
        let admission = Arc::clone(admission);
        Self { admission, counts, is_witness: false, ip: None, user: None }
    }

    /// Counts nothing, but stands for the same address and user where rooms are [founded](Self::found): for
    /// whoever does that while somebody else has the permit.
    pub fn witness(&self) -> Self {
        Self {
            admission: Arc::clone(&self.admission),
            counts: false,
            is_witness: true,
            ip: self.ip,
            user: self.user.clone(),
        }
    }

    /// The right to bring one more room into being, for as long as what is returned is there.
    ///
    /// # Errors
    /// [`Crowded::Founder`]: the address, or the user, has as many.
    ///
    /// Cost: two short locks of shards at most, and an allocation or two. Who has brought no open room into being
    /// is not remembered.
    pub fn found(&self) -> Result<Option<Deed>, Crowded> {
        if self.ip.is_none() && self.user.is_none() {
            return Ok(None);
        }
        let admission = &self.admission;
        // From here on its drop gives back what was taken.
        let mut founder = Founder { admission: Arc::clone(admission), ip: None, user: None };
        if let Some(ip) = self.ip {
            if !admission.rooms_of_addresses.take(&ip, admission.caps.rooms_per_address) {
                admission.refuse(Full::AddressRooms);
                return Err(Crowded::Founder);
            }
            founder.ip = Some(ip);
        }
        if let Some(user) = &self.user {
            if !admission.rooms_of_users.take(&**user, admission.caps.rooms_per_user) {
                admission.refuse(Full::UserRooms);
                return Err(Crowded::Founder);
            }
            founder.user = Some(user.clone());
        }
        Ok(Some(Deed::new(founder)))
    }

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

/// Who has brought a room into being.
struct Founder {
    admission: Arc<Admission>,
    ip: Option<IpAddr>,
    user: Option<Box<str>>,
}

impl Drop for Founder {
    fn drop(&mut self) {
        if let Some(ip) = &self.ip {
            self.admission.rooms_of_addresses.give_back(ip);
        }
        if let Some(user) = &self.user {
            self.admission.rooms_of_users.give_back(user);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_witness {
            return;
        }
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
            Self::Total | Self::Address | Self::User | Self::AddressRooms | Self::UserRooms => {
                Duration::from_secs(5)
            }
            Self::Memory => Duration::from_secs(10),
        }
    }
}

impl Default for Caps {
    fn default() -> Self {
        const MANY: usize = 1_000_000;
        Self {
            total: MANY,
            per_address: MANY,
            per_user: MANY,
            rooms_per_address: MANY,
            rooms_per_user: MANY,
            handshakes: None,
            exempt: None,
        }
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
    address_rooms: AtomicU64,
    user_rooms: AtomicU64,
    memory: AtomicU64,
}

#[cfg(test)]
mod tests;
