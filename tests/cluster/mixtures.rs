//! Faults in mixtures that the seed draws; and that a seed is one run and no other.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::mix::Mix;
use crate::runs::{print, run};
use crate::seeds::Cases;

#[test]
fn mixtures_of_faults_break_no_promise() {
    let sum = RefCell::new(BTreeMap::new());
    Cases { file: "mixtures", test: "mixtures_of_faults_break_no_promise", usual: 100 }.run(|seed| {
        for (what, count) in run(seed, Mix::drawn).counts() {
            *sum.borrow_mut().entry(what).or_insert(0) += count;
        }
    });
    let sum = sum.into_inner();
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
