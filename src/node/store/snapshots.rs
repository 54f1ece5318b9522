//! Snapshots that are kept: the base of the log, and those before it that peers still receive.

mod reader;
mod sums;
mod writer;

use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub use self::reader::SnapshotReader;
use self::sums::{Summing, Sums};
pub use self::writer::{SnapshotWriter, TakenSnapshot};
use super::ReplicaStore;
use super::reader::StoreReader;
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{
    self, BadBlock, CHUNK_HEADER_BYTES, Chunk, RunningCrc, SnapshotHead, Superblock, write_chunk,
};
use crate::node::frames::digest;
use crate::protocol::wire::{self, BadMessage};
use crate::protocol::{Base, Contents, SnapshotId, SnapshotOffer};
use crate::types::LogId;

/// The name of the base's file.
pub(super) use crate::segment::BASE;
/// What the name of a snapshot begins with that is being taken.
pub(super) const TAKING: &str = "taking-";
/// Bytes that are read at a time.
const WINDOW_BYTES: usize = 1 << 20;
/// What a head or a chunk has at most: producers take a few dozen bytes each and are bounded, and so are messages.
const PIECE_BYTES_MAX: u64 = 256 << 20;

/// A snapshot as it is stored. Its file is open: it can be read as long as this lives, whatever becomes of its name.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) base: Base,
    pub(super) contents: Contents,
    file: Arc<dyn File>,
    layout: Layout,
}

/// Where the application's bytes are in a snapshot's file.
#[derive(Debug)]
enum Layout {
    /// All of them from this position on.
    Whole { at: u64, sums: Sums },
    /// In chunks, as they were received.
    Chunks(Vec<Place>),
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where it begins in the application's part.
    pub(super) offset: u64,
    /// Where its header is in the file.
    pub(super) at: u64,
    /// How many bytes it has.
    pub(super) bytes: u64,
}

/// What the head of a snapshot's file says.
pub(super) struct Head {
    pub(super) log_id: LogId,
    pub(super) offer: SnapshotOffer,
    /// Where it ends.
    pub(super) end: u64,
}

impl ReplicaStore {
    /// The base: what was taken, installed or begun with last.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.snapshot.base
    }

    /// What the application's part of the base is.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.snapshot.contents
    }

    /// The application's bytes that go with the base, all at once: for a small one. See [`StoreReader::snapshot`].
    ///
    /// # Errors
    /// [`Error::Rot`] if they do not check, and whatever the operating system says.
    pub fn application(&self) -> Result<Vec<u8>> {
        let mut application = Vec::new();
        let read =
            io::Read::read_to_end(&mut SnapshotReader::new(Arc::clone(&self.snapshot)), &mut application);
        match read {
            Ok(_) => Ok(application),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(self.snapshot.rot()),
            Err(error) => Err(Error::io("read", BASE, error)),
        }
    }

    /// Of the snapshots that are replaced by newer ones, keeps these readable, until the store is dropped.
    pub fn keep_snapshots(&mut self, wanted: &[SnapshotId]) {
        self.wanted_snapshots = wanted.to_vec();
        self.shared.with(|view| view.older.retain(|kept| wanted.contains(&kept.id())));
    }

    /// As for [`StoreReader::read_snapshot`].
    ///
    /// # Errors
    /// The same.
    pub fn read_snapshot(&self, id: SnapshotId, offset: u64, bytes_max: u32) -> Result<Option<(Bytes, u64)>> {
        self.reader().read_snapshot(id, offset, bytes_max)
    }

    /// Makes a snapshot the base, which has its name already.
    pub(super) fn replace_base(&mut self, newest: Snapshot) {
        let replaced = std::mem::replace(&mut self.snapshot, Arc::new(newest));
        let is_kept = self.wanted_snapshots.contains(&replaced.id());
        self.shared.with(|view| {
            view.older.extend(is_kept.then_some(replaced));
            view.snapshot = Some(Arc::clone(&self.snapshot));
        });
    }
}

impl StoreReader {
    /// A part of a snapshot's application bytes with its digest; `None` if that is not the base any more, nor
    /// [kept](ReplicaStore::keep_snapshots), or is not so long.
    ///
    /// # Errors
    /// [`Error::Rot`] if it does not check or cannot be read, and [`Error::Closed`].
    pub fn read_snapshot(&self, id: SnapshotId, offset: u64, bytes_max: u32) -> Result<Option<(Bytes, u64)>> {
        let found = self.shared.snapshot(|snapshot| snapshot.id() == id)?;
        let Some(snapshot) = found.filter(|snapshot| offset <= snapshot.contents.bytes) else {
            return Ok(None);
        };
        let bytes = (snapshot.contents.bytes - offset).min(u64::from(bytes_max));
        let part = snapshot.read_checked(offset, bytes)?;
        let digest = digest(&part);
        Ok(Some((part, digest)))
    }

    /// The newest snapshot, to be read as a whole; `None` if it stands for no record. It stays as it is while it is read,
    /// whatever is taken or installed meanwhile.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn snapshot(&self) -> Result<Option<SnapshotReader>> {
        let newest = self.shared.snapshot(|_| true)?;
        let newest = newest.filter(|snapshot| snapshot.base.position.lsn > crate::types::Lsn::ZERO);
        Ok(newest.map(SnapshotReader::new))
    }
}

impl Snapshot {
    pub(super) fn id(&self) -> SnapshotId {
        SnapshotId { position: self.base.position, checksum: self.contents.checksum }
    }

    /// Whether it covers all before the log. One that does not was the base before a switch that was not finished.
    pub(super) fn reaches(&self, superblock: &Superblock) -> bool {
        self.base.position.lsn >= superblock.first_lsn.prev()
    }

    /// A snapshot that was received as a whole.
    pub(super) fn received(offer: &SnapshotOffer, file: Arc<dyn File>, places: Vec<Place>) -> Snapshot {
        let (base, contents) = ((*offer.base).clone(), offer.contents);
        Snapshot { base, contents, file, layout: Layout::Chunks(places) }
    }

    /// A snapshot of nothing, in the place of one that is lost; the file is never read.
    pub(super) fn of_nothing(file: Arc<dyn File>) -> Snapshot {
        let layout = Layout::Whole { at: 0, sums: Sums::none() };
        Snapshot { base: Base::default(), contents: Contents::default(), file, layout }
    }

    /// The snapshot in a file, if all of it checks and it is of this log. Holds a window of it at a time.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn find(disk: &dyn Disk, name: &str, log_id: LogId) -> Result<Option<Snapshot>> {
        let Some(file) = open(disk, name, Access::Read)? else { return Ok(None) };
        let io = |source| Error::io("read", name, source);
        let Some(head) = Head::read(&*file, name)?.filter(|head| head.log_id == log_id) else {
            return Ok(None);
        };
        let (at, Contents { bytes, checksum }) = (head.end, head.offer.contents);
        let is_whole = file.bytes().map_err(io)? == at.saturating_add(bytes);
        if !is_whole {
            let mut sum = RunningCrc::new();
            let add = |chunk: &Chunk<'_>, _: u64| {
                sum.update(chunk.bytes);
                Ok(())
            };
            let places = chunks_of(&*file, &head, add).map_err(io)?;
            let found: u64 = places.iter().map(|place| place.bytes).sum();
            let is_sound = found == bytes && sum.finish() == checksum;
            return Ok(is_sound.then(|| Snapshot::received(&head.offer, file, places)));
        }
        let (base, layout) = ((*head.offer.base).clone(), Layout::Whole { at, sums: Sums::none() });
        let mut snapshot = Snapshot { base, contents: head.offer.contents, file, layout };
        let Some(sums) = snapshot.sum_up().map_err(io)? else { return Ok(None) };
        snapshot.layout = Layout::Whole { at, sums };
        Ok(Some(snapshot))
    }

    /// Reads all of it. `None` if it is not all there, or does not check.
    fn sum_up(&self) -> io::Result<Option<Sums>> {
        let mut summing = Summing::default();
        let mut window =
            vec![0; WINDOW_BYTES.min(usize::try_from(self.contents.bytes).unwrap_or(WINDOW_BYTES))];
        let mut offset = 0;
        while offset < self.contents.bytes {
            let left = usize::try_from(self.contents.bytes - offset).unwrap_or(usize::MAX);
            let part = window.len().min(left);
            match self.read_at(&mut window[..part], offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            summing.update(&window[..part]);
            offset += part as u64;
        }
        let (sum, sums) = summing.finish();
        Ok((sum == self.contents.checksum).then_some(sums))
    }

    /// The application's bytes from `offset` on, so many, which are there.
    ///
    /// # Errors
    /// [`Error::Rot`] if they do not check, or cannot be read twice: whoever was sent them would take them for the state, or
    /// would wait for them for good.
    fn read_checked(&self, offset: u64, bytes: u64) -> Result<Bytes> {
        self.try_read(offset, bytes)
            .or_else(|_| self.try_read(offset, bytes))
            .ok()
            .flatten()
            .ok_or_else(|| self.rot())
    }

    /// `None` if they do not check.
    fn try_read(&self, offset: u64, bytes: u64) -> io::Result<Option<Bytes>> {
        let (first, end) = match &self.layout {
            Layout::Whole { .. } => Sums::around(offset, bytes, self.contents.bytes),
            Layout::Chunks(places) => around(places, offset, bytes),
        };
        let mut read = vec![0; usize::try_from(end - first).expect("some parts fit in memory")];
        self.read_at(&mut read, first)?;
        let is_sound = match &self.layout {
            Layout::Whole { sums, .. } => sums.check(first, &read),
            Layout::Chunks(places) => self.are_sound(places, first, &read)?,
        };
        let skip = usize::try_from(offset - first).expect("within what was read");
        let bytes = usize::try_from(bytes).expect("within what was read");
        Ok(is_sound.then(|| Bytes::from(read).slice(skip..skip + bytes)))
    }

    /// Whether the chunks from `first` on that make up these bytes check.
    fn are_sound(&self, places: &[Place], first: u64, bytes: &[u8]) -> io::Result<bool> {
        let begins = places.partition_point(|place| place.offset < first);
        let mut rest = bytes;
        for place in &places[begins..] {
            let Some((own, left)) = rest.split_at_checked(usize::try_from(place.bytes).unwrap_or(usize::MAX))
            else {
                break;
            };
            let mut header = [0; CHUNK_HEADER_BYTES];
            if self.file.read_at(&mut header, place.at)? < CHUNK_HEADER_BYTES
                || write_chunk(place.offset, own)[..CHUNK_HEADER_BYTES] != header
            {
                return Ok(false);
            }
            rest = left;
        }
        Ok(rest.is_empty())
    }

    /// Fills `part` with the application's bytes from `offset` on.
    fn read_at(&self, mut part: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !part.is_empty() {
            let (at, bytes) = match &self.layout {
                Layout::Whole { at, .. } => (at + offset, part.len()),
                Layout::Chunks(places) => {
                    let index = places.partition_point(|place| place.offset <= offset);
                    let place = places[..index].last().filter(|place| offset < place.offset + place.bytes);
                    let place = place.ok_or(io::ErrorKind::UnexpectedEof)?;
                    let (skip, header) = (offset - place.offset, CHUNK_HEADER_BYTES as u64);
                    let left = usize::try_from(place.bytes - skip).unwrap_or(usize::MAX);
                    (place.at + header + skip, left.min(part.len()))
                }
            };
            let (now, rest) = part.split_at_mut(bytes);
            if self.file.read_at(now, at)? < bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (part, offset) = (rest, offset + bytes as u64);
        }
        Ok(())
    }

    fn rot(&self) -> Error {
        let lsn = self.base.position.lsn;
        Error::Rot { file: BASE.into(), bytes: 0..self.contents.bytes, first: lsn, last: lsn }
    }
}

impl Head {
    /// Reads the head of a file; `None` if there is none that checks.
    ///
    /// # Errors
    /// [`Error::NewerVersion`], which is no damage, and whatever the operating system says.
    pub(super) fn read(file: &dyn File, name: &str) -> Result<Option<Head>> {
        let io = |source| Error::io("read", name, source);
        let mut bytes = vec![0; format::BLOCK_BYTES];
        let there = file.read_at(&mut bytes, 0).map_err(io)?;
        bytes.truncate(there);
        let Some(stated) = SnapshotHead::stated_bytes(&bytes) else { return Ok(None) };
        if stated > bytes.len() as u64 {
            if stated > PIECE_BYTES_MAX.min(file.bytes().map_err(io)?) {
                return Ok(None);
            }
            bytes.resize(usize::try_from(stated).expect("bounded"), 0);
            let there = file.read_at(&mut bytes, 0).map_err(io)?;
            bytes.truncate(there);
        }
        let newer = |found, supported| Err(Error::NewerVersion { found, supported });
        let head = match SnapshotHead::decode(&bytes) {
            Ok(head) => head,
            Err(BadBlock::Newer { found }) => return newer(found, format::VERSION),
            Err(BadBlock::Blank | BadBlock::Damaged) => return Ok(None),
        };
        let stated = Contents { bytes: head.application_bytes, checksum: head.application_checksum };
        let offer = match wire::decode_offer(&head.state) {
            Ok(offer) => Some(offer).filter(|offer| offer.contents == stated),
            Err(BadMessage::Version { found }) if found > wire::VERSION => {
                return newer(found.into(), wire::VERSION.into());
            }
            Err(_) => None,
        };
        let (log_id, end) = (head.log_id, head.bytes());
        Ok(offer.map(|offer| Head { log_id, offer, end }))
    }
}

/// What a file begins with that holds a snapshot.
pub(super) fn head_of(log_id: LogId, offer: &SnapshotOffer) -> Vec<u8> {
    let mut state = Vec::new();
    wire::encode_offer(offer, &mut state);
    let Contents { bytes, checksum } = offer.contents;
    let head = SnapshotHead { log_id, application_bytes: bytes, application_checksum: checksum, state };
    head.encode()
}

/// The chunks after the head as far as they check and follow on one another; `take` is told each, and where it is.
pub(super) fn chunks_of(
    file: &dyn File,
    head: &Head,
    mut take: impl FnMut(&Chunk<'_>, u64) -> io::Result<()>,
) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    let (mut offset, mut at) = (0, head.end);
    let (length, mut bytes) = (file.bytes()?, Vec::new());
    while offset < head.offer.contents.bytes {
        let mut header = [0; CHUNK_HEADER_BYTES];
        if file.read_at(&mut header, at)? < CHUNK_HEADER_BYTES {
            break;
        }
        let stored = Chunk::stated_bytes(&header).min(length.saturating_sub(at)).min(PIECE_BYTES_MAX);
        bytes.resize(usize::try_from(stored).expect("a chunk that fits in memory"), 0);
        let there = file.read_at(&mut bytes, at)?;
        // Zeros after the end are an empty chunk that checks.
        let chunk = Chunk::parse(&bytes[..there]).ok();
        let Some(chunk) = chunk.filter(|chunk| chunk.offset == offset && !chunk.bytes.is_empty()) else {
            break;
        };
        let size = chunk.bytes.len() as u64;
        if size > head.offer.contents.bytes - offset {
            break;
        }
        take(&chunk, at)?;
        places.push(Place { offset, at, bytes: size });
        (offset, at) = (offset + size, at + stored);
    }
    Ok(places)
}

/// Where the chunks begin and end that these bytes lie in.
fn around(places: &[Place], offset: u64, bytes: u64) -> (u64, u64) {
    let first = places[..places.partition_point(|place| place.offset <= offset)].last();
    let last = places[..places.partition_point(|place| place.offset < offset + bytes)].last();
    (first.map_or(offset, |place| place.offset), last.map_or(offset, |place| place.offset + place.bytes))
}

/// Opens a file; `None` if there is none.
pub(super) fn open(disk: &dyn Disk, name: &str, access: Access) -> Result<Option<Arc<dyn File>>> {
    match disk.open(name, access) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(|source| Error::io("open", name, source)),
    }
}
