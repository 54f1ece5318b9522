//! What a simulated disk holds: what programs see, what survives for sure, and what lies between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::chance::Chance;
use super::faults::{Fail, Fault, Operation, strike};
use super::image::{Change, Image, PAGE_BYTES};
use crate::disk::Map;
use crate::types::WriteMethod;

/// How many lines of the trace are kept.
const TRACE_LINES: usize = 20_000;

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Signalled when an operation blocks, is released, or the power goes off.
    pub(super) moved: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) durable_names: BTreeMap<String, u64>,
    pub(super) pending_names: Vec<NameChange>,
    /// The last number given to an inode, a handle, a change or a blocked operation.
    pub(super) last_id: u64,
    /// The holder of the directory's lock.
    pub(super) locked_by: Option<u64>,
    pub(super) chance: Chance,
    pub(super) wall_ms: u64,
    pub(super) plan: Vec<Fail>,
    pub(super) operations: u64,
    pub(super) bytes_read: u64,
    pub(super) largest_read: usize,
    /// How many more mutating operations will succeed.
    pub(super) power_left: Option<u64>,
    pub(super) off: bool,
    pub(super) lies: bool,
    pub(super) capacity: Option<u64>,
    pub(super) writes_zeroes: bool,
    pub(super) unsupported: Vec<WriteMethod>,
    pub(super) stalled: bool,
    pub(super) blocked: BTreeMap<u64, String>,
    pub(super) trace: VecDeque<Arc<str>>,
    /// Whether nothing is added to the trace.
    pub(super) is_untraced: bool,
}

/// A file apart from its names.
#[derive(Default)]
pub(super) struct Inode {
    /// Its newest name, for traces and fault plans.
    pub(super) name: String,
    /// Whether it ever had another name beside: those are looked for among all names.
    pub(super) is_linked: bool,
    pub(super) visible: Image,
    pub(super) durable: Image,
    /// What a sync would make durable, oldest first.
    pub(super) pending: Vec<Pending>,
    pub(super) reserved: u64,
    pub(super) maps: Vec<Weak<Map>>,
    pub(super) handles: u64,
    /// Who holds the advisory lock, and whether exclusively.
    pub(super) locks: BTreeMap<u64, bool>,
}

pub(super) struct Pending {
    id: u64,
    pub(super) change: Change,
    /// A durable write that has not returned yet: a sync does not wait for it.
    in_flight: bool,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Create {
        name: String,
        inode: u64,
    },
    /// The file may have `others`, which it keeps.
    Rename {
        from: String,
        to: String,
        inode: u64,
        others: Vec<String>,
    },
    Link {
        name: String,
        inode: u64,
    },
    Remove {
        name: String,
    },
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Create { name, inode } | NameChange::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Rename { from, to, inode, others } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                } else {
                    // In a crash the change that gave it the name `from` may have been lost.
                    names.retain(|name, other| other != inode || others.contains(name));
                }
                names.insert(to.clone(), *inode);
            }
            NameChange::Remove { name } => {
                names.remove(name);
            }
        }
    }

    /// The name that it gives or takes away.
    fn name(&self) -> &str {
        match self {
            NameChange::Create { name, .. }
            | NameChange::Link { name, .. }
            | NameChange::Rename { to: name, .. }
            | NameChange::Remove { name } => name,
        }
    }

    /// The file that it is about, where it names it.
    fn inode(&self) -> Option<u64> {
        match self {
            NameChange::Create { inode, .. }
            | NameChange::Link { inode, .. }
            | NameChange::Rename { inode, .. } => Some(*inode),
            NameChange::Remove { .. } => None,
        }
    }
}

/// How an operation is to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Go,
    /// The power fails during it.
    Cut,
    Fault(Fault),
}

/// What an operation is about.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Name(&'a str),
    Inode(u64),
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Shared> {
        Arc::new(Shared { state: Mutex::new(state), moved: Condvar::new() })
    }

    /// Counts and traces an operation, waits while the disk is stalled, and tells how to go on.
    pub(super) fn enter(
        &self,
        operation: Operation,
        target: Target<'_>,
        detail: impl Display,
    ) -> io::Result<(MutexGuard<'_, State>, Turn)> {
        let mut state = self.state.lock();
        let turn = state.begin(operation, target, detail)?;
        if turn == Turn::Cut {
            self.moved.notify_all();
        }
        // A durable write waits later, when it is in flight.
        if operation.mutates() && operation != Operation::WriteDurable && turn != Turn::Cut {
            self.wait_while_stalled(&mut state, operation, target)?;
        }
        Ok((state, turn))
    }

    /// Like [`enter`](Self::enter) for operations to which all faults mean failure; whether the power is cut.
    pub(super) fn enter_or_fail(
        &self,
        operation: Operation,
        target: Target<'_>,
        detail: impl Display,
    ) -> io::Result<(MutexGuard<'_, State>, bool)> {
        match self.enter(operation, target, detail)? {
            (_, Turn::Fault(fault)) => Err(fault.error()),
            (state, turn) => Ok((state, turn == Turn::Cut)),
        }
    }

    pub(super) fn wait_while_stalled(
        &self,
        state: &mut MutexGuard<'_, State>,
        operation: Operation,
        target: Target<'_>,
    ) -> io::Result<()> {
        if !state.stalled {
            return Ok(());
        }
        let ticket = state.next_id();
        let blocked = format!("{operation:?} {}", state.name_of(target));
        state.blocked.insert(ticket, blocked);
        self.moved.notify_all();
        while !state.off && state.blocked.contains_key(&ticket) {
            self.moved.wait(state);
        }
        state.blocked.remove(&ticket);
        if state.off { Err(power_is_off()) } else { Ok(()) }
    }
}

pub(super) fn power_is_off() -> io::Error {
    io::Error::other("the simulated power is off")
}

/// The end of an operation during which the power may have failed.
pub(super) fn finish(cut: bool) -> io::Result<()> {
    if cut { Err(power_is_off()) } else { Ok(()) }
}

impl State {
    fn begin(&mut self, operation: Operation, target: Target<'_>, detail: impl Display) -> io::Result<Turn> {
        if self.off {
            return Err(power_is_off());
        }
        let fault = if self.plan.is_empty() {
            None
        } else {
            let name = self.name_of(target);
            strike(&mut self.plan, operation, &name)
        };
        let mut turn = fault.map_or(Turn::Go, Turn::Fault);
        if operation.mutates() {
            self.operations += 1;
            match &mut self.power_left {
                Some(0) => {
                    self.off = true;
                    turn = Turn::Cut;
                }
                Some(left) => *left -= 1,
                None => {}
            }
        }
        // Reads that succeed would only drown the rest.
        if !self.is_untraced && (operation.mutates() || turn != Turn::Go) {
            let name = self.name_of(target);
            let line = format!("#{} {operation:?} {name} {detail}", self.operations);
            let outcome = match turn {
                Turn::Go => String::new(),
                Turn::Cut => " -> power fails".to_owned(),
                Turn::Fault(fault) => format!(" -> {fault:?}"),
            };
            self.note(&format!("{}{outcome}", line.trim_end()));
        }
        Ok(turn)
    }

    pub(super) fn note(&mut self, line: &str) {
        if self.is_untraced {
            return;
        }
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(line.into());
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn name_of(&self, target: Target<'_>) -> String {
        match target {
            Target::Name(name) => name.to_owned(),
            Target::Inode(id) => self.inodes[&id].name.clone(),
        }
    }

    pub(super) fn find(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&mut self, id: u64) -> &mut Inode {
        self.inodes.get_mut(&id).expect("a file with a handle or a name has an inode")
    }

    pub(super) fn change_names(&mut self, change: NameChange) {
        if let NameChange::Create { name, inode } | NameChange::Rename { to: name, inode, .. } = &change {
            self.inode(*inode).name.clone_from(name);
        }
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    /// The names that a file has beside this one.
    pub(super) fn other_names(&self, id: u64, but: &str) -> Vec<String> {
        if !self.inodes[&id].is_linked {
            return Vec::new();
        }
        let others = self.names.iter().filter(|(name, named)| **named == id && *name != but);
        others.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn sync_names(&mut self) {
        for change in std::mem::take(&mut self.pending_names) {
            let displaced = self.durable_names.get(change.name()).copied();
            change.apply(&mut self.durable_names);
            for id in displaced.into_iter().chain(change.inode()) {
                self.forget_if_unreachable(id);
            }
        }
    }

    /// Ends the use of a handle.
    pub(super) fn close(&mut self, id: u64, handle: u64) {
        let inode = self.inode(id);
        inode.handles -= 1;
        inode.locks.remove(&handle);
        if self.pending_names.is_empty() {
            self.forget_if_unreachable(id);
        }
    }

    /// Drops a file that neither a program nor a crash can bring back.
    fn forget_if_unreachable(&mut self, id: u64) {
        // All names are durable or about to be. Nearly every file has one alone.
        let named = |inode: &Inode| {
            self.names.get(&inode.name) == Some(&id)
                || (inode.is_linked && self.names.values().any(|named| *named == id))
                || self.pending_names.iter().any(|c| c.inode() == Some(id))
        };
        if self.inodes.get(&id).is_some_and(|inode| inode.handles == 0 && !named(inode)) {
            self.inodes.remove(&id);
        }
    }

    /// Drops all such files, once all names are durable.
    pub(super) fn forget_all_unreachable(&mut self) {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, inode| inode.handles > 0 || named.contains(id));
    }

    /// Refuses what would need more new space in the file than there is.
    pub(super) fn check_space(&self, id: u64, range: Range<u64>) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let inode = &self.inodes[&id];
        let unreserved = range.start.max(inode.reserved)..range.end;
        let more = inode.visible.holes(unreserved) * PAGE_BYTES;
        if more > 0 && self.used() + more > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Space that living files take: those with a name, and those that a program still holds.
    pub(super) fn used(&self) -> u64 {
        let living = |id: &u64, inode: &Inode| {
            inode.handles > 0
                || inode.maps.iter().any(|map| map.strong_count() > 0)
                || self.names.values().any(|named| named == id)
        };
        self.inodes.iter().filter(|(id, inode)| living(id, inode)).map(|(_, inode)| inode.space()).sum()
    }
}

impl Inode {
    pub(super) fn holding(name: &str, image: Image) -> Inode {
        let (name, reserved) = (name.to_owned(), image.bytes);
        Inode { name, visible: image.clone(), durable: image, reserved, ..Inode::default() }
    }

    fn space(&self) -> u64 {
        let beyond = self.visible.written().filter(|(offset, _)| *offset >= self.reserved).count();
        self.reserved.next_multiple_of(PAGE_BYTES) + beyond as u64 * PAGE_BYTES
    }

    /// Checks that a write repeats what it touches of published bytes.
    pub(super) fn assert_repeats(&self, bytes: &[u8], offset: u64) {
        for map in self.maps.iter().filter_map(Weak::upgrade) {
            map.repeated(bytes, offset);
        }
    }

    /// Accepts a change as programs see it, to be made durable by a sync.
    pub(super) fn change(&mut self, id: u64, change: Change) {
        self.show(&change);
        self.pending.push(Pending { id, change, in_flight: false });
    }

    /// Begins a durable write, of which a crash may leave any part.
    pub(super) fn launch(&mut self, id: u64, change: Change) {
        self.pending.push(Pending { id, change, in_flight: true });
    }

    /// Ends the durable write `id`.
    pub(super) fn land(&mut self, id: u64, lies: bool) {
        let at = self.pending.iter().position(|pending| pending.id == id).expect("launched");
        let landed = self.pending.remove(at);
        self.show(&landed.change);
        if lies {
            self.pending.push(Pending { in_flight: false, ..landed });
        } else {
            // Direct writes first push out what the cache holds of the same range.
            self.settle_overlapping(landed.change.range());
            self.durable.apply(&landed.change);
        }
    }

    /// Makes all changes durable but those in flight.
    pub(super) fn settle(&mut self) {
        let (flying, settled) = std::mem::take(&mut self.pending).into_iter().partition(|p| p.in_flight);
        self.pending = flying;
        self.durable_with(&settled);
    }

    /// Forgets all changes but those in flight, while programs go on seeing them.
    pub(super) fn lose(&mut self) {
        self.pending.retain(|pending| pending.in_flight);
    }

    fn settle_overlapping(&mut self, range: Range<u64>) {
        // Backwards, because an older change must not settle after a newer one that it overlaps.
        let mut ranges = vec![range];
        let mut settled = Vec::new();
        for at in (0..self.pending.len()).rev() {
            let own = self.pending[at].change.range();
            let overlaps = |other: &Range<u64>| own.start < other.end && other.start < own.end;
            if !self.pending[at].in_flight && ranges.iter().any(overlaps) {
                ranges.push(own);
                settled.push(self.pending.remove(at));
            }
        }
        settled.reverse();
        self.durable_with(&settled);
    }

    fn durable_with(&mut self, settled: &[Pending]) {
        for pending in settled {
            self.durable.apply(&pending.change);
        }
    }

    fn show(&mut self, change: &Change) {
        self.maps.retain(|map| map.strong_count() > 0);
        for map in self.maps.iter().filter_map(Weak::upgrade) {
            match change {
                Change::Bytes { offset, bytes } => map.store(bytes, *offset),
                Change::Zeros { end } => map.store(&vec![0; *end as usize], 0),
                Change::Length(_) => {}
            }
        }
        self.visible.apply(change);
    }
}
