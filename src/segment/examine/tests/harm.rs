//! Damage at random.

use super::*;

/// One way to damage a segment.
#[derive(Clone, Debug)]
pub(super) enum Harm {
    Flip(usize, u8),
    Zero(usize, usize),
    Noise(usize, u8, usize),
    Copy(usize, usize, usize),
    Cut(usize),
}

pub(super) fn harm() -> impl Strategy<Value = Harm> {
    let place = || prop_oneof![any::<prop::sample::Index>().prop_map(|index| index.index(6 * BLOCK_BYTES))];
    prop_oneof![
        4 => (place(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        2 => (place(), 1..5000_usize).prop_map(|(at, bytes)| Harm::Zero(at, bytes)),
        2 => (place(), any::<u8>(), 1..5000_usize).prop_map(|(at, seed, bytes)| Harm::Noise(at, seed, bytes)),
        1 => (place(), place(), 1..300_usize).prop_map(|(from, to, bytes)| Harm::Copy(from, to / 8 * 8, bytes)),
        1 => place().prop_map(Harm::Cut),
    ]
}

pub(super) fn apply(bytes: &mut Vec<u8>, harm: &Harm) {
    let within = |at: usize, count: usize| at.min(bytes.len())..(at + count).min(bytes.len());
    match *harm {
        Harm::Flip(at, bit) if at < bytes.len() => bytes[at] ^= 1 << bit,
        Harm::Zero(at, count) => {
            let range = within(at, count);
            bytes[range].fill(0);
        }
        Harm::Noise(at, seed, count) => {
            let range = within(at, count);
            let noise = (0..).map(|number: u32| (number.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed);
            bytes[range].iter_mut().zip(noise).for_each(|(byte, noise)| *byte = noise);
        }
        Harm::Copy(from, to, count) => {
            let range = within(from, count);
            let to = to.min(bytes.len() - range.len());
            bytes.copy_within(range, to);
        }
        Harm::Cut(at) => bytes.truncate(at),
        Harm::Flip(..) => {}
    }
}
