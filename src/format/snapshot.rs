//! The files of snapshots: one that is whole, and one that is received chunk by chunk.

use super::checksum::crc32;
use super::layout::{SNAPSHOT_MAGIC, chunk, preamble, snapshot};
use super::segment::{check_block, seal_block};
use super::verdict::{BadBlock, Damage};
use crate::types::LogId;

/// Size of a chunk's header.
pub const CHUNK_HEADER_BYTES: usize = chunk::BYTES;

/// What a snapshot's file begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotHead {
    /// The log that it belongs to.
    pub log_id: LogId,
    /// Size of the application's part, in bytes.
    pub application_bytes: u64,
    /// CRC of the application's part; of all that is to come in a file that is still received.
    pub application_checksum: u32,
    /// The replicated state that goes with it, in the protocol's form.
    pub state: Vec<u8>,
}

impl SnapshotHead {
    /// Reads the head at the start of a file.
    ///
    /// # Errors
    /// [`BadBlock`]; also for fewer bytes than the head says that it has.
    pub fn decode(bytes: &[u8]) -> Result<SnapshotHead, BadBlock> {
        let Some(fixed) = bytes.get(..snapshot::BYTES) else { return Err(BadBlock::Damaged) };
        if preamble::MAGIC.get(fixed) != SNAPSHOT_MAGIC {
            return Err(BadBlock::Damaged);
        }
        let state_bytes = snapshot::STATE_BYTES.get(fixed) as usize;
        let end = snapshot::BYTES.checked_add(state_bytes).ok_or(BadBlock::Damaged)?;
        let head = bytes.get(..end).ok_or(BadBlock::Damaged)?;
        check_block(head, SNAPSHOT_MAGIC)?;
        Ok(SnapshotHead {
            log_id: LogId::new(snapshot::LOG_ID.get(head)),
            application_bytes: snapshot::APPLICATION_BYTES.get(head),
            application_checksum: snapshot::APPLICATION_CHECKSUM.get(head),
            state: head[snapshot::BYTES..].to_vec(),
        })
    }

    /// How many bytes a head has that begins with these, by its own account, which nothing vouches for; `None` if none
    /// begins with them.
    #[must_use]
    pub fn stated_bytes(bytes: &[u8]) -> Option<u64> {
        let fixed = bytes.get(..snapshot::BYTES)?;
        let is_one = preamble::MAGIC.get(fixed) == SNAPSHOT_MAGIC;
        is_one.then(|| snapshot::BYTES as u64 + u64::from(snapshot::STATE_BYTES.get(fixed)))
    }

    /// The head as it is stored.
    ///
    /// # Panics
    /// If the state has 4 GiB or more.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; snapshot::BYTES];
        snapshot::LOG_ID.put(&mut bytes, self.log_id.get());
        snapshot::APPLICATION_BYTES.put(&mut bytes, self.application_bytes);
        snapshot::APPLICATION_CHECKSUM.put(&mut bytes, self.application_checksum);
        let state_bytes = u32::try_from(self.state.len()).expect("the replicated state has less than 4 GiB");
        snapshot::STATE_BYTES.put(&mut bytes, state_bytes);
        bytes.extend_from_slice(&self.state);
        seal_block(&mut bytes, SNAPSHOT_MAGIC);
        bytes
    }

    /// Where the head ends and the application's part, or the first chunk, begins.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (snapshot::BYTES + self.state.len()) as u64
    }
}

/// A part of a snapshot that was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk<'a> {
    /// Where it begins in the application's part.
    pub offset: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads the chunk at the start of `bytes`.
    ///
    /// # Errors
    /// [`Damage::Cut`] or [`Damage::Checksum`].
    pub fn parse(bytes: &'a [u8]) -> Result<Chunk<'a>, Damage> {
        let Some((head, rest)) = bytes.split_at_checked(chunk::BYTES) else { return Err(Damage::Cut) };
        let Some(own) = rest.get(..chunk::LENGTH.get(head) as usize) else { return Err(Damage::Cut) };
        let summed = &bytes[chunk::CHECKSUM.end()..chunk::BYTES + own.len()];
        if crc32(summed) != chunk::CHECKSUM.get(head) {
            return Err(Damage::Checksum);
        }
        Ok(Chunk { offset: chunk::OFFSET.get(head), bytes: own })
    }

    /// The same of one that begins with this header, by its own account, which nothing vouches for.
    #[must_use]
    pub fn stated_bytes(header: &[u8; CHUNK_HEADER_BYTES]) -> u64 {
        CHUNK_HEADER_BYTES as u64 + u64::from(chunk::LENGTH.get(header))
    }

    /// Size as it is stored, in bytes.
    #[must_use]
    pub const fn stored_bytes(&self) -> u64 {
        (chunk::BYTES + self.bytes.len()) as u64
    }
}

/// A chunk as it is stored.
///
/// # Panics
/// If it has 4 GiB or more.
#[must_use]
pub fn write_chunk(offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; chunk::BYTES];
    let length = u32::try_from(payload.len()).expect("a chunk has less than 4 GiB");
    chunk::LENGTH.put(&mut bytes, length);
    chunk::OFFSET.put(&mut bytes, offset);
    bytes.extend_from_slice(payload);
    let checksum = crc32(&bytes[chunk::CHECKSUM.end()..]);
    chunk::CHECKSUM.put(&mut bytes, checksum);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_no_flipped_bit_of_it_is_taken() {
        let head = SnapshotHead {
            log_id: LogId::new(7),
            application_bytes: 1 << 40,
            application_checksum: 9,
            state: b"who takes part".to_vec(),
        };
        let mut bytes = head.encode();
        assert_eq!(head.bytes(), bytes.len() as u64);
        bytes.extend_from_slice(b"the application's");
        assert_eq!(SnapshotHead::decode(&bytes).as_ref(), Ok(&head));
        for at in 0..head.bytes() as usize {
            bytes[at] ^= 4;
            assert!(SnapshotHead::decode(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 4;
        }
        assert_eq!(SnapshotHead::decode(&bytes[..40]), Err(BadBlock::Damaged));
    }

    #[test]
    fn a_chunk_is_read_back_and_a_torn_one_is_none() {
        let bytes = write_chunk(1 << 33, b"some of it");
        let chunk = Chunk::parse(&bytes).unwrap();
        assert_eq!((chunk.offset, chunk.bytes, chunk.stored_bytes()), (1 << 33, &b"some of it"[..], 26));
        for end in 0..bytes.len() {
            assert!(Chunk::parse(&bytes[..end]).is_err(), "{end}");
            let torn = [&bytes[..end], &vec![0; bytes.len() - end]].concat();
            assert!(Chunk::parse(&torn).is_err() || torn == bytes, "{end}");
        }
    }
}
