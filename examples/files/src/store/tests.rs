use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use annals::ClusterId;
use annals::node::StateMachine;
use tempfile::TempDir;

use super::*;
use crate::digest::Digest;
use crate::operation::OperationId;
use crate::record::{CHUNK_BYTES, Commit, chunk};
use crate::state::State;

const CLUSTER: ClusterId = ClusterId::new(7);

/// A log in memory, and what it should make.
#[derive(Default)]
struct Script {
    records: Vec<Vec<u8>>,
}

impl Script {
    fn put(&mut self, id: u128, name: &str, contents: &[u8]) {
        let chunks = contents.chunks(CHUNK_BYTES);
        for (bytes, index) in chunks.clone().zip(0..) {
            self.records.push(chunk(OperationId::new(id), index, bytes));
        }
        self.commit(id, name, contents);
    }

    fn commit(&mut self, id: u128, name: &str, contents: &[u8]) {
        let commit = Operation::Commit(Commit {
            id: OperationId::new(id),
            name: name.parse().unwrap(),
            chunks: contents.chunks(CHUNK_BYTES).len() as u64,
            bytes: contents.len() as u64,
            digest: Digest::of(contents),
            replace: true,
        });
        self.records.push(commit.to_bytes());
    }

    fn delete(&mut self, id: u128, name: &str) {
        let delete = Operation::Delete { id: OperationId::new(id), name: name.parse().unwrap() };
        self.records.push(delete.to_bytes());
    }

    /// Files that come, go and are replaced, a put that is never finished, and what makes no sense.
    fn story() -> Script {
        let mut script = Script::default();
        script.put(1, "a", &noise(3 * CHUNK_BYTES + 5, 1));
        script.put(2, "b", b"two keys");
        script.records.push(chunk(OperationId::new(9), 0, &noise(CHUNK_BYTES, 9)));
        script.put(3, "a", &noise(2 * CHUNK_BYTES, 3));
        script.records.push(b"what is this?".to_vec());
        script.put(4, "empty", b"");
        script.records.push(chunk(OperationId::new(9), 1, &noise(100, 10)));
        script.delete(5, "b");
        script.put(6, "c/d", &noise(CHUNK_BYTES + 1, 6));
        script
    }

    fn apply(&self, store: &mut Store, lsns: std::ops::RangeInclusive<usize>) {
        for lsn in lsns {
            store.apply(Lsn::new(lsn as u64), &self.records[lsn - 1]).unwrap();
        }
    }

    fn last(&self) -> usize {
        self.records.len()
    }
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut word = seed + 1;
    let next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(bytes).collect()
}

fn open(dir: &Path) -> Store {
    let (store, reason) = Store::open(dir, CLUSTER).unwrap();
    assert_eq!(reason, None);
    store
}

fn state(store: &Store) -> State {
    State::clone(&store.shared.frozen().state)
}

/// All contents, whole and checked.
fn contents(store: &Store) -> Vec<(u64, Vec<u8>)> {
    let view = store.shared.frozen();
    let mut all = vec![];
    for contents in view.state.contents() {
        let mut reader = BlobReader::open(&view.blobs, contents, 0).unwrap();
        let (mut bytes, mut chunk) = (vec![], vec![]);
        while reader.next_chunk(&mut chunk).unwrap() {
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(bytes.len() as u64, contents.bytes);
        assert!(contents.digest.is_none_or(|digest| digest == Digest::of(&bytes)));
        all.push((contents.blob, bytes));
    }
    all
}

fn whole(dir: &Path) -> Store {
    let script = Script::story();
    let mut store = open(dir);
    script.apply(&mut store, 1..=script.last());
    store
}

#[test]
fn the_same_records_make_the_same_files_on_each_node() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (one, two) = (whole(one.path()), whole(two.path()));
    assert_eq!(state(&one).to_json(), state(&two).to_json());
    assert_eq!(contents(&one), contents(&two));
    let names: Vec<String> = state(&one).files.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "c/d", "empty"]);
}

#[test]
fn a_crash_after_any_record_and_any_checkpoint_loses_and_doubles_nothing() {
    let script = Script::story();
    let expected_dir = TempDir::new().unwrap();
    let expected = whole(expected_dir.path());
    for checkpoint in 0..=script.last() {
        // Each step after the checkpoint, and all of them; what lies between is met at other checkpoints.
        let crashes = [checkpoint, checkpoint + 1, checkpoint + 2, script.last()];
        for crash in crashes.into_iter().filter(|crash| *crash <= script.last()) {
            let dir = TempDir::new().unwrap();
            let mut store = open(dir.path());
            script.apply(&mut store, 1..=checkpoint);
            store.checkpoint().unwrap();
            script.apply(&mut store, checkpoint + 1..=crash);
            // Dropped without a word, as kill -9 does; what was written since lies in the files.
            drop(store);
            let mut store = open(dir.path());
            assert_eq!(store.applied(), Lsn::new(checkpoint as u64));
            // The replica begins at its snapshot, which may be far before: here at the first record.
            let before = state(&store);
            script.apply(&mut store, 1..=checkpoint);
            assert_eq!(state(&store), before, "checkpoint {checkpoint}: what was in it counts twice");
            script.apply(&mut store, checkpoint + 1..=script.last());
            assert_eq!(state(&store), state(&expected), "checkpoint {checkpoint}, crash {crash}");
            assert_eq!(contents(&store), contents(&expected), "checkpoint {checkpoint}, crash {crash}");
        }
    }
}

#[test]
fn a_crash_in_the_middle_of_a_chunk_leaves_nothing_of_it() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let put = OperationId::new(1);
    let first = noise(CHUNK_BYTES, 1);
    store.apply(Lsn::new(1), &chunk(put, 0, &first)).unwrap();
    store.checkpoint().unwrap();
    let blobs = store.blobs_dir();
    drop(store);
    // Half of the next chunk, and the sum of another.
    fs::write(blobs.join("1"), [&first[..], &noise(1000, 8)[..]].concat()).unwrap();
    let sums = fs::read(blobs.join("1.sums")).unwrap();
    fs::write(blobs.join("1.sums"), [&sums[..], b"noise"].concat()).unwrap();
    fs::write(blobs.join("2"), b"of a put that the checkpoint does not know").unwrap();
    let mut store = open(dir.path());
    assert!(!blobs.join("2").exists());
    let second = noise(77, 2);
    store.apply(Lsn::new(2), &chunk(put, 1, &second)).unwrap();
    let mut script = Script::default();
    script.commit(1, "a", &[first, second].concat());
    store.apply(Lsn::new(3), &script.records[0]).unwrap();
    assert_eq!(store.outcome(put), Some(Outcome::Done));
    assert_eq!(contents(&store), [(1, fs::read(blobs.join("1")).unwrap())]);
}

#[test]
fn a_snapshot_makes_an_equal_store_and_goes_on() {
    let script = Script::story();
    let expected_dir = TempDir::new().unwrap();
    let expected = whole(expected_dir.path());
    for cut in 0..=script.last() {
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let mut source = open(from.path());
        script.apply(&mut source, 1..=cut);
        let frozen = source.freeze();
        // More is applied, and files go, before the snapshot is written.
        script.apply(&mut source, cut + 1..=script.last());
        source.checkpoint().unwrap();
        let mut stream = vec![];
        frozen(&mut stream).unwrap();
        // A store that holds something else becomes it too.
        let mut target = open(to.path());
        let is_new = target.restore(&mut &stream[..], Lsn::new(cut as u64)).unwrap();
        assert_eq!(is_new, cut > 0);
        assert_eq!(target.applied(), Lsn::new(cut as u64));
        drop(target);
        let mut target = open(to.path());
        script.apply(&mut target, cut + 1..=script.last());
        assert_eq!(state(&target), state(&expected), "cut {cut}");
        assert_eq!(contents(&target), contents(&expected), "cut {cut}");
    }
}

#[test]
fn a_snapshot_that_makes_no_sense_leaves_the_store_as_it_was() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut stream = vec![];
    whole(from.path()).freeze()(&mut stream).unwrap();
    let mut store = open(to.path());
    store.apply(Lsn::new(1), &chunk(OperationId::new(1), 0, b"mine")).unwrap();
    let before = contents(&store);
    let flipped = |at: usize| {
        let mut stream = stream.clone();
        stream[at] ^= 1;
        stream
    };
    let contents_begin = 24 + u64::from_le_bytes(stream[16..24].try_into().unwrap()) as usize;
    for bad in [flipped(0), flipped(contents_begin + 9), stream[..stream.len() - 1].to_vec(), vec![]] {
        store.restore(&mut &bad[..], Lsn::new(50)).unwrap_err();
        assert_eq!((store.applied(), contents(&store)), (Lsn::new(1), before.clone()));
    }
    store.restore(&mut &stream[..], Lsn::new(50)).unwrap();
    assert_eq!(contents(&store), contents(&open(from.path()).restored(&stream)));
}

impl Store {
    fn restored(mut self, stream: &[u8]) -> Store {
        self.restore(&mut &stream[..], Lsn::new(50)).unwrap();
        self
    }
}

#[test]
fn an_older_snapshot_than_the_store_is_not_read() {
    let dir = TempDir::new().unwrap();
    let mut store = whole(dir.path());
    let last = store.applied();
    assert!(!store.restore(&mut &b"not even looked at"[..], last).unwrap());
}

#[test]
fn a_flipped_byte_is_told_and_never_read_nor_passed_on() {
    let dir = TempDir::new().unwrap();
    let mut store = whole(dir.path());
    store.checkpoint().unwrap();
    let view = store.shared.frozen();
    let file = &view.state.files[&"a".parse().unwrap()];
    let path = view.blobs.join(file.blob.to_string());
    let mut bytes = fs::read(&path).unwrap();
    bytes[CHUNK_BYTES + 17] ^= 4;
    fs::write(&path, bytes).unwrap();
    let contents = view.state.contents().find(|contents| contents.blob == file.blob).unwrap();
    let mut reader = BlobReader::open(&view.blobs, contents, 0).unwrap();
    let mut chunk = vec![];
    assert!(reader.next_chunk(&mut chunk).unwrap());
    let error = reader.next_chunk(&mut chunk).unwrap_err();
    assert!(chunk.is_empty() && error.to_string().contains("chunk 1 of"), "{error}");
    assert!(store.freeze()(&mut vec![]).is_err());
}

#[test]
fn a_store_that_cannot_be_used_is_made_anew_and_says_why() {
    let dir = TempDir::new().unwrap();
    let mut store = whole(dir.path());
    store.checkpoint().unwrap();
    let (generation, blobs) = (store.generation_dir(), store.blobs_dir());
    let expected = state(&store);
    drop(store);
    let blob = expected.files.values().next().unwrap().blob;
    fs::remove_file(blobs.join(blob.to_string())).unwrap();
    let (mut store, reason) = Store::open(dir.path(), CLUSTER).unwrap();
    assert!(reason.unwrap().contains("not there as it was synced"));
    assert!(!generation.exists());
    let script = Script::story();
    script.apply(&mut store, 1..=script.last());
    assert_eq!(state(&store), expected);
}

#[test]
fn the_store_of_another_cluster_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));
    let error = Store::open(dir.path(), ClusterId::new(8)).unwrap_err();
    assert!(error.to_string().contains("not of"), "{error}");
}

#[test]
fn what_cannot_be_written_stops_the_machine_and_takes_no_snapshot() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (shared, blobs) = (store.shared(), store.blobs_dir());
    let mut machine = Machine::new(store);
    let script = Script::story();
    machine.apply(Lsn::new(1), annals::Epoch::FIRST, &script.records[0]).unwrap();
    // In the way of the next blob.
    fs::create_dir(blobs.join("6")).unwrap();
    for lsn in 2..=script.last() {
        // Refused from the sixth on.
        let _ = machine.apply(Lsn::new(lsn as u64), annals::Epoch::FIRST, &script.records[lsn - 1]);
    }
    let trouble = shared.look(|view| view.trouble.clone()).unwrap();
    assert!(trouble.contains("could not write"), "{trouble}");
    assert_eq!(shared.look(|view| view.state.applied), 5);
    assert!(machine.snapshot()(&mut vec![]).is_err());
}

/// The record is refused and the reason told, and it is taken once there is room.
#[cfg(target_os = "linux")]
#[test]
fn a_record_that_finds_the_disk_full_is_refused_until_there_is_room() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (shared, blobs) = (store.shared(), store.blobs_dir());
    let script = Script::story();
    let expected_dir = TempDir::new().unwrap();
    let expected = whole(expected_dir.path());
    // Where the contents of record 6 go, there is no room.
    std::os::unix::fs::symlink("/dev/full", blobs.join("6")).unwrap();
    let mut machine = Machine::new(store);
    let apply = |machine: &mut Machine, lsn: usize| {
        machine.apply(Lsn::new(lsn as u64), annals::Epoch::FIRST, &script.records[lsn - 1])
    };
    (1..=5).try_for_each(|lsn| apply(&mut machine, lsn)).unwrap();
    for _ in 0..3 {
        apply(&mut machine, 6).unwrap_err();
        let trouble = shared.look(|view| view.trouble.clone()).unwrap();
        assert!(trouble.contains("waits for room"), "{trouble}");
        assert_eq!(machine.applied(), Lsn::new(5));
    }
    assert!(shared.look(|view| view.is_waiting), "what was applied can be read");
    fs::remove_file(blobs.join("6")).unwrap();
    (6..=script.last()).try_for_each(|lsn| apply(&mut machine, lsn)).unwrap();
    assert_eq!(
        shared.look(|view| (view.trouble.clone(), State::clone(&view.state))),
        (None, state(&expected))
    );
    drop(machine);
    assert_eq!(contents(&open(dir.path())), contents(&expected));
}

/// The state before is as it was, so the checkpoint is tried again with the same record.
#[cfg(target_os = "linux")]
#[test]
fn a_checkpoint_that_finds_no_room_for_the_state_is_tried_again() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let (shared, staged) = (store.shared(), store.generation_dir().join("state.new"));
    let script = Script::story();
    let mut machine = Machine::new(store);
    let apply = |machine: &mut Machine, lsn: u64| {
        let record = script.records.get(lsn as usize - 1).map_or(&b"nothing"[..], |record| record);
        machine.apply(Lsn::new(lsn), annals::Epoch::FIRST, record)
    };
    let due = CHECKPOINT_CHANGES;
    (1..due).try_for_each(|lsn| apply(&mut machine, lsn)).unwrap();
    for _ in 0..3 {
        std::os::unix::fs::symlink("/dev/full", &staged).unwrap();
        apply(&mut machine, due).unwrap_err();
        let (trouble, is_waiting) = shared.look(|view| (view.trouble.clone(), view.is_waiting));
        assert!(
            is_waiting && trouble.as_ref().is_some_and(|it| it.contains("waits for room")),
            "{trouble:?}"
        );
    }
    // Nor is a snapshot an end.
    std::os::unix::fs::symlink("/dev/full", &staged).unwrap();
    assert!(machine.snapshot()(&mut vec![]).is_err());
    apply(&mut machine, due).unwrap();
    assert_eq!(shared.look(|view| view.trouble.clone()), None);
    assert_eq!(machine.applied(), Lsn::new(due));
    machine.snapshot()(&mut vec![]).unwrap();
    let expected = shared.look(|view| State::clone(&view.state));
    drop(machine);
    assert_eq!(state(&open(dir.path())), expected);
}

/// Nobody knows what is on the disk: the store begins anew from its checkpoint, but not before there is room for it.
#[test]
fn a_sync_that_finds_the_disk_full_has_the_store_opened_anew_once_there_is_room() {
    let (dir, expected_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let script = Script::story();
    let expected = whole(expected_dir.path());
    let mut store = open(dir.path());
    script.apply(&mut store, 1..=3);
    store.checkpoint().unwrap();
    store.sync = |_| Err(io::ErrorKind::StorageFull.into());
    let (shared, store_room) = (store.shared(), store.room());
    // In the way of the file that is written to see whether there is room.
    let room = dir.path().join("room");
    fs::create_dir(&room).unwrap();
    let (reopen, reopened) = mpsc::channel();
    let mut machine = Machine::new(store).told_to_reopen(move || reopen.send(()).unwrap());
    let apply = |machine: &mut Machine, lsn: usize| {
        machine.apply(Lsn::new(lsn as u64), annals::Epoch::FIRST, &script.records[lsn - 1])
    };
    (4..=6).try_for_each(|lsn| apply(&mut machine, lsn)).unwrap();
    assert!(machine.snapshot()(&mut vec![]).is_err());
    for _ in 0..2 {
        apply(&mut machine, 7).unwrap_err();
        let (trouble, is_waiting) = shared.look(|view| (view.trouble.clone(), view.is_waiting));
        assert!(
            is_waiting && trouble.as_ref().is_some_and(|it| it.contains("waits for room")),
            "{trouble:?}"
        );
    }
    assert!(!store_room.is_there());
    let at_once = reopened.recv_timeout(Duration::from_millis(300));
    assert_eq!(at_once, Err(RecvTimeoutError::Timeout), "there is no room");
    fs::remove_dir(&room).unwrap();
    reopened.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(!room.exists());
    apply(&mut machine, 7).unwrap_err();
    // Nor does the end of the machine say that all is well.
    drop(machine);
    let mut store = open(dir.path());
    assert_eq!(store.applied(), Lsn::new(3));
    script.apply(&mut store, 4..=script.last());
    assert_eq!((state(&store), contents(&store)), (state(&expected), contents(&expected)));
}

/// Where it cannot be unpacked for want of room, it is tried again in the same way.
#[cfg(target_os = "linux")]
#[test]
fn a_snapshot_that_finds_the_disk_full_is_unpacked_once_there_is_room() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let source = whole(from.path());
    let mut stream = vec![];
    source.freeze()(&mut stream).unwrap();
    let (reopen, reopened) = mpsc::channel();
    let mut machine = Machine::new(open(to.path())).told_to_reopen(move || reopen.send(()).unwrap());
    // The state that the stream begins with finds no room.
    struct Full<'a>(&'a Path, &'a [u8]);
    impl io::Read for Full<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            // The directory is made by then.
            let staged = self.0.join("g-2/state.new");
            if !staged.exists() {
                std::os::unix::fs::symlink("/dev/full", staged)?;
            }
            self.1.read(bytes)
        }
    }
    machine.restore(&mut Full(to.path(), &stream), Lsn::new(50)).unwrap_err();
    reopened.recv_timeout(Duration::from_secs(60)).unwrap();
    drop(machine);
    let mut machine = Machine::new(open(to.path()));
    machine.restore(&mut &stream[..], Lsn::new(50)).unwrap();
    drop(machine);
    assert_eq!(contents(&open(to.path())), contents(&source));
}

#[test]
fn any_other_failed_sync_is_for_somebody_to_mend() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    store.sync = |_| Err(io::Error::other("a bad block"));
    let shared = store.shared();
    let mut machine = Machine::new(store).told_to_reopen(|| panic!("a failed disk is not opened anew"));
    let script = Script::story();
    machine.apply(Lsn::new(1), annals::Epoch::FIRST, &script.records[0]).unwrap();
    assert!(machine.snapshot()(&mut vec![]).is_err());
    machine.apply(Lsn::new(2), annals::Epoch::FIRST, &script.records[1]).unwrap_err();
    let (trouble, is_waiting) = shared.look(|view| (view.trouble.clone().unwrap(), view.is_waiting));
    assert!(!is_waiting && trouble.contains("could not sync: a bad block; mend the disk"), "{trouble}");
}
