//! See [`throng_fuzz::decoder`].

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| throng_fuzz::decoder(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    throng_fuzz::replay(throng_fuzz::decoder)
}
