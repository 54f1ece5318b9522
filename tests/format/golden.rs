//! Files that pin format version 1, bit for bit.
//!
//! `ANNALS_WRITE_GOLDEN=1 cargo test --test format golden` writes them anew: only ever for a new version.

use std::fs;
use std::path::Path;

use annals::format::{
    Chunk, CleanTail, Digest, FooterKind, FooterView, FrameKind, Frames, Mark, Origin, SEGMENT_BYTES_MIN,
    SegmentHeader, SnapshotHead, Superblock, Verdict, Vote, Walk, crc32, rescan_sealed, scan_tail,
    write_chunk,
};
use annals::{DiskId, Epoch, LogId, Lsn, ProducerId, ReplicaId, SegmentId, WriteMethod};

use crate::small::header;
use annals_fixtures::segment::{Builder, Content, Start, index};

/// The contents of the golden file, after making sure that `built` still is what it pins.
fn golden(name: &str, built: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-v1").join(name);
    if std::env::var_os("ANNALS_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, built).unwrap();
    }
    let pinned = fs::read(&path).unwrap();
    assert!(pinned == built, "{name} is not what this version writes: the format changed");
    pinned
}

fn log() -> Builder {
    let mut log = Builder::with(header(SEGMENT_BYTES_MIN));
    log.group(Start::Packed, &[Content::Record(b"first".to_vec()), Content::Record(Vec::new())]);
    log.group(Start::Packed, &[Content::EpochStart]);
    let batch = vec![b"each".to_vec(), Vec::new(), b"for all".to_vec()];
    log.group(Start::Packed, &[Content::Batch(batch), Content::Record(vec![0; 100])]);
    log
}

/// A segment that was repaired: three of its records are lost.
fn repaired() -> Builder {
    let mut log = Builder::with(header(SEGMENT_BYTES_MIN));
    log.group(Start::Packed, &[Content::Record(b"first".to_vec()), Content::Gap(2)]);
    log.group(Start::Packed, &[Content::Gap(1), Content::Record(Vec::new())]);
    log.group(Start::Packed, &[Content::EpochStart, Content::Batch(vec![b"each".to_vec(), b"all".to_vec()])]);
    log
}

/// A segment of a replica.
fn replicated() -> Builder {
    let mut log = Builder::with(header(SEGMENT_BYTES_MIN));
    log.group(Start::Packed, &[Content::EpochStart]);
    log.group(Start::Packed, &[Content::Control(b"a new producer".to_vec())]);
    let origin = Origin { producer: ProducerId::new(2), sequence: 1 };
    let records = vec![b"once".to_vec(), Vec::new(), b"and only once".to_vec()];
    log.group(Start::Packed, &[Content::Produced(origin, records), Content::Record(b"whenever".to_vec())]);
    log
}

fn superblock() -> Superblock {
    Superblock {
        sequence: 42,
        log_id: LogId::new(0x00AA_11BB_22CC_33DD_44EE_55FF_6677_8899),
        replica_id: ReplicaId::new(3),
        write_method: WriteMethod::Direct,
        epoch: Epoch::new(5),
        vote: Vote { epoch: Epoch::new(5), replica: ReplicaId::new(2), disk: DiskId::new(0x0102_0304) },
        generation: 9,
        durable: Lsn::new(7),
        first_lsn: Lsn::new(1),
        trimmed_epoch: Epoch::new(0),
        clean_tail: Some(CleanTail {
            segment_id: SegmentId::FIRST,
            end: log().end,
            last_lsn: Lsn::new(7),
            digest: log().digest,
        }),
        mark: Some(Mark { lsn: Lsn::new(6), bytes: b"applied up to six".to_vec() }),
    }
}

#[test]
fn golden_superblock_slot_is_read_back() {
    let mut built = vec![0; superblock().used_bytes()];
    superblock().encode_into(&mut built);
    let pinned = golden("superblock-slot-0", &built);
    assert_eq!(Superblock::decode(&pinned, 0), Ok(superblock()));
}

#[test]
fn golden_tail_is_read_back() {
    let log = log();
    let pinned = golden("tail.seg", &log.bytes);
    let header = SegmentHeader::decode(&pinned).unwrap();
    assert_eq!(header, log.header);
    let scan = scan_tail(&pinned, &header, Lsn::new(7));
    assert_eq!((scan.verdict, scan.last_lsn, scan.epoch), (Verdict::Clean, Lsn::new(7), Epoch::new(2)));
    assert_eq!((scan.end, scan.digest), (log.end, log.digest));
}

#[test]
fn golden_repaired_segment_is_read_back_with_the_digest_that_it_states() {
    let mut log = repaired();
    // Of the frames that it had before.
    log.digest = Digest::new(0x0123_4567_89AB_CDEF);
    let footer = log.seal(FooterKind::Sealed);
    let pinned = golden("repaired.seg", &log.bytes);
    let header = SegmentHeader::decode(&pinned).unwrap();
    let view = FooterView::parse(&pinned[index(header.data_end())..]).unwrap();
    assert_eq!((view.footer(), view.to_tables()), (&footer, log.tables.clone()));
    let scan = rescan_sealed(&pinned[..index(header.data_end())], &header, footer.last_lsn);
    assert_eq!((scan.verdict, scan.last_lsn, scan.end), (Verdict::Clean, Lsn::new(8), footer.end));
    assert!(scan.has_gaps && scan.digest != footer.digest);
    let frames = Frames::new(&pinned[..index(footer.end)], Walk::from_start(header.incarnation));
    let found: Vec<_> = frames
        .map(|step| *step.unwrap().1.header())
        .map(|frame| (frame.lsn.get(), frame.kind, frame.count, frame.length))
        .collect();
    let expected = [
        (1, FrameKind::Record, 1, 5),
        (2, FrameKind::Gap, 2, 0),
        (4, FrameKind::Gap, 1, 0),
        (5, FrameKind::Record, 1, 0),
        (6, FrameKind::EpochStart, 1, 0),
        (7, FrameKind::Batch, 2, 15),
    ];
    assert_eq!(found, expected);
}

#[test]
fn golden_segment_of_a_replica_is_read_back() {
    let log = replicated();
    let pinned = golden("replicated.seg", &log.bytes);
    let header = SegmentHeader::decode(&pinned).unwrap();
    let scan = scan_tail(&pinned, &header, Lsn::new(6));
    assert_eq!((scan.verdict, scan.last_lsn, scan.end), (Verdict::Clean, Lsn::new(6), log.end));
    let frames = Frames::new(&pinned[..index(log.end)], Walk::from_start(header.incarnation));
    let frames: Vec<_> = frames.map(|step| step.unwrap().1).collect();
    let kinds: Vec<_> = frames.iter().map(|frame| (frame.header().kind, frame.header().count)).collect();
    let expected = [
        (FrameKind::EpochStart, 1),
        (FrameKind::Control, 1),
        (FrameKind::Produced, 3),
        (FrameKind::Record, 1),
    ];
    assert_eq!(kinds, expected);
    assert_eq!((frames[1].payload(), frames[1].record(Lsn::new(2))), (&b"a new producer"[..], None));
    let origin = Origin { producer: ProducerId::new(2), sequence: 1 };
    assert_eq!(
        frames.iter().map(|frame| frame.origin()).collect::<Vec<_>>(),
        [None, None, Some(origin), None]
    );
    let produced: Vec<_> = (3..=6).map(|lsn| frames[2].record(Lsn::new(lsn))).collect();
    assert_eq!(produced, [Some(&b"once"[..]), Some(b""), Some(b"and only once"), None]);
}

#[test]
fn golden_snapshot_is_read_back() {
    let application = b"what the application made of its records";
    let head = SnapshotHead {
        log_id: LogId::new(0x0102_0304_0506_0708),
        application_bytes: application.len() as u64,
        application_checksum: crc32(application),
        state: b"position, membership and producers".to_vec(),
    };
    let pinned = golden("snapshot", &[&head.encode()[..], application].concat());
    let found = SnapshotHead::decode(&pinned).unwrap();
    assert_eq!((&found, &pinned[index(found.bytes())..]), (&head, &application[..]));
}

#[test]
fn golden_stage_of_a_snapshot_is_read_back() {
    let head = SnapshotHead {
        log_id: LogId::new(0x0102_0304_0506_0708),
        application_bytes: 40,
        application_checksum: 0,
        state: b"position, membership and producers".to_vec(),
    };
    let chunks = [write_chunk(0, b"what the application"), write_chunk(20, b" made of it")].concat();
    let pinned = golden("snapshot-stage", &[head.encode(), chunks].concat());
    assert_eq!(SnapshotHead::decode(&pinned).as_ref(), Ok(&head));
    let first = Chunk::parse(&pinned[index(head.bytes())..]).unwrap();
    assert_eq!((first.offset, first.bytes), (0, &b"what the application"[..]));
    let second = Chunk::parse(&pinned[index(head.bytes() + first.stored_bytes())..]).unwrap();
    assert_eq!((second.offset, second.bytes), (20, &b" made of it"[..]));
}

#[test]
fn golden_sealed_segment_is_read_back() {
    let mut log = log();
    let footer = log.seal(FooterKind::Sealed);
    let pinned = golden("sealed.seg", &log.bytes);
    let header = SegmentHeader::decode(&pinned).unwrap();
    let view = FooterView::parse(&pinned[index(header.data_end())..]).unwrap();
    assert_eq!(view.footer(), &footer);
    assert!(footer.is_of(&header));
    let expected: [(u64, &[u8]); 6] =
        [(1, b"first"), (2, b""), (4, b"each"), (5, b""), (6, b"for all"), (7, &[0; 100])];
    let mut found = Vec::new();
    for step in Frames::new(&pinned[..index(footer.end)], Walk::from_start(header.incarnation)) {
        let (_, frame) = step.unwrap();
        let lsns = frame.header().lsn.get()..=frame.header().last_lsn().get();
        found.extend(lsns.filter_map(|lsn| Some((lsn, frame.record(Lsn::new(lsn))?))));
    }
    assert_eq!(found, expected);
}
