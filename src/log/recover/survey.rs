//! What lies in the directory, by names, headers and footers.

use std::io;
use std::sync::Arc;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{
    self, BadBlock, FOOTER_BLOCK_BYTES, Footer, GROUP_HEADER_BYTES, GroupHeader, HEADER_BLOCK_BYTES,
    SegmentHeader,
};
use crate::segment::{FileName, is_of_one_life, segment_name};
use crate::types::{LogId, Lsn};

/// The files of a log beside its superblock.
#[derive(Debug)]
pub(super) struct Survey {
    /// Those named as segments, in the order of their names.
    pub(super) segments: Vec<Found>,
    pub(super) spares: Vec<Found>,
    /// Names of files that were being prepared.
    pub(super) unfinished: Vec<String>,
    pub(super) next_spare_number: u64,
}

/// A file that is, was or may become a segment.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: Arc<str>,
    pub(super) named: Named,
    /// Length of the file.
    pub(super) bytes: u64,
    pub(super) content: Content,
}

/// What a file's name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    Segment(Lsn),
    Spare(u64),
}

/// What a file's header and footer say.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A segment of this log, with its footer if there is one of this life of the file that checks.
    Segment { header: SegmentHeader, footer: Option<Footer> },
    /// No header that checks; the header of the group that stands first in the data, and the footer of this log
    /// in the last block, if there are any.
    Headless { blank: bool, stray: Option<GroupHeader>, footer: Option<Footer> },
}

/// Reads the headers and the footers of all files.
///
/// # Errors
/// [`Error::ForeignFile`], [`Error::NewerVersion`], and whatever the operating system says.
pub(super) fn survey(disk: &dyn Disk, log_id: LogId) -> Result<Survey> {
    let mut survey = Survey { segments: vec![], spares: vec![], unfinished: vec![], next_spare_number: 1 };
    for name in list(disk)? {
        match FileName::of(&name) {
            FileName::Segment(first) => {
                survey.segments.extend(Found::read(disk, name, Named::Segment(first), log_id)?);
            }
            FileName::Spare(number) => {
                survey.next_spare_number = survey.next_spare_number.max(number.saturating_add(1));
                survey.spares.extend(Found::read(disk, name, Named::Spare(number), log_id)?);
            }
            FileName::Unfinished if is_own(&name) => survey.unfinished.push(name),
            FileName::Lock
            | FileName::Superblock
            | FileName::Extract(_)
            | FileName::Kept(_)
            | FileName::Unfinished
            | FileName::Quarantine
            | FileName::PendingRepair
            | FileName::Other => {}
        }
    }
    survey.segments.sort_by_key(Found::first_lsn);
    survey.spares.sort_by_key(Found::first_lsn);
    Ok(survey)
}

/// Whether the directory holds nothing that says no to a new log.
pub(super) fn is_vacant(disk: &dyn Disk) -> Result<bool> {
    let (mut is_vacant, mut is_other) = (true, false);
    for name in list(disk)? {
        match FileName::of(&name) {
            FileName::Lock => {}
            FileName::Superblock => is_vacant = false,
            // What a crash may leave of creating a log.
            FileName::Unfinished if is_own(&name) => {}
            // There was a log, whatever else there is: names come in no order.
            FileName::Segment(_) | FileName::Spare(_) | FileName::Quarantine | FileName::PendingRepair => {
                return Err(Error::SuperblockDamaged);
            }
            FileName::Extract(_) | FileName::Kept(_) | FileName::Unfinished | FileName::Other => {
                is_other = true;
            }
        }
    }
    if is_other { Err(Error::NotEmpty) } else { Ok(is_vacant) }
}

/// Refuses a directory in which a repair was interrupted: what is there may be neither old nor new.
pub(super) fn no_repair_is_unfinished(disk: &dyn Disk) -> Result<()> {
    let names = list(disk)?.into_iter();
    match names.filter(|name| FileName::of(name) == FileName::PendingRepair).min() {
        Some(journal) => Err(Error::RepairUnfinished { journal: journal.into() }),
        None => Ok(()),
    }
}

/// Whether an unfinished file is one that only a log makes: others are nobody's business here.
fn is_own(name: &str) -> bool {
    let stem = name.strip_suffix(".tmp").unwrap_or(name);
    stem == "probe"
        || !matches!(FileName::of(stem), FileName::Other | FileName::Kept(_) | FileName::Unfinished)
}

fn list(disk: &dyn Disk) -> Result<Vec<String>> {
    disk.list().map_err(|source| Error::io("list files", "", source))
}

impl Found {
    /// Reads what the file says; `None` if it is gone.
    fn read(disk: &dyn Disk, name: String, named: Named, log_id: LogId) -> Result<Option<Found>> {
        let io = |doing| {
            let name = &name;
            move |source| Error::io(doing, name, source)
        };
        let file = match disk.open(&name, Access::Read) {
            // Beside a writer names come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io("open"))?,
        };
        let bytes = file.bytes().map_err(io("look at"))?;
        let mut start = vec![0; HEADER_BLOCK_BYTES + GROUP_HEADER_BYTES];
        let there = file.read_at(&mut start, 0).map_err(io("read"))?;
        let content = match SegmentHeader::decode(&start[..there.min(HEADER_BLOCK_BYTES)]) {
            Ok(header) if header.log_id == log_id => {
                let footer = read_trailer(&*file, &name, (&header, bytes))?;
                Content::Segment { header, footer }
            }
            Ok(header) => return Err(foreign(name, (log_id, header.log_id))),
            Err(BadBlock::Newer { found }) => return Err(newer(found)),
            Err(bad) => {
                let (blank, stray) = (bad == BadBlock::Blank, stray(&start[..there]));
                let footer = last_block(&*file, &name, bytes)?;
                let is_other = |footer: &Footer| {
                    footer.log_id != log_id && is_of_one_life(&*file, footer, stray.as_ref())
                };
                match footer {
                    Some(footer) if is_other(&footer) => return Err(foreign(name, (log_id, footer.log_id))),
                    _ => {}
                }
                let footer = footer.filter(|footer| footer.log_id == log_id);
                Content::Headless { blank, stray, footer }
            }
        };
        Ok(Some(Found { name: name.into(), named, bytes, content }))
    }

    /// The first LSN, by the name or else by the header.
    pub(super) fn first_lsn(&self) -> Lsn {
        match (self.named, &self.content) {
            (Named::Segment(first), _) => first,
            (Named::Spare(_), Content::Segment { header, .. }) => header.first_lsn,
            (Named::Spare(_), Content::Headless { .. }) => Lsn::ZERO,
        }
    }

    pub(super) fn header(&self) -> Option<&SegmentHeader> {
        match &self.content {
            Content::Segment { header, .. } => Some(header),
            Content::Headless { .. } => None,
        }
    }

    pub(super) fn open(&self, disk: &dyn Disk, access: Access) -> Result<Arc<dyn File>> {
        let opened = disk.open(&self.name, access);
        let opened = match (&opened, self.header()) {
            // Begun in a spare, it has got its own name since: beside a writer names come and go.
            (Err(error), Some(header)) if error.kind() == io::ErrorKind::NotFound => {
                disk.open(&segment_name(header.first_lsn), access)
            }
            _ => opened,
        };
        opened.map_err(|source| self.io("open", source))
    }

    pub(super) fn io(&self, doing: &'static str, source: io::Error) -> Error {
        Error::io(doing, &self.name, source)
    }
}

/// Reads the last block of a segment, if the file is as long as its header says.
fn read_trailer(
    file: &dyn File,
    name: &str,
    (header, bytes): (&SegmentHeader, u64),
) -> Result<Option<Footer>> {
    if bytes < header.segment_bytes {
        return Ok(None);
    }
    Ok(last_block(file, name, header.segment_bytes)?.filter(|footer| footer.is_of(header)))
}

/// Reads the footer that ends at `end`, if there is one that checks.
fn last_block(file: &dyn File, name: &str, end: u64) -> Result<Option<Footer>> {
    let Some(position) = end.checked_sub(FOOTER_BLOCK_BYTES as u64) else { return Ok(None) };
    let mut block = vec![0; FOOTER_BLOCK_BYTES];
    let there = file.read_at(&mut block, position).map_err(|source| Error::io("read", name, source))?;
    match Footer::decode(&block[..there]) {
        Ok(footer) => Ok(Some(footer)),
        Err(BadBlock::Newer { found }) => Err(newer(found)),
        Err(BadBlock::Blank | BadBlock::Damaged) => Ok(None),
    }
}

fn stray(start: &[u8]) -> Option<GroupHeader> {
    let header = GroupHeader::decode(start.get(HEADER_BLOCK_BYTES..)?).ok()?;
    (header.place.position == HEADER_BLOCK_BYTES as u64).then_some(header)
}

fn foreign(name: String, (expected, found): (LogId, LogId)) -> Error {
    Error::ForeignFile { file: name.into(), expected, found }
}

fn newer(found: u32) -> Error {
    Error::NewerVersion { found, supported: format::VERSION }
}
