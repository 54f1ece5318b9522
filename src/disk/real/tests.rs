//! The promises that only real files make.

use std::os::unix::fs::symlink;
use std::sync::mpsc;

use super::RealDisk;
use crate::disk::tests::blocks;
use crate::disk::{Access, BLOCK_BYTES, Blocks, Disk, Lock};
use crate::types::WriteMethod;

fn scratch() -> (tempfile::TempDir, RealDisk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(dir.path()).unwrap();
    (dir, disk)
}

#[test]
fn a_directory_is_created_with_those_above_it_and_found_again() {
    let (dir, _) = scratch();
    let path = dir.path().join("a/b/c");
    assert!(RealDisk::open(&path).is_err());
    RealDisk::create(&path).unwrap().create("file").unwrap();
    assert_eq!(RealDisk::create(&path).unwrap().list().unwrap(), ["file"]);
    assert_eq!(RealDisk::create(dir.path().join("a/b/../d/.")).unwrap().list().unwrap(), [""; 0]);
}

#[test]
fn a_link_to_a_directory_is_a_directory_and_a_file_is_none() {
    let (dir, disk) = scratch();
    let (link, file) = (dir.path().join("link"), dir.path().join("file"));
    symlink(dir.path(), &link).unwrap();
    disk.create("file").unwrap();
    assert!(RealDisk::create(&link).unwrap().open("file", Access::Read).is_ok());
    assert!(RealDisk::create(&file).is_err());
    assert!(RealDisk::create(file.join("below")).is_err());
}

#[test]
fn names_cannot_leave_the_directory() {
    let (dir, _) = scratch();
    let disk = RealDisk::create(dir.path().join("log")).unwrap();
    for name in ["../outside", "/tmp/outside", "", ".", ".."] {
        assert!(disk.create(name).is_err());
        assert!(disk.lock(name).is_err());
    }
    disk.create("inside").unwrap();
    assert!(disk.rename("inside", "../outside").is_err());
    assert!(disk.remove("../log/inside").is_err());
}

#[test]
fn directories_inside_are_not_listed() {
    let (dir, disk) = scratch();
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    disk.create("file").unwrap();
    assert_eq!(disk.list().unwrap(), ["file"]);
}

#[test]
fn a_writer_follows_its_file_and_not_the_name() {
    let (_dir, disk) = scratch();
    let file = disk.create("old").unwrap();
    file.write_at(&blocks(1, 1), 0).unwrap();
    file.sync().unwrap();
    disk.rename("old", "new").unwrap();
    disk.create("old").unwrap();
    for method in WriteMethod::ALL {
        let Ok(writer) = file.writer(method) else { continue };
        writer.write_durable(&blocks(1, 2), 0).unwrap();
    }
    assert_eq!(disk.open("old", Access::Read).unwrap().bytes().unwrap(), 0);
    let mut byte = [0];
    disk.open("new", Access::Read).unwrap().read_at(&mut byte, 9).unwrap();
    assert_eq!(byte, [2]);
}

#[test]
fn a_file_with_holes_is_not_written_through_a_map() {
    let (_dir, disk) = scratch();
    let file = disk.create("a").unwrap();
    file.write_at(b"x", 1 << 20).unwrap();
    let error = file.writer(WriteMethod::Mapped).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn a_mapped_writer_does_not_write_past_the_end_of_the_file() {
    let (_dir, disk) = scratch();
    let file = disk.create("a").unwrap();
    file.write_at(&blocks(2, 0), 0).unwrap();
    let writer = file.writer(WriteMethod::Mapped).unwrap();
    for offset in [2, 1 << 40] {
        assert!(writer.write_durable(&blocks(1, 1), offset * BLOCK_BYTES as u64).is_err());
    }
    assert!(writer.write_durable(&blocks(2, 1), BLOCK_BYTES as u64).is_err());
    assert_eq!(file.bytes().unwrap(), 2 * BLOCK_BYTES as u64);
}

#[test]
fn the_lock_holds_the_process_id_as_text_whatever_was_there() {
    let (dir, disk) = scratch();
    std::fs::write(dir.path().join("LOCK"), "12345678901234567890 of an older owner").unwrap();
    let held = disk.lock("LOCK").unwrap();
    assert!(matches!(held, Lock::Held(_)));
    let text = std::fs::read_to_string(dir.path().join("LOCK")).unwrap();
    assert_eq!(text, format!("{}\n", std::process::id()));
}

#[test]
fn a_lock_without_a_readable_owner_is_still_taken() {
    let (dir, disk) = scratch();
    let _held = disk.lock("LOCK").unwrap();
    std::fs::write(dir.path().join("LOCK"), "nobody").unwrap();
    assert!(matches!(disk.lock("LOCK").unwrap(), Lock::Taken(None)));
}

#[test]
fn a_full_device_says_so() {
    use crate::disk::whole::write_whole;
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        return eprintln!("skipped: no /dev/full");
    };
    let error = write_whole(b"x", 0, |buf, offset| Ok(rustix::io::pwrite(&full, buf, offset)?)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn what_is_read_past_the_page_cache_is_what_is_read_through_it() {
    let (_dir, disk) = scratch();
    let file = disk.create("x").unwrap();
    let bytes: Vec<u8> = (0..5 * BLOCK_BYTES + 100).map(|at| (at / 7) as u8).collect();
    file.write_at(&bytes, 0).unwrap();
    let mut blocks = Blocks::zeroed(8);
    for (from, size) in
        [(0, 5 * BLOCK_BYTES), (BLOCK_BYTES, 7 * BLOCK_BYTES), (3, 100), (6 * BLOCK_BYTES, BLOCK_BYTES)]
    {
        blocks.fill(0);
        let there = file.read_bulk(&mut blocks[..size], from as u64).unwrap();
        let expected = &bytes[from.min(bytes.len())..(from + size).min(bytes.len())];
        assert_eq!(&blocks[..there], expected, "{size} bytes at {from}");
    }
    // Also where memory is not as the device would have it.
    assert_eq!(file.read_bulk(&mut blocks[1..=BLOCK_BYTES], 0).unwrap(), BLOCK_BYTES);
    assert_eq!(&blocks[1..=BLOCK_BYTES], &bytes[..BLOCK_BYTES]);
}

/// A roll renames a spare while somebody looks at the log: a listing may have passed the new name, and come to the old one when
/// it was gone.
#[test]
fn a_file_that_is_renamed_meanwhile_is_listed() {
    let (_dir, disk) = scratch();
    for number in 0..200 {
        disk.create(&format!("file-{number}")).unwrap();
    }
    disk.create("0").unwrap();
    let (rename, renames) = mpsc::sync_channel(0);
    let (renamed, is_renamed) = mpsc::channel();
    std::thread::scope(|scope| {
        let disk = &disk;
        scope.spawn(move || {
            for number in renames {
                disk.rename(&format!("{number}"), &format!("{}", number + 1)).unwrap();
                renamed.send(()).unwrap();
            }
        });
        for number in 0..3000 {
            rename.send(number).unwrap();
            let names = disk.list().unwrap();
            let is_it = |name: &String| *name == number.to_string() || *name == (number + 1).to_string();
            assert!(names.iter().any(is_it), "{number}: {names:?}");
            is_renamed.recv().unwrap();
        }
        drop(rename);
    });
}
