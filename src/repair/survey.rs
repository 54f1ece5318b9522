//! What lies in the directory, by names, headers and footers: all of it as data, whatever is damaged.

use std::io;
use std::sync::Arc;

use super::report::{FileRole, Stray};
use super::slots::Slots;
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{
    self, BadBlock, FOOTER_BLOCK_BYTES, FRAME_HEADER_BYTES, Footer, Frame, FrameHeader, GROUP_HEADER_BYTES,
    GroupHeader, HEADER_BLOCK_BYTES, SegmentHeader,
};
use crate::segment::{
    Cause, Correction, FileName, Life, OF_A_REPLICA, UNFINISHED, find_life, is_of_one_life,
};
use crate::types::{Epoch, LogId, Lsn};

/// How often the files are listed, while a writer moves them.
const LISTS: usize = 8;
/// The largest frame that is read to learn the epoch of a segment.
const FIRST_FRAME_BYTES_MAX: u64 = 1 << 20;

/// All files of a directory.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) slots: Slots,
    /// The log, by the superblock or else by most of the segments.
    pub(super) log_id: Option<LogId>,
    /// Those named as segments, and then the spares, in the order of their names.
    pub(super) files: Vec<Arc<Found>>,
    /// All others but the superblock.
    pub(super) strays: Vec<Stray>,
    /// The journal of a repair that was interrupted.
    pub(super) unfinished_repair: Option<String>,
}

/// A file that is, was or may become a segment.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: Arc<str>,
    pub(super) named: Named,
    /// Length of the file.
    pub(super) bytes: u64,
    pub(super) head: Head,
    pub(super) trailer: Trailer,
    /// What stands first in the data.
    pub(super) first: Option<FirstGroup>,
    /// What other groups tell of a file that is named as a segment, if nothing else does.
    pub(super) life: Option<Life>,
    /// The log that the footer of a file without a header names, if the groups do not contradict it.
    pub(super) id_by_footer: Option<LogId>,
    /// Why something of that could not be read.
    pub(super) unreadable: Option<Error>,
}

/// What a file's name says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Named {
    Segment(Lsn),
    Spare(u64),
}

/// The first block of a file.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Head {
    Sound(SegmentHeader),
    Bad(BadHead),
}

/// A first block that does not check.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct BadHead {
    pub(super) cause: Cause,
    /// The one flipped bit that explains it, and what the header then says.
    pub(super) corrected: Option<(Correction, SegmentHeader)>,
}

/// The last block of a file, or the one that its header says is the last.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Trailer {
    /// Nothing was written there, or the file is too short for it.
    Blank,
    /// It checks. It may be of a former life of the file.
    Sound(Footer),
    /// It does not check. One flipped bit may explain that.
    Bad(Cause, Option<Correction>),
}

/// The group that stands first in the data, and the epoch of its first frame: of a file without a header, if that
/// frame checks and is not too large.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct FirstGroup {
    pub(super) header: GroupHeader,
    pub(super) epoch: Option<Epoch>,
}

impl Survey {
    /// Reads the superblock, then the names, then the headers and footers of all files, in this order: what a
    /// writer does meanwhile is then seen as a change.
    ///
    /// # Errors
    /// [`Error::NotALog`], [`Error::NewerVersion`]; that a file cannot be opened, by its name.
    pub(super) fn take(disk: &dyn Disk) -> Result<Survey> {
        let slots = Slots::read(disk)?;
        let mut names = list(disk)?;
        let mut survey = Survey::of(disk, &slots, &names)?;
        // A writer gives a segment its name: between the list and the look it would be seen under neither.
        for _ in 1..LISTS {
            let now = list(disk)?;
            if of_log(&now).eq(of_log(&names)) {
                break;
            }
            names = now;
            survey = Survey::of(disk, &slots, &names)?;
        }
        if !survey.slots.report.exists && survey.files.is_empty() && survey.unfinished_repair.is_none() {
            return Err(Error::NotALog);
        }
        survey.files.sort_by_key(|found| found.named);
        let by_superblock = survey.slots.known().map(|superblock| superblock.log_id);
        survey.log_id = by_superblock.or_else(|| most_common_id(&survey.files));
        Ok(survey)
    }

    /// The files of these names, as far as they are there.
    fn of(disk: &dyn Disk, slots: &Slots, names: &[String]) -> Result<Survey> {
        let slots = slots.clone();
        let mut survey =
            Survey { slots, log_id: None, files: vec![], strays: vec![], unfinished_repair: None };
        names.iter().try_for_each(|name| survey.note(disk, name.clone()))?;
        Ok(survey)
    }

    fn note(&mut self, disk: &dyn Disk, name: String) -> Result<()> {
        let role = match FileName::of(&name) {
            FileName::Segment(first) => {
                self.files.extend(Found::read(disk, name, Named::Segment(first))?.map(Arc::new));
                return Ok(());
            }
            FileName::Spare(number) => {
                self.files.extend(Found::read(disk, name, Named::Spare(number))?.map(Arc::new));
                return Ok(());
            }
            FileName::Superblock => return Ok(()),
            FileName::Lock => FileRole::Lock,
            FileName::Unfinished if is_own(&name) => FileRole::Unfinished,
            FileName::Quarantine => FileRole::Quarantine,
            FileName::PendingRepair => {
                self.unfinished_repair.get_or_insert_with(|| name.clone());
                FileRole::Quarantine
            }
            FileName::Extract(_) | FileName::Kept(_) => FileRole::Replica,
            FileName::Other if OF_A_REPLICA.contains(&&*name) => FileRole::Replica,
            FileName::Unfinished | FileName::Other => FileRole::Other,
        };
        // Files that are not the log's may be of any kind, and readable or not.
        let bytes = match role {
            FileRole::Other => 0,
            _ => disk.open(&name, Access::Read).and_then(|file| file.bytes()).unwrap_or(0),
        };
        self.strays.push(Stray { file: name.into(), bytes, role });
        Ok(())
    }
}

/// All names, in order.
fn list(disk: &dyn Disk) -> Result<Vec<String>> {
    let mut names = disk.list().map_err(|source| Error::io("list files", "", source))?;
    names.sort();
    Ok(names)
}

/// Those of files that are, were or may become segments.
fn of_log(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| matches!(FileName::of(name), FileName::Segment(_) | FileName::Spare(_)))
}

/// Whether an unfinished file is one that only a log makes: others are nobody's business here.
fn is_own(name: &str) -> bool {
    let stem = name.strip_suffix(UNFINISHED).unwrap_or(name);
    stem == "probe"
        || !matches!(FileName::of(stem), FileName::Other | FileName::Kept(_) | FileName::Unfinished)
}

/// The log that most of the files name.
fn most_common_id(files: &[Arc<Found>]) -> Option<LogId> {
    let mut ids: Vec<LogId> = files.iter().filter_map(|found| found.says_id()).collect();
    ids.sort_unstable();
    ids.chunk_by(LogId::eq).max_by_key(|alike| alike.len()).map(|alike| alike[0])
}

impl Found {
    /// Reads what the file says; `None` if it is gone.
    fn read(disk: &dyn Disk, name: String, named: Named) -> Result<Option<Found>> {
        let file = match disk.open(&name, Access::Read) {
            // Beside a writer names come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| Error::io("open", &name, source))?,
        };
        let bytes = file.bytes().map_err(|source| Error::io("look at", &name, source))?;
        let mut blocks = Blocks { file: &*file, bytes, name: &name, unreadable: None };
        let head = blocks.head()?;
        let end = match &head {
            Head::Sound(header) => header.segment_bytes,
            Head::Bad(_) => bytes,
        };
        let trailer = blocks.trailer(end)?;
        let first = blocks.first(matches!(head, Head::Bad(_)));
        let unreadable = blocks.unreadable;
        let (life, id_by_footer) = (None, None);
        let mut found =
            Found { name: name.into(), named, bytes, head, trailer, first, life, id_by_footer, unreadable };
        if let (Head::Bad(_), Trailer::Sound(footer)) = (&found.head, &found.trailer) {
            let first = found.first.as_ref().map(|group| &group.header);
            found.id_by_footer = is_of_one_life(&*file, footer, first).then_some(footer.log_id);
        }
        if let (Named::Segment(first), Head::Bad(_), None) = (named, &found.head, &found.first) {
            found.life = find_life(&*file, first);
        }
        Ok(Some(found))
    }

    /// The header, if it checks.
    pub(super) fn header(&self) -> Option<&SegmentHeader> {
        match &self.head {
            Head::Sound(header) => Some(header),
            Head::Bad(_) => None,
        }
    }

    /// The footer, if it checks and is of this life of a file with this header.
    pub(super) fn footer_of(&self, header: &SegmentHeader) -> Option<&Footer> {
        match &self.trailer {
            Trailer::Sound(footer) => Some(footer).filter(|footer| footer.is_of(header)),
            Trailer::Blank | Trailer::Bad(..) => None,
        }
    }

    /// Up to where the footer of a file without a header vouches, or the groups of one without the first group
    /// too, if it begins with `first`.
    pub(super) fn vouched_without_start(&self, log_id: LogId, first: Lsn) -> Lsn {
        let life = self.life.filter(|_| self.is_named_for(first));
        let by_groups = life.map_or(Lsn::ZERO, |life| life.vouched);
        match (&self.head, &self.trailer) {
            (Head::Bad(_), Trailer::Sound(footer))
                if footer.log_id == log_id && footer.first_lsn == first =>
            {
                footer.last_lsn.max(by_groups)
            }
            _ => by_groups,
        }
    }

    /// Whether it is named as the segment that begins with `first`.
    pub(super) fn is_named_for(&self, first: Lsn) -> bool {
        self.named == Named::Segment(first)
    }

    /// The log that the file belongs to, if that is another one.
    pub(super) fn other_id(&self, log_id: LogId) -> Option<LogId> {
        let own = self.header().map(|header| header.log_id).or(self.id_by_footer);
        own.filter(|own| *own != log_id)
    }

    /// The log that the file names.
    pub(super) fn says_id(&self) -> Option<LogId> {
        match (&self.head, &self.trailer) {
            (Head::Sound(header), _) => Some(header.log_id),
            (Head::Bad(BadHead { corrected: Some((_, header)), .. }), _) => Some(header.log_id),
            (Head::Bad(_), Trailer::Sound(footer)) => Some(footer.log_id),
            (Head::Bad(_), _) => None,
        }
    }
}

/// A file of which some blocks are read.
struct Blocks<'a> {
    file: &'a dyn File,
    bytes: u64,
    name: &'a str,
    unreadable: Option<Error>,
}

impl Blocks<'_> {
    fn head(&mut self) -> Result<Head> {
        let mut block = vec![0; HEADER_BLOCK_BYTES];
        let bad = |cause| Ok(Head::Bad(BadHead { cause, corrected: None }));
        let Some(there) = self.read(&mut block, 0) else { return bad(Cause::Unreadable) };
        match SegmentHeader::decode(&block[..there]) {
            Ok(header) => Ok(Head::Sound(header)),
            Err(BadBlock::Newer { found }) => Err(newer(found)),
            Err(BadBlock::Blank) => bad(Cause::Blank),
            Err(BadBlock::Damaged) if self.bytes < HEADER_BLOCK_BYTES as u64 => bad(Cause::Cut),
            Err(BadBlock::Damaged) => {
                let corrected = format::correct_segment_header(&block).and_then(|flip| {
                    flip.apply(&mut block);
                    let correction = Correction { offset: flip.at, bit: flip.bit };
                    SegmentHeader::decode(&block).ok().map(|header| (correction, header))
                });
                Ok(Head::Bad(BadHead { cause: Cause::Header, corrected }))
            }
        }
    }

    /// The trailer of a segment that ends at `end`.
    fn trailer(&mut self, end: u64) -> Result<Trailer> {
        let Some(position) = end.checked_sub(FOOTER_BLOCK_BYTES as u64).filter(|_| end <= self.bytes) else {
            return Ok(Trailer::Blank);
        };
        let mut block = vec![0; FOOTER_BLOCK_BYTES];
        let Some(there) = self.read(&mut block, position) else {
            return Ok(Trailer::Bad(Cause::Unreadable, None));
        };
        match Footer::decode(&block[..there]) {
            Ok(footer) => Ok(Trailer::Sound(footer)),
            Err(BadBlock::Newer { found }) => Err(newer(found)),
            Err(BadBlock::Blank) => Ok(Trailer::Blank),
            Err(BadBlock::Damaged) => {
                let flip = format::correct_trailer(&block);
                let correction = flip.map(|flip| Correction { offset: position + flip.at, bit: flip.bit });
                Ok(Trailer::Bad(Cause::Footer, correction))
            }
        }
    }

    fn first(&mut self, is_headless: bool) -> Option<FirstGroup> {
        let mut bytes = [0; GROUP_HEADER_BYTES + FRAME_HEADER_BYTES];
        let there = self.read(&mut bytes, HEADER_BLOCK_BYTES as u64)?;
        let (group, frame) = bytes[..there].split_at_checked(GROUP_HEADER_BYTES)?;
        let header = GroupHeader::decode(group).ok()?;
        if header.place.position != HEADER_BLOCK_BYTES as u64 {
            return None;
        }
        let frame = FrameHeader::decode(frame).ok().filter(|frame| frame.lsn == header.first_lsn);
        let epoch = match frame {
            Some(frame) if is_headless && frame.frame_bytes() <= FIRST_FRAME_BYTES_MAX => {
                self.epoch_of(&header)
            }
            _ => None,
        };
        Some(FirstGroup { header, epoch })
    }

    /// The epoch of the group's first frame, if that checks.
    fn epoch_of(&mut self, group: &GroupHeader) -> Option<Epoch> {
        let bytes = u64::from(group.frame_bytes).min(FIRST_FRAME_BYTES_MAX);
        let mut frame = vec![0; bytes as usize];
        let there = self.file.read_at(&mut frame, group.frames_start()).ok()?;
        let frame = Frame::parse(&frame[..there]).ok()?;
        frame.check().ok().map(|()| frame.header().epoch)
    }

    /// What can be read there; `None` if the operating system cannot, which is noted.
    fn read(&mut self, bytes: &mut [u8], position: u64) -> Option<usize> {
        match self.file.read_at(bytes, position) {
            Ok(there) => Some(there),
            Err(source) => {
                let name = self.name;
                self.unreadable.get_or_insert_with(|| Error::io("read", name, source));
                None
            }
        }
    }
}

/// The error for what a newer version of the library has written.
pub(super) fn newer(found: u32) -> Error {
    Error::NewerVersion { found, supported: format::VERSION }
}
