//! Reading a segment as a whole: mapped where nobody writes to it, and in a bounded window beside a writer.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::survey::Found;
use crate::disk::{Access, Disk, File, Gentle, Reading};
use crate::error::Result;
use crate::format::{SegmentHeader, TailScan, Verdict, rescan_sealed, scan_tail};
use crate::segment::{Cause, Examined, Extent, Question, examine};
use crate::types::{Epoch, Lsn};

/// Bytes that are read at a time to see whether they can be read.
const TOUCH_BYTES: usize = 1 << 20;

/// How the bytes of a segment are got at as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Looking {
    /// Mapped: nobody writes to the file meanwhile.
    Mapped,
    /// Copied, a window at a time: somebody may be writing to the file, so that what is read may be neither old nor
    /// new.
    Copied,
    /// Copied as well, as [`Gentle`] reads: somebody else may be waiting for the disk.
    Gently,
}

/// What is known of a segment's end before it is scanned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// It ends with this record.
    Last(Lsn),
    /// It is to be found; every record up to this one is known to have been acknowledged.
    Durable(Lsn),
}

/// What a scan has found.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// The groups that count.
    pub(super) extent: Extent,
    /// The epoch of the newest record; the header's if there are none.
    pub(super) epoch: Epoch,
    /// Whether a repair has given up records in the segment, so that its digest can only be stated.
    pub(super) has_gaps: bool,
    /// The newest record that its groups know to be durable.
    pub(super) vouched: Lsn,
    pub(super) verdict: Verdict,
}

impl Found {
    /// Scans the file from its start up to where the footer of a segment with this header begins, or to its end.
    ///
    /// # Errors
    /// Whatever the operating system says, also of a single block.
    pub(super) fn scan(
        &self,
        disk: &dyn Disk,
        (header, looking): (&SegmentHeader, Looking),
        until: Until,
    ) -> Result<Scan> {
        let file = self.open(disk, Access::Read)?;
        let file: Arc<dyn File> = if looking == Looking::Gently { Arc::new(Gentle::new(file)) } else { file };
        match looking {
            Looking::Mapped => self.scan_mapped(&*file, header, until),
            Looking::Copied | Looking::Gently => self.scan_copied(&*file, header, until),
        }
    }

    fn scan_mapped(&self, file: &dyn File, header: &SegmentHeader, until: Until) -> Result<Scan> {
        let end = header.data_end().min(file.bytes().map_err(|source| self.io("look at", source))?);
        // A bad sector is an error here, and a signal that kills the process under the map.
        self.touch(file, 0..end)?;
        let map = file.map().map_err(|source| self.io("map", source))?;
        map.advise(Reading::Sequential);
        map.publish(end.min(map.mapped()));
        let bytes = map.bytes(0..map.published().min(end));
        Ok(Scan::of(match until {
            Until::Last(last) => rescan_sealed(bytes, header, last),
            Until::Durable(durable) => scan_tail(bytes, header, durable),
        }))
    }

    fn scan_copied(&self, file: &dyn File, header: &SegmentHeader, until: Until) -> Result<Scan> {
        let (last, durable) = match until {
            Until::Last(last) => (Some(last), last),
            Until::Durable(durable) => (None, durable),
        };
        let name = &self.name;
        let (footer, next_digest, knows_start) = (None, None, true);
        let question = Question { file, name, header, footer, last, durable, next_digest, knows_start };
        let found = examine(&question, &|_| ControlFlow::Continue(()))?;
        // Bytes that cannot be read now may be there the next time: nothing is concluded from that.
        let unreadable = found.stretches.iter().find(|stretch| stretch.cause == Cause::Unreadable);
        if let Some(stretch) = unreadable {
            self.touch(file, stretch.bytes.clone())?;
            return Err(self.io("read", io::Error::other("a block could not be read at first")));
        }
        Ok(Scan::of_examined(found))
    }

    fn touch(&self, file: &dyn File, range: Range<u64>) -> Result<()> {
        let mut buffer = vec![0; TOUCH_BYTES];
        let mut at = range.start;
        while at < range.end {
            let bytes = (range.end - at).min(TOUCH_BYTES as u64);
            file.read_at(&mut buffer[..bytes as usize], at).map_err(|source| self.io("read", source))?;
            at += bytes;
        }
        Ok(())
    }
}

impl Scan {
    fn of(scan: TailScan) -> Scan {
        let of_later = scan.later.map_or(Lsn::ZERO, |later| later.durable_through);
        Scan {
            extent: Extent::of_scan(&scan),
            epoch: scan.epoch,
            has_gaps: scan.has_gaps,
            vouched: scan.durable_through.max(of_later),
            verdict: scan.verdict,
        }
    }

    fn of_examined(found: Examined) -> Scan {
        let prefix = found.prefix;
        Scan {
            extent: Extent {
                end: prefix.end,
                last: prefix.last_lsn,
                digest: prefix.digest,
                groups: prefix.groups,
                tables: found.tables,
            },
            epoch: prefix.epoch,
            has_gaps: !found.gaps.is_empty(),
            vouched: found.vouched,
            verdict: found.verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::disk::{DurableWriter, Map};
    use crate::format::HEADER_BLOCK_BYTES;
    use crate::log::LogOptions;
    use crate::log::recover::survey::{Content, Named};
    use crate::segment::segment_name;
    use crate::types::WriteMethod;

    /// A file of which nobody reads much at once, or maps.
    #[derive(Debug)]
    struct Narrow(Arc<dyn File>);

    impl File for Narrow {
        fn bytes(&self) -> io::Result<u64> {
            self.0.bytes()
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            assert!(buf.len() <= 1 << 20, "{} bytes are read at once", buf.len());
            self.0.read_at(buf, offset)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }
        fn sync(&self) -> io::Result<()> {
            unreachable!("it is only read")
        }
        fn allocate(&self, _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }
        fn write_zeroes(&self, _: u64) -> io::Result<bool> {
            unreachable!("it is only read")
        }
        fn map(&self) -> io::Result<Arc<Map>> {
            unreachable!("somebody may be writing to it")
        }
        fn writer(&self, _: WriteMethod) -> io::Result<Box<dyn DurableWriter>> {
            unreachable!("it is only read")
        }
        fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
            self.0.try_lock(exclusive)
        }
    }

    /// All of it was in memory at once, up to 16 GiB.
    #[test]
    fn a_segment_that_somebody_writes_to_is_scanned_in_bounded_memory() {
        let disk = SimDisk::new(1);
        // One segment holds all: a later one is begun in a spare, and gets its name by and by.
        let options = LogOptions::new("").segment_bytes(64 << 20).zero_fill(crate::log::ZeroFill::Never);
        let log = options.open_with(Arc::new(disk.clone())).unwrap();
        for number in 0..30 {
            // Also records larger than what is read at once.
            log.append_durable(&vec![number; 100_000 * usize::from(number)]).unwrap();
        }
        let name = segment_name(log.engine().commit().tail().header().first_lsn);
        let file = disk.open(&name, Access::Read).unwrap();
        let mut block = vec![0; HEADER_BLOCK_BYTES];
        file.read_at(&mut block, 0).unwrap();
        let header = SegmentHeader::decode(&block).unwrap();
        let bytes = file.bytes().unwrap();
        let content = Content::Segment { header, footer: None };
        let found = Found { name: name.into(), named: Named::Segment(header.first_lsn), bytes, content };
        let scan = found.scan_copied(&Narrow(file), &header, Until::Durable(Lsn::ZERO)).unwrap();
        assert_eq!(scan.extent.last, log.last_lsn());
        let mapped = found.scan(&disk, (&header, Looking::Mapped), Until::Durable(Lsn::ZERO)).unwrap();
        assert_eq!((&scan.extent, scan.epoch, scan.vouched), (&mapped.extent, mapped.epoch, mapped.vouched));
        assert_eq!(scan.verdict, mapped.verdict);
        let gentle = found.scan(&disk, (&header, Looking::Gently), Until::Durable(Lsn::ZERO)).unwrap();
        assert_eq!(
            (gentle.extent, gentle.vouched, gentle.verdict),
            (mapped.extent.clone(), mapped.vouched, mapped.verdict)
        );
        // Found while it had the name of a spare, which it has no more.
        let found = Found { name: "spare-000009.seg".into(), named: Named::Spare(9), ..found };
        let renamed = found.scan(&disk, (&header, Looking::Copied), Until::Durable(Lsn::ZERO)).unwrap();
        assert_eq!(renamed.extent, mapped.extent);
    }
}
