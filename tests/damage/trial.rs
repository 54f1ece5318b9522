//! What has to hold of a damaged log, whatever the damage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::format::all_zero;
use annals::repair::{
    Dump, Dumped, Opening, Plan, Report, Silent, Stretch, StretchKind, plan, repair, salvage, undo, verify,
};
use annals::{Error, Log, LogOptions, Lsn, LsnRange, WriteMethod};

use crate::directory::{Directory, SUPERBLOCK};
use crate::small;
use crate::truth::{Truth, numbers};

/// What was written, by LSN; nothing for the start of an epoch.
pub(crate) type Records = BTreeMap<u64, Option<Vec<u8>>>;

/// A damaged log, and what is known of it.
pub(crate) struct Trial<'a> {
    /// What was done to it.
    pub(crate) what: String,
    pub(crate) files: &'a Directory,
    pub(crate) records: &'a Records,
    pub(crate) truth: &'a Truth,
}

/// How the log is opened by the engine.
pub(crate) fn options() -> LogOptions {
    small::options().write_method(WriteMethod::Buffered)
}

pub(crate) fn open(disk: &SimDisk) -> annals::Result<Log> {
    options().open_with(Arc::new(disk.clone()))
}

/// Looks at every byte; nothing may change.
pub(crate) fn look(disk: &SimDisk, threads: usize) -> annals::Result<Report> {
    let (before, operations) = (Directory::of(disk), disk.operations());
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = verify(&shared, threads, &Silent);
    assert_eq!(disk.operations(), operations, "looking changes nothing");
    assert!(Directory::of(disk) == before, "looking changes nothing");
    report
}

impl Trial<'_> {
    /// All of it.
    pub(crate) fn run(&self) {
        if let Some(report) = self.run_looking() {
            self.check_repair(&report);
            self.check_salvage(&report);
        }
    }

    /// All that changes nothing. Nothing is asked of a directory in which nothing of a log is left.
    pub(crate) fn run_looking(&self) -> Option<Report> {
        if self.files.bytes(SUPERBLOCK).is_none() && self.files.segments().is_empty() {
            return None;
        }
        let disk = self.files.disk(1);
        let report = look(&disk, 2).unwrap_or_else(|error| panic!("{self}: cannot be looked at: {error}"));
        if self.truth.is_ambiguous {
            return None;
        }
        self.check(&report);
        self.check_dump(&disk, &report);
        self.check_opening(&report);
        Some(report)
    }

    /// The engine alone: it refuses the log unchanged, or shows the records that were written, and none of those
    /// that are gone.
    pub(crate) fn check_engine(&self) {
        let disk = self.files.disk(2);
        let log = match open(&disk) {
            Ok(log) => log,
            Err(error) => {
                assert!(Directory::of(&disk) == *self.files, "{self}: refused, and changed: {error}");
                return;
            }
        };
        let first = log.first_lsn().get();
        if let Some(last) = self.truth.last.filter(|_| !self.truth.is_slot_corrected) {
            assert_eq!(log.last_lsn().get(), last.max(first - 1), "{self}: the last record");
        }
        let vouched = self.truth.lost.last().copied().filter(|_| !self.truth.is_slot_corrected).unwrap_or(0);
        assert!(log.last_lsn().get() >= vouched, "{self}: {vouched} will be used again");
        for lsn in first..=log.last_lsn().get() {
            if let Ok(record) = log.read(Lsn::new(lsn)) {
                self.check_bytes(lsn, Some(&record), "read");
                let is_lost = self.truth.lost.contains(&lsn) && !self.truth.is_ambiguous;
                assert!(!is_lost, "{self}: {lsn} is read, and lost: {:?}", self.truth);
            }
        }
    }

    /// The report says what was done, no more and no less.
    pub(crate) fn check(&self, report: &Report) {
        assert!(report.is_verified, "{self}");
        let lost = numbers(&report.lost);
        let missed: Vec<&u64> = self.truth.lost.difference(&lost).collect();
        assert!(
            missed.is_empty(),
            "{self}: {missed:?} are lost, and only {lost:?} are reported\n{report:#?}"
        );
        let most: BTreeSet<u64> = self.truth.lost.union(&self.truth.doubtful).copied().collect();
        let invented: Vec<&u64> = lost.difference(&most).collect();
        assert!(invented.is_empty(), "{self}: {invented:?} are not lost\n{report:#?}");
        if let Some(first) = self.truth.first.filter(|_| !self.truth.is_slot_corrected) {
            assert_eq!(report.first_lsn.get(), first, "{self}: the first record\n{report:#?}");
        }
        if let Some(last) = self.truth.last {
            let last = last.max(report.first_lsn.get() - 1);
            assert_eq!(report.last_lsn.get(), last, "{self}: the last record\n{report:#?}");
        }
        assert_eq!(report.lost_records(), lost.len() as u64, "{self}");
        self.check_stretches(report);
        let truth = self.truth;
        let is_harmed = !truth.lost.is_empty() || !truth.damaged.is_empty() || !truth.displaced.is_empty();
        assert!(!(is_harmed && !lost.is_empty() && report.is_whole()), "{self}: whole, with losses");
        if !truth.lost.is_empty() || !truth.displaced.is_empty() {
            assert!(!report.is_whole(), "{self}: is not whole\n{report:#?}");
        }
        if !truth.is_touched {
            assert!(report.is_whole(), "{self}: is whole\n{report:#?}");
        }
    }

    fn check_stretches(&self, report: &Report) {
        for (file, range) in &self.truth.damaged {
            let bytes = self.files.bytes(file).unwrap_or_default();
            let covers = |at: u64| {
                let mut own = report.stretches.iter().filter(|stretch| *stretch.file == **file);
                // Zeros that reach up to a stretch may be taken for what was never written.
                let touches = |stretch: &Stretch| {
                    let (start, end) = (stretch.bytes.start, stretch.bytes.end);
                    let between = if at < start { at..start } else { end.min(at)..at + 1 };
                    bytes.get(between.start as usize..between.end as usize).is_some_and(all_zero)
                };
                own.any(|stretch| stretch.bytes.contains(&at) || touches(stretch))
            };
            let open = range.clone().find(|at| !covers(*at));
            assert!(open.is_none(), "{self}: byte {open:?} of {file} is damaged, in {range:?}\n{report:#?}");
        }
        for stretch in &report.stretches {
            if !matches!(stretch.kind, StretchKind::Rot | StretchKind::Hole) {
                continue;
            }
            // Of a file that was moved, or that is gone, only the file is named.
            let is_moved = self.truth.displaced.iter().any(|name| **name == *stretch.file);
            let Some(units) = self.truth.units.get(&*stretch.file).filter(|_| !is_moved) else { continue };
            // Where nothing is, nobody knows how much of it there was.
            let bytes = self.files.bytes(&stretch.file).unwrap_or_default();
            let is_blank = |at: u64| bytes.get(at as usize).is_none_or(|byte| *byte == 0);
            let within = |at: u64| is_blank(at) || units.iter().any(|unit| unit.contains(&at));
            let beyond = stretch.bytes.clone().find(|at| !within(*at));
            assert!(beyond.is_none(), "{self}: {beyond:?} is not damaged: {stretch:?}, of {units:?}");
        }
    }

    /// The records are given that the report says are there, with their bytes, and gaps for the rest.
    fn check_dump(&self, disk: &SimDisk, report: &Report) {
        let Some(range) = LsnRange::new(report.first_lsn, report.last_lsn) else { return };
        let mut dump = Dump::new(Arc::new(disk.clone()), Arc::new(report.clone()), range);
        let absent: BTreeSet<u64> =
            numbers(&report.lost).union(&numbers(&report.given_up)).copied().collect();
        let mut next = report.first_lsn.get();
        while let Some(dumped) = dump.next().unwrap_or_else(|error| panic!("{self}: dump: {error}")) {
            match dumped {
                Dumped::Record { lsn, bytes, .. } => {
                    assert_eq!(lsn.get(), next, "{self}: in order");
                    self.check_bytes(next, Some(bytes), "dumped");
                    assert!(!absent.contains(&next), "{self}: {next} is dumped, and reported as lost");
                    next += 1;
                }
                Dumped::EpochStart { lsn, .. } | Dumped::Control { lsn, .. } => {
                    assert_eq!(lsn.get(), next, "{self}: in order");
                    self.check_bytes(next, None, "dumped");
                    next += 1;
                }
                Dumped::Gap { lsns, .. } => {
                    assert_eq!(lsns.first.get(), next, "{self}: in order");
                    for lsn in lsns.first.get()..=lsns.last.get() {
                        let is_open = self.truth.doubtful.contains(&lsn);
                        assert!(absent.contains(&lsn) || is_open, "{self}: {lsn} is readable\n{report:#?}");
                    }
                    next = lsns.last.get() + 1;
                }
            }
        }
        assert_eq!(next, report.last_lsn.get() + 1, "{self}: dumped up to the end");
    }

    #[track_caller]
    fn check_bytes(&self, lsn: u64, bytes: Option<&[u8]>, how: &str) {
        if self.truth.is_revived {
            return;
        }
        let Some(record) = self.records.get(&lsn) else { panic!("{self}: {lsn} is {how}, and never was") };
        assert!(record.as_deref() == bytes, "{self}: {lsn} is {how} with other bytes");
    }

    /// The engine does what the report says it does, and shows no other records.
    pub(crate) fn check_opening(&self, report: &Report) {
        let disk = self.files.disk(2);
        match (open(&disk), &report.opening) {
            (Ok(log), Opening::Opens) => {
                let (first, last) = (log.first_lsn(), log.last_lsn());
                let is_begin = first == report.first_lsn || self.truth.is_slot_corrected;
                assert!(is_begin, "{self}: opened\n{report:#?}");
                // What nothing vouches for goes with a header that is damaged, unless that is put right first.
                let tail = report.segments.last();
                let header = |stretch: &&Stretch| stretch.bytes.start == 0 && stretch.correction.is_some();
                let may_end = report.stretches.iter().filter(header).any(|stretch| {
                    tail.is_some_and(|tail| tail.file == stretch.file && tail.header.first_lsn == last.next())
                });
                let may_end = may_end || self.truth.is_slot_corrected;
                let is_end = last == report.last_lsn
                    || may_end && (last >= report.durable || self.truth.is_slot_corrected);
                assert!(is_end, "{self}: opened, up to {last}\n{report:#?}");
                self.check_reads(&log, report);
            }
            (Err(error), Opening::Refuses(said)) => {
                assert!(is_same(&error, said), "{self}: open says {error:?}, report {said:?}\n{report:#?}");
                assert!(Directory::of(&disk) == *self.files, "{self}: refused, and changed");
            }
            (Ok(_), Opening::Refuses(said)) => panic!("{self}: it opens, and not: {said:?}\n{report:#?}"),
            (Err(error), Opening::Opens) => panic!("{self}: it does not open: {error:?}\n{report:#?}"),
        }
    }

    fn check_reads(&self, log: &Log, report: &Report) {
        let (lost, given_up) = (numbers(&report.lost), numbers(&report.given_up));
        for lsn in log.first_lsn().get()..=log.last_lsn().get() {
            match log.read(Lsn::new(lsn)) {
                Ok(record) => {
                    self.check_bytes(lsn, Some(&record), "read");
                    assert!(!lost.contains(&lsn), "{self}: {lsn} is read, and reported as lost\n{report:#?}");
                }
                Err(Error::BeyondEnd { .. }) => {
                    let is_start = self.records.get(&lsn).is_some_and(Option::is_none);
                    assert!(is_start, "{self}: {lsn} is missed, and no start of an epoch");
                }
                Err(Error::Lost { .. }) => {
                    assert!(given_up.contains(&lsn), "{self}: {lsn} was not given up");
                }
                // A reader that comes from before the damage does not get past it.
                Err(Error::Rot { .. } | Error::Hole { .. }) => {
                    let segment =
                        report.segments.iter().rfind(|segment| segment.header.first_lsn.get() <= lsn);
                    let file = segment.map(|segment| &segment.file);
                    let is_bad = report.stretches.iter().any(|stretch| Some(&stretch.file) == file);
                    assert!(
                        is_bad,
                        "{self}: {lsn} is not read, and nothing is said of {file:?}\n{report:#?}"
                    );
                }
                Err(error) => panic!("{self}: {lsn}: {error}"),
            }
        }
    }

    /// A plan gives up no more than is lost; carried out, the log is whole; taken back, it is as it was.
    fn check_repair(&self, report: &Report) {
        let disk = self.files.disk(3);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let plan = match plan(&disk, report) {
            Ok(plan) => plan,
            Err(Error::NotRepairable { .. }) => return,
            Err(Error::NotALog) if report.log_id.is_none() => return,
            Err(error) => panic!("{self}: no plan: {error}\n{report:#?}"),
        };
        let (lost, gives_up) = (numbers(&report.lost), numbers(&plan.gives_up));
        // What nobody was told of may be given up too, where something that is readable follows it.
        let invented = gives_up.difference(&lost).find(|lsn| **lsn <= report.durable.get());
        assert!(invented.is_none(), "{self}: {invented:?} is given up, and {lost:?} lost\n{plan:#?}");
        let count = gives_up.len() as u64;
        if count > 0 {
            let refused = repair(&shared, &plan, Some(count + 1), &Silent);
            assert!(matches!(refused, Err(Error::LossNotAccepted { .. })), "{self}: {refused:?}");
            assert!(Directory::of(&disk) == *self.files, "{self}: refused, and changed");
        }
        let accepted = (count > 0).then_some(count);
        let repaired = repair(&shared, &plan, accepted, &Silent);
        let repaired =
            repaired.unwrap_or_else(|error| panic!("{self}: repair: {error}\n{plan:#?}\n{report:#?}"));
        assert_eq!(numbers(&repaired.gave_up), gives_up, "{self}");
        self.check_repaired(&disk, report, &plan);
        if repaired.journal.is_none() {
            assert!(Directory::of(&disk) == *self.files, "{self}: nothing was done, and something changed");
            return;
        }
        undo(&shared).unwrap_or_else(|error| panic!("{self}: undo: {error}\n{plan:#?}"));
        let mut back = Directory::of(&disk);
        back.0.retain(|name, _| !name.starts_with("quarantine-"));
        let difference = self.files.difference(&back);
        assert!(difference.is_empty(), "{self}: undone: {difference}\n{plan:#?}");
    }

    fn check_repaired(&self, disk: &SimDisk, before: &Report, plan: &Plan) {
        let after = look(disk, 1).unwrap_or_else(|error| panic!("{self}: repaired: {error}\n{plan:#?}"));
        assert!(after.is_whole(), "{self}: repaired, and not whole\n{plan:#?}\n{after:#?}");
        self.check_kept(disk, before, numbers(&plan.gives_up), &format!("repaired: {plan:#?}"));
        self.check_dump(disk, &after);
    }

    /// A log that was made from the damaged one opens, and has all that could be read, under the same LSNs.
    fn check_kept(&self, disk: &SimDisk, before: &Report, gone: BTreeSet<u64>, how: &str) {
        let copy = Directory::of(disk).disk(4);
        let log = open(&copy).unwrap_or_else(|error| panic!("{self}: {how} does not open: {error}"));
        let given_up = numbers(&before.given_up);
        for lsn in before.first_lsn.get()..=before.last_lsn.get() {
            let is_gone = gone.contains(&lsn) || given_up.contains(&lsn);
            match log.read(Lsn::new(lsn)) {
                Ok(record) => {
                    self.check_bytes(lsn, Some(&record), "kept");
                    assert!(!is_gone, "{self}: {lsn} was given up, and is there; {how}");
                }
                Err(Error::Lost { first, last }) => {
                    assert!((first.get()..=last.get()).contains(&lsn), "{self}: {lsn}");
                    let may_go = is_gone || self.truth.doubtful.contains(&lsn);
                    assert!(may_go, "{self}: {lsn} was readable, and is lost; {how}\n{before:#?}");
                }
                Err(Error::BeyondEnd { .. }) => {
                    let is_start = self.records.get(&lsn).is_some_and(Option::is_none);
                    let may_go = is_start || self.truth.doubtful.contains(&lsn);
                    assert!(may_go, "{self}: {lsn} was readable, and is missed; {how}\n{before:#?}");
                }
                Err(error) => panic!("{self}: {lsn}: {error}; {how}"),
            }
        }
        assert!(log.last_lsn() >= before.durable, "{self}: an acknowledged LSN will be used again; {how}");
        let next = log.append_durable(b"goes on").unwrap_or_else(|error| panic!("{self}: {error}; {how}"));
        assert!(next.lsn() > before.durable, "{self}: {how}");
        log.close().unwrap_or_else(|error| panic!("{self}: {error}; {how}"));
    }

    fn check_salvage(&self, report: &Report) {
        let (from, to) = (self.files.disk(5), SimDisk::new(6));
        let shared: Arc<dyn Disk> = Arc::new(from.clone());
        let salvaged = salvage(&shared, report, &to, &Silent);
        if report.log_id.is_none() && matches!(salvaged, Err(Error::NotALog)) {
            return;
        }
        let salvaged = salvaged.unwrap_or_else(|error| panic!("{self}: salvage: {error}\n{report:#?}"));
        assert!(Directory::of(&from) == *self.files, "{self}: salvaged, and changed");
        let how = format!("salvaged: {salvaged:?}");
        let after = look(&to, 1).unwrap_or_else(|error| panic!("{self}: {how}: {error}"));
        assert!(after.is_whole(), "{self}: {how}, and not whole\n{after:#?}");
        // One flipped bit is put right there too.
        let (lost, gaps) = (numbers(&report.lost), numbers(&salvaged.gaps));
        let known: BTreeSet<u64> = lost.union(&numbers(&report.given_up)).copied().collect();
        let invented = gaps.difference(&known).find(|lsn| **lsn <= report.durable.get());
        assert!(invented.is_none(), "{self}: {how}, and only {known:?} are lost\n{report:#?}");
        self.check_kept(&to, report, gaps, &how);
    }
}

impl std::fmt::Display for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

/// Whether two errors tell the caller the same.
fn is_same(one: &Error, two: &Error) -> bool {
    match (one, two) {
        // The records that they name may be a part of what is at stake.
        (Error::Rot { file, .. }, Error::Rot { file: other, .. })
        | (Error::Hole { file, .. }, Error::Hole { file: other, .. }) => file == other,
        (Error::Io { file, .. }, Error::Io { file: other, .. }) => file == other,
        _ => std::mem::discriminant(one) == std::mem::discriminant(two),
    }
}
