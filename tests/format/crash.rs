//! Crashes of a simulated writer, at any moment, with any tearing that a disk may do.
//!
//! Run one seed with `ANNALS_SEED=<seed> cargo test --test format crash`.

use annals::Lsn;
use annals::format::{BLOCK_BYTES, Incarnation, SegmentHeader, TailScan, Verdict, block_up, scan_tail};

use crate::small::{header, wipe};
use annals_fixtures::segment::{Builder, Content, Start, Written, index};

const SEEDS: u64 = 300;
const ROUNDS: usize = 4;
const SECTOR_BYTES: usize = 512;

#[test]
fn no_crash_loses_an_acknowledged_record_or_brings_a_discarded_one_back() {
    let only = std::env::var("ANNALS_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        if let Err(panic) = std::panic::catch_unwind(|| lives_of_a_segment(seed)) {
            eprintln!("replay with: ANNALS_SEED={seed} cargo test --test format crash");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A small generator: the tests need reproducible noise, not good randomness.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ self.0 >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64).try_into().unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

struct InFlight {
    group: Written,
    blocks: Vec<u8>,
    at: usize,
    done: bool,
}

fn lives_of_a_segment(seed: u64) {
    let mut noise = Noise(seed);
    let header = header(20 * BLOCK_BYTES as u64);
    let mut disk = first_life(&mut noise, header);
    let mut writer = Builder::with(header);
    writer.bytes.copy_from_slice(&disk);
    let mut acked = Lsn::ZERO;
    for _ in 0..ROUNDS {
        let in_flight;
        (acked, in_flight) = write_until_crash(&mut noise, &mut writer, &mut disk, acked);
        for write in &in_flight {
            tear(&mut noise, &mut disk, write);
        }
        let watermark = Lsn::new(noise.next() % (acked.get() + 1));
        let scan = scan_tail(&disk, &header, watermark);
        assert!(!scan.verdict.is_loss(), "seed {seed}: {:?} after {acked}", scan.verdict);
        assert!(scan.last_lsn >= acked, "seed {seed}: {} of {acked}", scan.last_lsn);
        let kept = 4096..index(scan.end);
        assert!(disk[kept.clone()] == writer.bytes[kept], "seed {seed}: other bytes than were written");
        discard(&mut noise, &mut disk, &header, &scan);
        acked = scan.last_lsn;
        writer = resume(&disk, header, scan);
    }
}

/// What a new segment finds in its file: zeros, noise, or a former life of the same shape.
fn first_life(noise: &mut Noise, header: SegmentHeader) -> Vec<u8> {
    let mut former = Builder::with(SegmentHeader { incarnation: Incarnation::new(noise.next()), ..header });
    let kind = noise.below(3);
    if kind == 1 {
        former.bytes = noise.bytes(former.bytes.len());
    }
    while kind == 2 && former.end + 4096 < header.data_end() {
        append(noise, &mut former, Start::Packed, Lsn::ZERO);
    }
    header.encode_into(&mut former.bytes);
    former.bytes
}

fn append(noise: &mut Noise, writer: &mut Builder, start: Start, durable: Lsn) -> Written {
    let mut contents = Vec::new();
    for _ in 0..=noise.below(3) {
        let bytes = noise.below(900);
        contents.push(match noise.below(8) {
            0 => Content::Batch(vec![noise.bytes(bytes / 2), Vec::new(), noise.bytes(bytes / 2)]),
            1 => Content::EpochStart,
            2 => Content::Record(vec![0; bytes]),
            3 => Content::Gap(1 << noise.below(29)),
            _ => Content::Record(noise.bytes(bytes)),
        });
    }
    writer.group_knowing(start, durable, &contents)
}

/// Appends and finishes writes in some order; returns what was acknowledged, and what was not when it ended.
fn write_until_crash(
    noise: &mut Noise,
    writer: &mut Builder,
    disk: &mut [u8],
    mut acked: Lsn,
) -> (Lsn, Vec<InFlight>) {
    let mut in_flight: Vec<InFlight> = Vec::new();
    for _ in 0..noise.below(14) {
        let has_room = writer.end + 8192 < writer.header.data_end();
        if has_room && in_flight.len() < 4 && noise.below(3) > 0 {
            let may_pack = in_flight.is_empty() && noise.below(4) > 0;
            let group = append(noise, writer, if may_pack { Start::Packed } else { Start::Fresh }, acked);
            let at = index(group.start) / BLOCK_BYTES * BLOCK_BYTES;
            let blocks = writer.bytes[at..index(block_up(group.end))].to_vec();
            in_flight.push(InFlight { group, blocks, at, done: false });
        } else if !in_flight.is_empty() {
            let one = noise.below(in_flight.len());
            let write = &mut in_flight[one];
            disk[write.at..][..write.blocks.len()].copy_from_slice(&write.blocks);
            write.done = true;
            while in_flight.first().is_some_and(|write| write.done) {
                acked = in_flight.remove(0).group.last;
            }
        }
    }
    (acked, in_flight)
}

/// What is left of a write that had not finished: each sector old, new, zeros, noise, or cut at any byte.
fn tear(noise: &mut Noise, disk: &mut [u8], write: &InFlight) {
    if write.done {
        return;
    }
    for (number, sector) in write.blocks.chunks(SECTOR_BYTES).enumerate() {
        let at = write.at + number * SECTOR_BYTES;
        let new = match noise.below(6) {
            0 => continue,
            1 => vec![0; SECTOR_BYTES],
            2 => noise.bytes(SECTOR_BYTES),
            3 => {
                let cut = noise.below(SECTOR_BYTES);
                [&sector[..cut], &disk[at + cut..at + SECTOR_BYTES]].concat()
            }
            _ => sector.to_vec(),
        };
        // The disk is trusted with the bytes before the group: see powersafe overwrite in the specification.
        let before = index(write.group.start).saturating_sub(at).min(SECTOR_BYTES);
        disk[at + before..at + SECTOR_BYTES].copy_from_slice(&new[before..]);
    }
}

/// Overwrites what was torn, with a crash in the middle, after which the verdict has to be the same.
fn discard(noise: &mut Noise, disk: &mut [u8], header: &SegmentHeader, scan: &TailScan) {
    for at in (scan.discard_start..scan.discard_end).step_by(8) {
        if noise.below(2) == 0 {
            wipe(disk, at..at + 8);
        }
    }
    let again = scan_tail(disk, header, scan.last_lsn);
    assert_eq!((again.end, again.digest, again.verdict.is_loss()), (scan.end, scan.digest, false));
    wipe(disk, scan.discard_start..scan.discard_end);
    let clean = scan_tail(disk, header, scan.last_lsn);
    assert_eq!((clean.end, clean.digest, clean.later), (scan.end, scan.digest, None));
    assert!(matches!(clean.verdict, Verdict::Clean | Verdict::Stale { .. }), "{:?}", clean.verdict);
}

/// A writer that goes on where the scan found the end.
fn resume(disk: &[u8], header: SegmentHeader, scan: TailScan) -> Builder {
    Builder {
        bytes: disk.to_vec(),
        header,
        tables: scan.tables,
        end: scan.end,
        last: scan.last_lsn,
        epoch: scan.epoch,
        digest: scan.digest,
        groups: scan.groups,
    }
}
