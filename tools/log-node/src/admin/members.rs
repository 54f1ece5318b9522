//! Who takes part.

use std::time::{Duration, Instant};

use annals::protocol::request::{NodeStatus, Reply, Request};
use annals::protocol::{Change, Member};

use super::electorate::still_fits;
use super::{Operator, unknown};
use crate::cli::{AddArgs, RemoveArgs};
use crate::error::{Error, Result};
use crate::out;
use crate::overview::Overview;
use crate::report::{ElectorateReport, MemberReport};
use crate::status::Status;

/// From one word about the progress to the next.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Takes a newcomer in: first as a learner, and once it has caught up as a voter.
pub(crate) fn add(args: &AddArgs) -> Result<Status> {
    let mut operator = Operator::new(&args.reach)?;
    let newcomer = &args.newcomer;
    let Reply::Status(status) = operator.ask(&newcomer.address, &Request::Status)? else {
        return Err(Error::BadReply);
    };
    check_newcomer(args, &status)?;
    let before = operator.look();
    let member = membership(&before).into_iter().find(|member| member.id == newcomer.id.get());
    if !args.learner && !member.as_ref().is_some_and(|member| member.votes) {
        let voters = electorates(&before);
        still_fits(&voters, voters.first().map_or(0, |now| now.voters.len()) + 1)?;
    }
    match member {
        // What takes part is gone: this one, under its number, has nothing of it, and is let in by nobody.
        Some(member) if member.disk_id != status.disk.to_string() => {
            let (id, address) = (newcomer.id, &newcomer.address);
            let reason = format!(
                "replica {id} takes part with another disk than the one at {address}; take that out first, with `log-node \
                 remove {id}`, and then add this one"
            );
            return Err(Error::NotNeeded { reason });
        }
        Some(member) if member.votes => {
            out::print(&format!("replica {} takes part already\n", newcomer.id))?;
            return Ok(Status::Done);
        }
        // An earlier attempt has come so far.
        Some(_) => {}
        None => {
            let learner = Member { id: newcomer.id, disk: status.disk };
            operator.change(Change::AddLearner(learner))?;
        }
    }
    out::print(&format!("replica {} receives the log\n", newcomer.id))?;
    if args.learner {
        return Ok(Status::Done);
    }
    wait_for_the_log(&mut operator, newcomer.id.get())?;
    operator.change(Change::PromoteLearner { id: newcomer.id, priority: args.priority })?;
    // Until then those from before decide, too.
    let is_through = |seen: &Overview| electorates(seen).len() == 1;
    let votes = |seen: &Overview| {
        let is_it = |member: &MemberReport| member.id == newcomer.id.get() && member.votes;
        is_through(seen) && membership(seen).iter().any(is_it)
    };
    let seen = operator.wait_until("the new membership", votes)?;
    out::print(&format!("replica {} votes\n{}", newcomer.id, quorum_text(&electorates(&seen))))?;
    Ok(Status::Done)
}

fn check_newcomer(args: &AddArgs, status: &NodeStatus) -> Result<()> {
    if status.id == args.newcomer.id {
        return Ok(());
    }
    let reason = format!("at {} is replica {}, not {}", args.newcomer.address, status.id, args.newcomer.id);
    Err(Error::NoReplica { id: args.newcomer.id, reason })
}

/// Waits until the learner gets each group as it is appended, however long that takes, and tells how far it is.
fn wait_for_the_log(operator: &mut Operator, id: u64) -> Result<()> {
    let patience = operator.deadline.saturating_duration_since(Instant::now());
    let mut told = Instant::now();
    let mut best = 0;
    loop {
        let seen = operator.look();
        let peer = seen.primary_report().and_then(|report| report.peers.iter().find(|peer| peer.id == id));
        if peer.is_some_and(|peer| peer.stage == "streaming") {
            operator.deadline = Instant::now() + patience;
            return Ok(());
        }
        let durable = peer.map_or(0, |peer| peer.durable);
        if durable > best {
            // It moves: the deadline is for standing still.
            (best, operator.deadline) = (durable, Instant::now() + patience);
        }
        if let Some(peer) = peer.filter(|_| told.elapsed() >= PROGRESS_EVERY) {
            told = Instant::now();
            eprintln!("replica {id}: {}, {} records to go", peer.stage, peer.lag);
        }
        if !operator.pause() {
            return Err(Error::TimedOut { waiting_for: format!("replica {id} to receive the log") });
        }
    }
}

/// Takes a replica out.
pub(crate) fn remove(args: &RemoveArgs) -> Result<Status> {
    let mut operator = Operator::new(&args.on.reach)?;
    let id = args.on.replica;
    let before = operator.look_for_primary()?;
    if !membership(&before).iter().any(|member| member.id == id.get()) {
        return Err(unknown(id));
    }
    let voters = electorates(&before);
    let others =
        voters.first().map_or(0, |now| now.voters.iter().filter(|voter| **voter != id.get()).count());
    still_fits(&voters, others)?;
    operator.change(Change::Remove(id))?;
    let is_out = |seen: &Overview| {
        let members = membership(seen);
        seen.primary.is_some() && !members.is_empty() && members.iter().all(|member| member.id != id.get())
    };
    let seen = operator.wait_until("the new membership", is_out)?;
    let text = quorum_text(&electorates(&seen));
    out::print(&format!("replica {id} takes part no more: its process can be ended\n{text}"))?;
    Ok(Status::Done)
}

/// The members, as the primary knows them.
pub(super) fn membership(seen: &Overview) -> Vec<MemberReport> {
    seen.primary_report().map_or(vec![], |report| report.members.clone())
}

/// Who decides, as the primary knows it.
pub(super) fn electorates(seen: &Overview) -> Vec<ElectorateReport> {
    seen.primary_report().map_or(vec![], |report| report.electorates.clone())
}

/// What the membership stands.
pub(super) fn quorum_text(electorates: &[ElectorateReport]) -> String {
    let Some(now) = electorates.first() else { return String::new() };
    let spare = electorates.iter().map(ElectorateReport::spare).min().unwrap_or(0);
    let voters = now.voters.len();
    let s = if voters == 1 { "" } else { "s" };
    let (write, election) = (now.write_quorum, now.election_quorum);
    format!("{voters} voter{s}: {write} commit, {election} elect, {spare} may be lost at a time\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ReplicaReport;
    use crate::report::tests::{among, five, joint, made_up};

    /// Two of five were said to be as many as may be lost, though it took four to elect a primary.
    #[test]
    fn as_many_may_be_lost_as_the_quorums_leave() {
        let text = |report: ReplicaReport| quorum_text(&report.electorates);
        let three = text(ReplicaReport::of(&made_up(1)));
        assert_eq!(three, "3 voters: 2 commit, 2 elect, 1 may be lost at a time\n");
        let fixed = text(among(1, five()));
        assert_eq!(fixed, "5 voters: 2 commit, 4 elect, 1 may be lost at a time\n");
        let mut before = joint();
        before.outgoing.iter_mut().for_each(|outgoing| outgoing.voters.truncate(2));
        let changing = text(among(1, before));
        assert_eq!(changing, "5 voters: 2 commit, 4 elect, 0 may be lost at a time\n");
    }
}
