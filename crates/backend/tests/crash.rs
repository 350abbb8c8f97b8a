//! What is left after a sudden end: of the process, of the machine, of the space on the disk.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod world;

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throng_backend::{OpenError, Options, Sqlite, SyncMode};
use throng_hub::{Epoch, History, REF_WINDOW};
use world::{ALL, World, now, state};

const ROOMS: [&str; 3] = ["a", "b", "c"];

/// Much less than is published.
const FEW: History = History { size: 10, ..ALL };

fn open(dir: &Path, sync: SyncMode) -> Result<Arc<Sqlite>, OpenError> {
    Sqlite::open(dir, Options { sync, ..Options::default() }).map(Arc::new)
}

/// What another process has reported as stored.
#[derive(Debug)]
struct Line {
    room: String,
    epoch: u64,
    seq: u64,
    text: String,
}

/// This test again, as a process of its own that runs only [`child`].
fn start(mode: &str, dir: &Path, round: u32) -> Child {
    // The shell makes it outlive a file that grows too large.
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .envs([("CHILD", mode), ("CHILD_ROUND", &round.to_string())])
        .env("CHILD_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "started by the others"]
fn child() {
    let dir = env::var("CHILD_DIR").unwrap();
    let round = env::var("CHILD_ROUND").unwrap();
    match env::var("CHILD").unwrap().as_str() {
        "full" => publish_on(Path::new(&dir), (SyncMode::Full, ALL), &round, u64::MAX),
        "normal" => publish_on(Path::new(&dir), (SyncMode::Normal, ALL), &round, u64::MAX),
        "few" => publish_on(Path::new(&dir), (SyncMode::Full, FEW), &round, u64::MAX),
        // Not enough for the write-ahead log to begin anew.
        "some" => publish_on(Path::new(&dir), (SyncMode::Full, ALL), &round, 300),
        "small" => run_out_of_space(Path::new(&dir)),
        other => panic!("{other}"),
    }
}

/// Publishes from two threads until the process is killed, or `most` messages from each, and tells what was
/// reported. Not much more is stored than was told, however slow the reader is.
fn publish_on(dir: &Path, (sync, history): (SyncMode, History), round: &str, most: u64) {
    let sqlite = open(dir, sync).unwrap();
    let world = World::new(sqlite.clone(), history);
    let rooms = ROOMS.map(|name| world.room(name));
    let epochs: HashMap<_, _> =
        rooms.iter().map(|room| (room.name().to_owned(), state(room).0.0)).collect();
    let all_told = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..2u32 {
            let (world, rooms, sqlite, all_told) = (&world, &rooms, &sqlite, &all_told);
            scope.spawn(move || {
                for n in 1..=most {
                    let untold =
                        || world.results.count().saturating_sub(all_told.load(Ordering::Relaxed));
                    while sqlite.stats().queued > 100 || untold() > 50 {
                        thread::yield_now();
                    }
                    let text = format!("{round}-{thread}-{n}");
                    let session = format!("s_{round}_{thread}");
                    world.send(&rooms[n as usize % 3], &session, n, &text, now()).unwrap();
                }
            });
        }
        let mut told = 0;
        loop {
            let mut lines = String::new();
            let reports = world.results.behind(told);
            told += reports.len();
            for report in reports {
                let (seq, _) = report.result.unwrap();
                let thread = report.session.rsplit('_').next().unwrap();
                let (room, epoch) = (&report.room, epochs[&report.room]);
                lines += &format!("> {room} {epoch} {seq} {round}-{thread}-{}\n", report.reference);
            }
            std::io::stdout().write_all(lines.as_bytes()).unwrap();
            all_told.store(told, Ordering::Relaxed);
        }
    });
}

/// Reads what a child tells, kills it after so many lines, and reads the rest.
fn kill_after(mut child: Child, count: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let mut words = line.strip_prefix("> ").into_iter().flat_map(|it| it.split(' '));
        let words = [(); 4].map(|()| words.next());
        if let [Some(room), Some(epoch), Some(seq), Some(text)] = words {
            let (epoch, seq) = (epoch.parse().unwrap(), seq.parse().unwrap());
            lines.push(Line { room: room.to_owned(), epoch, seq, text: text.to_owned() });
            if lines.len() == count {
                child.kill().unwrap(); // what it has told until then is still in the pipe
            }
        }
    }
    assert!(!child.wait().unwrap().success());
    // The last line may be cut off: what is left of it might be another message.
    lines.pop();
    assert!(lines.len() + 1 >= count, "{} lines of {count}", lines.len());
    lines
}

/// Opens what is there, and looks for everything that was told. Says how many messages there are.
fn verify(dir: &Path, sync: SyncMode, told: &[Line]) -> (HashMap<String, Epoch>, u64) {
    let sqlite = open(dir, sync).unwrap();
    let world = World::new(sqlite.clone(), ALL);
    let (mut epochs, mut total) = (HashMap::new(), 0);
    for name in ROOMS {
        let room = world.room(name);
        let (epoch, last) = state(&room);
        assert!(world.seqs(&room).into_iter().eq(1..=last), "no holes");
        let past = world.past(&room);
        let text = |message: &str| {
            let start = message.find("\"text\":\"").unwrap() + 8;
            message[start..].trim_end_matches("\"}").to_owned()
        };
        let texts: Vec<_> = past.iter().map(|message| text(message)).collect();
        assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len(), "none twice");
        for line in told.iter().filter(|line| line.room == name) {
            assert!(line.seq <= last, "{line:?} is lost, {last} is the last");
            assert_eq!(texts[line.seq as usize - 1], line.text);
        }
        epochs.insert(name.to_owned(), epoch);
        total += last;
    }
    sqlite.close(); // the last to hold the hub may be a thread that has just opened a room
    (epochs, total)
}

#[test]
fn killed_in_the_middle_of_commits() {
    for (mode, sync) in [("full", SyncMode::Full), ("normal", SyncMode::Normal)] {
        let dir = tempfile::tempdir().unwrap();
        let mut told: Vec<Line> = Vec::new();
        for round in 1..=4 {
            told.extend(kill_after(start(mode, dir.path(), round), 1500 * round as usize));
            let (epochs, total) = verify(dir.path(), sync, &told);
            assert!(total >= told.len() as u64);
            let same = told.iter().all(|line| epochs[&line.room] == Epoch(line.epoch));
            assert!(same, "{mode}: the machine was still running, nothing is lost");
        }
    }
}

#[test]
fn killed_and_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut told: Vec<Line> = Vec::new();
    for round in 1..=3 {
        told.extend(kill_after(start("few", dir.path(), round), 1500));
        let sqlite = open(dir.path(), SyncMode::Full).unwrap();
        let world = World::new(sqlite.clone(), FEW);
        let rooms: HashMap<_, _> = ROOMS.map(|name| (name.to_owned(), world.room(name))).into();
        let last: HashMap<_, _> =
            rooms.iter().map(|(name, room)| (name.clone(), state(room).1)).collect();
        let mut windows: HashMap<(&str, &str), Vec<(u64, u64)>> = HashMap::new();
        for line in &told {
            let (session, reference) = line.text.rsplit_once('-').unwrap();
            let window = windows.entry((&line.room, session)).or_default();
            window.push((reference.parse().unwrap(), line.seq));
        }
        for ((name, session), window) in windows {
            let session = format!("s_{}", session.replace('-', "_"));
            for (at, (reference, seq)) in window.iter().rev().enumerate() {
                // What was stored and not told any more takes its place in the window as well.
                let again = world.publish(&rooms[name], &session, *reference, "again");
                let known = again == Some(*seq) || again.is_none() && at + 200 > REF_WINDOW;
                assert!(known, "{name} {session} {reference}: {seq}, and then {again:?}");
            }
        }
        for (name, room) in &rooms {
            assert_eq!(state(room).1, last[name], "nothing was published twice");
        }
        sqlite.close();
    }
}

#[test]
fn a_loss_of_power_without_full_sync_changes_all_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let told = kill_after(start("normal", dir.path(), 1), 100);
    let other_boot = || {
        let file = Connection::open(dir.path().join("throng.db")).unwrap();
        file.execute("UPDATE meta SET value = 'another' WHERE key = 'boot'", []).unwrap();
    };
    other_boot();
    let (epochs, _) = verify(dir.path(), SyncMode::Normal, &told);
    assert!(told.iter().all(|line| epochs[&line.room] != Epoch(line.epoch)));
    other_boot();
    let (same, _) = verify(dir.path(), SyncMode::Normal, &told);
    assert_eq!(same, epochs, "it was closed in good order in between");

    let dir = tempfile::tempdir().unwrap();
    let told = kill_after(start("full", dir.path(), 1), 100);
    let file = Connection::open(dir.path().join("throng.db")).unwrap();
    file.execute("UPDATE meta SET value = 'another' WHERE key = 'boot'", []).unwrap();
    drop(file);
    let (epochs, _) = verify(dir.path(), SyncMode::Full, &told);
    assert!(told.iter().all(|line| epochs[&line.room] == Epoch(line.epoch)), "nothing is lost");
}

#[test]
fn the_write_ahead_log_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let told = kill_after(start("some", dir.path(), 1), 500);
    let copy = |change: &dyn Fn(&Path)| {
        let to = tempfile::tempdir().unwrap();
        for name in ["throng.db", "throng.db-wal"] {
            fs::copy(dir.path().join(name), to.path().join(name)).unwrap();
        }
        change(&to.path().join("throng.db-wal"));
        to
    };
    // Half a transaction at the end, as if the power had failed while it was written.
    let torn = copy(&|wal| {
        let half = fs::read(wal).unwrap()[32..32 + 3 * 4120].to_vec();
        OpenOptions::new().append(true).open(wal).unwrap().write_all(&half).unwrap();
    });
    let (_, total) = verify(torn.path(), SyncMode::Full, &told);
    let garbage = copy(&|wal| {
        let noise: Vec<u8> =
            (0..10_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        OpenOptions::new().append(true).open(wal).unwrap().write_all(&noise).unwrap();
    });
    assert_eq!(verify(garbage.path(), SyncMode::Full, &told).1, total);
    // The tail is gone, as after a disk that does not keep what it has confirmed: what is before is there.
    let length = fs::metadata(dir.path().join("throng.db-wal")).unwrap().len();
    let mut left = Vec::new();
    for cut in [1, 5000, length / 4, length / 2] {
        let cut_off = copy(&|wal| {
            OpenOptions::new().write(true).open(wal).unwrap().set_len(length - cut).unwrap();
        });
        left.push(verify(cut_off.path(), SyncMode::Full, &[]).1);
        let flipped = copy(&|wal| {
            let mut bytes = fs::read(wal).unwrap();
            bytes[(length - cut) as usize] ^= 0x10;
            fs::write(wal, bytes).unwrap();
        });
        verify(flipped.path(), SyncMode::Full, &[]);
        // And the numbers go on from there.
        let world = World::new(open(flipped.path(), SyncMode::Full).unwrap(), ALL);
        let room = world.room("a");
        let (_, last) = state(&room);
        assert_eq!(world.publish(&room, "", 0, "hi"), Some(last + 1));
    }
    assert!(left[0] <= total && left.is_sorted_by(|a, b| a >= b), "{left:?} of {total}");
    assert!(left[3] < left[0] && left[3] > 0, "{left:?}");
}

#[test]
fn no_space_left_and_then_again() {
    let dir = tempfile::tempdir().unwrap();
    let child = start("small", dir.path(), 1).wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}");
    let stored: u64 =
        output.split("stored ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let world = World::new(open(dir.path(), SyncMode::Full).unwrap(), ALL);
    let room = world.room("lobby");
    assert!(world.seqs(&room).into_iter().eq(1..=stored));
}

/// Files must not become larger than 2 MiB; then they may again.
fn run_out_of_space(dir: &Path) {
    let sqlite = open(dir, SyncMode::Full).unwrap();
    let world = World::new(sqlite.clone(), ALL);
    let room = world.room("lobby");
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(2 << 20), ..before }).unwrap();
    let text = "x".repeat(20_000);
    let (mut stored, mut refused) = (0, 0);
    while refused < 5 {
        match world.publish(&room, "s_1", stored + 1, &text) {
            Some(seq) => {
                stored += 1;
                assert_eq!(seq, stored);
            }
            None => refused += 1,
        }
    }
    assert!(stored > 20, "{stored}");
    assert!(sqlite.stats().trouble.is_some());
    assert_eq!(world.past(&room).len() as u64, stored);
    // Others may still find space for something small.
    setrlimit(Resource::Fsize, before).unwrap();
    for _ in 0..200 {
        stored += 1;
        assert_eq!(world.publish(&room, "s_1", stored, &text), Some(stored), "by itself");
    }
    assert_eq!(sqlite.stats().trouble, None);
    println!("stored {stored} ");
    // Not in good order: what was answered is there regardless.
    std::process::exit(0);
}
