//! The files of a simulated disk, and their writers.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use super::faults::{Fault, Operation};
use super::image::Change;
use super::state::{Shared, Target, Turn, finish};
use crate::disk::whole::{read_whole, write_whole};
use crate::disk::{Access, DurableWriter, File, Map, assert_whole_blocks};
use crate::types::WriteMethod;

/// An open file. Its writers keep it open.
pub(super) struct SimFile(Arc<Handle>);

/// A descriptor, so to speak.
struct Handle {
    shared: Arc<Shared>,
    inode: u64,
    id: u64,
    access: Access,
}

impl SimFile {
    /// Opens an inode of which the state was just locked by the caller, and counted as `id`.
    pub(super) fn new(shared: Arc<Shared>, inode: u64, id: u64, access: Access) -> SimFile {
        SimFile(Arc::new(Handle { shared, inode, id, access }))
    }
}

impl File for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.shared.state.lock().inode(self.0.inode).visible.bytes)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        read_whole(buf, offset, |buf, offset| self.0.read_some(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let (mut state, cut) =
            self.0.shared.enter_or_fail(Operation::Allocate, self.0.target(), format_args!("{bytes}"))?;
        self.0.check_writable()?;
        state.check_space(self.0.inode, 0..bytes)?;
        let id = state.next_id();
        let inode = state.inode(self.0.inode);
        inode.reserved = inode.reserved.max(bytes);
        if bytes > inode.visible.bytes {
            inode.change(id, Change::Length(bytes));
        }
        finish(cut)
    }

    fn write_zeroes(&self, bytes: u64) -> io::Result<bool> {
        let (mut state, cut) =
            self.0.shared.enter_or_fail(Operation::WriteZeroes, self.0.target(), format_args!("{bytes}"))?;
        self.0.check_writable()?;
        if !state.writes_zeroes {
            return Ok(false);
        }
        state.check_space(self.0.inode, 0..bytes)?;
        let id = state.next_id();
        let inode = state.inode(self.0.inode);
        inode.reserved = inode.reserved.max(bytes);
        inode.change(id, Change::Zeros { end: bytes });
        finish(cut).map(|()| true)
    }

    fn map(&self) -> io::Result<Arc<Map>> {
        let mut state = self.0.shared.state.lock();
        let inode = state.inode(self.0.inode);
        inode.maps.retain(|map| map.strong_count() > 0);
        let bytes = inode.visible.bytes;
        if let Some(map) = inode.maps.iter().filter_map(Weak::upgrade).find(|map| map.mapped() == bytes) {
            return Ok(map);
        }
        let map = Arc::new(Map::simulated(bytes)?);
        for (offset, page) in inode.visible.written() {
            map.store(page, offset);
        }
        inode.maps.push(Arc::downgrade(&map));
        Ok(map)
    }

    fn writer(&self, method: WriteMethod) -> io::Result<Box<dyn DurableWriter>> {
        self.0.check_writable()?;
        if self.0.shared.state.lock().unsupported.contains(&method) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Box::new(SimWriter { file: Arc::clone(&self.0), method }))
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        let mut state = self.0.shared.state.lock();
        let locks = &mut state.inode(self.0.inode).locks;
        // As with flock, the old lock goes before the new one comes.
        locks.remove(&self.0.id);
        let free = if exclusive { locks.is_empty() } else { locks.values().all(|exclusive| !exclusive) };
        if free {
            locks.insert(self.0.id, exclusive);
        }
        Ok(free)
    }
}

impl Handle {
    fn target(&self) -> Target<'_> {
        Target::Inode(self.inode)
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.access {
            Access::Read => Err(io::ErrorKind::PermissionDenied.into()),
            Access::ReadWrite => Ok(()),
        }
    }

    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let detail = format_args!("{offset}+{}", buf.len());
        let (mut state, turn) = self.shared.enter(Operation::Read, self.target(), detail)?;
        let most = match turn {
            Turn::Fault(Fault::Short(bytes)) => bytes.max(1).min(buf.len()),
            Turn::Fault(fault) => return Err(fault.error()),
            Turn::Go | Turn::Cut => buf.len(),
        };
        state.bytes_read += most as u64;
        state.largest_read = state.largest_read.max(buf.len());
        let image = &state.inode(self.inode).visible;
        if !image.is_readable(&(offset..offset.saturating_add(most as u64))) {
            return Err(Fault::Io.error());
        }
        Ok(image.read(&mut buf[..most], offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        write_whole(buf, offset, |buf, offset| self.write_some(buf, offset))
    }

    fn write_some(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let detail = format_args!("{offset}+{}", buf.len());
        let (mut state, turn) = self.shared.enter(Operation::Write, self.target(), detail)?;
        self.check_writable()?;
        let accepted = match turn {
            Turn::Go | Turn::Cut => buf.len(),
            Turn::Fault(Fault::Short(bytes)) => bytes.min(buf.len()),
            Turn::Fault(Fault::Io) => buf.len() / 2,
            Turn::Fault(fault) => return Err(fault.error()),
        };
        state.check_space(self.inode, offset..offset + accepted as u64)?;
        let id = state.next_id();
        let change = Change::Bytes { offset, bytes: buf[..accepted].into() };
        state.inode(self.inode).change(id, change);
        match turn {
            Turn::Fault(fault @ Fault::Io) => Err(fault.error()),
            _ => finish(turn == Turn::Cut).map(|()| accepted),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, turn) = self.shared.enter(Operation::Sync, self.target(), "")?;
        let lies = state.lies;
        let inode = state.inode(self.inode);
        match turn {
            // All changes are still between: any part of them may have become durable.
            Turn::Cut => return finish(true),
            Turn::Fault(Fault::LoseChanges) => inode.lose(),
            Turn::Go if !lies => inode.settle(),
            _ => {}
        }
        match turn {
            Turn::Fault(fault) => Err(fault.error()),
            _ => Ok(()),
        }
    }

    fn write_durable(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        let detail = format_args!("{offset}+{}", blocks.len());
        let (mut state, turn) = self.shared.enter(Operation::WriteDurable, self.target(), detail)?;
        state.inode(self.inode).assert_repeats(blocks, offset);
        state.check_space(self.inode, offset..offset + blocks.len() as u64)?;
        let id = state.next_id();
        let change = |part: &[u8]| Change::Bytes { offset, bytes: part.into() };
        match turn {
            Turn::Fault(fault) => {
                let accepted = match fault {
                    Fault::Io | Fault::LoseChanges => blocks.len() / 2,
                    Fault::Short(bytes) => bytes.min(blocks.len()),
                    Fault::NoSpace | Fault::Interrupted => 0,
                };
                state.inode(self.inode).change(id, change(&blocks[..accepted]));
                return Err(fault.error());
            }
            Turn::Go | Turn::Cut => state.inode(self.inode).launch(id, change(blocks)),
        }
        finish(turn == Turn::Cut)?;
        self.shared.wait_while_stalled(&mut state, Operation::WriteDurable, self.target())?;
        let lies = state.lies;
        state.inode(self.inode).land(id, lies);
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.state.lock().close(self.inode, self.id);
    }
}

/// A durable writer. Direct and mapped writes differ in nothing that a crash could show.
struct SimWriter {
    file: Arc<Handle>,
    method: WriteMethod,
}

impl DurableWriter for SimWriter {
    fn write_durable(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
        assert_whole_blocks(blocks, offset);
        match self.method {
            WriteMethod::Buffered => {
                self.file.write_at(blocks, offset)?;
                self.file.sync()
            }
            WriteMethod::Direct | WriteMethod::Mapped => self.file.write_durable(blocks, offset),
        }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.0.inode).finish()
    }
}

impl fmt::Debug for SimWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimWriter").field("inode", &self.file.inode).field("method", &self.method).finish()
    }
}
