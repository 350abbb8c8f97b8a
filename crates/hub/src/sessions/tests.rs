use super::*;

const WINDOW: Duration = Duration::from_secs(120);
const AT: Asker = Asker { worker: 0, token: 1 };
const ELSEWHERE: Asker = Asker { worker: 1, token: 2 };

fn who(user: &str, session: &str) -> Arc<Identity> {
    Arc::new(Identity::anonymous(user, session, None))
}

#[test]
fn whoever_watches_is_told_every_turn() {
    let sessions = Sessions::telling(Duration::from_secs(120), Timestamp(0), |_| panic!());
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    sessions.watch(move |who, signed_in, turn| {
        tells.lock().unwrap().push((who.session_id().to_owned(), signed_in, turn));
    });
    let turns = |expected: &[(&str, bool, Turn)]| {
        let told = std::mem::take(&mut *told.lock().unwrap());
        let told: Vec<_> = told.iter().map(|(id, signed, turn)| (&**id, *signed, *turn)).collect();
        assert_eq!(told, expected);
    };
    let (ada, eve) = (who("ada", "s_1"), who("eve", "s_2"));
    let pass = Arc::new(Pass::default());
    sessions.arrive(&ada, Some(&pass), AT, Timestamp(1)).unwrap();
    sessions.arrive(&eve, None, AT, Timestamp(1)).unwrap();
    turns(&[("s_1", true, Turn::Arrived), ("s_2", false, Turn::Arrived)]);
    sessions.depart(&ada, ELSEWHERE, Ending::Lost, Timestamp(2));
    turns(&[]);
    sessions.depart(&ada, AT, Ending::Lost, Timestamp(2));
    sessions.depart(&eve, AT, Ending::Orderly, Timestamp(2));
    turns(&[("s_1", true, Turn::Lost(Timestamp(120_002))), ("s_2", false, Turn::Over)]);
    assert_eq!(sessions.revoke("ada", "s_1", Timestamp(3)), None);
    turns(&[("s_1", true, Turn::Over)]);
    // On another node now: whoever is there is closed, whoever is away is forgotten without a word.
    let bob = who("bob", "s_3");
    sessions.arrive(&bob, None, AT, Timestamp(4)).unwrap();
    sessions.arrive(&bob, None, ELSEWHERE, Timestamp(4)).unwrap();
    turns(&[("s_3", false, Turn::Arrived), ("s_3", false, Turn::Arrived)]);
    assert_eq!(sessions.forget("bob", "s_3", || false), None);
    assert_eq!(
        (sessions.forget("bob", "s_3", || true), sessions.user_count()),
        (Some(ELSEWHERE), 0)
    );
    sessions.depart(&bob, ELSEWHERE, Ending::Lost, Timestamp(5));
    sessions.arrive(&eve, None, AT, Timestamp(5)).unwrap();
    sessions.depart(&eve, AT, Ending::Lost, Timestamp(5));
    assert_eq!(sessions.forget("eve", "s_2", || true), None);
    assert_eq!(sessions.standing("eve", "s_2", Timestamp(6)), Standing::Unknown);
    turns(&[("s_2", false, Turn::Arrived), ("s_2", false, Turn::Lost(Timestamp(120_005)))]);
    assert_eq!(sessions.standing("bob", "s_3", Timestamp(6)), Standing::Unknown);
    sessions.set_elsewhere(3);
    assert_eq!((sessions.user_count(), sessions.all_users()), (0, 3));
}

#[test]
fn a_lost_session_comes_back_within_the_window() {
    let sessions = Sessions::new(WINDOW, Timestamp(0));
    let ada = who("u_1", "s_1");
    assert_eq!(sessions.arrive(&ada, None, AT, Timestamp(0)), Ok(None));
    assert_eq!(sessions.standing("u_1", "s_1", Timestamp(1)), Standing::Connected(AT));
    sessions.depart(&ada, AT, Ending::Lost, Timestamp(1000));
    assert_eq!(sessions.user_count(), 0);
    assert_eq!(sessions.standing("u_1", "s_1", Timestamp(120_999)), Standing::Lost);
    assert_eq!(sessions.standing("u_1", "s_1", Timestamp(121_000)), Standing::Unknown);
    assert_eq!(sessions.arrive(&ada, None, ELSEWHERE, Timestamp(2000)), Ok(None));
    assert_eq!(sessions.user_count(), 1);
    sessions.arrive(&who("u_2", "s_2"), None, AT, Timestamp(900_000)).unwrap(); // whatever expires, expires
    assert_eq!(sessions.places("u_1"), [ELSEWHERE]);
}

#[test]
fn an_orderly_end_is_one() {
    let sessions = Sessions::new(WINDOW, Timestamp(0));
    let ada = who("u_1", "s_1");
    sessions.arrive(&ada, None, AT, Timestamp(0)).unwrap();
    sessions.depart(&ada, AT, Ending::Orderly, Timestamp(1));
    assert_eq!(sessions.standing("u_1", "s_1", Timestamp(2)), Standing::Unknown);
    assert_eq!(sessions.user_count(), 0);
}

#[test]
fn the_newer_connection_has_the_session() {
    let sessions = Sessions::new(WINDOW, Timestamp(0));
    let ada = who("u_1", "s_1");
    sessions.arrive(&ada, None, AT, Timestamp(0)).unwrap();
    let arrived = sessions.arrive(&who("u_1", "s_1"), None, ELSEWHERE, Timestamp(1));
    assert_eq!(arrived, Ok(Some(AT)));
    sessions.depart(&ada, AT, Ending::Lost, Timestamp(2));
    assert_eq!(sessions.standing("u_1", "s_1", Timestamp(3)), Standing::Connected(ELSEWHERE));
    assert_eq!(sessions.user_count(), 1);
}

#[test]
fn users_are_counted_once() {
    let sessions = Sessions::new(WINDOW, Timestamp(0));
    let (one, two) = (who("u_1", "s_1"), who("u_1", "s_2"));
    sessions.arrive(&one, None, AT, Timestamp(0)).unwrap();
    sessions.arrive(&two, None, ELSEWHERE, Timestamp(0)).unwrap();
    assert_eq!((sessions.user_count(), sessions.places("u_1").len()), (1, 2));
    sessions.depart(&one, AT, Ending::Lost, Timestamp(1));
    assert_eq!(sessions.user_count(), 1);
    sessions.depart(&two, ELSEWHERE, Ending::Orderly, Timestamp(1));
    assert_eq!(sessions.user_count(), 0);
    sessions.depart(&two, ELSEWHERE, Ending::Orderly, Timestamp(1));
    assert_eq!(sessions.user_count(), 0, "only once");
}

#[test]
fn lost_sessions_are_bounded() {
    let sessions = Sessions::new(WINDOW, Timestamp(0));
    for n in 0..SHARDS * FEW_LOST * 2 {
        let who = who(&format!("u_{n}"), "s");
        sessions.arrive(&who, None, AT, Timestamp(0)).unwrap();
        sessions.depart(&who, AT, Ending::Lost, Timestamp(0));
    }
    let lost: usize = sessions.shards.iter().map(|shard| shard.lock().unwrap().lost.len()).sum();
    assert!(lost <= SHARDS * FEW_LOST, "{lost}");
    for shard in &sessions.shards {
        assert!(shard.lock().unwrap().expire(Timestamp(1_000_000)).is_empty());
        assert!(shard.lock().unwrap().users.is_empty());
    }
}

fn pass(expires: u64, opened: u64) -> Arc<Pass> {
    let (expires, opened) = (Some(Timestamp(expires)), Timestamp(opened));
    Arc::new(Pass { expires, opened, ..Pass::default() })
}

#[test]
fn passes_end_when_they_say() {
    let sessions = Sessions::new(WINDOW, Timestamp(0));
    let (ada, bob) = (who("ada", "s_1"), who("bob", "s_2"));
    sessions.arrive(&ada, Some(&pass(500, 0)), AT, Timestamp(0)).unwrap();
    sessions.arrive(&bob, Some(&pass(600, 0)), ELSEWHERE, Timestamp(0)).unwrap();
    assert_eq!(sessions.next_expiry(), Some(Timestamp(500)));
    assert!(sessions.expired(Timestamp(499)).is_empty());
    assert!(sessions.renew(&ada, AT, &pass(900, 400)));
    assert!(sessions.expired(Timestamp(500)).is_empty(), "renewed");
    let over = sessions.expired(Timestamp(1000));
    let over: Vec<_> = over.iter().map(|listed| listed.who.user_id()).collect();
    assert_eq!(over, ["bob", "ada"]);
    assert!(sessions.expired(Timestamp(2000)).is_empty(), "once");
}

#[test]
fn a_revoked_session_is_over_whatever_is_on_its_way() {
    let sessions = Sessions::new(WINDOW, Timestamp(0));
    let ada = who("ada", "s_1");
    sessions.arrive(&ada, Some(&pass(9000, 0)), AT, Timestamp(0)).unwrap();
    assert_eq!(sessions.revoke("ada", "s_1", Timestamp(10)), Some(AT));
    assert_eq!(sessions.standing("ada", "s_1", Timestamp(11)), Standing::Unknown);
    assert!(!sessions.renew(&ada, AT, &pass(9999, 5)), "a refresh that comes too late");
    let again = sessions.arrive(&ada, Some(&pass(9000, 0)), ELSEWHERE, Timestamp(12));
    assert_eq!(again.unwrap_err(), Revoked, "a resume that comes too late");
    sessions.depart(&ada, AT, Ending::Lost, Timestamp(13));
    assert_eq!(sessions.standing("ada", "s_1", Timestamp(14)), Standing::Unknown);
    assert_eq!(sessions.user_count(), 0);
}

#[test]
fn all_sessions_of_a_user_end_but_not_later_ones() {
    let sessions = Sessions::new(WINDOW, Timestamp(0));
    let [one, two, three] = ["s_1", "s_2", "s_3"].map(|session| who("ada", session));
    sessions.arrive(&one, Some(&pass(9000, 0)), AT, Timestamp(0)).unwrap();
    sessions.arrive(&two, Some(&pass(9000, 0)), ELSEWHERE, Timestamp(0)).unwrap();
    sessions.depart(&two, ELSEWHERE, Ending::Lost, Timestamp(1));
    assert_eq!(sessions.revoke_all("ada", Timestamp(10)), [AT]);
    assert_eq!(sessions.standing("ada", "s_2", Timestamp(11)), Standing::Unknown);
    let late = sessions.arrive(&three, Some(&pass(9000, 9)), ELSEWHERE, Timestamp(12));
    assert_eq!(late.unwrap_err(), Revoked, "its ticket was redeemed before");
    let new = sessions.arrive(&three, Some(&pass(9000, 11)), ELSEWHERE, Timestamp(13));
    assert!(new.is_ok());
}

#[test]
fn whoever_keeps_ends_is_told_once() {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&ended);
    let sessions = Sessions::telling(WINDOW, Timestamp(0), move |id| {
        told.lock().unwrap().push(id.to_owned());
    });
    let (ada, bob, eve) = (who("ada", "s_1"), who("bob", "s_2"), who("u_eve", "s_3"));
    sessions.arrive(&ada, Some(&pass(9000, 0)), AT, Timestamp(0)).unwrap();
    sessions.arrive(&bob, Some(&pass(9000, 0)), AT, Timestamp(0)).unwrap();
    sessions.arrive(&eve, None, AT, Timestamp(0)).unwrap();
    sessions.depart(&ada, AT, Ending::Orderly, Timestamp(1));
    sessions.depart(&eve, AT, Ending::Orderly, Timestamp(1));
    sessions.depart(&bob, AT, Ending::Lost, Timestamp(1));
    assert_eq!(*ended.lock().unwrap(), ["s_1"]);
    for n in 0..5000 {
        let other = who(&format!("u_{n}"), "s"); // so many that some are in every shard
        sessions.arrive(&other, None, AT, Timestamp(200_000)).unwrap();
    }
    assert_eq!(*ended.lock().unwrap(), ["s_1", "s_2"]);
}
