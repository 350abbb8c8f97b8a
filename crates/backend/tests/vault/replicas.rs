//! Too few replicas: what is stored now may be lost with this server.

use std::sync::{Arc, mpsc};

use throng_backend::{Begun, NewTicket, Redis, RedisOptions, SessionRow, Vault};
use throng_hub::Unavailable;
use throng_redis_rig::{Server, Setup};

use super::rig::{LONG, admitted, ask, ban, begin, clock, find, gone, hash, issue, row, session};
use super::rig::{NOW, ticket, until};

/// A vault of a node that wants one replica.
fn node(server: &Server) -> (Arc<Redis>, Vault) {
    let urls = vec![server.url()];
    let options = RedisOptions { urls, min_replicas: 1, ..RedisOptions::default() };
    let redis = Redis::connect(options).unwrap();
    let vault = Vault::shared(redis.remote(), "test");
    (redis, vault)
}

fn good(n: u32, user: &str) -> NewTicket {
    NewTicket { expires: clock() + 600_000, ..ticket(n, user) }
}

fn fresh(id: &str, user: &str) -> SessionRow {
    SessionRow { started: clock(), issued: Some(clock()), ..row(id, user) }
}

#[test]
fn what_must_not_be_forgotten_is_not_acknowledged() {
    let server = Server::start(Setup::in_memory()).unwrap();
    let ((one_redis, one), (two_redis, two)) = (node(&server), node(&server));
    let (tell, told) = mpsc::channel();
    one.on_change(move || {
        let _ = tell.send(());
    });
    let redeem = |n, id: &str| ask(|done| one.redeem(hash(n), None, NOW, session(id), done));
    let renew = |n, id: &str| ask(|done| one.renew(hash(n), None, NOW, id, "ada", done));

    // Nobody has to rely on these.
    issue(&one, good(1, "ada"));
    issue(&one, good(2, "ada"));
    issue(&one, good(3, "bob"));
    for (id, user) in [("s_1", "ada"), ("s_2", "ada"), ("s_3", "bob"), ("s_4", "eve")] {
        assert_eq!(begin(&one, fresh(id, user)), Begun::Yes);
    }
    assert!(find(&two, "s_1").is_some());
    // A ticket is not used up.
    assert_eq!(redeem(1, "s_9"), Err(Unavailable));
    assert_eq!(renew(2, "s_1"), Err(Unavailable));
    assert!(one.stats().trouble.is_some());
    // What takes away is done, and seen everywhere, also here.
    assert_eq!(ask(|done| one.revoke_session("s_2", done)), Err(Unavailable));
    assert_eq!(ask(|done| one.revoke_user("eve", clock(), done)), Err(Unavailable));
    assert_eq!(ask(|done| one.set_ban(ban("", "mallory", None), done)), Err(Unavailable));
    assert_eq!(gone(&two, &["s_1", "s_2", "s_3", "s_4"]), ["s_2", "s_4"]);
    told.recv_timeout(LONG).unwrap();
    until(|| one.bans().len() == 1 && two.bans() == one.bans());
    let secrets = one.secrets();
    assert_eq!(ask(|done| one.rotate_secret(0, done)), Err(Unavailable));
    until(|| one.secrets() == two.secrets() && one.secrets() != secrets);

    let main = server.port().to_string();
    let replica = Setup::in_memory().with(["--replicaof", "127.0.0.1", &main]);
    let mut replica = Server::start(replica).unwrap();
    until(|| server.info("replication", "slave0").is_some_and(|it| it.contains("state=online")));
    until(|| redeem(1, "s_9") == Ok(admitted(1, "ada", NOW)));
    assert_eq!(renew(2, "s_1"), Ok(admitted(2, "ada", NOW)));
    assert_eq!(ask(|done| two.revoke_user("eve", clock(), done)), Ok(0));
    assert_eq!(ask(|done| two.revoke_user("ada", clock(), done)), Ok(2));
    assert_eq!(ask(|done| two.lift_ban("", "mallory", done)), Ok(true));
    until(|| one.bans().is_empty());
    assert_eq!(one.stats().trouble, None);

    replica.kill();
    until(|| server.info("replication", "connected_slaves").as_deref() == Some("0"));
    assert_eq!(redeem(3, "s_8"), Err(Unavailable));
    assert_eq!(find(&one, "s_8"), None);
    one_redis.close();
    two_redis.close();
}
