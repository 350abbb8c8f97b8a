//! Several servers over one Redis: whoever connects to one of them meets whoever is on the others.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod rig;
#[path = "rig/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rig::{Rig, Socket, drain, eventually};
use serde_json::{Value, json};
use throng::{
    Access, CloseCode, Endpoint, Events, Grants, NewTicket, Pattern, Rate, RedisOptions, Rights,
    Rule, Rules, Server, Subscription,
};
use throng_redis_rig::{Data, Server as RedisServer, Setup};
use tungstenite::Message;
use wire::Wire;

const FULL: (&str, &str) = ("sec-websocket-protocol", "throng.v1");

/// One Redis, and servers that share it.
struct Nodes {
    redis: RedisServer,
    rigs: Vec<Rig>,
}

impl Nodes {
    fn start(count: usize) -> Self {
        Self::start_with(count, PATIENT)
    }

    fn start_with(count: usize, node_timeout: Duration) -> Self {
        let redis = RedisServer::start(Setup::durable()).unwrap();
        let start = |_| node_with(&redis.url(), node_timeout, |builder| builder);
        let rigs = (0..count).map(start).collect();
        Self { redis, rigs }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for rig in &self.rigs {
            rig.block_on(rig.server.shutdown(Duration::ZERO));
        }
    }
}

fn node_with(
    url: &str,
    node_timeout: Duration,
    more: impl FnOnce(throng::Builder) -> throng::Builder,
) -> Rig {
    let redis = RedisOptions {
        urls: vec![url.to_owned()],
        node_timeout,
        probe: Duration::from_secs(2),
        ..RedisOptions::default()
    };
    let rule = Rule { grace: Duration::from_millis(300), ..Rule::default() };
    let access = Access::new(Grants::from_words(["lobby"]).unwrap(), Grants::all());
    let builder = Server::builder()
        .workers(1)
        .redis(redis)
        .rules(Rules::new([(Pattern::new("lobby"), rule)]))
        .access(access)
        .recheck(Duration::from_secs(3600))
        .endpoint("/ws", Endpoint::rooms("lobby"));
    Rig::start(more(builder))
}

/// After this long a node that says nothing is dead: longer than any machine takes for a test.
const PATIENT: Duration = Duration::from_secs(120);
/// The same where one is to die; one that only has to wait for its turn is not to be taken for dead.
const MORTAL: Duration = Duration::from_secs(9);

struct Client {
    socket: Socket,
    hello: Value,
}

impl Client {
    fn come(rig: &Rig, path: &str) -> Self {
        let mut socket = rig.try_connect(path, &[FULL]).unwrap();
        let hello = read(&mut socket);
        assert_eq!(hello["type"], "connected", "{hello}");
        Self { socket, hello }
    }

    fn anonymous(rig: &Rig) -> Self {
        Self::come(rig, "/ws?name=Somebody")
    }

    fn signed_in(rig: &Rig, user: &str) -> Self {
        let new = NewTicket { user_id: user.into(), ..NewTicket::default() };
        let ticket = rig.block_on(rig.server.issue_ticket(new)).unwrap().ticket;
        Self::come(rig, &format!("/ws?ticket={ticket}"))
    }

    /// Waits until other nodes can find the session: whoever comes is not made to wait for that.
    fn known(self, elsewhere: &Rig) -> Self {
        eventually("the directory knows", || {
            let found = elsewhere.block_on(elsewhere.server.session(self.resume()));
            matches!(found, Ok(Some(_)))
        });
        self
    }

    /// The same session on another connection.
    fn again(&self, rig: &Rig) -> Self {
        Self::come(rig, &format!("/ws?resume={}", self.resume()))
    }

    fn resume(&self) -> &str {
        self.hello["resume"].as_str().unwrap()
    }

    fn session(&self) -> &str {
        self.hello["sessionId"].as_str().unwrap()
    }

    fn user(&self) -> &str {
        self.hello["userId"].as_str().unwrap()
    }

    fn send(&mut self, command: Value) {
        self.socket.send(Message::text(command.to_string())).unwrap();
    }

    /// What comes next that this holds for.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let value = read(&mut self.socket);
            if wanted(&value) {
                return value;
            }
        }
    }

    fn of_type(&mut self, kind: &str) -> Value {
        self.until(|value| value["type"] == kind)
    }

    fn join(&mut self, room: &str) -> Value {
        self.send(json!({"type": "join", "room": room}));
        let joined = self.until(|value| {
            value["type"] == "error" || value["type"] == "joined" && value["room"] == room
        });
        assert_eq!(joined["type"], "joined", "{joined}");
        joined
    }

    fn say(&mut self, room: &str, text: &str, reference: u64) -> Value {
        self.send(json!({"type": "chat", "room": room, "text": text, "ref": reference}));
        self.until(|value| {
            value["ref"] == reference && (value["type"] == "ack" || value["type"] == "error")
        })
    }

    fn hear(&mut self, text: &str) -> Value {
        self.until(|value| value["type"] == "chat" && value["text"] == text)
    }

    /// Who is in a room.
    fn users(&mut self, room: &str) -> Vec<String> {
        // It may be that a node has not heard all just now; it says so.
        let mut presence = json!({"code": "unavailable"});
        let start = Instant::now();
        while presence["code"] == "unavailable" && start.elapsed() < Duration::from_secs(20) {
            self.send(json!({"type": "presence", "room": room}));
            presence = self.until(|value| value["type"] == "presence" || value["type"] == "error");
        }
        let users = presence["users"].as_array().cloned().unwrap_or_default();
        let mut users: Vec<_> =
            users.iter().map(|user| user["userId"].as_str().unwrap().to_owned()).collect();
        users.sort();
        users
    }

    fn end(mut self) -> Option<u16> {
        drain(&mut self.socket)
    }

    /// Goes without a word.
    fn vanish(self) {
        self.socket.get_ref().shutdown(std::net::Shutdown::Both).unwrap();
    }
}

fn read(socket: &mut Socket) -> Value {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("not text: {other:?}"),
        }
    }
}

fn sorted<const N: usize>(users: [&str; N]) -> Vec<String> {
    let mut users: Vec<String> = users.iter().map(|user| (*user).to_owned()).collect();
    users.sort();
    users
}

#[test]
fn what_is_said_on_one_node_is_heard_on_the_others_in_one_order() {
    let nodes = Nodes::start(3);
    let mut all: Vec<_> = nodes.rigs.iter().map(Client::anonymous).collect();
    let epochs: Vec<_> =
        all.iter_mut().map(|client| client.join("lobby")["epoch"].clone()).collect();
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    for round in 0..20 {
        for (at, client) in all.iter_mut().enumerate() {
            client.send(json!({"type": "chat", "room": "lobby", "text": format!("{round}/{at}")}));
        }
    }
    let heard: Vec<Vec<(u64, String)>> = all
        .iter_mut()
        .map(|client| {
            let message = |_| {
                let chat = client.of_type("chat");
                (chat["seq"].as_u64().unwrap(), chat["text"].as_str().unwrap().to_owned())
            };
            (0..60).map(message).collect()
        })
        .collect();
    let numbers: Vec<u64> = heard[0].iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=60).collect::<Vec<_>>());
    assert!(heard.iter().all(|one| *one == heard[0]));
}

#[test]
fn a_user_is_there_once_on_however_many_nodes() {
    let nodes = Nodes::start(2);
    let [one, two] = &nodes.rigs[..] else { panic!() };
    let mut eve = Client::anonymous(one);
    eve.join("lobby");
    let me = eve.user().to_owned();
    let mut first = Client::signed_in(one, "ada");
    first.join("lobby");
    assert_eq!(eve.of_type("user_joined")["userId"], "ada");
    let mut second = Client::signed_in(two, "ada");
    let joined = second.join("lobby");
    assert_eq!(joined["userCount"], 2, "{joined}");
    assert_eq!(second.users("lobby"), sorted(["ada", &me]));
    let mut bob = Client::signed_in(two, "bob");
    bob.join("lobby");
    assert_eq!(eve.of_type("user_joined")["userId"], "bob", "ada was told once");
    // One of two tabs goes: nobody is told. Then the other one.
    first.socket.close(None).unwrap();
    drop(first);
    let mut dan = Client::signed_in(two, "dan");
    dan.join("lobby");
    let told = eve.until(|value| value["type"] == "user_joined" || value["type"] == "user_left");
    assert_eq!(told["userId"], "dan", "{told}");
    second.socket.close(None).unwrap();
    let told = eve.until(|value| value["type"] == "user_left");
    assert_eq!((&told["userId"], &told["userCount"]), (&json!("ada"), &json!(3)));
    assert_eq!(bob.of_type("user_left")["userId"], "ada");
    assert_eq!(eve.users("lobby"), sorted(["bob", "dan", &me]));
    assert_eq!(bob.users("lobby"), sorted(["bob", "dan", &me]));
    // Whoever is lost stays for the grace, seen from the other node, too.
    let start = Instant::now();
    dan.vanish();
    assert_eq!(eve.of_type("user_left")["userId"], "dan");
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
}

#[test]
fn a_session_goes_on_on_another_node() {
    let nodes = Nodes::start(2);
    let [one, two] = &nodes.rigs[..] else { panic!() };
    for make in [Client::anonymous as fn(&Rig) -> Client, |rig| Client::signed_in(rig, "ada")] {
        let mut first = make(one);
        let joined = first.join("lobby");
        let user = first.user().to_owned();
        let mut other = Client::anonymous(two);
        other.join("lobby");
        let sent = first.say("lobby", "before", 7);
        assert_eq!((&sent["type"], &sent["duplicate"]), (&json!("ack"), &Value::Null));
        other.hear("before");
        let first = first.known(two);
        let (resume, session) = (first.resume().to_owned(), first.session().to_owned());
        first.vanish();
        let missed = other.say("lobby", "missed", 1);

        // Somebody without a connection may act for it there, too.
        let found = two.block_on(two.server.session(&resume)).unwrap().unwrap();
        assert_eq!((found.user_id(), found.session_id()), (&*user, &*session));

        let mut back = Client::come(two, &format!("/ws?resume={resume}"));
        assert_eq!(back.hello["resumed"], true, "{}", back.hello);
        assert_eq!((back.user(), back.session()), (&*user, &*session));
        let from = json!({"epoch": joined["epoch"], "seq": sent["seq"]});
        back.send(json!({"type": "resume", "rooms": {"lobby": from}}));
        let resumed = back.of_type("resumed");
        assert_eq!(resumed["rooms"]["lobby"]["recovered"], true, "{resumed}");
        assert_eq!(back.hear("missed")["seq"], missed["seq"]);
        // What it had sent through the first node is not sent again.
        let again = back.say("lobby", "before", 7);
        assert_eq!((&again["duplicate"], &again["seq"]), (&json!(true), &sent["seq"]), "{again}");
        let next = back.say("lobby", "behind", 8);
        assert_eq!(next["seq"].as_u64().unwrap(), missed["seq"].as_u64().unwrap() + 1);
        other.hear("behind");

        // And back again, at once.
        let mut home = back.again(one);
        assert_eq!((home.hello["resumed"].as_bool(), home.session()), (Some(true), &*session));
        assert_eq!(back.end(), Some(4409));
        home.socket.close(None).unwrap();
        let gone = || one.block_on(one.server.session(&resume)).unwrap().is_none();
        eventually("the session is over here", gone);
        let gone = || two.block_on(two.server.session(&resume)).unwrap().is_none();
        eventually("and there", gone);
    }
}

#[test]
fn whoever_takes_a_session_up_elsewhere_replaces_the_first() {
    let nodes = Nodes::start(3);
    let mut at = Client::signed_in(&nodes.rigs[0], "ada").known(&nodes.rigs[1]);
    for turn in 1..10 {
        let next = at.again(&nodes.rigs[turn % 3]);
        assert_eq!(next.hello["resumed"], true);
        assert_eq!(at.end(), Some(4409), "turn {turn}");
        at = next;
    }
    // The ends of the earlier ones, which came late, have not ended it.
    std::thread::sleep(Duration::from_millis(200));
    let mut at = at.again(&nodes.rigs[1]);
    assert_eq!(at.hello["resumed"], true);
    at.join("lobby");
}

#[test]
fn what_is_revoked_on_one_node_ends_on_all() {
    let nodes = Nodes::start(2);
    let [one, two] = &nodes.rigs[..] else { panic!() };
    // A session.
    let ada = Client::signed_in(two, "ada");
    let (id, token) = (ada.session().to_owned(), ada.resume().to_owned());
    assert!(one.block_on(one.server.revoke_session(&id)).unwrap());
    assert_eq!(ada.end(), Some(4401));
    for rig in &nodes.rigs {
        assert!(rig.block_on(rig.server.session(&token)).unwrap().is_none());
    }
    // Of a visitor who is away, and of whom only the directory knows.
    let guest = Client::anonymous(two).known(one);
    let (id, token) = (guest.session().to_owned(), guest.resume().to_owned());
    guest.vanish();
    assert!(one.block_on(one.server.revoke_session(&id)).unwrap());
    for rig in &nodes.rigs {
        eventually("not to be taken up", || {
            rig.block_on(rig.server.session(&token)).unwrap().is_none()
        });
    }
    assert!(!one.block_on(one.server.revoke_session("s_nobody")).unwrap());
    // A user.
    let (first, second) = (Client::signed_in(one, "bob"), Client::signed_in(two, "bob"));
    assert_eq!(one.block_on(one.server.revoke_user("bob")).unwrap(), 2);
    assert_eq!((first.end(), second.end()), (Some(4401), Some(4401)));
    // All connections of one.
    let far = Client::signed_in(two, "eve");
    let code = CloseCode::new(4000).unwrap();
    assert_eq!(one.server.disconnect("eve", code, "go"), 0, "none here");
    assert_eq!(far.end(), Some(4000));
}

#[test]
fn who_may_be_where_holds_on_all_nodes() {
    let nodes = Nodes::start(2);
    let [one, two] = &nodes.rigs[..] else { panic!() };
    let mut ada = Client::signed_in(two, "ada");
    ada.join("lobby");
    ada.join("club");
    one.server.kick("lobby", "ada");
    assert_eq!(ada.of_type("left")["room"], "lobby");
    ada.join("lobby");
    one.block_on(one.server.ban(Some("lobby"), "ada", None, "noise")).unwrap();
    assert_eq!(ada.of_type("left")["room"], "lobby");
    ada.send(json!({"type": "join", "room": "lobby"}));
    assert_eq!(ada.of_type("error")["code"], "forbidden");
    assert_eq!(two.server.bans().len(), 1);
    assert!(one.block_on(one.server.lift_ban(Some("lobby"), "ada")).unwrap());
    eventually("the ban is lifted there", || two.server.bans().is_empty());
    ada.join("lobby");
    one.block_on(one.server.set_member("den", "ada", Some(Rights::ALL))).unwrap();
    eventually("a member there", || two.server.members("den").len() == 1);
    one.block_on(one.server.ban(None, "ada", None, "noise")).unwrap();
    assert_eq!(ada.end(), Some(4403));
}

#[test]
fn messages_to_a_user_find_them() {
    let nodes = Nodes::start(2);
    let [one, two] = &nodes.rigs[..] else { panic!() };
    let (mut here, mut there) = (Client::signed_in(one, "ada"), Client::signed_in(two, "ada"));
    for ada in [&mut here, &mut there] {
        assert_eq!(ada.of_type("joined")["room"], "@ada");
    }
    let mut bob = Client::signed_in(two, "bob");
    bob.send(json!({"type": "note", "to": "ada", "text": "hi", "ref": 1}));
    assert_eq!(bob.of_type("ack")["room"], "@ada");
    for ada in [&mut here, &mut there] {
        let note = ada.of_type("note");
        assert_eq!((&note["text"], &note["from"]), (&json!("hi"), &json!("bob")));
    }
}

#[test]
fn nodes_know_each_other() {
    let nodes = Nodes::start(2);
    let [one, two] = &nodes.rigs[..] else { panic!() };
    let _clients: Vec<_> = (0..3).map(|_| Client::anonymous(two)).collect();
    eventually("both are listed, with what they have", || {
        let list = one.server.nodes();
        let users = |id: &str| list.iter().find(|node| node.id == id).map(|node| node.report.users);
        users(&one.server.node_id()) == Some(0) && users(&two.server.node_id()) == Some(3)
    });
    assert_eq!(one.server.nodes().iter().filter(|node| node.is_self).count(), 1);
    eventually("users of all nodes are counted", || Client::anonymous(one).hello["userCount"] == 4);
    two.block_on(two.server.shutdown(Duration::ZERO));
    eventually("one that ends is gone", || one.server.nodes().len() == 1);
}

#[test]
fn a_node_that_falls_silent_is_buried_and_comes_back() {
    let nodes = Nodes::start_with(1, MORTAL);
    let one = &nodes.rigs[0];
    let wire = Wire::to(nodes.redis.address());
    let two = node_with(&format!("redis://{}", wire.address), MORTAL, |builder| builder);
    let mut eve = Client::anonymous(one);
    eve.join("lobby");
    let me = eve.user().to_owned();
    let mut ada = Client::signed_in(&two, "ada");
    ada.join("lobby");
    assert_eq!(eve.of_type("user_joined")["userId"], "ada");
    let name = two.server.node_id();
    wire.cut();
    let start = Instant::now();
    assert_eq!(eve.of_type("user_left")["userId"], "ada");
    // Six tenths of the timeout after its last beat, which was up to a sixth of it ago.
    assert!(start.elapsed() >= MORTAL * 4 / 10, "{:?}", start.elapsed());
    assert_eq!(eve.users("lobby"), [me.as_str()]);
    eventually("it is no node any more", || one.server.nodes().iter().all(|node| node.id != name));
    // Its clients may go on elsewhere.
    let bob = Client::signed_in(one, "bob");
    drop(bob);
    eve.say("lobby", "meanwhile", 1);
    wire.mend();
    // It is another one now, and its users are there again.
    assert_eq!(eve.of_type("user_joined")["userId"], "ada");
    ada.hear("meanwhile");
    assert_ne!(two.server.node_id(), name);
    eventually("everybody is seen there", || ada.users("lobby") == sorted(["ada", &me]));
    two.block_on(two.server.shutdown(Duration::ZERO));
    assert_eq!(eve.of_type("user_left")["userId"], "ada");
}

#[test]
fn sessions_of_a_node_that_is_cut_off_can_be_taken_up() {
    let nodes = Nodes::start_with(1, MORTAL);
    let one = &nodes.rigs[0];
    let wire = Wire::to(nodes.redis.address());
    let two = node_with(&format!("redis://{}", wire.address), MORTAL, |builder| builder);
    let ada = Client::signed_in(&two, "ada").known(one);
    let token = ada.resume().to_owned();
    let name = two.server.node_id();
    eventually("it is known", || one.server.nodes().iter().any(|node| node.id == name));
    wire.cut();
    eventually("it is dead", || one.server.nodes().iter().all(|node| node.id != name));
    let mut moved = Client::come(one, &format!("/ws?resume={token}"));
    assert_eq!(moved.hello["resumed"], true);
    // The old node does not know. When it hears, it lets go, and ends nothing.
    wire.mend();
    eventually("it has Redis again", || two.server.is_ready());
    assert_eq!(ada.end(), Some(4409));
    std::thread::sleep(Duration::from_millis(200));
    moved.join("lobby");
    assert!(two.block_on(two.server.session(&token)).unwrap().is_some());
    two.block_on(two.server.shutdown(Duration::ZERO));
    assert!(one.block_on(one.server.session(&token)).unwrap().is_some());
}

#[test]
fn redis_comes_back_with_its_data_or_without() {
    let mut nodes = Nodes::start(2);
    let mut ada = Client::signed_in(&nodes.rigs[0], "ada");
    let mut bob = Client::signed_in(&nodes.rigs[1], "bob");
    ada.join("lobby");
    bob.join("lobby");
    assert_eq!(ada.say("lobby", "one", 1)["seq"], 1);
    bob.hear("one");
    for (round, data) in [(2, Data::Kept), (3, Data::Lost)] {
        nodes.redis.kill();
        eventually("they know", || nodes.rigs.iter().all(|rig| !rig.server.is_ready()));
        let refused = ada.say("lobby", "lost", 10 * round);
        assert_eq!(refused["code"], "unavailable", "{refused}");
        assert!(refused["retryAfter"].as_u64().is_some());
        nodes.redis.start_again(data).unwrap();
        eventually("they are back", || nodes.rigs.iter().all(|rig| rig.server.is_ready()));
        // Only then: whoever is told that something is missing is not told what.
        let both = sorted(["ada", "bob"]);
        eventually("everybody is seen", || {
            ada.users("lobby") == both && bob.users("lobby") == both
        });
        let text = format!("round {round}");
        eventually("messages are stored again", || ada.say("lobby", &text, round)["type"] == "ack");
        bob.hear(&text);
        // Sessions can be taken up elsewhere, also when Redis had forgotten them: anonymous ones.
        Client::anonymous(&nodes.rigs[0]).known(&nodes.rigs[1]);
    }
}

#[test]
fn event_streams_go_on_on_another_node() {
    let nodes = Nodes::start(2);
    let [one, two] = &nodes.rigs[..] else { panic!() };
    let mut bob = Client::anonymous(two);
    bob.join("lobby");
    let until = |rig: &Rig, events: &mut Events, text: &str| loop {
        let next = async { tokio::time::timeout(Duration::from_secs(20), events.next()).await };
        let next = rig.block_on(next).expect(text).unwrap();
        let next = String::from_utf8_lossy(&next).into_owned();
        if next.contains(text) {
            return next;
        }
    };
    let subscribe = |rig: &Rig, resume: Option<&str>, last: Option<&str>| {
        let subscription = Subscription {
            rooms: vec!["lobby".into()],
            resume: resume.map(str::to_owned),
            last_event_id: last.map(str::to_owned),
            anonymous: true,
            ..Subscription::default()
        };
        let mut events = rig.block_on(async { rig.server.subscribe(subscription).await }).unwrap();
        let hello = until(rig, &mut events, "connected");
        let data = hello.split("data: ").nth(1).unwrap().lines().next().unwrap();
        (events, serde_json::from_str::<Value>(data).unwrap())
    };
    let (mut events, hello) = subscribe(one, None, None);
    until(one, &mut events, "joined");
    bob.say("lobby", "heard", 1);
    let heard = until(one, &mut events, "heard");
    let id = heard.lines().rev().find_map(|line| line.strip_prefix("id: "));
    let id = id.unwrap_or_else(|| panic!("{heard}")).to_owned();
    drop(events);
    bob.say("lobby", "missed", 2);
    let token = hello["resume"].as_str().unwrap();
    eventually("the directory knows", || {
        two.block_on(two.server.session(token)).unwrap().is_some()
    });
    let (mut events, again) = subscribe(two, Some(token), Some(&id));
    assert_eq!((&again["sessionId"], &again["resumed"]), (&hello["sessionId"], &json!(true)));
    until(two, &mut events, "missed");
}

#[test]
fn what_a_user_may_spend_is_one_for_all_nodes() {
    let redis = RedisServer::start(Setup::in_memory()).unwrap();
    let (rate, burst) = (10, 20);
    let limited = |builder: throng::Builder| {
        let rate = Rate::per_second(rate).with_burst(burst);
        builder.endpoint("/slow", Endpoint::rooms("lobby").user_rate(Some(rate)))
    };
    let rigs = [(); 2].map(|()| node_with(&redis.url(), PATIENT, limited));
    eventually("they know each other", || rigs.iter().all(|rig| rig.server.nodes().len() == 2));
    let start = Instant::now();
    let (mut sent, mut asked) = (0, vec![start]);
    std::thread::scope(|scope| {
        let send = |rig: &'_ Rig| {
            let new = NewTicket { user_id: "ada".into(), ..NewTicket::default() };
            let ticket = rig.block_on(rig.server.issue_ticket(new)).unwrap().ticket;
            let mut ada = Client::come(rig, &format!("/slow?ticket={ticket}"));
            let (mut sent, mut asked) = (0, Vec::new());
            while start.elapsed() < Duration::from_secs(8) {
                let reference = asked.len() as u64 + 1;
                sent += u32::from(ada.say("@ada", "again", reference)["type"] == "ack");
                asked.push(Instant::now());
                std::thread::sleep(Duration::from_millis(10));
            }
            (sent, asked)
        };
        let threads: Vec<_> = rigs.iter().map(|rig| scope.spawn(move || send(rig))).collect();
        for thread in threads {
            let (of_it, when) = thread.join().unwrap();
            sent += of_it;
            asked.extend(when);
        }
    });
    let paid = burst + rate * start.elapsed().as_secs() as u32;
    // What is paid while nobody asks for longer than it takes to fill the burst is lost.
    asked.sort_unstable();
    let filled = Duration::from_secs(u64::from(burst / rate));
    let used: Duration = asked.windows(2).map(|two| (two[1] - two[0]).min(filled)).sum();
    let wanted = burst + rate * used.as_secs() as u32;
    // A second goes by until a node knows what was spent on the other: its burst, and that second.
    let late = burst + 2 * rate;
    assert!(sent <= paid + late, "{sent} of {paid}");
    assert!(sent + late >= wanted, "{sent} of {wanted}");
    for rig in &rigs {
        rig.block_on(rig.server.shutdown(Duration::ZERO));
    }
}

#[test]
fn one_node_has_another_sent_everybody_away() {
    let nodes = Nodes::start(2);
    let [one, two] = &nodes.rigs[..] else { panic!() };
    let mut ada = Client::signed_in(two, "ada").known(one);
    let name = two.server.node_id();
    eventually("they know each other", || one.server.drain_node(&name, Duration::from_secs(1)));
    assert!(!one.server.drain_node("nobody", Duration::ZERO));
    assert!(ada.of_type("reconnect")["after"].as_u64().unwrap() <= 1000);
    assert!(two.server.is_draining());
    eventually("everybody knows", || {
        one.server.nodes().iter().any(|node| node.id == name && node.report.draining)
    });
    let back = ada.again(one);
    assert_eq!(back.hello["resumed"], true);
}
