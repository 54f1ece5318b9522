//! What follows from the records: which files there are, which puts are under way, and what became of operations.
//!
//! Pure: the same records make the same state on each node. Where contents lie is the [store](crate::store)'s matter.

use std::collections::BTreeMap;
use std::fmt;

use annals::Lsn;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::name::FileName;
use crate::operation::OperationId;
use crate::record::{CHUNK_BYTES, Commit, Operation};

/// A put of which no chunk has come for so many records is given up, and what became of an operation is remembered for
/// so many: a retry that comes later is taken for another operation, but for a put whose file is still there. Counted in
/// records, not in time: so each node does it at the same record.
pub const MEMORY_RECORDS: u64 = 10_000;

/// The contents of one put: named by the record of its first chunk, so that no name is used twice. 0 has none.
pub type BlobId = u64;

/// The state as of one record.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The newest record that was applied.
    pub applied: u64,
    /// The files that can be read.
    pub files: BTreeMap<FileName, File>,
    /// Puts without a commit: invisible, and given up when nothing is heard of them for too long.
    pub unfinished: BTreeMap<OperationId, Unfinished>,
    /// What became of operations not long ago, so that a retry is told, and does nothing.
    pub finished: BTreeMap<OperationId, Finished>,
}

/// A file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The put that has brought its contents.
    pub put: OperationId,
    /// Where they are.
    pub blob: BlobId,
    /// How large it is.
    pub bytes: u64,
    /// In how many chunks.
    pub chunks: u64,
    /// Of its contents.
    pub digest: Digest,
    /// The record that has made it.
    pub lsn: u64,
}

/// A put without a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// Where they are.
    pub blob: BlobId,
    /// The chunks that are there, from the first on.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The newest of its records.
    pub lsn: u64,
}

/// An operation that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// The record with which it was.
    pub lsn: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an operation: all but the first say that it has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// There is a file of that name, and it was not to be replaced.
    Exists,
    /// There is no file of that name.
    Missing,
    /// Not all chunks of the put are there.
    Incomplete,
    /// The chunks that are there are not what the commit says.
    Mismatch,
    /// Nothing was heard of the put for too long.
    Abandoned,
}

/// What an applied record means for the contents on the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// Contents that nobody can read any more.
    pub dropped: Vec<BlobId>,
}

impl State {
    /// Whether this is the chunk that a put lacks next. Those that are there already, or come too late, are left out.
    #[must_use]
    pub fn takes_chunk(&self, put: OperationId, index: u64) -> bool {
        match self.unfinished.get(&put) {
            // After a chunk that was not full there is no other.
            Some(known) => known.chunks == index && known.bytes == index * CHUNK_BYTES as u64,
            None => index == 0 && !self.finished.contains_key(&put),
        }
    }

    /// A chunk that [is taken](State::takes_chunk) was written.
    pub fn chunk(&mut self, lsn: Lsn, put: OperationId, bytes: usize) -> Effects {
        let new = Unfinished { blob: lsn.get(), ..Unfinished::default() };
        let known = self.unfinished.entry(put).or_insert(new);
        known.chunks += 1;
        known.bytes += bytes as u64;
        known.lsn = lsn.get();
        self.reach(lsn)
    }

    /// Any other record: it changes nothing but the time.
    pub fn pass(&mut self, lsn: Lsn) -> Effects {
        self.reach(lsn)
    }

    /// An operation. One that was done already, as far as that is [remembered](MEMORY_RECORDS), does nothing.
    ///
    /// `contents` is the digest of what an unfinished put has brought.
    pub fn operation(&mut self, lsn: Lsn, operation: &Operation, contents: Option<Digest>) -> Effects {
        let id = operation.id();
        if self.finished.contains_key(&id) {
            return self.reach(lsn);
        }
        let mut dropped = vec![];
        let outcome = match operation {
            Operation::Commit(commit) => self.commit(lsn, commit, contents, &mut dropped),
            Operation::Delete { name, .. } => self.files.remove(name).map_or(Outcome::Missing, |file| {
                dropped.push(file.blob);
                Outcome::Done
            }),
            Operation::Rename { from, to, replace, .. } => self.rename(from, to, *replace, &mut dropped),
        };
        self.finished.insert(id, Finished { lsn: lsn.get(), outcome });
        let mut effects = self.reach(lsn);
        effects.dropped.append(&mut dropped);
        effects
    }

    fn commit(
        &mut self,
        lsn: Lsn,
        commit: &Commit,
        contents: Option<Digest>,
        dropped: &mut Vec<BlobId>,
    ) -> Outcome {
        // An empty file has no chunks, and was not heard of before.
        let known = self.unfinished.remove(&commit.id);
        // The file itself remembers its put: what a late retry has brought once more is not needed.
        if self.files.get(&commit.name).is_some_and(|file| file.put == commit.id) {
            dropped.extend(known.map(|known| known.blob));
            return Outcome::Done;
        }
        let there = known.unwrap_or_default();
        let contents = contents.unwrap_or(Hasher::default().digest());
        let outcome = if there.chunks != commit.chunks {
            Outcome::Incomplete
        } else if (there.bytes, contents) != (commit.bytes, commit.digest) {
            Outcome::Mismatch
        } else if self.files.contains_key(&commit.name) && !commit.replace {
            Outcome::Exists
        } else {
            Outcome::Done
        };
        if outcome != Outcome::Done {
            dropped.extend(known.map(|known| known.blob));
            return outcome;
        }
        let Commit { id: put, bytes, chunks, digest, .. } = *commit;
        let file = File { put, blob: there.blob, bytes, chunks, digest, lsn: lsn.get() };
        dropped.extend(self.files.insert(commit.name.clone(), file).map(|before| before.blob));
        Outcome::Done
    }

    fn rename(
        &mut self,
        from: &FileName,
        to: &FileName,
        replace: bool,
        dropped: &mut Vec<BlobId>,
    ) -> Outcome {
        if !self.files.contains_key(from) {
            return Outcome::Missing;
        }
        if from == to {
            return Outcome::Done;
        }
        if self.files.contains_key(to) && !replace {
            return Outcome::Exists;
        }
        if let Some(file) = self.files.remove(from) {
            dropped.extend(self.files.insert(to.clone(), file).map(|before| before.blob));
        }
        Outcome::Done
    }

    /// The state is as of this record: what is too old is forgotten.
    fn reach(&mut self, lsn: Lsn) -> Effects {
        self.applied = lsn.get();
        let mut effects = Effects::default();
        // A look at all of them is dear, and every node looks at the same records.
        if !self.applied.is_multiple_of(MEMORY_RECORDS / 100) {
            return effects;
        }
        let oldest = self.applied.saturating_sub(MEMORY_RECORDS);
        self.finished.retain(|_, finished| finished.lsn >= oldest);
        let silent = self.unfinished.iter().filter(|(_, put)| put.lsn < oldest);
        let silent: Vec<(OperationId, BlobId)> = silent.map(|(put, known)| (*put, known.blob)).collect();
        for (put, blob) in silent {
            self.unfinished.remove(&put);
            self.finished.insert(put, Finished { lsn: lsn.get(), outcome: Outcome::Abandoned });
            effects.dropped.push(blob);
        }
        effects
    }

    /// The serialized state: the same bytes on each node that has applied the same records.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the state is strings and numbers")
    }

    /// The digest of the serialized state.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        serde_json::to_writer(&mut hasher, self).expect("the state is strings and numbers");
        hasher.digest()
    }

    /// All contents that there have to be: of files, and of puts under way.
    pub fn contents(&self) -> impl Iterator<Item = Contents> {
        let whole = |file: &File| Contents {
            blob: file.blob,
            chunks: file.chunks,
            bytes: file.bytes,
            digest: Some(file.digest),
        };
        let part = |known: &Unfinished| Contents {
            blob: known.blob,
            chunks: known.chunks,
            bytes: known.bytes,
            digest: None,
        };
        let files = self.files.values().filter(|file| file.chunks > 0);
        files.map(whole).chain(self.unfinished.values().map(part))
    }
}

/// What there has to be of a put on a node's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contents {
    /// Where.
    pub blob: BlobId,
    /// Chunks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of all of them, where that is known.
    pub digest: Option<Digest>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Done => "done",
            Outcome::Exists => "there is a file of that name already; --replace replaces it",
            Outcome::Missing => "there is no file of that name; see what there is with list",
            Outcome::Incomplete => "not all chunks are there; put it anew, without --id",
            Outcome::Mismatch => {
                "the chunks that are there have other contents: has the file changed since the first attempt? put it \
                 anew, without --id"
            }
            Outcome::Abandoned => {
                "nothing was heard of this put for so long that it was given up; put it anew, without --id"
            }
        })
    }
}

#[cfg(test)]
mod tests;
