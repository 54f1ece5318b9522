//! What has to hold of a whole directory, whatever is in its files: the input of `log-recover`.

use std::collections::BTreeMap;
use std::sync::Arc;

use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::disk::{Access, Disk};
use annals::format::SegmentHeader;
use annals::repair::{self, Plan, Silent};
use annals::{LogOptions, LsnRange};

/// The largest file that is made: the golden segments are smaller.
const FILE_BYTES_MAX: usize = 256 << 10;
/// Before each file: the number of its name, its length, and how much of that follows. The rest is zeros.
const HEAD_BYTES: usize = 1 + 4 + 4;
/// Names that a file may have.
const NAMES: [&str; 11] = [
    "superblock",
    "spare-000001.seg",
    "quarantine-20261122T013000Z.pending",
    "quarantine-20261122T013000Z.superblock",
    "00000000000000000001.seg",
    // The one that the segment in it has.
    "",
    "quarantine-20261122T013000Z.journal",
    "quarantine-20261122T013000Z.undone.tmp",
    "quarantine-20261122T013000Z.00000000000000000001.seg",
    "quarantine-20261122T013000Z.new.superblock.tmp",
    "quarantine-20261122T013000Z.new.00000000000000000001.seg.tmp",
];
/// That of the names above, in milliseconds.
const WALL_MS: u64 = 1_795_311_000_000;

/// A file, by the number of its name.
pub(crate) type Numbered<'a> = (u8, &'a [u8]);

/// Files one after the other, as [`fuzz_directory`] reads them.
pub(crate) fn encode(files: &[Numbered<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, contents) in files {
        let stored = contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.push(*name);
        bytes.extend((contents.len() as u32).to_le_bytes());
        bytes.extend((stored as u32).to_le_bytes());
        bytes.extend(&contents[..stored]);
    }
    bytes
}

/// What stands in `bytes` of each file.
pub(crate) fn split(mut bytes: &mut [u8]) -> Vec<&mut [u8]> {
    let mut files = Vec::new();
    while bytes.len() >= HEAD_BYTES {
        let (head, rest) = bytes.split_at_mut(HEAD_BYTES);
        let (contents, rest) = rest.split_at_mut(u32_at(head, 5).min(rest.len()));
        files.push(contents);
        bytes = rest;
    }
    files
}

/// A repair of `files` that was interrupted after so many operations, as a directory.
pub(crate) fn interrupted(files: &[Numbered<'_>], operations: u64) -> Vec<u8> {
    let disk = made_of(&encode(files));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = repair::verify(&shared, 1, &Silent).expect("a log");
    let plan = repair::plan(&*shared, &report).expect("one that can be repaired");
    disk.crash_after(operations);
    let lost = plan.gives_up.iter().map(LsnRange::records).sum();
    let _ = repair::repair(&shared, &plan, Some(lost), &Silent);
    let left = contents(&disk.crash(CrashPolicy::KEEP_ALL));
    let numbered = left.iter().filter_map(|(name, contents)| {
        let number = NAMES.iter().position(|known| known == name)?;
        Some((number as u8, &contents[..]))
    });
    encode(&numbered.collect::<Vec<_>>())
}

/// Looking changes nothing and never panics; a repair is refused with nothing changed, or leaves a log that is whole
/// and opens, and is taken back exactly.
pub fn fuzz_directory(bytes: &[u8]) {
    let disk = made_of(bytes);
    let before = contents(&disk);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = repair::verify(&shared, 1, &Silent);
    assert!(contents(&disk) == before, "looking changes nothing");
    let Ok(report) = report else { return };
    assert!(report.lost.is_sorted_by(|a, b| a.last < b.first), "rising and merged");
    let Ok(plan) = repair::plan(&*shared, &report) else { return };
    if report.unfinished_repair.is_some() {
        check_unfinished(&disk, &plan, &before);
        return;
    }
    check_repair(&disk, &shared, &plan, &before);
}

/// A repair that is to be finished is finished, undone or refused; each only moves files, whatever its journal says.
fn check_unfinished(disk: &SimDisk, plan: &Plan, before: &BTreeMap<String, Vec<u8>>) {
    let finished: Arc<dyn Disk> = Arc::new(disk.crash(CrashPolicy::KEEP_ALL));
    if repair::repair(&finished, plan, None, &Silent).is_ok() {
        let report = repair::verify(&finished, 1, &Silent);
        assert!(report.is_ok_and(|report| report.unfinished_repair.is_none()), "finished");
    }
    let is_kept = |now: &dyn Disk, is_needed: &dyn Fn(&str) -> bool| {
        let mut now: Vec<_> = contents(now).into_values().collect();
        before.iter().filter(|(name, _)| is_needed(name)).all(|(_, bytes)| {
            let there = now.iter().position(|now| now == bytes);
            there.map(|at| now.swap_remove(at)).is_some()
        })
    };
    assert!(is_kept(&*finished, &|_| true), "only names are changed");
    let undone: Arc<dyn Disk> = Arc::new(disk.clone());
    let _ = repair::undo(&undone);
    assert!(
        is_kept(&*undone, &|name| !name.ends_with(".tmp") && !is_new(name, before)),
        "what was found is there"
    );
}

/// Whether a repair may have made the file with this name.
fn is_new(name: &str, before: &BTreeMap<String, Vec<u8>>) -> bool {
    name.ends_with(".pending") || name.ends_with(".journal") || {
        let journals = before.iter().filter(|(name, _)| name.ends_with(".pending"));
        let line = format!("\nnew {name} ");
        journals.into_iter().any(|(_, text)| text.windows(line.len()).any(|part| part == line.as_bytes()))
    }
}

fn check_repair(disk: &SimDisk, shared: &Arc<dyn Disk>, plan: &Plan, before: &BTreeMap<String, Vec<u8>>) {
    // What earlier repairs have left unfinished is cleared away by whoever is the next to change something.
    let counts = |contents: BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
        let is_left = |name: &str| name.starts_with("quarantine-") && name.ends_with(".tmp");
        contents.into_iter().filter(|(name, _)| !is_left(name)).collect()
    };
    let before = &counts(before.clone());
    let lost: u64 = plan.gives_up.iter().map(LsnRange::records).sum();
    match repair::repair(shared, plan, Some(lost).filter(|lost| *lost > 0), &Silent) {
        Ok(done) if done.journal.is_some() => {
            let repaired = repair::verify(shared, 1, &Silent).expect("a log that was repaired is one");
            assert!(repaired.is_whole(), "{repaired:?}");
            let copy = disk.crash(CrashPolicy::KEEP_ALL);
            // Small, so that an open does not take longer than all the rest.
            LogOptions::new("simulated")
                .segment_bytes(64 << 10)
                .open_with(Arc::new(copy))
                .expect("it opens")
                .close()
                .expect("it closes");
            repair::undo(shared).expect("nothing came after it");
            assert!(&counts(contents(disk)) == before, "taken back exactly");
        }
        _ => assert!(&counts(contents(disk)) == before, "refused, or nothing to do: nothing is changed"),
    }
}

/// The directory that these bytes stand for.
fn made_of(mut bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(0);
    disk.set_wall_ms(WALL_MS);
    while let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) {
        let (length, stored) = (u32_at(head, 1).min(FILE_BYTES_MAX), u32_at(head, 5));
        let (contents, rest) = rest.split_at(stored.min(rest.len()));
        let contents = &contents[..contents.len().min(length)];
        bytes = rest;
        let by_header =
            SegmentHeader::decode(contents).map(|header| format!("{:020}.seg", header.first_lsn.get()));
        let name = match NAMES[head[0] as usize % NAMES.len()] {
            "" => by_header.unwrap_or_else(|_| "00000000000000000007.seg".to_owned()),
            name => name.to_owned(),
        };
        // Of two with one name the first counts.
        let Ok(file) = disk.create(&name) else { continue };
        let made = file.allocate(length as u64).and_then(|()| file.write_at(contents, 0));
        made.and_then(|()| file.sync()).expect("a disk that works");
    }
    disk.sync_dir().expect("a disk that works");
    disk
}

fn contents(disk: &dyn Disk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list().expect("a disk that works").into_iter().filter(|name| name != "LOCK");
    let read = |name: &str| {
        let file = disk.open(name, Access::Read)?;
        let mut bytes = vec![0; file.bytes()? as usize];
        file.read_at(&mut bytes, 0).map(|_| bytes)
    };
    names.map(|name| (name.clone(), read(&name).expect("a disk that works"))).collect()
}

fn u32_at(head: &[u8], at: usize) -> usize {
    u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")) as usize
}
