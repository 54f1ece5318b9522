//! `repair --from-peer`: the records that a replica has lost, from another one that has them.
//!
//! Fetched are exactly those that are lost, as they are stored, and each is put into its place. The replica keeps its
//! note that something was lost: it neither votes nor leads before its primary has confirmed that it has caught up
//! (rule S11 of the protocol).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annals::client::{Client, ClientOptions, Target};
use annals::node::{ReplicaStore, StoreOptions, digest, group_of};
use annals::protocol::request::NodeStatus;
use annals::protocol::{Health, LOST_BASE, State};
use annals::repair::Report;
use annals::{DiskId, LsnRange};

use crate::cli::RepairArgs;
use crate::error::{Error, Result};
use crate::look;
use crate::place::Place;
use crate::report::{json, words};
use crate::session::{Session, check_idle, note};
use crate::status::Status;

/// Bytes of frames that are fetched in one go.
const FETCH_BYTES: u32 = 4 << 20;

/// The records that were asked for.
#[derive(Debug, Default)]
struct Fetched {
    /// Those that are back in their places.
    back: Vec<LsnRange>,
    /// Those that are not, and why.
    missing: Vec<(LsnRange, String)>,
    /// Whether the newest snapshot is lost: then no records are asked for.
    is_base_lost: bool,
}

/// Fetches what is lost, and says what came back.
pub(crate) fn repair(args: &RepairArgs, address: &str, session: &Session) -> Result<Status> {
    let place = Place::open(&args.dir)?;
    let before = look::headers(&place)?;
    if before.unfinished_repair.is_none() {
        check_idle(&place, &before)?;
    }
    let certs = args.certs.as_deref().expect("--from-peer takes --certs along");
    let client = connect(address, certs, Duration::from_secs_f64(args.deadline))?;
    let peer = client.status(Target::At(address.to_owned())).wait().map_err(failed(address))?;
    check_membership(&place, &before, &peer, address)?;
    let report = match before.unfinished_repair {
        Some(_) => before,
        None => look::read_all(&place, args.threads.number())?.report,
    };
    let (mut store, lost) = open(&place, &report)?;
    // Only a running replica is given a snapshot. The log goes when that takes its place, and with it what would be mended here.
    let is_base_lost = lost == [LOST_BASE];
    let mut fetched = Fetched { is_base_lost, ..Fetched::default() };
    for range in lost.iter().filter(|_| !is_base_lost) {
        fetch(&client, address, &mut store, *range, &mut fetched).map_err(Error::log(&place.dir))?;
    }
    drop(store);
    show(&place, session, &peer, &fetched)
}

/// A client with a certificate that may read frames: a replica's own, or an operator's.
fn connect(address: &str, certs: &Path, deadline: Duration) -> Result<Client> {
    let (cert, key) = certificate(certs)?;
    let options = ClientOptions::new([address]).certificates(certs.join("ca.pem"), cert, key);
    options.deadline(deadline).connect().map_err(failed(address))
}

/// The first certificate of the directory that lets its owner do everything, with its key.
fn certificate(certs: &Path) -> Result<(PathBuf, PathBuf)> {
    let entries = std::fs::read_dir(certs).map_err(Error::path("look into", certs))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let is_able = |stem: &&str| {
        (stem.starts_with("admin-") || stem.starts_with("replica-"))
            && certs.join(format!("{stem}.key")).exists()
    };
    let stem = names.iter().filter_map(|name| name.strip_suffix(".pem")).find(is_able);
    let stem = stem.ok_or_else(|| Error::Peer {
        reason: format!("{} holds no certificate of a replica or an admin, with its key", certs.display()),
        advice: "name a directory as `log-node certs` makes it: ca.pem, and admin-NAME.pem with admin-NAME.key",
    })?;
    Ok((certs.join(format!("{stem}.pem")), certs.join(format!("{stem}.key"))))
}

/// Only a replica of the same cluster, which knows this very disk as a member's, has its records.
fn check_membership(place: &Place, report: &Report, peer: &NodeStatus, address: &str) -> Result<()> {
    let disk = report.log_id.map(|id| DiskId::new(id.get()));
    let members = peer.membership.iter().flat_map(|membership| {
        let voters = membership.electorate.voters.iter().map(|voter| voter.member);
        voters.chain(membership.learners.iter().copied())
    });
    let is_member = members.into_iter().any(|member| Some(member.disk) == disk);
    match (is_member, Some(peer.disk) == disk) {
        (true, false) => Ok(()),
        (_, true) => Err(Error::Peer {
            reason: format!("at {address} is the replica of this very directory"),
            advice: "name the address of another replica",
        }),
        (false, _) => Err(Error::Peer {
            reason: format!(
                "replica {} at {address} knows no member whose disk is {}",
                peer.id,
                place.dir.display()
            ),
            advice: "name a replica of the same cluster; if this one was removed from it, `log-node create --join` a new one",
        }),
    }
}

/// Opens the replica's log, with gaps in the place of what is lost, and says what that is. It has peers: one of them is asked.
fn open(place: &Place, report: &Report) -> Result<(ReplicaStore, Vec<LsnRange>)> {
    // How many snapshots are kept is not to be decided here.
    let options = StoreOptions { snapshots_kept: usize::MAX, ..StoreOptions::default() };
    let open = || ReplicaStore::open_among_peers(&place.disk, options).map_err(Error::log(&place.dir));
    let (mut store, mut state) = open()?;
    if state.health == Health::Whole && !report.lost.is_empty() {
        // What is rotten within a complete segment is found by whoever looks at every byte.
        if let Some(mut found) = store.take() {
            found.doubt().map_err(Error::log(&place.dir))?;
        }
        (store, state) = open()?;
    }
    match (store, state) {
        (Some(store), State { health: Health::Damaged(lost), .. }) => Ok((store, lost)),
        (Some(store), _) => Ok((store, vec![])),
        (None, _) => Err(Error::Peer {
            reason: format!("{} holds no replica that can be opened", place.dir.display()),
            advice: "remove the replica from the cluster, `log-node create --join` a new one, and add that",
        }),
    }
}

/// Fetches records, as many at a time as fit, and puts them into their places.
fn fetch(
    client: &Client,
    address: &str,
    store: &mut ReplicaStore,
    lost: LsnRange,
    fetched: &mut Fetched,
) -> annals::Result<()> {
    let mut next = lost.first;
    while let Some(left) = LsnRange::new(next, lost.last) {
        let target = Target::At(address.to_owned());
        let frames = match client.frames(target, left.first..=left.last, FETCH_BYTES).wait() {
            Ok(frames) => frames.bytes,
            Err(error) => {
                fetched.missing.push((left, error.to_string()));
                return Ok(());
            }
        };
        let group =
            group_of(&frames).ok().filter(|group| group.range.first <= next && next <= group.range.last);
        let Some(group) = group else {
            fetched.missing.push((left, "what the peer has sent are not these records".to_owned()));
            return Ok(());
        };
        if !store.mend(&group, &frames, digest(&frames))? {
            fetched.missing.push((left, "what the peer has does not fit to what is here".to_owned()));
            return Ok(());
        }
        let through = group.range.last.min(lost.last);
        fetched.back.extend(LsnRange::new(next, through));
        next = through.next();
    }
    Ok(())
}

fn failed(address: &str) -> impl FnOnce(annals::client::ClientError) -> Error {
    move |error| Error::Peer {
        reason: format!("{address}: {error}"),
        advice: "is the replica running, is the address right, and are the certificates those of its cluster?",
    }
}

/// Says what came back, and what did not.
fn show(place: &Place, session: &Session, peer: &NodeStatus, fetched: &Fetched) -> Result<Status> {
    let back = merged(&fetched.back);
    let missing: Vec<LsnRange> = fetched.missing.iter().map(|(range, _)| *range).collect();
    let status = if missing.is_empty() && !fetched.is_base_lost { Status::Whole } else { Status::Lost };
    let mut text = match (back.is_empty(), status) {
        (true, Status::Whole) => "Nothing is lost, and nothing was fetched.\n".to_owned(),
        (true, _) => String::new(),
        (false, _) => format!(
            "Back from replica {}: {}, {}.\n",
            peer.id,
            words::plural(words::total(&back), "acknowledged record"),
            words::ranges(&back)
        ),
    };
    if fetched.is_base_lost {
        text.push_str(
            "STILL LOST: the newest snapshot, the file base. No record was fetched: without it they count for nothing.\n",
        );
    }
    for (range, reason) in &fetched.missing {
        let _ = writeln!(text, "STILL LOST: {}: {reason}.", words::records(*range));
    }
    let next = match (fetched.is_base_lost, missing.is_empty()) {
        (true, _) => {
            "start the replica: its primary's snapshot takes the place of the lost one and of the log"
                .to_owned()
        }
        (_, true) => {
            "start the replica: it votes and leads again once it has caught up with its primary".to_owned()
        }
        (_, false) => place.command("repair", "--from-peer ANOTHER --certs DIR"),
    };
    let _ = writeln!(text, "Next: {next}");
    if !missing.is_empty() {
        note("the replica, once it is started, goes on fetching from its primary by itself");
    }
    session.show(place, status, &text, |object| {
        object.insert("peer".to_owned(), peer.id.get().into());
        object.insert("came_back".to_owned(), json::ranges(&back));
        object.insert("came_back_records".to_owned(), words::total(&back).into());
        object.insert("lost".to_owned(), json::ranges(&missing));
        object.insert("base_lost".to_owned(), fetched.is_base_lost.into());
        object.insert("next".to_owned(), next.clone().into());
    })
}

/// The same records in as few ranges as possible; they are rising.
fn merged(ranges: &[LsnRange]) -> Vec<LsnRange> {
    let mut merged: Vec<LsnRange> = vec![];
    for range in ranges {
        match merged.last_mut().filter(|last| last.last.next() == range.first) {
            Some(last) => last.last = range.last,
            None => merged.push(*range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use annals::Lsn;

    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let range = |first, last| LsnRange::new(Lsn::new(first), Lsn::new(last)).unwrap();
        assert_eq!(merged(&[range(1, 2), range(3, 3), range(5, 9)]), [range(1, 3), range(5, 9)]);
        assert_eq!(merged(&[]), []);
    }
}
