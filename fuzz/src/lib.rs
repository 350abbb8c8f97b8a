//! Fuzz targets of `throng-wire`. Each is a plain function of some bytes that panics when it
//! finds something wrong, so that it runs
//!
//! - under a fuzzer: `mkdir -p fuzz/corpus/decoder`, then
//!   `cargo +nightly fuzz run decoder fuzz/corpus/decoder fuzz/seeds/decoder`
//!   (once: `cargo install cargo-fuzz`; a C++ compiler is needed),
//! - without one, on stable, over the seeds and many thousand mutations of them:
//!   `cargo test --manifest-path fuzz/Cargo.toml`,
//! - over one input that a fuzzer has found:
//!   `cargo run --manifest-path fuzz/Cargo.toml --bin decoder -- FILE…`.
//!
//! | Target | Input | Checks |
//! |---|---|---|
//! | [`decoder`] | settings, then a stream | no panic; every chunking gives the same; memory |
//! | [`inflate`] | settings, then data | bounds; the same as miniz_oxide; the round trip |
//! | [`handshake`] | an HTTP head | only good requests and responses pass; tungstenite agrees |
//! | [`differential`] | a role, then a stream | the same messages as tungstenite, or both fail |
//!
//! The seeds are written by `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

mod decoder;
mod differential;
mod handshake;
mod inflate;
mod outcome;

use std::process::ExitCode;

pub use decoder::decoder;
pub use differential::differential;
pub use handshake::handshake;
pub use inflate::inflate;

/// What a target is: it panics if something is wrong.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("decoder", decoder),
    ("inflate", inflate),
    ("handshake", handshake),
    ("differential", differential),
];

/// Runs a target over the files named on the command line, for where there is no fuzzer.
pub fn replay(target: Target) -> ExitCode {
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(data) => target(&data),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        println!("{}: nothing wrong", path.display());
    }
    ExitCode::SUCCESS
}
