//! Reading ahead for a peer that catches up: what it will ask for next is read while it is sent what it has asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use super::driver::{Done, Task};
use super::mail::{Mail, Witness};
use super::store::StoreReader;
use crate::types::{Lsn, LsnRange, ReplicaId};

/// Chunks that are read at the same time, each by a thread of its own: one alone leaves the disk idle while it looks at
/// what it has read.
const THREADS: usize = 2;
/// Chunks that are read ahead.
const CHUNKS: usize = 3;

/// What one peer will ask for next, and the threads that read it.
///
/// It may be of a log that was truncated meanwhile: the core takes records for its own only if their epoch is the one
/// that its log has there.
pub(super) struct Ahead {
    chunks: VecDeque<Chunk>,
    /// Who was fed last: with several that take turns nobody knows who comes next.
    fed: Option<ReplicaId>,
    /// Chunks that may be read ahead: one, since one ended before the bytes did that it may have. Where an epoch ends, or
    /// where records are small, only what was read says where the next one begins.
    depth: usize,
    /// `None` once it ends.
    orders: Option<Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
}

/// What is read, or was.
struct Chunk {
    to: ReplicaId,
    from: Lsn,
    /// How many bytes it may have, but for a single frame.
    bytes_max: u64,
    /// The last record, if that is known before it is read.
    last: Option<Lsn>,
    /// The opening of the store that it is read from.
    opening: u64,
    /// Nothing comes if it cannot be read: whoever really asks meets the error again.
    read: Receiver<Done>,
    /// Without it nobody begins to read it any more.
    _wanted: Arc<()>,
}

/// What a thread is to read.
struct Order {
    reader: StoreReader,
    to: ReplicaId,
    range: LsnRange,
    bytes_max: u64,
    answer: Sender<Done>,
    wanted: Weak<()>,
}

impl Ahead {
    /// One whose orders go there, and nobody carries them out.
    fn ordering(orders: Sender<Order>) -> Ahead {
        let (chunks, threads) = (VecDeque::new(), Vec::new());
        Ahead { chunks, fed: None, depth: CHUNKS, orders: Some(orders), threads }
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn start(mail: &Arc<Mail>) -> std::io::Result<Ahead> {
        let (sender, orders) = unbounded();
        let mut ahead = Ahead::ordering(sender);
        for _ in 0..THREADS {
            let (orders, mail) = (orders.clone(), Arc::clone(mail));
            let thread = thread::Builder::new().name("annals-ahead".to_owned()).spawn(move || {
                let _witness = Witness { thread: "ahead", mail };
                orders.iter().for_each(carry_out);
            })?;
            ahead.threads.push(thread);
        }
        Ok(ahead)
    }

    /// What was read ahead, if that is what is asked for now; if it is being read, once it is there. If other records of the log
    /// are asked for, all of it is let go of.
    pub(super) fn take(&mut self, task: &Task, opening: u64) -> Option<Done> {
        let Task::ReadLog { to, from, bytes_max } = *task else { return None };
        let is_it = |chunk: &Chunk| (to, from, opening) == (chunk.to, chunk.from, chunk.opening);
        let chunk = self.chunks.pop_front().filter(is_it);
        let last = chunk.as_ref().and_then(|chunk| chunk.last);
        let is_asked = chunk.as_ref().is_some_and(|chunk| chunk.bytes_max <= bytes_max);
        match chunk.and_then(|chunk| chunk.read.recv().ok()) {
            Some(Done::LogRead { to, group, frames }) if is_asked || group.bytes <= bytes_max => {
                let is_whole = last.is_none_or(|last| last == group.range.last);
                if !is_whole {
                    self.chunks.clear();
                }
                self.depth = if is_whole { CHUNKS } else { 1 };
                Some(Done::LogRead { to, group, frames })
            }
            _ => {
                self.chunks.clear();
                None
            }
        }
    }

    /// Has read what comes after this record, up to which a task got so many bytes at most, if the same peer was fed before.
    pub(super) fn go_on(&mut self, reader: &StoreReader, (task, fed): (&Task, Lsn), opening: u64) {
        let Task::ReadLog { to, bytes_max, .. } = *task else { return };
        if self.fed.replace(to) != Some(to) {
            return self.chunks.clear();
        }
        let mut before = self.chunks.back().map_or(Some(fed), |chunk| chunk.last);
        while let Some(read) = before
            && self.chunks.len() < self.depth
        {
            let from = read.next();
            let last = reader.reach(from, bytes_max);
            let Some(range) = LsnRange::new(from, last.unwrap_or_else(|| reader.last())) else { return };
            let ((answer, read), wanted) = (bounded(1), Arc::new(()));
            let order = Order {
                reader: reader.clone(),
                to,
                range,
                bytes_max,
                answer,
                wanted: Arc::downgrade(&wanted),
            };
            if self.orders.as_ref().is_none_or(|orders| orders.send(order).is_err()) {
                return;
            }
            self.chunks.push_back(Chunk { to, from, bytes_max, last, opening, read, _wanted: wanted });
            before = last;
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.chunks.clear();
        self.orders = None;
        for thread in self.threads.drain(..) {
            // If it has panicked, its witness has told of it.
            let _ = thread.join();
        }
    }
}

/// What a thread does.
fn carry_out(Order { reader, to, range, bytes_max, answer, wanted }: Order) {
    if wanted.strong_count() > 0
        && let Ok(Some((group, frames))) = reader.feed(range, bytes_max)
    {
        // Something else may be wanted by now.
        let _ = answer.send(Done::LogRead { to, group, frames });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::SimDisk;
    use crate::node::driver::read;
    use crate::node::frames::frame_group;
    use crate::node::place::Bell;
    use crate::node::store::{ReplicaStore, StoreOptions};
    use crate::protocol::{Base, Content, Group, Member, Span, Spans};
    use crate::types::{DiskId, Epoch, ProducerId};

    const BYTES_MAX: u64 = 256 << 10;

    /// A log of several segments, of which nothing is in memory: a new epoch begins in the middle.
    fn filled() -> ReplicaStore {
        let of = |lsn: Lsn| (Epoch::new(1 + lsn.get() / 130), Content::PLAIN);
        filled_on(&SimDisk::new(1), of, 300, (10_000, 1 << 20))
    }

    fn filled_on(
        disk: &SimDisk,
        of: impl Fn(Lsn) -> (Epoch, Content),
        records: u64,
        (bytes, segment_bytes): (usize, u64),
    ) -> ReplicaStore {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let member = Member { id: ReplicaId::new(1), disk: DiskId::new(1) };
        ReplicaStore::create(&*disk, member, &Base::default()).unwrap();
        let options = StoreOptions { segment_bytes, cache_bytes: 0, ..StoreOptions::default() };
        let mut store = ReplicaStore::open(&disk, options).unwrap().0.unwrap();
        for lsn in (1..=records).map(Lsn::new) {
            let (range, (epoch, content)) = (LsnRange { first: lsn, last: lsn }, of(lsn));
            let mut group = Group { epoch, range, bytes: 0, content };
            let frames = Bytes::from(frame_group(&group, &[vec![7; bytes]]));
            group.bytes = frames.len() as u64;
            store.write(&group, frames).unwrap();
            if lsn.get() % 50 == 0 {
                store.sync().unwrap();
            }
        }
        store.sync().unwrap();
        store
    }

    fn started() -> Ahead {
        Ahead::start(&Mail::new(Bell::new(|| {})).0).unwrap()
    }

    fn task(to: u64, from: Lsn) -> Task {
        Task::ReadLog { to: ReplicaId::new(to), from, bytes_max: BYTES_MAX }
    }

    /// Feeds somebody as the feeding thread does: what was read, and whether that was ahead.
    fn feed(ahead: &mut Ahead, reader: &StoreReader, task: &Task) -> (Group, Bytes, bool) {
        let taken = ahead.take(task, 1);
        let is_ahead = taken.is_some();
        let done = taken.unwrap_or_else(|| read(reader, task).unwrap());
        let Done::LogRead { group, frames, .. } = done else { panic!("{done:?}") };
        ahead.go_on(reader, (task, group.range.last), 1);
        (group, frames, is_ahead)
    }

    #[test]
    fn who_goes_on_asking_gets_what_was_read_ahead_and_it_is_the_same() {
        let store = filled();
        let (reader, mut ahead) = (store.reader(), started());
        let (mut next, mut count) = (Lsn::FIRST, [0, 0]);
        while next <= store.last() {
            let (group, frames, is_ahead) = feed(&mut ahead, &reader, &task(1, next));
            assert_eq!((group.range.first, group.bytes), (next, frames.len() as u64));
            let (again, same) = reader.read_range(group.range, BYTES_MAX).unwrap().unwrap();
            assert_eq!((again, &same), (group.clone(), &frames));
            count[usize::from(is_ahead)] += 1;
            next = group.range.last.next();
        }
        // The first, the second, and where an epoch ends sooner than was thought, and what was asked for behind it.
        assert!(count[0] <= 5 && count[1] >= 8, "{count:?}");
        assert!(matches!(read(&reader, &task(1, next)), Err(crate::error::Error::BeyondEnd { .. })));
        assert_eq!(ahead.take(&task(1, next), 1), None);
    }

    #[test]
    fn what_was_read_ahead_is_for_nobody_else_and_for_no_other_place() {
        let store = filled();
        let reader = store.reader();
        let prepared = || {
            let mut ahead = started();
            feed(&mut ahead, &reader, &task(1, Lsn::FIRST));
            let (group, ..) = feed(&mut ahead, &reader, &task(1, Lsn::FIRST));
            (ahead, group.range.last.next())
        };
        let (mut ahead, next) = prepared();
        assert!(ahead.take(&task(1, next), 1).is_some());
        let little = Task::ReadLog { to: ReplicaId::new(1), from: next, bytes_max: BYTES_MAX / 2 };
        for (asked, opening) in
            [(task(2, next), 1), (task(1, next.next()), 1), (task(1, next), 2), (little, 1)]
        {
            let (mut ahead, _) = prepared();
            assert_eq!(ahead.take(&asked, opening), None, "{asked:?}");
            assert_eq!(ahead.take(&task(1, next), 1), None, "all of it is let go of");
        }
        // With two that take turns nothing is read in vain.
        let (mut ahead, next) = prepared();
        for to in [2, 1, 2, 1] {
            assert!(!feed(&mut ahead, &reader, &task(to, next)).2);
            assert!(ahead.chunks.is_empty());
        }
    }

    /// Chunks of records of one byte end with the spans that a group may have, long before their bytes: each second one was
    /// read in vain, and two more with it.
    #[test]
    fn where_chunks_end_before_their_bytes_nothing_is_read_in_vain() {
        let span = |lsn: Lsn| {
            let (producer, sequence) = (ProducerId::new(1), lsn.get());
            Content::Records(Spans::One(Span { producer, sequence, lsn, records: 1 }))
        };
        let store = filled_on(&SimDisk::new(1), |lsn| (Epoch::new(1), span(lsn)), 100_000, (1, 16 << 20));
        // Whatever is ordered is read before it is known that it is in vain.
        let (reader, (orders, ordered)) = (store.reader(), unbounded());
        let mut ahead = Ahead::ordering(orders);
        let (mut next, mut reads, mut count) = (Lsn::FIRST, 0, [0, 0]);
        while next <= store.last() {
            let task = Task::ReadLog { to: ReplicaId::new(1), from: next, bytes_max: 1 << 20 };
            reads += ordered.try_iter().map(carry_out).count();
            let (group, _, is_ahead) = feed(&mut ahead, &reader, &task);
            assert!(group.bytes < 1 << 20, "{group:?}");
            next = group.range.last.next();
            count[usize::from(is_ahead)] += 1;
        }
        // The first two are not read ahead, and the second orders as many as it may: nothing was known yet.
        assert_eq!((count[0], reads), (2, count[1] + CHUNKS - 1), "{count:?}");
    }

    #[test]
    fn a_record_that_is_larger_than_what_is_asked_for_is_read_once() {
        let disk = SimDisk::new(1);
        let of = |_| (Epoch::new(1), Content::PLAIN);
        let store = filled_on(&disk, of, 110, (300_000, 16 << 20));
        let (reader, (orders, ordered)) = (store.reader(), unbounded());
        let mut ahead = Ahead::ordering(orders);
        let (before, mut taken) = (disk.bytes_read(), 0);
        for next in (1..=40).map(Lsn::new) {
            ordered.try_iter().for_each(carry_out);
            let (group, _, is_ahead) = feed(&mut ahead, &reader, &task(1, next));
            assert_eq!((group.range.first, group.range.last), (next, next));
            taken += u64::from(is_ahead);
        }
        let read = disk.bytes_read() - before;
        assert!(
            taken == 38 && (40 * 300_000..45 * 400_000).contains(&read),
            "{taken} taken, {read} bytes read"
        );
    }

    /// It is met again by whoever really asks.
    #[test]
    fn nothing_comes_of_what_cannot_be_read() {
        let store = filled();
        let (reader, mut ahead) = (store.reader(), started());
        let (group, ..) = feed(&mut ahead, &reader, &task(1, Lsn::FIRST));
        let last = group.range.last;
        drop(store);
        ahead.go_on(&reader, (&task(1, Lsn::FIRST), last), 1);
        assert_eq!(ahead.chunks.len(), 1, "nobody knows how far it gets");
        assert_eq!(ahead.take(&task(1, last.next()), 1), None);
    }

    /// Whoever ends waits for what is being read, but for nothing that is not begun.
    #[test]
    fn what_is_not_wanted_any_more_is_not_begun() {
        let disk = SimDisk::new(1);
        let of = |_| (Epoch::new(1), Content::PLAIN);
        let store = filled_on(&disk, of, 300, (10_000, 1 << 20));
        let (reader, (orders, taken)) = (store.reader(), unbounded());
        let mut ahead = Ahead::ordering(orders);
        ahead.fed = Some(ReplicaId::new(1));
        ahead.go_on(&reader, (&task(1, Lsn::FIRST), Lsn::ZERO), 1);
        assert_eq!((ahead.chunks.len(), taken.len()), (CHUNKS, CHUNKS));
        drop(ahead);
        let before = disk.bytes_read();
        taken.try_iter().for_each(carry_out);
        assert_eq!(disk.bytes_read(), before);
    }
}
