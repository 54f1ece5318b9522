//! The table beside one that is worked out anew from all that the log holds.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::protocol::group::Spans;

/// One record of a log, as far as producers go.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Told {
    Nothing,
    Registered,
    /// The first of a span says how many there are; a cut may have taken the last of them.
    By {
        producer: ProducerId,
        sequence: u64,
        is_first: bool,
    },
    Expired {
        before: Lsn,
    },
}

/// A log: record n is at index n - 1.
#[derive(Clone, Default, Debug)]
struct Model {
    records: Vec<Told>,
}

impl Model {
    fn last(&self) -> Lsn {
        Lsn::new(self.records.len() as u64)
    }

    /// The table as of a record, from the first one on.
    fn table(&self, through: Lsn) -> BTreeMap<ProducerId, Producer> {
        let mut table: BTreeMap<ProducerId, Producer> = BTreeMap::new();
        for (told, number) in self.records.iter().zip(1..=through.get()) {
            let lsn = Lsn::new(number);
            match *told {
                Told::Nothing => {}
                Told::Registered => {
                    let fresh = Producer { sequence: 0, active: lsn, spans: VecDeque::new() };
                    table.insert(ProducerId::new(number), fresh);
                }
                Told::Expired { before } => table.retain(|_, producer| producer.active >= before),
                Told::By { producer: id, sequence, is_first } => {
                    let Some(producer) = table.get_mut(&id) else { continue };
                    (producer.sequence, producer.active) = (sequence, lsn);
                    match producer.spans.back_mut().filter(|_| !is_first) {
                        Some(span) => span.records += 1,
                        None => producer.spans.push_back(Span { producer: id, sequence, lsn, records: 1 }),
                    }
                    if producer.spans.len() > SPANS_MAX {
                        producer.spans.pop_front();
                    }
                }
            }
        }
        table
    }

    /// What a table says is what all the records of the producer say.
    fn check_look_up(&self, table: &Producers, id: ProducerId) {
        let all = self.table(self.last());
        let lsns: BTreeMap<u64, Lsn> = (1..=self.last().get())
            .filter_map(|number| match self.records[number as usize - 1] {
                Told::By { producer, sequence, .. } if producer == id => Some((sequence, Lsn::new(number))),
                _ => None,
            })
            .collect();
        let newest = all.get(&id).map(|producer| producer.sequence);
        for sequence in 0..=newest.unwrap_or(0) + 2 {
            for records in 1..=3 {
                let last = sequence + u64::from(records) - 1;
                let known = table.look_up(id, sequence, records);
                match newest {
                    None => assert_eq!(known, Known::Unknown),
                    Some(newest) if sequence == newest + 1 => assert_eq!(known, Known::New),
                    Some(newest) if sequence == 0 || last > newest => {
                        assert_eq!(known, Known::OutOfSequence { expected: newest + 1 });
                    }
                    Some(_) => {
                        let Known::Duplicate { range, through } = known else { panic!("{known:?}") };
                        assert!((sequence..=last).all(|number| lsns[&number] <= through));
                        let is_there =
                            |range: LsnRange| range.first == lsns[&sequence] && range.last == lsns[&last];
                        assert!(range.is_none_or(is_there), "{range:?} for {sequence} to {last}");
                        let remembered = all[&id].spans.iter();
                        let whole = remembered.filter(|span| within(span, sequence, last).is_some()).count();
                        assert_eq!(range.is_some(), whole > 0);
                    }
                }
            }
        }
        assert_eq!(table.look_up(id, u64::MAX, 2) == Known::Unknown, newest.is_none());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Register,
    /// Spans of the known producers with these numbers, each with some plain records before it.
    Append(Vec<(usize, u32, u8)>),
    Plain(u8),
    Expire(u8),
    /// Both give a share of the records that are not committed.
    Truncate(u8),
    Commit(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Register),
        9 => vec((any::<usize>(), 1..5_u32, 0..3_u8), 1..4).prop_map(Step::Append),
        2 => (1..4_u8).prop_map(Step::Plain),
        1 => any::<u8>().prop_map(Step::Expire),
        2 => any::<u8>().prop_map(Step::Truncate),
        3 => any::<u8>().prop_map(Step::Commit),
    ];
    vec(step, 0..60)
}

#[derive(Default)]
struct Run {
    model: Model,
    table: Producers,
    committed: u64,
}

impl Run {
    fn share(&self, share: u8) -> u64 {
        let open = self.model.last().get() - self.committed;
        self.committed + open * u64::from(share) / 255
    }

    fn apply(&mut self, content: &Content, told: Vec<Told>) {
        self.table.apply(self.model.last().next(), content);
        self.model.records.extend(told);
    }

    fn append(&mut self, parts: Vec<(usize, u32, u8)>) {
        let (mut spans, mut told) = (Vec::new(), Vec::new());
        let table = self.model.table(self.model.last());
        let mut newest: BTreeMap<ProducerId, u64> =
            table.iter().map(|(&id, producer)| (id, producer.sequence)).collect();
        for (chosen, records, plain) in parts {
            told.resize(told.len() + usize::from(plain), Told::Nothing);
            let index = chosen % newest.len().max(1);
            let Some((&producer, sequence)) = newest.iter_mut().nth(index) else { continue };
            let lsn = self.model.last().next().plus(told.len() as u64);
            spans.push(Span { producer, sequence: *sequence + 1, lsn, records });
            for number in 0..records {
                *sequence += 1;
                told.push(Told::By { producer, sequence: *sequence, is_first: number == 0 });
            }
        }
        self.apply(&Content::Records(Spans::from_iter(spans)), told);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Register => self.apply(&Content::Register, vec![Told::Registered]),
            Step::Append(parts) => self.append(parts),
            Step::Plain(records) => self.apply(&Content::PLAIN, vec![Told::Nothing; records.into()]),
            Step::Expire(share) => {
                let before = Lsn::new(1 + self.model.last().get() * u64::from(share) / 512);
                self.apply(&Content::Expire { before }, vec![Told::Expired { before }]);
            }
            Step::Truncate(share) => {
                let after = self.share(share);
                self.model.records.truncate(after as usize);
                self.table.truncate(Lsn::new(after));
            }
            Step::Commit(share) => {
                self.committed = self.share(share);
                self.table.commit(Lsn::new(self.committed));
                let all = self.committed == self.model.last().get();
                assert!(!all || self.table.is_committed(), "nothing is kept of what cannot be taken back");
            }
        }
    }

    fn check(&self) {
        let last = self.model.last();
        assert_eq!(*self.table.known(), self.model.table(last));
        for lsn in self.committed..=last.get() {
            let as_of = self.table.as_of(Lsn::new(lsn));
            assert!(as_of.is_committed());
            assert_eq!(*as_of.known(), self.model.table(Lsn::new(lsn)), "as of {lsn}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_what_the_records_say_wherever_it_is_cut(steps in steps()) {
        let mut run = Run::default();
        for step in steps {
            run.take(step);
            run.check();
        }
        for &id in run.table.known().keys() {
            run.model.check_look_up(&run.table, id);
        }
        for number in 0..=run.model.last().next().get() {
            let id = ProducerId::new(number);
            if !run.table.known().contains_key(&id) {
                prop_assert_eq!(run.table.look_up(id, 1, 1), Known::Unknown);
            }
        }
    }

    #[test]
    fn a_surplus_leaves_an_eighth_free(steps in steps(), max in 2..20_u32) {
        let mut run = Run::default();
        steps.into_iter().for_each(|step| run.take(step));
        let count = run.table.known().len();
        let surplus = run.table.surplus(max);
        prop_assert_eq!(surplus.is_none(), count < max as usize);
        if let Some(before) = surplus {
            // Those that were idle longest go, and no more than needed.
            run.apply(&Content::Expire { before }, vec![Told::Expired { before }]);
            run.check();
            prop_assert_eq!(run.table.known().len(), (max - max.div_ceil(8)) as usize);
            prop_assert_eq!(run.table.surplus(max), None);
        }
    }
}

#[test]
fn the_ninth_span_of_a_producer_makes_room_and_gives_it_back() {
    let mut run = Run::default();
    run.take(Step::Register);
    for _ in 0..9 {
        run.take(Step::Append(vec![(0, 2, 0)]));
    }
    let id = ProducerId::new(1);
    let first = Known::Duplicate { range: None, through: Lsn::new(19) };
    assert_eq!(run.table.look_up(id, 1, 2), first, "it is known that it was there, but not where");
    run.table.truncate(Lsn::new(17));
    let range = LsnRange::new(Lsn::new(2), Lsn::new(3)).unwrap();
    assert_eq!(run.table.look_up(id, 1, 2), Known::Duplicate { range: Some(range), through: range.last });
}

#[test]
fn a_retry_that_runs_over_the_newest_record_is_out_of_sequence() {
    let mut run = Run::default();
    run.take(Step::Register);
    run.take(Step::Append(vec![(0, 3, 0)]));
    let expected = Known::OutOfSequence { expected: 4 };
    assert_eq!(run.table.look_up(ProducerId::new(1), 3, 2), expected);
    assert_eq!(run.table.look_up(ProducerId::new(1), 0, 1), expected);
    assert_eq!(run.table.look_up(ProducerId::new(1), 5, 1), expected);
}
