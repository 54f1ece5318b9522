//! Snapshots that are streamed.

use std::io::{Read, Write};

use std::sync::Arc;

use super::author::Author;
use super::*;
use crate::error::Error;
use crate::node::digest;
use crate::node::store::{SnapshotReader, SnapshotWriter};
use crate::protocol::{Health, LOST_BASE, SnapshotId, SnapshotOffer};
use crate::types::Epoch;

fn application(seed: u32, bytes: u32) -> Vec<u8> {
    (0..bytes).map(|byte| (byte.wrapping_mul(seed) >> 3) as u8).collect()
}

fn read_all(mut reader: SnapshotReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

fn put(writer: &mut SnapshotWriter, bytes: &[u8]) -> Result<()> {
    for part in bytes.chunks(70_001) {
        writer.write_all(part).map_err(|source| Error::io("write", "snapshot", source))?;
    }
    Ok(())
}

#[test]
fn a_snapshot_is_written_and_read_on_other_threads_beside_appends() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(2);
    fill(&mut store, &mut author, 50);
    let base = base_at(author.position(author.last));
    let application = application(7, 20 << 20);
    let mut writer = store.begin_snapshot(&base).unwrap();
    let taken = std::thread::scope(|scope| {
        let written = scope.spawn(|| {
            put(&mut writer, &application).unwrap();
            writer.finish().unwrap()
        });
        fill(&mut store, &mut author, 50);
        written.join().unwrap()
    });
    assert_eq!((store.base(), taken.contents().bytes), (&first_base(), 20 << 20));
    assert!(store.reader().snapshot().unwrap().is_none());
    store.snapshot_taken(taken).unwrap();
    let reader = store.reader().snapshot().unwrap().unwrap();
    assert_eq!((reader.base(), reader.application_bytes()), (&base, 20 << 20));
    reader.verify().unwrap();
    // Also while newer ones are taken.
    let newer = base_at(author.position(author.last));
    store.take_snapshot(&newer, b"small").unwrap();
    assert!(read_all(reader) == application);
    drop(store);
    let (store, state) = open(&disk.crash(CrashPolicy::LOSE_ALL));
    assert_eq!((&state.base, state.contents.map(|contents| contents.bytes)), (&newer, Some(5)));
    assert_eq!(store.application().unwrap(), b"small");
}

#[test]
fn a_snapshot_that_is_not_finished_leaves_nothing_behind() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(2);
    fill(&mut store, &mut author, 50);
    let names = disk.list().unwrap().len();
    let mut writer = store.begin_snapshot(&base_at(author.position(author.last))).unwrap();
    put(&mut writer, &[1; 300_000]).unwrap();
    assert_eq!(disk.list().unwrap().len(), names + 1);
    drop(writer);
    assert_eq!(disk.list().unwrap().len(), names);
}

#[test]
fn a_snapshot_that_a_newer_one_has_overtaken_is_dropped() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(2);
    fill(&mut store, &mut author, 50);
    let writer =
        store.begin_snapshot(&base_at(author.position(author.groups[9].0.range.last.get()))).unwrap();
    let taken = writer.finish().unwrap();
    let newer = base_at(author.position(author.last));
    store.take_snapshot(&newer, b"newer").unwrap();
    let names = disk.list().unwrap().len();
    store.snapshot_taken(taken).unwrap();
    assert_eq!((store.base(), disk.list().unwrap().len()), (&newer, names - 1));
    assert_eq!(store.application().unwrap(), b"newer");
}

#[test]
fn a_crash_while_a_snapshot_is_taken_leaves_the_old_one_or_the_new_one() {
    let mut author = Author::new(5);
    let (mut store, _) = open(&created(9));
    fill(&mut store, &mut author, 40);
    drop(store);
    let bases = [20, 39].map(|at: usize| base_at(author.position(author.groups[at].0.range.last.get())));
    let applications = [application(3, 5000), application(5, 600_000)];
    crash_everywhere(
        |store| {
            store.write_all(author.groups.iter().cloned()).unwrap();
            store.take_snapshot(&bases[0], &applications[0]).unwrap();
        },
        |store| {
            let mut writer = ignoring(store.begin_snapshot(&bases[1]));
            ignoring(put(&mut writer, &applications[1]));
            let taken = ignoring(writer.finish());
            ignoring(store.snapshot_taken(taken));
        },
        |found, is_done| {
            let (store, state) = open(found);
            let at = bases.iter().position(|base| *base == state.base).unwrap();
            assert!(at == 1 || !is_done);
            assert!(store.application().unwrap() == applications[at]);
            check_against(&store, &author);
            let left = found.list().unwrap().into_iter().find(|name| name.ends_with(".tmp"));
            assert_eq!(left, None);
        },
    );
}

#[test]
fn a_snapshot_that_was_received_is_read_and_sent_on_as_one_that_was_taken() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let application = application(9, 3_000_000);
    let position = Position { epoch: Epoch::new(9), lsn: Lsn::new(40) };
    let offer = SnapshotOffer { base: Arc::new(base_at(position)), contents: contents_of(&application) };
    store.stage(&offer).unwrap();
    let mut staged = 0;
    for chunk in application.chunks(333_333) {
        staged = store.stage_durably((offer.id(), staged), chunk, digest(chunk)).unwrap().unwrap();
    }
    store.install(offer.id()).unwrap();
    for _ in 0..2 {
        assert!(read_all(store.reader().snapshot().unwrap().unwrap()) == application);
        for (offset, bytes) in [(0, 10), (333_330, 10), (100, 2_000_000), (2_999_999, 10), (3_000_000, 10)] {
            let (part, sum) = store.read_snapshot(offer.id(), offset, bytes).unwrap().unwrap();
            let start = offset as usize;
            let expected = &application[start..(start + bytes as usize).min(application.len())];
            assert!(part == expected && sum == digest(expected));
        }
        drop(store);
        (store, _) = open(&disk);
    }
}

#[test]
fn damage_to_a_snapshot_is_told_by_whoever_reads_it() {
    let disk = created(1);
    let (mut store, _) = open(&disk);
    let mut author = Author::new(2);
    fill(&mut store, &mut author, 10);
    let (position, application) = (author.position(author.last), application(3, 100_000));
    store.take_snapshot(&base_at(position), &application).unwrap();
    disk.flip_bit("base", 50_000, 3);
    // Nor is what does not check sent to anybody, who would take it for the state.
    let sent = |offset| {
        let id = SnapshotId { position, checksum: crc32(&application) };
        store.read_snapshot(id, offset, 1000)
    };
    assert!(matches!(sent(0), Err(Error::Rot { .. })));
    assert!(sent(70_000).unwrap().is_some(), "another part of it");
    assert!(matches!(store.application(), Err(Error::Rot { .. })));
    let mut reader = store.reader().snapshot().unwrap().unwrap();
    assert!(matches!(reader.verify(), Err(Error::Rot { .. })));
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    drop(store);
    // Without its base there is no store, and nothing is changed.
    assert_eq!(ReplicaStore::open(&arc(&disk), OPTIONS).unwrap().1.health, Health::Blank);
    // Among peers it is put aside. That can be taken back by hand, as `docs/operations.md` says.
    let lost = ReplicaStore::open_among_peers(&arc(&disk), OPTIONS).unwrap().1.health;
    assert_eq!(lost, Health::Damaged(vec![LOST_BASE]));
    disk.flip_bit("quarantine-base-1", 50_000, 3);
    disk.rename("quarantine-base-1", "base").unwrap();
    disk.delete("damaged");
    assert_eq!(open(&disk).1.health, Health::Whole);
    let (store, _) = open(&disk);
    assert!(store.application().unwrap() == application);
    check_against(&store, &author);
}
