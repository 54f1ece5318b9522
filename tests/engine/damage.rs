//! Stored bytes that change, and files that go, come, or change places.
//!
//! Whatever happens to a log that was acknowledged, an open either gives exactly that log or refuses it by
//! name and changes nothing. What nothing vouches for is the exception: the newest group of a log that was
//! killed, if no superblock and no later group was written since.

use std::collections::BTreeMap;
use std::sync::Arc;

use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, SimDisk, SimSnapshot};
use annals::{Durability, Error, Result};

use crate::support::author::Author;
use crate::support::ledger::{Ledger, Shown};
use crate::support::script::{Told, open};
use crate::support::seeds::{Cases, Chance};
use crate::support::small::options;

const SUPERBLOCK: &str = "superblock";
const SLOT_BYTES: u64 = 64 << 10;

/// A log with something of everything, and what it shows.
struct Stored {
    disk: SimDisk,
    ledger: Ledger,
    shown: Shown,
}

impl Stored {
    /// One segment, closed.
    fn small() -> Stored {
        Stored::closed(|author| {
            author.append_durable(20)?;
            author.append_batch(&[3, 0, 9])?;
            author.redeem_all()?;
            author.append_durable(0)?;
            author.mark(2, 30)?;
            author.append_durable(15)
        })
    }

    /// Some segments, closed.
    fn large() -> Stored {
        Stored::closed(|author| (0..80).try_for_each(|_| author.append_durable(3000)))
    }

    fn closed(write: impl FnOnce(&mut Author) -> Result<()>) -> Stored {
        let disk = SimDisk::new(1);
        let mut author = open(&options(), &disk, &Ledger::new()).unwrap();
        write(&mut author).unwrap();
        let shown = Shown::of(&author.log).unwrap();
        let (ledger, closed) = author.close();
        closed.unwrap();
        Stored { disk, ledger, shown }
    }

    /// The same, killed instead of closed.
    fn killed(write: impl FnOnce(&mut Author) -> Result<()>) -> Stored {
        let disk = SimDisk::new(1);
        let mut author = open(&options(), &disk, &Ledger::new()).unwrap();
        write(&mut author).unwrap();
        let shown = Shown::of(&author.log).unwrap();
        let ledger = author.ledger.clone();
        Stored { disk: disk.crash(CrashPolicy::LOSE_ALL), ledger, shown }
    }

    fn copy(&self) -> SimDisk {
        self.disk.crash(CrashPolicy::KEEP_ALL)
    }

    fn segments(&self) -> Vec<String> {
        let mut names = self.disk.list().unwrap();
        names.retain(|name| name.ends_with(".seg") && !name.starts_with("spare"));
        names.sort();
        names
    }

    /// Opens the log after `damage`: it shows what it did, or it is refused unchanged. Returns the refusal.
    #[track_caller]
    fn refused_or_whole(&self, what: &str, damage: impl FnOnce(&SimDisk)) -> Option<Error> {
        let disk = self.copy();
        damage(&disk);
        let before = disk.snapshot();
        let error = match options().open_with(Arc::new(disk.clone())) {
            Ok(log) => match Shown::of(&log) {
                Ok(shown) => {
                    assert!(shown == self.shown, "{what}: {shown:?} is not {:?}", self.shown);
                    return None;
                }
                // The records of a log that was closed cleanly are looked at when they are read.
                Err(error) => error,
            },
            Err(error) => {
                assert!(is_as(&disk, &before), "{what}: refused, but changed");
                error
            }
        };
        let named = matches!(
            error,
            Error::Rot { .. }
                | Error::Hole { .. }
                | Error::SuperblockDamaged
                | Error::ForeignFile { .. }
                | Error::NewerVersion { .. }
        );
        assert!(named, "{what}: {error}");
        Some(error)
    }
}

fn is_as(disk: &SimDisk, before: &SimSnapshot) -> bool {
    let then = SimDisk::new(0);
    then.restore(before);
    files(disk) == files(&then)
}

/// All files but the one that every attempt to open writes.
fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list().unwrap().into_iter().filter(|name| name != "LOCK");
    names.map(|name| (name.clone(), disk.contents(&name))).collect()
}

/// The places of a file that hold something, each with some bytes after it; and one in a while of the others.
fn places(disk: &SimDisk, name: &str) -> Vec<u64> {
    let bytes = disk.contents(name);
    let near =
        |at: usize| bytes[at.saturating_sub(4)..(at + 4).min(bytes.len())].iter().any(|byte| *byte != 0);
    (0..bytes.len()).filter(|at| near(*at) || at % 4099 == 0).map(|at| at as u64).collect()
}

#[test]
fn every_bit_of_a_small_closed_log_can_flip_without_a_wrong_record() {
    let stored = Stored::small();
    let names = [SUPERBLOCK.to_owned(), stored.segments().remove(0)];
    for name in names {
        for at in places(&stored.disk, &name) {
            for bit in 0..8 {
                let what = format!("bit {bit} of byte {at} of {name}");
                stored.refused_or_whole(&what, |disk| disk.flip_bit(&name, at, bit));
            }
        }
    }
}

#[test]
fn every_bit_of_a_killed_log_can_flip_without_a_wrong_record() {
    let mut stored = Stored::killed(|author| {
        author.append_durable(20)?;
        author.append_batch(&[3, 0, 9])?;
        author.redeem_all()?;
        author.append_durable(0)?;
        author.append_durable(15)
    });
    // Nothing may vouch for the last one.
    stored.ledger.doubt_after(stored.shown.last - 1);
    let name = stored.segments().first().cloned().unwrap();
    for at in places(&stored.disk, &name) {
        for bit in 0..8 {
            let disk = stored.copy();
            disk.flip_bit(&name, at, bit);
            let before = disk.snapshot();
            match options().open_with(Arc::new(disk.clone())) {
                Ok(log) => {
                    let checked = stored.ledger.check(&Shown::of(&log).unwrap());
                    checked.unwrap_or_else(|wrong| panic!("with bit {bit} of byte {at} flipped it {wrong}"));
                }
                Err(Error::Rot { .. } | Error::Hole { .. } | Error::NewerVersion { .. }) => {
                    assert!(is_as(&disk, &before), "refused, but changed");
                }
                Err(error) => panic!("bit {bit} of byte {at}: {error}"),
            }
        }
    }
}

/// Payloads that could be taken for padding, and payloads that could be taken for the log itself.
#[test]
fn payloads_of_zeros_and_of_the_logs_own_bytes_are_payloads() {
    let test = "payloads_of_zeros_and_of_the_logs_own_bytes_are_payloads";
    Cases { file: "damage", test, usual: 60 }.run(|seed| {
        let mut chance = Chance::new(seed);
        let disk = SimDisk::new(seed);
        let mut author = open(&options(), &disk, &Ledger::new()).unwrap();
        author.append_durable(100).unwrap();
        author.append_batch(&[50, 60]).unwrap();
        author.redeem_all().unwrap();
        disk.crash_after(6 + chance.below(20));
        let written = (|| {
            for _ in 0..12 {
                let stored = disk.contents("00000000000000000001.seg");
                let start = chance.below(3) as usize * 2048 + chance.pick(&[0, 32, 4000]);
                let bytes = match chance.below(3) {
                    0 => vec![0; chance.pick(&[1, 64, 4096, 9000])],
                    _ => stored[start..start + chance.pick(&[64, 3000, 8192])].to_vec(),
                };
                author.append_bytes(bytes)?;
                if chance.below(2) == 0 {
                    author.redeem_all()?;
                }
            }
            author.redeem_all()
        })();
        assert!(written.is_ok() || disk.is_off());
        let found = disk.crash(CrashPolicy::seeded(seed));
        let _told = Told(&found);
        open(&options(), &found, &author.part()).unwrap().close().1.unwrap();
    });
}

#[test]
fn a_tail_that_is_cut_anywhere_is_missed() {
    let stored = Stored::large();
    let tail = stored.segments().pop().unwrap();
    let bytes = stored.disk.contents(&tail).len() as u64;
    for left in (0..bytes).step_by(2048).chain([1, 4095, bytes - 1]) {
        let refusal =
            stored.refused_or_whole(&format!("cut to {left}"), |disk| disk.truncate_file(&tail, left));
        // What is behind the last record is not missed.
        assert!(refusal.is_some() || left > 8192, "cut to {left}");
    }
}

#[test]
fn a_segment_that_is_gone_is_missed_whichever_it_is() {
    let stored = Stored::large();
    let names = stored.segments();
    assert!(names.len() >= 4);
    for name in &names {
        let refusal = stored.refused_or_whole(&format!("without {name}"), |disk| disk.delete(name));
        assert!(matches!(refusal, Some(Error::Hole { .. })), "{name}: {refusal:?}");
    }
    let all = stored.refused_or_whole("without any", |disk| names.iter().for_each(|name| disk.delete(name)));
    assert!(matches!(all, Some(Error::Hole { .. })), "{all:?}");
}

#[test]
fn one_slot_of_the_superblock_can_go_but_not_both_and_not_the_file() {
    let stored = Stored::small();
    let zeros = vec![0; SLOT_BYTES as usize];
    for slot in [0, SLOT_BYTES] {
        let refusal = stored.refused_or_whole("one slot", |disk| disk.overwrite(SUPERBLOCK, slot, &zeros));
        assert!(refusal.is_none(), "{refusal:?}");
    }
    let both = stored.refused_or_whole("both slots", |disk| {
        disk.overwrite(SUPERBLOCK, 0, &zeros);
        disk.overwrite(SUPERBLOCK, SLOT_BYTES, &zeros);
    });
    assert!(matches!(both, Some(Error::SuperblockDamaged)), "{both:?}");
    let gone = stored.refused_or_whole("no superblock", |disk| disk.delete(SUPERBLOCK));
    assert!(matches!(gone, Some(Error::SuperblockDamaged)), "{gone:?}");
}

#[test]
fn a_mark_and_a_trim_survive_the_loss_of_either_slot_right_after() {
    let zeros = vec![0; SLOT_BYTES as usize];
    let stored = Stored::killed(|author| {
        (0..40).try_for_each(|_| author.append_durable(3000))?;
        author.mark(30, 100)?;
        author.trim(25)
    });
    let marked = Stored::killed(|author| {
        author.append_durable(10)?;
        author.mark(1, 100)
    });
    for (stored, slot) in [(&stored, 0), (&stored, SLOT_BYTES), (&marked, 0), (&marked, SLOT_BYTES)] {
        let refusal = stored.refused_or_whole("one slot", |disk| disk.overwrite(SUPERBLOCK, slot, &zeros));
        assert!(refusal.is_none(), "{refusal:?}");
    }
}

#[test]
fn segments_that_change_places_or_appear_twice_are_noticed() {
    let stored = Stored::large();
    let names = stored.segments();
    for one in &names {
        for other in names.iter().filter(|other| *other > one) {
            let refusal = stored.refused_or_whole("swapped", |disk| disk.swap(one, other));
            assert!(refusal.is_some(), "{one} and {other}");
            let refusal = stored.refused_or_whole("doubled", |disk| disk.copy_from(disk, one, other));
            assert!(refusal.is_some(), "{one} over {other}");
        }
        for copy in ["00000000000000000002.seg", "00000000000000009999.seg"] {
            let refusal = stored.refused_or_whole("a copy", |disk| disk.copy_from(disk, one, copy));
            assert!(refusal.is_some(), "{one} as {copy}");
        }
        stored.refused_or_whole("a copy as a spare", |disk| disk.copy_from(disk, one, "spare-000900.seg"));
    }
}

#[test]
fn a_segment_of_another_log_is_named_as_foreign() {
    let stored = Stored::large();
    let other = SimDisk::new(77);
    let mut author = open(&options(), &other, &Ledger::new()).unwrap();
    (0..80).try_for_each(|_| author.append_durable(3000)).unwrap();
    author.close().1.unwrap();
    for name in stored.segments() {
        let refusal = stored.refused_or_whole("foreign", |disk| disk.copy_from(&other, &name, &name));
        assert!(matches!(refusal, Some(Error::ForeignFile { .. })), "{name}: {refusal:?}");
    }
}

/// A whole directory put back is the log as it was then: nothing in it can tell that there was a later one.
/// A mixture of then and now is noticed.
#[test]
fn an_old_copy_of_a_directory_is_the_old_log_and_a_mixture_is_noticed() {
    let stored = Stored::large();
    let disk = stored.copy();
    let mut author = open(&options(), &disk, &stored.ledger).unwrap();
    for _ in 0..40 {
        author.append(3000, Durability::Durable).unwrap();
    }
    author.redeem_all().unwrap();
    let (ledger, closed) = author.close();
    closed.unwrap();
    let mut later = Stored { disk, ledger, shown: stored.shown.clone() };
    let log = options().open_with(Arc::new(later.copy())).unwrap();
    later.shown = Shown::of(&log).unwrap();

    let back = later.copy();
    back.restore(&stored.disk.snapshot());
    let log = options().open_with(Arc::new(back)).unwrap();
    assert!(Shown::of(&log).unwrap() == stored.shown);

    let tail = stored.segments().pop().unwrap();
    let old_tail = later.refused_or_whole("an old tail", |disk| disk.copy_from(&stored.disk, &tail, &tail));
    assert!(old_tail.is_some());
    let segments = later.refused_or_whole("old segments, new superblock", |disk| {
        later.segments().iter().for_each(|name| disk.delete(name));
        stored.segments().iter().for_each(|name| disk.copy_from(&stored.disk, name, name));
    });
    assert!(matches!(segments, Some(Error::Hole { .. } | Error::Rot { .. })), "{segments:?}");
    let old = later.refused_or_whole("an old superblock", |disk| {
        disk.copy_from(&stored.disk, SUPERBLOCK, SUPERBLOCK);
    });
    assert!(old.is_none(), "the segments themselves tell how far the log goes: {old:?}");
}
