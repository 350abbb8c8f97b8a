//! The scripts against a real server.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use redis::{Connection, Value};
use throng_hub::{Epoch, Identity};
use throng_protocol::{Body, Command, parse};
use throng_redis_rig::{Data, Server, Setup};
use throng_wire::OpCode;

use super::*;
use crate::redis::step::{Event, Failure};

/// A server, and somebody who asks it.
struct Bench {
    server: Server,
    connection: RefCell<Connection>,
    terms: Terms,
}

const KEEP: Limits = Limits { size: 1000, bytes: 1 << 20, ttl: 3_600_000, replicas: 0 };
const NODE: &str = "node000000000001";

impl Bench {
    fn new(setup: Setup) -> Self {
        let server = Server::start(setup).unwrap();
        let connection = RefCell::new(connect(&server));
        let terms = Terms {
            prefix: "t".to_owned(),
            trusting: false,
            min_replicas: 0,
            epochs: (1, Default::default()),
        };
        Self { server, connection, terms }
    }

    fn restart(&mut self, data: Data) {
        self.server.start_again(data).unwrap();
        self.connection = RefCell::new(connect(&self.server));
    }

    fn send(&self, command: &[u8]) -> Value {
        let mut connection = self.connection.borrow_mut();
        connection.send_packed_command(command).unwrap();
        match connection.recv_response() {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    /// An error of the server is `Err`.
    fn try_ask(&self, room: &str, what: What) -> Result<Told, String> {
        let (call, shape) = self.terms.call(&Ask { room: room.into(), what });
        let mut out = Vec::new();
        call.write(&mut out, true);
        match self.send(&out) {
            Value::ServerError(error) => {
                Err(format!("{} {}", error.code(), error.details().unwrap_or("")))
            }
            value => Ok(told(shape, value).expect("an answer that makes sense")),
        }
    }

    fn ask(&self, room: &str, what: What) -> Told {
        self.try_ask(room, what).unwrap()
    }

    fn append(&self, room: &str, keep: Limits, entries: Vec<Entry>) -> (Epoch, Vec<Placed>) {
        match self.ask(room, What::Append { fresh: fresh(), keep, entries }) {
            Told::Appended { epoch, placed } => (epoch, placed),
            told => panic!("{told:?}"),
        }
    }

    fn open(&self, room: &str, keep: Limits) -> (At, Vec<Record>, Roll) {
        match self.ask(room, What::Open { fresh: fresh(), keep }) {
            Told::Read { at, past, roll: Some(roll) } => (at, past, roll),
            told => panic!("{told:?}"),
        }
    }

    fn read(&self, room: &str, after: u64, most: usize) -> (At, Vec<u64>) {
        let what = What::Read { fresh: fresh(), keep: KEEP, after, most, seats: 0 };
        match self.ask(room, what) {
            Told::Read { at, past, .. } => (at, past.iter().map(|record| record.seq).collect()),
            told => panic!("{told:?}"),
        }
    }

    fn seat(&self, room: &str, node: &str, changes: Vec<Change>) -> Told {
        self.ask(room, What::Seat { node: node.into(), keep: KEEP, changes })
    }
}

fn connect(server: &Server) -> Connection {
    let url = format!("{}/?protocol=resp3", server.url().trim_end_matches('/'));
    let connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    connection.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    connection
}

/// Another epoch each time.
fn fresh() -> Epoch {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    // Above what a number in Lua can hold.
    Epoch(u64::MAX - COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

fn body(text: &str) -> Body {
    let json = format!(r#"{{"type":"chat","text":"{text}"}}"#);
    let Ok(Command::Publish(message)) = parse(json.as_bytes()) else { panic!("{json}") };
    Body::new("lobby", "u_1", &message)
}

fn entry(count: u64, session: &str, reference: u64, text: &str) -> Entry {
    let origin = (NODE.into(), count);
    Entry { origin, session: session.into(), reference, body: body(text) }
}

fn seqs(placed: &[Placed]) -> Vec<(u64, bool)> {
    placed.iter().map(|placed| (placed.seq, placed.duplicate)).collect()
}

fn who(user: &str) -> Arc<Identity> {
    let info = format!(r#"{{"name":"{user}"}}"#);
    Arc::new(Identity::known(user, "", Some("Ünsal \"x\""), Some(&info)).unwrap())
}

#[test]
fn messages_are_stored_once_and_in_order() {
    let bench = Bench::new(Setup::in_memory());
    let odd = entry(1, "s}\r\n*1", u64::MAX, r"a\u0000b\nüüü😀");
    let (epoch, placed) = bench.append("lobby", KEEP, vec![odd.clone(), entry(2, "s", 7, "b")]);
    assert_eq!(seqs(&placed), [(1, false), (2, false)]);
    // Once more: by their refs, whoever sends them.
    let again = Entry { origin: ("another".into(), 9), ..odd.clone() };
    let entries = vec![entry(3, "", 0, "c"), again, entry(4, "t", 7, "d")];
    let (same, placed) = bench.append("lobby", KEEP, entries.clone());
    assert_eq!((same, &seqs(&placed)[..]), (epoch, &[(3, false), (1, true), (4, false)][..]));
    // And without a ref by their origin.
    let (_, placed) = bench.append("lobby", KEEP, entries);
    assert_eq!(seqs(&placed), [(3, true), (1, true), (4, true)]);
    let (at, past, _) = bench.open("lobby", KEEP);
    assert_eq!((at.epoch, at.seq), (epoch, 4));
    assert_eq!(past[0].entry, odd);
    assert_eq!(past.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(past.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp));
    // In one call as well.
    let (_, placed) = bench.append("x", KEEP, vec![entry(1, "s", 1, "a"), entry(2, "s", 1, "a")]);
    assert_eq!(seqs(&placed), [(1, false), (1, true)]);
}

#[test]
fn reading() {
    let bench = Bench::new(Setup::in_memory());
    assert_eq!(bench.open("lobby", KEEP).0.seq, 0);
    let entries = (1..=10).map(|n| entry(n, "", 0, "x")).collect();
    bench.append("lobby", KEEP, entries);
    assert_eq!(bench.read("lobby", 0, 3).1, [1, 2, 3]);
    assert_eq!(bench.read("lobby", 8, 256).1, [9, 10]);
    assert!(bench.read("lobby", 10, 256).1.is_empty());
    assert!(bench.read("lobby", 99, 256).1.is_empty());
    let some = Limits { size: 4, ..KEEP };
    let newest: Vec<_> = bench.open("lobby", some).1.iter().map(|record| record.seq).collect();
    assert_eq!(newest, [7, 8, 9, 10]);
}

#[test]
fn who_may_not_do_all_of_it_does_nothing() {
    let bench = Bench::new(Setup::in_memory());
    let narrow = |name: &str, rule: &[&str]| {
        let user = ["ACL", "SETUSER", name, "on", ">p", "~t:*", "&t:*", "+@all"];
        bench.server.order(&[&user[..], rule].concat()).unwrap();
        let login = format!("*3\r\n$4\r\nAUTH\r\n${}\r\n{name}\r\n$1\r\np\r\n", name.len());
        assert!(matches!(bench.send(login.as_bytes()), Value::Okay));
    };
    let append = |n| What::Append {
        fresh: fresh(),
        keep: KEEP,
        entries: vec![entry(n, "", 0, "a"), entry(n + 1, "", 0, "b")],
    };
    let seat =
        || What::Seat { node: NODE.into(), keep: KEEP, changes: vec![Change::Here(who("u_1"))] };
    for (name, rule, what) in [
        ("a", &["-spublish"][..], "SPUBLISH"),
        ("b", &["resetchannels"], "SPUBLISH"),
        ("c", &["-info"], "INFO"),
    ] {
        narrow(name, rule);
        for ask in [append(1), seat()] {
            let error = bench.try_ask("lobby", ask).unwrap_err();
            assert!(error.starts_with("NOPERM") && error.contains(what), "{error}");
        }
    }
    narrow("d", &[]);
    let (at, past, roll) = bench.open("lobby", KEEP);
    assert_eq!((at.seq, past.len(), roll.nodes.len()), (0, 0, 0), "nothing was stored");
    assert!(matches!(bench.ask("lobby", append(3)), Told::Appended { .. }));
}

#[test]
fn trimmed_by_size_bytes_and_age() {
    let bench = Bench::new(Setup::in_memory());
    let kept = |room: &str, keep| {
        let (_, past, _) = bench.open(room, keep);
        past.iter().map(|record| record.seq).collect::<Vec<_>>()
    };
    let stored = |room: &str| match bench.server.ask(&["XLEN", &format!("t:{{{room}}}:m")]) {
        Ok(throng_redis_rig::Reply::Number(n)) => n,
        reply => panic!("{reply:?}"),
    };
    let size = Limits { size: 5, ..KEEP };
    for n in 1..=300 {
        bench.append("size", size, vec![entry(n, "", 0, "x")]);
    }
    assert_eq!((kept("size", size), stored("size")), (vec![296, 297, 298, 299, 300], 5));
    bench.append("size", size, (301..=500).map(|n| entry(n, "", 0, "x")).collect());
    assert_eq!((kept("size", size), stored("size")), (vec![496, 497, 498, 499, 500], 5));

    let long = "y".repeat(1000);
    let bytes = Limits { bytes: 3500, ..KEEP };
    for n in 1..=20 {
        bench.append("bytes", bytes, vec![entry(n, "", 0, &long)]);
    }
    assert_eq!((kept("bytes", bytes), stored("bytes")), (vec![18, 19, 20], 3));
    // One that is larger than everything that may be kept.
    bench.append("bytes", bytes, vec![entry(21, "", 0, &"z".repeat(4000))]);
    assert_eq!((kept("bytes", bytes), stored("bytes")), (vec![], 0));
    bench.append("bytes", bytes, vec![entry(22, "", 0, &long)]);
    assert_eq!(kept("bytes", bytes), [22]);

    // Only what is to go is asked to be young: how long anything else takes does not matter.
    let age = Limits { ttl: 300, ..KEEP };
    bench.append("age", KEEP, vec![entry(1, "", 0, "x"), entry(2, "", 0, "x")]);
    std::thread::sleep(std::time::Duration::from_millis(350));
    bench.append("age", age, vec![entry(3, "", 0, "x")]);
    bench.append("age", KEEP, vec![entry(4, "", 0, "x")]);
    let left = kept("age", KEEP);
    assert!(!left.contains(&2) && left.contains(&4), "{left:?}");
    std::thread::sleep(std::time::Duration::from_millis(350));
    let (at, past, _) = bench.open("age", age);
    assert_eq!((at.seq, past.len(), stored("age")), (4, 0, 0));
    let (_, placed) = bench.append("age", age, vec![entry(5, "", 0, "x")]);
    assert_eq!(seqs(&placed), [(5, false)]);

    let none = Limits { size: 0, ..KEEP };
    let (_, placed) = bench.append("none", none, vec![entry(1, "s", 1, "x")]);
    assert_eq!(seqs(&placed), [(1, false)]);
    let (_, placed) = bench.append("none", none, vec![entry(2, "s", 1, "x")]);
    assert_eq!((seqs(&placed), stored("none")), (vec![(1, true)], 0));
}

#[test]
fn the_window_of_refs() {
    let bench = Bench::new(Setup::in_memory());
    for n in 1..=700 {
        bench.append("lobby", KEEP, vec![entry(n, "s", n, "x"), entry(1000 + n, "", 0, "y")]);
    }
    let placed = |entry| seqs(&bench.append("lobby", KEEP, vec![entry]).1)[0];
    for n in 700 - 255..=700 {
        assert_eq!(placed(entry(n, "s", n, "x")), (2 * n - 1, true));
        assert_eq!(placed(entry(1000 + n, "", 0, "y")), (2 * n, true));
    }
    let number = |key: &str| match bench.server.ask(&["HLEN", key]) {
        Ok(throng_redis_rig::Reply::Number(n)) => n,
        reply => panic!("{reply:?}"),
    };
    assert!(number("t:{lobby}:d:s") <= 321);
    // A ref that is forgotten is another message; an attempt that is forgotten is not made again.
    assert_eq!(placed(entry(1, "s", 1, "x")), (1401, false));
    assert_eq!(placed(entry(1001, "", 0, "y")), (0, true));
    assert_eq!(bench.open("lobby", KEEP).0.seq, 1401);
}

#[test]
fn another_owner_begins_an_epoch() {
    let mut bench = Bench::new(Setup::durable());
    bench.server.order(&["CONFIG", "SET", "appendfsync", "always"]).unwrap();
    let (epoch, _) = bench.append("lobby", KEEP, vec![entry(1, "s", 1, "a")]);
    let seats = bench.open("lobby", KEEP).0.seats;
    bench.restart(Data::Kept);
    // What is left can be read, refs are known, numbers go on, but not the epoch.
    let (at, past, _) = bench.open("lobby", KEEP);
    assert_ne!(at.epoch, epoch);
    assert!(at.seats >= seats + 1_000_000);
    assert_eq!((at.seq, past.len()), (1, 1));
    let (same, placed) =
        bench.append("lobby", KEEP, vec![entry(2, "s", 1, "a"), entry(3, "s", 2, "b")]);
    assert_eq!((same, seqs(&placed)), (at.epoch, vec![(1, true), (2, false)]));
    // Only once.
    assert_eq!(bench.open("lobby", KEEP).0.epoch, at.epoch);
    // Promotion changes it, too.
    bench.server.order(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    bench.server.order(&["REPLICAOF", "NO", "ONE"]).unwrap();
    assert_ne!(bench.open("lobby", KEEP).0.epoch, at.epoch);
    // Whoever trusts the server does not mind a restart.
    bench.terms.trusting = true;
    let trusted = bench.open("lobby", KEEP).0.epoch;
    bench.restart(Data::Kept);
    assert_eq!(bench.open("lobby", KEEP).0.epoch, trusted);
    // But a loss.
    bench.server.order(&["FLUSHALL"]).unwrap();
    let (at, past, roll) = bench.open("lobby", KEEP);
    assert!(at.epoch != trusted && at.seq == 0 && past.is_empty() && roll.nodes.is_empty());
}

#[test]
fn what_is_left_of_a_lost_state_counts_for_nothing() {
    let bench = Bench::new(Setup::in_memory());
    bench.append("lobby", KEEP, vec![entry(1, "s", 1, "a"), entry(2, "s", 2, "b")]);
    bench.seat("lobby", NODE, vec![Change::Here(who("u_1"))]);
    // As when memory is full and Redis may forget.
    bench.server.order(&["DEL", "t:{lobby}"]).unwrap();
    let (_, placed) = bench.append("lobby", KEEP, vec![entry(3, "s", 2, "b")]);
    assert_eq!(seqs(&placed), [(1, false)]);
    let (_, past, roll) = bench.open("lobby", KEEP);
    assert!(past.len() == 1 && roll.nodes.is_empty());
    // The stream alone is gone: nothing is kept, and numbers go on.
    bench.server.order(&["DEL", "t:{lobby}:m"]).unwrap();
    assert!(bench.read("lobby", 0, 10).1.is_empty());
    bench.append("lobby", KEEP, vec![entry(4, "s", 3, "c")]);
    assert_eq!(bench.read("lobby", 0, 10).1, [2]);
}

#[test]
fn what_cannot_be_read_counts_as_gone() {
    let bench = Bench::new(Setup::in_memory());
    bench.append("lobby", KEEP, vec![entry(1, "", 0, "a"), entry(2, "", 0, "b")]);
    bench.server.order(&["XADD", "t:{lobby}:m", "3-0", "t", "1", "x", "\u{2}strange"]).unwrap();
    bench.server.order(&["HSET", "t:{lobby}", "seq", "3"]).unwrap();
    let (at, past) = bench.read("lobby", 0, 10);
    assert_eq!((at.seq, past.len()), (3, 0));
    bench.append("lobby", KEEP, vec![entry(4, "", 0, "d")]);
    assert_eq!(bench.read("lobby", 0, 10).1, [4]);
    // Of another program altogether: refused, and nothing breaks.
    bench.server.order(&["SET", "t:{odd}", "x"]).unwrap();
    let what = What::Open { fresh: fresh(), keep: KEEP };
    assert!(bench.try_ask("odd", what).unwrap_err().starts_with("WRONGTYPE"));
}

#[test]
fn refused_when_memory_is_full_and_nothing_stored() {
    let bench = Bench::new(Setup::in_memory());
    bench.append("lobby", KEEP, vec![entry(1, "s", 1, "a")]);
    bench.server.order(&["CONFIG", "SET", "maxmemory", "1mb"]).unwrap();
    let before = bench.open("lobby", KEEP).0;
    let what = || What::Append { fresh: fresh(), keep: KEEP, entries: vec![entry(2, "s", 2, "b")] };
    let error = bench.try_ask("lobby", what()).unwrap_err();
    assert!(error.starts_with("OOM"), "{error}");
    // Reading, coming and going work.
    assert_eq!(bench.open("lobby", KEEP).0, before);
    assert!(matches!(
        bench.seat("lobby", NODE, vec![Change::Here(who("u_1"))]),
        Told::Seated { .. }
    ));
    bench.server.order(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    let Told::Appended { placed, .. } = bench.ask("lobby", what()) else { panic!() };
    assert_eq!(seqs(&placed), [(2, false)]);
}

#[test]
fn refused_with_too_few_replicas_or_on_a_replica() {
    let mut bench = Bench::new(Setup::in_memory());
    let what = || What::Append { fresh: fresh(), keep: KEEP, entries: vec![entry(1, "s", 1, "a")] };
    bench.terms.min_replicas = 1;
    assert!(bench.try_ask("lobby", what()).unwrap_err().starts_with("NOREPLICAS"));
    bench.terms.min_replicas = 0;
    let keep = Limits { replicas: 1, ..KEEP };
    let of_this_room =
        || What::Append { fresh: fresh(), keep, entries: vec![entry(2, "s", 2, "b")] };
    assert!(bench.try_ask("lobby", of_this_room()).unwrap_err().starts_with("NOREPLICAS"));
    let main = bench.server.port().to_string();
    let replica = Setup::in_memory().with(["--replicaof", "127.0.0.1", &main]);
    let replica = Server::start(replica).unwrap();
    throng_redis_rig::wait_until("the replica follows", || {
        bench.server.info("replication", "slave0").is_some_and(|line| line.contains("online"))
    })
    .unwrap();
    assert!(matches!(bench.ask("lobby", what()), Told::Appended { .. }));
    assert!(matches!(bench.ask("lobby", of_this_room()), Told::Appended { .. }));
    bench.server.order(&["CONFIG", "SET", "min-replicas-to-write", "2"]).unwrap();
    assert!(bench.try_ask("lobby", what()).unwrap_err().starts_with("NOREPLICAS"));
    bench.server.order(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    bench.connection = RefCell::new(connect(&replica));
    assert!(bench.try_ask("lobby", what()).unwrap_err().starts_with("READONLY"));
}

#[test]
fn who_is_there() {
    let bench = Bench::new(Setup::in_memory());
    let before = bench.open("lobby", KEEP).0.seats;
    let (anna, bert) = (who("u:anna"), who("u_bert"));
    let changes = vec![Change::Here(anna.clone()), Change::Here(bert.clone())];
    let Told::Seated { seats } = bench.seat("lobby", NODE, changes) else { panic!() };
    assert_eq!(seats, before + 2);
    bench.seat("lobby", "other", vec![Change::Here(bert.clone()), Change::Gone("no".into())]);
    let (at, _, roll) = bench.open("lobby", KEEP);
    assert_eq!(at.seats, before + 4);
    let users = |roll: &Roll, node: &str| {
        let users = roll.nodes.iter().find(|(name, _)| **name == *node).map(|(_, users)| users);
        let mut users: Vec<_> = users.into_iter().flatten().map(|who| (**who).clone()).collect();
        users.sort_by(|a, b| a.user_id().cmp(b.user_id()));
        users
    };
    assert_eq!(users(&roll, NODE), [(*anna).clone(), (*bert).clone()]);
    assert_eq!(users(&roll, "other"), [(*bert).clone()]);
    // The roll only comes when it is another one.
    let known = What::Read { fresh: fresh(), keep: KEEP, after: 0, most: 1, seats: at.seats };
    assert!(matches!(bench.ask("lobby", known), Told::Read { roll: None, .. }));

    bench.seat("lobby", NODE, vec![Change::Gone("u:anna".into())]);
    let bury = || What::Bury { dead: "other".into(), keep: KEEP };
    let Told::Seated { seats } = bench.ask("lobby", bury()) else { panic!() };
    assert_eq!(seats, at.seats + 2);
    let (at, _, roll) = bench.open("lobby", KEEP);
    assert_eq!((at.seats, roll.nodes.len()), (seats, 1));
    assert_eq!(users(&roll, NODE), [(*bert).clone()]);
    // Once; and the dead are not heard.
    let Told::Seated { seats: again } = bench.ask("lobby", bury()) else { panic!() };
    assert_eq!(again, seats);
    assert!(matches!(bench.seat("lobby", "other", vec![Change::Here(anna.clone())]), Told::Buried));
    assert_eq!(bench.open("lobby", KEEP).0.seats, seats);
}

#[test]
fn a_large_room_can_be_buried() {
    let bench = Bench::new(Setup::in_memory());
    for part in 0..20 {
        let changes = (0..250).map(|n| Change::Here(who(&format!("u_{part}_{n}"))));
        bench.seat("lobby", if part % 2 == 0 { NODE } else { "other" }, changes.collect());
    }
    bench.ask("lobby", What::Bury { dead: "other".into(), keep: KEEP });
    let (_, _, roll) = bench.open("lobby", KEEP);
    assert_eq!(roll.nodes.len(), 1);
    assert_eq!((&*roll.nodes[0].0, roll.nodes[0].1.len()), (NODE, 2500));
}

#[test]
fn what_changes_is_told() {
    let bench = Bench::new(Setup::in_memory());
    let mut ears = connect(&bench.server);
    ears.send_packed_command(b"*2\r\n$10\r\nSSUBSCRIBE\r\n$9\r\nt:{lobby}\r\n").unwrap();
    ears.recv_response().unwrap();
    let mut heard = || match ears.recv_response().unwrap() {
        Value::Push { data, .. } => match data.into_iter().nth(1) {
            Some(Value::BulkString(payload)) => event(payload).unwrap(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let at = bench.open("lobby", KEEP).0;
    let entries = vec![entry(1, "s", 1, "a"), entry(2, "s", 1, "a"), entry(3, "s", 2, "b")];
    bench.append("lobby", KEEP, entries.clone());
    match heard() {
        Event::Stored { epoch, records } => {
            assert_eq!(epoch, at.epoch);
            let found: Vec<_> = records.iter().map(|r| (r.seq, r.entry.clone())).collect();
            assert_eq!(found, [(1, entries[0].clone()), (2, entries[2].clone())]);
        }
        other => panic!("{other:?}"),
    }
    // Nothing new, nothing told: the next is about who is there.
    bench.append("lobby", KEEP, entries);
    bench.seat("lobby", NODE, vec![Change::Here(who("u_1")), Change::Gone("u_2".into())]);
    match heard() {
        Event::Seats { node, seats, changes } => {
            assert_eq!((&*node, seats), (NODE, at.seats));
            let [Change::Here(here), Change::Gone(gone)] = &changes[..] else { panic!() };
            assert_eq!((here, &**gone), (&who("u_1"), "u_2"));
        }
        other => panic!("{other:?}"),
    }
    bench.ask("lobby", What::Bury { dead: "other".into(), keep: KEEP });
    match heard() {
        Event::Buried { dead, seats } => assert_eq!((&*dead, seats), ("other", at.seats + 3)),
        other => panic!("{other:?}"),
    }
    let payload = Bytes::from_static(b"\0\r\n$3");
    let cast = What::Cast { node: NODE.into(), opcode: OpCode::Binary, payload: payload.clone() };
    assert!(matches!(bench.ask("lobby", cast), Told::Done));
    match heard() {
        Event::Cast { node, opcode, payload: said } => {
            assert_eq!((&*node, opcode, said), (NODE, OpCode::Binary, payload));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_command_and_everything_expires() {
    let bench = Bench::new(Setup::in_memory());
    bench.append("lobby", KEEP, vec![entry(1, "s", 1, "a")]);
    bench.seat("lobby", NODE, vec![Change::Here(who("u_1"))]);
    bench.append("lobby", KEEP, vec![entry(2, "", 0, "a")]);
    let reply = bench.server.ask(&["KEYS", "*"]).unwrap();
    let keys: Vec<String> =
        reply.list().iter().filter_map(|key| key.text().map(str::to_owned)).collect();
    assert_eq!(keys.len(), 5, "{keys:?}");
    for key in keys {
        match bench.server.ask(&["PTTL", &key]) {
            Ok(throng_redis_rig::Reply::Number(ttl)) => assert!(ttl > 200_000, "{key}: {ttl}"),
            reply => panic!("{key}: {reply:?}"),
        }
    }
}

#[test]
fn strange_bytes_are_no_events() {
    let mut seed = 0x5eed_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        seed >> 33
    };
    let good = [
        event::cast(&NODE.into(), OpCode::Text, b"hi"),
        [b"S1 2 3\n".to_vec(), {
            let entry = text::entry(&entry(1, "s", 1, "a"));
            [format!("{}\n", entry.len()).into_bytes(), entry].concat()
        }]
        .concat(),
        b"Nnode 7\n-3\nu_1+20\n{\"id\":\"u_2\"}        ".to_vec(),
        b"Bnode 7\n".to_vec(),
    ];
    assert!(good.iter().all(|payload| event(payload.clone()).is_some()));
    for round in 0..40_000 {
        let mut payload = good[round % good.len()].clone();
        for _ in 0..1 + random() % 3 {
            let at = random() as usize % payload.len();
            match random() % 3 {
                0 => payload[at] = random() as u8,
                1 => payload.truncate(at.max(1)),
                _ => payload.insert(at, random() as u8),
            }
        }
        // Whatever it is, it is no panic.
        let _ = event(payload.clone());
        let _ = text::read_entry(&payload);
        let _ = text::read_identity(&payload);
    }
    assert!(event(b"S1 18446744073709551615 3\n".to_vec()).is_some());
    assert!(event(b"N 7\n".to_vec()).is_none());
    for shape in [Shape::Read, Shape::Appended(2), Shape::Seated, Shape::Done] {
        for value in [
            Value::Okay,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(-1); 7]),
            Value::Array(vec![Value::Nil; 6]),
        ] {
            assert!(told(shape, value).is_none());
        }
    }
    let _ = Failure::Refused;
}
