//! `promote`: an operator says who leads, and is told what that may cost.

use annals::ReplicaId;
use annals::protocol::request::Request;

use super::Operator;
use crate::cli::PromoteArgs;
use crate::error::{Error, Result};
use crate::out;
use crate::overview::Overview;
use crate::report::ReplicaReport;
use crate::status::Status;

/// Lets the replica stand for election.
pub(crate) fn promote(args: &PromoteArgs) -> Result<Status> {
    let mut operator = Operator::new(&args.on.reach)?;
    let id = args.on.replica;
    let seen = operator.look();
    if seen.primary == Some(id.get()) {
        out::print(&format!("replica {id} is primary already\n"))?;
        return Ok(Status::Done);
    }
    if let Some(primary) = seen.primary {
        let reason = format!(
            "replica {primary} is primary and answers, so nobody else is elected; hand over with `log-node transfer \
             --to {id}`"
        );
        return Err(Error::NotNeeded { reason });
    }
    out::print(&cost(&seen, id)?)?;
    operator.ask_replica(id, &Request::Promote)?;
    let after =
        operator.wait_until("its election", |seen| seen.primary == Some(id.get())).map_err(|error| {
            match error {
                Error::TimedOut { .. } => Error::NoPrimary { reason: not_elected(&seen, id) },
                error => error,
            }
        })?;
    let epoch = after.primary_report().map_or(0, |report| report.epoch);
    out::print(&format!("replica {id} is primary now, in epoch {epoch}\n"))?;
    Ok(Status::Done)
}

/// What may be lost if this replica leads; an error if it cannot come to that.
fn cost(seen: &Overview, id: ReplicaId) -> Result<String> {
    let Some(report) = report_of(seen, id) else {
        let reason = "it does not answer, or the cluster has no such replica".to_owned();
        return Err(Error::NoReplica { id, reason });
    };
    if report.electorates.is_empty() {
        return Err(Error::NoReplica { id, reason: "it knows of no voters yet".to_owned() });
    }
    for (electorate, when) in report.electorates.iter().zip(["", " from before the change"]) {
        let silent = silent(seen, &electorate.voters);
        let (voters, needed) = (electorate.voters.len(), electorate.election_quorum);
        let there = voters - silent.len();
        if there < needed {
            let reason = format!(
                "only {there} of {voters} voters{when} answer (not {}), and it takes {needed} to elect one. No command \
                 makes fewer lead, for they may lack what the others have acknowledged: of what was committed after \
                 record {}, replica {id} knows nothing. If the others are gone for good, see \"When a quorum is gone \
                 for good\" in docs/operations.md",
                silent.join(", "),
                report.committed,
            );
            return Err(Error::NoPrimary { reason });
        }
    }
    let silent = silent(seen, &voters(report));
    let mut text = format!(
        "replica {id} has everything up to record {} on its disk, and knows that everything up to {} is committed.\n\
         No committed record is lost: voters refuse whoever has less than they have acknowledged.\n",
        report.durable, report.committed,
    );
    if silent.is_empty() {
        text.push_str("All voters answer: nothing is lost.\n");
    } else {
        text.push_str(&format!(
            "Lost may be what replica {} alone has: appends that were not committed, also those acknowledged with \
             durability local.\n",
            silent.join(", ")
        ));
    }
    Ok(text)
}

/// Why it was not elected, as far as can be told by what was seen before.
fn not_elected(seen: &Overview, id: ReplicaId) -> String {
    let voters = report_of(seen, id).map(voters).unwrap_or_default();
    let reports = seen.replicas.iter().filter_map(|each| each.report.as_ref());
    let abstains: Vec<String> = reports
        .filter(|report| report.role == "recovering" && voters.contains(&report.id))
        .map(|report| report.id.to_string())
        .collect();
    if abstains.is_empty() {
        return format!(
            "replica {id} was not elected: a voter that has more of the log goes before it, promote that one"
        );
    }
    format!(
        "replica {id} was not elected: of the voters, {} may have lost records to damage, and votes for nobody before it \
         has them again; if too few others are left, see \"When one of two voters is damaged\" in docs/operations.md",
        abstains.join(", ")
    )
}

fn report_of(seen: &Overview, id: ReplicaId) -> Option<&ReplicaReport> {
    seen.replicas.iter().find(|each| each.id == Some(id.get()))?.report.as_ref()
}

/// Those of them who do not answer.
pub(super) fn silent(seen: &Overview, voters: &[u64]) -> Vec<String> {
    let answers =
        |voter: u64| seen.replicas.iter().any(|each| each.id == Some(voter) && each.report.is_some());
    voters.iter().filter(|voter| !answers(**voter)).map(u64::to_string).collect()
}

/// Whom it asks for votes.
fn voters(report: &ReplicaReport) -> Vec<u64> {
    report.members.iter().filter(|member| member.votes).map(|member| member.id).collect()
}

#[cfg(test)]
mod tests {
    use annals::protocol::Membership;

    use super::*;
    use crate::overview::Seen;
    use crate::report::tests::{among, five, joint, made_up};

    /// Replicas 1 to 6, of whom these answer, with this membership.
    fn others(answering: &[u64], membership: &Membership) -> Overview {
        let each = |id| match answering.contains(&id) {
            true => Seen::answered(format!("r{id}:1"), among(id, membership.clone())),
            false => Seen::silent(format!("r{id}:1"), Some(id), "nobody answers".to_owned()),
        };
        Overview::of((1..=6).map(each).collect())
    }

    fn seen(answering: &[u64]) -> Overview {
        let each = |id| match answering.contains(&id) {
            true => Seen::answered(format!("r{id}:1"), ReplicaReport::of(&made_up(id))),
            false => Seen::silent(format!("r{id}:1"), Some(id), "nobody answers".to_owned()),
        };
        Overview::of((1..=3).map(each).collect())
    }

    #[test]
    fn the_operator_is_told_what_may_be_lost() {
        let text = cost(&seen(&[1, 3]), ReplicaId::new(1)).unwrap();
        assert!(
            text.contains("everything up to record 1200") && text.contains("what replica 2 alone has"),
            "{text}"
        );
        let text = cost(&seen(&[1, 2, 3]), ReplicaId::new(1)).unwrap();
        assert!(text.contains("nothing is lost"), "{text}");
    }

    /// With two voters, one of them damaged, the other was told to promote one that has more.
    #[test]
    fn a_voter_that_is_not_whole_is_named_when_nobody_is_elected() {
        let mut all = seen(&[1, 3]);
        let text = not_elected(&all, ReplicaId::new(1));
        assert!(text.contains("has more of the log"), "{text}");
        all.replicas[2].report.as_mut().unwrap().role = "recovering";
        let text = not_elected(&all, ReplicaId::new(1));
        assert!(text.contains("of the voters, 3 may have lost records"), "{text}");
        // As a learner it is not asked.
        for seen in &mut all.replicas {
            seen.report.iter_mut().for_each(|report| report.members[2].votes = false);
        }
        let text = not_elected(&all, ReplicaId::new(1));
        assert!(text.contains("has more of the log"), "{text}");
    }

    #[test]
    fn a_minority_is_not_promoted_and_the_way_out_is_named() {
        let error = cost(&seen(&[3]), ReplicaId::new(3)).unwrap_err().to_string();
        assert!(error.contains("only 1 of 3 voters") && error.contains("after record 690"), "{error}");
        assert!(error.contains("gone for good"), "{error}");
        assert!(cost(&seen(&[1, 2]), ReplicaId::new(3)).is_err());
    }

    /// Three of five were let through, and told after a minute that a voter with more of the log goes before them.
    #[test]
    fn as_many_must_answer_as_it_takes_to_elect() {
        let id = ReplicaId::new(1);
        let error = cost(&others(&[1, 3, 4], &five()), id).unwrap_err().to_string();
        assert!(error.contains("only 3 of 5 voters answer (not 2, 5), and it takes 4"), "{error}");
        let text = cost(&others(&[1, 3, 4, 5], &five()), id).unwrap();
        assert!(text.contains("what replica 2 alone has"), "{text}");
    }

    #[test]
    fn while_the_voters_change_enough_of_those_from_before_must_answer() {
        let id = ReplicaId::new(1);
        let error = cost(&others(&[1, 3, 4, 5], &joint()), id).unwrap_err().to_string();
        assert!(error.contains("only 1 of 3 voters from before the change answer (not 2, 6)"), "{error}");
        let text = cost(&others(&[1, 3, 4, 5, 6], &joint()), id).unwrap();
        assert!(text.contains("what replica 2 alone has"), "{text}");
    }

    #[test]
    fn who_knows_no_voters_is_not_promoted() {
        let mut all = seen(&[1, 2, 3]);
        all.replicas[0].report.as_mut().unwrap().electorates.clear();
        assert!(matches!(cost(&all, ReplicaId::new(1)), Err(Error::NoReplica { .. })));
    }
}
