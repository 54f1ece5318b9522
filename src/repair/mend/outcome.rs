//! The directory as it will be once a repair is done, to be looked at before that is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::stamp::Stamp;
use crate::disk::{Access, Disk, File, Holder, Lock};
use crate::error::{Error, Result};
use crate::repair::plan::Plan;
use crate::repair::report::{Opening, Report};
use crate::repair::verify::inspect;
use crate::segment::{SUPERBLOCK, StretchKind};

/// A directory in which the new files have their names already, and the old ones are gone. Can only be looked at.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    disk: &'a dyn Disk,
    gone: BTreeSet<&'a str>,
    /// The new files, and what they are called until then.
    come: BTreeMap<&'a str, String>,
}

impl<'a> Outcome<'a> {
    pub(super) fn of(disk: &'a dyn Disk, plan: &'a Plan, stamp: &Stamp) -> Outcome<'a> {
        let new = plan.recipes.iter().map(|recipe| &*recipe.to).chain([SUPERBLOCK]);
        Outcome {
            disk,
            gone: plan.aside.iter().map(|file| &*file.name).collect(),
            come: new.map(|name| (name, stamp.waiting(name))).collect(),
        }
    }

    /// Refuses what the engine would not open, or would have to be repaired once more.
    ///
    /// # Errors
    /// [`Error::NotRepairable`], and whatever the operating system says.
    pub(super) fn check(&self, plan: &Plan) -> Result<()> {
        let report = inspect(self)?;
        let is_as_planned = report.last_lsn == plan.superblock.last_lsn() && report.lost.is_empty();
        match fault(&report) {
            None if is_as_planned => Ok(()),
            file => Err(Error::NotRepairable { file: file.unwrap_or_else(|| SUPERBLOCK.into()) }),
        }
    }
}

/// A file that is not as it should be.
fn fault(report: &Report) -> Option<Arc<str>> {
    let is_damage = |kind| matches!(kind, StretchKind::Rot | StretchKind::Hole);
    if let Some(stretch) = report.stretches.iter().find(|stretch| is_damage(stretch.kind)) {
        return Some(Arc::clone(&stretch.file));
    }
    match &report.opening {
        Opening::Opens => None,
        Opening::Refuses(
            Error::Rot { file, .. } | Error::Hole { file, .. } | Error::ForeignFile { file, .. },
        ) => Some(Arc::clone(file)),
        Opening::Refuses(_) => Some(SUPERBLOCK.into()),
    }
}

impl Disk for Outcome<'_> {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.disk.list()?.into_iter().filter(|name| !self.gone.contains(&**name));
        Ok(names.chain(self.come.keys().map(|name| (*name).to_owned())).collect())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        match (access, self.come.get(name)) {
            (Access::ReadWrite, _) => refused(),
            (Access::Read, Some(waiting)) => self.disk.open(waiting, access),
            (Access::Read, None) if self.gone.contains(name) => Err(io::ErrorKind::NotFound.into()),
            (Access::Read, None) => self.disk.open(name, access),
        }
    }

    fn create(&self, _name: &str) -> io::Result<Arc<dyn File>> {
        refused()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _name: &str) -> io::Result<Lock> {
        refused()
    }

    /// The lock is held by the repair itself.
    fn holder(&self, _name: &str) -> io::Result<Holder> {
        Ok(Holder::Nobody)
    }

    fn entropy(&self) -> u64 {
        self.disk.entropy()
    }

    fn wall_ms(&self) -> u64 {
        self.disk.wall_ms()
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}
