//! How many messages a second are stored on disk, and what each costs.
//!
//! ```text
//! cargo run --release -p throng-backend --example append_speed -- [seconds] [outstanding] [rooms] [bytes] [dir]
//! ```
//!
//! So many messages are on their way at any time, spread over the rooms. Prints one line for each way to
//! write.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use throng_backend::{Memory, Options, Sqlite, SyncMode};
use throng_hub::{
    Asker, Author, Backend, History, Hub, Keep, Opened, Outcome, Pattern, Published, Room, Rule,
    Rules, Sink, Space, Timestamp, Unavailable,
};
use throng_protocol::{Command, parse};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut number = |default: usize| match arguments.next() {
        Some(argument) => argument.parse(),
        None => Ok(default),
    };
    let seconds = number(5)?;
    let load = Load {
        time: Duration::from_secs(seconds as u64),
        outstanding: number(100)?,
        rooms: number(10)?,
        bytes: number(128)?,
    };
    let dir = env::args().nth(5).map_or_else(env::temp_dir, PathBuf::from);
    println!("{load:?} in {}", dir.display());
    for sync in [SyncMode::Full, SyncMode::Normal] {
        let dir = tempfile::tempdir_in(&dir)?;
        measure(dir.path(), sync, &load)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Load {
    time: Duration,
    outstanding: usize,
    rooms: usize,
    bytes: usize,
}

fn measure(dir: &Path, sync: SyncMode, load: &Load) -> Result<(), Box<dyn Error>> {
    let sqlite = Arc::new(Sqlite::open(dir, Options { sync, ..Options::default() })?);
    let answers = Arc::new(Answers::default());
    sqlite.start(answers.clone());
    // Every room is as full as it may be most of the time: trimming is part of the price.
    let rule = Rule { history: History::default(), ..Rule::default() };
    let rules = Rules::new([(Pattern::new("*"), rule)]);
    let keep = Keep { memory: Arc::new(Memory::default()), durable: Some(sqlite.clone()) };
    let hub = Arc::new(Hub::new(1, rules, keep));
    let _ = answers.hub.set(Arc::downgrade(&hub));
    let rooms: Vec<_> =
        (0..load.rooms).map(|n| hub.room(Space::ROOMS, &format!("room:{n}"), now())).collect();
    let json = format!(r#"{{"type":"chat","text":"{}"}}"#, "x".repeat(load.bytes));
    let Ok(Command::Publish(message)) = parse(json.as_bytes()) else {
        return Err("not a message".into());
    };

    let started = Instant::now();
    let cpu = cpu();
    let mut sent = 0usize;
    while started.elapsed() < load.time {
        // What has been answered in the meantime makes room for as many.
        for _ in 0..answers.fill(load.outstanding) {
            // What the hub hands back untouched: when it was published.
            let token = started.elapsed().as_nanos() as u64;
            let asker = Asker { worker: 0, token };
            let author = Author { user_id: "u_1", session: "", asker };
            let room = &rooms[sent % rooms.len()];
            let published = room.order().publish(&author, &message, now());
            if !matches!(published, Ok(Published::Later)) {
                return Err("refused".into());
            }
            sent += 1;
        }
    }
    answers.finish();
    let took = started.elapsed();
    let cpu = self::cpu() - cpu;
    let stats = sqlite.stats();
    let delays = answers.delays(started);
    println!(
        "{sync:?}: {:.0}/s, {:.1} µs CPU each (hub and publisher included), {:.1} per commit; \
         answered after p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; {} trimmed",
        sent as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / sent as f64,
        stats.appended as f64 / stats.commits as f64,
        delays.value_at_quantile(0.5) as f64 / 1e6,
        delays.value_at_quantile(0.99) as f64 / 1e6,
        delays.max() as f64 / 1e6,
        stats.trimmed,
    );
    sqlite.close();
    Ok(())
}

/// The sink: does what an engine must, and measures.
#[derive(Default)]
struct Answers {
    hub: OnceLock<Weak<Hub>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: usize,
    /// When each was published, and answered.
    times: Vec<(u64, Instant)>,
}

impl Answers {
    /// Waits until fewer than `most` are on their way, and adds what is missing; says how many.
    fn fill(&self, most: usize) -> usize {
        let mut state = self.state.lock().expect("nobody panicked");
        while state.pending >= most {
            state = self.changed.wait(state).expect("nobody panicked");
        }
        let free = most - state.pending;
        state.pending = most;
        free
    }

    /// Waits until none is on its way.
    fn finish(&self) {
        let mut state = self.state.lock().expect("nobody panicked");
        while state.pending > 0 {
            state = self.changed.wait(state).expect("nobody panicked");
        }
    }

    fn delays(&self, started: Instant) -> Histogram<u64> {
        let state = self.state.lock().expect("nobody panicked");
        let mut delays = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)
            .expect("the bounds are possible");
        for (published, answered) in &state.times {
            let answered = answered.duration_since(started).as_nanos() as u64;
            delays.saturating_record(answered.saturating_sub(*published));
        }
        delays
    }
}

impl Sink for Answers {
    fn opened(&self, room: &Arc<Room>, result: Result<Opened, Unavailable>) {
        if let Some(hub) = self.hub.get().and_then(Weak::upgrade) {
            hub.opened(room, result);
        }
    }

    fn appended(&self, outcomes: &mut Vec<Outcome>) {
        for outcome in outcomes.iter() {
            outcome.room.order().complete(outcome);
        }
        let now = Instant::now();
        let mut state = self.state.lock().expect("nobody panicked");
        state.pending -= outcomes.len();
        state.times.extend(outcomes.drain(..).map(|outcome| (outcome.asker.token, now)));
        self.changed.notify_all();
    }
}

/// The time all threads of this process have computed.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(now.as_millis() as u64)
}
