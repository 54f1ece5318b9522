//! What coverage-guided runs have found: the smallest inputs that reach what the seeds do not, and each that once
//! broke something.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use crate::Target;

/// The corpus of the target with this name, each input with its path, in the order of the names.
///
/// # Panics
/// If it cannot be read.
pub(crate) fn of(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let paths = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = paths.map(|entry| entry.expect("a directory that can be read").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Gives the corpus of `target` to it; on a failure, says with what. How many inputs that were.
///
/// # Panics
/// If something does not hold, or the corpus cannot be read.
pub fn replay_corpus(target: &Target) -> usize {
    let corpus = of(target.name);
    for (path, bytes) in &corpus {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.check)(bytes))) {
            eprintln!(
                "replay with: cargo run -p annals-fuzz -- --target {} --input {}",
                target.name,
                path.display()
            );
            resume_unwind(panic);
        }
    }
    corpus.len()
}
