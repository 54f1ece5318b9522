//! Names: the old files go aside and the new ones come into their places, and the same backwards.
//!
//! Whatever part of either was done, in whatever order the disk kept the names since the last sync, what is left
//! to do can be told from the names alone: a file goes aside under a name that nothing had before, and a new one
//! waits under a name that nothing has after.

use std::collections::BTreeSet;

use super::journal::{Journal, Noted, changed};
use super::stamp::{Made, Stamp};
use crate::disk::Disk;
use crate::error::{Error, Result};

/// The names in a directory, and the right to change them.
pub(super) struct Names<'a> {
    disk: &'a dyn Disk,
    names: BTreeSet<String>,
}

impl<'a> Names<'a> {
    pub(super) fn read(disk: &'a dyn Disk) -> Result<Names<'a>> {
        let names = disk.list().map_err(|source| Error::io("list files", "", source))?;
        Ok(Names { disk, names: names.into_iter().collect() })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The journals that are in this state, oldest first.
    pub(super) fn journals(&self, state: Made) -> Vec<Stamp> {
        let read = self.names.iter().filter_map(|name| Stamp::read(name));
        let mut stamps: Vec<_> = read.filter(|(_, made)| *made == state).map(|(stamp, _)| stamp).collect();
        stamps.sort();
        stamps
    }

    /// Removes what repairs have left that did not come to their commit, or were undone. The journal of one that
    /// was undone goes last.
    ///
    /// Not while a repair is to be finished: the new files that wait have such names.
    pub(super) fn clear(&mut self) -> Result<()> {
        assert!(self.journals(Made::Pending).is_empty(), "nothing waits");
        for state in [Made::Unfinished, Made::Undone] {
            let left: Vec<_> = self
                .names
                .iter()
                .filter(|name| Stamp::read(name).is_some_and(|read| read.1 == state))
                .cloned()
                .collect();
            for name in &left {
                self.disk.remove(name).map_err(|source| Error::io("remove", name, source))?;
                self.names.remove(name);
            }
            if !left.is_empty() {
                self.sync()?;
            }
        }
        Ok(())
    }

    /// Finishes a repair.
    ///
    /// # Errors
    /// [`Error::ChangedSince`] if a file is missing or in the way; whatever the operating system says. Then it is
    /// to be finished again.
    pub(super) fn finish(&mut self, journal: &Journal) -> Result<()> {
        let stamp = &journal.stamp;
        self.check_whole(journal)?;
        // What was renamed by whoever came to an end before is durable before anything builds on it.
        self.sync()?;
        for old in &journal.old {
            let aside = stamp.aside(&old.name);
            if !self.has(&aside) {
                self.rename(&old.name, &aside)?;
            }
        }
        self.sync()?;
        for new in &journal.new {
            let waiting = stamp.waiting(&new.name);
            if self.has(&waiting) {
                self.rename(&waiting, &new.name)?;
            }
        }
        self.sync()?;
        self.rename(&stamp.pending(), &stamp.done())?;
        self.sync()
    }

    /// Refuses to go on with a repair of which somebody has taken a file away, before anything more is changed.
    fn check_whole(&self, journal: &Journal) -> Result<()> {
        let stamp = &journal.stamp;
        let is_old_gone = |old: &&Noted| !self.has(&stamp.aside(&old.name)) && !self.has(&old.name);
        if let Some(old) = journal.old.iter().find(is_old_gone) {
            return Err(changed(&old.name));
        }
        let is_new_gone =
            |new: &&Noted| !self.has(&stamp.waiting(&new.name)) && !self.is_in_place(journal, new);
        match journal.new.iter().find(is_new_gone) {
            Some(new) => Err(changed(&stamp.waiting(&new.name))),
            None => Ok(()),
        }
    }

    /// Whether a new file has its name: what has it before that may be the old one.
    pub(super) fn is_in_place(&self, journal: &Journal, new: &Noted) -> bool {
        let stamp = &journal.stamp;
        let is_old_aside = || {
            let old = journal.old.iter().find(|old| old.name == new.name);
            old.is_none_or(|old| self.has(&stamp.aside(&old.name)))
        };
        self.has(&new.name) && !self.has(&stamp.waiting(&new.name)) && is_old_aside()
    }

    /// Undoes a repair, or as much of it as was done.
    ///
    /// # Errors
    /// As for [`finish`](Names::finish).
    pub(super) fn undo(&mut self, journal: &Journal) -> Result<()> {
        let stamp = &journal.stamp;
        self.sync()?;
        if self.has(&stamp.done()) {
            self.rename(&stamp.done(), &stamp.pending())?;
            self.sync()?;
        }
        for new in &journal.new {
            if self.is_in_place(journal, new) {
                self.rename(&new.name, &stamp.waiting(&new.name))?;
            }
        }
        self.sync()?;
        for old in &journal.old {
            let aside = stamp.aside(&old.name);
            if self.has(&aside) {
                self.rename(&aside, &old.name)?;
            }
        }
        self.sync()?;
        // From here on there is nothing to be finished, and what waits is worth nothing.
        self.rename(&stamp.pending(), &stamp.undone())?;
        self.sync()?;
        self.clear()
    }

    /// Gives a file a name that nothing has.
    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        if !self.has(from) {
            return Err(changed(from));
        }
        if self.has(to) {
            return Err(changed(to));
        }
        self.disk.rename(from, to).map_err(|source| Error::io("rename", from, source))?;
        self.names.remove(from);
        self.names.insert(to.to_owned());
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.disk.sync_dir().map_err(|source| Error::io("sync", "", source))
    }
}
