//! Histories beside logs that write down the epoch of every single record.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The epoch of each record: record n is at index n - 1.
type Log = Vec<u64>;

/// The logs of a cluster's primaries: each begins with a part of an earlier one, so that logs which agree on one
/// record agree on all before it.
fn reigns() -> impl Strategy<Value = Vec<Log>> {
    let reign = (any::<usize>(), any::<usize>(), 1..6_usize, 1..3_u64);
    vec(reign, 1..9).prop_map(|reigns| {
        let mut logs: Vec<Log> = vec![Log::new()];
        let mut epoch = 0;
        for (parent, cut, records, elections) in reigns {
            epoch += elections;
            let parent = &logs[parent % logs.len()];
            let mut log = parent[..cut % (parent.len() + 1)].to_vec();
            log.resize(log.len() + records, epoch);
            logs.push(log);
        }
        logs
    })
}

fn position(log: &Log, lsn: u64) -> Position {
    let epoch = lsn.checked_sub(1).map_or(0, |index| log[index as usize]);
    Position { epoch: Epoch::new(epoch), lsn: Lsn::new(lsn) }
}

/// The history of a log that forgot what is before `base`, appended in groups of up to `group` records.
fn history(log: &Log, base: u64, group: u64) -> EpochHistory {
    let mut history = EpochHistory::new(position(log, base));
    let mut first = base + 1;
    while first <= log.len() as u64 {
        let epoch = position(log, first).epoch;
        let in_epoch = |lsn: &u64| *lsn <= log.len() as u64 && position(log, *lsn).epoch == epoch;
        let last = (first..first + group).take_while(in_epoch).last().unwrap();
        history.append(epoch, LsnRange::new(Lsn::new(first), Lsn::new(last)).unwrap());
        first = last + 1;
    }
    history
}

fn check(history: &EpochHistory, log: &Log, base: u64) {
    let last = log.len() as u64;
    assert_eq!((history.base(), history.last()), (position(log, base), position(log, last)));
    for lsn in 0..last + 2 {
        let expected = (base..=last).contains(&lsn).then(|| position(log, lsn));
        assert_eq!(history.position(Lsn::new(lsn)), expected, "{lsn} of {log:?} after {base}");
    }
    let parts = EpochHistory::from_parts(history.base(), history.starts().to_vec(), history.last().lsn);
    assert_eq!(parts.as_ref(), Some(history));
}

/// The last record up to which both logs have the same.
fn common(ours: &Log, theirs: &Log) -> u64 {
    ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count() as u64
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_common_point_is_the_last_record_that_both_logs_have(
        logs in reigns(), chosen in any::<[usize; 2]>(), cuts in any::<[usize; 2]>(), bases in any::<[usize; 2]>(),
    ) {
        let log = |side: usize| {
            let log = &logs[chosen[side] % logs.len()];
            log[..cuts[side] % (log.len() + 1)].to_vec()
        };
        let (ours, theirs) = (log(0), log(1));
        let base = |side: usize, log: &Log| (bases[side] % (log.len() + 1)) as u64;
        let expected = common(&ours, &theirs);
        for (our_base, their_base) in
            [(0, 0), (base(0, &ours), 0), (0, base(1, &theirs)), (base(0, &ours), base(1, &theirs))]
        {
            let (a, b) = (history(&ours, our_base, 3), history(&theirs, their_base, 2));
            let found = a.common(&b);
            prop_assert_eq!(found, b.common(&a), "whoever asks");
            if expected >= our_base.max(their_base) {
                prop_assert_eq!(found, Common::At(position(&ours, expected)));
            } else {
                let Common::Below(lsn) = found else { panic!("{found:?} is not known to both") };
                prop_assert!(lsn.get() >= expected, "{} is common", expected);
                prop_assert!(lsn.get() < our_base.max(their_base), "the next question goes further down");
            }
        }
    }

    #[test]
    fn a_probe_by_tails_comes_to_the_common_point(
        logs in reigns(), chosen in any::<[usize; 2]>(), epochs_max in 1..4_usize,
    ) {
        let [ours, theirs] = chosen.map(|chosen| logs[chosen % logs.len()].clone());
        let (a, b) = (history(&ours, 0, 9), history(&theirs, 0, 9));
        let mut through = a.last().lsn;
        let found = loop {
            let tail = b.tail(through, epochs_max);
            prop_assert!(tail.starts().len() <= epochs_max);
            match a.common(&tail) {
                Common::At(position) => break position,
                Common::Below(lsn) => {
                    prop_assert!(lsn < through.min(tail.last().lsn) || lsn < tail.base().lsn, "it goes on");
                    through = lsn;
                }
            }
        };
        prop_assert_eq!(found, position(&ours, common(&ours, &theirs)));
    }

    #[test]
    fn what_is_appended_truncated_and_forgotten_leaves_the_rest(
        logs in reigns(), steps in vec((0..3_u8, any::<usize>(), any::<usize>()), 0..12),
    ) {
        let (mut log, mut base) = (Log::new(), 0);
        let mut history = EpochHistory::default();
        for (step, chosen, share) in steps {
            let share = base + share as u64 % (log.len() as u64 - base + 1);
            match step {
                0 => {
                    let newer = &logs[chosen % logs.len()];
                    let epoch = newer.last().max(log.last()).copied().unwrap_or(1);
                    let first = history.last().lsn.next();
                    let last = first.plus(newer.len() as u64);
                    history.append(Epoch::new(epoch), LsnRange::new(first, last).unwrap());
                    log.resize(last.get() as usize, epoch);
                }
                1 => {
                    history.truncate(Lsn::new(share));
                    log.truncate(share as usize);
                }
                _ => {
                    history.forget(Lsn::new(share));
                    base = share;
                }
            }
            check(&history, &log, base);
        }
    }
}
