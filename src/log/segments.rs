//! The list of a log's segments, for everybody who reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::record::Record;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::Digest;
use crate::segment::{MapCache, Sealed, Segment, Step, Tail, View};
use crate::types::{Lsn, LsnRange};

/// The segments in the order of their LSNs. The newest is the tail, those before it are sealed, or will be
/// soon.
///
/// Changed by whoever holds the lock of group commit (new tails), by housekeeping (sealing, trimming) and by
/// a truncation, each for a moment. Readers take a segment out of the list and then need the list no more.
#[derive(Debug)]
pub(crate) struct Segments {
    list: RwLock<VecDeque<Segment>>,
    /// The oldest record that may be asked for: the trim point.
    first_lsn: AtomicU64,
    /// Counts truncations, so that cursors notice.
    cuts: AtomicU64,
    cache: MapCache,
    verify_reads: bool,
}

/// What a list of segments begins with.
#[derive(Debug)]
pub(crate) struct Listed {
    /// In their order.
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) tail: Option<Arc<Tail>>,
    pub(crate) first_lsn: Lsn,
}

impl Segments {
    /// A list of what recovery has found. Without `verify_reads`, sealed segments are verified as a whole when
    /// they are first read, and not again.
    pub(crate) fn new(disk: Arc<dyn Disk>, listed: Listed, verify_reads: bool) -> Segments {
        let sealed = listed.sealed.into_iter().map(|sealed| Segment::Sealed(Arc::new(sealed)));
        let list: VecDeque<_> = sealed.chain(listed.tail.map(Segment::Tail)).collect();
        let rising = |(one, next): (&Segment, &Segment)| one.first_lsn() <= next.first_lsn();
        assert!(list.iter().zip(list.iter().skip(1)).all(rising), "segments are listed in their order");
        Segments {
            list: RwLock::new(list),
            first_lsn: AtomicU64::new(listed.first_lsn.get()),
            cuts: AtomicU64::new(0),
            cache: MapCache::new(disk, MapCache::MAPS_MAX),
            verify_reads,
        }
    }

    /// The oldest record that the log still has, or the one to be appended first.
    pub(crate) fn first_lsn(&self) -> Lsn {
        // Acquire: pairs with the Release in `trim`.
        Lsn::new(self.first_lsn.load(Ordering::Acquire))
    }

    /// How many truncations there were.
    #[inline]
    pub(crate) fn cuts(&self) -> u64 {
        // Acquire: pairs with the Release in `cut`, so the durable watermark is seen as it was lowered.
        self.cuts.load(Ordering::Acquire)
    }

    /// All segments, oldest first.
    pub(crate) fn all(&self) -> Vec<Segment> {
        self.list.read().iter().cloned().collect()
    }

    /// The first sealed segment that begins after `before`, or the very first, and what the next one says of its end.
    pub(crate) fn sealed_after(&self, before: Option<Lsn>) -> Option<(Arc<Sealed>, Option<Digest>)> {
        let list = self.list.read();
        let index = before.map_or(0, |before| list.partition_point(|segment| segment.first_lsn() <= before));
        let Segment::Sealed(sealed) = list.get(index)? else { return None };
        let next = list.get(index + 1).map(|next| next.header().previous_digest);
        Some((Arc::clone(sealed), next))
    }

    /// Bytes of all their files.
    pub(crate) fn bytes(&self) -> u64 {
        self.list.read().iter().map(|segment| segment.header().segment_bytes).sum()
    }

    /// Tails that another one has followed, oldest first, each with the one that follows.
    pub(crate) fn unsealed(&self) -> Vec<(Arc<Tail>, Arc<Tail>)> {
        let list = self.list.read();
        // The tails are the newest ones: looking stops at the first that is sealed.
        let mut tails: Vec<_> = list.iter().rev().map_while(Segment::as_tail).map(Arc::clone).collect();
        tails.reverse();
        let next = tails.iter().skip(1).cloned().collect::<Vec<_>>();
        tails.into_iter().zip(next).collect()
    }

    /// Adds segments that begin, in their order. They are read from when their first group is durable.
    pub(crate) fn add_tails(&self, tails: Vec<Arc<Tail>>) {
        let mut list = self.list.write();
        for tail in tails {
            let follows = |newest: &Segment| newest.first_lsn() < tail.header().first_lsn;
            assert!(list.back().is_none_or(follows), "a segment begins after the ones before");
            list.push_back(Segment::Tail(tail));
        }
    }

    /// Puts a segment that was sealed in the place of its tail.
    pub(crate) fn sealed(&self, sealed: Sealed) {
        let mut list = self.list.write();
        let index = position(&list, sealed.first_lsn()).expect("a segment in the list is sealed");
        assert!(list[index].first_lsn() == sealed.first_lsn(), "a segment in the list is sealed");
        list[index] = Segment::Sealed(Arc::new(sealed));
    }

    /// Forgets the records before `first`; the caller has made that durable.
    pub(crate) fn begin_at(&self, first: Lsn) {
        // Release: pairs with the Acquire in `first_lsn`. Before the files go, so that a reader who misses one
        // sees why.
        self.first_lsn.fetch_max(first.get(), Ordering::Release);
    }

    /// Takes out the sealed segments that hold forgotten records only, whose files may go: who reads them
    /// keeps them.
    pub(crate) fn take_trimmed(&self) -> Vec<Arc<Sealed>> {
        let first = self.first_lsn();
        let mut gone = Vec::new();
        let mut list = self.list.write();
        while list.get(1).is_some_and(|next| next.first_lsn() <= first) {
            let Some(Segment::Sealed(oldest)) = list.front() else { break };
            gone.push(Arc::clone(oldest));
            list.pop_front();
        }
        drop(list);
        gone.iter().for_each(|sealed| sealed.let_go(&self.cache));
        gone
    }

    /// Lets the cache go of segments that are not in the list any more.
    fn let_go<'a>(&self, gone: impl IntoIterator<Item = &'a Segment>) {
        for segment in gone {
            if let Segment::Sealed(sealed) = segment {
                sealed.let_go(&self.cache);
            }
        }
    }

    /// Both at once, as a trim of the log does them.
    #[cfg(test)]
    pub(crate) fn trim(&self, first: Lsn) -> Vec<Arc<Sealed>> {
        self.begin_at(first);
        self.take_trimmed()
    }

    /// Forgets the records after `after`, and goes on with `tail`. The caller has lowered the durable
    /// watermark; `cut` is the segment that holds `after`, sealed again, if there is one.
    ///
    /// Returns the segments that hold nothing else, newest first.
    pub(crate) fn cut(&self, after: Lsn, cut: Option<Sealed>, tail: Arc<Tail>) -> Vec<Segment> {
        assert!(tail.header().first_lsn == after.next(), "the log goes on where it was cut");
        let gone = self.drop_after(after);
        let mut before = None;
        let mut list = self.list.write();
        if let Some(cut) = cut {
            let newest = list.back_mut().expect("the segment that was cut is in the list");
            assert!(newest.first_lsn() == cut.first_lsn() && cut.last_lsn() == after, "cut where it is said");
            before = Some(std::mem::replace(newest, Segment::Sealed(Arc::new(cut))));
        }
        list.push_back(Segment::Tail(tail));
        // Release: pairs with the Acquire in `cuts`. Under the lock: who sees the count finds the new list.
        self.cuts.fetch_add(1, Ordering::Release);
        drop(list);
        self.let_go(&before);
        gone
    }

    /// Puts what a cut keeps of the newest segment into its place, before its file gets the old one's name. The caller
    /// has lowered the durable watermark.
    pub(crate) fn replace_newest(&self, kept: Sealed) {
        let mut list = self.list.write();
        let newest = list.back_mut().expect("the segment that was cut is in the list");
        assert!(newest.first_lsn() == kept.first_lsn(), "cut where it is said");
        let before = Some(std::mem::replace(newest, Segment::Sealed(Arc::new(kept))));
        // Release: as in `cut`.
        self.cuts.fetch_add(1, Ordering::Release);
        drop(list);
        self.let_go(&before);
    }

    /// Takes the segments out of the list that hold only records after `after`, newest first, before their
    /// files go: readers do not look for them any more. The caller has lowered the durable watermark.
    pub(crate) fn drop_after(&self, after: Lsn) -> Vec<Segment> {
        let mut gone = Vec::new();
        let mut list = self.list.write();
        while list.back().is_some_and(|newest| newest.first_lsn() > after) {
            gone.extend(list.pop_back());
        }
        // Release: as in `cut`.
        self.cuts.fetch_add(u64::from(!gone.is_empty()), Ordering::Release);
        drop(list);
        self.let_go(&gone);
        gone
    }

    /// Puts segments that have grown in the place of the newest one: that one again first, then those that
    /// follow it. For a log that is only read.
    pub(crate) fn grow(&self, grown: Vec<Sealed>) {
        let Some(first) = grown.first().map(Sealed::first_lsn) else { return };
        let mut list = self.list.write();
        let before = list.pop_back();
        assert!(
            before.as_ref().is_some_and(|before| before.first_lsn() == first),
            "the newest segment grows"
        );
        list.extend(grown.into_iter().map(|sealed| Segment::Sealed(Arc::new(sealed))));
        drop(list);
        self.let_go(&before);
    }

    /// Goes on with another list, of which those segments that are the same keep what readers have of them.
    /// Counts as a truncation if records are gone that were not trimmed. For a log that is only read.
    pub(crate) fn renew(&self, listed: Listed) {
        // Release: as in `trim`.
        self.first_lsn.fetch_max(listed.first_lsn.get(), Ordering::Release);
        let mut new: VecDeque<_> =
            listed.sealed.into_iter().map(|sealed| Segment::Sealed(Arc::new(sealed))).collect();
        let mut list = self.list.write();
        let mut gone = Vec::new();
        let mut is_cut = false;
        for old in list.drain(..) {
            let found = position(&new, old.first_lsn()).map(|index| &mut new[index]);
            match found.filter(|found| found.header() == old.header()) {
                Some(found) if found.is_same(&old) => *found = old,
                Some(found) => {
                    is_cut |= found.last_lsn() < old.last_lsn();
                    gone.push(old);
                }
                None => {
                    is_cut |= old.last_lsn() >= listed.first_lsn;
                    gone.push(old);
                }
            }
        }
        *list = new;
        // Release: pairs with the Acquire in `cuts`. Under the lock: who sees the count finds the new list.
        self.cuts.fetch_add(u64::from(is_cut), Ordering::Release);
        drop(list);
        self.let_go(&gone);
    }

    /// The segment that holds the record, or would.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<Segment> {
        let list = self.list.read();
        position(&list, lsn).map(|index| list[index].clone())
    }

    /// Reads the segment that holds the record, which is next. It is durable.
    ///
    /// # Errors
    /// [`Error::Trimmed`]; [`Error::Rot`] or [`Error::Hole`] if the record is not where it should be; and
    /// whatever the operating system says.
    pub(crate) fn view(&self, lsn: Lsn) -> Result<View> {
        let trimmed = || {
            let first = self.first_lsn();
            if lsn < first { Err(Error::Trimmed { asked: lsn, first }) } else { Ok(()) }
        };
        trimmed()?;
        let missing =
            || Error::Hole { file: crate::segment::segment_name(lsn).into(), first: lsn, last: lsn };
        loop {
            let segment = self.find(lsn).ok_or_else(missing);
            let viewed = segment.as_ref().map_err(Error::clone).and_then(|segment| {
                let mut view = segment.view(&self.cache, self.verify_reads)?;
                view.seek(lsn)?;
                Ok(view)
            });
            // The segment may have gone meanwhile, or its file.
            let Err(error) = viewed else { return viewed };
            trimmed()?;
            // A truncation has put what it kept in the segment's place, and its file under the name: the record is there.
            // Whoever is gone is not found again, so this ends.
            if !segment.is_ok_and(|segment| segment.is_gone()) {
                return Err(error);
            }
        }
    }

    /// The record `lsn`; `None` if an epoch starts there.
    ///
    /// # Errors
    /// [`Error::BeyondEnd`] past `durable`, [`Error::Lost`] in a gap, and as for [`view`](Segments::view).
    pub(crate) fn read(&self, lsn: Lsn, durable: Lsn) -> Result<Option<Record>> {
        if lsn > durable {
            return Err(Error::BeyondEnd { asked: lsn, last: durable });
        }
        let cuts = self.cuts();
        let read = self.view(lsn).and_then(|mut view| match view.step(lsn)? {
            Step::Record(spot) => Ok(Some(Record::new(Arc::clone(view.pinned()), spot))),
            Step::Control | Step::End => Ok(None),
            Step::Gap { last } => Err(self.lost(&view, (lsn, last), durable)),
        });
        match read {
            // It looked for what a truncation was just taking away.
            Err(_) if self.cuts() != cuts => Err(Error::BeyondEnd { asked: lsn, last: self.last_lsn() }),
            read => read,
        }
    }

    /// The error for a record in a gap, of which `view` has read the part up to `last`: it names all of the gap that
    /// is retained, also where it goes on in other segments.
    pub(crate) fn lost(&self, view: &View, (lsn, last): (Lsn, Lsn), durable: Lsn) -> Error {
        // What cannot be looked at beside it is told when it is read.
        let beside = |lsn| self.view(lsn).ok()?.gap_around(lsn);
        let own = view.gap_around(lsn).unwrap_or(LsnRange { first: lsn, last });
        let LsnRange { mut first, mut last } = own;
        let oldest = self.first_lsn().min(lsn);
        while first > oldest {
            let Some(gap) = beside(first.prev()) else { break };
            first = gap.first;
        }
        while last < durable {
            let Some(gap) = beside(last.next()) else { break };
            last = gap.last;
        }
        Error::Lost { first: first.max(oldest), last }
    }

    fn last_lsn(&self) -> Lsn {
        self.list.read().back().map_or(Lsn::ZERO, Segment::last_lsn)
    }
}

/// The index of the segment that holds `lsn`, or would.
fn position(list: &VecDeque<Segment>, lsn: Lsn) -> Option<usize> {
    list.partition_point(|segment| segment.first_lsn() <= lsn).checked_sub(1)
}
