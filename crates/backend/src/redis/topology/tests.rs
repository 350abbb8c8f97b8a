use tokio::sync::mpsc::channel;
use tokio::task::LocalSet;

use super::*;
use crate::redis::script::Verb;
use crate::redis::{RedisOptions, nodes};

/// Plays with a topology of a cluster whose servers are not there.
fn with_topology(act: impl FnOnce(Topology)) {
    let urls = vec!["redis://127.0.0.1:1".to_owned()];
    let options = RedisOptions { urls, mode: RedisMode::Cluster, ..RedisOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (post, _news) = channel(16);
        act(Topology::new(Plan::new(&options).unwrap(), post));
    });
}

fn sent() -> Sent {
    let call = Call { verb: Verb::Plain("SPUBLISH"), keys: 0, args: vec![b"{a}".to_vec()] };
    Sent { id: 1, call, asking: false, since: Instant::now(), again: false, hops: 0 }
}

fn addresses(topology: &Topology) -> Vec<&str> {
    let mut all: Vec<_> = topology.places.values().map(|place| &*place.address).collect();
    all.sort_unstable();
    all
}

#[test]
fn servers_that_disagree_are_not_asked_as_fast_as_they_can() {
    with_topology(|mut topology| {
        let (one, other) = (topology.link_to("127.0.0.1", 1), topology.link_to("127.0.0.1", 2));
        topology.handle(one, News::Up);
        topology.handle(other, News::Up);
        let mut sent = sent();
        for hop in 1..=MOST_HOPS {
            let answer = Answer::Error("MOVED".to_owned(), "1 127.0.0.1:2".to_owned());
            sent.hops = hop - 1;
            topology.handle(one, News::Answer { sent: clone(&sent), answer });
            assert!(topology.poll_timeout().is_none(), "at once");
        }
        sent.hops = MOST_HOPS;
        let answer = Answer::Error("ASK".to_owned(), "1 127.0.0.1:1".to_owned());
        topology.handle(other, News::Answer { sent, answer });
        assert!(topology.poll_timeout().is_some(), "a little later");
        assert!(!topology.later[0].1.asking && topology.later[0].1.hops == 0);
    });
}

fn clone(sent: &Sent) -> Sent {
    Sent { call: sent.call.clone(), ..*sent }
}

#[test]
fn a_server_that_has_left_the_cluster_is_given_up_whenever_it_goes() {
    with_topology(|mut topology| {
        let slots = |ports: [u16; 2]| {
            let slots = [(0, 8191), (8192, 16_383)].into_iter().zip(ports);
            let slots = slots.map(|((first, last), port)| (first, last, "127.0.0.1".into(), port));
            News::Slots(slots.collect())
        };
        topology.handle(0, slots([1, 2]));
        let (one, two) = (topology.link_to("127.0.0.1", 1), topology.link_to("127.0.0.1", 2));
        topology.handle(one, News::Up);
        topology.handle(two, News::Up);
        topology.handle(0, slots([1, 1]));
        assert_eq!(addresses(&topology), ["127.0.0.1:1", "127.0.0.1:2"], "it is still there");
        topology.handle(two, News::Down(Trouble::Away("gone".to_owned())));
        topology.handle(0, slots([1, 1]));
        assert_eq!(addresses(&topology).len(), 2, "it may come back");
        topology.places.get_mut(&two).unwrap().since -= IDLE;
        topology.handle(0, slots([1, 1]));
        assert_eq!(addresses(&topology), ["127.0.0.1:1"]);
        assert!(topology.trouble().is_none());
    });
}

#[test]
fn what_the_vault_forgets_the_registry_forgets() {
    // Else all sessions of the vault would be gone while the nodes are known: that is, revoked.
    for key in nodes::keys("p") {
        assert_eq!(slot::tag(key.as_bytes()), slot::tag(b"p:{#vault}"), "{key}");
    }
}
