//! What was promised, held against what is in the log in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::What;
use super::world::{Tracked, World};
use crate::client::error::ClientError;
use crate::protocol::request::{Appended, Copies};

impl World {
    pub(super) fn judge(&self) {
        if std::env::var_os("ANNALS_TALLY").is_some() {
            eprintln!("{}", self.tally());
        }
        let mut at = BTreeMap::new();
        for entry in &self.truth {
            let What::Records { records, .. } = &entry.what else { continue };
            for (record, lsn) in records.iter().zip(entry.first.get()..) {
                assert_eq!(at.insert(*record, lsn), None, "record {record} is there twice");
            }
        }
        let mut before = 0;
        for (record, lsn) in &at {
            assert!(*lsn > before, "record {record} was taken before one that was given earlier");
            before = *lsn;
        }
        for append in &self.appends {
            self.judge_append(append, &at);
        }
        for call in &self.calls {
            let outcome = call.look().expect("every call is answered by its deadline");
            let is_fine = match outcome {
                Ok(_) | Err(ClientError::Unknown) => true,
                Err(ClientError::TimedOut { .. }) => self.mix.may_fail,
                Err(ClientError::NotPossible { .. }) => true,
                Err(_) => false,
            };
            assert!(is_fine, "{outcome:?}");
        }
        let seen = self.basket.0.lock();
        let expected: BTreeSet<(u64, u64)> = at.iter().map(|(record, lsn)| (*lsn, *record)).collect();
        assert!(seen.iter().copied().eq(expected), "a subscription brings everything once, in order");
    }

    /// What a run was like.
    fn tally(&self) -> String {
        let outcomes: Vec<_> = self.appends.iter().filter_map(|append| append.place.outcome.look()).collect();
        let count = |is: fn(&Result<Appended, ClientError>) -> bool| {
            outcomes.iter().filter(|outcome| is(outcome)).count()
        };
        let duplicates = count(|outcome| outcome.as_ref().is_ok_and(|appended| appended.is_duplicate));
        let unknown = count(|outcome| matches!(outcome, Err(ClientError::Unknown)));
        let failed = count(|outcome| matches!(outcome, Err(error) if !error.is_unknown()));
        let calls = self.calls.iter().filter(|call| matches!(call.look(), Some(Err(_)))).count();
        format!(
            "appends {} duplicates {duplicates} unknown {unknown} failed {failed} calls {} in error {calls} epochs {}",
            outcomes.len(),
            self.calls.len(),
            self.epoch,
        )
    }

    fn judge_append(&self, append: &Tracked, at: &BTreeMap<u64, u64>) {
        let outcome = append.place.outcome.look().expect("every append is settled by its deadline");
        let lsns: Vec<Option<u64>> = append.records.iter().map(|record| at.get(record).copied()).collect();
        let is_there = lsns.iter().all(Option::is_some);
        let is_absent = lsns.iter().all(Option::is_none);
        assert!(is_there || is_absent, "an append is taken as a whole");
        match outcome {
            Ok(appended) => {
                assert!(
                    is_there || append.copies == Copies::Local,
                    "an acknowledged append is lost: {append:?}"
                );
                if let (Some(range), true) = (appended.range, is_there) {
                    let first = range.first.get() + u64::from(append.place.share.first);
                    assert_eq!(lsns[0], Some(first), "a receipt names the place: {append:?}");
                }
            }
            Err(ClientError::Unknown) => {
                assert!(self.mix.may_fail || self.mix.forgets, "nobody knows, without a need: {append:?}");
            }
            Err(error) => {
                assert!(self.mix.may_fail, "{error:?}");
                assert!(is_absent, "a failure that was none: {append:?}");
            }
        }
    }
}
