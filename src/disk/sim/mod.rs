//! A simulated disk: deterministic, in memory, and as unkind as real ones may be.
//!
//! It keeps apart what programs see and what a loss of power leaves. In between lie the changes that no sync
//! has made durable; [`SimDisk::crash`] decides about each of them. On top of that come faults on demand,
//! a stall, a limit of space, and damage to stored bytes. A clone is another handle on the same disk.

mod chance;
mod crash;
mod edit;
mod faults;
mod file;
mod image;
mod state;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use crash::{CrashPolicy, Fate, Names, Tear, Unwritten};
pub use edit::SimSnapshot;
pub use faults::{Fail, Fault, Operation};

use crate::disk::{Access, Disk, File, Holder, Lock};
use crate::types::WriteMethod;
use chance::Chance;
use file::SimFile;
use image::Change;
use state::{Inode, NameChange, Shared, State, Target, finish};

/// For what is on its way; only ends a hang.
const PATIENCE: Duration = Duration::from_secs(300);

/// A simulated disk with one directory.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

impl SimDisk {
    /// The process id that the owner of the directory's lock writes.
    pub const PID: u32 = 4711;

    /// An empty disk. The same seed and the same operations give the same bytes, however often.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        let wall_ms = 1_700_000_000_000;
        SimDisk { shared: Shared::new(State { chance: Chance::new(seed), wall_ms, ..State::default() }) }
    }

    /// How many mutating operations were begun so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.state.lock().operations
    }

    /// How many bytes were asked for by reads so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.shared.state.lock().bytes_read
    }

    /// How many bytes one read asked for at most, since this was asked last.
    pub fn take_largest_read(&self) -> usize {
        std::mem::take(&mut self.shared.state.lock().largest_read)
    }

    /// Lets `more` mutating operations succeed. During the next one the power fails: it and all later
    /// operations return errors, and what it was to do is left to the [`crash`](Self::crash).
    pub fn crash_after(&self, more: u64) {
        self.shared.state.lock().power_left = Some(more);
    }

    /// Lets all operations fail from now on, also those that a stall holds.
    pub fn power_off(&self) {
        self.shared.state.lock().off = true;
        self.shared.moved.notify_all();
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.shared.state.lock().off
    }

    /// What was done to this disk, and to those that it is left of, one line for each operation.
    #[must_use]
    pub fn trace(&self) -> String {
        let state = self.shared.state.lock();
        state.trace.iter().flat_map(|line| [&**line, "\n"]).collect()
    }

    /// Keeps no trace from now on, for a simulation that does very much.
    pub fn stop_trace(&self) {
        let mut state = self.shared.state.lock();
        state.is_untraced = true;
        state.trace.clear();
    }

    /// Adds a line to the trace, for orientation.
    pub fn note(&self, line: &str) {
        self.shared.state.lock().note(line);
    }

    /// Plans a fault.
    pub fn fail(&self, fail: Fail) {
        self.shared.state.lock().plan.push(fail);
    }

    /// Forgets all planned faults.
    pub fn heal(&self) {
        self.shared.state.lock().plan.clear();
    }

    /// Lets syncs and durable writes succeed without making anything durable, until told otherwise.
    pub fn lie_about_sync(&self, lie: bool) {
        self.shared.state.lock().lies = lie;
    }

    /// Limits the space for the contents of files, in bytes; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity = bytes;
    }

    /// How many bytes the contents of files take: what was reserved, and else whole pages.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.state.lock().used()
    }

    /// Says whether [`File::write_zeroes`] works; it does not on a new disk.
    pub fn support_write_zeroes(&self, supported: bool) {
        self.shared.state.lock().writes_zeroes = supported;
    }

    /// Lets [`File::writer`] refuse a method from now on.
    pub fn refuse_method(&self, method: WriteMethod) {
        self.shared.state.lock().unsupported.push(method);
    }

    /// Sets the clock on the wall. It stands still otherwise.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.shared.state.lock().wall_ms = wall_ms;
    }

    /// Lets every mutating operation wait from now on. Durable writes wait in flight: they were begun, and a
    /// crash may leave any part of them.
    pub fn stall(&self) {
        self.shared.state.lock().stalled = true;
    }

    /// Lets all operations that wait go on, and ends the stall.
    pub fn release(&self) {
        let mut state = self.shared.state.lock();
        state.stalled = false;
        state.blocked.clear();
        self.shared.moved.notify_all();
    }

    /// Lets one of the operations that wait go on, while the stall lasts; whether it was still waiting.
    pub fn release_one(&self, ticket: u64) -> bool {
        let released = self.shared.state.lock().blocked.remove(&ticket).is_some();
        self.shared.moved.notify_all();
        released
    }

    /// The operations that wait, oldest first: a ticket for [`release_one`](Self::release_one), and what it
    /// is that waits.
    #[must_use]
    pub fn blocked(&self) -> Vec<(u64, String)> {
        self.shared.state.lock().blocked.iter().map(|(ticket, what)| (*ticket, what.clone())).collect()
    }

    /// Waits until at least `operations` operations wait, and gives them as [`blocked`](Self::blocked) does.
    ///
    /// # Panics
    /// After five minutes, because a test should rather fail than hang.
    #[must_use]
    pub fn wait_until_blocked(&self, operations: usize) -> Vec<(u64, String)> {
        let mut state = self.shared.state.lock();
        while state.blocked.len() < operations {
            let waited = self.shared.moved.wait_for(&mut state, PATIENCE);
            assert!(!waited.timed_out(), "only {} operations are blocked", state.blocked.len());
        }
        drop(state);
        self.blocked()
    }

    fn open_inode(&self, state: &mut State, inode: u64, access: Access) -> Arc<dyn File> {
        let handle = state.next_id();
        state.inode(inode).handles += 1;
        Arc::new(SimFile::new(Arc::clone(&self.shared), inode, handle, access))
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let (state, _) = self.shared.enter_or_fail(Operation::List, Target::Name(""), "")?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (mut state, cut) = self.shared.enter_or_fail(Operation::Create, Target::Name(name), "")?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.create(name);
        finish(cut)?;
        Ok(self.open_inode(&mut state, inode, Access::ReadWrite))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let (mut state, _) = self.shared.enter_or_fail(Operation::Open, Target::Name(name), "")?;
        let inode = state.find(name)?;
        Ok(self.open_inode(&mut state, inode, access))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, cut) =
            self.shared.enter_or_fail(Operation::Rename, Target::Name(from), format_args!("to {to}"))?;
        let inode = state.find(from)?;
        // Two names of one file stay as they are (POSIX).
        if state.names.get(to) != Some(&inode) {
            let others = state.other_names(inode, from);
            let (from, to) = (from.to_owned(), to.to_owned());
            state.change_names(NameChange::Rename { from, to, inode, others });
        }
        finish(cut)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, cut) =
            self.shared.enter_or_fail(Operation::Link, Target::Name(from), format_args!("to {to}"))?;
        let inode = state.find(from)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.inode(inode).is_linked = true;
        state.change_names(NameChange::Link { name: to.to_owned(), inode });
        finish(cut)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (mut state, cut) = self.shared.enter_or_fail(Operation::Remove, Target::Name(name), "")?;
        state.find(name)?;
        state.change_names(NameChange::Remove { name: name.to_owned() });
        finish(cut)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let (mut state, cut) = self.shared.enter_or_fail(Operation::SyncDir, Target::Name(""), "")?;
        if !cut && !state.lies {
            state.sync_names();
        }
        finish(cut)
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        let (mut state, cut) = self.shared.enter_or_fail(Operation::Lock, Target::Name(name), "")?;
        let inode = match state.find(name) {
            Ok(inode) => inode,
            Err(_) => state.create(name),
        };
        if state.locked_by.is_some() {
            return Ok(Lock::Taken(state.owner(inode)));
        }
        let id = state.next_id();
        let text = format!("{}\n", SimDisk::PID);
        state.inode(inode).change(id, Change::Bytes { offset: 0, bytes: text.into_bytes().into() });
        finish(cut)?;
        state.locked_by = Some(id);
        Ok(Lock::Held(Box::new(DirLock { shared: Arc::clone(&self.shared), id })))
    }

    fn holder(&self, name: &str) -> io::Result<Holder> {
        let (mut state, _) = self.shared.enter_or_fail(Operation::Open, Target::Name(name), "")?;
        match (state.find(name), state.locked_by) {
            (Ok(inode), Some(_)) => Ok(Holder::Process(state.owner(inode))),
            _ => Ok(Holder::Nobody),
        }
    }

    fn entropy(&self) -> u64 {
        self.shared.state.lock().chance.next()
    }

    fn wall_ms(&self) -> u64 {
        self.shared.state.lock().wall_ms
    }

    fn simulated(&self) -> bool {
        true
    }
}

impl State {
    /// The process id that the lock file holds.
    fn owner(&mut self, inode: u64) -> Option<u32> {
        String::from_utf8_lossy(&self.inode(inode).visible.contents()).trim().parse().ok()
    }

    fn create(&mut self, name: &str) -> u64 {
        let inode = self.next_id();
        self.inodes.insert(inode, Inode::default());
        self.change_names(NameChange::Create { name: name.to_owned(), inode });
        inode
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("SimDisk").field("operations", &state.operations).field("off", &state.off).finish()
    }
}

struct DirLock {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for DirLock {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if state.locked_by == Some(self.id) {
            state.locked_by = None;
        }
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirLock").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests;
