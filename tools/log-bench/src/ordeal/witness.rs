//! All records of a cluster, as they were read once; and whether all replicas still have the same.

use std::hash::{DefaultHasher, Hasher};
use std::thread;
use std::time::Instant;

use annals::client::{Client, ClientError, Target};
use annals::protocol::request::NodeStatus;
use annals::{Lsn, ReplicaId};

use crate::cluster::load::read_all;
use crate::cluster::{HANG, PAUSE};
use crate::error::{Error, Result};
use crate::progress;

/// Bytes of frames that are asked for at once.
const FRAMES_BYTES: u32 = 1 << 20;

/// All client records up to some LSN.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    records: Vec<(u64, Vec<u8>)>,
    through: Lsn,
}

impl Witness {
    /// Reads on from the primary, up to this record.
    pub(crate) fn read_on(&mut self, client: &Client, last: Lsn) -> Result<()> {
        self.records.extend(read_all(client, Target::Primary, self.through.next(), last)?);
        self.through = self.through.max(last);
        Ok(())
    }

    /// Everything up to here was read.
    pub(crate) fn through(&self) -> Lsn {
        self.through
    }

    /// The records: LSN and bytes of each.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.records.iter().map(|(lsn, bytes)| (*lsn, &bytes[..]))
    }
}

/// Compares the logs of all replicas up to this record, byte for byte as they are stored: what all of them have kept.
pub(crate) fn compare_replicas(client: &Client, ids: &[ReplicaId], last: Lsn) -> Result<()> {
    let mut first = Lsn::FIRST;
    for id in ids {
        let status = wait_for(client, *id, |status| status.committed >= last)?;
        first = first.max(status.first);
    }
    let mut digests = Vec::new();
    for id in ids {
        digests.push(digest(client, *id, first, last)?);
    }
    match digests.iter().zip(ids).find(|(digest, _)| **digest != digests[0]) {
        None => Ok(()),
        Some((_, id)) => {
            let left = format!("from {first} to {last} replica {id} has other bytes than replica {}", ids[0]);
            Err(Error::Child { doing: "being the same everywhere", left })
        }
    }
}

/// The status of this replica, once it is so.
pub(crate) fn wait_for(
    client: &Client,
    id: ReplicaId,
    is_so: impl Fn(&NodeStatus) -> bool,
) -> Result<NodeStatus> {
    let began = Instant::now();
    loop {
        progress::check_stopped()?;
        match client.status(Target::Replica(id)).wait() {
            Ok(status) if is_so(&status) => return Ok(status),
            _ if began.elapsed() < HANG => thread::sleep(PAUSE),
            last => {
                let left = last.map_or_else(|error| error.to_string(), |status| format!("{status:?}"));
                return Err(Error::Child { doing: "following the primary", left });
            }
        }
    }
}

/// A digest over the frames of a replica: its own records, and those of the protocol.
fn digest(client: &Client, id: ReplicaId, first: Lsn, last: Lsn) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    let mut next = first;
    let began = Instant::now();
    while next <= last {
        progress::check_stopped()?;
        match client.frames(Target::Replica(id), next..=last, FRAMES_BYTES).wait() {
            Ok(frames) => {
                hasher.write(&frames.bytes);
                next = frames.range.last.next();
            }
            // It may just be opening its log again.
            Err(ClientError::NotPossible { .. }) if began.elapsed() < HANG => thread::sleep(PAUSE),
            Err(error) => return Err(Error::cluster("read frames from")(error)),
        }
    }
    Ok(hasher.finish())
}
