//! The rigs do what tests rely on.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::net::TcpStream;
use std::process::Command;

use throng_redis_rig::{Cluster, Data, Reply, Sentinels, Server, Setup, slot_of};

#[test]
fn data_survives_a_kill_or_is_lost() {
    let mut server = Server::start(Setup::durable()).unwrap();
    server.order(&["SET", "key", "value"]).unwrap();
    server.kill();
    assert!(TcpStream::connect(server.address()).is_err(), "it is gone");
    server.start_again(Data::Kept).unwrap();
    assert_eq!(server.ask(&["GET", "key"]).unwrap(), Reply::Text("value".into()));
    server.start_again(Data::Lost).unwrap();
    assert_eq!(server.ask(&["GET", "key"]).unwrap(), Reply::None);
    let address = server.address();
    drop(server);
    assert!(TcpStream::connect(address).is_err(), "nothing is left behind");
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let panicked = std::thread::spawn(|| {
        let server = Server::start(Setup::in_memory()).unwrap();
        std::panic::panic_any(server.address());
    });
    let payload = panicked.join().unwrap_err();
    let address: &std::net::SocketAddr = payload.downcast_ref().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_secured_server_lets_in_who_has_papers() {
    let server = Server::start(Setup::in_memory().secured()).unwrap();
    let papers = server.papers().unwrap();
    let url = server.url();
    let port = url.rsplit(':').next().unwrap();
    let asked = |user: &str, password: &str, certificate: bool, command: &[&str]| {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", port, "--tls", "--no-auth-warning", "--user", user, "--pass", password]);
        cli.arg("--cacert").arg(&papers.authority);
        if certificate {
            cli.arg("--cert").arg(&papers.certificate).arg("--key").arg(&papers.key);
        }
        let output = cli.args(command).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let set = ["SET", "throng:x", "1"];
    assert_eq!(asked(papers.user, papers.password, true, &set), "OK");
    assert_ne!(asked(papers.user, papers.password, false, &set), "OK", "without a certificate");
    assert_ne!(asked(papers.user, "guessed", true, &set), "OK", "without the password");
    assert!(asked(papers.user, papers.password, true, &["SET", "x", "1"]).contains("NOPERM"));
    assert!(asked(papers.user, papers.password, true, &["FLUSHALL"]).contains("NOPERM"));
}

#[test]
fn sentinels_promote_another_server() {
    let mut rig = Sentinels::start().unwrap();
    assert_eq!(rig.primary(), Some(0));
    assert_eq!(rig.kill_primary().unwrap(), 0);
    let now = rig.wait_for_another(0).unwrap();
    rig.bring_back(0).unwrap();
    assert_ne!(now, 0);
}

#[test]
fn a_cluster_moves_slots_and_promotes_replicas() {
    let mut rig = Cluster::start().unwrap();
    let key = "throng:{room-0}";
    let owner = rig.owner_of(key).unwrap();
    let reply = rig.servers()[owner].order(&["CLUSTER", "KEYSLOT", key]).unwrap();
    assert_eq!(reply, Reply::Number(slot_of(key).into()));
    for n in 0..12 {
        rig.servers()[owner].order(&["SET", &format!("{key}:{n}"), "x"]).unwrap();
    }
    let to = (owner + 1) % 3;
    rig.move_slot(key, to).unwrap();
    assert_eq!(rig.owner_of(key).unwrap(), to);
    assert_eq!(
        rig.servers()[to].ask(&["GET", &format!("{key}:11")]).unwrap(),
        Reply::Text("x".into())
    );
    rig.server_mut(to).kill();
    let now = rig.wait_for_another(key, to).unwrap();
    assert_eq!(now, to + 3, "its replica");
}
