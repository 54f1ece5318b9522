//! Seeds: where a test's cases come from, and how one of them is played again.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Longer than any case takes on a slow and busy machine, and than any wait in one; only ends a hang.
const HANG: Duration = Duration::from_secs(900);

/// Which cases of a test to run.
pub(crate) struct Cases {
    /// The module that the test is in.
    pub(crate) file: &'static str,
    /// The test's name.
    pub(crate) test: &'static str,
    /// How many cases run when the environment does not say otherwise.
    pub(crate) usual: u64,
}

impl Cases {
    /// Runs `case` for each seed from 0: as many as are usual, times `ANNALS_ROUNDS`; or for `ANNALS_SEED` only.
    ///
    /// A case that panics or hangs tells the command that plays it again.
    pub(crate) fn run(&self, case: impl Fn(u64)) {
        let seeds = match variable("ANNALS_SEED") {
            Some(seed) => seed..seed + 1,
            None => 0..self.usual * rounds(),
        };
        for seed in seeds {
            let Cases { file, test, .. } = self;
            let suite = env!("CARGO_CRATE_NAME");
            let command = format!("ANNALS_SEED={seed} cargo test --test {suite} -- --exact {file}::{test}");
            let watched = Watched::new(command);
            case(seed);
            drop(watched);
        }
    }
}

/// How many times more than usual is to be tried.
pub(crate) fn rounds() -> u64 {
    variable("ANNALS_ROUNDS").unwrap_or(1)
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A case that runs: says how to play it again if it panics, and ends the process if it hangs.
struct Watched {
    command: String,
    _done: mpsc::Sender<()>,
}

impl Watched {
    fn new(command: String) -> Watched {
        let (done, is_done) = mpsc::channel();
        let hung = format!("the case hangs; play it again with\n    {command}");
        std::thread::spawn(move || {
            // The sender is dropped when the case has ended.
            if is_done.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
                // Not the macro, whose output is kept for a report that never comes.
                let _ = writeln!(std::io::stderr(), "{hung}");
                std::process::abort();
            }
        });
        Watched { command, _done: done }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("play it again with\n    {}", self.command);
        }
    }
}

/// A generator of pseudo-random numbers: splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number of the range, both ends included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
