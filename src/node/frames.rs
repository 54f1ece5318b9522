//! Groups of the protocol as frames, and back.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::records::Records;
use crate::format::{
    Digest, Frame, FrameKind, Origin, Stamp, batch_payload_bytes, frame_bytes, produced_payload_bytes,
    write_batch, write_control, write_epoch_start, write_produced, write_record,
};
use crate::protocol::{Content, Group, Span, Spans, wire};
use crate::types::{Epoch, Lsn, LsnRange, ProducerId};

/// A record of a log as somebody reads it who wants all of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The record.
    pub lsn: Lsn,
    /// The epoch that it was written in.
    pub epoch: Epoch,
    /// Whether it is a client's, and not the protocol's own.
    pub is_record: bool,
    /// Who appended it, if that is known, and its number.
    pub producer: Option<(ProducerId, u64)>,
    /// The client's bytes, or those of a control record; nothing for the start of an epoch.
    pub bytes: Bytes,
}

/// Why bytes are not the frames of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BadGroup {
    /// They are no frames, or do not check.
    Damaged,
    /// They are frames, and not those of this group, or of any.
    Other,
}

impl fmt::Display for BadGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadGroup::Damaged => "the bytes are no frames that check",
            BadGroup::Other => "the frames are those of another group",
        })
    }
}

impl std::error::Error for BadGroup {}

/// Size of the frames of client records of these sizes: what a [`Proposal`](crate::protocol::Proposal) says.
#[must_use]
pub fn frames_bytes(has_producer: bool, records: impl IntoIterator<Item = usize>) -> u64 {
    let (count, bytes) =
        records.into_iter().fold((0, 0), |(count, bytes), record| (count + 1, bytes + record as u64));
    frame_bytes(payload_bytes(has_producer, count, bytes))
}

fn payload_bytes(has_producer: bool, records: usize, bytes: u64) -> u64 {
    match (has_producer, records) {
        (true, _) => produced_payload_bytes(records, bytes),
        (false, 1) => bytes,
        (false, _) => batch_payload_bytes(records, bytes),
    }
}

/// The frames of a group that is about to be written: of the clients' `records`, or of the control record that it is.
///
/// Records of a producer are made into a frame for each span, and others into one for those between. `group.bytes` is
/// not looked at.
///
/// # Panics
/// If the group has another number of records.
#[must_use]
pub fn frame_group(group: &Group, records: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let stamp = Stamp { lsn: group.range.first, epoch: group.epoch };
    match &group.content {
        Content::Records(spans) => frame_records(group, spans.as_slice(), records),
        Content::EpochStart => framed(0, |frame| write_epoch_start(frame, stamp)),
        content => {
            let mut payload = Vec::new();
            wire::encode_control(content, &mut payload);
            framed(payload.len() as u64, |frame| write_control(frame, stamp, &payload))
        }
    }
}

/// The frames of a group that was made of these appends: one for each, in a buffer that is allocated once.
///
/// # Panics
/// If the appends are not those that the group was made of.
pub(super) fn frame_appends<'a>(
    group: &Group,
    appends: impl Iterator<Item = (Option<(ProducerId, u64)>, &'a Records)>,
) -> Bytes {
    let mut frames = BytesMut::zeroed(usize::try_from(group.bytes).expect("a group that fits in memory"));
    let (mut rest, mut lsn) = (&mut frames[..], group.range.first);
    for (producer, records) in appends {
        let count = records.count();
        let payload = payload_bytes(producer.is_some(), count, records.bytes().len() as u64);
        let frame_bytes = usize::try_from(frame_bytes(payload)).expect("a part of the group");
        let (frame, after) = rest.split_at_mut(frame_bytes);
        let stamp = Stamp { lsn, epoch: group.epoch };
        match producer {
            Some((producer, sequence)) => {
                write_produced(frame, stamp, Origin { producer, sequence }, records.iter())
            }
            None if count == 1 => write_record(frame, stamp, records.bytes()),
            None => write_batch(frame, stamp, records.iter()),
        };
        (rest, lsn) = (after, lsn.plus(count as u64));
    }
    assert!(rest.is_empty() && lsn == group.range.last.next(), "the appends of the group");
    frames.freeze()
}

fn frame_records(group: &Group, spans: &[Span], records: &[impl AsRef<[u8]>]) -> Vec<u8> {
    assert!(group.range.records() == records.len() as u64, "as many records as the group has LSNs");
    let place =
        |lsn: Lsn| usize::try_from(lsn.get() - group.range.first.get()).expect("a place in the group");
    let mut frames = Vec::new();
    let mut next = group.range.first;
    for span in spans {
        if span.lsn > next {
            frame_run(&mut frames, (next, group.epoch), None, &records[place(next)..place(span.lsn)]);
        }
        let origin = Origin { producer: span.producer, sequence: span.sequence };
        next = span.last_lsn().next();
        frame_run(&mut frames, (span.lsn, group.epoch), Some(origin), &records[place(span.lsn)..place(next)]);
    }
    if next <= group.range.last {
        frame_run(&mut frames, (next, group.epoch), None, &records[place(next)..]);
    }
    frames
}

/// Appends the one frame of these records.
fn frame_run(
    frames: &mut Vec<u8>,
    (lsn, epoch): (Lsn, Epoch),
    origin: Option<Origin>,
    records: &[impl AsRef<[u8]>],
) {
    let stamp = Stamp { lsn, epoch };
    let bytes = records.iter().map(|record| record.as_ref().len() as u64).sum();
    frames.extend(framed(payload_bytes(origin.is_some(), records.len(), bytes), |frame| {
        match (origin, records) {
            (Some(origin), records) => write_produced(frame, stamp, origin, records),
            (None, [record]) => write_record(frame, stamp, record.as_ref()),
            (None, records) => write_batch(frame, stamp, records),
        }
    }));
}

fn framed(payload_bytes: u64, write: impl FnOnce(&mut [u8]) -> u32) -> Vec<u8> {
    let mut frame =
        vec![0; usize::try_from(frame_bytes(payload_bytes)).expect("a frame that fits in memory")];
    write(&mut frame);
    frame
}

/// What these frames hold.
///
/// # Errors
/// If they are not the frames of one group: they do not check, are not dense, of two epochs or lost, or a control record
/// is among others.
pub fn group_of(frames: &[u8]) -> Result<Group, BadGroup> {
    let mut rest = frames;
    let mut gathered: Option<Gathered> = None;
    while !rest.is_empty() {
        let frame = Frame::parse(rest).map_err(|_| BadGroup::Damaged)?;
        frame.check().map_err(|_| BadGroup::Damaged)?;
        match &mut gathered {
            None => gathered = Some(Gathered::begin(&frame)?),
            Some(gathered) if gathered.takes(&frame) => gathered.take(&frame)?,
            Some(_) => return Err(BadGroup::Other),
        }
        rest = &rest[frame.stored().len()..];
    }
    gathered.map(Gathered::into_group).ok_or(BadGroup::Other)
}

/// Checks that bytes which came with a message are the frames of the group that the message names: to be called before
/// the message is handed to the core.
///
/// # Errors
/// If they are not.
pub fn check_group(group: &Group, frames: &[u8]) -> Result<(), BadGroup> {
    let Content::Records(spans) = &group.content else {
        // The protocol says the size of the record, which it makes itself, and not that of its frame.
        let found = Group { bytes: group.bytes, ..group_of(frames)? };
        return if found == *group { Ok(()) } else { Err(BadGroup::Other) };
    };
    if frames.len() as u64 != group.bytes {
        return Err(BadGroup::Other);
    }
    // Frame by frame, because a backup does this with every group: nothing is allocated.
    let (mut rest, mut next, mut spans) = (frames, group.range.first, spans.as_slice().iter());
    while !rest.is_empty() {
        let frame = Frame::parse(rest).map_err(|_| BadGroup::Damaged)?;
        frame.check().map_err(|_| BadGroup::Damaged)?;
        let header = frame.header();
        let is_record = matches!(header.kind, FrameKind::Record | FrameKind::Batch | FrameKind::Produced);
        let span = span_of(&frame);
        let is_stated = span.is_none() || span.as_ref() == spans.next();
        if !is_record || header.lsn != next || header.epoch != group.epoch || !is_stated {
            return Err(BadGroup::Other);
        }
        next = header.last_lsn().next();
        rest = &rest[frame.stored().len()..];
    }
    let is_all = next == group.range.last.next() && spans.next().is_none() && !frames.is_empty();
    if is_all { Ok(()) } else { Err(BadGroup::Other) }
}

/// The span that a frame is, if its records have a producer.
fn span_of(frame: &Frame<'_>) -> Option<Span> {
    let header = frame.header();
    frame.origin().map(|Origin { producer, sequence }| Span {
        producer,
        sequence,
        lsn: header.lsn,
        records: header.count,
    })
}

/// The digest that goes with chunks of snapshots and with records for a repair.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let folded = words
        .iter()
        .fold(Digest::new(bytes.len() as u64), |digest, word| digest.fold(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    folded.fold(u64::from_le_bytes(last)).get()
}

/// What a frame says to the protocol; `None` for a gap.
///
/// # Errors
/// If it is a control record in a form that nobody knows.
pub(super) fn content_of(frame: &Frame<'_>) -> Result<Option<Content>, BadGroup> {
    let header = frame.header();
    Ok(Some(match (header.kind, span_of(frame)) {
        (FrameKind::Gap, _) => return Ok(None),
        (FrameKind::EpochStart, _) => Content::EpochStart,
        (FrameKind::Control, _) => wire::decode_control(frame.payload()).map_err(|_| BadGroup::Damaged)?,
        (_, None) => Content::PLAIN,
        (_, Some(span)) => Content::Records(Spans::One(span)),
    }))
}

/// The frames of a group as they come.
#[derive(Debug)]
pub(super) struct Gathered {
    epoch: Epoch,
    range: LsnRange,
    bytes: u64,
    /// `None` while all are records.
    control: Option<Content>,
    spans: Vec<Span>,
}

impl Gathered {
    /// A group that begins with this frame.
    ///
    /// # Errors
    /// If it is a gap, or a control record in a form that nobody knows.
    pub(super) fn begin(frame: &Frame<'_>) -> Result<Gathered, BadGroup> {
        let header = frame.header();
        let range = LsnRange { first: header.lsn, last: header.last_lsn() };
        let bytes = header.frame_bytes();
        let mut gathered = Gathered { epoch: header.epoch, range, bytes, control: None, spans: Vec::new() };
        gathered.note(frame)?;
        Ok(gathered)
    }

    /// Whether the frame can be in the same group.
    pub(super) fn takes(&self, frame: &Frame<'_>) -> bool {
        let header = frame.header();
        let is_record = matches!(header.kind, FrameKind::Record | FrameKind::Batch | FrameKind::Produced);
        let follows = header.lsn == self.range.last.next() && header.epoch == self.epoch;
        let has_room = self.spans.len() < wire::GROUP_SPANS_MAX;
        self.control.is_none() && is_record && follows && has_room
    }

    /// Takes it, as [`takes`](Gathered::takes) has said that it can be.
    pub(super) fn take(&mut self, frame: &Frame<'_>) -> Result<(), BadGroup> {
        self.range.last = frame.header().last_lsn();
        self.bytes += frame.header().frame_bytes();
        self.note(frame)
    }

    fn note(&mut self, frame: &Frame<'_>) -> Result<(), BadGroup> {
        match content_of(frame)?.ok_or(BadGroup::Other)? {
            Content::Records(spans) => self.spans.extend_from_slice(spans.as_slice()),
            control => self.control = Some(control),
        }
        Ok(())
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn into_group(self) -> Group {
        let Gathered { epoch, range, bytes, control, spans } = self;
        let content = control.unwrap_or_else(|| Content::Records(spans.into_iter().collect()));
        Group { epoch, range, bytes, content }
    }
}
