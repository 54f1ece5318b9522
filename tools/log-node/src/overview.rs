//! The whole cluster as its replicas describe it: what `status` shows.

use annals_terminal::Table;
use serde::Serialize;

use crate::report::{ElectorateReport, MemberReport, ReplicaReport};

/// What all replicas have said, or why not.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Overview {
    /// Whether all is as it should be.
    pub(crate) is_well: bool,
    /// What is not, a sentence for each.
    pub(crate) amiss: Vec<String>,
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
        let mut overview = Overview { is_well: false, amiss: vec![], primary, replicas };
        overview.amiss = overview.complaints();
        overview.is_well = overview.amiss.is_empty();
        overview
    }

    /// All is as it should be if each replica answers, is well and follows one primary, and if each member gets the records
    /// from that one as they are appended.
    ///
    /// How far a member lags is no number of records: they may be of any size. Whoever gets them as they are appended lacks
    /// `window` bytes at most, and is fed from the log as soon as it lacks more.
    fn complaints(&self) -> Vec<String> {
        let mut amiss: Vec<String> =
            self.replicas.iter().filter_map(|seen| self.complaint_of(seen)).collect();
        if let Some(primary) = self.primary_report() {
            let others = primary.members.iter().filter(|member| member.id != primary.id);
            amiss.extend(others.filter_map(|member| self.complaint_about(member, primary)));
        } else if self.replicas.is_empty() {
            amiss.push("no replica is known".to_owned());
        } else {
            amiss.push(format!("no primary: appends wait until {} have elected one", self.electors()));
        }
        amiss
    }

    /// What one of those that were asked does not as it should.
    fn complaint_of(&self, seen: &Seen) -> Option<String> {
        let Some(report) = &seen.report else {
            let error = seen.error.as_deref().unwrap_or("it does not answer");
            // Most errors say themselves where nobody answers.
            return Some(match error.contains(&seen.address) {
                true => error.to_owned(),
                false => format!("no answer from {}: {error}", seen.address),
            });
        };
        let is_lost = self.primary.is_some() && report.primary != self.primary;
        report.complaint().or_else(|| {
            is_lost.then(|| {
                let primary = self.primary.unwrap_or(0);
                format!("replica {} does not follow replica {primary}, the primary", report.id)
            })
        })
    }

    /// What a member does not get from the primary. Of those that have said something worse, or nothing, that is enough.
    fn complaint_about(&self, member: &MemberReport, primary: &ReplicaReport) -> Option<String> {
        let id = member.id;
        let Some(seen) = self.replicas.iter().find(|seen| seen.id == Some(id)) else {
            return Some(format!("replica {id} is a member, and nobody knows where it is"));
        };
        if self.complaint_of(seen).is_some() {
            return None;
        }
        let Some(peer) = primary.peers.iter().find(|peer| peer.id == id) else {
            return Some(format!("replica {id} is a member, and the primary sends it nothing yet"));
        };
        let stage = match peer.stage {
            "streaming" => return None,
            "snapshot" => "receiving a snapshot",
            stage => stage,
        };
        Some(format!("replica {id} does not get records as they are appended: {stage}, {} behind", peer.lag))
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
            "id",
            "role",
            "epoch",
            "first",
            "appended",
            "durable",
            "committed",
            "applied",
            "snapshot",
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
        for sentence in &self.amiss {
            text.push_str(&format!("{sentence}\n"));
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
            let nothing = vec![String::new(); 11];
            return [vec![id, "silent".to_owned()], nothing, vec![seen.address.clone()]].concat();
        };
        let peers = self.primary_report().map_or(&[][..], |primary| &primary.peers);
        let peer = peers.iter().find(|peer| Some(peer.id) == seen.id);
        let lag = self.newest().saturating_sub(report.durable);
        vec![
            id,
            report.role.to_owned(),
            report.epoch.to_string(),
            report.first.to_string(),
            report.appended.to_string(),
            report.durable.to_string(),
            report.committed.to_string(),
            report.applied.to_string(),
            report.snapshot.to_string(),
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
    match seconds as u64 {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use annals::protocol::request::NodeStatus;
    use annals::protocol::{Role, Stage};
    use annals::{Lsn, ReplicaId};

    use super::*;
    use crate::report::tests::{among, five, joint, made_up};

    fn seen(id: u64) -> Seen {
        Seen::answered(format!("127.0.0.1:{}", 7100 + id), ReplicaReport::of(&made_up(id)))
    }

    /// The three, of which replica 3 gets its records this way and has these.
    fn with_third(stage: Stage, durable: u64) -> Overview {
        let mut primary = made_up(2);
        (primary.peers[1].stage, primary.peers[1].durable) = (stage, Lsn::new(durable));
        let primary = Seen::answered("127.0.0.1:7102".to_owned(), ReplicaReport::of(&primary));
        Overview::of(vec![seen(1), primary, seen(3)])
    }

    #[test]
    fn the_table_has_a_line_for_each_replica_and_one_for_what_is_amiss() {
        let overview = Overview::of(vec![seen(3), seen(1), seen(2)]);
        let text = overview.text();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 5, "{text}");
        let backup = [
            "1",
            "backup",
            "7",
            "1",
            "1201",
            "1200",
            "1200",
            "1200",
            "1100",
            "1",
            "streaming",
            "good",
            "90s",
            "127.0.0.1:7101",
        ];
        assert_eq!(lines[1], backup, "{text}");
        assert_eq!(lines[2][..2], ["2", "primary"], "{text}");
        assert_eq!(lines[3][9..12], ["501", "catching", "up"], "{text}");
        let amiss = "replica 3 does not get records as they are appended: catching up, 501 behind";
        assert_eq!(text.lines().last(), Some(amiss));
        let usual = with_third(Stage::Streaming, 700).text();
        assert!(usual.lines().all(|line| line.len() <= 120), "{usual}");
    }

    /// One that was half a log behind was called well.
    #[test]
    fn all_is_well_only_if_each_gets_the_records_as_they_are_appended() {
        let well = with_third(Stage::Streaming, 700);
        assert!(well.is_well && well.amiss.is_empty(), "{:?}", well.amiss);
        for (stage, told) in [
            (Stage::Probing, "probing, 1 behind"),
            (Stage::CatchingUp, "catching up, 1 behind"),
            (Stage::Snapshot, "receiving a snapshot, 1 behind"),
            (Stage::Mending, "mending, 1 behind"),
        ] {
            let overview = with_third(stage, 1200);
            assert!(!overview.is_well);
            assert!(matches!(&overview.amiss[..], [one] if one.ends_with(told)), "{:?}", overview.amiss);
        }
    }

    #[test]
    fn who_follows_nobody_or_somebody_else_is_told() {
        for primary in [None, Some(ReplicaId::new(3))] {
            let lost = NodeStatus { primary, role: Role::Candidate, ..made_up(1) };
            let lost = Seen::answered("127.0.0.1:7101".to_owned(), ReplicaReport::of(&lost));
            let mut all = with_third(Stage::Streaming, 1200).replicas;
            all[0] = lost;
            let overview = Overview::of(all);
            assert!(!overview.is_well);
            assert_eq!(overview.amiss, ["replica 1 does not follow replica 2, the primary"]);
        }
    }

    #[test]
    fn a_member_whom_nobody_has_seen_or_whom_the_primary_does_not_feed_is_told() {
        let mut all = with_third(Stage::Streaming, 1200).replicas;
        let third = all.pop().unwrap();
        let overview = Overview::of(all.clone());
        assert_eq!(overview.amiss, ["replica 3 is a member, and nobody knows where it is"]);
        all.push(third);
        all[1].report.as_mut().unwrap().peers.pop();
        let overview = Overview::of(all);
        assert!(
            !overview.is_well && overview.amiss[0].contains("sends it nothing yet"),
            "{:?}",
            overview.amiss
        );
        assert!(!Overview::of(vec![]).is_well);
    }

    #[test]
    fn a_replica_that_does_not_answer_is_told() {
        let silent = Seen::silent("127.0.0.1:7103".to_owned(), Some(3), "nobody answers there".to_owned());
        let overview = Overview::of(vec![seen(1), seen(2), silent]);
        assert!(!overview.is_well);
        assert_eq!(overview.primary, Some(2));
        let text = overview.text();
        assert!(text.contains("  3  silent"), "{text}");
        assert_eq!(overview.amiss.len(), 1, "what it does not get follows from that: {text}");
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
    fn a_time_is_short() {
        let times =
            [(0.3, "0s"), (60.0, "60s"), (119.9, "119s"), (120.0, "2m"), (7199.0, "119m"), (7200.0, "2h")];
        for (seconds, told) in times {
            assert_eq!(up(seconds), told);
        }
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
