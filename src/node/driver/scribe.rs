//! What a driver wants of the disk is done on a store.

use std::collections::VecDeque;

use super::task::{Done, Task};
use crate::error::{Error, Result};
use crate::node::frames::digest;
use crate::node::store::{ReplicaStore, StoreReader};
use crate::protocol::SnapshotId;
use crate::types::LogIncarnation;

/// Carries out all tasks, and says what has come of them.
///
/// In order, but for those that only read, which come last. Writes that stand side by side share one sync, and so do
/// chunks of a snapshot; of metas that do only the newest is saved. Of what was done before an error, `done` says so.
///
/// # Errors
/// After any, nothing is known of the disk (S12): drop the store, and tell the driver
/// [`Input::DiskFailed`](super::Input::DiskFailed). If it was damage that a read has met, the store has noted that, and
/// is damaged when it is opened again.
pub fn perform(store: &mut ReplicaStore, tasks: &mut VecDeque<Task>, done: &mut Vec<Done>) -> Result<()> {
    let mut scribe = Scribe::default();
    let mut reads = Vec::new();
    while let Some(task) = tasks.pop_front() {
        let is_last = match (&task, tasks.front()) {
            (_, None) => true,
            (Task::Write { .. }, Some(next)) => !matches!(next, Task::Write { .. }) && !next.is_read(),
            (Task::StageChunk { .. }, Some(next)) => {
                !matches!(next, Task::StageChunk { .. }) && !next.is_read()
            }
            (Task::SaveMeta { .. }, Some(Task::SaveMeta { .. })) => continue,
            _ => false,
        };
        if task.is_read() {
            reads.push(task);
        } else {
            scribe.take(store, task, done)?;
        }
        if is_last {
            scribe.sync(store, done)?;
        }
    }
    reads.into_iter().try_for_each(|read| scribe.take(store, read, done))
}

/// Carries out tasks one by one, in order: for whoever decides when a sync begins and ends. Else there is
/// [`perform`].
#[derive(Clone, Debug, Default)]
pub struct Scribe {
    /// The life of the log in which something was written that is not synced.
    unsynced: Option<LogIncarnation>,
    /// The snapshot of which chunks were staged that are not synced, and how many bytes of it are there.
    staged: Option<(SnapshotId, u64)>,
}

impl Scribe {
    /// Carries out a task. What was written or staged is durable after the next [`sync`](Scribe::sync), all else is at once.
    ///
    /// # Errors
    /// As for [`perform`].
    pub fn take(&mut self, store: &mut ReplicaStore, task: Task, done: &mut Vec<Done>) -> Result<()> {
        match task {
            Task::Write { group, incarnation, frames } => {
                store.write(&group, frames)?;
                self.unsynced = Some(incarnation);
            }
            Task::SaveMeta { number, meta } => {
                store.save_meta(&meta)?;
                done.push(Done::MetaSaved { number });
            }
            Task::Truncate { after, incarnation } => {
                self.sync(store, done)?;
                store.truncate(after)?;
                store.outlive(incarnation)?;
                done.push(Done::Durable { incarnation, lsn: store.durable() });
            }
            Task::KeepSnapshots(ids) => store.keep_snapshots(&ids),
            Task::Stage(offer) => {
                self.sync_stage(store, done)?;
                store.stage(&offer)?;
            }
            Task::StageChunk { snapshot, offset, digest, bytes } => {
                match store.stage_chunk((snapshot, offset), &bytes, digest)? {
                    Some(bytes) => self.staged = Some((snapshot, bytes)),
                    None => {
                        self.sync_stage(store, done)?;
                        done.push(Done::ChunkRefused { snapshot, offset });
                    }
                }
            }
            Task::Install { snapshot, incarnation } => {
                self.sync_stage(store, done)?;
                self.unsynced = None;
                store.install(snapshot)?;
                done.push(Done::Installed { snapshot, incarnation });
            }
            Task::Mend { group, digest, frames } => {
                let range = group.range;
                let is_mended = store.mend(&group, &frames, digest)?;
                done.push(if is_mended { Done::Mended { range } } else { Done::MendRefused { range } });
            }
            Task::TakeSnapshot { base, application } => {
                self.sync(store, done)?;
                store.take_snapshot(&base, &application)?;
                done.push(Done::SnapshotTaken { base, contents: store.contents() });
            }
            Task::Trim { through } => {
                store.trim(through)?;
                done.push(Done::Trimmed { asked: through, through: store.first().prev() });
            }
            Task::ReadLog { .. } | Task::ReadRange { .. } | Task::ReadSnapshot { .. } => {
                match read(&store.reader(), &task) {
                    Ok(read) => done.push(read),
                    // It was truncated in between.
                    Err(Error::BeyondEnd { .. }) => {}
                    Err(damage @ (Error::Rot { .. } | Error::Hole { .. } | Error::Lost { .. })) => {
                        // Opened again, the store looks at every byte, and the replica gets back what is lost (S11).
                        store.doubt()?;
                        return Err(damage);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Makes durable what was written, and what was staged.
    ///
    /// # Errors
    /// As for [`perform`].
    pub fn sync(&mut self, store: &mut ReplicaStore, done: &mut Vec<Done>) -> Result<()> {
        if let Some(incarnation) = self.unsynced.take() {
            let lsn = store.sync()?;
            done.push(Done::Durable { incarnation, lsn });
        }
        self.sync_stage(store, done)
    }

    /// Makes durable what was staged.
    ///
    /// # Errors
    /// As for [`perform`].
    pub fn sync_stage(&mut self, store: &mut ReplicaStore, done: &mut Vec<Done>) -> Result<()> {
        if let Some((snapshot, bytes)) = self.staged.take() {
            store.sync_stage()?;
            done.push(Done::ChunkStaged { snapshot, bytes });
        }
        Ok(())
    }
}

/// Carries out a task that only [reads](Task::is_read), beside the thread that owns the store.
///
/// # Errors
/// [`Error::BeyondEnd`] if it was truncated in between, or is not written yet; otherwise as the reader says.
///
/// # Panics
/// If the task does anything else.
pub fn read(reader: &StoreReader, task: &Task) -> Result<Done> {
    Ok(match *task {
        Task::ReadLog { to, from, bytes_max } => match reader.read_log(from, bytes_max)? {
            Some((group, frames)) => Done::LogRead { to, group, frames },
            None => Done::LogGone { to },
        },
        Task::ReadRange { to, range, bytes_max } => match reader.read_range(range, bytes_max)? {
            Some((group, frames)) => Done::RangeRead { to, group, digest: digest(&frames), frames },
            None => Done::LogGone { to },
        },
        Task::ReadSnapshot { to, snapshot, offset, bytes_max } => {
            match reader.read_snapshot(snapshot, offset, bytes_max)? {
                Some((bytes, digest)) => Done::SnapshotRead { to, snapshot, offset, digest, bytes },
                None => Done::SnapshotGone { to },
            }
        }
        _ => unreachable!("it is asked before whether the task reads"),
    })
}
