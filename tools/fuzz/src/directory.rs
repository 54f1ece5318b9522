//! What has to hold of a whole directory, whatever is in its files: the input of `log-recover`.

use std::collections::BTreeMap;
use std::sync::Arc;

use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::format::SegmentHeader;
use annals::repair::{self, Plan, Silent};
use annals::{LogOptions, LsnRange};

/// The largest file that is made: the golden segments are smaller.
const FILE_BYTES_MAX: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;
/// Names that a file may have, beside that of the segment that it holds.
const NAMES: [&str; 5] = [
    "superblock",
    "spare-000001.seg",
    "quarantine-20261122T013000Z.pending",
    "quarantine-20261122T013000Z.superblock",
    "00000000000000000001.seg",
];

/// Files one after the other, as [`fuzz_directory`] reads them.
pub(crate) fn encode(files: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, contents) in files {
        bytes.push(*name);
        bytes.extend((contents.len() as u32).to_le_bytes());
        bytes.extend(*contents);
    }
    bytes
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
        // Finished or refused, but without a panic.
        let _ = repair::repair(&shared, &plan, None, &Silent);
        return;
    }
    check_repair(&disk, &shared, &plan, &before);
}

fn check_repair(disk: &SimDisk, shared: &Arc<dyn Disk>, plan: &Plan, before: &BTreeMap<String, Vec<u8>>) {
    let lost: u64 = plan.gives_up.iter().map(LsnRange::records).sum();
    match repair::repair(shared, plan, Some(lost).filter(|lost| *lost > 0), &Silent) {
        Ok(done) if done.journal.is_some() => {
            let repaired = repair::verify(shared, 1, &Silent).expect("a log that was repaired is one");
            assert!(repaired.is_whole(), "{repaired:?}");
            let copy = disk.crash(CrashPolicy::KEEP_ALL);
            LogOptions::new("simulated")
                .open_with(Arc::new(copy))
                .expect("it opens")
                .close()
                .expect("it closes");
            repair::undo(shared).expect("nothing came after it");
            assert!(&contents(disk) == before, "taken back exactly");
        }
        _ => assert!(&contents(disk) == before, "refused, or nothing to do: nothing is changed"),
    }
}

/// The directory that these bytes stand for.
fn made_of(mut bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(0);
    while let Some((head, rest)) = bytes.split_at_checked(1 + LENGTH_BYTES) {
        let length = u32::from_le_bytes(head[1..].try_into().expect("four bytes")) as usize;
        let (contents, rest) = rest.split_at(length.min(rest.len()).min(FILE_BYTES_MAX));
        bytes = rest;
        let by_header =
            SegmentHeader::decode(contents).map(|header| format!("{:020}.seg", header.first_lsn.get()));
        let name = match NAMES.get(head[0] as usize % (NAMES.len() + 1)) {
            Some(name) => (*name).to_owned(),
            None => by_header.unwrap_or_else(|_| "00000000000000000007.seg".to_owned()),
        };
        // Of two with one name the first counts.
        let Ok(file) = disk.create(&name) else { continue };
        file.write_at(contents, 0).and_then(|()| file.sync()).expect("a disk that works");
    }
    disk.sync_dir().expect("a disk that works");
    disk
}

fn contents(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list().expect("a disk that works").into_iter().filter(|name| name != "LOCK");
    names.map(|name| (name.clone(), disk.contents(&name))).collect()
}
