//! Whole clusters in one thread: several cores, a model of Redis, and everything that breaks between them.
//!
//! A history is drawn from a seed: what users do, how long everything takes, what fails. What comes out is checked by rules of
//! its own ([`ledger`], [`view`]); nothing there knows how the core does it. `THRONG_SEED=n` repeats one
//! history, `THRONG_HISTORIES=n` plays so many.

mod ledger;
mod play;
mod server;
mod view;
mod world;

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use play::Play;

pub(super) use ledger::body_of;

/// Plays histories, each from its own seed.
#[test]
fn histories() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("THRONG_SEED") {
        let end = Play::new(seed).loud().run();
        println!("{end:#?}");
        return;
    }
    let count = number("THRONG_HISTORIES").unwrap_or(2000);
    let first = number("THRONG_FIRST").unwrap_or(1);
    let began = Instant::now();
    let (mut sum, mut failed) = (play::Totals::default(), Vec::new());
    for seed in first..first + count {
        let end = std::panic::catch_unwind(AssertUnwindSafe(|| Play::new(seed).run()));
        match end {
            Ok(end) => sum.add(&end),
            Err(_) => failed.push(seed),
        }
        if failed.len() >= 10 {
            break;
        }
    }
    println!("{count} histories from seed {first} in {:?}: {sum:#?}", began.elapsed());
    assert!(failed.is_empty(), "THRONG_SEED=n repeats what failed; n is one of {failed:?}");
    // Something of everything has happened.
    for what in EVERYTHING {
        assert!(sum.has(what) || count < 1000, "{what}: never");
    }
}

/// The same seed is the same history.
#[test]
fn a_history_repeats() {
    for seed in [1, 77, 1_000_003] {
        assert_eq!(Play::new(seed).run().rows(), Play::new(seed).run().rows());
    }
}

/// What has to happen in a thousand histories, or they prove little.
const EVERYTHING: [&str; 22] = [
    "casts",
    "connections for channels cut",
    "connections for commands cut",
    "events that got lost",
    "looks",
    "messages of other nodes",
    "messages refused",
    "messages stored",
    "messages stored before",
    "nodes killed",
    "nodes paused",
    "nodes paused and taken for dead",
    "nodes that were fenced",
    "questions that came late",
    "questions without an answer",
    "refused by a full server",
    "rooms closed",
    "rooms that began anew",
    "rooms that could not be opened",
    "servers flushed",
    "servers replaced",
    "servers started without their tail",
];

/// SplitMix64.
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// From 0 to below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// From `from` to `to`, both included.
    fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}
