//! Redis is away, and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use throng_backend::{
    Begun, NewTicket, Redeemed, Redis, RedisMode, RedisOptions, SessionRow, Vault,
};
use throng_hub::Unavailable;
use throng_redis_rig::Cluster;

use super::rig::*;

fn good(n: u32, user: &str) -> NewTicket {
    NewTicket { expires: clock() + 600_000, ..ticket(n, user) }
}

fn fresh(id: &str, user: &str) -> SessionRow {
    SessionRow { started: clock(), issued: Some(clock()), ..row(id, user) }
}

/// Until it answers again.
fn back(vault: &Vault) {
    until(|| ask(|done| vault.user("nobody", done)).is_ok());
}

#[test]
fn redis_is_away_and_comes_back_with_its_data() {
    let mut server = Server::durable();
    let (one, two) = (server.vault(), server.vault());
    issue(&one, good(1, "ada"));
    issue(&one, good(2, "ada"));
    assert_eq!(redeem(&one, 1, "s_1"), admitted(1, "ada", NOW));
    begin(&one, fresh("s_2", "bob"));
    ask(|done| one.revoke_user("eve", clock(), done)).unwrap();
    ask(|done| one.set_ban(ban("", "mallory", None), done)).unwrap();
    until(|| two.bans().len() == 1);
    let secrets = two.secrets();

    server.kill();
    until(|| ask(|done| one.find("s_1", done)).is_err());
    let asked = Instant::now();
    assert_eq!(ask(|done| one.issue(good(3, "ada"), done)), Err(Unavailable));
    let again = ask(|done| one.redeem(hash(1), None, NOW, session("s_9"), done));
    assert_eq!(again, Err(Unavailable));
    assert_eq!(ask(|done| one.begin(fresh("s_9", "ada"), done)), Err(Unavailable));
    assert_eq!(ask(|done| one.check(vec!["s_1".into()], done)), Err(Unavailable));
    assert_eq!(ask(|done| one.sessions(None, None, 10, done)), Err(Unavailable));
    assert_eq!(ask(|done| one.revoke_user("ada", NOW, done)), Err(Unavailable));
    assert_eq!(ask(|done| one.set_ban(ban("a", "bob", None), done)), Err(Unavailable));
    println!("nine answers without Redis took {:?}", asked.elapsed());
    assert!(one.stats().trouble.is_some());
    assert_eq!((one.bans().len(), one.secrets()), (1, secrets.clone()), "what is known is known");
    one.end("s_2");
    assert!(one.stats().queued > 0, "not given up");

    server.go_on();
    back(&one);
    back(&two);
    assert_eq!(redeem(&two, 1, "s_9"), Redeemed::Unknown, "used before");
    assert_eq!(redeem(&two, 2, "s_3"), admitted(2, "ada", NOW));
    assert_eq!(begin(&two, fresh("s_4", "eve")), Begun::Yes);
    let before = SessionRow { issued: Some(1), ..fresh("s_5", "eve") };
    assert_eq!(begin(&two, before), Begun::Revoked);
    until(|| gone(&two, &["s_1", "s_2"]) == ["s_2"]);
    until(|| one.stats().queued == 0);
    assert_eq!(one.stats().trouble, None);
    assert_eq!((one.secrets(), two.secrets()), (secrets.clone(), secrets));
    // Messages come through again.
    ask(|done| two.set_ban(ban("a", "bob", None), done)).unwrap();
    until(|| one.bans().len() == 2);
}

#[test]
fn redis_comes_later() {
    let mut server = Server::durable();
    server.kill();
    let one = server.vault();
    let own = one.secrets();
    assert_eq!(own.len(), 1, "something can be signed");
    assert_eq!(ask(|done| one.begin(fresh("s_1", "ada"), done)), Err(Unavailable));
    let (tell, told) = mpsc::channel();
    one.on_change(move || {
        let _ = tell.send(());
    });
    server.go_on();
    told.recv_timeout(LONG).unwrap();
    let two = server.vault();
    assert_eq!(one.secrets(), own, "what was signed before stays good");
    assert_eq!(two.secrets(), own, "with all of them");
    assert_eq!(begin(&one, fresh("s_1", "ada")), Begun::Yes);
    assert_eq!(gone(&two, &["s_1"]), [""; 0]);
}

#[test]
fn an_outage_and_a_close() {
    let mut server = Server::durable();
    let vault = server.vault();
    begin(&vault, fresh("s_1", "ada"));
    server.kill();
    until(|| ask(|done| vault.find("s_1", done)).is_err());
    vault.end("s_1");
    let started = Instant::now();
    vault.close();
    assert!(started.elapsed() < LONG);
    assert_eq!(ask(|done| vault.find("s_1", done)), Err(Unavailable));
}

/// A vault of a node in a cluster.
fn node_of(cluster: &Cluster) -> (Arc<Redis>, Vault) {
    let urls = cluster.urls();
    let options = RedisOptions { urls, mode: RedisMode::Cluster, ..RedisOptions::default() };
    let redis = Redis::connect(options).unwrap();
    let vault = Vault::shared(redis.remote(), "test");
    (redis, vault)
}

#[test]
fn in_a_cluster_that_moves_the_slot() {
    let cluster = Cluster::start().unwrap();
    let (redis, vault) = node_of(&cluster);
    for n in 0..500 {
        vault.issue(good(n, "ada"), |issued| issued.unwrap());
        begin(&vault, fresh(&format!("s_{n}"), &format!("u_{n}")));
        ask(|done| vault.revoke_token(&format!("t_{n}"), clock() + DAY, done)).unwrap();
    }
    ask(|done| vault.revoke_user("bob", clock(), done)).unwrap();
    ask(|done| vault.set_ban(ban("", "eve", None), done)).unwrap();
    let owner = cluster.owner_of("test:{#vault}").unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let mut answers = 0;
            for n in (0..500).cycle() {
                let gone = ask(|done| vault.check(vec![format!("s_{n}").into()], done));
                assert!(gone.as_ref().is_ok_and(Vec::is_empty) || gone == Err(Unavailable));
                let token = Some(format!("t_{n}"));
                let bad = SessionRow { token, ..fresh("s_bad", "mallory") };
                assert_ne!(ask(|done| vault.begin(bad, done)), Ok(Begun::Yes), "revoked");
                let bad = SessionRow { issued: Some(1), ..fresh("s_bad", "bob") };
                assert_ne!(ask(|done| vault.begin(bad, done)), Ok(Begun::Yes), "revoked");
                assert_eq!(vault.bans().len(), 1);
                answers += usize::from(gone.is_ok());
                if over.load(Ordering::Relaxed) {
                    return answers;
                }
            }
            unreachable!()
        });
        let to = (owner + 1) % 3;
        cluster.move_slot("test:{#vault}", to).unwrap();
        assert_eq!(cluster.owner_of("test:{#vault}").unwrap(), to);
        over.store(true, Ordering::Relaxed);
        println!("{} answers while the slot moved", asks.join().unwrap());
    });
    back(&vault);
    for n in 0..500 {
        assert_eq!(redeem(&vault, n, &format!("s_t{n}")), admitted(n, "ada", NOW));
    }
    redis.close();
}

#[test]
fn in_a_cluster_that_loses_a_primary() {
    let mut cluster = Cluster::start().unwrap();
    let (one_redis, one) = node_of(&cluster);
    let (two_redis, two) = node_of(&cluster);
    assert_eq!(one.secrets(), two.secrets());
    issue(&one, good(1, "ada"));
    issue(&one, good(2, "ada"));
    assert_eq!(redeem(&two, 1, "s_1"), admitted(1, "ada", NOW));
    ask(|done| one.set_ban(ban("", "eve", None), done)).unwrap();
    until(|| two.bans() == one.bans());
    assert_eq!(ask(|done| two.revoke_user("bob", clock(), done)), Ok(0));
    let secrets = one.secrets();

    let owner = cluster.owner_of("test:{#vault}").unwrap();
    // What was acknowledged has arrived at the replica: this is about the vault, not about Redis.
    let waited =
        cluster.servers()[owner].ask_all(&[&["SET", "{#vault}", "1"], &["WAIT", "1", "5000"]]);
    assert_eq!(waited.unwrap()[1].number(), Some(1));
    cluster.server_mut(owner).kill();
    cluster.wait_for_another("test:{#vault}", owner).unwrap();
    back(&one);
    back(&two);
    assert_eq!(redeem(&one, 1, "s_9"), Redeemed::Unknown, "used before");
    assert_eq!(redeem(&one, 2, "s_2"), admitted(2, "ada", NOW));
    assert_eq!(gone(&two, &["s_1", "s_2", "s_3"]), ["s_3"]);
    let before = SessionRow { issued: Some(1), ..fresh("s_5", "bob") };
    assert_eq!(begin(&two, before), Begun::Revoked);
    ask(|done| two.set_ban(ban("a", "eve", None), done)).unwrap();
    until(|| one.bans().len() == 2);
    assert_eq!((one.secrets(), two.secrets()), (secrets.clone(), secrets));
    one_redis.close();
    two_redis.close();
}
