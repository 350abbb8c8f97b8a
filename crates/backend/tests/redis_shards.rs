//! Several independent servers that share the rooms, of which one is lost: the rooms of the others go on as if nothing
//! had been.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "redis/node.rs"]
mod node;

use std::sync::Arc;
use std::time::Duration;

use node::{Node, Said, now, wait};
use throng_backend::RedisOptions;
use throng_hub::{Room, Span};
use throng_redis_rig::{Data, Server, Setup};

/// A room that is open on two nodes, with a user on each.
struct Shared {
    name: String,
    here: Arc<Room>,
    there: Arc<Room>,
}

impl Shared {
    fn new(a: &Node, b: &Node, name: &str) -> Self {
        let (here, there) = (a.room(name), b.room(name));
        a.join(&here, &format!("a_{name}"));
        b.join(&there, &format!("b_{name}"));
        assert_eq!(a.publish(&here, "first", 1, "first"), 1);
        let shared = Self { name: name.to_owned(), here, there };
        wait("both know both", || shared.is_whole(a, b, "first"));
        shared
    }

    /// Both have this message and see both users.
    fn is_whole(&self, a: &Node, b: &Node, text: &str) -> bool {
        let all = [(a, &self.here), (b, &self.there)];
        all.iter().all(|(node, room)| node.knows(room, text) && room.order().user_count() == 2)
    }
}

/// Three rooms for each server.
fn rooms(servers: &[Server], a: &Node, b: &Node) -> Vec<Vec<Shared>> {
    let mut rooms: Vec<Vec<Shared>> = servers.iter().map(|_| Vec::new()).collect();
    for n in 0..1000 {
        let name = format!("room{n}");
        let shared = Shared::new(a, b, &name);
        let key = format!("throng:{{{name}}}");
        let is_there = |server: &Server| server.ask(&["EXISTS", &key]).unwrap().number() == Some(1);
        rooms[servers.iter().position(is_there).unwrap()].push(shared);
        if rooms.iter().all(|rooms| rooms.len() >= 3) {
            return rooms;
        }
    }
    panic!("a server has no rooms");
}

/// Publishes what is taken and stored at the first attempt.
fn publish_at_once(node: &Node, room: &Room, session: &str, reference: u64, text: &str) {
    let before = node.answers().len();
    assert!(node.send(room, session, reference, text), "{text} is taken");
    wait("an answer", || node.answers().len() > before);
    let answers = node.answers();
    let mine = answers[before..].iter().find(|answer| answer.0 == reference).unwrap();
    assert!(mine.1.is_some(), "{text} is stored");
}

#[test]
fn rooms_of_other_servers_go_on() {
    let mut servers = [(); 2].map(|()| Server::start(Setup::in_memory()).unwrap());
    let options = RedisOptions {
        urls: servers.iter().map(Server::url).collect(),
        probe: Duration::from_secs(1),
        ..RedisOptions::default()
    };
    let (a, b) = (Node::new(options.clone()), Node::new(options.clone()));
    let rooms = rooms(&servers, &a, &b);
    // One of them also has the list of nodes: it does not matter which is lost.
    for lost in 0..servers.len() {
        let (dead, alive) = (&rooms[lost], &rooms[1 - lost]);
        let c = Node::new(options.clone());
        let epochs: Vec<_> = alive.iter().map(|room| room.here.order().epoch()).collect();
        let before: Vec<_> = dead.iter().map(|room| room.here.order().epoch()).collect();
        let heard = [a.ears.said().len(), b.ears.said().len()];
        let stored = 1000 * (lost as u64 + 1);

        servers[lost].kill();
        for room in dead {
            wait("messages are refused", || !a.send(&room.here, "no", 0, "no"));
            wait("there, too", || !b.send(&room.there, "no", 0, "no"));
            let page = room.here.order().history(Span::Newest, 1, 999, None, now());
            assert!(page.is_err(), "nobody knows what there is");
            assert!(c.try_room(&room.name).is_none(), "it cannot be opened");
        }
        for n in 0..10 {
            for room in alive {
                publish_at_once(&a, &room.here, "s", stored + n, &format!("here{lost}-{n}"));
                publish_at_once(&b, &room.there, "t", stored + n, &format!("there{lost}-{n}"));
                assert_eq!(room.here.order().user_count(), 2);
                assert_eq!(room.there.order().user_count(), 2);
            }
        }
        for room in alive {
            let opened = c.room(&room.name);
            wait("a third node knows all", || {
                opened.order().user_count() == 2 && c.knows(&opened, &format!("there{lost}-9"))
            });
        }

        servers[lost].start_again(Data::Lost).unwrap();
        for (room, before) in dead.iter().zip(before) {
            let text = format!("again{lost}");
            a.publish(&room.here, "s", stored + 500, &text);
            wait("both know both again", || room.is_whole(&a, &b, &text));
            let (here, there) = (room.here.order().epoch(), room.there.order().epoch());
            assert!(here == there && here != before, "the same new epoch on both");
        }
        for (room, before) in alive.iter().zip(epochs) {
            assert!(room.is_whole(&a, &b, &format!("there{lost}-9")));
            assert_eq!(room.here.order().epoch(), before);
            assert_eq!(room.there.order().epoch(), before);
        }
        for (node, from) in [&a, &b].into_iter().zip(heard) {
            for said in &node.ears.said()[from..] {
                let of = |names: &[Shared], user: &str| {
                    names.iter().any(|room| user.ends_with(&format!("_{}", room.name)))
                };
                match said {
                    Said::Gone(user) => assert!(!of(alive, user), "{user} was there all the time"),
                    Said::Renewed { room, .. } => {
                        assert!(alive.iter().all(|alive| alive.name != *room), "{room}");
                    }
                    _ => {}
                }
            }
        }
    }
}
