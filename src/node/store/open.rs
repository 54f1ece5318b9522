//! Making a store, and recovering one.

use std::any::Any;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::append::Notes;
use super::extract;
use super::front::Front;
use super::kept::{Of, remove_surplus};
use super::outage::{self, find_while_there};
use super::part::Part;
use super::shared::Shared;
use super::snapshots::{BASE, Snapshot, TAKING, head_of, open as open_file};
use super::source::{find_readable, is_unreadable};
use super::spares::Spares;
use super::stage::{Stage, finish_install, write_whole};
use super::{DAMAGED, ReplicaStore, StoreOptions};
use crate::disk::slab::SlabWriter;
use crate::disk::{Access, Disk, Lock, probe};
use crate::error::{Error, Result};
use crate::format::{Extract, FrameKind, Superblock};
use crate::log::prepare::{Go, make_spare};
use crate::log::recover::{Begin, Recovered, Wanted, begin_first, recover};
use crate::log::store::Files;
use crate::log::superblock_file::SuperblockFile;
use crate::node::frames::content_of;
use crate::protocol::{
    Base, Content, Contents, EpochHistory, Health, LOST_BASE, Member, Meta, Position, SnapshotOffer, Span,
    Spans, State,
};
use crate::repair::{self, Silent};
use crate::segment::{FileName, LOCK, QUARANTINE, Spare};
use crate::types::{Epoch, LogId, LogIncarnation, Lsn, LsnRange};

/// Attempts to open a store that has to be repaired: what is lost is found with the first or the second.
const ATTEMPTS: usize = 4;
/// Bits of an incarnation that count within one opening of the store.
pub(super) const INCARNATION_BITS: u32 = 20;
/// How long each way to write is tried when a store is made.
const PROBE: Duration = Duration::from_millis(30);
/// Bytes that are read at a time.
pub(super) const WINDOW_BYTES: u64 = 1 << 20;

pub(super) fn create(disk: &dyn Disk, me: Member, base: &Base) -> Result<()> {
    if SuperblockFile::read(disk)?.is_some() {
        return Err(Error::NotEmpty);
    }
    let log_id = LogId::new(me.disk.get());
    let offer = SnapshotOffer { base: Arc::new(base.clone()), contents: Contents::default() };
    write_whole(disk, BASE, &head_of(log_id, &offer))?;
    let method = probe(disk, PROBE).map_err(|source| Error::io("probe", "", source))?.winner;
    // Last: a directory with a superblock has all the rest.
    let superblock = Superblock::new(log_id, method);
    let first = Superblock { replica_id: me.id, epoch: Epoch::new(0), ..superblock };
    SuperblockFile::create(disk, first).map(drop)
}

/// Whether this replica's base can come from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Others {
    /// If it does not check, it is put aside.
    HaveABase,
    /// As far as known there are none.
    AreNone,
}

pub(super) fn open(
    disk: &Arc<dyn Disk>,
    options: StoreOptions,
    others: Others,
) -> Result<(Option<ReplicaStore>, State)> {
    // While a repair is not finished, the superblock may be on its way.
    let is_repairing = |name: &String| FileName::of(name) == FileName::PendingRepair;
    if list(&**disk)?.iter().any(is_repairing) && !repair(disk, Note::None)? {
        return Ok((None, blank()));
    }
    match SuperblockFile::read(&**disk) {
        Ok(Some(_)) => {}
        Ok(None) | Err(Error::SuperblockDamaged) => return Ok((None, blank())),
        Err(error) => return Err(error),
    }
    finish_install(disk, options.snapshots_kept)?;
    if is_damaged(&**disk)? && !repair(disk, Note::None)? {
        return Ok((None, blank()));
    }
    let mut may_pass = true;
    let mut note = Note::DamageThatIsSeen;
    for _ in 1..ATTEMPTS {
        match attempt(disk, options, others) {
            Err(Error::Rot { .. } | Error::Hole { .. }) => {}
            // What cannot be read twice is lost.
            Err(error) if is_unreadable(&error) => {
                if std::mem::take(&mut may_pass) {
                    continue;
                }
            }
            opened => return opened,
        }
        if !repair(disk, note)? {
            return Ok((None, blank()));
        }
        note = Note::Damage;
    }
    attempt(disk, options, others)
}

/// Notes durably that something may be lost (S11).
pub(super) fn note_damage(disk: &dyn Disk) -> Result<()> {
    match disk.create(DAMAGED) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create", DAMAGED, error));
        }
        _ => {}
    }
    disk.sync_dir().map_err(|source| Error::io("sync", "", source))
}

pub(super) fn is_damaged(disk: &dyn Disk) -> Result<bool> {
    Ok(open_file(disk, DAMAGED, Access::Read)?.is_some())
}

/// Puts a snapshot that does not check out of the way, if it is there, under the name of something that a repair has put
/// aside, and notes before that something is lost.
pub(super) fn put_aside(disk: &dyn Disk, name: &str) -> Result<()> {
    note_damage(disk)?;
    let names = list(disk)?;
    if names.iter().any(|there| there == name) {
        let mut asides = (1_u64..).map(|number| format!("{QUARANTINE}{name}-{number}"));
        let aside = asides.find(|aside| !names.contains(aside)).expect("one of all numbers is free");
        disk.rename(name, &aside).map_err(|source| Error::io("rename", name, source))?;
    }
    disk.sync_dir().map_err(|source| Error::io("sync", "", source))
}

/// What stands for the base if that is lost, and it was noted that something is: a snapshot of nothing.
fn lost_base(disk: &dyn Disk) -> Result<Option<Snapshot>> {
    let is_there = open_file(disk, BASE, Access::Read)?.is_some();
    let note = open_file(disk, DAMAGED, Access::Read)?;
    Ok(note.filter(|_| !is_there).map(Snapshot::of_nothing))
}

/// The names of all files, in order.
pub(super) fn list(disk: &dyn Disk) -> Result<Vec<String>> {
    let mut names = disk.list().map_err(|source| Error::io("list files", "", source))?;
    names.sort();
    Ok(names)
}

fn blank() -> State {
    State { health: Health::Blank, ..State::default() }
}

/// What is to be noted before something is given up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Note {
    /// That something may be lost (S11).
    Damage,
    /// The same, unless every byte can be read now, and checks: then the disk was away for a moment.
    DamageThatIsSeen,
    /// Nothing: it was noted, or whoever has begun the repair has decided.
    None,
}

/// Gives up what is lost, so that the log can be opened; whether that was possible.
fn repair(disk: &Arc<dyn Disk>, note: Note) -> Result<bool> {
    let report = match repair::inspect(&**disk)? {
        unfinished if unfinished.unfinished_repair.is_some() => unfinished,
        _ => outage::look(disk)?,
    };
    let plan = repair::plan(&**disk, &report);
    let is_seen = plan.as_ref().map_or(true, |plan| !plan.steps.is_empty() || !plan.gives_up.is_empty());
    if note == Note::Damage || (note == Note::DamageThatIsSeen && is_seen) {
        note_damage(&**disk)?;
    }
    let done = plan.and_then(|plan| {
        let lost = plan.gives_up.iter().map(LsnRange::records).sum();
        repair::repair(disk, &plan, Some(lost), &Silent)
    });
    match done {
        Ok(_) => Ok(true),
        Err(Error::NotRepairable { .. } | Error::NotALog) => Ok(false),
        Err(error) => Err(error),
    }
}

fn lock(disk: &dyn Disk) -> Result<Box<dyn Any + Send>> {
    match disk.lock(LOCK).map_err(|source| Error::io("lock", LOCK, source))? {
        Lock::Held(lock) => Ok(Box::new(lock)),
        Lock::Taken(owner) => Err(Error::InUse { owner }),
    }
}

fn wanted(StoreOptions { segment_bytes, write_method, .. }: StoreOptions) -> Wanted {
    // Those who go on meanwhile may share the disk.
    Wanted { segment_bytes, write_method, gently: true }
}

/// A snapshot under this name, if it checks.
pub(super) fn find_snapshot(disk: &dyn Disk, name: &str, log_id: LogId) -> Result<Option<Snapshot>> {
    find_while_there(disk, || Snapshot::find(disk, name, log_id))
}

/// Opens a store of which the log opens.
fn attempt(
    disk: &Arc<dyn Disk>,
    options: StoreOptions,
    others: Others,
) -> Result<(Option<ReplicaStore>, State)> {
    let lock = lock(&**disk)?;
    let mut recovered = recover(&**disk, wanted(options))?;
    let superblock = recovered.superblock.current().clone();
    let found = find_snapshot(&**disk, BASE, superblock.log_id)?.filter(|base| base.reaches(&superblock));
    let is_baseless = found.is_none();
    if is_baseless && others == Others::HaveABase {
        put_aside(&**disk, BASE)?;
    }
    let Some(snapshot) = found.or(lost_base(&**disk)?) else { return Ok((None, blank())) };
    let snapshot = Arc::new(snapshot);
    let files = Files::new(Arc::clone(disk), superblock.write_method, recovered.next_spare_number);
    let retired = clear(&files, &recovered, options)?;
    let mut parts: Vec<Part> = recovered.segments.sealed.iter().map(Part::of_sealed).collect();
    parts.extend(recovered.segments.tail.as_deref().map(Part::of_tail));
    let base = Position { epoch: superblock.trimmed_epoch, lsn: superblock.first_lsn.prev() };
    let mut loaded = load(&files, &parts, base, options)?;
    if recovered.segments.tail.is_none() {
        let begin = Begin { epoch: loaded.history.last().epoch, ..recovered.begin };
        parts.push(first_part(&files, recovered.spares.pop(), options, &begin)?);
        loaded.tail = extract::begin(&parts[parts.len() - 1]);
    }
    let last = loaded.history.last().lsn;
    let tail = &parts[parts.len() - 1];
    if last < snapshot.base.position.lsn {
        // The superblock has said before that it is there.
        let name = tail.name.clone();
        return Err(Error::Hole { file: name, first: last.next(), last: snapshot.base.position.lsn });
    }
    let writer = files.io("open", &tail.name, tail.file(&files)?.writer(files.write_method))?;
    let slab = SlabWriter::new(options.slab_bytes());
    let front = Front::new(slab, tail.extent.end, &tail.last_block(&files)?);
    let shared = Shared::new(Arc::clone(disk), tail.source(&files)?, options.cache_bytes);
    let mut store = ReplicaStore {
        options,
        superblock: recovered.superblock,
        parts,
        writer,
        front,
        pending: Vec::new(),
        notes: Notes::default(),
        extract: loaded.tail.clone(),
        extracts: Vec::new(),
        spares: Spares::new(recovered.spares, retired),
        history: loaded.history.clone(),
        durable: last,
        vouched: last,
        snapshot: Arc::clone(&snapshot),
        wanted_snapshots: Vec::new(),
        stage: find_readable(&**disk, || Stage::find(&**disk, superblock.log_id))?,
        shared: Arc::new(shared),
        files: Arc::new(files),
        is_poisoned: false,
        _lock: lock,
    };
    store.show()?;
    store.shared.with(|view| view.snapshot = Some(snapshot));
    if is_baseless {
        // The log stays until a snapshot takes its place, and stands for nothing.
        let health = Health::Damaged(vec![LOST_BASE]);
        let state = State { health, ..store.state() };
        return Ok((Some(store), state));
    }
    finish(store, loaded)
}

/// Removes files of trimmed segments that cannot be used again, and says which can; and what else is of no use.
fn clear(files: &Files, recovered: &Recovered, options: StoreOptions) -> Result<Vec<String>> {
    let (retired, useless): (Vec<_>, Vec<_>) =
        recovered.to_recycle.iter().partition(|(_, bytes)| *bytes == options.segment_bytes);
    let mut is_any = !useless.is_empty();
    for (name, _) in &useless {
        files.remove(name)?;
    }
    let sealed = &recovered.segments.sealed;
    // Snapshots that were being taken, and extracts of segments that are gone.
    for name in list(&*files.disk)? {
        let is_useless = match FileName::of(&name) {
            FileName::Extract(first) => sealed.binary_search_by_key(&first, |one| one.first_lsn()).is_err(),
            _ => name.starts_with(TAKING),
        };
        if is_useless {
            files.remove(&name)?;
            is_any = true;
        }
    }
    if is_any {
        files.sync_dir()?;
    }
    Ok(retired.into_iter().map(|(name, _)| name.clone()).collect())
}

fn first_part(files: &Files, spare: Option<Spare>, options: StoreOptions, begin: &Begin) -> Result<Part> {
    let spare = match spare {
        Some(spare) => spare,
        None => {
            make_spare(files, options.segment_bytes, &|_| Go::Enough)?.expect("nothing ends the preparation")
        }
    };
    Ok(Part::of_tail(&*begin_first(&*files.disk, spare, begin)?))
}

/// Says what was found. What the base covers is not lost, and is forgotten where it would be.
fn finish(mut store: ReplicaStore, loaded: Loaded) -> Result<(Option<ReplicaStore>, State)> {
    let covered = store.base().position.lsn;
    let of = Of { log_id: store.superblock.current().log_id, lsn: covered };
    remove_surplus(&store.files, of, store.options.snapshots_kept)?;
    let is_noted = is_damaged(&*store.files.disk)?;
    if let Some(gap) = loaded.gaps.iter().rev().find(|gap| gap.first <= covered) {
        store.trim(gap.last.min(covered))?;
        let superblock = store.superblock.current();
        let base = Position { epoch: superblock.trimmed_epoch, lsn: superblock.first_lsn.prev() };
        store.history = load(&store.files, &store.parts, base, store.options)?.history;
    }
    let gaps = loaded.gaps.iter().filter_map(|gap| LsnRange::new(gap.first.max(covered.next()), gap.last));
    let gaps: Vec<LsnRange> = gaps.collect();
    let replay = loaded.replay.into_iter().filter_map(|(lsn, content)| after(covered, lsn, content));
    let state = State {
        base: store.base().clone(),
        history: store.history.clone(),
        replay: replay.collect(),
        commit: covered,
        health: if is_noted || !gaps.is_empty() { Health::Damaged(gaps) } else { Health::Whole },
        contents: (covered > Lsn::ZERO).then_some(store.snapshot.contents),
        ..store.state()
    };
    Ok((Some(store), state))
}

impl ReplicaStore {
    /// What the superblock and the stage say; of the log and the base nothing.
    fn state(&self) -> State {
        let superblock = self.superblock.current();
        let vote = superblock.vote;
        let has_voted = vote.epoch == superblock.epoch && vote.replica.get() != 0;
        State {
            meta: Meta {
                epoch: superblock.epoch,
                vote: has_voted.then_some(Member { id: vote.replica, disk: vote.disk }),
                generation: superblock.generation,
            },
            incarnation: LogIncarnation::new(superblock.sequence << INCARNATION_BITS),
            staged: self.stage.as_ref().map(Stage::progress),
            ..State::default()
        }
    }
}

/// The part of what a frame says that is about records after `covered`.
fn after(covered: Lsn, lsn: Lsn, content: Content) -> Option<(Lsn, Content)> {
    if lsn > covered {
        return Some((lsn, content));
    }
    let Content::Records(Spans::One(span)) = content else { return None };
    let gone = covered.get() - span.lsn.get() + 1;
    let records = u32::try_from(u64::from(span.records).checked_sub(gone)?).ok().filter(|left| *left > 0)?;
    let span = Span { sequence: span.sequence + gone, lsn: covered.next(), records, ..span };
    Some((span.lsn, Content::Records(Spans::One(span))))
}

/// What the frames of a log say.
pub(super) struct Loaded {
    pub(super) history: EpochHistory,
    /// But for plain records.
    pub(super) replay: Vec<(Lsn, Content)>,
    /// Merged.
    pub(super) gaps: Vec<LsnRange>,
    /// Of the newest segment, if that is not sealed.
    pub(super) tail: Extract,
}

/// Finds out what every frame of the log after `base` says: by the extracts of segments that are sealed, and by reading and
/// checking the frames of the newest ones: what is not committed yet is there, and counts as a copy from now on (S11).
///
/// # Errors
/// [`Error::Rot`] and [`Error::Hole`], and whatever the operating system says.
pub(super) fn load(files: &Files, parts: &[Part], base: Position, options: StoreOptions) -> Result<Loaded> {
    let tail = parts.last().map_or_else(|| Extract::begin(base.lsn.next(), 0), extract::begin);
    let mut loaded = Loaded { history: EpochHistory::new(base), replay: Vec::new(), gaps: Vec::new(), tail };
    let mut newer_bytes: u64 = parts.iter().map(|part| part.extent.end).sum();
    for part in parts {
        newer_bytes -= part.extent.end;
        let next = loaded.history.last().lsn.next();
        if part.is_empty() || part.last() < next {
            loaded.tail.give_up();
            continue;
        }
        let is_old = newer_bytes >= options.newest_bytes;
        if part.is_sealed && is_old && extract::take(files, part, &mut loaded)? {
            continue;
        }
        let mut extract = extract::begin(part);
        if next > part.header.first_lsn {
            extract.give_up();
        }
        let source = part.source(files)?.gently();
        let _ = source.visit((next, None), WINDOW_BYTES, &mut |frame| {
            extract.note(frame);
            let header = frame.header();
            let range = LsnRange { first: header.lsn.max(next), last: header.last_lsn() };
            let last = loaded.history.last();
            let is_gap = header.kind == FrameKind::Gap;
            if range.first != last.lsn.next() || (header.epoch < last.epoch && !is_gap) {
                return Err(source.contradiction(header.lsn));
            }
            // A gap tells no epoch: that of the record before it is a lower bound, and there is none below the first.
            loaded.history.append(header.epoch.max(last.epoch).max(Epoch::FIRST), range);
            if is_gap {
                loaded.lost(range);
                return Ok(ControlFlow::Continue(()));
            }
            let content = content_of(frame).map_err(|_| source.contradiction(header.lsn))?;
            loaded.replay.extend(
                content.filter(|content| *content != Content::PLAIN).map(|content| (header.lsn, content)),
            );
            Ok(ControlFlow::Continue(()))
        })?;
        match part.is_sealed {
            true => extract::Waiting::new(part, &extract).map_or(Ok(()), |made| made.write(files))?,
            false => loaded.tail = extract,
        }
    }
    Ok(loaded)
}

impl Loaded {
    fn lost(&mut self, range: LsnRange) {
        match self.gaps.last_mut() {
            Some(last) if last.last.next() == range.first => last.last = range.last,
            _ => self.gaps.push(range),
        }
    }
}
