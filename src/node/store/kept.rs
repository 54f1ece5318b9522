//! Snapshots that were the base before, and stay under names of their own: for people alone, nothing here reads them.
//!
//! So nothing depends on them either: what cannot be kept is told, and is no failure.

use std::io;

use super::open::list;
use super::snapshots::{BASE, Head, open};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::log::store::Files;
use crate::node::observe;
use crate::segment::{FileName, kept_name};
use crate::types::{LogId, Lsn};

/// What a snapshot is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    pub(super) log_id: LogId,
    pub(super) lsn: Lsn,
}

/// Makes the synced snapshot `name`, of `new`, the base. Of those before it as many stay as make `snapshots_kept` with it.
///
/// There is a base in every moment: the old one gets another name before the new one takes the one that it had, and what is
/// removed is removed once that is durable.
///
/// # Errors
/// Whatever the operating system says of the base, and of a sync.
pub(super) fn become_base(files: &Files, name: &str, new: Of, snapshots_kept: usize) -> Result<()> {
    if snapshots_kept > 1 {
        keep(&*files.disk, new).unwrap_or_else(|error| observe::not_kept(&error));
    }
    files.rename(name, BASE)?;
    files.sync_dir()?;
    // Also where none is kept: without a base none was removed when the store was opened.
    remove_surplus(files, new, snapshots_kept)
}

/// Gives the base the name under which it stays when `new` takes its place.
fn keep(disk: &dyn Disk, new: Of) -> Result<()> {
    let Some(file) = open(disk, BASE, Access::Read)? else { return Ok(()) };
    let head = Head::read(&*file, BASE)?.filter(|head| head.log_id == new.log_id);
    let lsn = head.map_or(Lsn::ZERO, |head| head.offer.base.position.lsn);
    // What a log begins with is no snapshot.
    if lsn == Lsn::ZERO || lsn == new.lsn {
        return Ok(());
    }
    let name = kept_name(lsn);
    let linked = match disk.link(BASE, &name) {
        // Kept before a crash in the same place, or of a base that was lost since.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(&name).and_then(|()| disk.link(BASE, &name))
        }
        linked => linked,
    };
    linked.map_err(|source| Error::io("keep", &name, source))
}

/// Removes those that are more than make `snapshots_kept` with the base: the oldest, and before them those of an earlier life
/// of the directory. Also what a crash has left the base itself as a second name.
///
/// # Errors
/// Whatever the operating system says of the sync: one that fails must be known to all (S12).
pub(super) fn remove_surplus(files: &Files, base: Of, snapshots_kept: usize) -> Result<()> {
    match try_to_remove(&*files.disk, base, snapshots_kept) {
        Ok(false) => Ok(()),
        Ok(true) => files.sync_dir(),
        Err(error) => {
            observe::not_kept(&error);
            Ok(())
        }
    }
}

/// Whether there was any.
fn try_to_remove(disk: &dyn Disk, base: Of, snapshots_kept: usize) -> Result<bool> {
    let (mut surplus, mut kept) = (Vec::new(), Vec::new());
    for name in list(disk)? {
        let FileName::Kept(lsn) = FileName::of(&name) else { continue };
        match is_of(disk, &name, base.log_id) {
            true if lsn == base.lsn => surplus.push(name),
            is_own => kept.push((is_own, lsn, name)),
        }
    }
    kept.sort();
    let more = kept.len().saturating_sub(snapshots_kept.saturating_sub(1));
    surplus.extend(kept.drain(..more).map(|(_, _, name)| name));
    for name in &surplus {
        disk.remove(name).map_err(|source| Error::io("remove", name, source))?;
    }
    Ok(!surplus.is_empty())
}

/// Whether its head says that it is of this log.
fn is_of(disk: &dyn Disk, name: &str, log_id: LogId) -> bool {
    let head = open(disk, name, Access::Read)
        .and_then(|file| file.map_or(Ok(None), |file| Head::read(&*file, name)));
    head.is_ok_and(|head| head.is_some_and(|head| head.log_id == log_id))
}
