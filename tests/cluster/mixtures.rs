//! Faults in mixtures that the seed draws; and that a seed is one run and no other.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use crate::mix::Mix;
use crate::runs::{print, run};
use crate::seeds::Cases;

#[test]
fn mixtures_of_faults_break_no_promise() {
    let cases = Cases { file: "mixtures", test: "mixtures_of_faults_break_no_promise", usual: 100 };
    let sum = Mutex::new(BTreeMap::new());
    let one = |seed| {
        for (what, count) in run(seed, Mix::drawn).counts() {
            *sum.lock().unwrap().entry(what).or_insert(0) += count;
        }
    };
    // A run is one thread's, and together they are half of what this suite does.
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    thread::scope(|scope| {
        for part in 0..threads {
            let (cases, one) = (&cases, &one);
            scope.spawn(move || {
                cases.run(|seed| {
                    if seed % threads == part {
                        one(seed)
                    }
                })
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!("{sum:?}");
    // Where nothing happens nothing can go wrong.
    let is_one = std::env::var_os("ANNALS_SEED").is_some();
    assert!(is_one || sum.values().all(|count| *count > 0), "something never happened: {sum:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..3 {
        assert_eq!(print(seed, Mix::drawn), print(seed, Mix::drawn), "seed {seed}");
    }
}
