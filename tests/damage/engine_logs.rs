//! Logs that the engine wrote itself: killed in the middle of whatever it did, put back from old copies, and damaged.

use std::sync::Arc;

use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::format::{Chosen, SegmentHeader, choose_slot};
use annals::{Log, LogOptions, Lsn, Result};

use crate::anatomy::Anatomy;
use crate::directory::{Directory, SUPERBLOCK};
use crate::harm::{ALL, Harm, Patient};
use crate::seeds::{Cases, Chance};
use crate::trial::{Records, Trial, look, options};
use crate::truth::Truth;

/// Somebody who writes, trims, truncates, marks and reopens a log, and remembers every record.
struct Writer {
    disk: SimDisk,
    chance: Chance,
    options: LogOptions,
    records: Records,
    /// The directory as it was at some moments, when all was synced, with the records of then.
    copies: Vec<(Directory, Records)>,
}

impl Writer {
    fn new(seed: u64) -> Writer {
        let mut chance = Chance::new(seed);
        let options = options()
            .depth(chance.pick(&[1, 2, 4]) as usize)
            .recycle(chance.below(4) > 0)
            .record_bytes_max(256 << 10)
            .strict_blocks(chance.below(4) == 0);
        Writer { disk: SimDisk::new(seed), chance, options, records: Records::new(), copies: vec![] }
    }

    /// Some lives, the last of which may end before it is closed.
    fn write(&mut self, lives: u64) -> Result<()> {
        for _ in 0..lives {
            let log = self.options.clone().open_with(Arc::new(self.disk.clone()))?;
            // What was never acknowledged may be gone.
            self.records.split_off(&(log.last_lsn().get() + 1));
            for _ in 0..self.chance.between(3, 25) {
                self.act(&log)?;
            }
            log.sync()?;
            self.copy();
            if self.chance.below(3) > 0 {
                log.close()?;
                self.copy();
            }
        }
        Ok(())
    }

    fn copy(&mut self) {
        let files = Directory::of(&self.disk.crash(CrashPolicy::LOSE_ALL));
        self.copies.push((files, self.records.clone()));
    }

    fn act(&mut self, log: &Log) -> Result<()> {
        let last = log.last_lsn().get();
        match self.chance.below(14) {
            0 if last > 0 => log.trim(Lsn::new(self.chance.between(log.first_lsn().get().min(last), last))),
            1 if last > log.first_lsn().get() => {
                log.sync()?;
                let after = self.chance.between(log.first_lsn().get(), log.last_lsn().get());
                match log.truncate(Lsn::new(after)) {
                    Err(annals::Error::InsideBatch { .. }) => return Ok(()),
                    done => done?,
                }
                self.records.split_off(&(after + 1));
                Ok(())
            }
            2 if last > 0 => log.set_mark(Lsn::new(last), &self.chance.payload(50)),
            3 | 4 => {
                let count = self.chance.between(1, 4);
                let batch: Vec<Vec<u8>> = (0..count).map(|_| self.payload()).collect();
                let ticket = log.append_batch(&batch)?;
                for (lsn, record) in (ticket.lsn().get()..).zip(batch) {
                    self.records.insert(lsn, Some(record));
                }
                Ok(())
            }
            5 => {
                let record = vec![3; 80 << 10];
                let ticket = log.append(&record)?;
                self.records.insert(ticket.lsn().get(), Some(record));
                Ok(())
            }
            kind => {
                let record = self.payload();
                let ticket = log.append(&record)?;
                self.records.insert(ticket.lsn().get(), Some(record));
                if kind < 10 { ticket.wait().map(drop) } else { Ok(()) }
            }
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let bytes = self.chance.pick(&[0, 8, 100, 3000, 9000]);
        self.chance.payload(bytes)
    }
}

/// A log that was written, and then killed, closed or just left.
fn written(seed: u64) -> Writer {
    let mut writer = Writer::new(seed);
    if writer.chance.below(2) == 0 {
        writer.disk.crash_after(40 + writer.chance.below(200));
    }
    let lives = writer.chance.between(1, 4);
    let ended = writer.write(lives);
    assert!(ended.is_ok() || writer.disk.is_off(), "{ended:?}");
    writer
}

/// The directory that a loss of power leaves; nothing, if not even the superblock was there.
fn killed(writer: &Writer, seed: u64) -> Option<Directory> {
    let files = Directory::of(&writer.disk.crash(CrashPolicy::seeded(seed)));
    files.bytes(SUPERBLOCK).is_some().then_some(files)
}

fn damage(seed: u64, files: &Directory, anatomy: &Anatomy, foreign: &[u8]) -> (Directory, String) {
    let mut chance = Chance::new(seed);
    let mut damaged = files.clone();
    let harms: Vec<Harm> = (0..chance.between(1, 2)).map(|_| chance.pick(&ALL)).collect();
    let mut patient = Patient { files: &mut damaged, anatomy, foreign };
    let done: Vec<String> = harms.iter().filter_map(|harm| harm.strike(&mut chance, &mut patient)).collect();
    (damaged, done.join(" and "))
}

/// Whatever a loss of power leaves, nothing acknowledged is lost, and looking says what an open will find.
#[test]
fn a_killed_log_has_lost_nothing_and_is_judged_as_an_open_does() {
    let test = "a_killed_log_has_lost_nothing_and_is_judged_as_an_open_does";
    Cases { file: "engine_logs", test, usual: 40 }.run(|seed| {
        let writer = written(seed);
        for crash in 0..4 {
            let Some(files) = killed(&writer, seed + crash) else { continue };
            let truth = Truth { is_touched: true, ..Truth::default() };
            let what = format!("log {seed} of the engine, crash {crash}");
            let trial = Trial { what, files: &files, records: &writer.records, truth: &truth };
            trial.run();
        }
    });
}

#[test]
fn damage_to_a_log_that_the_engine_wrote_is_reported_as_it_was_done() {
    let test = "damage_to_a_log_that_the_engine_wrote_is_reported_as_it_was_done";
    Cases { file: "engine_logs", test, usual: 80 }.run(|seed| {
        let writer = written(seed);
        let Some(files) = killed(&writer, seed) else { return };
        let other = written(seed ^ 0xF0F0);
        let foreign = Directory::of(&other.disk.crash(CrashPolicy::LOSE_ALL));
        let foreign =
            foreign.0.iter().find(|(name, _)| name.starts_with("00")).map(|(_, bytes)| bytes.clone());
        let anatomy = Anatomy::of(&files);
        // How far a truncation went, only the superblock tells.
        let is_being_cut = anatomy.segments.iter().any(|segment| segment.is_being_cut);
        let is_fit = !anatomy.segments.is_empty() && !is_being_cut;
        let Some(foreign) = foreign.filter(|_| is_fit) else { return };
        let (damaged, done) = damage(seed, &files, &anatomy, &foreign);
        // What the loss of power has left may be damaged already: a slot, or a footer, torn.
        let mut truth = Truth { is_touched: true, ..Truth::of(&anatomy, &files, &damaged) };
        truth.units.clear();
        let what = format!("log {seed} of the engine, with {done}");
        Trial { what, files: &damaged, records: &writer.records, truth: &truth }.run();
    });
}

/// What there is to be found in a mixture of a log of now and one of then. A segment that was cut may be another life
/// of its file by now, and the former one is a sound segment: it counts as it is, with the records of then, and what it
/// lacks is lost.
fn truth_of_mixture(
    (new, new_records): (&Directory, &Records),
    (old, old_records): (&Directory, &Records),
    mixture: &Directory,
) -> (Truth, Records) {
    let header = |files: &Directory, name: &String| SegmentHeader::decode(files.bytes(name).unwrap()).ok();
    let is_other_life = |name: &&String| {
        let is_there = !name.starts_with("spare") && mixture.0.contains_key(*name);
        is_there && header(mixture, name).is_some_and(|then| header(new, name) != Some(then))
    };
    let (mut before, mut records) = (new.clone(), new_records.clone());
    let mut others = vec![];
    for name in new.segments().iter().filter(is_other_life) {
        before.0.insert(name.clone(), old.0[name].clone());
        others.push(name.clone());
    }
    let anatomy = Anatomy::of(&before);
    let mut truth = Truth { is_touched: true, ..Truth::of(&anatomy, &before, mixture) };
    for (number, segment) in anatomy.segments.iter().enumerate() {
        if !others.contains(&segment.name) {
            continue;
        }
        // Nothing in it was changed, and how much of it counts depends on the others.
        truth.units.remove(&segment.name);
        truth.damaged.retain(|(name, _)| *name != segment.name);
        let (first, last) = (segment.header.first_lsn.get(), segment.last.get());
        records.extend((first..=last).filter_map(|lsn| Some((lsn, old_records.get(&lsn)?.clone()))));
        let next = anatomy.segments.get(number + 1).map(|next| next.header.first_lsn.get() - 1);
        let end = next.unwrap_or_else(|| vouched(mixture));
        // One that ends where it has to ends otherwise than the next one says, unless that is of then too.
        let is_of_then = anatomy.segments.get(number + 1).is_some_and(|next| {
            old.bytes(&next.name).and_then(|bytes| SegmentHeader::decode(bytes).ok()) == Some(next.header)
        });
        let from = if next == Some(last) && !is_of_then { first } else { last + 1 };
        truth.lost.extend(from.max(truth.first.unwrap_or(1))..=end);
    }
    truth.is_ambiguous |= has_two_histories(new, mixture);
    (truth, records)
}

/// Whether two files claim to be the same segment, or one that was begun once would follow the newest: which of them
/// counts, nothing but the time tells.
fn has_two_histories(new: &Directory, mixture: &Directory) -> bool {
    let header = |files: &Directory, name: &String| SegmentHeader::decode(files.bytes(name).unwrap()).ok();
    let (spares, named): (Vec<_>, Vec<_>) =
        mixture.segments().into_iter().partition(|name| name.starts_with("spare"));
    let mut ids: Vec<_> = named.iter().filter_map(|name| Some(header(mixture, name)?.segment_id)).collect();
    ids.sort();
    let newest = ids.last().copied();
    let is_of_then = |name: &&String| header(mixture, name) != header(new, name);
    let mut begun = spares.iter().filter(is_of_then).filter_map(|name| header(mixture, name));
    ids.windows(2).any(|pair| pair[0] == pair[1]) || begun.any(|spare| Some(spare.segment_id) > newest)
}

/// The newest record that the superblock vouches for.
fn vouched(files: &Directory) -> u64 {
    let Chosen { superblock, other_is_sound } = choose_slot(files.bytes(SUPERBLOCK).unwrap()).unwrap();
    let clean = superblock.clean_tail.filter(|_| other_is_sound).map_or(0, |tail| tail.last_lsn.get());
    superblock.durable.get().max(clean).max(superblock.first_lsn.get() - 1)
}

/// A whole directory put back is the log as it was then; a mixture of then and now is told.
#[test]
fn an_old_copy_is_the_old_log_and_a_mixture_is_told() {
    let test = "an_old_copy_is_the_old_log_and_a_mixture_is_told";
    Cases { file: "engine_logs", test, usual: 30 }.run(|seed| {
        let writer = written(seed);
        for (old, records) in &writer.copies {
            let truth = Truth { is_touched: true, ..Truth::default() };
            let what = format!("log {seed} of the engine, as of some time ago");
            let trial = Trial { what, files: old, records, truth: &truth };
            trial.run();
        }
        let (Some((old, old_records)), Some((new, records))) = (writer.copies.first(), writer.copies.last())
        else {
            return;
        };
        let mut segments = new.clone();
        for name in old.segments().iter().filter(|name| new.0.contains_key(*name)) {
            segments.0.insert(name.clone(), old.0[name].clone());
        }
        let mut superblock = new.clone();
        superblock.0.insert(SUPERBLOCK.to_owned(), old.0[SUPERBLOCK].clone());
        for (mixture, how) in [(segments, "old segments"), (superblock, "an old superblock")] {
            let (truth, records) = truth_of_mixture((new, records), (old, old_records), &mixture);
            let what = format!("log {seed} of the engine, with {how}");
            Trial { what, files: &mixture, records: &records, truth: &truth }.run();
        }
    });
}

#[test]
fn a_log_that_was_closed_is_whole() {
    let test = "a_log_that_was_closed_is_whole";
    Cases { file: "engine_logs", test, usual: 20 }.run(|seed| {
        let mut writer = Writer::new(seed);
        writer.write(2).unwrap();
        let log = writer.options.clone().open_with(Arc::new(writer.disk.clone())).unwrap();
        log.close().unwrap();
        let report = look(&Directory::of(&writer.disk).disk(0), 2).unwrap();
        assert!(report.is_whole(), "{report:#?}");
        assert_eq!(report.last_lsn.get(), writer.records.keys().last().copied().unwrap_or(0));
    });
}
