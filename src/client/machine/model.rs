//! The machine against a cluster that crashes, pauses, elects, forgets and repeats, with an account of what it was
//! promised: each append once or not at all, in order, and never a failure that was none.
//!
//! `ANNALS_SEED=7 cargo test -p annals --lib client::machine::model` replays one run; `ANNALS_ROUNDS=100` multiplies them.

mod account;
mod answers;
mod cluster;
mod trouble;
mod world;

use self::world::{Mix, World};

/// Runs of each mix.
const RUNS: u64 = 20;

fn run(mix: Mix, salt: u64) {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse::<u64>().ok());
    let seeds = match number("ANNALS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..RUNS * number("ANNALS_ROUNDS").unwrap_or(1),
    };
    for seed in seeds {
        let replay = Replay(seed);
        World::new(mix, seed << 8 | salt).run();
        std::mem::forget(replay);
    }
}

/// Says how to see a failure again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        eprintln!("replay with: ANNALS_SEED={} cargo test -p annals --lib {name}", self.0);
    }
}

#[test]
fn a_quiet_cluster_takes_everything_once_and_in_order() {
    run(Mix::QUIET, 1);
}

#[test]
fn through_crashes_elections_and_cut_links_each_append_is_taken_once() {
    run(Mix::ROUGH, 2);
}

#[test]
fn a_producer_that_is_forgotten_costs_no_record_and_repeats_none() {
    run(Mix { forgets: true, ..Mix::ROUGH }, 3);
}

#[test]
fn with_short_deadlines_an_error_says_what_is_true() {
    run(Mix { deadline_ms: 300, forgets: true, may_fail: true, ..Mix::ROUGH }, 4);
}

#[test]
fn appends_of_all_durabilities_keep_their_order() {
    run(Mix { weak: true, may_fail: true, ..Mix::ROUGH }, 5);
}
