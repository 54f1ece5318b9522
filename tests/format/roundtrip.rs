//! What is encoded is decoded, for each structure, over all of its values.

use annals::format::{
    BadBlock, BatchView, CleanTail, Digest, Footer, FooterKind, FooterView, Frame, FrameCheck, FrameHeader,
    FrameKind, GroupHeader, GroupPlace, Incarnation, MARK_BYTES_MAX, Mark, Origin, SLOT_BYTES,
    SUPERBLOCK_BYTES, SegmentHeader, Stamp, Superblock, Tables, Vote, batch_payload_bytes, choose_slot,
    crc32, footer_bytes_for, frame_bytes, produced_payload_bytes, write_batch, write_control,
    write_epoch_start, write_gap, write_produced, write_record,
};
use annals::{DiskId, Epoch, LogId, Lsn, ProducerId, ReplicaId, SegmentId, WriteMethod};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::small::header;
use annals_fixtures::segment::index;

fn stamps() -> impl Strategy<Value = Stamp> {
    (1..1_u64 << 60, any::<u64>())
        .prop_map(|(lsn, epoch)| Stamp { lsn: Lsn::new(lsn), epoch: Epoch::new(epoch) })
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..200), (0..5000_usize).prop_map(|length| vec![0; length])]
}

fn segment_headers() -> impl Strategy<Value = SegmentHeader> {
    let numbers = (any::<u128>(), any::<u64>(), 1..u64::MAX, 1..u64::MAX, any::<u64>(), any::<u64>());
    (numbers, 5..1_u64 << 20).prop_map(|((log, life, id, first, epoch, digest), blocks)| SegmentHeader {
        log_id: LogId::new(log),
        incarnation: Incarnation::new(life),
        segment_id: SegmentId::new(id),
        first_lsn: Lsn::new(first),
        epoch: Epoch::new(epoch),
        previous_digest: Digest::new(digest),
        segment_bytes: blocks * 4096,
        footer_bytes: footer_bytes_for(blocks * 4096),
    })
}

fn superblocks() -> impl Strategy<Value = Superblock> {
    let tail = (any::<u64>(), any::<u64>(), 0..u64::MAX, any::<u64>()).prop_map(|(id, end, last, digest)| {
        let (segment_id, last_lsn) = (SegmentId::new(id), Lsn::new(last));
        CleanTail { segment_id, end, last_lsn, digest: Digest::new(digest) }
    });
    let bytes = prop_oneof![vec(any::<u8>(), 0..300), Just(vec![7; MARK_BYTES_MAX]), Just(vec![1; 3920])];
    let mark = (any::<u64>(), bytes).prop_map(|(lsn, bytes)| Mark { lsn: Lsn::new(lsn), bytes });
    let numbers = (0..u64::MAX >> 1, any::<u128>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let rest = (0..3_usize, 0..u64::MAX, 1..u64::MAX, option::of(tail), option::of(mark));
    (numbers, rest).prop_map(|((sequence, log, replica, epoch, vote, voted), rest)| {
        let (method, durable, first, clean_tail, mark) = rest;
        Superblock {
            sequence,
            log_id: LogId::new(log),
            replica_id: ReplicaId::new(replica),
            write_method: WriteMethod::ALL[method],
            epoch: Epoch::new(epoch),
            vote: Vote {
                epoch: Epoch::new(vote),
                replica: ReplicaId::new(voted),
                disk: DiskId::new(log >> 1),
            },
            generation: vote ^ epoch,
            durable: Lsn::new(durable),
            first_lsn: Lsn::new(first),
            trimmed_epoch: Epoch::new(first ^ epoch),
            clean_tail,
            mark,
        }
    })
}

proptest! {
    #[test]
    fn a_record_is_read_back(stamp in stamps(), payload in payloads()) {
        let mut stored = vec![0xEE; index(frame_bytes(payload.len() as u64))];
        let checksum = write_record(&mut stored, stamp, &payload);
        let frame = Frame::parse(&stored).unwrap();
        prop_assert_eq!(frame.check(), Ok(()));
        prop_assert_eq!(checksum, crc32(&stored[4..32 + payload.len()]));
        let FrameHeader { lsn, epoch, kind, count, .. } = *frame.header();
        prop_assert_eq!((lsn, epoch, kind, count), (stamp.lsn, stamp.epoch, FrameKind::Record, 1));
        prop_assert_eq!(frame.record(stamp.lsn), Some(&payload[..]));
        prop_assert_eq!(frame.stored(), &stored[..]);
    }

    #[test]
    fn a_batch_is_read_back(stamp in stamps(), records in vec(payloads(), 1..20)) {
        let sum = records.iter().map(|record| record.len() as u64).sum();
        let payload_bytes = batch_payload_bytes(records.len(), sum);
        let mut stored = vec![0xEE; index(frame_bytes(payload_bytes))];
        write_batch(&mut stored, stamp, &records);
        let frame = Frame::parse(&stored).unwrap();
        prop_assert_eq!(frame.check(), Ok(()));
        prop_assert_eq!(frame.header().last_lsn(), stamp.lsn.plus(records.len() as u64 - 1));
        let batch = BatchView::parse(frame.payload(), frame.header().count).unwrap();
        prop_assert!(batch.records().eq(records.iter().map(Vec::as_slice)));
        prop_assert_eq!(batch.count() as usize, records.len());
        for (record, number) in records.iter().zip(0..) {
            prop_assert_eq!(batch.record(number), Some(&record[..]));
            prop_assert_eq!(frame.record(stamp.lsn.plus(number.into())), Some(&record[..]));
        }
        prop_assert_eq!(batch.record(batch.count()), None);
    }

    #[test]
    fn the_start_of_an_epoch_is_read_back(stamp in stamps()) {
        let mut stored = [0xEE; 32];
        write_epoch_start(&mut stored, stamp);
        let frame = Frame::parse(&stored).unwrap();
        prop_assert_eq!(frame.check(), Ok(()));
        prop_assert_eq!(frame.header().kind, FrameKind::EpochStart);
        prop_assert_eq!((frame.header().lsn, frame.header().epoch), (stamp.lsn, stamp.epoch));
    }

    #[test]
    fn a_record_of_the_replication_is_read_back_and_is_none_of_a_caller(stamp in stamps(), payload in payloads()) {
        let mut stored = vec![0xEE; index(frame_bytes(payload.len() as u64))];
        write_control(&mut stored, stamp, &payload);
        let frame = Frame::parse(&stored).unwrap();
        prop_assert_eq!(frame.check(), Ok(()));
        prop_assert_eq!((frame.header().kind, frame.header().count), (FrameKind::Control, 1));
        prop_assert_eq!((frame.payload(), frame.record(stamp.lsn)), (&payload[..], None));
    }

    #[test]
    fn records_of_a_producer_are_read_back_with_their_numbers(
        stamp in stamps(), (producer, sequence) in (1..=u64::MAX, 1..1_u64 << 60), records in vec(payloads(), 1..20),
    ) {
        let bytes = records.iter().map(|record| record.len() as u64).sum();
        let mut stored = vec![0xEE; index(frame_bytes(produced_payload_bytes(records.len(), bytes)))];
        let origin = Origin { producer: ProducerId::new(producer), sequence };
        write_produced(&mut stored, stamp, origin, &records);
        let frame = Frame::parse(&stored).unwrap();
        prop_assert_eq!(frame.check(), Ok(()));
        let mut check = FrameCheck::new(frame.header());
        stored.chunks(7).for_each(|piece| check.update(piece));
        prop_assert_eq!(check.finish(), Ok(()));
        let (kind, count) = (frame.header().kind, frame.header().count as usize);
        prop_assert_eq!((kind, count, frame.origin()), (FrameKind::Produced, records.len(), Some(origin)));
        for (record, at) in records.iter().zip(0..) {
            prop_assert_eq!(frame.record(stamp.lsn.plus(at)), Some(&record[..]));
        }
        prop_assert_eq!(frame.record(stamp.lsn.plus(records.len() as u64)), None);
    }

    #[test]
    fn a_gap_is_read_back_and_holds_no_record(stamp in stamps(), count in 1..=u32::MAX) {
        let mut stored = [0xEE; 32];
        write_gap(&mut stored, stamp, count);
        let frame = Frame::parse(&stored).unwrap();
        prop_assert_eq!(frame.check(), Ok(()));
        prop_assert_eq!((frame.header().kind, frame.header().count), (FrameKind::Gap, count));
        prop_assert_eq!((frame.header().lsn, frame.header().epoch), (stamp.lsn, stamp.epoch));
        prop_assert_eq!(frame.header().last_lsn(), stamp.lsn.plus(u64::from(count) - 1));
        prop_assert_eq!(frame.record(stamp.lsn), None);
    }

    #[test]
    fn a_group_header_is_read_back_in_its_place_only(
        (life, block) in (any::<u64>(), 1..1_u64 << 20), first in 1..1_u64 << 60, records in vec(payloads(), 1..9),
    ) {
        let mut frames = Vec::new();
        for (record, lsn) in records.iter().zip(first..) {
            let at = frames.len();
            frames.resize(at + index(frame_bytes(record.len() as u64)), 0);
            write_record(&mut frames[at..], Stamp { lsn: Lsn::new(lsn), epoch: Epoch::FIRST }, record);
        }
        let place = GroupPlace { incarnation: Incarnation::new(life), position: block * 4096 + 8 };
        let header = GroupHeader::over(&frames, place, Lsn::new(first - 1));
        let mut stored = [0xEE; 64];
        header.encode_into(&mut stored);
        prop_assert_eq!(GroupHeader::decode(&stored), Ok(header));
        prop_assert_eq!(header.records as usize, records.len());
        prop_assert_eq!(header.last_lsn(), Lsn::new(first + records.len() as u64 - 1));
        prop_assert_eq!(header.end() - header.frames_start(), frames.len() as u64);
        let moved = GroupPlace { position: place.position + 8, ..place };
        let reborn = GroupPlace { incarnation: Incarnation::new(life ^ 1), ..place };
        prop_assert!(GroupHeader::decode_at(&stored, place).is_ok());
        prop_assert!(GroupHeader::decode_at(&stored, moved).is_err());
        prop_assert!(GroupHeader::decode_at(&stored, reborn).is_err());
    }

    #[test]
    fn a_segment_header_is_read_back(header in segment_headers()) {
        let mut block = [0xEE; 4096];
        header.encode_into(&mut block);
        prop_assert_eq!(SegmentHeader::decode(&block), Ok(header));
        prop_assert!(header.data_end() >= 8192);
    }

    #[test]
    fn a_footer_is_read_back(gaps in vec((1..50_u64, 1..20_000_u64, 0..3_u64), 0..300), parked in any::<bool>()) {
        let header = header(1 << 24);
        let (mut tables, mut lsn, mut at, mut epoch) = (Tables::new(), 1, 4096, 1);
        for (records, words, epochs) in gaps {
            epoch += epochs.min(tables.epochs_left() as u64).min(1);
            let frame = FrameHeader {
                checksum: 0, length: 0, lsn: Lsn::new(lsn), epoch: Epoch::new(epoch), kind: FrameKind::Record, count: 1,
            };
            tables.note(&frame, at, at + 64);
            lsn += records;
            at += words * 8 + 64;
        }
        let kind = if parked { FooterKind::Parked } else { FooterKind::Sealed };
        let (last_lsn, end) = (Lsn::new(lsn - 1), at + 8);
        let footer = Footer { last_lsn, end, groups: 3, digest: Digest::new(lsn), ..Footer::of(&header, kind) };
        let mut region = vec![0xEE; index(header.footer_bytes)];
        footer.encode_into(&tables, &mut region);
        let view = FooterView::parse(&region).unwrap();
        prop_assert_eq!(view.footer(), &footer);
        prop_assert!(view.index().iter().eq(tables.index().iter().copied()));
        prop_assert!(view.epochs().iter().eq(tables.epochs().iter().copied()));
        for number in 0..lsn {
            prop_assert_eq!(view.index().find(Lsn::new(number)), tables.find(Lsn::new(number)));
            prop_assert_eq!(view.epochs().epoch_of(Lsn::new(number)), tables.epoch_of(Lsn::new(number)));
        }
    }

    #[test]
    fn a_superblock_is_read_back_from_its_own_slot_only(superblock in superblocks()) {
        let mut slot = vec![0xEE; SLOT_BYTES];
        superblock.encode_into(&mut slot);
        prop_assert_eq!(Superblock::decode(&slot, superblock.slot()), Ok(superblock.clone()));
        prop_assert_eq!(Superblock::decode(&slot, 1 - superblock.slot()), Err(BadBlock::Damaged));
        let used = superblock.used_bytes();
        prop_assert!(slot[used..].iter().all(|byte| *byte == 0xEE), "only the used blocks are written");
        prop_assert_eq!(Superblock::decode(&slot[..used - 1], superblock.slot()), Err(BadBlock::Damaged));
    }

    #[test]
    fn the_newest_slot_that_checks_is_chosen(superblock in superblocks(), damage in any::<bool>()) {
        let mut older = superblock.clone();
        older.sequence = superblock.sequence % 1000 + 2;
        let mut newer = superblock;
        newer.sequence = older.sequence + 1;
        let mut file = vec![0; SUPERBLOCK_BYTES];
        older.encode_into(&mut file[index(older.position())..]);
        newer.encode_into(&mut file[index(newer.position())..]);
        if damage {
            file[index(newer.position()) + 100] ^= 1;
        }
        let chosen = choose_slot(&file).unwrap();
        prop_assert_eq!(chosen.superblock, if damage { older } else { newer });
        prop_assert_eq!(chosen.other_is_sound, !damage);
    }
}
