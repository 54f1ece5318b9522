//! Whose directory it is, and where the others are found.
//!
//! The superblock names the replica and its disk. Beside it, the file [`PEERS`] names the cluster and remembers the
//! addresses of the others, because the log does not: they may change without a record.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::sync::Arc;

use super::error::{ReplicaError, Result};
use super::store::{ReplicaStore, find_while_there};
use crate::disk::{Access, Disk};
use crate::error::Error;
use crate::format::crc32;
use crate::log::superblock_file::SuperblockFile;
use crate::protocol::{Base, Member};
use crate::types::{ClusterId, DiskId, ReplicaId};

/// The file with the cluster's id and the others' addresses: lines of text, the last one a checksum of those before.
pub(crate) use crate::segment::PEERS;
/// A longer file is not one of these.
const PEERS_BYTES_MAX: u64 = 1 << 20;

/// What the file [`PEERS`] says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Peers {
    /// 0 if the file is lost.
    pub(crate) cluster: ClusterId,
    pub(crate) addresses: BTreeMap<ReplicaId, String>,
}

/// The id of the disk that a replica begins a cluster with: it follows from their ids, so that each replica knows those
/// of all.
pub(crate) fn first_disk(cluster: ClusterId, id: ReplicaId) -> DiskId {
    // Mixes well enough that no two come out the same (splitmix64, Steele et al. 2014, on each half).
    let mix = |seed: u64| {
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let (high, low) = ((cluster.get() >> 64) as u64, cluster.get() as u64);
    let high = mix(mix(high) ^ id.get());
    let low = mix(mix(low ^ high).wrapping_add(id.get()));
    DiskId::new(u128::from(high) << 64 | u128::from(low))
}

/// Makes the directory of a replica.
pub(crate) fn create(disk: &Arc<dyn Disk>, cluster: ClusterId, me: Member, base: &Base) -> Result<()> {
    if !is_blank(&**disk)? {
        return Err(Error::NotEmpty.into());
    }
    Peers { cluster, addresses: BTreeMap::new() }.store(&**disk)?;
    Ok(ReplicaStore::create(&**disk, me, base)?)
}

/// Whether nobody has made this directory a replica's.
pub(crate) fn is_blank(disk: &dyn Disk) -> Result<bool> {
    match SuperblockFile::read(disk) {
        Ok(found) => Ok(found.is_none()),
        Err(Error::SuperblockDamaged) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whose directory it is.
///
/// # Errors
/// [`ReplicaError::Blank`] if nobody's, [`ReplicaError::OtherReplica`] and [`ReplicaError::OtherCluster`] if somebody
/// else's.
pub(crate) fn check(disk: &dyn Disk, cluster: ClusterId, id: ReplicaId) -> Result<(Member, Peers)> {
    let found = match SuperblockFile::read(disk) {
        Ok(Some(found)) => found.superblock,
        Ok(None) | Err(Error::SuperblockDamaged) => return Err(ReplicaError::Blank { id }),
        Err(error) => return Err(error.into()),
    };
    if found.replica_id != id {
        return Err(ReplicaError::OtherReplica { asked: id, found: found.replica_id });
    }
    let peers = Peers::load(disk)?.unwrap_or(Peers { cluster, ..Peers::default() });
    if peers.cluster != cluster {
        return Err(ReplicaError::OtherCluster { asked: cluster, found: peers.cluster });
    }
    Ok((Member { id, disk: DiskId::new(found.log_id.get()) }, peers))
}

impl Peers {
    /// What the file says; `None` if there is none that checks: addresses can be given anew.
    ///
    /// # Errors
    /// Also if the disk seems to be away: what it has learned of the others would be written over.
    pub(crate) fn load(disk: &dyn Disk) -> Result<Option<Peers>> {
        let bytes = find_while_there(disk, || Peers::read(disk))?;
        Ok(bytes.and_then(|bytes| Peers::parse(std::str::from_utf8(&bytes).ok()?)))
    }

    /// What is in the file; `None` if there is none of this kind.
    fn read(disk: &dyn Disk) -> crate::error::Result<Option<Vec<u8>>> {
        let file = match disk.open(PEERS, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| Error::io("open", PEERS, source))?,
        };
        let length = file.bytes().map_err(|source| Error::io("look at", PEERS, source))?;
        if length > PEERS_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).expect("bounded")];
        let there = file.read_at(&mut bytes, 0).map_err(|source| Error::io("read", PEERS, source))?;
        bytes.truncate(there);
        Ok(Some(bytes))
    }

    /// Stores the file, durably, as a whole or not at all.
    pub(crate) fn store(&self, disk: &dyn Disk) -> Result<()> {
        let unfinished = format!("{PEERS}.tmp");
        let io = |doing| move |source| Error::io(doing, PEERS, source);
        match disk.remove(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("remove")(error).into()),
            _ => {}
        }
        let file = disk.create(&unfinished).map_err(io("create"))?;
        file.write_at(self.to_text().as_bytes(), 0).map_err(io("write"))?;
        file.sync().map_err(io("sync"))?;
        disk.rename(&unfinished, PEERS).map_err(io("rename"))?;
        disk.sync_dir().map_err(io("sync"))?;
        Ok(())
    }

    fn to_text(&self) -> String {
        let mut text = format!("cluster {}\n", self.cluster);
        for (id, address) in &self.addresses {
            let _ = writeln!(text, "{id} {address}");
        }
        let checksum = crc32(text.as_bytes());
        let _ = writeln!(text, "crc {checksum:08x}");
        text
    }

    fn parse(text: &str) -> Option<Peers> {
        let (body, checksum) = text.trim_end_matches('\n').rsplit_once('\n')?;
        let stated = u32::from_str_radix(checksum.strip_prefix("crc ")?, 16).ok()?;
        if stated != crc32(&[body.as_bytes(), b"\n"].concat()) {
            return None;
        }
        let mut lines = body.lines();
        let cluster = u128::from_str_radix(lines.next()?.strip_prefix("cluster ")?, 16).ok()?;
        let address = |line: &str| {
            let (id, address) = line.split_once(' ')?;
            Some((ReplicaId::new(id.parse().ok()?), address.to_owned()))
        };
        Some(Peers {
            cluster: ClusterId::new(cluster),
            addresses: lines.map(address).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fail, Fault, Operation, SimDisk};

    #[test]
    fn addresses_are_there_after_they_were_stored_and_damage_to_them_is_noticed() {
        let addresses = [(1, "one:1"), (3, "[::1]:3")];
        let addresses = addresses.map(|(id, address)| (ReplicaId::new(id), address.to_owned()));
        let peers = Peers { cluster: ClusterId::new(77), addresses: addresses.into() };
        let text = peers.to_text();
        assert_eq!(Peers::parse(&text), Some(peers));
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            let damaged = String::from_utf8(damaged).expect("it is ASCII");
            let is_noticed = Peers::parse(&damaged).is_none();
            // The letters of a number may be written either way.
            assert!(is_noticed || damaged.eq_ignore_ascii_case(&text), "{damaged}");
        }
    }

    /// Else what was learned of the others would be written over.
    #[test]
    fn addresses_are_not_forgotten_because_the_disk_is_away() {
        let addresses = [(ReplicaId::new(1), "one:1".to_owned())];
        let peers = Peers { cluster: ClusterId::new(77), addresses: addresses.into() };
        let disk = SimDisk::new(1);
        assert_eq!(Peers::load(&disk).unwrap(), None);
        peers.store(&disk).unwrap();
        for reads in 1..=3 {
            (1..=reads).for_each(|nth| disk.fail(Fail::nth(Operation::Read, nth, Fault::Io)));
            assert_eq!(Peers::load(&disk).unwrap().as_ref(), Some(&peers), "after {reads} reads that fail");
            disk.heal();
        }
        disk.fail(Fail::nth(Operation::Read, 1, Fault::Io).and_later());
        let error = Peers::load(&disk).unwrap_err().to_string();
        assert!(error.contains("seems to be away"), "{error}");
        disk.heal();
        assert_eq!(Peers::load(&disk).unwrap(), Some(peers));
    }

    #[test]
    fn no_two_disks_of_a_young_cluster_are_the_same() {
        let mut seen = std::collections::BTreeSet::new();
        for cluster in 0..100_u128 {
            for id in 0..100 {
                assert!(seen.insert(first_disk(ClusterId::new(cluster << 60), ReplicaId::new(id))));
            }
        }
    }
}
