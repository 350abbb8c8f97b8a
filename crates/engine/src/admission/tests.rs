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
    let admission =
        Admission::with(Caps { per_address: 1, per_user: 1, ..Caps::default() }, Arc::default());
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
fn who_brings_rooms_into_being_has_so_many() {
    let caps = Caps { rooms_per_address: 3, rooms_per_user: 2, ..Caps::default() };
    let admission = Admission::with(caps, Arc::default());
    let come = |text| admission.admit(ip(text)).ok().unwrap();
    let (stranger, ann) = (come("10.0.0.1"), come("10.0.0.1").of_user("ann").ok().unwrap());
    let of_ann: Vec<_> = (0..2).map(|_| ann.found().unwrap()).collect();
    assert_eq!(ann.found().err(), Some(Crowded::Founder));
    let again = come("10.0.0.2").of_user("ann").ok().unwrap();
    assert_eq!(again.found().err(), Some(Crowded::Founder), "wherever she is");
    let third = stranger.found().unwrap();
    assert_eq!(stranger.witness().found().err(), Some(Crowded::Founder), "whoever stands for it");
    assert!(come("10.0.0.3").found().unwrap().is_some());
    let Refusals { address_rooms, user_rooms, .. } = admission.refusals();
    assert_eq!((address_rooms, user_rooms), (1, 2));
    // Rooms last longer than connections.
    drop((stranger, ann, again));
    assert_eq!(come("10.0.0.1").found().err(), Some(Crowded::Founder));
    drop((of_ann, third));
    assert!(admission.rooms_of_addresses.is_empty() && admission.rooms_of_users.is_empty());
    assert!(admission.admit(None).ok().unwrap().found().unwrap().is_none(), "nobody known");
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
