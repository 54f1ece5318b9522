//! Gives records up the way a repair does, so that what the engine makes of gaps can be tried without one.

use annals::Lsn;
use annals::disk::Disk;
use annals::disk::sim::SimDisk;
use annals::format::{
    Footer, FooterKind, FooterView, FrameKind, Frames, GROUP_HEADER_BYTES, GroupHeader, GroupPlace,
    HEADER_BLOCK_BYTES, Incarnation, SUPERBLOCK_BYTES, SegmentHeader, Stamp, Superblock, Tables, Walk,
    block_up, choose_slot, rescan_sealed, scan_tail, write_gap,
};

/// LSNs that one gap frame takes here at most: few, so that a gap may take several.
const FRAME_LSNS: u64 = 3;

/// Rewrites a log that was closed: records of which `is_lost` says so are gaps then. Whole batches are lost.
pub(crate) fn give_up(disk: &SimDisk, is_lost: impl Fn(u64) -> bool) {
    let names: Vec<_> = disk.list().unwrap();
    let mut names: Vec<_> = names.into_iter().filter(|name| name.as_bytes()[0].is_ascii_digit()).collect();
    names.sort();
    let mut last = Lsn::ZERO;
    for (index, name) in names.iter().enumerate() {
        let rewritten;
        (rewritten, last) = rewrite(&disk.contents(name), index + 1 < names.len(), &is_lost);
        disk.overwrite(name, 0, &rewritten);
    }
    let mut slots = vec![0; SUPERBLOCK_BYTES];
    let mut superblock = choose_slot(&disk.contents("superblock")).unwrap().superblock;
    superblock = Superblock { clean_tail: None, durable: last, ..superblock };
    for _ in 0..2 {
        superblock.sequence += 1;
        superblock.encode_into(&mut slots[superblock.position() as usize..]);
    }
    disk.overwrite("superblock", 0, &slots);
}

/// A segment with gaps in a new life of its file, with the end digest of the old one if it is sealed.
fn rewrite(old: &[u8], is_sealed: bool, is_lost: &impl Fn(u64) -> bool) -> (Vec<u8>, Lsn) {
    let header = SegmentHeader::decode(old).unwrap();
    let footer = FooterView::parse(&old[header.data_end() as usize..]).ok().map(|view| *view.footer());
    let scan = match footer.filter(|_| is_sealed) {
        Some(footer) => rescan_sealed(old, &header, footer.last_lsn),
        None => scan_tail(old, &header, Lsn::ZERO),
    };
    let frames = Frames::new(&old[..scan.end as usize], Walk::from_start(header.incarnation));
    let mut new = New::begin(old.len(), header);
    let mut lost: Option<(Stamp, u64)> = None;
    for step in frames {
        let (_, frame) = step.unwrap();
        let found = frame.header();
        let takes = found.lsn.get()..=found.last_lsn().get();
        if found.kind != FrameKind::EpochStart && takes.clone().any(is_lost) {
            let stamp = Stamp { lsn: found.lsn, epoch: found.epoch };
            lost = Some(
                lost.map_or((stamp, found.count.into()), |(from, n)| (from, n + u64::from(found.count))),
            );
            continue;
        }
        new.gap(lost.take());
        new.group(frame.stored());
    }
    new.gap(lost);
    if let Some(footer) = footer.filter(|_| is_sealed) {
        new.seal(footer);
    }
    (new.bytes, scan.last_lsn)
}

/// A segment as it is put together.
struct New {
    bytes: Vec<u8>,
    header: SegmentHeader,
    tables: Tables,
    end: u64,
    groups: u64,
}

impl New {
    fn begin(bytes: usize, header: SegmentHeader) -> New {
        let header =
            SegmentHeader { incarnation: Incarnation::new(header.incarnation.get() ^ 0x5A5A), ..header };
        let mut bytes = vec![0; bytes];
        header.encode_into(&mut bytes);
        New { bytes, header, tables: Tables::new(), end: HEADER_BLOCK_BYTES as u64, groups: 0 }
    }

    /// All frames of a gap in groups of their own.
    fn gap(&mut self, lost: Option<(Stamp, u64)>) {
        let Some((Stamp { mut lsn, epoch }, mut left)) = lost else { return };
        while left > 0 {
            let count = left.min(FRAME_LSNS);
            let mut frame = [0; 32];
            write_gap(&mut frame, Stamp { lsn, epoch }, count as u32);
            self.group(&frame);
            (lsn, left) = (lsn.plus(count), left - count);
        }
    }

    /// A group of one frame, packed where that fits a block.
    fn group(&mut self, frame: &[u8]) {
        let position = self.end;
        let place = GroupPlace { incarnation: self.header.incarnation, position };
        let header = GroupHeader::over(frame, place, Lsn::ZERO);
        let at = header.frames_start() as usize;
        header.encode_into(&mut self.bytes[at - GROUP_HEADER_BYTES..]);
        self.bytes[at..at + frame.len()].copy_from_slice(frame);
        let frame = annals::format::FrameHeader::decode(frame).unwrap();
        self.tables.note(&frame, position, at as u64);
        self.end = header.end();
        self.groups += 1;
        assert!(block_up(self.end) <= self.header.data_end(), "gaps are small");
    }

    fn seal(&mut self, old: Footer) {
        let footer = Footer {
            incarnation: self.header.incarnation,
            end: self.end,
            groups: self.groups,
            kind: FooterKind::Sealed,
            ..old
        };
        let region = self.header.data_end() as usize;
        footer.encode_into(&self.tables, &mut self.bytes[region..]);
    }
}
