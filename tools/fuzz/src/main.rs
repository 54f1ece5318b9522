//! Runs seeded mutations on a stable toolchain: `cargo run -p annals-fuzz -- [target [seed [rounds]]]`.
//!
//! Without a target, all of them run.

use annals_fuzz::{TARGETS, run};
use std::process::ExitCode;

const ROUNDS: u64 = 100_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next();
    let mut number = |default| arguments.next().map_or(Ok(default), |given| given.parse());
    let (Ok(seed), Ok(rounds)) = (number(0), number(ROUNDS)) else {
        eprintln!("usage: annals-fuzz [frame|segment|superblock [seed [rounds]]]");
        return ExitCode::FAILURE;
    };
    let mut known = false;
    for target in TARGETS.iter().filter(|target| name.as_ref().is_none_or(|name| *name == target.name)) {
        known = true;
        println!("{}: {rounds} rounds from seed {seed}", target.name);
        run(target, seed, rounds);
    }
    if known {
        ExitCode::SUCCESS
    } else {
        eprintln!("no such target: {}", name.unwrap_or_default());
        ExitCode::FAILURE
    }
}
