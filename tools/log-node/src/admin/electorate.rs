//! Whom the voters prefer, and how many of them it takes.

use annals::protocol::{Change, Quorums};

use super::members::{electorates, membership, quorum_text};
use super::promote::silent;
use super::{Operator, unknown};
use crate::cli::{PriorityArgs, QuorumsArgs};
use crate::error::{Error, Result};
use crate::out;
use crate::overview::Overview;
use crate::report::{ElectorateReport, MemberReport};
use crate::status::Status;

/// Gives a voter another priority.
pub(crate) fn priority(args: &PriorityArgs) -> Result<Status> {
    let mut operator = Operator::new(&args.on.reach)?;
    let (id, priority) = (args.on.replica, args.priority);
    let before = operator.look_for_primary()?;
    let members = membership(&before);
    let member = members.iter().find(|member| member.id == id.get()).ok_or_else(|| unknown(id))?;
    if !member.votes {
        let place = member.address.as_deref().unwrap_or("HOST:PORT");
        let reason = format!(
            "replica {id} is a learner, and never leads: let it vote, with `log-node add {id}={place} --priority \
             {priority}`"
        );
        return Err(Error::NotNeeded { reason });
    }
    if member.priority == priority {
        out::print(&format!("replica {id} has priority {priority} already{}\n", all_text(&members)))?;
        return Ok(Status::Done);
    }
    operator.change(Change::SetPriority { id, priority })?;
    let is_it = |member: &MemberReport| member.id == id.get() && member.priority == priority;
    let seen = operator.wait_until("the new priority", |seen| membership(seen).iter().any(is_it))?;
    out::print(&format!("replica {id} has priority {priority} now{}\n", all_text(&membership(&seen))))?;
    Ok(Status::Done)
}

/// The priorities of all voters, as `priorities` in the settings has them.
fn all_text(members: &[MemberReport]) -> String {
    let voters = members.iter().filter(|member| member.votes);
    let each: Vec<String> = voters.map(|member| format!("{}={}", member.id, member.priority)).collect();
    format!(", of {}", each.join(","))
}

/// Says how many copies commit a record, and how many votes make a primary.
pub(crate) fn quorums(args: &QuorumsArgs) -> Result<Status> {
    let mut operator = Operator::new(&args.reach)?;
    let wanted = match (args.write, args.election) {
        (Some(write), Some(election)) => Quorums::Fixed { write, election },
        _ => Quorums::Majority,
    };
    let before = operator.look_for_primary()?;
    let now = electorates(&before);
    if let [now] = &now[..]
        && is_so(now, wanted)
    {
        out::print(&format!("it is so already\n{}", quorum_text(std::slice::from_ref(now))))?;
        return Ok(Status::Done);
    }
    let voters = now.first().map_or(&[][..], |now| &now.voters);
    fits(wanted, voters.len()).map_err(|reason| Error::NotNeeded { reason })?;
    enough_answer(&before, wanted, voters)?;
    operator.change(Change::SetQuorums(wanted))?;
    let is_over = |seen: &Overview| matches!(&electorates(seen)[..], [now] if is_so(now, wanted));
    let seen = operator.wait_until("the new quorums", is_over)?;
    out::print(&quorum_text(&electorates(&seen)))?;
    Ok(Status::Done)
}

/// Whether these are the quorums.
fn is_so(now: &ElectorateReport, wanted: Quorums) -> bool {
    match wanted {
        Quorums::Majority => now.is_majority,
        Quorums::Fixed { write, election } => {
            !now.is_majority && (now.write_quorum, now.election_quorum) == (write.into(), election.into())
        }
    }
}

/// Whether so many voters can have these quorums; else why not, and what to give instead.
pub(super) fn fits(quorums: Quorums, voters: usize) -> std::result::Result<(), String> {
    let Quorums::Fixed { write, election } = quorums else { return Ok(()) };
    let (write, election) = (usize::from(write), usize::from(election));
    let more_than_half = voters / 2 + 1;
    if !(1..=voters).contains(&write) {
        return Err(format!(
            "of {voters} voters, {write} cannot commit a record: give --write from 1 to {voters}"
        ));
    }
    if !(1..=voters).contains(&election) {
        return Err(format!(
            "of {voters} voters, {election} cannot elect a primary: give --election from {more_than_half} to {voters}"
        ));
    }
    if election < more_than_half {
        return Err(format!(
            "of {voters} voters, two times {election} could elect two primaries: give --election at least \
             {more_than_half}"
        ));
    }
    if write + election <= voters {
        return Err(format!(
            "of {voters} voters, {write} that commit and {election} that elect may be others, and a new primary would lack \
             records: give more than {voters} in sum, such as --write {write} --election {}, or --write {} --election \
             {election}",
            voters + 1 - write,
            voters + 1 - election,
        ));
    }
    Ok(())
}

/// Whether the quorums that are set fit so many voters too: before one more votes, or one less.
pub(super) fn still_fits(now: &[ElectorateReport], voters: usize) -> Result<()> {
    let Some(now) = now.first().filter(|now| !now.is_majority) else { return Ok(()) };
    let narrow = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    let (write, election) = (narrow(now.write_quorum), narrow(now.election_quorum));
    fits(Quorums::Fixed { write, election }, voters).map_err(|reason| {
        let reason = format!(
            "the quorums that are set would not fit any more ({reason}): before that, `log-node quorums --majority`, or others \
             that fit {} and {voters} voters",
            now.voters.len()
        );
        Error::NotNeeded { reason }
    })
}

/// Whether as many answer as the quorums take: the primary refuses what would take its own quorum away.
fn enough_answer(seen: &Overview, wanted: Quorums, voters: &[u64]) -> Result<()> {
    let needed = match wanted {
        Quorums::Majority => voters.len() / 2 + 1,
        Quorums::Fixed { write, election } => write.max(election).into(),
    };
    let silent = silent(seen, voters);
    let there = voters.len() - silent.len();
    if there >= needed {
        return Ok(());
    }
    let reason = format!(
        "only {there} of {} voters answer (not {}), and the new quorums take {needed}: start the others again first, or \
         give less",
        voters.len(),
        silent.join(", ")
    );
    Err(Error::NotNeeded { reason })
}

#[cfg(test)]
mod tests {
    use annals::protocol::{Electorate, Member, Membership, Voter};
    use annals::{DiskId, ReplicaId};

    use super::*;
    use crate::report::tests::{among, five};

    fn electorate(voters: u64, quorums: Quorums) -> Electorate {
        let member = |id| Member { id: ReplicaId::new(id), disk: DiskId::new(u128::from(id)) };
        let voters = (1..=voters).map(|id| Voter { member: member(id), priority: 0 }).collect();
        Electorate { voters, quorums }
    }

    #[test]
    fn what_fits_is_what_the_library_takes() {
        for voters in 1..=15_u8 {
            assert_eq!(fits(Quorums::Majority, voters.into()), Ok(()));
            for (write, election) in
                (0..=16).flat_map(|write| (0..=16).map(move |election| (write, election)))
            {
                let quorums = Quorums::Fixed { write, election };
                let is_sound = electorate(voters.into(), quorums).is_sound();
                assert_eq!(fits(quorums, voters.into()).is_ok(), is_sound, "{voters} {write} {election}");
            }
        }
    }

    #[test]
    fn quorums_that_do_not_fit_are_refused_with_some_that_do() {
        let told = |write, election, voters| fits(Quorums::Fixed { write, election }, voters).unwrap_err();
        assert!(told(4, 2, 3).contains("give --write from 1 to 3"));
        assert!(told(2, 4, 3).contains("give --election from 2 to 3"));
        assert!(told(3, 2, 5).contains("give --election at least 3"));
        let apart = told(2, 3, 5);
        assert!(apart.contains("such as --write 2 --election 4, or --write 3 --election 3"), "{apart}");
        assert!(fits(Quorums::Fixed { write: 2, election: 4 }, 5).is_ok());
        assert!(fits(Quorums::Fixed { write: 3, election: 3 }, 5).is_ok());
    }

    #[test]
    fn quorums_that_would_not_fit_more_or_fewer_voters_are_told_before() {
        let now = among(1, five()).electorates;
        assert!(still_fits(&now, 5).is_ok());
        for (voters, told) in [(6, "2 that commit and 4 that elect"), (3, "4 cannot elect")] {
            let error = still_fits(&now, voters).unwrap_err().to_string();
            let has_way_out = error.contains("`log-node quorums --majority`");
            assert!(error.contains(told) && has_way_out, "{error}");
        }
    }

    #[test]
    fn a_majority_is_not_the_same_as_its_number() {
        let report = |quorums| {
            let membership = Membership::first(electorate(3, quorums).voters, quorums);
            among(1, membership).electorates.remove(0)
        };
        let two = Quorums::Fixed { write: 2, election: 2 };
        assert!(is_so(&report(Quorums::Majority), Quorums::Majority) && is_so(&report(two), two));
        assert!(!is_so(&report(Quorums::Majority), two) && !is_so(&report(two), Quorums::Majority));
    }
}
