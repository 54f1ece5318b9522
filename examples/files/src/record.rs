//! What stands in the log: chunks of contents, and the operations that make them files.
//!
//! A chunk is binary: a byte 1, the put's id (16 bytes), the chunk's number (8 bytes, little-endian), and the bytes. An
//! operation is JSON, so that it can be read where it lies, with `log-node tail`:
//!
//! ```text
//! {"commit":{"id":"4f...","name":"file.txt","chunks":1,"bytes":16,"digest":"9b...","replace":false}}
//! {"rename":{"id":"a0...","from":"file.txt","to":"old.txt","replace":false}}
//! {"delete":{"id":"77...","name":"old.txt"}}
//! ```

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::FileName;
use crate::operation::OperationId;

/// Bytes of each chunk of a file but its last, which may be shorter. Part of the format: where a chunk lies follows from
/// its number.
pub const CHUNK_BYTES: usize = 256 << 10;
/// What a chunk's record begins with; JSON begins with a brace.
const CHUNK: u8 = 1;
/// Bytes in front of a chunk's contents.
const CHUNK_HEAD: usize = 1 + 16 + 8;
/// No operation is longer.
const OPERATION_BYTES_MAX: usize = 16 << 10;

/// A record of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// A part of what may become a file.
    Chunk {
        /// Of which put.
        put: OperationId,
        /// Which part, from 0.
        index: u64,
        /// Its contents.
        bytes: &'a [u8],
    },
    /// What makes files of chunks, and changes them.
    Operation(Operation),
}

/// An operation on files. Each is one record, so it happens as a whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Operation {
    /// All chunks of a put are there: they are the file now.
    Commit(Commit),
    /// The file is to be gone.
    Delete {
        /// Of this operation.
        id: OperationId,
        /// Which file.
        name: FileName,
    },
    /// The file is to have another name.
    Rename {
        /// Of this operation.
        id: OperationId,
        /// Which file.
        from: FileName,
        /// Its new name.
        to: FileName,
        /// Whether a file that has this name already is to go.
        replace: bool,
    },
}

/// What completes a put.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Of the put.
    pub id: OperationId,
    /// The file's name.
    pub name: FileName,
    /// How many chunks it has.
    pub chunks: u64,
    /// How many bytes they have in all.
    pub bytes: u64,
    /// Of all its contents.
    pub digest: Digest,
    /// Whether a file that has this name already is to go.
    pub replace: bool,
}

impl Operation {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> OperationId {
        match self {
            Operation::Commit(commit) => commit.id,
            Operation::Delete { id, .. } | Operation::Rename { id, .. } => *id,
        }
    }

    /// The operation as a record.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an operation is strings and numbers")
    }
}

impl Record<'_> {
    /// What the record says; `None` if it makes no sense, so that all replicas leave it out alike.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Record<'_>> {
        if bytes.first() != Some(&CHUNK) {
            let operation = (bytes.len() <= OPERATION_BYTES_MAX).then(|| serde_json::from_slice(bytes));
            return operation?.ok().map(Record::Operation);
        }
        let (put, rest) = bytes[1..].split_first_chunk()?;
        let (index, bytes) = rest.split_first_chunk()?;
        let put = OperationId::new(u128::from_le_bytes(*put));
        let is_sized = (1..=CHUNK_BYTES).contains(&bytes.len());
        is_sized.then(|| Record::Chunk { put, index: u64::from_le_bytes(*index), bytes })
    }
}

/// The record of a chunk.
#[must_use]
pub fn chunk(put: OperationId, index: u64, bytes: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(CHUNK_HEAD + bytes.len());
    record.push(CHUNK);
    record.extend_from_slice(&put.get().to_le_bytes());
    record.extend_from_slice(&index.to_le_bytes());
    record.extend_from_slice(bytes);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        let put = OperationId::new(7);
        let record = chunk(put, 3, b"abc");
        assert_eq!(Record::parse(&record), Some(Record::Chunk { put, index: 3, bytes: b"abc" }));
        let operation = Operation::Delete { id: put, name: "a/b".parse().unwrap() };
        assert_eq!(Record::parse(&operation.to_bytes()), Some(Record::Operation(operation)));
        for bad in
            [&b""[..], b"\x01", b"\x02abc", &chunk(put, 0, b""), &chunk(put, 0, &vec![0; CHUNK_BYTES + 1])]
        {
            assert_eq!(Record::parse(bad), None);
        }
        for bad in [
            "{\"delete\":{\"id\":\"7\",\"name\":\"../a\"}}",
            "{\"delete\":{\"id\":\"7\"}}",
            "{\"chmod\":{\"id\":\"7\"}}",
            "{\"delete\":{\"id\":\"7\",\"name\":\"a\",\"all\":true}}",
        ] {
            assert_eq!(Record::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
