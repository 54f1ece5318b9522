//! What lies where in a log that is whole, by a walk of its own over the bytes.

use std::ops::Range;

use annals::Lsn;
use annals::format::{
    FOOTER_BLOCK_BYTES, Footer, FooterKind, Frame, FrameHeader, FrameKind, GROUP_HEADER_BYTES, GroupHeader,
    GroupPlace, HEADER_BLOCK_BYTES, SegmentHeader, Superblock, all_zero, block_up, choose_slot,
};

use crate::directory::{Directory, SUPERBLOCK};
use annals_fixtures::segment::index;

/// A whole log.
pub(crate) struct Anatomy {
    pub(crate) superblock: Superblock,
    /// In their order; those below the trim point are among them.
    pub(crate) segments: Vec<Segment>,
}

/// A segment.
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    /// The footer, if it is sealed, or parked and believed.
    pub(crate) footer: Option<Footer>,
    /// Those that count.
    pub(crate) groups: Vec<Group>,
    /// Headers of this life that stand after the end.
    pub(crate) later: Vec<GroupHeader>,
    /// Where the last frame that counts ends.
    pub(crate) end: u64,
    pub(crate) last: Lsn,
    /// Whether a truncation was going on.
    pub(crate) is_being_cut: bool,
}

/// A group.
pub(crate) struct Group {
    pub(crate) header: GroupHeader,
    /// Its frames that count.
    pub(crate) frames: Vec<Part>,
}

/// A frame.
pub(crate) struct Part {
    pub(crate) bytes: Range<u64>,
    pub(crate) header: FrameHeader,
}

impl Anatomy {
    /// Looks at a log that is whole.
    pub(crate) fn of(files: &Directory) -> Anatomy {
        let chosen = choose_slot(files.bytes(SUPERBLOCK).unwrap()).unwrap();
        let superblock = chosen.superblock;
        let mut found: Vec<(String, SegmentHeader)> = vec![];
        for name in files.segments() {
            match SegmentHeader::decode(files.bytes(&name).unwrap()) {
                Ok(header) if header.log_id == superblock.log_id => found.push((name, header)),
                _ => {}
            }
        }
        found.sort_by_key(|(_, header)| header.segment_id);
        let begins: Vec<Lsn> = found.iter().skip(1).map(|(_, header)| header.first_lsn).collect();
        let mut segments = vec![];
        for (number, (name, header)) in found.into_iter().enumerate() {
            let bytes = files.bytes(&name).unwrap();
            let parked = superblock.clean_tail.filter(|_| chosen.other_is_sound).map(|tail| tail.end);
            let footer = footer_of(bytes, &header)
                .filter(|footer| footer.kind == FooterKind::Sealed || parked == Some(footer.end));
            let known = begins.get(number).map(|begin| begin.prev()).or(footer.map(|footer| footer.last_lsn));
            segments.push(Segment::walk(name, bytes, (header, footer), known));
        }
        Anatomy { superblock, segments }
    }

    /// The newest record.
    pub(crate) fn last(&self) -> Lsn {
        self.segments.last().map_or(Lsn::ZERO, |segment| segment.last)
    }

    /// The segments that hold records that are retained, or may get some.
    pub(crate) fn retained(&self) -> &[Segment] {
        let first = self.superblock.first_lsn;
        let below = self.segments.iter().skip(1).take_while(|next| next.header.first_lsn <= first).count();
        &self.segments[below..]
    }
}

impl Segment {
    fn walk(
        name: String,
        bytes: &[u8],
        (header, footer): (SegmentHeader, Option<Footer>),
        last: Option<Lsn>,
    ) -> Segment {
        let mut segment = Segment {
            name,
            header,
            footer,
            groups: vec![],
            later: vec![],
            end: HEADER_BLOCK_BYTES as u64,
            last: header.first_lsn.prev(),
            is_being_cut: false,
        };
        let data = &bytes[..index(header.data_end())];
        while last.is_none_or(|last| segment.last < last) && segment.take(data, last) {}
        // A crash in the middle of a truncation may leave the footer of before.
        segment.footer = footer.filter(|footer| footer.end == segment.end);
        segment.is_being_cut = segment.footer != footer || last.is_some_and(|last| segment.last != last);
        for position in (segment.end..data.len() as u64).step_by(8) {
            let place = GroupPlace { incarnation: header.incarnation, position };
            segment.later.extend(GroupHeader::decode_at(&data[index(position)..], place));
        }
        segment
    }

    /// Takes the next group, if there is one, with its frames up to `last`.
    fn take(&mut self, data: &[u8], last: Option<Lsn>) -> bool {
        let boundary = block_up(self.end).min(data.len() as u64);
        let is_packed = !all_zero(&data[index(self.end)..index(boundary)]);
        let position = if is_packed { self.end } else { boundary };
        let place = GroupPlace { incarnation: self.header.incarnation, position };
        let Ok(header) = GroupHeader::decode_at(&data[index(position)..], place) else { return false };
        let mut group = Group { header, frames: vec![] };
        let mut digest = place.digest_seed();
        let mut at = header.frames_start();
        let mut next = self.last.next();
        while at < header.end() && last.is_none_or(|last| next <= last) {
            let Ok(frame) = Frame::parse(&data[index(at)..]) else { return false };
            if frame.check().is_err() || frame.header().lsn != next {
                return false;
            }
            let end = at + frame.stored().len() as u64;
            group.frames.push(Part { bytes: at..end, header: *frame.header() });
            digest = digest.fold(frame.header().checksum.into());
            (at, next) = (end, frame.header().last_lsn().next());
        }
        if at == header.end() && digest != header.digest {
            return false;
        }
        (self.end, self.last) = (at, next.prev());
        self.groups.push(group);
        true
    }

    /// The first block.
    pub(crate) fn head(&self) -> Range<u64> {
        0..HEADER_BLOCK_BYTES as u64
    }

    /// The tables of the footer.
    pub(crate) fn tables(&self) -> Range<u64> {
        self.header.data_end()..self.header.segment_bytes - FOOTER_BLOCK_BYTES as u64
    }

    /// The footer's last block.
    pub(crate) fn trailer(&self) -> Range<u64> {
        self.header.segment_bytes - FOOTER_BLOCK_BYTES as u64..self.header.segment_bytes
    }

    /// Where group `number` begins to differ from what is before it: with the zeros before its header.
    pub(crate) fn before(&self, number: usize) -> u64 {
        match number {
            0 => HEADER_BLOCK_BYTES as u64,
            _ => self.groups[number - 1].frames_end(),
        }
    }
}

impl Group {
    pub(crate) fn head(&self) -> Range<u64> {
        self.header.place.position..self.header.place.position + GROUP_HEADER_BYTES as u64
    }

    /// Where its last frame that counts ends.
    pub(crate) fn frames_end(&self) -> u64 {
        self.frames.last().map_or(self.header.frames_start(), |frame| frame.bytes.end)
    }

    pub(crate) fn first(&self) -> u64 {
        self.header.first_lsn.get()
    }

    pub(crate) fn last(&self) -> u64 {
        self.frames.last().map_or(self.first() - 1, |frame| frame.header.last_lsn().get())
    }
}

impl Part {
    pub(crate) fn lsns(&self) -> std::ops::RangeInclusive<u64> {
        self.header.lsn.get()..=self.header.last_lsn().get()
    }

    pub(crate) fn is_epoch_start(&self) -> bool {
        self.header.kind == FrameKind::EpochStart
    }
}

fn footer_of(bytes: &[u8], header: &SegmentHeader) -> Option<Footer> {
    let block = bytes.get(index(header.segment_bytes) - FOOTER_BLOCK_BYTES..index(header.segment_bytes))?;
    Footer::decode(block).ok().filter(|footer| footer.is_of(header))
}
