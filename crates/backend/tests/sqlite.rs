//! What a file of rooms does beside the contract: it is there after a restart, guards itself, grows old.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod world;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use throng_backend::{Memory, OpenError, Options, Sqlite, SyncMode};
use throng_hub::{
    Append, Asker, Backend, Draft, Epoch, History, Hub, Keep, Opening, Past, REMEMBERED, Rules,
    Space, Stored, Timestamp,
};
use throng_protocol::{Body, Command, parse};
use world::{ALL, Results, World, ago, now, state};

fn open(dir: &Path) -> Arc<Sqlite> {
    Arc::new(Sqlite::open(dir, Options::default()).unwrap())
}

fn refused(dir: &Path) -> OpenError {
    Sqlite::open(dir, Options::default()).expect_err("it cannot be opened")
}

/// Waits for what another thread does soon.
#[track_caller]
fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "it does not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/by/it");
    let mut before: HashMap<&str, (Epoch, u64, Vec<String>)> = HashMap::new();
    let mut secret = None;
    for run in 1..=3 {
        let sqlite = open(&dir);
        assert_eq!(*secret.get_or_insert(sqlite.secret()), sqlite.secret());
        let world = World::new(sqlite.clone(), ALL);
        for name in ["a", "b", "visited"] {
            let room = world.room(name);
            let (epoch, seq) = state(&room);
            let past = world.past(&room);
            if let Some(before) = before.get(name) {
                assert_eq!((epoch, seq, past), *before, "{name} in run {run}");
                if seq > 0 {
                    assert_eq!(world.publish(&room, "s_1", 1, "again"), Some(1), "known");
                }
            }
            for n in seq..seq + 100 {
                if name != "visited" {
                    assert_eq!(world.publish(&room, "s_1", n + 1, &format!("{n}")), Some(n + 1));
                }
            }
            let (epoch, seq) = state(&room);
            before.insert(name, (epoch, seq, world.past(&room)));
        }
        let stats = sqlite.stats();
        assert_eq!((stats.rooms, stats.appended, stats.failed), (2, 200, 0));
        assert!(stats.commits > 0 && stats.queued == 0 && stats.queued_bytes == 0);
        sqlite.close();
        assert!(!dir.join("throng.db-wal").exists(), "all in one file");
    }
}

#[test]
fn stored_as_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = open(dir.path());
    let results = Arc::new(Results::default());
    sqlite.start(results.clone());
    // Another backend's room, as a name only: this one is asked directly.
    let keep = Keep { memory: Arc::new(Memory::default()), durable: None };
    let room = Hub::new(1, Rules::default(), keep).room(Space::ROOMS, "lobby", now());
    let Opening::Ready(mut opened) = sqlite.open(&room, Timestamp(5)) else { panic!() };
    assert_eq!((opened.seq, opened.time), (0, Timestamp(5)));
    assert!(matches!(opened.past, Past::None));
    let at = now();
    let mut expected = Vec::new();
    for (n, json) in
        [r#"{"type":"chat"}"#, r#"{"type":"x","a":[1,{"b":"\u0000é"}]}"#].iter().enumerate()
    {
        let Ok(Command::Publish(message)) = parse(json.as_bytes()) else { panic!() };
        let (session, reference) = [("s_é'", u64::MAX), ("", 0)][n];
        let draft = Draft {
            room: "lobby",
            from: "u_1",
            session,
            reference,
            message: &message,
            asker: Asker { worker: 3, token: u64::MAX },
        };
        assert_eq!(opened.log.append(&draft, at), Append::Later);
        expected.push(Stored {
            seq: n as u64 + 1,
            timestamp: at,
            session: session.into(),
            reference,
            body: Body::new("lobby", "u_1", &message),
        });
    }
    drop(opened);
    sqlite.close();
    drop(sqlite);
    let file = Connection::open(dir.path().join("throng.db")).unwrap();
    let mut rows =
        file.prepare("SELECT seq, time, session, ref, head, body FROM messages").unwrap();
    let rows = rows.query_map([], |row| {
        let text: Vec<u8> = row.get(5)?;
        Ok(Stored {
            seq: row.get::<_, i64>(0)? as u64,
            timestamp: Timestamp(row.get::<_, i64>(1)? as u64),
            session: row.get::<_, String>(2)?.into(),
            reference: row.get::<_, i64>(3)? as u64,
            body: Body::from_parts(text.into(), row.get(4)?).unwrap(),
        })
    });
    assert_eq!(rows.unwrap().collect::<Result<Vec<_>, _>>().unwrap(), expected);
}

#[test]
fn only_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use"));
    first.close();
    open(dir.path());
}

#[test]
fn not_a_directory_that_can_be_used() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.as_path(), &file.join("below"), Path::new("/proc/throng")] {
        let error = refused(path);
        assert!(matches!(error, OpenError::Access { .. }), "{error}");
    }
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(locked.join("probe"), "").is_err() {
        let error = refused(&locked); // nobody stops the superuser
        assert!(matches!(error, OpenError::Access { .. }), "{error}");
    }
}

#[test]
fn damaged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("throng.db");
    let sqlite = open(dir.path());
    let world = World::new(sqlite.clone(), ALL);
    let room = world.room("lobby");
    for _ in 0..200 {
        world.send(&room, "", 0, &"x".repeat(1000), now());
    }
    world.results.wait(200);
    sqlite.close();
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 200_000);
    let mut holed = whole.clone();
    holed[20 * 4096..30 * 4096].fill(0xAA);
    let truncated = whole[..whole.len() / 2].to_vec();
    for damaged in [b"not a database, but long enough to be one".repeat(50), truncated, holed] {
        fs::write(&path, &damaged).unwrap();
        let error = refused(dir.path());
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged, "left as it was");
    }
    fs::write(&path, &whole).unwrap();
    let world = World::new(open(dir.path()), ALL);
    assert_eq!(world.seqs(&world.room("lobby")).len(), 200);
}

#[test]
fn files_of_others_and_of_later_versions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close();
    let path = dir.path().join("throng.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1, .. }), "{error}");
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE stamps (x)").unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let limited = |limit| {
        let options = Options { limit: Some(limit), ..Options::default() };
        Arc::new(Sqlite::open(dir.path(), options).unwrap())
    };
    let sqlite = limited(1 << 20);
    let world = World::new(sqlite.clone(), ALL);
    let (room, other) = (world.room("lobby"), world.room("other"));
    let text = "x".repeat(10_000);
    assert_eq!(world.publish(&other, "", 0, "hi"), Some(1));
    let mut stored = 0;
    while let Some(seq) = world.publish(&room, "s_1", stored + 1, &text) {
        stored += 1;
        assert_eq!(seq, stored);
    }
    assert!(stored > 50 && sqlite.stats().trouble.is_some(), "{stored} {sqlite:?}");
    assert_eq!(world.publish(&room, "s_1", stored + 1, &text), None, "still");
    let new = world.room("new");
    assert_eq!(world.publish(&new, "", 0, &text), None);
    let epoch = state(&new).0;
    let new = world.reopen(new);
    assert_eq!(state(&new), (epoch, 0), "nothing happened there");
    let past = world.past(&room);
    assert_eq!(past.len() as u64, stored);
    let room = world.reopen(room);
    assert!(world.past(&room) == past, "a full disk can be read");
    sqlite.close();

    let sqlite = limited(2 << 20);
    let world = World::new(sqlite.clone(), ALL);
    let room = world.room("lobby");
    assert!(world.past(&room) == past);
    assert_eq!(world.publish(&room, "s_1", stored, &text), Some(stored), "known");
    assert_eq!(world.publish(&room, "s_1", stored + 1, &text), Some(stored + 1), "it was not");
    assert_eq!(sqlite.stats().trouble, None);
}

#[test]
fn pages_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { limit: Some(1 << 20), ..Options::default() };
    let sqlite = Arc::new(Sqlite::open(dir.path(), options).unwrap());
    let world = World::new(sqlite.clone(), History { size: 100, ..ALL });
    let room = world.room("lobby");
    let text = "x".repeat(1000);
    for round in 1..=10 {
        for _ in 0..500 {
            world.send(&room, "", 0, &text, now()).unwrap();
        }
        let reports = world.results.wait(round * 500);
        assert!(reports.iter().all(|report| report.result.is_some()), "5 MB in a file of 1 MiB");
    }
    assert!(sqlite.stats().trimmed >= 4800);
    assert!(world.seqs(&world.reopen(room)).into_iter().eq(4901..=5000));
}

#[test]
fn somebody_else_locks_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = open(dir.path());
    let world = World::new(sqlite.clone(), ALL);
    let room = world.room("lobby");
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(1));
    let other = Connection::open(dir.path().join("throng.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let text = "x".repeat(1 << 20);
    let mut sent = 0;
    while world.send(&room, "", 0, &text, now()).is_some() {
        sent += 1;
        assert!(sent < 1000, "the queue has an end");
    }
    assert!(sent >= 60 && sqlite.stats().refused == 1, "{sent}");
    let reports = world.results.wait(2);
    assert_eq!(reports[1].result, None, "not stored, after a second");
    other.execute_batch("ROLLBACK").unwrap();
    let reports = world.results.wait(1 + sent);
    let stored = reports.iter().filter_map(|report| report.result.map(|(seq, _)| seq));
    let stored: Vec<_> = stored.collect();
    assert!(stored.iter().copied().eq(1..=stored.len() as u64));
    let next = world.publish(&room, "", 0, "hi").unwrap();
    assert_eq!(next, stored.len() as u64 + 1);
    assert_eq!(sqlite.queued_bytes(), 0);
    assert!(world.seqs(&world.reopen(room)).into_iter().eq(1..=next));
}

#[test]
fn a_room_whose_rows_are_wrong_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = open(dir.path());
    let world = World::new(sqlite.clone(), ALL);
    let (room, other) = (world.room("lobby"), world.room("other"));
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(1));
    // Somebody writes into the file what is going to be written next.
    let file = Connection::open(dir.path().join("throng.db")).unwrap();
    let copy = "INSERT INTO messages (room, seq, time, session, ref, head, body)
                SELECT room, seq + 1, time, session, ref, head, body FROM messages";
    file.execute(copy, []).unwrap();
    assert_eq!(world.publish(&room, "", 0, "hi"), None);
    assert_eq!(world.publish(&room, "", 0, "hi"), None, "not tried again");
    let failed = sqlite.stats().failed;
    for n in 1..=3 {
        assert_eq!(world.publish(&other, "", 0, "hi"), Some(n));
    }
    assert_eq!((sqlite.stats().failed, sqlite.stats().trouble), (failed, None));
    let room = world.reopen(room);
    assert_eq!(state(&room).1, 2);
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(3));
}

#[test]
fn after_the_end_nothing_is_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = open(dir.path());
    let world = World::new(sqlite.clone(), ALL);
    let (room, other) = (world.room("lobby"), world.room("other"));
    assert_eq!(world.publish(&room, "", 0, "hi"), Some(1));
    assert!(world.hub.release(&room));
    sqlite.close();
    assert!(world.send(&other, "", 0, "hi", now()).is_none());
    assert!(world.try_room("lobby", now()).is_none(), "and whoever waits is told");
}

#[test]
fn old_messages_and_rooms_go() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { sweep: Duration::from_millis(5), ..Options::default() };
    let sqlite = Arc::new(Sqlite::open(dir.path(), options).unwrap());
    let hour = Duration::from_secs(3600);
    let world = World::new(sqlite.clone(), History { ttl: hour, ..ALL });
    let names: Vec<_> = (0..200).map(|n| format!("old:{n}")).collect();
    let mut epochs = HashSet::new();
    let publish = |name: &str, time: Timestamp| {
        let room = world.try_room(name, time).unwrap();
        world.publish_at(&room, "", 0, "hi", time).unwrap();
        room
    };
    let opened = publish("opened", ago(3 * hour));
    let fresh = publish("fresh", now());
    assert!(world.hub.release(&fresh));
    for name in &names {
        let room = publish(name, ago(3 * hour));
        epochs.insert(state(&room).0.0);
        world.hub.release(&room);
    }
    until(|| sqlite.stats().rooms == 2);
    assert_eq!(state(&opened).1, 1);
    assert_eq!(world.publish(&opened, "", 0, "hi"), Some(2), "an open room goes on");
    assert_eq!(world.seqs(&world.room("fresh")), [1]);
    for name in &names {
        let (epoch, seq) = state(&world.room(name));
        assert!(seq == 0 && epochs.insert(epoch.0), "{name}: all new");
    }
    let stats = sqlite.stats();
    assert!(stats.trimmed >= 201 && stats.loaded < 10, "{stats:?}");
    assert_eq!(world.seqs(&world.reopen(opened)), [2]);
}

#[test]
fn refs_are_known_after_a_restart() {
    let short = History { ttl: Duration::from_secs(60), ..ALL };
    for history in [History { size: 10, ..ALL }, short, History::NONE] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { sweep: Duration::from_millis(5), ..Options::default() };
        let mut first: Vec<(String, u64, (u64, Timestamp))> = Vec::new();
        let start = ago(Duration::from_secs(300)); // all too old for one minute
        for run in 0..3 {
            let sqlite = Arc::new(Sqlite::open(dir.path(), options.clone()).unwrap());
            let world = World::new(sqlite.clone(), history);
            if history == short && run == 1 {
                until(|| kept(dir.path(), "messages") == 0);
            }
            let room = world.try_room("lobby", start).unwrap();
            for (session, reference, result) in &first {
                let again = world.publish_at(&room, session, *reference, "once", start);
                assert_eq!(again, Some(*result), "{session} {reference} in run {run}");
            }
            for n in 0..100 {
                let (session, reference) = (format!("s_{run}_{}", n % 3), n + 1);
                let result = world.publish_at(&room, &session, reference, "once", start).unwrap();
                first.push((session, reference, result));
            }
            assert_eq!(state(&room).1, first.len() as u64);
            sqlite.close();
        }
    }
}

fn kept(dir: &Path, table: &str) -> i64 {
    let file = Connection::open(dir.join("throng.db")).unwrap();
    file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn old_refs_go() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { sweep: Duration::from_millis(5), ..Options::default() };
    let sqlite = Arc::new(Sqlite::open(dir.path(), options).unwrap());
    let world = World::new(sqlite.clone(), History::NONE);
    let (old, new) = (ago(REMEMBERED + Duration::from_secs(60)), now());
    let rooms = [("old", old), ("new", new)].map(|(name, time)| {
        let room = world.try_room(name, time).unwrap();
        for n in 1..=3000 {
            world.send(&room, &format!("s_{}", n % 30), n, "once", time).unwrap();
        }
        room
    });
    world.results.wait(6000);
    until(|| kept(dir.path(), "refs") == 3000);
    let [old_room, new_room] = rooms.map(|room| world.reopen(room));
    assert_eq!(world.publish(&new_room, "s_1", 1, "once"), Some(1));
    assert_eq!(world.publish(&old_room, "s_1", 1, "once"), Some(3001), "after so long");
    sqlite.close();

    // Before there were any.
    let file = Connection::open(dir.path().join("throng.db")).unwrap();
    file.execute_batch("DROP TABLE refs").unwrap();
    drop(file);
    let world = World::new(open(dir.path()), History::NONE);
    let room = world.room("new");
    assert_eq!(world.publish(&room, "s_x", 1, "once"), Some(3001));
    assert_eq!(world.publish(&world.reopen(room), "s_x", 1, "once"), Some(3001));
}

#[test]
fn a_room_stays_as_long_as_its_refs() {
    let dir = tempfile::tempdir().unwrap();
    let ttl = Duration::from_secs(60);
    let sqlite = open(dir.path());
    let world = World::new(sqlite.clone(), History { ttl, ..ALL });
    let time = ago(Duration::from_secs(3 * 3600));
    let room = world.try_room("lobby", time).unwrap();
    assert_eq!(world.publish_at(&room, "s_1", 1, "once", time), Some((1, time)));
    sqlite.close();
    // A `ref` that is held up by another one: its room is over, but its id must not be used again yet.
    let file = Connection::open(dir.path().join("throng.db")).unwrap();
    let add = "INSERT INTO refs (room, seq, time, session, ref) VALUES (?1, 1, ?2, 's_1', 1)";
    file.execute(add, (99, now().0 as i64)).unwrap();
    file.execute(add, (1, time.0 as i64)).unwrap();
    file.execute("UPDATE rooms SET due = 0", []).unwrap();
    drop(file);
    let options = Options { sweep: Duration::from_millis(5), ..Options::default() };
    let sqlite = Arc::new(Sqlite::open(dir.path(), options).unwrap());
    until(|| kept(dir.path(), "messages") == 0);
    assert_eq!((sqlite.stats().rooms, kept(dir.path(), "refs")), (1, 2));
    let file = Connection::open(dir.path().join("throng.db")).unwrap();
    file.busy_timeout(Duration::from_secs(10)).unwrap();
    file.execute("DELETE FROM refs WHERE room = 99", []).unwrap();
    until(|| sqlite.stats().rooms == 0);
    assert_eq!(kept(dir.path(), "refs"), 0);
}

#[test]
fn a_number_is_never_given_twice_however_rooms_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { sweep: Duration::from_millis(1), sync: SyncMode::Normal, ..Options::default() };
    let sqlite = Arc::new(Sqlite::open(dir.path(), options).unwrap());
    let ttl = Duration::from_secs(3600);
    let world = World::new(sqlite.clone(), History { ttl, ..ALL });
    let names: Vec<_> = (0..8).map(|n| format!("room:{n}")).collect();
    let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen = thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let (world, names, done, changes) = (&world, &names, &done, &changes);
                scope.spawn(move || {
                    let mut seen: Vec<(String, u64, usize)> = Vec::new();
                    for n in 0.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        // Each thread has rooms of its own, which are too old at once.
                        let name = &names[thread * 4 + n % 4];
                        let room = world.try_room(name, ago(3 * ttl)).unwrap();
                        for _ in 0..n % 3 {
                            world.send(&room, "", 0, "hi", ago(3 * ttl)).unwrap();
                        }
                        let epoch = state(&room).0.0;
                        let before = seen.iter().rfind(|(room, ..)| room == name);
                        if before.is_some_and(|(_, before, _)| *before != epoch) {
                            changes.fetch_add(1, Ordering::Relaxed);
                        }
                        seen.push((name.clone(), epoch, n % 3));
                        until(|| world.hub.release(&room));
                    }
                    seen
                })
            })
            .collect();
        until(|| changes.load(Ordering::Relaxed) > 100);
        done.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(sqlite.stats().trimmed > 0);
    // Within an epoch of a room the reported numbers must be 1, 2, 3 … each once: there are exactly as many
    // different ones as messages.
    let mut reports = world::by_room(world.results.reports());
    for name in names {
        let mut numbers = reports.remove(&name).unwrap_or_default().into_iter();
        let mut last: HashMap<u64, u64> = HashMap::new();
        for (_, epoch, count) in seen.iter().filter(|(room, ..)| *room == name) {
            for _ in 0..*count {
                let (seq, _) = numbers.next().unwrap().result.unwrap();
                let last = last.entry(*epoch).or_default();
                assert_eq!(seq, *last + 1, "{name} in epoch {epoch}");
                *last = seq;
            }
        }
        assert_eq!(numbers.next(), None);
    }
}
