//! What operators ask of the cluster: hand over, take snapshots, trim, and change who takes part.

mod electorate;
mod members;
mod promote;

use std::thread;
use std::time::{Duration, Instant};

use annals::ReplicaId;
use annals::protocol::Change;
use annals::protocol::request::{Refused, Reply, Request};

use crate::cli::{Reach, ReplicaArgs, TransferArgs, TrimArgs};
use crate::error::{Error, Result};
use crate::out;
use crate::overview::Overview;
use crate::session::Sessions;
use crate::status::Status;

pub(crate) use electorate::{priority, quorums};
pub(crate) use members::{add, remove};
pub(crate) use promote::promote;

/// How long one look at the cluster may take.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// From one attempt to the next.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// The cluster, to be operated until the deadline.
struct Operator {
    sessions: Sessions,
    endpoints: Vec<String>,
    deadline: Instant,
}

impl Operator {
    fn new(reach: &Reach) -> Result<Operator> {
        let target = reach.target()?;
        let sessions = Sessions::new(target.credentials()?);
        Ok(Operator { sessions, endpoints: target.endpoints, deadline: Instant::now() + target.deadline })
    }

    fn look(&mut self) -> Overview {
        self.sessions.overview(&self.endpoints, LOOK_MAX)
    }

    /// Whether there is time for another attempt; waits a moment before it.
    fn pause(&self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        thread::sleep(RETRY_EVERY.min(left));
        !left.is_zero()
    }

    /// Asks the replica at this address.
    fn ask(&mut self, address: &str, request: &Request) -> Result<Reply> {
        let deadline = self.deadline;
        let left = deadline.saturating_duration_since(Instant::now());
        self.sessions.to(address, left)?.answer(request, deadline)
    }

    /// Asks this replica, wherever it is.
    fn ask_replica(&mut self, id: ReplicaId, request: &Request) -> Result<Reply> {
        let overview = self.look();
        let seen = overview.replicas.iter().find(|seen| seen.id == Some(id.get()));
        let silent = |reason: &str| Error::NoReplica { id, reason: reason.to_owned() };
        match seen {
            Some(seen) if seen.report.is_some() => self.ask(&seen.address, request),
            Some(seen) => Err(silent(seen.error.as_deref().unwrap_or("it does not answer"))),
            None => Err(first_reason(&overview)
                .map_or_else(|| silent("the cluster has no such replica"), |reason| silent(&reason))),
        }
    }

    /// Asks the primary, and whoever follows it, until one has done it.
    fn ask_primary(&mut self, request: &Request) -> Result<Reply> {
        loop {
            let overview = self.look();
            let answer = match overview.primary_address() {
                Some(address) => self.ask(&address, request),
                None => Err(Error::NoPrimary { reason: why_no_primary(&overview) }),
            };
            match answer {
                // None of these has done anything.
                Err(
                    Error::NoPrimary { .. }
                    | Error::Refused { refused: Refused::NotPrimary { .. } | Refused::Busy, .. },
                ) if self.pause() => {}
                answer => return answer,
            }
        }
    }

    /// Changes the membership. Right after an election, and while another change is under way, that is not possible yet.
    fn change(&mut self, change: Change) -> Result<Reply> {
        loop {
            match self.ask_primary(&Request::Change(change)) {
                Err(Error::Refused { refused: Refused::NotPossible { .. }, .. }) if self.pause() => {}
                answer => return answer,
            }
        }
    }

    /// Looks until there is a primary, and gives what was seen.
    fn look_for_primary(&mut self) -> Result<Overview> {
        loop {
            let overview = self.look();
            if overview.primary.is_some() {
                return Ok(overview);
            }
            if !self.pause() {
                return Err(Error::NoPrimary { reason: why_no_primary(&overview) });
            }
        }
    }

    /// Looks until it is so, and gives what was seen.
    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Overview) -> bool) -> Result<Overview> {
        loop {
            let overview = self.look();
            if is_so(&overview) {
                return Ok(overview);
            }
            if !self.pause() {
                return Err(Error::TimedOut { waiting_for: what.to_owned() });
            }
        }
    }
}

/// Why nobody is known, if nobody answers at all.
fn first_reason(overview: &Overview) -> Option<String> {
    let nobody = overview.replicas.iter().all(|seen| seen.report.is_none());
    overview.replicas.iter().find_map(|seen| seen.error.clone()).filter(|_| nobody)
}

fn why_no_primary(overview: &Overview) -> String {
    let answering = overview.replicas.iter().filter(|seen| seen.report.is_some()).count();
    let reason = first_reason(overview).map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{answering} of {} replicas answer{reason}", overview.replicas.len())
}

/// Hands the primary's role over.
pub(crate) fn transfer(args: &TransferArgs) -> Result<Status> {
    let mut operator = Operator::new(&args.reach)?;
    let seen = operator.look();
    let before = seen.primary;
    if args.to.is_some() && args.to.map(ReplicaId::get) == before {
        out::print(&format!("replica {} is primary already\n", before.unwrap_or(0)))?;
        return Ok(Status::Done);
    }
    if let Some(id) = args.to {
        check_successor(&seen, id)?;
    }
    operator.ask_primary(&Request::Transfer { to: args.to })?;
    let is_over = |seen: &Overview| match args.to {
        Some(to) => seen.primary == Some(to.get()),
        None => seen.primary.is_some() && seen.primary != before,
    };
    let after = operator.wait_until("another primary", is_over)?;
    let epoch = after.primary_report().map_or(0, |report| report.epoch);
    out::print(&format!("replica {} is primary now, in epoch {epoch}\n", after.primary.unwrap_or(0)))?;
    Ok(Status::Done)
}

/// Whether this one may lead, as far as the primary tells.
fn check_successor(seen: &Overview, id: ReplicaId) -> Result<()> {
    let Some(report) = seen.primary_report() else { return Ok(()) };
    match report.members.iter().find(|member| member.id == id.get()) {
        Some(member) if member.votes => Ok(()),
        Some(_) => {
            let reason = "it is a learner, and never leads".to_owned();
            Err(Error::NoReplica { id, reason })
        }
        None => Err(unknown(id)),
    }
}

fn unknown(id: ReplicaId) -> Error {
    Error::NoReplica { id, reason: "the cluster has no such replica".to_owned() }
}

/// Takes a snapshot on one replica.
pub(crate) fn snapshot(args: &ReplicaArgs) -> Result<Status> {
    let reply = Operator::new(&args.reach)?.ask_replica(args.replica, &Request::Snapshot)?;
    let Reply::SnapshotTaken(lsn) = reply else { return Err(Error::BadReply) };
    out::print(&format!("replica {}: a snapshot covers everything up to record {lsn}\n", args.replica))?;
    Ok(Status::Done)
}

/// Forgets the oldest records of one replica.
pub(crate) fn trim(args: &TrimArgs) -> Result<Status> {
    let mut operator = Operator::new(&args.on.reach)?;
    let through = annals::Lsn::new(args.through.get());
    operator.ask_replica(args.on.replica, &Request::Trim { through })?;
    let reply = operator.ask_replica(args.on.replica, &Request::Status)?;
    let Reply::Status(status) = reply else { return Err(Error::BadReply) };
    let why = if status.first > through {
        ""
    } else {
        ": more stays, because it was appended together with newer records, or is needed by a replica that lags"
    };
    out::print(&format!("replica {}: the log begins at record {}{why}\n", args.on.replica, status.first))?;
    Ok(Status::Done)
}
