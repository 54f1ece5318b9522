//! Carrying a plan out, and taking it back.
//!
//! No file that was found is ever written to. New files are made whole under names of their own; then a journal says
//! which files go aside and which come, and from the moment that it is durable the repair is to be finished, or
//! undone: both are renames only, told from the names themselves, so that a crash between any two of them does no
//! harm. Before that moment nothing has changed.

mod journal;
mod outcome;
mod place;
mod stamp;

#[cfg(feature = "sim")]
pub use self::journal::check_journal;

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use self::journal::{Journal, Noted, changed};
use self::outcome::Outcome;
use self::place::Names;
use self::stamp::{Made, Stamp};
use super::plan::{Plan, SuperblockRecipe};
use super::rebuild::{self, Beside, Built, Recipe};
use super::watch::Watch;
use crate::disk::{Access, BLOCK_BYTES, Disk, File, Lock};
use crate::error::{Error, Result};
use crate::format::SUPERBLOCK_BYTES;
use crate::segment::{LOCK, SUPERBLOCK};
use crate::types::LsnRange;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What a repair has done.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The journal's name, whose stem the names of the quarantined files begin with; `None` if there was
    /// nothing to do.
    pub journal: Option<String>,
    /// Whether this finished a repair that was interrupted.
    pub is_resumed: bool,
    /// Records that were given up.
    pub gave_up: Vec<LsnRange>,
    /// What of the quarantined files could not be read.
    pub unread: Vec<Unread>,
}

/// A part of a quarantined file that could not be read when it was put aside: it is there, but nobody knows what it
/// holds, and [`undo`] cannot compare it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    /// The file, by the name that it has in the quarantine.
    pub file: String,
    /// The bytes: whole blocks of the disk.
    pub bytes: Range<u64>,
}

/// What was taken back.
#[derive(Clone, Debug)]
pub struct Undone {
    /// The journal of the repair.
    pub journal: String,
    /// The files that are again what they were.
    pub files: Vec<String>,
}

/// Carries out `plan`, or finishes a repair that was interrupted (the plan is then not looked at).
///
/// `accept_loss` has to be the number of acknowledged records that the plan gives up, if it gives any up. Takes the
/// writer's lock. Durable when it returns. A crash at any point leaves a log that this, or [`undo`], takes up.
///
/// Needs as much space as the plan's new files take. Nothing of the log is changed before all of them are whole.
///
/// # Errors
/// [`Error::InUse`]; [`Error::LossNotAccepted`] if `accept_loss` is another number; [`Error::Outdated`] if the log
/// was changed since the plan was made; [`Error::ChangedSince`] if a repair was interrupted and one of its new files is
/// not what was made: [`undo`] it then; [`Error::NotRepairable`]; [`Error::NoSpace`], with nothing changed;
/// [`Error::TimedOut`] if the watcher gives up, with nothing changed; whatever the operating system says.
pub fn repair(
    disk: &Arc<dyn Disk>,
    plan: &Plan,
    accept_loss: Option<u64>,
    watch: &dyn Watch,
) -> Result<Repaired> {
    let disk = &**disk;
    let _lock = lock(disk)?;
    let mut names = Names::read(disk)?;
    if let Some(stamp) = names.journals(Made::Pending).pop() {
        let journal = Journal::read(disk, &stamp.pending(), stamp)?;
        check_new(disk, &names, &journal)?;
        names.finish(&journal)?;
        return Ok(Repaired::of(journal, true));
    }
    names.clear()?;
    if plan.steps.is_empty() {
        return Ok(Repaired { journal: None, is_resumed: false, gave_up: vec![], unread: vec![] });
    }
    let lost = plan.gives_up.iter().map(LsnRange::records).sum();
    if accept_loss.unwrap_or(0) != lost {
        return Err(Error::LossNotAccepted { lost, accepted: accept_loss });
    }
    plan.check_still_fits(disk)?;
    let list = disk.list().map_err(|source| Error::io("list files", "", source))?;
    let stage = Stage::new(disk, Stamp::after(&list, disk.wall_ms()), watch);
    let journal = stage.prepare(plan).and_then(|journal| stage.commit(&journal).map(|()| journal));
    match journal {
        Ok(journal) => {
            Names::read(disk)?.finish(&journal)?;
            Ok(Repaired::of(journal, false))
        }
        Err(error) => {
            stage.abandon();
            Err(error)
        }
    }
}

/// Puts back what the last repair has changed, exactly; also one that was interrupted.
///
/// Takes the writer's lock. Durable when it returns. A crash at any point leaves a log that this, or [`repair`],
/// takes up.
///
/// # Errors
/// [`Error::InUse`]; [`Error::NothingToUndo`]; [`Error::ChangedSince`] if the log was opened for writing since, or a
/// file in the quarantine is not what it was; whatever the operating system says.
pub fn undo(disk: &Arc<dyn Disk>) -> Result<Undone> {
    let disk = &**disk;
    let _lock = lock(disk)?;
    let mut names = Names::read(disk)?;
    let pending = names.journals(Made::Pending).pop();
    if pending.is_none() {
        if let Some(stamp) = names.journals(Made::Undone).pop() {
            let journal = Journal::read(disk, &stamp.undone(), stamp);
            names.clear()?;
            return journal.map(Undone::of);
        }
        names.clear()?;
    }
    let journal = match (pending, names.journals(Made::Done).pop()) {
        (Some(stamp), _) => Journal::read(disk, &stamp.pending(), stamp)?,
        (None, Some(stamp)) => Journal::read(disk, &stamp.done(), stamp)?,
        (None, None) => return Err(Error::NothingToUndo),
    };
    check_unchanged(disk, &names, &journal)?;
    names.undo(&journal)?;
    Ok(Undone::of(journal))
}

impl Repaired {
    fn of(journal: Journal, is_resumed: bool) -> Repaired {
        let Journal { stamp, old, gave_up, .. } = journal;
        let unread = old.into_iter().flat_map(|Noted { name, unread, .. }| {
            let file = stamp.aside(&name);
            unread.into_iter().map(move |bytes| Unread { file: file.clone(), bytes })
        });
        Repaired { journal: Some(stamp.done()), is_resumed, gave_up, unread: unread.collect() }
    }
}

impl Undone {
    fn of(journal: Journal) -> Undone {
        let files = journal.old.into_iter().map(|old| old.name).collect();
        Undone { journal: journal.stamp.done(), files }
    }
}

fn lock(disk: &dyn Disk) -> Result<Box<dyn Send + Sync + std::fmt::Debug>> {
    match disk.lock(LOCK).map_err(|source| Error::io("lock", LOCK, source))? {
        Lock::Held(lock) => Ok(lock),
        Lock::Taken(owner) => Err(Error::InUse { owner }),
    }
}

/// Refuses to go on with a repair whose new files are not what was made: somebody was there in between. It can still be
/// undone.
fn check_new(disk: &dyn Disk, names: &Names<'_>, journal: &Journal) -> Result<()> {
    for new in &journal.new {
        let waiting = journal.stamp.waiting(&new.name);
        let name = if names.has(&waiting) { &waiting } else { &new.name };
        // One that is gone is told of before anything is renamed.
        let is_there = names.has(&waiting) || names.is_in_place(journal, new);
        if is_there && !is_as_noted(disk, name, new)? {
            return Err(changed(name));
        }
    }
    Ok(())
}

/// Whether the file that is called `name` now holds what was noted. What could not be read as a whole has no sum to be
/// compared.
fn is_as_noted(disk: &dyn Disk, name: &str, noted: &Noted) -> Result<bool> {
    let now = Noted::of(disk, (name, &noted.name), &|_| Ok(()))?;
    Ok(now.bytes == noted.bytes && (noted.sum.is_none() || now.sum == noted.sum))
}

/// Refuses to undo a repair whose files are not what they were when it was done.
fn check_unchanged(disk: &dyn Disk, names: &Names<'_>, journal: &Journal) -> Result<()> {
    let stamp = &journal.stamp;
    // While it is to be finished nobody has used a new file: one that is gone, or not what was made, is no loss.
    let is_pending = names.has(&stamp.pending());
    let new = journal.new.iter().filter(|_| !is_pending);
    let new = new.map(|new| (new, stamp.waiting(&new.name)));
    let old = journal.old.iter().map(|old| (old, stamp.aside(&old.name)));
    for (noted, moved) in new.chain(old) {
        let name = if names.has(&moved) { &moved } else { &noted.name };
        if !names.has(name) {
            return Err(changed(name));
        }
        if !is_as_noted(disk, name, noted)? {
            return Err(changed(name));
        }
    }
    Ok(())
}

impl Noted {
    /// Reads a file that was just made: all of it can be read, or it is none to rely on.
    fn of_new(
        disk: &dyn Disk,
        (now, name): (&str, &str),
        progress: &dyn Fn(u64) -> Result<()>,
    ) -> Result<Noted> {
        let noted = Noted::of(disk, (now, name), progress)?;
        let unreadable = || Error::io("read", now, io::Error::other("what was just written cannot be read"));
        if noted.sum.is_some() { Ok(noted) } else { Err(unreadable()) }
    }

    /// Reads the file that is called `now`, and is to be noted as `name`.
    fn of(disk: &dyn Disk, (now, name): (&str, &str), progress: &dyn Fn(u64) -> Result<()>) -> Result<Noted> {
        let io = |doing| move |source| Error::io(doing, now, source);
        let file = disk.open(now, Access::Read).map_err(io("open"))?;
        let bytes = file.bytes().map_err(io("look at"))?;
        let mut chunk = vec![0; bytes.min(CHUNK_BYTES as u64) as usize];
        let mut hasher = crc32fast::Hasher::new();
        let mut unread = Vec::new();
        let mut at = 0;
        while at < bytes {
            let length = (bytes - at).min(CHUNK_BYTES as u64) as usize;
            match file.read_at(&mut chunk[..length], at) {
                Ok(there) => hasher.update(&chunk[..there]),
                Err(error) if is_bad_block(&error) => bad_blocks(&*file, at..at + length as u64, &mut unread),
                Err(error) => return Err(io("read")(error)),
            }
            progress(length as u64)?;
            at += length as u64;
        }
        let sum = unread.is_empty().then(|| hasher.finalize());
        Ok(Noted { name: name.to_owned(), bytes, sum, unread })
    }
}

/// Adds to `unread` what cannot be read of a part of a file that cannot be read as a whole.
fn bad_blocks(file: &dyn File, part: Range<u64>, unread: &mut Vec<Range<u64>>) {
    let before = unread.len();
    let mut block = [0; BLOCK_BYTES];
    for start in part.clone().step_by(BLOCK_BYTES) {
        let end = part.end.min(start + BLOCK_BYTES as u64);
        if file.read_at(&mut block[..(end - start) as usize], start).is_err() {
            match unread.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => unread.push(start..end),
            }
        }
    }
    // It has come to itself, but what it says now and then is not to be relied on.
    let is_told = unread.len() > before || unread.last().is_some_and(|last| last.end > part.start);
    if !is_told {
        unread.push(part);
    }
}

/// Whether the device cannot read it, which is what the repair is for.
fn is_bad_block(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
    )
}

/// What is known of the segments beside the one at `index`.
fn beside(recipes: &[Recipe], built: &[Option<Built>], index: usize) -> Beside {
    let left = index.checked_sub(1).and_then(|left| built[left]).map(|left| left.digest);
    let right = recipes.get(index + 1).map(|recipe| match built[index + 1] {
        Some(right) => right.previous_digest,
        None => recipe.previous_digest(None),
    });
    Beside { left, right }
}

/// The new files of a repair while they are made.
struct Stage<'a> {
    disk: &'a dyn Disk,
    stamp: Stamp,
    watch: &'a dyn Watch,
    told: Cell<u64>,
}

impl<'a> Stage<'a> {
    fn new(disk: &'a dyn Disk, stamp: Stamp, watch: &'a dyn Watch) -> Stage<'a> {
        Stage { disk, stamp, watch, told: Cell::new(0) }
    }

    /// Makes all new files, durably but for their names.
    fn prepare(&self, plan: &Plan) -> Result<Journal> {
        let aside_bytes: u64 = plan.aside.iter().map(|file| file.bytes).sum();
        // Written, looked at, and read back.
        self.watch.begin(aside_bytes + 3 * plan.new_bytes);
        let progress = |bytes| self.advance(bytes);
        let recipes = &plan.recipes;
        let mut built: Vec<Option<Built>> = vec![None; recipes.len()];
        for index in rebuild::order(recipes) {
            let beside = beside(recipes, &built, index);
            let waiting = self.stamp.waiting(&recipes[index].to);
            built[index] = Some(recipes[index].build(self.disk, (waiting, beside), &|_| self.advance(0))?);
            self.advance(recipes[index].new_bytes())?;
        }
        let mut new = Vec::with_capacity(recipes.len() + 1);
        for recipe in recipes {
            let waiting = self.stamp.waiting(&recipe.to);
            recipe.check(self.disk, &waiting, &progress)?;
            new.push(Noted::of_new(self.disk, (&waiting, &recipe.to), &progress)?);
        }
        let waiting = self.stamp.waiting(SUPERBLOCK);
        plan.superblock.write(self.disk, &waiting)?;
        new.push(Noted::of_new(self.disk, (&waiting, SUPERBLOCK), &progress)?);
        Outcome::of(self.disk, plan, &self.stamp).check(plan)?;
        let old: Result<_> =
            plan.aside.iter().map(|file| Noted::of(self.disk, (&file.name, &file.name), &progress)).collect();
        Ok(Journal { stamp: self.stamp.clone(), old: old?, new, gave_up: plan.gives_up.clone() })
    }

    /// Decides that the repair is to be done.
    fn commit(&self, journal: &Journal) -> Result<()> {
        let unfinished = self.stamp.unfinished();
        let io = |doing| {
            let unfinished = unfinished.clone();
            move |source| Error::io(doing, &unfinished, source)
        };
        let file = self.disk.create(&unfinished).map_err(io("create"))?;
        file.write_at(journal.encode().as_bytes(), 0).map_err(io("write"))?;
        file.sync().map_err(io("sync"))?;
        // The new files have their names before anything counts on them.
        self.disk.sync_dir().map_err(io("sync"))?;
        self.disk.rename(&unfinished, &self.stamp.pending()).map_err(io("rename"))?;
        self.disk.sync_dir().map_err(io("sync"))
    }

    /// Removes what was made, unless it was decided that it counts. The error that led to it is the one to tell.
    fn abandon(&self) {
        let Ok(mut names) = Names::read(self.disk) else { return };
        if names.journals(Made::Pending).is_empty() {
            let _ = names.clear();
        }
    }

    fn advance(&self, bytes: u64) -> Result<()> {
        if self.watch.is_given_up() {
            return Err(Error::TimedOut);
        }
        // At most once for each MiB.
        let told = self.told.get() + bytes;
        if told >= CHUNK_BYTES as u64 {
            self.watch.advance(told);
            self.told.set(0);
        } else {
            self.told.set(told);
        }
        Ok(())
    }
}

impl SuperblockRecipe {
    /// Writes the superblock's file under this name, durably but for the name.
    pub(super) fn write(&self, disk: &dyn Disk, name: &str) -> Result<()> {
        let io = |doing| move |source| Error::io(doing, name, source);
        let file = disk.create(name).map_err(io("create"))?;
        file.allocate(SUPERBLOCK_BYTES as u64).map_err(io("reserve space for"))?;
        // Both slots say the same: either may be lost.
        for superblock in self.slots(&*file) {
            let mut bytes = vec![0; superblock.used_bytes()];
            superblock.encode_into(&mut bytes);
            file.write_at(&bytes, superblock.position()).map_err(io("write"))?;
        }
        file.sync().map_err(io("sync"))
    }
}
