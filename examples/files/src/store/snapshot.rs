//! The whole store as a stream: the serialized state, and then the contents of each blob, back to back.
//!
//! Nothing is held in memory but the state and one chunk, whatever the files' size.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use annals::Lsn;
use annals::node::Frozen;

use super::blob::{BlobReader, BlobWriter};
use super::checkpoint::{sync_dir, write_state};
use super::open::{BLOBS, begin, generation_name, switch};
use super::{Store, View};
use crate::record::CHUNK_BYTES;
use crate::state::{Contents, State};

/// What a snapshot begins with: what it is, and its version.
const HEAD: &[u8; 16] = b"annals-files  1\n";

impl Store {
    /// A view that writes itself later, while more is applied.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let (view, pin) = (self.shared.frozen(), Arc::clone(&self.pin));
        Box::new(move |to: &mut dyn Write| {
            let written = write(&view, to);
            drop(pin);
            written
        })
    }

    /// Becomes what a snapshot holds, which is as of this record; `false`, and nothing is read, if the store is as far
    /// already.
    ///
    /// # Errors
    /// If the bytes make no sense, or cannot be written: the store is as before then.
    pub fn restore(&mut self, from: &mut dyn Read, lsn: Lsn) -> io::Result<bool> {
        if lsn <= self.applied() {
            return Ok(false);
        }
        let generation = self.generation + 1;
        begin(&self.root, generation)?;
        let dir = self.root.join(generation_name(generation));
        let (state, writers) = unpack(from, &dir.join(BLOBS))?;
        write_state(&dir, &state)?;
        switch(&self.root, generation)?;
        let before = self.generation_dir();
        self.generation = generation;
        self.shared.replace(state, self.blobs_dir());
        self.writers = writers;
        self.dropped.clear();
        (self.bytes_since, self.changes_since) = (0, 0);
        // Whoever reads one of its blobs has it open; what stays behind is removed by the next open.
        let _ = fs::remove_dir_all(before);
        Ok(true)
    }
}

fn write(view: &View, to: &mut dyn Write) -> io::Result<()> {
    let json = view.state.to_json();
    to.write_all(HEAD)?;
    to.write_all(&(json.len() as u64).to_le_bytes())?;
    to.write_all(&json)?;
    drop(json);
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    for contents in view.state.contents() {
        // Damage is not passed on: each chunk is checked before it is written.
        let mut reader = BlobReader::open(&view.blobs, contents, 0)?;
        while reader.next_chunk(&mut chunk)? {
            to.write_all(&chunk)?;
        }
    }
    Ok(())
}

type Unpacked = (State, BTreeMap<u64, BlobWriter>);

/// Unpacks a snapshot into the directory of the blobs, checked and synced.
fn unpack(from: &mut dyn Read, blobs: &Path) -> io::Result<Unpacked> {
    let mut head = [0; HEAD.len()];
    from.read_exact(&mut head)?;
    if head != *HEAD {
        return Err(wrong("this is no snapshot of a file store, or one of another version"));
    }
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    let mut json = BufReader::with_capacity(64 << 10, Read::take(&mut *from, u64::from_le_bytes(bytes)));
    let state: State = serde_json::from_reader(&mut json)?;
    io::copy(&mut json, &mut io::sink())?;
    let mut writers = BTreeMap::new();
    for contents in state.contents() {
        let mut writer = unpack_blob(from, blobs, contents)?;
        writer.sync(File::sync_data)?;
        if contents.digest.is_none() {
            writers.insert(contents.blob, writer);
        }
    }
    sync_dir(blobs)?;
    Ok((state, writers))
}

fn unpack_blob(from: &mut dyn Read, blobs: &Path, contents: Contents) -> io::Result<BlobWriter> {
    let mut writer = BlobWriter::default();
    let mut chunk = vec![];
    let mut left = contents.bytes;
    for index in 0..contents.chunks {
        let bytes = left.min(CHUNK_BYTES as u64);
        chunk.resize(bytes as usize, 0);
        from.read_exact(&mut chunk)?;
        writer.append(blobs, contents.blob, index, &chunk)?;
        left -= bytes;
    }
    if contents.digest.is_some_and(|digest| digest != writer.digest()) {
        return Err(wrong("the contents of a file do not match its digest"));
    }
    Ok(writer)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
