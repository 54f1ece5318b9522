//! What has to hold of every decoder, whatever the bytes.
//!
//! Each `fuzz_*` function panics if it does not. They are driven in three ways: with what earlier runs have found
//! (`corpus/`), by `replay` and `run` with seeded mutations of that and of the golden files, on stable, in CI; and by
//! libFuzzer (`fuzz_targets/`).

mod corpus;
mod directory;
mod message;
mod mutate;
mod request;
mod segment;
mod snapshot;

use annals::format::{
    BatchView, Frame, FrameHeader, FrameKind, SLOT_BYTES, Superblock, Walk, choose_slot, frame_bytes,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub use corpus::replay_corpus;
pub use directory::fuzz_directory;
pub use message::fuzz_message;
pub use mutate::Noise;
pub use request::fuzz_request;
pub use segment::fuzz_segment;
pub use snapshot::fuzz_snapshot;

/// A decoder, with bytes that it takes and what has to hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What has to hold, whatever the bytes.
    pub check: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    mend: fn(&mut [u8]),
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target { name: "directory", check: fuzz_directory, seeds: directories, mend: mend_directory },
    Target { name: "examine", check: fuzz_examine, seeds: segments, mend: mutate::mend },
    Target { name: "frame", check: fuzz_frame, seeds: frames, mend: mutate::mend },
    Target { name: "journal", check: fuzz_journal, seeds: journals, mend: mutate::mend },
    Target { name: "message", check: fuzz_message, seeds: message::messages, mend: |_| {} },
    Target { name: "request", check: fuzz_request, seeds: request::requests, mend: |_| {} },
    Target { name: "segment", check: fuzz_segment, seeds: segments, mend: mutate::mend },
    Target { name: "snapshot", check: fuzz_snapshot, seeds: snapshot::snapshots, mend: snapshot::mend },
    Target { name: "superblock", check: fuzz_superblock, seeds: || vec![SLOT.to_vec()], mend: mutate::mend },
];

const TAIL: &[u8] = include_bytes!("../../../tests/data/format-v1/tail.seg");
const SEALED: &[u8] = include_bytes!("../../../tests/data/format-v1/sealed.seg");
const REPAIRED: &[u8] = include_bytes!("../../../tests/data/format-v1/repaired.seg");
const REPLICATED: &[u8] = include_bytes!("../../../tests/data/format-v1/replicated.seg");
const SLOT: &[u8] = include_bytes!("../../../tests/data/format-v1/superblock-slot-0");

/// The golden files, as directories.
fn directories() -> Vec<Vec<u8>> {
    let mut superblock = vec![0; 2 * SLOT_BYTES];
    superblock[..SLOT.len()].copy_from_slice(SLOT);
    let journal = &journals()[0];
    const SEGMENT: u8 = 5;
    let mut damaged = SEALED.to_vec();
    damaged[RECORDS].fill(0xA5);
    let whole: [directory::Numbered<'_>; 3] = [(0, &superblock), (4, &damaged), (SEGMENT, TAIL)];
    let mut directories = vec![
        directory::encode(&[(0, &superblock), (SEGMENT, SEALED), (SEGMENT, TAIL)]),
        directory::encode(&[(0, &superblock), (SEGMENT, REPAIRED)]),
        directory::encode(&[(SEGMENT, TAIL)]),
        directory::encode(&[(0, &superblock), (SEGMENT, SEALED), (2, journal), (3, &superblock)]),
        directory::encode(&whole),
    ];
    directories.extend((1..60).step_by(2).map(|operations| directory::interrupted(&whole, operations)));
    directories.sort();
    directories.dedup();
    directories
}

/// Some of the records of the golden segments.
const RECORDS: std::ops::Range<usize> = 4200..4300;

/// Journals of repairs.
fn journals() -> Vec<Vec<u8>> {
    let lines = [
        "old superblock 131072 00000000\n",
        "old 00000000000000000001.seg 20480 -\nunread 00000000000000000001.seg 0 4096\n\
         new 00000000000000000001.seg 24576 0012aBcd\n\
         new superblock 131072 ffffffff\nlost 3 9\nlost 12 18446744073709551614\n",
    ];
    let journals = lines.map(|lines| {
        let mut journal = format!("annals repair journal 1\n{lines}end 00000000\n").into_bytes();
        mutate::mend(&mut journal);
        journal
    });
    journals.into()
}

fn mend_directory(bytes: &mut [u8]) {
    directory::split(bytes).into_iter().for_each(mutate::mend);
}

/// Makes most of `bytes` fit their checksums again, as the seeded runs do: for a fuzzer that has just damaged them.
///
/// # Panics
/// If there is no target with this name.
pub fn mend(target: &str, seed: u32, bytes: &mut [u8]) {
    let target = TARGETS.iter().find(|known| known.name == target).expect("the name of a target");
    if !seed.is_multiple_of(4) {
        (target.mend)(bytes);
    }
}

/// The bytes that mutations of `target` begin with, one after the other.
#[must_use]
pub fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = (target.seeds)();
    seeds.extend(corpus::of(target.name).into_iter().map(|(_, bytes)| bytes));
    seeds
}

/// Runs `rounds` mutations from `seed` on; on a failure, says how to replay it.
pub fn run(target: &Target, seed: u64, rounds: u64) {
    let seeds = seeds(target);
    for seed in seed..seed.saturating_add(rounds) {
        let bytes = replay(&seeds, target.mend, seed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.check)(&bytes))) {
            eprintln!(
                "replay with: cargo run -p annals-fuzz -- --target {} --seed {seed} --rounds 1",
                target.name
            );
            resume_unwind(panic);
        }
    }
}

/// The bytes that `seed` makes of one of `seeds`.
fn replay(seeds: &[Vec<u8>], mend: fn(&mut [u8]), seed: u64) -> Vec<u8> {
    let mut noise = Noise::new(seed);
    let mut bytes = seeds[noise.below(seeds.len())].clone();
    mutate::damage(&mut noise, &mut bytes);
    if noise.below(3) > 0 {
        mend(&mut bytes);
    }
    bytes
}

/// A frame stays in its bounds, and what is decoded is what was encoded.
pub fn fuzz_frame(bytes: &[u8]) {
    let Ok(frame) = Frame::parse(bytes) else { return };
    let header = frame.header();
    assert!(frame.stored().len() <= bytes.len());
    assert_eq!(frame.stored().len() as u64, frame_bytes(header.length.into()));
    assert_eq!(frame.payload().len() as u64, u64::from(header.length));
    assert!(header.count > 0 && header.last_lsn() >= header.lsn);
    let mut again = [0xEE; annals::format::FRAME_HEADER_BYTES];
    header.encode_into(&mut again);
    assert_eq!(again, bytes[..again.len()]);
    assert_eq!(FrameHeader::decode(&again).as_ref(), Ok(header));

    // Without a check of the contents, a record is some part of the payload, or none.
    for lsn in [header.lsn.prev(), header.lsn, header.last_lsn(), header.last_lsn().next()] {
        assert!(frame.record(lsn).is_none_or(|record| record.len() <= frame.payload().len()));
    }
    if header.kind == FrameKind::Gap {
        assert!(frame.payload().is_empty() && frame.record(header.lsn).is_none());
    }
    if header.kind == FrameKind::Control {
        assert!(frame.record(header.lsn).is_none() && header.count == 1);
    }
    assert_eq!(frame.origin().is_some(), header.kind == FrameKind::Produced);
    if frame.check().is_ok() && header.kind == FrameKind::Produced {
        assert!(frame.origin().is_some_and(|origin| origin.producer.get() > 0 && origin.sequence > 0));
        assert!(frame.record(header.lsn).is_some() && frame.record(header.last_lsn()).is_some());
    }
    if frame.check().is_ok() && header.kind == FrameKind::Batch {
        let batch = BatchView::parse(frame.payload(), header.count).expect("checked with its frame");
        assert_eq!(batch.records().len() as u64, u64::from(header.count));
        for (record, number) in batch.records().zip(0..) {
            assert_eq!(batch.record(number), Some(record));
        }
    }
}

/// An examination says what the scans say, and nothing of what lies behind damage that cannot be.
pub fn fuzz_examine(bytes: &[u8]) {
    // Few of the records of the seeds are acknowledged, some of them, or more than there are.
    let durable = annals::Lsn::new(u64::from(annals::format::crc32(bytes) % 32));
    annals::examination::check(bytes, durable);
}

/// A journal that is taken is encoded to one that says the same, and moves nothing but the files of a log.
pub fn fuzz_journal(bytes: &[u8]) {
    annals::repair::check_journal(bytes);
}

/// A slot that is taken is encoded to the same bytes again; choosing never fails on what one slot may say.
pub fn fuzz_superblock(bytes: &[u8]) {
    for number in [0, 1] {
        let Ok(superblock) = Superblock::decode(bytes, number) else { continue };
        assert_eq!(superblock.slot(), number);
        let used = superblock.used_bytes();
        let mut again = vec![0xEE; used];
        superblock.encode_into(&mut again);
        assert_eq!(again, bytes[..used]);
    }
    let split = bytes.len().min(SLOT_BYTES);
    let slots = [Superblock::decode(&bytes[..split], 0), Superblock::decode(&bytes[split..], 1)];
    if let Ok(chosen) = choose_slot(bytes) {
        assert!(slots.iter().flatten().all(|slot| slot.sequence <= chosen.superblock.sequence));
        assert!(slots.contains(&Ok(chosen.superblock)));
    }
}

/// Segments of every kind.
fn segments() -> Vec<Vec<u8>> {
    [TAIL, SEALED, REPAIRED, REPLICATED].map(<[u8]>::to_vec).into()
}

/// The stored frames of the golden segments.
fn frames() -> Vec<Vec<u8>> {
    [TAIL, REPAIRED, REPLICATED].into_iter().flat_map(frames_of).collect()
}

fn frames_of(segment: &[u8]) -> Vec<Vec<u8>> {
    let header = annals::format::SegmentHeader::decode(segment).expect("a golden file");
    let end = segment::index(annals::format::scan_tail(segment, &header, annals::Lsn::ZERO).end);
    let frames = annals::format::Frames::new(&segment[..end], Walk::from_start(header.incarnation));
    frames.flatten().map(|(_, frame)| frame.stored().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough for every kind of mutation to meet every structure; the binary goes on from here.
    const ROUNDS: u64 = 1000;

    #[test]
    fn no_decoder_trips_over_a_mutation_of_what_it_takes() {
        for target in &TARGETS {
            run(target, 0, ROUNDS);
        }
    }

    #[test]
    fn no_decoder_trips_over_the_golden_files() {
        for target in &TARGETS {
            [TAIL, SEALED, REPAIRED, REPLICATED, SLOT, &[]].into_iter().for_each(target.check);
            (target.seeds)().iter().for_each(|seed| (target.check)(seed));
        }
    }

    #[test]
    fn no_decoder_trips_over_what_earlier_runs_have_found() {
        for target in &TARGETS {
            replay_corpus(target);
        }
    }

    #[test]
    fn mutations_reach_past_the_checksums() {
        let seeds = [TAIL.to_vec()];
        let reached = |seed| {
            let bytes = replay(&seeds, mutate::mend, seed);
            annals::format::SegmentHeader::decode(&bytes).is_ok_and(|header| header.first_lsn.get() != 1)
        };
        assert!((0..ROUNDS).any(reached), "a header with another LSN and the right checksum");
    }
}
