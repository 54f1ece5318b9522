//! The two sums of the format: a CRC over bytes, and a digest over CRCs.

use std::fmt;

use super::layout::preamble;

/// The CRC-32 (IEEE) of `bytes`. Beware: of no bytes at all it is zero.
#[inline]
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The CRC-32 of bytes that come piece by piece: [`crc32`] of all of them together.
#[derive(Clone, Debug, Default)]
pub struct RunningCrc(crc32fast::Hasher);

impl RunningCrc {
    /// Of no bytes yet.
    #[must_use]
    pub fn new() -> RunningCrc {
        RunningCrc::default()
    }

    /// Takes the bytes that follow.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC of all that was taken.
    #[must_use]
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// The checksum of a block that begins with a preamble: over all of it but the checksum itself.
pub(super) fn block_checksum(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..preamble::CHECKSUM.start()]);
    hasher.update(&block[preamble::CHECKSUM.end()..]);
    hasher.finalize()
}

/// A running sum over checksums, in their order: what chains frames into groups, groups into segments and
/// segments into a log.
///
/// It tells swapped, missing and mixed-up parts apart, each of which checks by itself. It is no defence
/// against a forger: neither is a CRC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(u64);

const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// Undoes a multiplication by it: it is odd.
const FACTOR_INVERSE: u64 = 0xF1DE_83E1_9937_733D;
const FOLD_BITS: u32 = 29;
const _: () = assert!(FACTOR.wrapping_mul(FACTOR_INVERSE) == 1);

impl Digest {
    /// The end digest before the first segment of a log.
    pub const ZERO: Digest = Digest(0);

    /// A digest over nothing yet, begun with `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Digest {
        Digest(seed)
    }

    /// The digest over what this one is over, then `sum`.
    #[inline]
    #[must_use]
    pub const fn fold(self, sum: u64) -> Digest {
        Digest((self.0 ^ sum).wrapping_mul(FACTOR).rotate_left(FOLD_BITS))
    }

    /// The sum that has to be folded into `self` for the outcome to be `folded`: there is always exactly one.
    #[must_use]
    pub const fn sum_to(self, folded: Digest) -> u64 {
        folded.before(0).0 ^ self.0
    }

    /// What this digest was before `sum` was folded in.
    #[must_use]
    pub const fn before(self, sum: u64) -> Digest {
        Digest(self.0.rotate_right(FOLD_BITS).wrapping_mul(FACTOR_INVERSE) ^ sum)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:016x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_the_one_that_the_specification_names() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0, "why no checksum of the format covers a payload alone");
    }

    #[test]
    fn crc_of_pieces_is_that_of_the_whole() {
        let mut running = RunningCrc::new();
        for piece in [&b"1234"[..], b"", b"56789"] {
            running.update(piece);
        }
        assert_eq!(running.finish(), crc32(b"123456789"));
    }

    #[test]
    fn a_fold_can_be_taken_back_and_solved_for_its_sum() {
        let (digest, sum) = (Digest::new(77), 0xDEAD_BEEF);
        let folded = digest.fold(sum);
        assert_eq!(folded.before(sum), digest);
        assert_eq!(digest.sum_to(folded), sum);
    }

    #[test]
    fn digest_tells_order_number_and_seed_apart() {
        let of = |seed, sums: &[u64]| sums.iter().fold(Digest::new(seed), |digest, sum| digest.fold(*sum));
        assert_ne!(of(1, &[2, 3]), of(1, &[3, 2]));
        assert_ne!(of(1, &[2, 3]), of(2, &[2, 3]));
        assert_ne!(of(1, &[2]), of(1, &[2, 0]));
        assert_eq!(of(1, &[2, 3]).before(3).before(2), Digest::new(1));
        assert_eq!(of(1, &[2]).get(), (3_u64.wrapping_mul(0x9E37_79B9_7F4A_7C15)).rotate_left(29));
    }
}
