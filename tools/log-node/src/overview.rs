//! The whole cluster as its replicas describe it: what `status` shows.

use annals_terminal::Table;
use serde::Serialize;

use crate::report::{ElectorateReport, ReplicaReport};
use crate::size::Span;

/// What all replicas have said, or why not.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Overview {
    /// Whether all is as it should be.
    pub(crate) is_well: bool,
    /// Who leads, if all that answered agree.
    pub(crate) primary: Option<u64>,
    pub(crate) replicas: Vec<Seen>,
}

/// One replica, or an address where nobody answered.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Seen {
    /// Where it was asked.
    pub(crate) address: String,
    /// Its number, where that is known without an answer.
    pub(crate) id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<ReplicaReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Seen {
    /// A replica that has answered.
    pub(crate) fn answered(address: String, report: ReplicaReport) -> Seen {
        Seen { address, id: Some(report.id), report: Some(report), error: None }
    }

    /// An address where nobody did, and why.
    pub(crate) fn silent(address: String, id: Option<u64>, error: String) -> Seen {
        Seen { address, id, report: None, error: Some(error) }
    }
}

impl Overview {
    /// What follows from what was seen.
    pub(crate) fn of(mut replicas: Vec<Seen>) -> Overview {
        replicas.sort_by_key(|seen| (seen.id.unwrap_or(u64::MAX), seen.address.clone()));
        let epoch = replicas.iter().filter_map(|seen| seen.report.as_ref()).map(|report| report.epoch).max();
        // A deposed primary does not know yet: only the newest epoch's counts.
        let newest = |report: &&ReplicaReport| Some(report.epoch) == epoch && report.role == "primary";
        let primary =
            replicas.iter().filter_map(|seen| seen.report.as_ref()).find(newest).map(|report| report.id);
        let is_well = !replicas.is_empty()
            && primary.is_some()
            && replicas.iter().all(|seen| seen.report.as_ref().is_some_and(ReplicaReport::is_well));
        Overview { is_well, primary, replicas }
    }

    /// The primary's report.
    pub(crate) fn primary_report(&self) -> Option<&ReplicaReport> {
        let reports = self.replicas.iter().filter_map(|seen| seen.report.as_ref());
        reports.into_iter().find(|report| Some(report.id) == self.primary)
    }

    /// Where the primary is.
    pub(crate) fn primary_address(&self) -> Option<String> {
        let leads = |seen: &&Seen| seen.id == self.primary && seen.report.is_some();
        self.primary.and_then(|_| self.replicas.iter().find(leads)).map(|seen| seen.address.clone())
    }

    /// The newest record that any replica is known to have.
    fn newest(&self) -> u64 {
        let reports = self.replicas.iter().filter_map(|seen| seen.report.as_ref());
        self.primary_report()
            .map_or(reports.map(|report| report.appended).max().unwrap_or(0), |report| report.appended)
    }

    /// A table for a terminal, and what there is to say about it.
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&[
            "replica",
            "role",
            "epoch",
            "appended",
            "durable",
            "committed",
            "applied",
            "lag",
            "getting",
            "disk",
            "up",
            "address",
        ]);
        for seen in &self.replicas {
            table.row(self.row(seen));
        }
        let mut text = table.text();
        for seen in &self.replicas {
            if let Some(error) = &seen.error {
                // Most errors say themselves where nobody answers.
                let place = match error.contains(&seen.address) {
                    true => String::new(),
                    false => format!("no answer from {}: ", seen.address),
                };
                text.push_str(&format!("{place}{error}\n"));
            }
        }
        if self.primary.is_none() && !self.replicas.is_empty() {
            text.push_str(&format!("no primary: appends wait until {} have elected one\n", self.electors()));
        }
        text
    }

    /// Who it takes to make a primary, by the newest membership that anybody knows.
    fn electors(&self) -> String {
        let reports = self.replicas.iter().filter_map(|seen| seen.report.as_ref());
        let newest = reports.max_by_key(|report| report.generation);
        let electorates = newest.map_or(&[][..], |report| &report.electorates);
        let of = |one: &ElectorateReport| format!("{} of {} voters", one.election_quorum, one.voters.len());
        match electorates {
            [] => "enough voters".to_owned(),
            [now] => of(now),
            [now, before, ..] => format!("{}, and {} from before the change,", of(now), of(before)),
        }
    }

    fn row(&self, seen: &Seen) -> Vec<String> {
        let id = seen.id.map_or("?".to_owned(), |id| id.to_string());
        let Some(report) = &seen.report else {
            let nothing = ["", "", "", "", "", "", "", "", ""].map(str::to_owned);
            return [vec![id, "silent".to_owned()], nothing.to_vec(), vec![seen.address.clone()]].concat();
        };
        let peers = self.primary_report().map_or(&[][..], |primary| &primary.peers);
        let peer = peers.iter().find(|peer| Some(peer.id) == seen.id);
        let lag = self.newest().saturating_sub(report.durable);
        vec![
            id,
            report.role.to_owned(),
            report.epoch.to_string(),
            report.appended.to_string(),
            report.durable.to_string(),
            report.committed.to_string(),
            report.applied.to_string(),
            lag.to_string(),
            peer.map_or("", |peer| peer.stage).to_owned(),
            report.disk.to_owned(),
            up(report.uptime_s),
            seen.address.clone(),
        ]
    }
}

/// `42s`, `17m`, `3h`.
fn up(seconds: f64) -> String {
    let seconds = seconds as u64;
    let whole = match seconds {
        0..120 => seconds,
        120..7200 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    };
    Span(std::time::Duration::from_secs(whole)).to_string()
}

#[cfg(test)]
mod tests {
    use annals::protocol::Role;

    use super::*;
    use crate::report::tests::{among, five, joint, made_up};

    fn seen(id: u64) -> Seen {
        Seen::answered(format!("127.0.0.1:{}", 7100 + id), ReplicaReport::of(&made_up(id)))
    }

    #[test]
    fn the_table_has_a_line_for_each_replica() {
        let overview = Overview::of(vec![seen(3), seen(1), seen(2)]);
        assert!(overview.is_well);
        let text = overview.text();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 4, "{text}");
        let backup = [
            "1",
            "backup",
            "7",
            "1201",
            "1200",
            "1200",
            "1200",
            "1",
            "streaming",
            "good",
            "90s",
            "127.0.0.1:7101",
        ];
        assert_eq!(lines[1], backup, "{text}");
        assert_eq!(lines[2][..2], ["2", "primary"], "{text}");
        assert_eq!(lines[3][7..10], ["501", "catching", "up"], "{text}");
    }

    #[test]
    fn a_replica_that_does_not_answer_is_told() {
        let silent = Seen::silent("127.0.0.1:7103".to_owned(), Some(3), "nobody answers there".to_owned());
        let overview = Overview::of(vec![seen(1), seen(2), silent]);
        assert!(!overview.is_well);
        assert_eq!(overview.primary, Some(2));
        let text = overview.text();
        assert!(text.contains("  3  silent"), "{text}");
        assert!(text.contains("no answer from 127.0.0.1:7103: nobody answers there"), "{text}");
    }

    /// Of five voters of whom four elect, a majority was waited for.
    #[test]
    fn who_is_waited_for_is_who_elects() {
        let text = |replicas| Overview::of(replicas).text();
        let at = |id, membership| Seen::answered(format!("r{id}:1"), among(id, membership));
        assert!(text(vec![seen(1)]).contains("until 2 of 3 voters have elected one"));
        assert!(text(vec![at(1, five())]).contains("until 4 of 5 voters have elected one"));
        let changing = text(vec![at(1, joint()), at(3, five())]);
        let expected = "until 4 of 5 voters, and 2 of 3 voters from before the change, have elected one";
        assert!(changing.contains(expected), "{changing}");
        let silent = Seen::silent("r1:1".to_owned(), Some(1), "nobody answers".to_owned());
        assert!(text(vec![silent]).contains("until enough voters have elected one"));
    }

    #[test]
    fn a_deposed_primary_that_does_not_know_it_yet_is_not_the_primary() {
        let mut old = made_up(1);
        old.role = Role::Primary;
        old.epoch = annals::Epoch::new(6);
        let old = Seen::answered("a:1".to_owned(), ReplicaReport::of(&old));
        assert_eq!(Overview::of(vec![old.clone(), seen(2), seen(3)]).primary, Some(2));
        let overview = Overview::of(vec![old, seen(3)]);
        assert!(overview.primary.is_none() && !overview.is_well);
        assert!(overview.text().contains("no primary"));
    }
}
