//! Every offset, size and magic number of the format, and nothing else.
//!
//! A structure is a module of [`Field`]s; the `fields!` macro proves at compile time that they neither
//! overlap nor leave a gap. Everything is little-endian.

use std::marker::PhantomData;

/// The format version that this library writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// The unit of durable writes, in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Size of the block at the start of a segment, in bytes; the first group follows it.
pub const HEADER_BLOCK_BYTES: usize = BLOCK_BYTES;
/// Size of the trailer, the last block of a segment, in bytes.
pub const FOOTER_BLOCK_BYTES: usize = BLOCK_BYTES;
/// Size of a frame's header, in bytes; its payload follows.
pub const FRAME_HEADER_BYTES: usize = frame::BYTES;
/// Size of a group's header, in bytes; its frames follow.
pub const GROUP_HEADER_BYTES: usize = group::BYTES;
/// Frames and groups begin at a multiple of this many bytes.
pub const FRAME_ALIGN: usize = 8;
/// The largest payload of a frame, in bytes: the padded frame must fit a group's 32-bit count of bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 0xFFFF_FFD8;

/// The smallest segment, in bytes: header, a block for a group, and the footer.
pub const SEGMENT_BYTES_MIN: u64 = 5 * BLOCK_BYTES as u64;
/// The largest segment, in bytes: index entries count positions in units of eight in 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = (FRAME_ALIGN as u64) << 32;
/// The index has an entry for the first frame that begins this many bytes, or more, after the last one's.
pub const INDEX_STRIDE_BYTES: u64 = 32 << 10;
/// The most epochs that one segment can hold frames of; a log rolls rather than exceed it.
pub const EPOCH_STARTS_MAX: usize = 256;

/// Size of one of the two slots of the superblock, in bytes.
pub const SLOT_BYTES: usize = 64 << 10;
/// Size of the superblock's file, in bytes.
pub const SUPERBLOCK_BYTES: usize = 2 * SLOT_BYTES;
/// The largest mark that a superblock can hold, in bytes.
pub const MARK_BYTES_MAX: usize = 60 << 10;

pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"annalSEG";
pub(super) const FOOTER_MAGIC: [u8; 8] = *b"annalEND";
pub(super) const SUPERBLOCK_MAGIC: [u8; 8] = *b"annalSUP";
pub(super) const SNAPSHOT_MAGIC: [u8; 8] = *b"annalSNP";
pub(super) const EXTRACT_MAGIC: [u8; 8] = *b"annalEXT";
pub(super) const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"aGRP");

/// One little-endian integer of a structure.
#[derive(Clone, Copy)]
pub(super) struct Field<T> {
    at: usize,
    of: PhantomData<T>,
}

impl<T> Field<T> {
    const fn at(at: usize) -> Field<T> {
        Field { at, of: PhantomData }
    }

    /// The offset right after this field.
    pub(super) const fn end(self) -> usize
    where
        T: Copy,
    {
        self.at + size_of::<T>()
    }

    /// The offset of this field.
    pub(super) const fn start(self) -> usize
    where
        T: Copy,
    {
        self.at
    }
}

macro_rules! little_endian {
    ($($int:ty),*) => {$(
        impl Field<$int> {
            #[inline]
            pub(super) fn get(self, bytes: &[u8]) -> $int {
                let field = bytes[self.at..self.end()].try_into().expect("a field is as long as its type");
                <$int>::from_le_bytes(field)
            }

            #[inline]
            pub(super) fn put(self, bytes: &mut [u8], value: $int) {
                bytes[self.at..self.end()].copy_from_slice(&value.to_le_bytes());
            }
        }
    )*};
}
little_endian!(u8, u16, u32, u64, u128);

impl<const N: usize> Field<[u8; N]> {
    pub(super) fn get(self, bytes: &[u8]) -> [u8; N] {
        bytes[self.at..self.end()].try_into().expect("a field is as long as its type")
    }

    pub(super) fn put(self, bytes: &mut [u8], value: [u8; N]) {
        bytes[self.at..self.end()].copy_from_slice(&value);
    }
}

/// Declares the fields of a structure in order, with the offset of each, and proves that they are dense.
macro_rules! fields {
    ($(#[$doc:meta])* $module:ident: $size:literal { $($name:ident: $int:ty = $at:literal,)* }) => {
        $(#[$doc])*
        pub(super) mod $module {
            use super::Field;
            $(pub(in super::super) const $name: Field<$int> = Field::at($at);)*
            /// Size of the structure, or of its fixed part.
            pub(in super::super) const BYTES: usize = $size;
            const _: () = {
                let mut next = 0;
                $(
                    assert!($name.start() == next, "fields neither overlap nor leave a gap");
                    next = $name.end();
                )*
                assert!(next == BYTES, "the fields fill the structure");
            };
        }
    };
}

fields! {
    /// The start of every block that names a version: the same in all versions to come.
    preamble: 16 {
        MAGIC: [u8; 8] = 0,
        VERSION: u32 = 8,
        CHECKSUM: u32 = 12,
    }
}

fields! {
    /// A frame's header; the payload follows, padded with zeros to a multiple of eight.
    frame: 32 {
        CHECKSUM: u32 = 0,
        LENGTH: u32 = 4,
        LSN: u64 = 8,
        EPOCH: u64 = 16,
        KIND: u8 = 24,
        ZERO_A: u8 = 25,
        ZERO_B: u16 = 26,
        COUNT: u32 = 28,
    }
}

fields! {
    /// What the payload of a frame with a producer begins with; the payload of a batch follows.
    produced: 16 {
        PRODUCER: u64 = 0,
        SEQUENCE: u64 = 8,
    }
}

fields! {
    /// A group's header; its frames follow.
    group: 64 {
        CHECKSUM: u32 = 0,
        MAGIC: u32 = 4,
        INCARNATION: u64 = 8,
        POSITION: u64 = 16,
        FIRST_LSN: u64 = 24,
        DURABLE_THROUGH: u64 = 32,
        FRAME_BYTES: u32 = 40,
        FRAMES: u32 = 44,
        RECORDS: u32 = 48,
        ZERO: u32 = 52,
        DIGEST: u64 = 56,
    }
}

fields! {
    /// A segment's header, at the start of its first block; the rest of the block is zeros.
    segment: 88 {
        PREAMBLE: [u8; 16] = 0,
        LOG_ID: u128 = 16,
        INCARNATION: u64 = 32,
        SEGMENT_ID: u64 = 40,
        FIRST_LSN: u64 = 48,
        EPOCH: u64 = 56,
        PREVIOUS_DIGEST: u64 = 64,
        SEGMENT_BYTES: u64 = 72,
        FOOTER_BYTES: u64 = 80,
    }
}

fields! {
    /// A footer's trailer, at the start of the segment's last block; the rest of the block is zeros.
    trailer: 128 {
        PREAMBLE: [u8; 16] = 0,
        LOG_ID: u128 = 16,
        INCARNATION: u64 = 32,
        SEGMENT_ID: u64 = 40,
        FIRST_LSN: u64 = 48,
        LAST_LSN: u64 = 56,
        END: u64 = 64,
        RECORDS: u64 = 72,
        GROUPS: u64 = 80,
        DIGEST: u64 = 88,
        SEALED_AT_MS: u64 = 96,
        INDEX_ENTRIES: u32 = 104,
        EPOCH_STARTS: u32 = 108,
        TABLE_CHECKSUM: u32 = 112,
        KIND: u32 = 116,
        ZERO: u64 = 120,
    }
}

fields! {
    /// An entry of the footer's index.
    index_entry: 16 {
        LSN: u64 = 0,
        GROUP: u32 = 8,
        FRAME: u32 = 12,
    }
}

fields! {
    /// An entry of the footer's table of epochs.
    epoch_start: 16 {
        EPOCH: u64 = 0,
        FIRST_LSN: u64 = 8,
    }
}

fields! {
    /// A slot of the superblock; the mark follows, then zeros up to `USED_BYTES`.
    slot: 176 {
        PREAMBLE: [u8; 16] = 0,
        USED_BYTES: u32 = 16,
        MARK_BYTES: u32 = 20,
        SEQUENCE: u64 = 24,
        LOG_ID: u128 = 32,
        REPLICA_ID: u64 = 48,
        EPOCH: u64 = 56,
        VOTE_EPOCH: u64 = 64,
        VOTE_REPLICA: u64 = 72,
        DURABLE: u64 = 80,
        FIRST_LSN: u64 = 88,
        TAIL_SEGMENT_ID: u64 = 96,
        TAIL_END: u64 = 104,
        TAIL_LAST_LSN: u64 = 112,
        TAIL_DIGEST: u64 = 120,
        MARK_LSN: u64 = 128,
        WRITE_METHOD: u8 = 136,
        CLEAN: u8 = 137,
        MARKED: u8 = 138,
        ZERO_A: u8 = 139,
        ZERO_B: u32 = 140,
        VOTE_DISK: u128 = 144,
        GENERATION: u64 = 160,
        TRIMMED_EPOCH: u64 = 168,
    }
}

fields! {
    /// The start of a snapshot's file; the replicated state follows, then the application's bytes.
    snapshot: 48 {
        PREAMBLE: [u8; 16] = 0,
        LOG_ID: u128 = 16,
        APPLICATION_BYTES: u64 = 32,
        APPLICATION_CHECKSUM: u32 = 40,
        STATE_BYTES: u32 = 44,
    }
}

fields! {
    /// The start of a chunk of a snapshot that is being received; its bytes follow.
    chunk: 16 {
        CHECKSUM: u32 = 0,
        LENGTH: u32 = 4,
        OFFSET: u64 = 8,
    }
}

fields! {
    /// The start of an extract's file; its entries follow.
    extract: 64 {
        PREAMBLE: [u8; 16] = 0,
        LOG_ID: u128 = 16,
        INCARNATION: u64 = 32,
        FIRST_LSN: u64 = 40,
        LAST_LSN: u64 = 48,
        DIGEST: u64 = 56,
    }
}

const _: () = assert!(frame::BYTES.is_multiple_of(FRAME_ALIGN) && group::BYTES.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(segment::BYTES <= HEADER_BLOCK_BYTES && trailer::BYTES <= FOOTER_BLOCK_BYTES);
const _: () = assert!(slot::BYTES + MARK_BYTES_MAX <= SLOT_BYTES && SLOT_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(INDEX_STRIDE_BYTES.is_multiple_of(FRAME_ALIGN as u64));

/// `bytes` rounded up to whole blocks; the last multiple of a block that fits, where there is none.
#[must_use]
pub const fn block_up(bytes: u64) -> u64 {
    bytes.saturating_add(BLOCK_BYTES as u64 - 1) & !(BLOCK_BYTES as u64 - 1)
}

/// Whether all of `bytes` are zero; true for none.
#[must_use]
pub fn all_zero(bytes: &[u8]) -> bool {
    // A comparison of slices is the fastest loop there is, in debug builds too.
    static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    bytes.chunks(BLOCK_BYTES).all(|chunk| chunk == &ZEROS[..chunk.len()])
}
