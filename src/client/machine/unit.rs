//! Records that go together in one request: taken as one, or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{AppendOutcome, LinkId};
use crate::protocol::request::{Copies, RECORDS_MAX, Request};
use crate::types::ProducerId;

/// What a record weighs in memory beside its bytes.
const RECORD_WEIGHT: u64 = 32;

/// A producer, and its number of a unit's first record.
pub(super) type Number = (ProducerId, u64);

/// The appends of one request.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) outcome: Arc<AppendOutcome>,
    pub(super) copies: Copies,
    pub(super) deadline: Instant,
    /// When its first append came.
    opened: Instant,
    /// Size of each record; in the request once that is made.
    sizes: Vec<u32>,
    /// The records, while more may come.
    gathered: Vec<u8>,
    /// The records, once nothing joins them any more.
    payload: Bytes,
    records: u32,
    bytes: u64,
    /// The request as it was sent last.
    request: Option<Arc<Request>>,
    /// From the first attempt on, and as long as any may have been taken.
    pub(super) number: Option<Number>,
    /// The request that is awaited.
    pub(super) attempt: Option<(LinkId, u64)>,
    /// Whether an attempt whose reply never came may have been taken.
    pub(super) is_exposed: bool,
}

/// Where an append is: in which unit, and which of its records.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// What becomes of the unit.
    pub(crate) outcome: Arc<AppendOutcome>,
    /// Its part of that.
    pub(crate) share: Share,
}

/// Some of a unit's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    /// The first of them, from 0.
    pub(crate) first: u32,
    /// How many.
    pub(crate) records: u32,
}

/// What bounds a unit that gathers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

impl Unit {
    /// An empty one, with room for so many bytes.
    pub(super) fn open(copies: Copies, now: Instant, deadline: Instant, bytes: usize) -> Unit {
        Unit {
            outcome: Arc::new(AppendOutcome::new()),
            copies,
            deadline,
            opened: now,
            sizes: Vec::new(),
            gathered: Vec::with_capacity(bytes),
            payload: Bytes::new(),
            records: 0,
            bytes: 0,
            request: None,
            number: None,
            attempt: None,
            is_exposed: false,
        }
    }

    /// One that nothing joins.
    pub(super) fn whole(copies: Copies, now: Instant, deadline: Instant, batch: Batch) -> Unit {
        let mut unit = Unit::open(copies, now, deadline, 0);
        unit.records = u32::try_from(batch.sizes.len()).expect("fewer than RECORDS_MAX");
        unit.bytes = batch.payload.len() as u64;
        (unit.sizes, unit.payload) = (batch.sizes, batch.payload);
        unit
    }

    /// Whether these records may join: they become atomic with what is here, and time out with it.
    pub(super) fn takes(
        &self,
        copies: Copies,
        records: usize,
        bytes: usize,
        now: Instant,
        bounds: Bounds,
    ) -> bool {
        self.payload.is_empty()
            && self.copies == copies
            && self.gathered.len() + bytes <= bounds.bytes
            && self.sizes.len() + records <= RECORDS_MAX
            && now.saturating_duration_since(self.opened) <= bounds.age
    }

    /// Adds a record, which must fit.
    pub(super) fn push(&mut self, record: &[u8]) {
        self.sizes.push(u32::try_from(record.len()).expect("a record that joins is small"));
        self.gathered.extend_from_slice(record);
        self.records += 1;
        self.bytes += record.len() as u64;
    }

    pub(super) const fn records(&self) -> u32 {
        self.records
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it takes in memory.
    pub(super) fn weight(&self) -> u64 {
        self.bytes + RECORD_WEIGHT * u64::from(self.records)
    }

    /// Whether it is numbered, so that a retry is taken once. What waits for less than a commit is not: it may be lost
    /// after it was acknowledged, and its producer would be stuck at the gap.
    pub(super) const fn wants_number(&self) -> bool {
        !matches!(self.copies, Copies::Local)
    }

    /// The request with its number as it is now, and the records beside it.
    pub(super) fn sealed(&mut self) -> (Arc<Request>, Bytes) {
        if !self.gathered.is_empty() {
            self.payload = std::mem::take(&mut self.gathered).into();
        }
        let is_made = self.request.as_deref().is_some_and(|request| self.is_request(request));
        if !is_made {
            if let Some(Request::Append { sizes, .. }) = self.request.as_deref() {
                self.sizes.clone_from(sizes);
            }
            let sizes = std::mem::take(&mut self.sizes);
            self.request =
                Some(Arc::new(Request::Append { producer: self.number, copies: self.copies, sizes }));
        }
        let request = self.request.as_ref().expect("made above");
        (Arc::clone(request), self.payload.clone())
    }

    fn is_request(&self, request: &Request) -> bool {
        matches!(request, Request::Append { producer, .. } if *producer == self.number)
    }
}

/// Records of which the bytes were put together already.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Size of each.
    pub(crate) sizes: Vec<u32>,
    /// The records, back to back.
    pub(crate) payload: Bytes,
}
