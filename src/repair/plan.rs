//! What a repair would do.

mod draft;
mod fingerprint;
mod pieces;
mod superblock;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::draft::Draft;
pub(super) use self::draft::{begun_in, damage_by_file};
use self::fingerprint::Fingerprint;
pub(super) use self::pieces::readable_pieces;
pub(super) use self::superblock::SuperblockRecipe;
use super::rebuild::Recipe;
use super::report::{FileRole, Report};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{SUPERBLOCK_BYTES, SegmentHeader};
use crate::segment::{Correction, SUPERBLOCK};
use crate::types::{LogId, LsnRange};

/// The steps of a repair, in the order in which they are done.
///
/// What an open does by itself, such as discarding what was never acknowledged, is no step.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The log.
    pub log_id: LogId,
    /// What is to be done; nothing if the log is whole.
    pub steps: Vec<Step>,
    /// The acknowledged records that will be given up for good: their LSNs stay taken, and reading one says
    /// that it is lost.
    pub gives_up: Vec<LsnRange>,
    /// Bytes of new files.
    pub new_bytes: u64,
    /// How the new segments come about, in the order of their LSNs.
    pub(super) recipes: Vec<Recipe>,
    pub(super) superblock: SuperblockRecipe,
    /// The files that go into the quarantine.
    pub(super) aside: Vec<Aside>,
    fingerprint: Fingerprint,
}

/// A file that goes into the quarantine.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    pub(super) name: Arc<str>,
    pub(super) bytes: u64,
}

/// One step. Each makes a new file and puts it in the place of an old one, which goes into the quarantine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Flipped bits are put right: nothing is lost.
    Correct {
        /// The file.
        file: Arc<str>,
        /// The bits.
        corrections: Vec<Correction>,
    },
    /// The header or the footer of a segment is written anew from what the rest of the log says: nothing is lost.
    Reseal {
        /// The file.
        file: Arc<str>,
        /// The header that it will have.
        header: SegmentHeader,
    },
    /// A segment is written anew from its readable records; in the place of others it says that they are lost.
    Rebuild {
        /// The file.
        file: Arc<str>,
        /// The header that it will have, but for its incarnation.
        header: SegmentHeader,
        /// The records in it.
        lsns: LsnRange,
        /// Those that are lost.
        gives_up: Vec<LsnRange>,
    },
    /// A segment is written in the place of a missing one, which says that its records are lost.
    Bridge {
        /// The new file.
        file: Arc<str>,
        /// The header that it will have, but for its incarnation.
        header: SegmentHeader,
        /// The records.
        lsns: LsnRange,
    },
    /// A segment gets the name that its header says.
    Rename {
        /// The name that it has.
        from: Arc<str>,
        /// The name that it gets.
        to: Arc<str>,
    },
    /// A file that is no part of the log goes into the quarantine.
    SetAside {
        /// The file.
        file: Arc<str>,
        /// What it is.
        role: FileRole,
    },
    /// The superblock is written anew. If both slots are damaged, the mark and the vote in them are lost, and
    /// the trim point is taken to be where the segments begin.
    Superblock {
        /// Whether it has to be made from the segments alone.
        is_from_segments: bool,
    },
}

/// Says what a repair of the log would do. Changes nothing.
///
/// The report has to be one of [`verify`](super::verify), of the log as it is. If a repair was interrupted, there is
/// nothing to plan: the plan is empty, [`repair`](super::repair) finishes that one, and a report of
/// [`inspect`](super::inspect) will do.
///
/// # Errors
/// [`Error::NotALog`] if nothing is left to repair; [`Error::InUse`] if the report was made beside a writer;
/// [`Error::Outdated`] if it is about another state of the log; [`Error::NotRepairable`] if what is left does not
/// fit together: [`salvage`](super::salvage) what is readable then; whatever the operating system says.
///
/// # Panics
/// If the report is one of [`inspect`](super::inspect), which does not know what can be read, and no repair was
/// interrupted.
pub fn plan(disk: &dyn Disk, report: &Report) -> Result<Plan> {
    let is_unfinished = report.unfinished_repair.is_some();
    assert!(report.is_verified || is_unfinished, "a plan is made of what can be read");
    if let Some(owner) = report.writer {
        return Err(Error::InUse { owner });
    }
    let log_id = match report.log_id {
        Some(log_id) => log_id,
        None if is_unfinished => LogId::default(),
        None => return Err(Error::NotALog),
    };
    let fingerprint = Fingerprint::take(disk)?;
    let superblock = SuperblockRecipe::of(disk, report, log_id)?;
    let mut plan = Plan {
        log_id,
        steps: vec![],
        gives_up: vec![],
        new_bytes: 0,
        recipes: vec![],
        superblock,
        aside: vec![],
        fingerprint,
    };
    if is_unfinished || report.is_whole() {
        return Ok(plan);
    }
    plan.fingerprint.check_report(disk, report)?;
    // No frame can have this LSN, so none can say that it is lost.
    if report.last_lsn.get() == u64::MAX {
        return Err(Error::NotRepairable { file: SUPERBLOCK.into() });
    }
    let Draft { steps, recipes, aside } = Draft::of(disk, report)?;
    (plan.steps, plan.recipes) = (steps, recipes);
    plan.put_aside(disk, report, &aside)?;
    plan.steps.push(Step::Superblock { is_from_segments: plan.superblock.is_from_segments });
    plan.gives_up = given_up(&plan.recipes, report);
    plan.new_bytes = plan.recipes.iter().map(Recipe::new_bytes).sum::<u64>() + SUPERBLOCK_BYTES as u64;
    Ok(plan)
}

impl Plan {
    /// # Errors
    /// [`Error::Outdated`] if the directory is not what it was when the plan was made.
    pub(super) fn check_still_fits(&self, disk: &dyn Disk) -> Result<()> {
        self.fingerprint.check(&Fingerprint::take(disk)?)
    }

    /// Notes the files that go into the quarantine: those that new ones are made of, those that are in the way, and
    /// the superblock.
    fn put_aside(&mut self, disk: &dyn Disk, report: &Report, replaced: &[Arc<str>]) -> Result<()> {
        let mut names: Vec<Arc<str>> = replaced.to_vec();
        let replaced: BTreeSet<&str> = replaced.iter().map(|name| &**name).collect();
        let is_replaced = |file: &str| replaced.contains(file);
        let taken: BTreeSet<&str> = self.recipes.iter().map(|recipe| &*recipe.to).collect();
        for stray in report.strays.iter().filter(|stray| !is_replaced(&stray.file)) {
            if taken.contains(&*stray.file) || draft::is_in_the_way(disk, stray, report)? {
                names.push(Arc::clone(&stray.file));
                self.steps.push(Step::SetAside { file: Arc::clone(&stray.file), role: stray.role.clone() });
            }
        }
        names.push(SUPERBLOCK.into());
        let aside = names.into_iter().filter_map(|name| {
            let bytes = self.fingerprint.bytes_of(&name)?;
            Some(Aside { name, bytes })
        });
        self.aside = aside.collect();
        // Every name that a new file gets is free by then.
        let gone: BTreeSet<&str> = self.aside.iter().map(|file| &*file.name).collect();
        let is_free = |name: &str| self.fingerprint.bytes_of(name).is_none() || gone.contains(name);
        match self.recipes.iter().find(|recipe| !is_free(&recipe.to)) {
            Some(recipe) => Err(Error::NotRepairable { file: Arc::clone(&recipe.to) }),
            None => Ok(()),
        }
    }
}

/// The records that the new segments give up, and that were not given up or trimmed before.
fn given_up(recipes: &[Recipe], report: &Report) -> Vec<LsnRange> {
    let mut ranges: Vec<LsnRange> = Vec::new();
    for lost in recipes.iter().flat_map(Recipe::gives_up) {
        let Some(mut rest) = LsnRange::new(lost.first.max(report.first_lsn), lost.last) else { continue };
        let from = report.given_up.partition_point(|gap| gap.last < lost.first);
        for gap in report.given_up[from..].iter().take_while(|gap| gap.first <= lost.last) {
            ranges.extend(LsnRange::new(rest.first, gap.first.prev()));
            rest.first = rest.first.max(gap.last.next());
        }
        ranges.extend(LsnRange::new(rest.first, rest.last));
    }
    let mut merged: Vec<LsnRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.last.next() == range.first => last.last = range.last,
            _ => merged.push(range),
        }
    }
    merged
}
