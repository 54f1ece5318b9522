//! A script that a log is run through: everything it does, in a few hundred disk operations.

use std::sync::Arc;

use annals::disk::sim::SimDisk;
use annals::{Durability, LogOptions, Result, WriteMethod, ZeroFill};

use super::author::Author;
use super::ledger::Ledger;
use super::seeds::Chance;

/// Small segments, so that little makes them roll.
pub(crate) fn options(chance: &mut Chance) -> LogOptions {
    LogOptions::new("simulated")
        .segment_bytes(64 << 10)
        .group_bytes(chance.pick(&[4 << 10, 8 << 10]))
        .record_bytes_max(256 << 10)
        .in_flight_bytes_max(64 << 10)
        .depth(chance.pick(&[1, 2, 4]))
        .write_method(chance.pick(&WriteMethod::ALL))
        .recycle(chance.below(4) > 0)
        .zero_fill(chance.pick(&[ZeroFill::Adaptive, ZeroFill::Never]))
        .strict_blocks(chance.below(4) == 0)
}

pub(crate) fn open(options: &LogOptions, disk: &SimDisk, ledger: &Ledger) -> Result<Author> {
    Author::open(options.clone(), Some(Arc::new(disk.clone())), ledger)
}

/// One life of a log: from when it is open until it is closed.
type Life = fn(&mut Author) -> Result<()>;

const LIVES: [Life; 3] = [grow, shrink, go_on];

/// Segments, batches, an oversized record, a mark.
fn grow(author: &mut Author) -> Result<()> {
    author.append_durable(100)?;
    author.append_batch(&[10, 0, 3000])?;
    author.append(900, Durability::Buffered)?;
    author.sync()?;
    author.mark(3, 500)?;
    for round in 0..6 {
        author.append(5000 + round * 500, Durability::Durable)?;
        author.append_batch(&[2000, 1, 4000])?;
        author.append(0, Durability::Durable)?;
        author.redeem_oldest(2)?;
    }
    author.append(90 << 10, Durability::Durable)?;
    author.append_durable(4096)?;
    for _ in 0..4 {
        author.append_durable(7000)?;
    }
    author.redeem_all()
}

/// Trims, grows into what was recycled, marks and truncates.
fn shrink(author: &mut Author) -> Result<()> {
    let first = author.ledger.first();
    author.append_durable(300)?;
    author.trim(first + 20)?;
    author.mark(first + 20, 9000)?;
    for _ in 0..9 {
        author.append_batch(&[3000, 3000])?;
        author.append_durable(2000)?;
    }
    // The superblock vouches for all that is there when the newest of it goes.
    author.redeem_all()?;
    author.mark(author.ledger.last(), 100)?;
    author.truncate(batch_end(author, 11))?;
    author.append_durable(700)?;
    author.trim(author.ledger.last() - 9)?;
    for _ in 0..5 {
        author.append(6000, Durability::Buffered)?;
        author.append_durable(1)?;
    }
    author.truncate(batch_end(author, 1))?;
    author.append_batch(&[40, 50])?;
    author.redeem_all()
}

/// Another segment, and an end without waiting.
fn go_on(author: &mut Author) -> Result<()> {
    for _ in 0..5 {
        author.append_durable(6000)?;
    }
    author.trim(author.ledger.last())?;
    author.append(100, Durability::Durable)?;
    author.forget_tickets();
    author.append(100, Durability::Buffered)
}

/// The end of the batch that is `back` records before the last.
fn batch_end(author: &Author, back: u64) -> u64 {
    let lsn = author.ledger.last() - back;
    author.ledger.batch(lsn).expect("retained").1
}

/// Runs the script until it ends or the power does, and returns the account of it.
pub(crate) fn play(options: &LogOptions, disk: &SimDisk) -> (Ledger, Result<()>) {
    let mut ledger = Ledger::new();
    for life in LIVES {
        let mut author = match open(options, disk, &ledger) {
            Ok(author) => author,
            Err(error) => return (ledger, Err(error)),
        };
        if let Err(error) = life(&mut author) {
            return (author.part(), Err(error));
        }
        let (account, closed) = author.close();
        ledger = account;
        if closed.is_err() {
            return (ledger, closed);
        }
    }
    (ledger, Ok(()))
}

/// Prints what the disk did last if the test fails here.
pub(crate) struct Told<'a>(pub(crate) &'a SimDisk);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = self.0.trace();
            let lines: Vec<_> = trace.lines().rev().take(60).collect();
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
