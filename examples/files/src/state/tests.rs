use super::*;

struct World {
    state: State,
    lsn: u64,
}

impl World {
    fn new() -> World {
        World { state: State::default(), lsn: 0 }
    }

    fn next(&mut self) -> Lsn {
        self.lsn += 1;
        Lsn::new(self.lsn)
    }

    fn chunk(&mut self, put: u128, index: u64, bytes: usize) -> bool {
        let lsn = self.next();
        let put = OperationId::new(put);
        let takes = self.state.takes_chunk(put, index);
        let effects = if takes { self.state.chunk(lsn, put, bytes) } else { self.state.pass(lsn) };
        assert_eq!(effects, Effects::default());
        takes
    }

    fn run(&mut self, operation: &Operation) -> (Outcome, Vec<BlobId>) {
        let lsn = self.next();
        let effects = self.state.operation(lsn, operation, Some(Digest::of(b"x")));
        (self.state.finished[&operation.id()].outcome, effects.dropped)
    }

    fn put(&mut self, id: u128, name: &str, replace: bool) -> (Outcome, Vec<BlobId>) {
        assert!(self.chunk(id, 0, 1));
        self.run(&commit(id, name, replace))
    }
}

fn commit(id: u128, name: &str, replace: bool) -> Operation {
    Operation::Commit(Commit {
        id: OperationId::new(id),
        name: name.parse().unwrap(),
        chunks: 1,
        bytes: 1,
        digest: Digest::of(b"x"),
        replace,
    })
}

fn rename(id: u128, from: &str, to: &str, replace: bool) -> Operation {
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    Operation::Rename { id: OperationId::new(id), from, to, replace }
}

fn delete(id: u128, name: &str) -> Operation {
    Operation::Delete { id: OperationId::new(id), name: name.parse().unwrap() }
}

#[test]
fn a_put_is_invisible_until_its_commit_and_is_done_once() {
    let mut world = World::new();
    assert!(world.chunk(1, 0, 1));
    assert!(world.state.files.is_empty());
    assert_eq!(world.run(&commit(1, "a", false)), (Outcome::Done, vec![]));
    let file = world.state.files.values().next().unwrap().clone();
    assert_eq!((file.blob, file.lsn), (1, 2));
    // A late retry of the chunk and of the commit changes nothing, although the file is gone meanwhile.
    assert_eq!(world.run(&delete(2, "a")), (Outcome::Done, vec![1]));
    assert!(!world.chunk(1, 0, 1));
    assert_eq!(world.run(&commit(1, "a", false)), (Outcome::Done, vec![]));
    assert!(world.state.files.is_empty() && world.state.unfinished.is_empty());
}

#[test]
fn chunks_are_taken_in_order_and_once() {
    let mut world = World::new();
    assert!(!world.chunk(1, 1, CHUNK_BYTES));
    assert!(world.chunk(1, 0, CHUNK_BYTES));
    assert!(!world.chunk(1, 0, CHUNK_BYTES));
    assert!(!world.chunk(1, 2, CHUNK_BYTES));
    assert!(world.chunk(1, 1, 5));
    // The one before was not full, so it was the last.
    assert!(!world.chunk(1, 2, 5));
    let known = world.state.unfinished[&OperationId::new(1)];
    assert_eq!((known.blob, known.chunks, known.bytes), (2, 2, CHUNK_BYTES as u64 + 5));
}

#[test]
fn a_commit_that_is_not_true_is_refused_and_its_chunks_are_dropped() {
    let mut world = World::new();
    assert_eq!(world.run(&commit(1, "a", false)), (Outcome::Incomplete, vec![]));
    assert!(world.chunk(2, 0, 2));
    assert_eq!(world.run(&commit(2, "a", false)), (Outcome::Mismatch, vec![2]));
    // As many bytes, and others.
    assert!(world.chunk(3, 0, 1));
    let lsn = world.next();
    world.state.operation(lsn, &commit(3, "a", false), Some(Digest::of(b"y")));
    assert_eq!(world.state.finished[&OperationId::new(3)].outcome, Outcome::Mismatch);
    assert!(world.state.files.is_empty() && world.state.unfinished.is_empty());
}

#[test]
fn of_two_puts_of_one_name_the_first_commit_wins_unless_the_second_replaces() {
    let mut world = World::new();
    assert!(world.chunk(1, 0, 1) && world.chunk(2, 0, 1) && world.chunk(3, 0, 1));
    assert_eq!(world.run(&commit(2, "a", false)), (Outcome::Done, vec![]));
    assert_eq!(world.run(&commit(1, "a", false)), (Outcome::Exists, vec![1]));
    assert_eq!(world.run(&commit(3, "a", true)), (Outcome::Done, vec![2]));
}

#[test]
fn a_rename_does_not_replace_unless_it_is_told_to() {
    let mut world = World::new();
    world.put(1, "a", false);
    world.put(2, "b", false);
    assert_eq!(world.run(&rename(3, "a", "b", false)), (Outcome::Exists, vec![]));
    assert_eq!(world.run(&rename(4, "c", "b", true)), (Outcome::Missing, vec![]));
    assert_eq!(world.run(&rename(5, "a", "a", false)), (Outcome::Done, vec![]));
    assert_eq!(world.run(&rename(6, "a", "b", true)), (Outcome::Done, vec![3]));
    assert_eq!(world.state.files.keys().map(FileName::as_str).collect::<Vec<_>>(), ["b"]);
    assert_eq!(world.run(&delete(7, "a")), (Outcome::Missing, vec![]));
}

#[test]
fn an_empty_file_has_no_chunks() {
    let mut state = State::default();
    let empty = Operation::Commit(Commit {
        id: OperationId::new(1),
        name: "empty".parse().unwrap(),
        chunks: 0,
        bytes: 0,
        digest: Digest::of(b""),
        replace: false,
    });
    state.operation(Lsn::FIRST, &empty, None);
    assert_eq!(state.finished[&OperationId::new(1)].outcome, Outcome::Done);
    assert_eq!(state.contents().count(), 0);
}

#[test]
fn a_silent_put_is_given_up_by_counting_records() {
    let mut world = World::new();
    assert!(world.chunk(1, 0, CHUNK_BYTES));
    let mut dropped = vec![];
    while dropped.is_empty() {
        assert!(world.state.unfinished.len() == 1 && world.lsn < 2 * MEMORY_RECORDS);
        let lsn = world.next();
        dropped = world.state.pass(lsn).dropped;
    }
    assert_eq!(dropped, [1]);
    assert!(world.lsn > MEMORY_RECORDS && world.lsn <= MEMORY_RECORDS + MEMORY_RECORDS / 50);
    assert!(!world.chunk(1, 1, 5));
    assert_eq!(world.run(&commit(1, "a", false)).0, Outcome::Abandoned);
    // And that is forgotten in the end, too.
    for _ in 0..MEMORY_RECORDS + MEMORY_RECORDS / 50 {
        let lsn = world.next();
        world.state.pass(lsn);
    }
    assert!(world.state.finished.is_empty());
}

#[test]
fn a_late_retry_of_a_put_whose_file_is_there_does_nothing() {
    let mut world = World::new();
    world.put(1, "a", false);
    let file = world.state.files.clone();
    for _ in 0..MEMORY_RECORDS + MEMORY_RECORDS / 50 {
        let lsn = world.next();
        world.state.pass(lsn);
    }
    assert!(world.state.finished.is_empty());
    // It sends its chunk once more: nobody remembers it.
    let blob = world.lsn + 1;
    assert_eq!(world.put(1, "a", false), (Outcome::Done, vec![blob]));
    assert!(world.state.files == file && world.state.unfinished.is_empty());
    // The same with --replace, and without the chunk.
    assert_eq!(world.run(&commit(1, "a", true)), (Outcome::Done, vec![]));
    assert_eq!(world.state.files, file);
}

#[test]
fn the_serialized_state_is_read_again() {
    let mut world = World::new();
    world.put(1, "a", false);
    world.chunk(2, 0, 7);
    let json = world.state.to_json();
    assert_eq!(serde_json::from_slice::<State>(&json).unwrap(), world.state);
    assert_eq!(Digest::of(&json), world.state.digest());
}
