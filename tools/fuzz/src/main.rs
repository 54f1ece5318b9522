//! Runs seeded mutations on a stable toolchain.
//!
//! `cargo run -p annals-fuzz -- [--target NAME] [--seed N] [--rounds N | --secs N | --input FILE | --seeds DIR]`: all
//! targets unless one is named, each with its corpus first; with `--secs`, for that long and from a seed that the clock
//! gives. `--input` is one input and nothing else, and `--seeds` writes what mutations begin with, for a fuzzer.

use annals_fuzz::{TARGETS, Target, replay_corpus, run, seeds};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at the clock.
const BURST: u64 = 1000;

struct Arguments {
    target: Option<String>,
    seed: Option<u64>,
    rounds: u64,
    duration: Option<Duration>,
    input: Option<PathBuf>,
    seeds: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!(
            "usage: annals-fuzz [--target NAME] [--seed N] [--rounds N | --secs N | --input FILE | --seeds DIR]"
        );
        return ExitCode::FAILURE;
    };
    let named = |target: &&Target| arguments.target.as_ref().is_none_or(|name| *name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(named).collect();
    if targets.is_empty() {
        eprintln!("the targets are {}", TARGETS.map(|target| target.name).join(", "));
        return ExitCode::FAILURE;
    }
    if arguments.input.is_some() || arguments.seeds.is_some() {
        return match with_files(&arguments, &targets) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    for target in &targets {
        println!("{}: {} inputs of the corpus", target.name, replay_corpus(target));
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

/// Tries one input on all targets, or writes their seeds.
fn with_files(arguments: &Arguments, targets: &[&Target]) -> io::Result<()> {
    if let Some(input) = &arguments.input {
        let bytes = fs::read(input)?;
        targets.iter().for_each(|target| (target.check)(&bytes));
    }
    let Some(dir) = &arguments.seeds else { return Ok(()) };
    targets.iter().try_for_each(|target| write_seeds(target, &dir.join(target.name)))
}

fn write_seeds(target: &Target, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    seeds(target).iter().zip(1..).try_for_each(|(bytes, number)| {
        let number: u32 = number;
        fs::write(dir.join(format!("seed-{number:03}")), bytes)
    })
}

fn parse(mut given: impl Iterator<Item = String>) -> Option<Arguments> {
    let (target, seed, duration, input, seeds) = (None, None, None, None, None);
    let mut arguments = Arguments { target, seed, rounds: 100 * BURST, duration, input, seeds };
    while let Some(name) = given.next() {
        let value = given.next()?;
        match name.as_str() {
            "--target" => arguments.target = Some(value),
            "--seed" => arguments.seed = Some(value.parse().ok()?),
            "--rounds" => arguments.rounds = value.parse().ok()?,
            "--secs" => arguments.duration = Some(Duration::from_secs(value.parse().ok()?)),
            "--input" => arguments.input = Some(value.into()),
            "--seeds" => arguments.seeds = Some(value.into()),
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
