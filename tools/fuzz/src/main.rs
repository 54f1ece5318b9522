//! Runs seeded mutations on a stable toolchain.
//!
//! `cargo run -p annals-fuzz -- [--target NAME] [--seed N] [--rounds N | --secs N]`: all targets unless one is
//! named; with `--secs`, for that long and from a seed that the clock gives.

use annals_fuzz::{TARGETS, Target, run};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at the clock.
const BURST: u64 = 1000;

struct Arguments {
    target: Option<String>,
    seed: Option<u64>,
    rounds: u64,
    duration: Option<Duration>,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("usage: annals-fuzz [--target NAME] [--seed N] [--rounds N | --secs N]");
        return ExitCode::FAILURE;
    };
    let named = |target: &&Target| arguments.target.as_ref().is_none_or(|name| *name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(named).collect();
    if targets.is_empty() {
        eprintln!("the targets are {}", TARGETS.map(|target| target.name).join(", "));
        return ExitCode::FAILURE;
    }
    let Some(duration) = arguments.duration else {
        let seed = arguments.seed.unwrap_or(0);
        targets.iter().for_each(|target| run(target, seed, arguments.rounds));
        return ExitCode::SUCCESS;
    };
    let started = Instant::now();
    let mut seed = arguments.seed.unwrap_or_else(seed_of_now);
    println!("from seed {seed}");
    while started.elapsed() < duration {
        targets.iter().for_each(|target| run(target, seed, BURST));
        seed = seed.wrapping_add(BURST);
    }
    println!("up to seed {seed}: nothing found");
    ExitCode::SUCCESS
}

fn parse(mut given: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { target: None, seed: None, rounds: 100 * BURST, duration: None };
    while let Some(name) = given.next() {
        let value = given.next()?;
        match name.as_str() {
            "--target" => arguments.target = Some(value),
            "--seed" => arguments.seed = Some(value.parse().ok()?),
            "--rounds" => arguments.rounds = value.parse().ok()?,
            "--secs" => arguments.duration = Some(Duration::from_secs(value.parse().ok()?)),
            _ => return None,
        }
    }
    Some(arguments)
}

/// A seed that no run had before; the run prints it.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() << 24
}
