//! Looking at a log beside a writer, and in real directories.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annals::disk::sim::SimDisk;
use annals::disk::{Disk, RealDisk};
use annals::repair::{self, Opening, Silent};
use annals::{Error, LogOptions, Lsn, WriteMethod};

use crate::logs::{append, large, options, segments, verified};

/// Rolls, trims and truncates as fast as it can, until it is told to stop.
fn write_much(disk: &SimDisk, stop: &AtomicBool) {
    let log = options().open_with(Arc::new(disk.clone())).unwrap();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        append(&log, 20, 3000);
        round += 1;
        let (first, last) = (log.first_lsn().get(), log.last_lsn().get());
        match round % 4 {
            0 => log.truncate(Lsn::new(last - 17)).unwrap(),
            1 if last - first > 100 => log.trim(Lsn::new(last - 50)).unwrap(),
            _ => {}
        }
    }
    log.close().unwrap();
}

#[test]
fn beside_a_writer_nothing_that_merely_moves_is_damage() {
    let disk = SimDisk::new(3);
    options().open_with(Arc::new(disk.clone())).unwrap().close().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| write_much(&disk, &stop));
        let (mut beside, mut seen, mut wrong) = (0, Lsn::ZERO, None);
        while wrong.is_none() && (beside < 60 || seen < Lsn::new(300)) {
            let look = match beside % 3 {
                0 => repair::inspect(&disk),
                _ => repair::verify(&(Arc::new(disk.clone()) as Arc<dyn Disk>), 2, &Silent),
            };
            match look {
                Ok(report) if report.is_whole() => {
                    beside += usize::from(report.writer.is_some());
                    seen = report.last_lsn;
                }
                other => wrong = Some(other),
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(wrong.is_none(), "{wrong:#?}");
    });
}

#[test]
fn damage_beside_a_writer_is_told_all_the_same() {
    let disk = large(true);
    let log = options().open_with(Arc::new(disk.clone())).unwrap();
    let name = segments(&disk).remove(1);
    disk.overwrite(&name, 9000, b"damage");
    append(&log, 10, 3000);
    let report = verified(&disk);
    assert_eq!(report.writer, Some(Some(SimDisk::PID)));
    assert!(matches!(report.opening, Opening::Refuses(Error::InUse { .. })));
    assert!(!report.is_whole() && report.lost_records() == 1, "{report:#?}");
    assert!(report.last_lsn >= Lsn::new(80));
}

/// A closed log in a real directory.
fn real_log() -> (tempfile::TempDir, LogOptions) {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions::new(dir.path()).segment_bytes(64 << 10).write_method(WriteMethod::Buffered);
    let log = options.clone().open().unwrap();
    append(&log, 60, 3000);
    log.close().unwrap();
    (dir, options)
}

fn disk_of(path: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::open(path).unwrap())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_nobody_may_write_to_is_looked_at_by_whatever_path() {
    let (dir, _) = real_log();
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    let names = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let before = names();
    before.iter().for_each(|path| set_mode(path, 0o444));
    set_mode(dir.path(), 0o555);
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link");
    symlink(dir.path(), &link).unwrap();
    for path in [dir.path(), &link] {
        let report = repair::verify(&disk_of(path), 2, &Silent).unwrap();
        assert!(report.is_whole() && report.records == 60, "{report:#?}");
        assert!(repair::inspect(&*disk_of(path)).unwrap().is_whole());
    }
    assert_eq!(names(), before, "no file was made");
    set_mode(dir.path(), 0o755);
}

#[test]
fn a_file_that_may_not_be_read_is_an_error_with_its_name() {
    let (dir, _) = real_log();
    let disk = disk_of(dir.path());
    let report = repair::inspect(&*disk).unwrap();
    for name in [&*report.segments[1].file, "superblock", "LOCK"] {
        let path = dir.path().join(name);
        set_mode(&path, 0);
        if fs::File::open(&path).is_ok() {
            // Not by a macro: what those say is kept from whoever runs tests that pass.
            let _ = writeln!(std::io::stderr(), "skipped: this user may read everything");
            return;
        }
        for look in [repair::inspect(&*disk), repair::verify(&disk, 2, &Silent)] {
            let error = look.unwrap_err();
            assert!(matches!(&error, Error::Io { file, .. } if **file == *name), "{error}");
        }
        set_mode(&path, 0o644);
    }
}

#[test]
fn a_writer_in_this_process_keeps_its_lock_and_goes_on() {
    let (dir, options) = real_log();
    let log = options.clone().open().unwrap();
    for round in 1..=20 {
        append(&log, 5, 3000);
        let report = repair::verify(&disk_of(dir.path()), 2, &Silent).unwrap();
        assert!(report.is_whole(), "{report:#?}");
        assert_eq!(report.writer, Some(Some(std::process::id())));
        // All but the newest group is vouched for by the ones that follow.
        assert!((59 + 5 * round..=60 + 5 * round).contains(&report.last_lsn.get()), "{report:#?}");
        assert!(matches!(options.clone().open(), Err(Error::InUse { .. })));
    }
    log.close().unwrap();
    let report = repair::verify(&disk_of(dir.path()), 2, &Silent).unwrap();
    assert_eq!((report.writer, report.last_lsn), (None, Lsn::new(160)));
}
