//! Snapshots that are kept: the base of the log, and those before it that peers still receive.

mod reader;
mod writer;

use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub use self::reader::SnapshotReader;
pub use self::writer::{SnapshotWriter, TakenSnapshot};
use super::ReplicaStore;
use super::reader::StoreReader;
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{CHUNK_HEADER_BYTES, Chunk, RunningCrc, SnapshotHead};
use crate::node::frames::digest;
use crate::protocol::{Base, SnapshotId, SnapshotOffer, wire};
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
    pub(super) application_bytes: u64,
    /// Over all of the application's bytes.
    checksum: u32,
    file: Arc<dyn File>,
    layout: Layout,
}

/// Where the application's bytes are in a snapshot's file.
#[derive(Debug)]
enum Layout {
    /// All of them from this position on.
    Whole { at: u64 },
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
    checksum: u32,
    /// Where it ends.
    pub(super) end: u64,
}

impl ReplicaStore {
    /// The base: what was taken, installed or begun with last.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.snapshot.base
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
    /// [`Error::Closed`], and whatever the operating system says.
    pub fn read_snapshot(&self, id: SnapshotId, offset: u64, bytes_max: u32) -> Result<Option<(Bytes, u64)>> {
        let found = self.shared.snapshot(|snapshot| snapshot.id() == id)?;
        let Some(snapshot) = found.filter(|snapshot| offset <= snapshot.application_bytes) else {
            return Ok(None);
        };
        let bytes = (snapshot.application_bytes - offset).min(u64::from(bytes_max));
        let mut part = vec![0; usize::try_from(bytes).expect("fits 32 bits")];
        snapshot.read_at(&mut part, offset).map_err(|source| Error::io("read", BASE, source))?;
        let digest = digest(&part);
        Ok(Some((part.into(), digest)))
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
        SnapshotId(self.base.position)
    }

    /// A snapshot that was received as a whole.
    pub(super) fn received(
        offer: &SnapshotOffer,
        file: Arc<dyn File>,
        (places, checksum): (Vec<Place>, u32),
    ) -> Snapshot {
        let (base, application_bytes) = ((*offer.base).clone(), offer.bytes);
        Snapshot { base, application_bytes, checksum, file, layout: Layout::Chunks(places) }
    }

    /// The snapshot in a file, if all of it checks and it is of this log. Holds a window of it at a time.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(super) fn find(disk: &dyn Disk, name: &str, log_id: LogId) -> Result<Option<Snapshot>> {
        let Some(file) = open(disk, name, Access::Read)? else { return Ok(None) };
        let io = |source| Error::io("read", name, source);
        let Some(head) = Head::read(&*file).map_err(io)?.filter(|head| head.log_id == log_id) else {
            return Ok(None);
        };
        let (at, bytes) = (head.end, head.offer.bytes);
        let is_whole = file.bytes().map_err(io)? == at.saturating_add(bytes);
        if !is_whole {
            let mut sum = RunningCrc::new();
            let add = |chunk: &Chunk<'_>, _: u64| {
                sum.update(chunk.bytes);
                Ok(())
            };
            let places = chunks_of(&*file, &head, add).map_err(io)?;
            let found: u64 = places.iter().map(|place| place.bytes).sum();
            let snapshot = Snapshot::received(&head.offer, file, (places, sum.finish()));
            return Ok((found == bytes).then_some(snapshot));
        }
        let (base, layout) = ((*head.offer.base).clone(), Layout::Whole { at });
        let snapshot = Snapshot { base, application_bytes: bytes, checksum: head.checksum, file, layout };
        Ok(snapshot.is_sound().map_err(io)?.then_some(snapshot))
    }

    /// Whether all of it is there, and checks.
    fn is_sound(&self) -> io::Result<bool> {
        let mut sum = RunningCrc::new();
        let mut window =
            vec![0; WINDOW_BYTES.min(usize::try_from(self.application_bytes).unwrap_or(WINDOW_BYTES))];
        let mut offset = 0;
        while offset < self.application_bytes {
            let left = usize::try_from(self.application_bytes - offset).unwrap_or(usize::MAX);
            let part = window.len().min(left);
            match self.read_at(&mut window[..part], offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
            sum.update(&window[..part]);
            offset += part as u64;
        }
        Ok(sum.finish() == self.checksum)
    }

    /// Fills `part` with the application's bytes from `offset` on.
    fn read_at(&self, mut part: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !part.is_empty() {
            let (at, bytes) = match &self.layout {
                Layout::Whole { at } => (at + offset, part.len()),
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
        Error::Rot { file: BASE.into(), bytes: 0..self.application_bytes, first: lsn, last: lsn }
    }
}

impl Head {
    /// Reads the head of a file; `None` if there is none that checks.
    pub(super) fn read(file: &dyn File) -> io::Result<Option<Head>> {
        let mut bytes = vec![0; crate::format::BLOCK_BYTES];
        let there = file.read_at(&mut bytes, 0)?;
        bytes.truncate(there);
        let Some(stated) = SnapshotHead::stated_bytes(&bytes) else { return Ok(None) };
        if stated > bytes.len() as u64 {
            if stated > PIECE_BYTES_MAX.min(file.bytes()?) {
                return Ok(None);
            }
            bytes.resize(usize::try_from(stated).expect("bounded"), 0);
            let there = file.read_at(&mut bytes, 0)?;
            bytes.truncate(there);
        }
        let Ok(head) = SnapshotHead::decode(&bytes) else { return Ok(None) };
        let offer = wire::decode_offer(&head.state).ok();
        let offer = offer.filter(|offer| offer.bytes == head.application_bytes);
        let (log_id, checksum, end) = (head.log_id, head.application_checksum, head.bytes());
        Ok(offer.map(|offer| Head { log_id, offer, checksum, end }))
    }
}

/// What a file begins with that holds a snapshot.
pub(super) fn head_of(log_id: LogId, offer: &SnapshotOffer, checksum: u32) -> Vec<u8> {
    let mut state = Vec::new();
    wire::encode_offer(offer, &mut state);
    let head = SnapshotHead { log_id, application_bytes: offer.bytes, application_checksum: checksum, state };
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
    while offset < head.offer.bytes {
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
        if size > head.offer.bytes - offset {
            break;
        }
        take(&chunk, at)?;
        places.push(Place { offset, at, bytes: size });
        (offset, at) = (offset + size, at + stored);
    }
    Ok(places)
}

/// Opens a file; `None` if there is none.
pub(super) fn open(disk: &dyn Disk, name: &str, access: Access) -> Result<Option<Arc<dyn File>>> {
    match disk.open(name, access) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(|source| Error::io("open", name, source)),
    }
}
