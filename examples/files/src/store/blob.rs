//! The contents of one put: a file of the bytes as they are, and one with the sums of its chunks.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Hasher};
use crate::record::CHUNK_BYTES;
use crate::state::{BlobId, Contents};

/// Bytes of a chunk's sum.
const SUM_BYTES: u64 = 4;

/// How a file is synced: `File::sync_data`, or what a test has in its place.
pub(super) type SyncFile = fn(&File) -> io::Result<()>;

/// A chunk on this node's disk is not what was written: read it from another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged {
    /// The blob's file.
    pub path: PathBuf,
    /// Which chunk, from 0.
    pub chunk: u64,
}

/// Where a blob's bytes are.
pub(super) fn path_of(dir: &Path, blob: BlobId) -> PathBuf {
    dir.join(blob.to_string())
}

/// Where the sums of its chunks are.
pub(super) fn sums_of(dir: &Path, blob: BlobId) -> PathBuf {
    dir.join(format!("{blob}.sums"))
}

/// The end of a blob, to which chunks are written.
#[derive(Debug, Default)]
pub(super) struct BlobWriter {
    /// `None` while all that was written is synced.
    files: Option<(File, File)>,
    hasher: Hasher,
}

impl BlobWriter {
    /// The end of a blob that was synced with these contents; what else is in its files is cut off.
    ///
    /// # Errors
    /// If they are not there, or do not match their sums.
    pub(super) fn reopened(dir: &Path, contents: Contents) -> io::Result<BlobWriter> {
        let mut hasher = Hasher::default();
        let mut reader = BlobReader::open(dir, contents, 0)?;
        let mut chunk = vec![];
        while reader.next_chunk(&mut chunk)? {
            hasher.update(&chunk);
        }
        let open = |path| OpenOptions::new().write(true).open(path);
        open(path_of(dir, contents.blob))?.set_len(contents.bytes)?;
        open(sums_of(dir, contents.blob))?.set_len(contents.chunks * SUM_BYTES)?;
        Ok(BlobWriter { files: None, hasher })
    }

    /// Writes the chunk with this number. Can be done again if it has failed.
    pub(super) fn append(&mut self, dir: &Path, blob: BlobId, index: u64, bytes: &[u8]) -> io::Result<()> {
        let files = match self.files.take() {
            Some(files) => files,
            None => {
                let open = |path| OpenOptions::new().create(true).truncate(false).write(true).open(path);
                (open(path_of(dir, blob))?, open(sums_of(dir, blob))?)
            }
        };
        // After an error they are opened anew: what is synced then is the file, with all that was written to it before.
        self.files = Some(write_chunk(files, index, bytes)?);
        // Only once both are written, so that a second attempt does not count twice.
        self.hasher.update(bytes);
        Ok(())
    }

    /// Whether something may not be synced.
    pub(super) fn is_open(&self) -> bool {
        self.files.is_some()
    }

    /// Syncs what was written in this way, and closes the files.
    pub(super) fn sync(&mut self, sync: SyncFile) -> io::Result<()> {
        if let Some((contents, sums)) = self.files.take() {
            sync(&contents)?;
            sync(&sums)?;
        }
        Ok(())
    }

    /// The digest of all chunks so far.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.digest()
    }
}

/// Writes a chunk and its sum.
fn write_chunk((mut contents, mut sums): (File, File), index: u64, bytes: &[u8]) -> io::Result<(File, File)> {
    contents.seek(SeekFrom::Start(index * CHUNK_BYTES as u64))?;
    contents.write_all(bytes)?;
    sums.seek(SeekFrom::Start(index * SUM_BYTES))?;
    sums.write_all(&crc32fast::hash(bytes).to_le_bytes())?;
    Ok((contents, sums))
}

/// Reads the chunks of a blob in order, each checked before it is handed out.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    sums: File,
    path: PathBuf,
    contents: Contents,
    next: u64,
}

impl BlobReader {
    /// From the chunk with this number on. An open reader goes on while the blob is unlinked.
    ///
    /// # Errors
    /// If the files cannot be opened.
    pub fn open(dir: &Path, contents: Contents, from_chunk: u64) -> io::Result<BlobReader> {
        let path = path_of(dir, contents.blob);
        let mut file = File::open(&path)?;
        let mut sums = File::open(sums_of(dir, contents.blob))?;
        let next = from_chunk.min(contents.chunks);
        file.seek(SeekFrom::Start(next * CHUNK_BYTES as u64))?;
        sums.seek(SeekFrom::Start(next * SUM_BYTES))?;
        Ok(BlobReader { file, sums, path, contents, next })
    }

    /// Reads the next chunk; `false` if there is none.
    ///
    /// # Errors
    /// [`Damaged`], as the source of the error, if the chunk is not what was written, or is not there.
    pub fn next_chunk(&mut self, chunk: &mut Vec<u8>) -> io::Result<bool> {
        chunk.clear();
        if self.next >= self.contents.chunks {
            return Ok(false);
        }
        let begin = self.next * CHUNK_BYTES as u64;
        let bytes = self.contents.bytes.saturating_sub(begin).min(CHUNK_BYTES as u64);
        (&mut self.file).take(bytes).read_to_end(chunk)?;
        let mut sum = [0; SUM_BYTES as usize];
        let is_there = match self.sums.read_exact(&mut sum) {
            Ok(()) => chunk.len() as u64 == bytes,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        if !is_there || crc32fast::hash(chunk) != u32::from_le_bytes(sum) {
            let damaged = Damaged { path: self.path.clone(), chunk: self.next };
            chunk.clear();
            return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
        }
        self.next += 1;
        Ok(true)
    }
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chunk {} of {} is not what was written", self.chunk, self.path.display())
    }
}

impl std::error::Error for Damaged {}
