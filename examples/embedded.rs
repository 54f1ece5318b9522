//! A key-value store that keeps its entries in memory, and recovers them from the log when it is opened.
//!
//! Every change is a record: `key TAB value`, or the bare key where it is removed. A checkpoint stores all
//! entries as the log's mark and trims the records that the mark has made superfluous. Run it twice and it
//! counts on:
//!
//! ```text
//! cargo run --example embedded -- some-directory
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use annals::{Log, LogOptions, Lsn, Result};

/// Changes after which the next one makes a checkpoint.
const CHANGES_BETWEEN_CHECKPOINTS: usize = 100;

struct Store {
    log: Log,
    entries: BTreeMap<String, String>,
    changes_since_checkpoint: usize,
}

impl Store {
    /// Opens the store in `dir`: the entries of the last checkpoint, then every change after it.
    fn open(dir: &Path) -> Result<Store> {
        let log = LogOptions::new(dir).open()?;
        let mut entries = BTreeMap::new();
        let mut from = Lsn::FIRST;
        if let Some(mark) = log.mark() {
            String::from_utf8_lossy(&mark.bytes).lines().for_each(|line| apply(&mut entries, line));
            from = mark.lsn.next();
        }
        let mut changes_since_checkpoint = 0;
        let mut changes = log.cursor(from..)?;
        while let Some(change) = changes.next()? {
            apply(&mut entries, &String::from_utf8_lossy(&change));
            changes_since_checkpoint += 1;
        }
        Ok(Store { log, entries, changes_since_checkpoint })
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    /// Sets `key`, durably when this returns; neither holds a tab or an end of line.
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        self.change(&format!("{key}\t{value}"))
    }

    /// Removes `key`, durably when this returns.
    fn remove(&mut self, key: &str) -> Result<()> {
        self.change(key)
    }

    /// Makes a change durable before it is seen: what was once read is never lost again.
    fn change(&mut self, change: &str) -> Result<()> {
        let receipt = self.log.append_durable(change.as_bytes())?;
        apply(&mut self.entries, change);
        self.changes_since_checkpoint += 1;
        if self.changes_since_checkpoint >= CHANGES_BETWEEN_CHECKPOINTS {
            self.checkpoint(receipt.lsn())?;
        }
        Ok(())
    }

    /// Stores the entries as of `lsn` and forgets the records up to it.
    ///
    /// The mark comes first: a crash between the two leaves records that open skips. A mark is for a few
    /// kilobytes; a larger store writes its entries to a file, syncs it, and puts the file's name there.
    fn checkpoint(&mut self, lsn: Lsn) -> Result<()> {
        let lines: Vec<String> = self.entries.iter().map(|(key, value)| format!("{key}\t{value}")).collect();
        self.log.set_mark(lsn, lines.join("\n").as_bytes())?;
        self.log.trim(lsn.next())?;
        self.changes_since_checkpoint = 0;
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.log.close()
    }
}

fn apply(entries: &mut BTreeMap<String, String>, change: &str) {
    match change.split_once('\t') {
        Some((key, value)) => entries.insert(key.to_owned(), value.to_owned()),
        None => entries.remove(change),
    };
}

fn main() -> Result<()> {
    let dir = std::env::args_os()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("annals-embedded"), PathBuf::from);
    let mut store = Store::open(&dir)?;
    let runs: u64 = store.value("runs").and_then(|runs| runs.parse().ok()).unwrap_or(0);

    store.set("runs", &(runs + 1).to_string())?;
    for lamp in 0..60 {
        store.set(&format!("lamp {lamp}"), "on")?;
    }
    store.remove("lamp 0")?;

    println!(
        "run {} on {}: {} entries, records up to {}",
        runs + 1,
        dir.display(),
        store.entries.len(),
        store.log.last_lsn()
    );
    store.close()
}
