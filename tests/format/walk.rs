//! Reading frames from a stretch that is known to be good.

use annals::Lsn;
use annals::format::{
    BLOCK_BYTES, Damage, FooterKind, FooterView, FrameKind, Frames, IndexEntry, Place, Walk, block_up,
};

use crate::small::{self, header};
use annals_fixtures::segment::{Builder, Content, Start, index};

/// Many groups, packed and fresh, over several strides of the index.
fn long_log() -> (Builder, Vec<Vec<u8>>) {
    let mut log = Builder::with(header(64 * BLOCK_BYTES as u64));
    let mut records = Vec::new();
    for round in 0..40_usize {
        let record = |number: usize| vec![(round + number) as u8; (round * 97 + number * 13) % 2000];
        let own = [record(1), record(2), record(3), record(4)];
        let contents = [Content::Record(own[0].clone()), Content::Batch(own[1..].to_vec())];
        log.group(if round % 3 == 0 { Start::Fresh } else { Start::Packed }, &contents);
        records.extend(own);
    }
    (log, records)
}

#[test]
fn every_record_is_read_in_order_with_and_without_checks() {
    let (log, records) = long_log();
    for verify in [true, false] {
        let walk = Walk::from_start(log.header.incarnation).verified(verify);
        let mut next = Lsn::FIRST;
        for step in Frames::new(&log.bytes[..index(log.end)], walk) {
            let (place, frame) = step.unwrap();
            assert!(place.group < place.frame);
            assert_eq!(frame.header().lsn, next);
            while next <= frame.header().last_lsn() {
                assert_eq!(frame.record(next), Some(&records[index(next.get()) - 1][..]));
                next = next.next();
            }
            assert_eq!(frame.record(next), None);
            assert_eq!(frame.record(frame.header().lsn.prev()), None);
        }
        assert_eq!(next, log.last.next());
    }
}

#[test]
fn every_record_is_found_through_the_index_of_the_footer() {
    let (mut log, records) = long_log();
    log.seal(FooterKind::Sealed);
    let view = FooterView::parse(&log.bytes[index(log.header.data_end())..]).unwrap();
    let entries: Vec<IndexEntry> = view.index().iter().collect();
    assert_eq!(entries, log.tables.index());
    assert!(entries.len() > 3);
    assert_eq!(view.to_tables(), log.tables);
    assert!(entries.is_sorted_by(|a, b| b.frame - a.frame >= 32 << 10));
    let bytes = &log.bytes[..index(view.footer().end)];
    for (record, number) in records.iter().zip(1..) {
        let lsn = Lsn::new(number);
        let entry = view.index().find(lsn).unwrap();
        assert_eq!(Some(entry), log.tables.find(lsn));
        let mut walk = Walk::at(bytes, log.header.incarnation, Place::from(entry)).unwrap();
        let (_, frame) = walk.seek(bytes, lsn).unwrap().unwrap();
        assert_eq!(frame.record(lsn), Some(&record[..]));
        assert_eq!(view.epochs().epoch_of(lsn), Some(log.epoch));
    }
    let mut walk = Walk::from_start(log.header.incarnation);
    assert!(walk.seek(bytes, log.last.next()).unwrap().is_none());
    assert_eq!(view.index().find(Lsn::ZERO), None);
}

#[test]
fn a_walk_goes_on_when_more_is_published() {
    let mut log = small::log();
    let mut walk = Walk::from_start(log.header.incarnation);
    for (number, start) in [(1, Start::Packed), (2, Start::Packed), (3, Start::Fresh), (4, Start::Packed)] {
        // The bound may lie at the end of a group, or anywhere in the zeros after it.
        for bound in [log.end, (log.end + 8).min(block_up(log.end)), block_up(log.end)] {
            assert!(walk.step(&log.bytes[..index(bound)]).unwrap().is_none());
        }
        log.record(start, &[number; 50]);
        let (_, frame) = walk.step(&log.bytes[..index(log.end)]).unwrap().unwrap();
        assert_eq!((frame.header().lsn, frame.payload()), (Lsn::new(number.into()), &[number; 50][..]));
    }
}

#[test]
fn a_walk_ends_inside_a_group_where_a_truncation_cut_it() {
    let mut log = small::log();
    let group = log.group(Start::Packed, &[Content::Record(vec![1; 40]), Content::Record(vec![2; 40])]);
    let frames = |end: u64| Frames::new(&log.bytes[..index(end)], Walk::from_start(log.header.incarnation));
    assert_eq!(frames(group.start + 64 + 72).filter(Result::is_ok).count(), 1);
    assert_eq!(frames(group.end).filter(Result::is_ok).count(), 2);
    let cut: Vec<_> = frames(group.end - 8).map(|step| step.map(drop)).collect();
    assert_eq!(cut[1].as_ref().unwrap_err().damage, Damage::Cut);
    assert_eq!(cut.len(), 2, "an iterator ends with its first error");
}

#[test]
fn a_damaged_record_is_an_error_and_never_its_bytes() {
    let (mut log, _) = long_log();
    let last = *log.tables.index().last().unwrap();
    log.bytes[index(last.frame) + 40] ^= 1;
    let bytes = &log.bytes[..index(log.end)];
    let mut walk = Walk::at(bytes, log.header.incarnation, last.into()).unwrap();
    let fault = walk.seek(bytes, last.lsn).unwrap_err();
    assert_eq!((fault.damage, fault.bytes.start), (Damage::Checksum, last.frame));
    let mut walk = walk.verified(false);
    assert!(walk.seek(bytes, last.lsn).unwrap().is_some(), "the caller chose not to check");
}

#[test]
fn a_place_of_another_life_or_outside_its_group_is_refused() {
    let (log, _) = long_log();
    let bytes = &log.bytes[..index(log.end)];
    let entry = log.tables.index()[1];
    let foreign = annals::format::Incarnation::new(7);
    assert_eq!(Walk::at(bytes, foreign, entry.into()).unwrap_err().damage, Damage::Foreign);
    let astray = Place { group: entry.group, frame: log.end };
    assert!(Walk::at(bytes, log.header.incarnation, astray).is_err());
    let beyond = Place { group: u64::MAX - 7, frame: u64::MAX };
    assert!(Walk::at(bytes, log.header.incarnation, beyond).is_err());
}

#[test]
fn the_start_of_an_epoch_has_an_lsn_and_no_record() {
    let mut log = small::log();
    log.group(Start::Packed, &[Content::EpochStart]);
    let mut walk = Walk::from_start(log.header.incarnation);
    let (_, frame) = walk.step(&log.bytes[..index(log.end)]).unwrap().unwrap();
    assert_eq!((frame.header().kind, frame.record(Lsn::FIRST)), (FrameKind::EpochStart, None));
}
