//! What goes wrong, and when.

use std::io;

/// What a program asks a disk to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// [`Disk::list`](crate::disk::Disk::list).
    List,
    /// [`Disk::open`](crate::disk::Disk::open).
    Open,
    /// [`Disk::create`](crate::disk::Disk::create).
    Create,
    /// [`Disk::rename`](crate::disk::Disk::rename), by the old name.
    Rename,
    /// [`Disk::link`](crate::disk::Disk::link), by the old name.
    Link,
    /// [`Disk::remove`](crate::disk::Disk::remove).
    Remove,
    /// [`Disk::sync_dir`](crate::disk::Disk::sync_dir), of the file with the empty name.
    SyncDir,
    /// [`Disk::lock`](crate::disk::Disk::lock).
    Lock,
    /// One attempt of [`File::read_at`](crate::disk::File::read_at).
    Read,
    /// One attempt of [`File::write_at`](crate::disk::File::write_at), also by a buffered durable writer.
    Write,
    /// [`DurableWriter::write_durable`](crate::disk::DurableWriter::write_durable), if not buffered.
    WriteDurable,
    /// [`File::sync`](crate::disk::File::sync), also by a buffered durable writer.
    Sync,
    /// [`File::allocate`](crate::disk::File::allocate).
    Allocate,
    /// [`File::write_zeroes`](crate::disk::File::write_zeroes).
    WriteZeroes,
}

impl Operation {
    /// Whether it changes what a crash leaves behind, and is counted.
    #[must_use]
    pub fn mutates(self) -> bool {
        !matches!(self, Operation::List | Operation::Open | Operation::Read)
    }
}

/// What happens to an operation instead of success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Input/output error. Of a write, the first half is accepted; a durable write then leaves it in an
    /// unknown state.
    Io,
    /// The disk is full; nothing is done.
    NoSpace,
    /// Only so many bytes are read or written. The attempt goes on from there, if there was any progress; a
    /// durable write fails.
    Short(usize),
    /// A signal interrupts it before anything is done: reads and writes are attempted again.
    Interrupted,
    /// An input/output error of a sync, after which the changes are gone from the disk's point of view: later
    /// syncs succeed, reads still show the changes, and a crash undoes them.
    LoseChanges,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Fault::Io | Fault::LoseChanges => io::Error::other("simulated input/output error"),
            Fault::NoSpace => io::ErrorKind::StorageFull.into(),
            Fault::Short(_) => io::ErrorKind::WriteZero.into(),
            Fault::Interrupted => io::ErrorKind::Interrupted.into(),
        }
    }
}

/// A plan for one fault.
#[derive(Clone, Debug)]
pub struct Fail {
    operation: Operation,
    fault: Fault,
    file: Option<String>,
    to_come: u64,
    and_later: bool,
}

impl Fail {
    /// Lets the `nth` such operation from now on fail; 1 is the next.
    ///
    /// # Panics
    /// If `nth` is 0.
    #[must_use]
    pub fn nth(operation: Operation, nth: u64, fault: Fault) -> Fail {
        assert!(nth > 0, "the next operation has number 1");
        Fail { operation, fault, file: None, to_come: nth, and_later: false }
    }

    /// Counts only operations on the file that has this name at the time.
    #[must_use]
    pub fn on(mut self, file: &str) -> Fail {
        self.file = Some(file.to_owned());
        self
    }

    /// Lets all later ones fail too, until [`SimDisk::heal`](super::SimDisk::heal).
    #[must_use]
    pub fn and_later(mut self) -> Fail {
        self.and_later = true;
        self
    }

    /// Counts the operation, if it is meant; whether it fails.
    fn strikes(&mut self, operation: Operation, file: &str) -> bool {
        if self.operation != operation || self.file.as_deref().is_some_and(|own| own != file) {
            return false;
        }
        let due = self.to_come == 1;
        self.to_come = self.to_come.saturating_sub(1).max(u64::from(due && self.and_later));
        due
    }
}

/// The first of the planned faults that strikes this operation; all of them count it.
pub(super) fn strike(plan: &mut Vec<Fail>, operation: Operation, file: &str) -> Option<Fault> {
    let mut struck = None;
    for fail in plan.iter_mut() {
        if fail.strikes(operation, file) {
            struck = struck.or(Some(fail.fault));
        }
    }
    plan.retain(|fail| fail.to_come > 0);
    struck
}
