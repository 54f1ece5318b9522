//! `cargo +nightly fuzz run --fuzz-dir tools/fuzz --features libfuzzer request`

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals_fuzz::fuzz_request(bytes));
