//! Files of snapshots, whole ones and such as are being received.

use annals::format::{Chunk, SnapshotHead, crc32, write_chunk};

const SNAPSHOT: &[u8] = include_bytes!("../../../tests/data/format-v1/snapshot");
const STAGE: &[u8] = include_bytes!("../../../tests/data/format-v1/snapshot-stage");
/// Sizes of what is fixed in the two structures.
const HEAD_BYTES: usize = 48;
const CHUNK_BYTES: usize = 16;

/// A head that is taken is encoded to the same bytes again, and so is each chunk.
pub fn fuzz_snapshot(bytes: &[u8]) {
    let mut rest = bytes;
    if let Ok(head) = SnapshotHead::decode(bytes) {
        let again = head.encode();
        assert_eq!(again.len() as u64, head.bytes());
        assert_eq!(bytes[..again.len()], again);
        rest = &bytes[again.len()..];
    }
    while let Ok(chunk) = Chunk::parse(rest) {
        let again = write_chunk(chunk.offset, chunk.bytes);
        assert_eq!(again.len() as u64, chunk.stored_bytes());
        assert_eq!(rest[..again.len()], again);
        rest = &rest[again.len()..];
    }
}

/// The golden files.
pub(crate) fn snapshots() -> Vec<Vec<u8>> {
    vec![SNAPSHOT.to_vec(), STAGE.to_vec()]
}

/// Makes the head fit its checksum again, and the chunks as far as their sizes lead from one to the next.
pub(crate) fn mend(bytes: &mut [u8]) {
    let size = |bytes: &[u8], at: usize| {
        let stated: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|size| size.try_into().ok());
        stated.map_or(usize::MAX, |size| u32::from_le_bytes(size) as usize)
    };
    let end = HEAD_BYTES.saturating_add(size(bytes, HEAD_BYTES - 4));
    let Some((head, mut rest)) = bytes.split_at_mut_checked(end) else { return };
    let sum = crc32(&[&head[..12], &head[16..]].concat());
    head[12..16].copy_from_slice(&sum.to_le_bytes());
    while let Some((chunk, later)) = {
        let end = CHUNK_BYTES.saturating_add(size(rest, 4));
        rest.split_at_mut_checked(end)
    } {
        let sum = crc32(&chunk[4..]);
        chunk[..4].copy_from_slice(&sum.to_le_bytes());
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mended_is_taken() {
        for mut bytes in snapshots() {
            bytes[20] ^= 1;
            assert!(SnapshotHead::decode(&bytes).is_err());
            mend(&mut bytes);
            assert!(SnapshotHead::decode(&bytes).is_ok());
            fuzz_snapshot(&bytes);
        }
    }
}
