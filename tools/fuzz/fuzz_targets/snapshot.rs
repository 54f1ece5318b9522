//! `cargo +nightly fuzz run --fuzz-dir tools/fuzz --features libfuzzer snapshot`

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| annals_fuzz::fuzz_snapshot(bytes));

// No fuzzer guesses a checksum.
libfuzzer_sys::fuzz_mutator!(|bytes: &mut [u8], size: usize, size_max: usize, seed: u32| {
    let size = libfuzzer_sys::fuzzer_mutate(bytes, size, size_max);
    annals_fuzz::mend("snapshot", seed, &mut bytes[..size]);
    size
});
