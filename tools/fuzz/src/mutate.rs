//! Seeded damage, some of which is made to fit its checksums again, so that it gets past them.

use annals::format::{BLOCK_BYTES, Digest, FRAME_HEADER_BYTES, GROUP_HEADER_BYTES, crc32};

/// A small generator: the same numbers for the same seed, on every machine.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The generator with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Noise {
        Noise(seed ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    /// The next sixty-four bits (SplitMix64).
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        (self.next_u64() % bound).try_into().expect("below a usize")
    }
}

/// Damages `bytes` in one to four ways.
pub(crate) fn damage(noise: &mut Noise, bytes: &mut Vec<u8>) {
    for _ in 0..=noise.below(4) {
        damage_once(noise, bytes);
    }
}

fn damage_once(noise: &mut Noise, bytes: &mut Vec<u8>) {
    let at = place(noise, bytes.len());
    let count = noise.below(64.min(bytes.len() - at) + 1);
    let range = at..at + count;
    match noise.below(9) {
        0 => bytes.truncate(at),
        1 => bytes.extend((0..count).map(|number| number as u8)),
        2 => bytes[range].fill(0),
        3 => bytes[range].iter_mut().for_each(|byte| *byte = noise.next_u64() as u8),
        4 => bytes.copy_within(range, noise.below(at + 1)),
        5 => number(noise, bytes, at / 4 * 4, 4),
        6 => number(noise, bytes, at / 8 * 8, 8),
        _ if at < bytes.len() => bytes[at] ^= 1 << noise.below(8),
        _ => {}
    }
}

/// Mostly near the start of one of the first blocks, or of the last one: that is where the structures are.
fn place(noise: &mut Noise, length: usize) -> usize {
    let block = match noise.below(6) {
        0 => return noise.below(length + 1),
        1 => length.saturating_sub(BLOCK_BYTES),
        2 => 0,
        3 => 3 * BLOCK_BYTES,
        _ => BLOCK_BYTES,
    };
    (block + noise.below(600)).min(length)
}

/// Puts a number where one may be: an extreme, or a neighbour of what is there.
fn number(noise: &mut Noise, bytes: &mut [u8], at: usize, size: usize) {
    let Some(field) = bytes.get_mut(at..at + size) else { return };
    let mut old = [0; 8];
    old[..size].copy_from_slice(field);
    let old = u64::from_le_bytes(old);
    let new = match noise.below(7) {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => old.wrapping_add(8),
        5 => 1 << noise.below(64),
        _ => old.wrapping_mul(2),
    };
    field.copy_from_slice(&new.to_le_bytes()[..size]);
}

/// Makes checksums fit again: of a journal, or the last block, the first, and each group with its frames.
pub(crate) fn mend(bytes: &mut [u8]) {
    if mend_journal(bytes).is_some() || mend_frame(bytes).is_some() {
        return;
    }
    for at in (0..bytes.len().saturating_sub(GROUP_HEADER_BYTES)).step_by(8) {
        if bytes[at + 4..].starts_with(b"aGRP") {
            mend_group(&mut bytes[at..]);
        }
    }
    if let Some(trailer) = bytes.len().checked_sub(BLOCK_BYTES) {
        mend_block(&mut bytes[trailer..]);
        mend_block(&mut bytes[..BLOCK_BYTES]);
    }
}

/// A last line with a checksum over all others.
fn mend_journal(bytes: &mut [u8]) -> Option<()> {
    let (body, end) = bytes.split_at_mut(bytes.len().checked_sub(b"end 00000000\n".len())?);
    if !body.starts_with(b"annals repair") || !end.starts_with(b"end ") {
        return None;
    }
    end.copy_from_slice(format!("end {:08x}\n", crc32(body)).as_bytes());
    Some(())
}

/// Magic, version, then a checksum over all but itself.
fn mend_block(block: &mut [u8]) {
    if block.starts_with(b"annal") {
        let sum = crc32(&[&block[..12], &block[16..]].concat());
        block[12..16].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Frames, then their digest (the last field), then the header's checksum (the first one).
fn mend_group(group: &mut [u8]) {
    let claimed = u32_at(group, 40);
    let (header, frames) = group.split_at_mut(GROUP_HEADER_BYTES);
    let mut digest = Digest::new(u64::from_le_bytes(header[8..16].try_into().expect("eight bytes")));
    let present = claimed.min(frames.len());
    let mut rest = &mut frames[..present];
    while let Some((used, sum)) = mend_frame(rest) {
        digest = digest.fold(sum.into());
        rest = &mut rest[used..];
    }
    header[56..64].copy_from_slice(&digest.get().to_le_bytes());
    let sum = crc32(&header[4..]);
    header[..4].copy_from_slice(&sum.to_le_bytes());
}

/// A checksum over the rest of the header and the payload; how many bytes the frame takes, and the checksum.
fn mend_frame(bytes: &mut [u8]) -> Option<(usize, u32)> {
    if bytes.len() < FRAME_HEADER_BYTES || bytes.starts_with(b"annal") {
        return None;
    }
    let used = FRAME_HEADER_BYTES + u32_at(bytes, 4);
    let sum = crc32(bytes.get(4..used)?);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    Some((used.next_multiple_of(8).min(bytes.len()), sum))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let field = bytes[at..at + 4].try_into().expect("four bytes");
    usize::try_from(u32::from_le_bytes(field)).expect("a usize has 32 bits or more")
}
