//! What the newest segment is, and with that what an open of the log would do. Changes nothing.

use std::ops::Range;

use super::chain::{self, Chain, Known, LinkEnd, segment_of};
use super::scan::{Looking, Scan};
use super::survey::{Content, Found, survey};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::format::{
    CleanTail, Footer, FooterKind, HEADER_BLOCK_BYTES, SegmentHeader, Superblock, Verdict, block_up,
};
use crate::log::superblock_file::FoundSuperblock;
use crate::segment::{Extent, read_footer, segment_name};
use crate::types::{Epoch, Lsn};

/// A log that can be opened, and how.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) superblock: Superblock,
    pub(super) chain: Chain,
    pub(super) newest: Newest,
    pub(super) unfinished: Vec<String>,
    pub(super) next_spare_number: u64,
}

/// The newest segment.
#[derive(Debug)]
pub(super) enum Newest {
    /// There is none.
    Nothing,
    /// It is sealed.
    Sealed { end: LinkEnd, epoch: Epoch },
    /// It is the tail, parked by a clean close.
    Parked { extent: Extent },
    /// It is the tail, as a scan has found it.
    Scanned { extent: Extent, scanned: Scanned },
}

/// What a scan says beside the extent.
#[derive(Clone, Debug)]
pub(super) struct Scanned {
    /// Groups that were never acknowledged, to be overwritten before anything is appended.
    pub(super) torn: Range<u64>,
    /// Groups that count, and that nothing vouches for having reached the disk: whole blocks.
    pub(super) unvouched: Range<u64>,
    /// The newest record that something vouches for.
    pub(super) vouched: Lsn,
}

impl Plan {
    /// Looks at the log in the directory and judges it.
    ///
    /// # Errors
    /// [`Error::Rot`], [`Error::Hole`], [`Error::ForeignFile`], [`Error::NewerVersion`], and whatever the
    /// operating system says.
    pub(super) fn make(disk: &dyn Disk, found: FoundSuperblock, looking: Looking) -> Result<Plan> {
        let FoundSuperblock { superblock, is_newest } = found;
        let survey = survey(disk, superblock.log_id)?;
        let (unfinished, next_spare_number) = (survey.unfinished.clone(), survey.next_spare_number);
        let clean_tail = superblock.clean_tail.filter(|_| is_newest);
        let last_of_clean = clean_tail.map_or(Lsn::ZERO, |tail| tail.last_lsn);
        let first_lsn = superblock.first_lsn;
        // What was trimmed away was acknowledged too.
        let durable = superblock.durable.max(last_of_clean).max(first_lsn.prev());
        let known = Known { disk, looking, first_lsn, durable };
        let chain = Chain::build(known, survey)?;
        let durable = durable.max(before_spares(&chain));
        let known = Known { durable, ..known };
        let durable = durable.max(before_headless(known, &chain)?);
        let newest = Known { durable, ..known }.newest(chain.last.as_ref(), clean_tail)?;
        let plan = Plan { superblock, chain, newest, unfinished, next_spare_number };
        plan.check_rest(known)?;
        Ok(plan)
    }

    /// The newest record that counts; the one before the first if there is none.
    pub(super) fn last_lsn(&self) -> Lsn {
        match &self.newest {
            Newest::Nothing => self.superblock.first_lsn.prev(),
            Newest::Sealed { end, .. } => end.last_lsn(),
            Newest::Parked { extent } | Newest::Scanned { extent, .. } => extent.last,
        }
    }

    /// The epoch to go on with.
    pub(super) fn epoch(&self) -> Epoch {
        let newest = match &self.newest {
            Newest::Nothing => Epoch::default(),
            Newest::Sealed { epoch, .. } => *epoch,
            Newest::Parked { extent } | Newest::Scanned { extent, .. } => epoch_of(extent),
        };
        let begun = self.chain.last.as_ref().map_or(Epoch::default(), |last| segment_of(last).epoch);
        newest.max(begun).max(self.superblock.epoch)
    }

    /// Whether a clean close left the log like this.
    pub(super) fn is_clean(&self) -> bool {
        matches!(self.newest, Newest::Parked { .. })
    }

    /// Files that are no part of the log hold nothing that was acknowledged, and do not tell of anything.
    fn check_rest(&self, known: Known<'_>) -> Result<()> {
        let next = self.last_lsn().next();
        if let Some(headless) = &self.chain.headless {
            let first = headless.first_lsn();
            if first != next {
                let (first, last) = (first.min(next), first.max(next));
                return Err(Error::Hole { file: headless.name.clone(), first, last });
            }
        }
        if let Some(header) = later_in_spares(&self.chain).next() {
            // Something else has its name: what is in it must not be wiped.
            let (first, last) = (header.first_lsn.min(next), header.first_lsn.max(next));
            return Err(Error::Hole { file: segment_name(header.first_lsn).into(), first, last });
        }
        if self.is_clean() {
            return Ok(());
        }
        for spare in &self.chain.spares {
            let vouched = known.vouched_by(spare, next)?;
            if vouched >= next {
                return Err(lost_header(spare, next, vouched));
            }
        }
        Ok(())
    }
}

/// The newest record that a file vouches for because it was begun after that: one with the name of a segment
/// and no header. Refuses the log if that segment held acknowledged records itself.
fn before_headless(known: Known<'_>, chain: &Chain) -> Result<Lsn> {
    let Some(headless) = &chain.headless else { return Ok(Lsn::ZERO) };
    let first = headless.first_lsn();
    let vouched = known.vouched_by(headless, first)?.max(known.durable);
    if vouched >= first {
        return Err(lost_header(headless, first, vouched));
    }
    Ok(first.prev())
}

/// The newest record that a spare vouches for because a segment was begun in it after that, which is not the
/// next one: those between are missing, or have lost their headers.
fn before_spares(chain: &Chain) -> Lsn {
    later_in_spares(chain).map(|header| header.first_lsn.prev()).max().unwrap_or(Lsn::ZERO)
}

/// The headers of segments after the newest one that were begun in spares.
fn later_in_spares(chain: &Chain) -> impl Iterator<Item = &SegmentHeader> {
    let newest = chain.last.as_ref().map(|last| segment_of(last).segment_id);
    let begun = chain.spares.iter().filter_map(Found::header);
    begun.filter(move |header| newest.is_none_or(|newest| header.segment_id > newest))
}

fn lost_header(found: &Found, first: Lsn, last: Lsn) -> Error {
    Error::Rot { file: found.name.clone(), bytes: 0..HEADER_BLOCK_BYTES as u64, first, last }
}

impl Known<'_> {
    fn newest(&self, last: Option<&Found>, clean_tail: Option<CleanTail>) -> Result<Newest> {
        let Some(last) = last else {
            self.nothing_after(self.first_lsn.prev())?;
            return Ok(Newest::Nothing);
        };
        let Content::Segment { header, footer } = &last.content else {
            unreachable!("only files with a header are part of the chain");
        };
        match footer {
            Some(footer) if footer.kind == FooterKind::Sealed => self.newest_sealed(last, footer),
            Some(footer) if clean_tail.is_some_and(|tail| is_parked(footer, &tail)) => {
                let file = last.open(self.disk, Access::Read)?;
                match read_footer(&*file, &last.name, header)? {
                    Some((footer, tables)) => {
                        self.nothing_after(footer.last_lsn)?;
                        let Footer { end, last_lsn: last, digest, groups, .. } = footer;
                        Ok(Newest::Parked { extent: Extent { end, last, digest, groups, tables } })
                    }
                    None => self.newest_open(last),
                }
            }
            _ => self.newest_open(last),
        }
    }

    fn newest_sealed(&self, last: &Found, footer: &Footer) -> Result<Newest> {
        self.nothing_after(footer.last_lsn)?;
        let file = last.open(self.disk, Access::Read)?;
        if let Some((_, tables)) = read_footer(&*file, &last.name, segment_of(last))? {
            let epoch = tables.epochs().last().map_or(Epoch::default(), |start| start.epoch);
            return Ok(Newest::Sealed { end: LinkEnd::Sealed(*footer), epoch });
        }
        // The index does not check, but the end is known.
        let scan = self.rescan(last, footer.last_lsn)?.expect("a footer ends after it begins");
        if let Some(error) = chain::loss(last, &scan.verdict) {
            return Err(error);
        }
        let epoch = scan.epoch;
        Ok(Newest::Sealed { end: LinkEnd::Scanned(Box::new(scan)), epoch })
    }

    fn newest_open(&self, last: &Found) -> Result<Newest> {
        let mut scan = self.scan(last, self.durable)?;
        // A writer may have written an early group between reads of its place and of a later one that vouches
        // for it. Then it is there now.
        while self.looking == Looking::Copied && scan.verdict.is_loss() {
            let again = self.scan(last, self.durable)?;
            if again.extent.end == scan.extent.end {
                break;
            }
            scan = again;
        }
        if let Some(error) = chain::loss(last, &scan.verdict) {
            return Err(error);
        }
        let scanned = Scanned::of(&scan, self.durable);
        Ok(Newest::Scanned { extent: scan.extent, scanned })
    }

    /// A segment that ends with `last` and is followed by none must not be followed by acknowledged records.
    fn nothing_after(&self, last: Lsn) -> Result<()> {
        let next = last.next();
        if self.durable < next {
            return Ok(());
        }
        Err(Error::Hole { file: segment_name(next).into(), first: next, last: self.durable })
    }
}

impl LinkEnd {
    pub(super) fn last_lsn(&self) -> Lsn {
        match self {
            LinkEnd::Sealed(footer) => footer.last_lsn,
            LinkEnd::Scanned(scan) => scan.extent.last,
        }
    }
}

impl Scanned {
    fn of(scan: &Scan, durable: Lsn) -> Scanned {
        let Extent { end, last, groups, tables, .. } = &scan.extent;
        let torn = match &scan.verdict {
            Verdict::Torn { bytes, .. } => bytes.clone(),
            _ => *end..*end,
        };
        let vouched = scan.vouched.max(durable);
        let start = match tables.find(vouched.next()) {
            _ if vouched >= *last && *groups > 0 => block_up(*end),
            // The segment's header was written together with its first group.
            Some(entry) if entry.group > HEADER_BLOCK_BYTES as u64 => block_up(entry.group + 1) - BLOCK,
            _ => 0,
        };
        Scanned { torn, unvouched: start..block_up(*end), vouched: vouched.min(*last) }
    }
}

const BLOCK: u64 = crate::format::BLOCK_BYTES as u64;

fn is_parked(footer: &Footer, tail: &CleanTail) -> bool {
    footer.kind == FooterKind::Parked
        && footer.segment_id == tail.segment_id
        && footer.end == tail.end
        && footer.last_lsn == tail.last_lsn
        && footer.digest == tail.digest
}

fn epoch_of(extent: &Extent) -> Epoch {
    extent.tables.epochs().last().map_or(Epoch::default(), |start| start.epoch)
}
