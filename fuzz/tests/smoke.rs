//! Every target over its seeds and fifty thousand mutations of them, the same ones every time.
//! `MUTATIONS=10000000 cargo test --release …` looks further.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use throng_fuzz::{TARGETS, Target};

const MUTATIONS: u64 = 50_000;

#[test]
fn decoder() {
    smoke("decoder");
}

#[test]
fn inflate() {
    smoke("inflate");
}

#[test]
fn handshake() {
    smoke("handshake");
}

#[test]
fn differential() {
    smoke("differential");
}

fn smoke(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let seeds = seeds(name);
    assert!(seeds.len() >= 10, "the seeds are missing");
    for seed in &seeds {
        run(*target, seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mutations = std::env::var("MUTATIONS").ok().and_then(|count| count.parse().ok());
    for _ in 0..mutations.unwrap_or(MUTATIONS) {
        let mut data = random.choose(&seeds).clone();
        for _ in 0..1 + random.below(6) {
            random.mutate(&mut data, &seeds);
        }
        run(*target, &data);
    }
}

/// In the order of their names, so that every run is the same.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("a folder of seeds")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

/// Runs a target, and shows the input that it does not like.
fn run(target: Target, data: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(data))) {
        eprintln!("the input was b\"{}\"", data.escape_ascii());
        resume_unwind(panic);
    }
}

/// Marsaglia's xorshift64*, as good as it has to be here.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 32) as usize % limit.max(1)
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn mutate(&mut self, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(data.len());
        let end = (at + 1 + self.below(16)).min(data.len());
        match self.below(10) {
            0..=2 if !data.is_empty() => data[at] ^= 1 << self.below(8),
            3 if !data.is_empty() => data[at] = self.next() as u8,
            4 if !data.is_empty() => data[at] = *self.choose(&INTERESTING),
            5 => data.insert(at, *self.choose(&INTERESTING)),
            6 => drop(data.drain(at.min(end)..end)),
            7 => {
                let part = data[at.min(end)..end].to_vec();
                data.splice(at..at, part);
            }
            8 => data.truncate(at),
            _ => {
                let other = self.choose(seeds);
                let from = self.below(other.len());
                data.truncate(at);
                data.extend(&other[from..]);
            }
        }
    }
}

/// First bytes, lengths and characters on which much depends.
const INTERESTING: [u8; 24] = [
    0, 1, 2, 3, 8, 0x41, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xc1, 0xc2, 0xed,
    0xf0, 0xfe, 0xff, b',', b';', b'"',
];
