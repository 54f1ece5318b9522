//! The superblock: what is true of the whole log, in two slots that are written in turn.

use super::checksum::Digest;
use super::layout::{
    BLOCK_BYTES, MARK_BYTES_MAX, SLOT_BYTES, SUPERBLOCK_BYTES, SUPERBLOCK_MAGIC, all_zero, preamble, slot,
};
use super::segment::{check_block, seal_block};
use super::verdict::BadBlock;
use crate::types::{DiskId, Epoch, LogId, Lsn, ReplicaId, SegmentId, WriteMethod};

/// No log writes this many superblocks: there is always a next sequence number.
const SEQUENCE_MAX: u64 = u64::MAX >> 1;
/// The sequence number of the first superblock that a new log writes.
const FIRST_SEQUENCE: u64 = 1;

/// A replica's vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vote {
    /// The epoch that was voted in.
    pub epoch: Epoch,
    /// Whom the vote went to.
    pub replica: ReplicaId,
    /// The disk that it had.
    pub disk: DiskId,
}

/// Where the tail ended when the log was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanTail {
    /// The tail.
    pub segment_id: SegmentId,
    /// Where its last group ends, as a position in the file.
    pub end: u64,
    /// The newest record of the log.
    pub last_lsn: Lsn,
    /// The tail's end digest.
    pub digest: Digest,
}

/// Bytes that a program keeps with its log, bound to an LSN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The record that the mark is about.
    pub lsn: Lsn,
    /// What the program wants to remember, [`MARK_BYTES_MAX`] at most.
    pub bytes: Vec<u8>,
}

/// What is true of the whole log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Grows by one with each write; its lowest bit says which slot it goes to.
    pub sequence: u64,
    /// The log's identity.
    pub log_id: LogId,
    /// Which replica of it this is.
    pub replica_id: ReplicaId,
    /// How groups reach the disk.
    pub write_method: WriteMethod,
    /// The newest epoch this replica knows of.
    pub epoch: Epoch,
    /// The last vote.
    pub vote: Vote,
    /// The newest membership of the cluster that is known to be committed; 0 without replicas.
    pub generation: u64,
    /// Every record up to this one is durable; advanced lazily, so more may be.
    pub durable: Lsn,
    /// The oldest record retained.
    pub first_lsn: Lsn,
    /// The epoch of the record before that one; 0 if there was none, or without replicas.
    pub trimmed_epoch: Epoch,
    /// Where the log ended, if it was closed and not opened for writing since.
    pub clean_tail: Option<CleanTail>,
    /// The program's mark.
    pub mark: Option<Mark>,
}

impl Superblock {
    /// The superblock of a new log, ready to be the first one written.
    #[must_use]
    pub const fn new(log_id: LogId, write_method: WriteMethod) -> Superblock {
        Superblock {
            sequence: FIRST_SEQUENCE,
            log_id,
            replica_id: ReplicaId::new(0),
            write_method,
            epoch: Epoch::FIRST,
            vote: Vote { epoch: Epoch::new(0), replica: ReplicaId::new(0), disk: DiskId::new(0) },
            generation: 0,
            durable: Lsn::ZERO,
            first_lsn: Lsn::FIRST,
            trimmed_epoch: Epoch::new(0),
            clean_tail: None,
            mark: None,
        }
    }

    /// Which slot this sequence number is written to: 0 or 1.
    #[must_use]
    pub const fn slot(&self) -> usize {
        (self.sequence % 2) as usize
    }

    /// Where that slot begins in the file, in bytes.
    #[must_use]
    pub const fn position(&self) -> u64 {
        (self.slot() * SLOT_BYTES) as u64
    }

    /// How many bytes have to be written, in whole blocks.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        let mark = self.mark.as_ref().map_or(0, |mark| mark.bytes.len());
        (slot::BYTES + mark).next_multiple_of(BLOCK_BYTES)
    }

    /// Reads and checks slot number `number` from its bytes; those after the used blocks are ignored.
    ///
    /// # Errors
    /// [`BadBlock`]; also for a superblock of the other slot, and for fewer bytes than it uses.
    pub fn decode(bytes: &[u8], number: usize) -> Result<Superblock, BadBlock> {
        let used = used_blocks(bytes)?;
        check_block(used, SUPERBLOCK_MAGIC)?;
        match decode_slot(used) {
            Some(superblock) if superblock.slot() == number => Ok(superblock),
            _ => Err(BadBlock::Damaged),
        }
    }

    /// Writes the slot over the first [`used_bytes`](Superblock::used_bytes) of `blocks`.
    ///
    /// # Panics
    /// If the mark is larger than [`MARK_BYTES_MAX`].
    pub fn encode_into(&self, blocks: &mut [u8]) {
        let mark: &[u8] = self.mark.as_ref().map_or(&[], |mark| &mark.bytes);
        assert!(mark.len() <= MARK_BYTES_MAX, "a mark fits its slot: checked where it is taken");
        assert!(self.first_lsn > Lsn::ZERO, "the first record is number one");
        let used_bytes = self.used_bytes();
        let blocks = &mut blocks[..used_bytes];
        blocks.fill(0);
        let counted = |bytes: usize| u32::try_from(bytes).expect("a slot is small");
        slot::USED_BYTES.put(blocks, counted(used_bytes));
        slot::MARK_BYTES.put(blocks, counted(mark.len()));
        slot::SEQUENCE.put(blocks, self.sequence);
        slot::LOG_ID.put(blocks, self.log_id.get());
        slot::REPLICA_ID.put(blocks, self.replica_id.get());
        slot::EPOCH.put(blocks, self.epoch.get());
        slot::VOTE_EPOCH.put(blocks, self.vote.epoch.get());
        slot::VOTE_REPLICA.put(blocks, self.vote.replica.get());
        slot::VOTE_DISK.put(blocks, self.vote.disk.get());
        slot::GENERATION.put(blocks, self.generation);
        slot::DURABLE.put(blocks, self.durable.get());
        slot::FIRST_LSN.put(blocks, self.first_lsn.get());
        slot::TRIMMED_EPOCH.put(blocks, self.trimmed_epoch.get());
        if let Some(tail) = self.clean_tail {
            slot::CLEAN.put(blocks, 1);
            slot::TAIL_SEGMENT_ID.put(blocks, tail.segment_id.get());
            slot::TAIL_END.put(blocks, tail.end);
            slot::TAIL_LAST_LSN.put(blocks, tail.last_lsn.get());
            slot::TAIL_DIGEST.put(blocks, tail.digest.get());
        }
        if let Some(mark) = &self.mark {
            slot::MARKED.put(blocks, 1);
            slot::MARK_LSN.put(blocks, mark.lsn.get());
        }
        slot::WRITE_METHOD.put(blocks, method_code(self.write_method));
        blocks[slot::BYTES..][..mark.len()].copy_from_slice(mark);
        seal_block(blocks, SUPERBLOCK_MAGIC);
    }
}

/// What the two slots say together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The newest superblock that checks.
    pub superblock: Superblock,
    /// Whether the other slot holds the superblock right before this one, or was never written. If not, it
    /// may have been the newer one: what this one says of a clean end must then not be believed.
    pub other_is_sound: bool,
}

/// Chooses the newest slot that checks from the contents of the superblock's file.
///
/// # Errors
/// [`BadBlock::Newer`] if either slot was written by a newer version; [`BadBlock::Blank`] if neither was
/// ever written; else [`BadBlock::Damaged`].
pub fn choose_slot(file: &[u8]) -> Result<Chosen, BadBlock> {
    let file = &file[..file.len().min(SUPERBLOCK_BYTES)];
    let (first, second) = file.split_at(file.len().min(SLOT_BYTES));
    match (Superblock::decode(first, 0), Superblock::decode(second, 1)) {
        (Err(newer @ BadBlock::Newer { .. }), _) | (_, Err(newer @ BadBlock::Newer { .. })) => Err(newer),
        (Ok(a), Ok(b)) => {
            let other_is_sound = a.sequence.abs_diff(b.sequence) == 1;
            let superblock = if a.sequence > b.sequence { a } else { b };
            Ok(Chosen { superblock, other_is_sound })
        }
        (Ok(superblock), Err(other)) | (Err(other), Ok(superblock)) => {
            let other_is_sound = other == BadBlock::Blank && superblock.sequence <= FIRST_SEQUENCE;
            Ok(Chosen { superblock, other_is_sound })
        }
        (Err(BadBlock::Blank), Err(BadBlock::Blank)) => Err(BadBlock::Blank),
        (Err(_), Err(_)) => Err(BadBlock::Damaged),
    }
}

/// The blocks of a slot that its checksum is over: how many is read before anything is checked, and bounded.
fn used_blocks(bytes: &[u8]) -> Result<&[u8], BadBlock> {
    if all_zero(bytes) {
        return Err(BadBlock::Blank);
    }
    let first = bytes.get(..BLOCK_BYTES).ok_or(BadBlock::Damaged)?;
    if preamble::MAGIC.get(first) != SUPERBLOCK_MAGIC {
        return Err(BadBlock::Damaged);
    }
    let used_bytes = slot::USED_BYTES.get(first) as usize;
    if used_bytes == 0 || !used_bytes.is_multiple_of(BLOCK_BYTES) || used_bytes > SLOT_BYTES {
        return Err(BadBlock::Damaged);
    }
    bytes.get(..used_bytes).ok_or(BadBlock::Damaged)
}

fn decode_slot(used: &[u8]) -> Option<Superblock> {
    let mark_bytes = slot::MARK_BYTES.get(used) as usize;
    let (mark, padding) = used[slot::BYTES..].split_at_checked(mark_bytes)?;
    let superblock = Superblock {
        sequence: slot::SEQUENCE.get(used),
        log_id: LogId::new(slot::LOG_ID.get(used)),
        replica_id: ReplicaId::new(slot::REPLICA_ID.get(used)),
        write_method: method_from_code(slot::WRITE_METHOD.get(used))?,
        epoch: Epoch::new(slot::EPOCH.get(used)),
        vote: Vote {
            epoch: Epoch::new(slot::VOTE_EPOCH.get(used)),
            replica: ReplicaId::new(slot::VOTE_REPLICA.get(used)),
            disk: DiskId::new(slot::VOTE_DISK.get(used)),
        },
        generation: slot::GENERATION.get(used),
        durable: Lsn::new(slot::DURABLE.get(used)),
        first_lsn: Lsn::new(slot::FIRST_LSN.get(used)),
        trimmed_epoch: Epoch::new(slot::TRIMMED_EPOCH.get(used)),
        clean_tail: decode_tail(used)?,
        mark: decode_mark(used, mark)?,
    };
    let sound = mark_bytes <= MARK_BYTES_MAX
        && superblock.sequence <= SEQUENCE_MAX
        && superblock.used_bytes() == used.len()
        && (Lsn::FIRST..=Lsn::LAST).contains(&superblock.first_lsn)
        && superblock.durable <= Lsn::LAST
        && superblock.clean_tail.is_none_or(|tail| tail.last_lsn <= Lsn::LAST)
        && slot::ZERO_A.get(used) == 0
        && slot::ZERO_B.get(used) == 0
        && all_zero(padding);
    sound.then_some(superblock)
}

fn decode_tail(used: &[u8]) -> Option<Option<CleanTail>> {
    let tail = CleanTail {
        segment_id: SegmentId::new(slot::TAIL_SEGMENT_ID.get(used)),
        end: slot::TAIL_END.get(used),
        last_lsn: Lsn::new(slot::TAIL_LAST_LSN.get(used)),
        digest: Digest::new(slot::TAIL_DIGEST.get(used)),
    };
    let unset = all_zero(&used[slot::TAIL_SEGMENT_ID.start()..slot::TAIL_DIGEST.end()]);
    match slot::CLEAN.get(used) {
        0 if unset => Some(None),
        1 => Some(Some(tail)),
        _ => None,
    }
}

fn decode_mark(used: &[u8], bytes: &[u8]) -> Option<Option<Mark>> {
    let lsn = Lsn::new(slot::MARK_LSN.get(used));
    match slot::MARKED.get(used) {
        0 if lsn == Lsn::ZERO && bytes.is_empty() => Some(None),
        1 => Some(Some(Mark { lsn, bytes: bytes.to_vec() })),
        _ => None,
    }
}

const fn method_code(method: WriteMethod) -> u8 {
    match method {
        WriteMethod::Direct => 1,
        WriteMethod::Buffered => 2,
        WriteMethod::Mapped => 3,
    }
}

const fn method_from_code(code: u8) -> Option<WriteMethod> {
    match code {
        1 => Some(WriteMethod::Direct),
        2 => Some(WriteMethod::Buffered),
        3 => Some(WriteMethod::Mapped),
        _ => None,
    }
}
