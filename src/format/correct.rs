//! Finding the one flipped bit that explains why a checksum does not fit.
//!
//! A CRC is linear: flipping a bit of a message changes it by an amount that depends only on how many bits
//! follow. That amount is a power of x modulo the polynomial, so the bit is a discrete logarithm of the
//! difference (the *syndrome*). x has the order 2^32 - 1, so in less than 512 MiB there is one such bit or none,
//! and it is found without computing any CRC again: with a table of small powers and giant steps over it
//! (Shanks, "Class number, a theory of factorization, and genera", 1971).

use std::sync::OnceLock;

use super::checksum::{block_checksum, crc32};
use super::frame::Frame;
use super::group::{GroupHeader, GroupPlace};
use super::layout::{BLOCK_BYTES, SLOT_BYTES, frame, group, preamble, slot};
use super::segment::SegmentHeader;
use super::superblock::Superblock;
use super::{Footer, frame_bytes};

/// The polynomial, lowest bit first: what flipping the last bit of a message changes its CRC by.
const POLYNOMIAL: u32 = 0xEDB8_8320;
/// The powers in the table.
const SMALL_STEPS: u32 = 1 << 16;
/// After so many bits the amounts repeat.
const ORDER: u64 = u32::MAX as u64;

/// A bit that was flipped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flip {
    /// Its byte, from the start of what was corrected.
    pub at: u64,
    /// The bit, from 0 for the lowest.
    pub bit: u8,
}

impl Flip {
    /// Flips the bit again.
    ///
    /// # Panics
    /// If `bytes` end before it.
    pub fn apply(&self, bytes: &mut [u8]) {
        let at = usize::try_from(self.at).expect("a place in the bytes");
        bytes[at] ^= 1 << self.bit;
    }
}

/// The one bit of a message of `bytes` bytes that changes its CRC by `syndrome`, the CRC that is stored xor the
/// one of the bytes as they are; `None` if there is none, or more than one.
#[must_use]
pub fn flip_in_message(syndrome: u32, bytes: u64) -> Option<Flip> {
    let bits = bytes.checked_mul(8)?;
    let after = bits_after(syndrome, bits)?;
    // The lowest bit of a byte comes first.
    let place = bits - 1 - after;
    (after + ORDER >= bits).then_some(Flip { at: place / 8, bit: (place % 8) as u8 })
}

/// The bit, if the stored CRC itself has it flipped.
#[must_use]
fn flip_in_checksum(syndrome: u32) -> Option<Flip> {
    let bit = syndrome.trailing_zeros();
    syndrome.is_power_of_two().then(|| Flip { at: u64::from(bit / 8), bit: (bit % 8) as u8 })
}

/// The flipped bit in the header of a group that has to be valid in this place.
#[must_use]
pub fn correct_group(bytes: &[u8], place: GroupPlace) -> Option<(Flip, GroupHeader)> {
    let mut bytes = *bytes.first_chunk::<{ group::BYTES }>()?;
    let covered = &bytes[group::CHECKSUM.end()..];
    let syndrome = crc32(covered) ^ group::CHECKSUM.get(&bytes);
    let in_message = || {
        let flip = flip_in_message(syndrome, covered.len() as u64)?;
        Some(Flip { at: flip.at + group::CHECKSUM.end() as u64, ..flip })
    };
    let flip = flip_in_checksum(syndrome).or_else(in_message)?;
    flip.apply(&mut bytes);
    GroupHeader::decode_at(&bytes, place).ok().map(|header| (flip, header))
}

/// The flipped bit in a frame of which all bytes are there, with the length that they say.
///
/// A bit of the padding counts; one of the length does not, because it says where the frame ends: see
/// [`lengths_near`].
#[must_use]
pub fn correct_frame(stored: &[u8]) -> Option<Flip> {
    let length = frame::LENGTH.get(stored.get(..frame::BYTES)?);
    let used = frame::BYTES + usize::try_from(length).ok()?;
    if frame_bytes(u64::from(length)) != stored.len() as u64 {
        return None;
    }
    let syndrome = crc32(&stored[frame::CHECKSUM.end()..used]) ^ frame::CHECKSUM.get(stored);
    let flip = match syndrome {
        0 => flip_among_zeros(&stored[used..]).map(|flip| Flip { at: flip.at + used as u64, ..flip }),
        _ => frame_flip(syndrome, used as u64),
    }?;
    let mut corrected = stored.to_vec();
    flip.apply(&mut corrected);
    Frame::parse(&corrected).and_then(|frame| frame.check()).ok().map(|()| flip)
}

/// The flipped bit in the `used` bytes of a frame's header and payload, by the difference of its checksums.
#[must_use]
pub fn frame_flip(syndrome: u32, used: u64) -> Option<Flip> {
    let start = frame::CHECKSUM.end() as u64;
    let in_message = || {
        let flip = flip_in_message(syndrome, used.checked_sub(start)?)?;
        Some(Flip { at: flip.at + start, ..flip })
    };
    flip_in_checksum(syndrome).or_else(in_message)
}

/// The length that a frame's header says, whatever else is wrong with it.
#[must_use]
pub fn stated_length(header: &[u8]) -> Option<u32> {
    header.get(..frame::BYTES).map(|header| frame::LENGTH.get(header))
}

/// The checksum that a frame's header says, whatever else is wrong with it.
#[must_use]
pub fn stated_checksum(header: &[u8]) -> Option<u32> {
    header.get(..frame::BYTES).map(|header| frame::CHECKSUM.get(header))
}

/// The lengths that are one flipped bit away from `length`, with the bit as it lies in the frame.
pub fn lengths_near(length: u32) -> impl Iterator<Item = (u32, Flip)> {
    (0..u32::BITS).map(move |bit| {
        let at = frame::LENGTH.start() as u64 + u64::from(bit / 8);
        (length ^ (1 << bit), Flip { at, bit: (bit % 8) as u8 })
    })
}

/// The only bit that is set in `bytes`, which have to be zeros.
#[must_use]
pub fn flip_among_zeros(bytes: &[u8]) -> Option<Flip> {
    let mut set = bytes.iter().zip(0..).filter(|(byte, _)| **byte != 0);
    let (byte, at) = set.next()?;
    (set.next().is_none() && byte.is_power_of_two()).then(|| Flip { at, bit: byte.trailing_zeros() as u8 })
}

/// The flipped bit in the first block of a segment.
#[must_use]
pub fn correct_segment_header(block: &[u8]) -> Option<Flip> {
    correct_block(block.get(..BLOCK_BYTES)?, |block| SegmentHeader::decode(block).is_ok())
}

/// The flipped bit in the last block of a segment.
#[must_use]
pub fn correct_trailer(block: &[u8]) -> Option<Flip> {
    correct_block(block.get(..BLOCK_BYTES)?, |block| Footer::decode(block).is_ok())
}

/// The flipped bit in slot number `number` of the superblock.
#[must_use]
pub fn correct_slot(bytes: &[u8], number: usize) -> Option<Flip> {
    let is_sound = |used: &[u8]| Superblock::decode(used, number).is_ok();
    let first = bytes.get(..BLOCK_BYTES)?;
    let stated = slot::USED_BYTES.get(first);
    let blocks = |used: u32| {
        let used = usize::try_from(used).ok()?;
        let fits = used > 0 && used.is_multiple_of(BLOCK_BYTES) && used <= SLOT_BYTES;
        bytes.get(..used).filter(|_| fits)
    };
    let as_stated = blocks(stated).and_then(|used| correct_block(used, is_sound));
    as_stated.or_else(|| {
        // The field that says how much is covered is the one with the flip.
        let mut found = (0..u32::BITS).filter_map(|bit| {
            let mut used = blocks(stated ^ (1 << bit))?.to_vec();
            let at = slot::USED_BYTES.start() as u64 + u64::from(bit / 8);
            let flip = Flip { at, bit: (bit % 8) as u8 };
            flip.apply(&mut used);
            is_sound(&used).then_some(flip)
        });
        let flip = found.next()?;
        found.next().is_none().then_some(flip)
    })
}

/// The flipped bit in a block that begins with a preamble.
fn correct_block(block: &[u8], is_sound: impl Fn(&[u8]) -> bool) -> Option<Flip> {
    let (start, end) = (preamble::CHECKSUM.start() as u64, preamble::CHECKSUM.end() as u64);
    let syndrome = block_checksum(block) ^ preamble::CHECKSUM.get(block);
    let in_message = || {
        let covered = block.len() as u64 - (end - start);
        let flip = flip_in_message(syndrome, covered)?;
        // The checksum lies amid what it covers.
        let at = if flip.at < start { flip.at } else { flip.at + (end - start) };
        Some(Flip { at, ..flip })
    };
    let in_checksum = || flip_in_checksum(syndrome).map(|flip| Flip { at: flip.at + start, ..flip });
    let flip = in_checksum().or_else(in_message)?;
    let mut corrected = block.to_vec();
    flip.apply(&mut corrected);
    is_sound(&corrected).then_some(flip)
}

/// How many bits follow the one whose flip changes a CRC by `syndrome`, if it is fewer than `bits`.
fn bits_after(syndrome: u32, bits: u64) -> Option<u64> {
    if syndrome == 0 {
        return None;
    }
    let Steps { small, giant } = Steps::known();
    let (mut wanted, mut taken) = (syndrome, 0);
    while taken < bits.min(ORDER) {
        if let Ok(index) = small.binary_search_by_key(&wanted, |(power, _)| *power) {
            let after = taken + u64::from(small[index].1);
            return (after < bits).then_some(after);
        }
        wanted = multiply(giant, wanted);
        taken += u64::from(SMALL_STEPS);
    }
    None
}

struct Steps {
    /// What a flip changes a CRC by, and how many bits follow it: sorted.
    small: Vec<(u32, u32)>,
    /// Takes as many bits as there are small steps back, as a matrix: what becomes of each bit.
    giant: [u32; 32],
}

impl Steps {
    fn known() -> &'static Steps {
        static STEPS: OnceLock<Steps> = OnceLock::new();
        STEPS.get_or_init(Steps::new)
    }

    fn new() -> Steps {
        let mut power = POLYNOMIAL;
        let mut small = Vec::with_capacity(SMALL_STEPS as usize);
        for after in 0..SMALL_STEPS {
            small.push((power, after));
            power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
        }
        small.sort_unstable();
        let mut giant: [u32; 32] = std::array::from_fn(|bit| one_back(1 << bit));
        for _ in 0..SMALL_STEPS.ilog2() {
            giant = giant.map(|column| multiply(&giant, column));
        }
        Steps { small, giant }
    }
}

/// What a flip would change the CRC by if one bit less followed.
const fn one_back(power: u32) -> u32 {
    // The polynomial's highest bit is set, and a shift clears it.
    if power >> 31 == 1 { ((power ^ POLYNOMIAL) << 1) | 1 } else { power << 1 }
}

fn multiply(matrix: &[u32; 32], vector: u32) -> u32 {
    let set = (0..32).filter(|bit| vector >> bit & 1 == 1);
    set.fold(0, |sum, bit| sum ^ matrix[bit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        BadBlock, FooterKind, Incarnation, Mark, Stamp, Tables, footer_bytes_for, write_batch, write_record,
    };
    use crate::types::{Epoch, LogId, Lsn, SegmentId, WriteMethod};

    /// Flips each bit of `bytes` in turn; `correct` has to name it.
    fn each_bit(bytes: &[u8], correct: impl Fn(&[u8]) -> Option<Flip>) {
        let mut damaged = bytes.to_vec();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let flip = Flip { at: at as u64, bit };
                flip.apply(&mut damaged);
                assert_eq!(correct(&damaged), Some(flip));
                flip.apply(&mut damaged);
            }
        }
    }

    #[test]
    fn the_flipped_bit_is_found_in_a_message_of_any_length() {
        for bytes in [1, 2, 60, 4092, 100_000, 3 << 20] {
            let mut message: Vec<u8> = (0..bytes).map(|number: u32| (number * 7 + 3) as u8).collect();
            let sum = crc32(&message);
            for at in [0, bytes / 3, bytes / 2, bytes - 1].map(|at| at as usize) {
                for bit in [0, 5, 7] {
                    message[at] ^= 1 << bit;
                    let found = flip_in_message(sum ^ crc32(&message), u64::from(bytes));
                    assert_eq!(found, Some(Flip { at: at as u64, bit }));
                    message[at] ^= 1 << bit;
                }
            }
        }
    }

    #[test]
    fn two_flipped_bits_are_none_that_is_near() {
        let mut message = vec![0x5A; 64];
        let sum = crc32(&message);
        message[3] ^= 1;
        message[40] ^= 0x10;
        assert_eq!(flip_in_message(sum ^ crc32(&message), 64), None);
        assert_eq!(flip_in_message(0, 64), None);
        assert_eq!(flip_in_message(1, 0), None);
    }

    #[test]
    fn a_message_so_long_that_two_bits_would_explain_it_has_no_correction() {
        // Of one byte more than the order of x, the first bit and one of the last byte change the same.
        let long = ORDER / 8 + 1;
        assert_eq!(flip_in_message(POLYNOMIAL, long), None);
        assert!(flip_in_message(POLYNOMIAL, long - 1).is_some());
    }

    #[test]
    fn each_bit_of_a_frame_but_its_length_is_found() {
        let stamp = Stamp { lsn: Lsn::new(7), epoch: Epoch::new(3) };
        let mut record = vec![0; 64];
        write_record(&mut record, stamp, &[0xA5; 29]);
        let mut batch = vec![0; 80];
        write_batch(&mut batch, stamp, [&[1_u8; 9][..], b"", &[2; 27]]);
        for frame in [record, batch] {
            let length = 4..8;
            each_bit(&frame, |damaged| {
                let in_length = damaged[length.clone()] != frame[length.clone()];
                match in_length {
                    false => correct_frame(damaged),
                    true => {
                        let stated = stated_length(damaged).unwrap();
                        let was = stated_length(&frame).unwrap();
                        let mut near = lengths_near(stated).filter(|(near, _)| *near == was);
                        near.next().map(|(_, flip)| flip)
                    }
                }
            });
            assert_eq!(correct_frame(&frame), None, "nothing to correct");
        }
    }

    #[test]
    fn each_bit_of_a_group_header_is_found() {
        let place = GroupPlace { incarnation: Incarnation::new(0xF00D), position: 4096 };
        let mut frame = [0; 40];
        write_record(&mut frame, Stamp { lsn: Lsn::new(5), epoch: Epoch::FIRST }, b"eight by");
        let header = GroupHeader::over(&frame, place, Lsn::new(4));
        let mut bytes = [0; group::BYTES];
        header.encode_into(&mut bytes);
        each_bit(&bytes, |damaged| {
            let (flip, corrected) = correct_group(damaged, place)?;
            assert_eq!(corrected, header);
            Some(flip)
        });
        assert_eq!(correct_group(&bytes, place), None, "nothing to correct");
    }

    #[test]
    fn each_bit_of_a_header_a_trailer_and_a_slot_is_found() {
        let segment_bytes = 8 * BLOCK_BYTES as u64;
        let header = SegmentHeader {
            log_id: LogId::new(9),
            incarnation: Incarnation::new(10),
            segment_id: SegmentId::FIRST,
            first_lsn: Lsn::FIRST,
            epoch: Epoch::FIRST,
            previous_digest: crate::format::Digest::ZERO,
            segment_bytes,
            footer_bytes: footer_bytes_for(segment_bytes),
        };
        let mut block = vec![0; BLOCK_BYTES];
        header.encode_into(&mut block);
        each_bit(&block, correct_segment_header);

        let mut region = vec![0; header.footer_bytes as usize];
        Footer::of(&header, FooterKind::Sealed).encode_into(&Tables::new(), &mut region);
        each_bit(&region[region.len() - BLOCK_BYTES..], correct_trailer);

        let mut superblock = Superblock::new(LogId::new(9), WriteMethod::Direct);
        superblock.mark = Some(Mark { lsn: Lsn::FIRST, bytes: vec![7; 5000] });
        let mut slot = vec![0; superblock.used_bytes()];
        superblock.encode_into(&mut slot);
        slot.resize(SLOT_BYTES, 0xEE); // what lies beyond the used bytes does not matter
        each_bit(&slot[..2 * BLOCK_BYTES], |used| {
            let mut whole = slot.clone();
            whole[..used.len()].copy_from_slice(used);
            assert_ne!(Superblock::decode(&whole, 1).err(), Some(BadBlock::Blank));
            correct_slot(&whole, 1)
        });
    }

    #[test]
    fn bytes_that_end_early_have_no_correction() {
        let place = GroupPlace { incarnation: Incarnation::new(1), position: 4096 };
        for bytes in [&[][..], &[1; 31], &[1; 63]] {
            assert_eq!(correct_group(bytes, place), None);
            assert_eq!(correct_frame(bytes), None);
            assert_eq!(correct_segment_header(bytes), None);
            assert_eq!(correct_trailer(bytes), None);
            assert_eq!(correct_slot(bytes, 0), None);
        }
    }
}
