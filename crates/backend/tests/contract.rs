//! What every backend must do: the contract of [`throng_hub::Backend`], as seen through a hub.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod world;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use throng_backend::{Memory, Options, Sqlite, SyncMode};
use throng_hub::{Backend, History, Pattern, REF_WINDOW, Rule, Rules, Timestamp};
use throng_redis_rig::{Cluster, Sentinels, Server};
use world::redis::{Guarded, OnRedis, Rig};
use world::{ALL, World, ago, by_room, now, number, state};

/// Makes a backend, and ends it.
trait Make: Sized {
    /// Other nodes may have the same rooms. Then times are those of a clock that all share, not the ones that appends
    /// bring; and what is kept may be more than the rule says, so that others can fill their holes.
    const SHARED: bool = false;

    fn make() -> Self;
    fn backend(&self) -> Arc<dyn Backend>;
    /// As at the end of a process. What waits is answered.
    fn end(&self);
}

struct InMemory(Arc<Memory>);

impl Make for InMemory {
    fn make() -> Self {
        Self(Arc::new(Memory::default()))
    }

    fn backend(&self) -> Arc<dyn Backend> {
        self.0.clone()
    }

    fn end(&self) {}
}

struct OnDisk<const FULL: bool> {
    sqlite: Arc<Sqlite>,
    _dir: TempDir,
}

impl<const FULL: bool> Make for OnDisk<FULL> {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sync = if FULL { SyncMode::Full } else { SyncMode::Normal };
        let sqlite = Sqlite::open(dir.path(), Options { sync, ..Options::default() }).unwrap();
        Self { sqlite: Arc::new(sqlite), _dir: dir }
    }

    fn backend(&self) -> Arc<dyn Backend> {
        self.sqlite.clone()
    }

    fn end(&self) {
        self.sqlite.close();
    }
}

impl<R: Rig> Make for OnRedis<R> {
    const SHARED: bool = true;

    fn make() -> Self {
        Self::new()
    }

    fn backend(&self) -> Arc<dyn Backend> {
        self.redis.clone()
    }

    fn end(&self) {
        self.redis.close();
    }
}

macro_rules! contract {
    ($($name:ident: $make:ty { $($test:ident)* })*) => {$(
        mod $name {
            $(#[test] fn $test() { super::$test::<$make>(); })*
        }
    )*};
    ($($name:ident: $make:ty),*) => {
        contract! {$($name: $make {
            order_without_holes
            numbers_go_on_after_closing
            time_never_goes_back
            refs_are_known_after_closing
            refs_are_known_whatever_history_keeps
            refs_are_known_as_far_as_the_window
            trimmed_by_size
            trimmed_by_bytes
            trimmed_by_age
            no_history
            rooms_without_messages
            odd_names
            large_messages
            many_rooms
            opened_and_closed_by_many
            everything_is_answered_at_the_end
        })*}
    };
}

contract! {
    memory: crate::InMemory, sqlite: crate::OnDisk<true>, sqlite_normal: crate::OnDisk<false>,
    redis: crate::OnRedis<crate::Server>, redis_sentinel: crate::OnRedis<crate::Sentinels>,
    redis_cluster: crate::OnRedis<crate::Cluster>,
    redis_sentinel_tls: crate::OnRedis<crate::Guarded<crate::Sentinels>>,
    redis_cluster_tls: crate::OnRedis<crate::Guarded<crate::Cluster>>
}

fn order_without_holes<M: Make>() {
    const EACH: u64 = 300;
    let made = M::make();
    let world = World::new(made.backend(), ALL);
    let rooms: Vec<_> = ["a", "b", "c"].map(|name| world.room(name)).into();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (world, rooms) = (&world, &rooms);
            scope.spawn(move || {
                for n in 1..=EACH {
                    for room in rooms {
                        let text = format!("{thread}-{n}");
                        world.send(room, &format!("s_{thread}"), n, &text, now()).unwrap();
                    }
                }
            });
        }
    });
    let reports = by_room(world.results.wait(3 * 4 * EACH as usize));
    for room in &rooms {
        let reports = &reports[room.name()];
        let seqs = reports.iter().map(|report| report.result.unwrap().0);
        assert!(seqs.eq(1..=4 * EACH), "reported in the order of the numbers, each once");
        let times: Vec<_> = reports.iter().map(|report| report.result.unwrap().1).collect();
        assert!(times.is_sorted());
        for thread in 0..4 {
            let session = format!("s_{thread}");
            let own = reports.iter().filter(|report| report.session == session);
            assert!(own.map(|report| report.reference).eq(1..=EACH), "in the order of the calls");
        }
        assert!(world.seqs(room).into_iter().eq(1..=4 * EACH));
    }
    for room in rooms {
        let past = world.past(&room);
        let room = world.reopen(room);
        assert_eq!(world.past(&room), past, "the same messages in the same order");
    }
}

fn numbers_go_on_after_closing<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), History::default());
    let mut room = world.room("lobby");
    let epoch = room.order().epoch();
    for n in 1..=5 {
        assert_eq!(world.publish(&room, "", 0, "hi"), Some(n));
        let past = world.past(&room);
        room = world.reopen(room);
        assert_eq!(state(&room), (epoch, n));
        assert_eq!(world.past(&room), past);
    }
    assert_ne!(state(&world.room("other")).0, epoch);
}

fn time_never_goes_back<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), History::default());
    let room = world.room("lobby");
    let start = now();
    let later = Timestamp(start.0 + 5000);
    let time = |at| world.publish_at(&room, "", 0, "hi", at).unwrap().1;
    assert!(time(start) >= start);
    let second = time(later);
    assert!(M::SHARED && second >= start || second >= later);
    assert!(time(start) >= second);
    let room = world.reopen_at(room.clone(), start);
    let (seq, time) = world.publish_at(&room, "", 0, "hi", start).unwrap();
    assert!(seq == 4 && time >= second, "{seq} {time}");
    let times: Vec<_> = world.past(&room).iter().map(|text| number(text, "timestamp")).collect();
    assert!(times.is_sorted(), "{times:?}");
}

fn refs_are_known_after_closing<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), History::default());
    let room = world.room("lobby");
    assert_eq!(world.publish(&room, "s_1", 7, "once"), Some(1));
    assert_eq!(world.publish(&room, "s_2", 7, "of another session"), Some(2));
    assert_eq!(world.publish(&room, "s_1", u64::MAX >> 11, "a large one"), Some(3));
    assert_eq!(world.publish(&room, "s_1", 0, "without"), Some(4));
    let room = world.reopen(room);
    assert_eq!(world.publish(&room, "s_1", 7, "once"), Some(1));
    assert_eq!(world.publish(&room, "s_2", 7, "of another session"), Some(2));
    assert_eq!(world.publish(&room, "s_1", u64::MAX >> 11, "a large one"), Some(3));
    assert_eq!(world.publish(&room, "s_1", 0, "without"), Some(5));
    assert_eq!(world.past(&room).len(), 5);
}

fn refs_are_known_whatever_history_keeps<M: Make>() {
    let few = History { size: 10, ..History::default() };
    let small = History { bytes: 2000, ..History::default() };
    for history in [few, small, History::NONE] {
        let made = M::make();
        let world = World::new(made.backend(), history);
        let room = world.room("lobby");
        let mut first = Vec::new();
        for n in 0..500 {
            let (session, reference) = (format!("s_{}", n % 4), n / 4 + 1);
            let result = world.publish_at(&room, &session, reference, "once", now()).unwrap();
            first.push((session, reference, result));
        }
        let room = world.reopen(room);
        for (session, reference, result) in &first {
            let again = world.publish_at(&room, session, *reference, "once", now());
            assert_eq!(again, Some(*result), "{session} {reference} {history:?}");
        }
        assert_eq!(state(&room).1, 500, "nothing was published twice");
        assert_eq!(world.publish(&room, "s_4", 1, "of another session"), Some(501));
        assert_eq!(world.publish(&room, "s_0", 126, "new"), Some(502));
        let room = world.reopen(room);
        assert_eq!(world.publish(&room, "s_0", 126, "new"), Some(502));
        assert_eq!(world.publish(&room, "s_0", 1, "once"), Some(1));
    }
}

fn refs_are_known_as_far_as_the_window<M: Make>() {
    const SENT: u64 = REF_WINDOW as u64 + 44;
    for history in [History { size: 10, ..History::default() }, History::NONE] {
        let made = M::make();
        let world = World::new(made.backend(), history);
        let room = world.room("lobby");
        for n in 1..=SENT {
            assert_eq!(world.publish(&room, "s_1", n, "once"), Some(n));
        }
        let room = world.reopen(room);
        // What is shared may be known for longer.
        for n in (1..=44).filter(|_| !M::SHARED) {
            assert_eq!(world.publish(&room, "s_1", n, "once"), None, "not known, and not new");
        }
        for n in 45..=SENT {
            assert_eq!(world.publish(&room, "s_1", n, "once"), Some(n));
        }
    }
}

fn trimmed_by_size<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), History { size: 20, ..History::default() });
    let mut room = world.room("lobby");
    for n in 1..=100 {
        assert_eq!(world.publish(&room, "", 0, "hi"), Some(n));
        if n % 7 == 0 {
            room = world.reopen(room);
        }
        assert!(world.seqs(&room).into_iter().eq(n.max(20) - 19..=n), "at {n}");
    }
}

fn trimmed_by_bytes<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), History { bytes: 10_000, ..History::default() });
    let mut room = world.room("lobby");
    for n in 1..=60 {
        let text = "x".repeat(if n % 2 == 0 { 800 } else { 100 });
        assert_eq!(world.publish(&room, "", 0, &text), Some(n));
        if n % 7 == 0 {
            room = world.reopen(room);
        }
        let past = world.past(&room);
        let bytes: usize = past.iter().map(String::len).sum();
        assert!(bytes <= 10_000 && (n < 30 || bytes > 5000), "{bytes} at {n}");
        let seqs = world.seqs(&room);
        assert!(seqs.iter().copied().eq(n + 1 - seqs.len() as u64..=n), "no holes at {n}");
    }
    let huge = "x".repeat(20_000);
    assert_eq!(world.publish(&room, "", 0, &huge), Some(61));
    assert_eq!(world.seqs(&room), [] as [u64; 0]);
    let room = world.reopen(room);
    assert_eq!(world.seqs(&room), [] as [u64; 0]);
    assert_eq!(state(&room).1, 61);
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(62));
    assert_eq!(world.seqs(&world.reopen(room)), [62]);
}

fn trimmed_by_age<M: Make>() {
    if M::SHARED {
        return trimmed_as_time_passes::<M>();
    }
    let made = M::make();
    let ttl = Duration::from_secs(3600);
    let world = World::new(made.backend(), History { ttl, ..History::default() });
    // Opened in the past, so that the messages can be of then.
    let start = ago(2 * ttl);
    let room = world.try_room("lobby", start).unwrap();
    for (n, time) in [(1, start), (2, start), (3, ago(ttl / 2)), (4, ago(ttl / 4))] {
        assert_eq!(world.publish_at(&room, "", 0, "hi", time), Some((n, time)));
    }
    let epoch = room.order().epoch();
    assert_eq!(world.seqs(&room), [3, 4]);
    let room = world.reopen(room);
    assert_eq!(world.seqs(&room), [3, 4]);
    let future = Timestamp(now().0 + 2 * ttl.as_millis() as u64);
    let room = world.reopen_at(room, future);
    assert_eq!(world.past_at(&room, future), [] as [&str; 0]);
    let now = state(&room);
    assert!(now == (epoch, 4) || now.0 != epoch && now.1 == 0, "the same, or all new");
}

/// The clock is not ours.
fn trimmed_as_time_passes<M: Make>() {
    let made = M::make();
    // Much longer than what comes first takes on a busy machine.
    let ttl = Duration::from_secs(8);
    let world = World::new(made.backend(), History { ttl, ..History::default() });
    let room = world.room("lobby");
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(1));
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(2));
    let expected = state(&room);
    assert_eq!(world.seqs(&room), [1, 2]);
    thread::sleep(ttl + Duration::from_millis(100));
    assert_eq!(world.seqs(&room), [] as [u64; 0]);
    let room = world.reopen(room);
    assert_eq!(world.seqs(&room), [] as [u64; 0]);
    assert_eq!(state(&room), expected, "the numbers go on");
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(3));
    assert_eq!(world.seqs(&room), [3]);
}

fn no_history<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), History::NONE);
    let mut room = world.room("lobby");
    let epoch = room.order().epoch();
    for n in 1..=20 {
        assert_eq!(world.publish(&room, "s_1", n, "hi"), Some(n));
        room = world.reopen(room);
        assert_eq!(state(&room), (epoch, n));
        assert_eq!(world.seqs(&room), [] as [u64; 0]);
    }
}

fn rooms_without_messages<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), History::default());
    let room = world.room("lobby");
    let (epoch, seq) = state(&room);
    assert_eq!((seq, world.past(&room).len()), (0, 0));
    let room = world.reopen(room);
    assert_eq!(state(&room), (epoch, 0));
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(1));
    let room = world.reopen(room);
    assert_eq!(state(&room), (epoch, 1));
}

fn odd_names<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), History::default());
    let long = "x".repeat(128);
    let names = ["-", "@u_1", "a/b", "A/B", "..", "a.b:c@d/e-f_g", "0", "'--", &long, &long[1..]];
    let rooms: Vec<_> = names.map(|name| world.room(name)).into();
    for (n, room) in (1..).zip(&rooms) {
        for k in 1..=n {
            assert_eq!(world.publish(room, "s'\"\u{1F600}", k, &format!("{n}")), Some(k));
        }
    }
    let mut epochs = HashSet::new();
    for (n, room) in (1..).zip(rooms) {
        let room = world.reopen(room);
        assert_eq!(room.order().seq(), n, "{}", room.name());
        assert!(world.past(&room).iter().all(|text| text.contains(&format!("\"text\":\"{n}\""))));
        assert!(epochs.insert(room.order().epoch()));
    }
}

fn large_messages<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), ALL);
    let room = world.room("lobby");
    for n in 1..=20 {
        let text = format!("{n}{}", "€".repeat(350_000));
        world.send(&room, "", 0, &text, now()).unwrap();
    }
    world.results.wait(20);
    let past = world.past(&room);
    assert!(past.len() == 20 && past.iter().all(|text| text.len() > 1 << 20));
    let room = world.reopen(room);
    assert!(world.past(&room) == past);
}

fn many_rooms<M: Make>() {
    let many = if M::SHARED { 1000 } else { 10_000 };
    let made = M::make();
    let world = World::new(made.backend(), History::default());
    let rooms: Vec<_> = (0..many).map(|n| world.room(&format!("room:{n}"))).collect();
    for (n, room) in rooms.iter().enumerate() {
        for k in 0..1 + n % 3 {
            world.send(room, "s_1", k as u64 + 1, &format!("{n}-{k}"), now()).unwrap();
        }
    }
    let sent = (0..many).map(|n| 1 + n % 3).sum();
    assert!(world.results.wait(sent).iter().all(|report| report.result.is_some()));
    let epochs: Vec<_> = rooms.iter().map(|room| room.order().epoch()).collect();
    assert_eq!(epochs.iter().map(|epoch| epoch.0).collect::<HashSet<_>>().len(), many);
    assert!(rooms.iter().all(|room| world.hub.release(room)));
    assert_eq!(world.hub.room_count(), 0);
    for (n, epoch) in epochs.into_iter().enumerate() {
        let room = world.room(&format!("room:{n}"));
        assert_eq!(state(&room), (epoch, 1 + n as u64 % 3));
        let past = world.past(&room);
        assert!(past[0].contains(&format!("\"text\":\"{n}-0\"")) && past.len() == 1 + n % 3);
    }
}

fn opened_and_closed_by_many<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), ALL);
    thread::scope(|scope| {
        for thread in 0..4 {
            let world = &world;
            scope.spawn(move || {
                for n in 1..=200 {
                    // As a connection does: find the room, publish, leave it.
                    loop {
                        let room = world.room(["a", "b"][n % 2]);
                        let text = format!("{thread}-{n}");
                        let sent =
                            world.send(&room, &format!("s_{thread}"), n as u64, &text, now());
                        world.hub.release(&room);
                        if sent.is_some() {
                            break; // else it was released in between
                        }
                    }
                }
            });
        }
    });
    world.results.wait(800);
    for name in ["a", "b"] {
        let room = world.room(name);
        assert!(world.seqs(&room).into_iter().eq(1..=400));
        let texts: HashSet<_> =
            world.past(&room).iter().map(|text| text[60..].to_owned()).collect();
        assert_eq!(texts.len(), 400);
    }
}

fn everything_is_answered_at_the_end<M: Make>() {
    let made = M::make();
    let world = World::new(made.backend(), ALL);
    let rooms: Vec<_> = ["a", "b"].map(|name| world.room(name)).into();
    let sent: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let (world, rooms) = (&world, &rooms);
                scope.spawn(move || {
                    let session = format!("s_{thread}");
                    let sent = (1..=2000).map_while(|n| {
                        world.send(&rooms[n as usize % 2], &session, n, "hi", now())
                    });
                    sent.count()
                })
            })
            .collect();
        world.results.wait(100);
        made.end();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let reports = world.results.reports();
    assert_eq!(reports.len(), sent, "what was taken in is answered, when the end returns");
    for reports in by_room(reports).into_values() {
        let stored: Vec<_> = reports.iter().filter_map(|report| report.result).collect();
        assert!(stored.iter().map(|(seq, _)| *seq).eq(1..=stored.len() as u64));
        // A network may end before everything is stored.
        assert!(M::SHARED || stored.len() == reports.len());
    }
    made.end(); // once more does no harm
}

#[test]
fn rules_differ_by_room() {
    let rule = |size| Rule { history: History { size, ..ALL }, ..Rule::default() };
    let rules = Rules::new([(Pattern::new("few:*"), rule(2)), (Pattern::new("*"), rule(100))]);
    let made = OnDisk::<true>::make();
    let world = World::with_rules(made.backend(), rules);
    for (name, kept) in [("few:1", 2), ("many:1", 50)] {
        let room = world.room(name);
        for n in 1..=50 {
            assert_eq!(world.publish(&room, "", 0, "hi"), Some(n));
        }
        assert_eq!(world.seqs(&world.reopen(room)).len(), kept);
    }
}
