//! A disk as a value: the log, the meta and the snapshots of one replica, with what is synced and what is not.

use std::sync::Arc;

use annals::protocol::{
    Base, Content, EpochHistory, EpochStart, Group, Health, Meta, Position, SnapshotId, SnapshotOffer, Span,
    Spans, Staged, State,
};
use annals::{Epoch, LogIncarnation, Lsn, LsnRange, ProducerId};

/// What one record takes on this disk and on the way, in bytes, whatever it holds.
pub(crate) const RECORD_BYTES: u64 = 100;

/// One record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) epoch: Epoch,
    pub(crate) kind: Kind,
    /// What a client appended, or the name of the protocol's own record.
    pub(crate) text: Arc<str>,
}

/// What a record is to the core.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Plain,
    Produced(ProducerId, u64),
    Control(Content),
    /// Its bytes are gone.
    Lost,
}

/// A row of records right after a position.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Records {
    pub(crate) base: Position,
    pub(crate) entries: Vec<Entry>,
}

impl Records {
    pub(crate) fn last(&self) -> Lsn {
        self.base.lsn.plus(self.entries.len() as u64)
    }

    pub(crate) fn at(&self, lsn: Lsn) -> Option<&Entry> {
        let index = lsn.get().checked_sub(self.base.lsn.get())?.checked_sub(1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The records of a range; `None` if one of them is not here, or lost.
    pub(crate) fn range(&self, range: LsnRange) -> Option<Vec<Entry>> {
        let all = (range.first.get()..=range.last.get()).map(|lsn| self.at(Lsn::new(lsn)).cloned());
        all.map(|entry| entry.filter(|entry| entry.kind != Kind::Lost)).collect()
    }

    pub(crate) fn truncate(&mut self, after: Lsn) {
        let kept = after.get().saturating_sub(self.base.lsn.get());
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }

    /// Forgets everything up to and with `through`.
    pub(crate) fn trim(&mut self, through: Lsn) {
        let Some(epoch) = self.at(through).map(|entry| entry.epoch) else { return };
        let gone = usize::try_from(through.get() - self.base.lsn.get()).expect("a log of a test is short");
        self.entries.drain(..gone);
        self.base = Position { epoch, lsn: through };
    }

    /// The first records from `from` on that one group may hold and `bytes_max` allows; at least one.
    pub(crate) fn group(&self, from: Lsn, through: Lsn, bytes_max: u64) -> Option<Group> {
        let first = self.at(from).filter(|entry| entry.kind != Kind::Lost)?;
        let (epoch, mut last, mut spans) = (first.epoch, from, Vec::<Span>::new());
        if let Kind::Control(content) = &first.kind {
            let range = LsnRange { first: from, last: from };
            return Some(Group { epoch, range, bytes: RECORD_BYTES, content: content.clone() });
        }
        let mut lsn = from;
        while let Some(entry) = self.at(lsn).filter(|entry| entry.epoch == epoch && lsn <= through) {
            let bytes = (lsn.get() - from.get() + 1) * RECORD_BYTES;
            let is_client = matches!(entry.kind, Kind::Plain | Kind::Produced(..));
            if !is_client || (lsn > from && bytes > bytes_max) {
                break;
            }
            if let Kind::Produced(producer, sequence) = entry.kind {
                add_to_spans(&mut spans, producer, sequence, lsn);
            }
            (last, lsn) = (lsn, lsn.next());
        }
        let range = LsnRange { first: from, last };
        let content = Content::Records(spans.into_iter().collect());
        Some(Group { epoch, range, bytes: range.records() * RECORD_BYTES, content })
    }

    fn history(&self) -> EpochHistory {
        let mut starts: Vec<EpochStart> = vec![];
        for (entry, first) in self.entries.iter().zip(self.base.lsn.get() + 1..) {
            // Of what is lost not even the epoch is known: it is taken for that of the record before.
            let is_lost = entry.kind == Kind::Lost && !starts.is_empty();
            if !is_lost && starts.last().is_none_or(|start| start.epoch < entry.epoch) {
                starts.push(EpochStart { epoch: entry.epoch, first: Lsn::new(first) });
            }
        }
        EpochHistory::from_parts(self.base, starts, self.last()).expect("the epochs of a log are in order")
    }

    /// What the core has to know of the records after `after`.
    fn replay(&self, after: Lsn) -> Vec<(Lsn, Content)> {
        let mut replay = vec![];
        let mut lsn = after.next();
        while lsn <= self.last() {
            let Some(group) = self.group(lsn, self.last(), u64::MAX) else {
                lsn = lsn.next();
                continue;
            };
            if group.content != Content::PLAIN {
                replay.push((lsn, group.content));
            }
            lsn = group.range.last.next();
        }
        replay
    }
}

fn add_to_spans(spans: &mut Vec<Span>, producer: ProducerId, sequence: u64, lsn: Lsn) {
    match spans.last_mut() {
        Some(span)
            if span.producer == producer
                && span.last_sequence() + 1 == sequence
                && span.last_lsn().next() == lsn =>
        {
            span.records += 1;
        }
        _ => spans.push(Span { producer, sequence, lsn, records: 1 }),
    }
}

/// The records of a group, from the texts of its clients.
pub(crate) fn entries_of(group: &Group, texts: &[Arc<str>]) -> Vec<Entry> {
    let lsns = group.range.first.get()..=group.range.last.get();
    let entry = |(lsn, index): (u64, usize)| {
        let lsn = Lsn::new(lsn);
        let (kind, text) = match &group.content {
            Content::Records(spans) => (kind_in(spans, lsn), Arc::clone(&texts[index])),
            content => (Kind::Control(content.clone()), control_text(content)),
        };
        Entry { epoch: group.epoch, kind, text }
    };
    lsns.zip(0..).map(entry).collect()
}

fn kind_in(spans: &Spans, lsn: Lsn) -> Kind {
    let span = spans.as_slice().iter().find(|span| span.lsn <= lsn && lsn <= span.last_lsn());
    span.map_or(Kind::Plain, |span| {
        Kind::Produced(span.producer, span.sequence + (lsn.get() - span.lsn.get()))
    })
}

fn control_text(content: &Content) -> Arc<str> {
    match content {
        Content::EpochStart => "START".into(),
        Content::Membership(membership) if membership.is_joint() => {
            format!("JOINT-{}", membership.generation).into()
        }
        Content::Membership(membership) => format!("MEMBERS-{}", membership.generation).into(),
        Content::Register => "REGISTER".into(),
        Content::Expire { before } => format!("EXPIRE-{before}").into(),
        Content::Records(_) => "RECORDS".into(),
    }
}

/// A snapshot that is being received.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stage {
    pub(crate) offer: SnapshotOffer,
    pub(crate) bytes: u64,
    /// What the application will hold.
    pub(crate) covered: Arc<[Entry]>,
}

/// Something that the disk has been asked for and has not done yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Work {
    Write(Vec<Entry>),
    Truncate { after: Lsn, incarnation: LogIncarnation },
    Stage(SnapshotOffer),
    StageChunk { snapshot: SnapshotId, offset: u64, bytes: u32, covered: Arc<[Entry]>, is_sound: bool },
    Install { snapshot: SnapshotId, base: Arc<Base>, incarnation: LogIncarnation },
    Mend { range: LsnRange, entries: Vec<Entry>, is_sound: bool },
}

/// What a crash leaves.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) meta: Meta,
    pub(crate) base: Base,
    pub(crate) snapshot_bytes: Option<u64>,
    /// What the application's snapshot at the base holds.
    pub(crate) covered: Arc<[Entry]>,
    pub(crate) log: Records,
    pub(crate) commit: Lsn,
    pub(crate) staged: Option<Stage>,
    /// How often it was recovered.
    pub(crate) recoveries: u64,
    /// The durable note of a damage.
    pub(crate) is_damaged: bool,
    pub(crate) is_blank: bool,
}

impl Disk {
    /// Recovery: counts as one more life of the log.
    pub(crate) fn recover(&mut self) -> State {
        self.recoveries += 1;
        let health = match (self.is_blank, self.is_damaged) {
            (true, _) => Health::Blank,
            (_, true) => Health::Damaged(self.lost()),
            _ => Health::Whole,
        };
        State {
            meta: self.meta,
            base: self.base.clone(),
            history: self.log.history(),
            replay: self.log.replay(self.base.position.lsn),
            commit: self.commit.min(self.log.last()),
            incarnation: LogIncarnation::new(self.recoveries << 20),
            health,
            staged: self
                .staged
                .as_ref()
                .map(|stage| Staged { snapshot: stage.offer.id(), bytes: stage.bytes }),
            snapshot_bytes: self.snapshot_bytes,
        }
    }

    /// Everything that the application and the log hold at this record.
    pub(crate) fn entry(&self, lsn: Lsn) -> Option<&Entry> {
        let index = usize::try_from(lsn.get()).ok()?.checked_sub(1)?;
        self.log.at(lsn).or_else(|| self.covered.get(index))
    }

    /// Everything up to this record, as an application has it.
    pub(crate) fn through(&self, lsn: Lsn) -> Option<Arc<[Entry]>> {
        (1..=lsn.get()).map(|lsn| self.entry(Lsn::new(lsn)).cloned()).collect()
    }

    fn lost(&self) -> Vec<LsnRange> {
        let mut lost: Vec<LsnRange> = vec![];
        for (entry, lsn) in self.log.entries.iter().zip(self.log.base.lsn.get() + 1..) {
            let lsn = Lsn::new(lsn);
            match lost.last_mut() {
                _ if entry.kind != Kind::Lost => {}
                Some(range) if range.last.next() == lsn => range.last = lsn,
                _ => lost.push(LsnRange { first: lsn, last: lsn }),
            }
        }
        lost
    }
}
