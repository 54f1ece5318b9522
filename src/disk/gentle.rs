//! Reading much of a file beside others who wait for the same disk.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{BLOCK_BYTES, Blocks, DurableWriter, File, Map};
use crate::types::WriteMethod;

/// Bytes that are asked of the disk at a time: whoever syncs meanwhile waits for no more than these. Ahead of whoever reads in
/// order through the page cache the kernel reads as much as the device is set to, 8 MiB where this was found: a sync of
/// somebody else took 5 to 8 ms then, and takes less than one.
const PIECE_BYTES: usize = 256 << 10;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A file that is read in small pieces, one after the other and past the page cache where that can be done, however much is
/// asked for at once. What is written to it goes the usual way.
pub(crate) struct Gentle {
    file: Arc<dyn File>,
    piece: Mutex<Blocks>,
}

impl Gentle {
    pub(crate) fn new(file: Arc<dyn File>) -> Gentle {
        Gentle { file, piece: Mutex::new(Blocks::zeroed(PIECE_BYTES / BLOCK_BYTES)) }
    }
}

impl File for Gentle {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut piece = self.piece.lock();
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let skipped = (at % BLOCK) as usize;
            let wanted = (buf.len() - done).min(PIECE_BYTES - skipped);
            let blocks = &mut piece[..(skipped + wanted).next_multiple_of(BLOCK_BYTES)];
            let there = self.file.read_bulk(blocks, at - skipped as u64)?.saturating_sub(skipped).min(wanted);
            buf[done..done + there].copy_from_slice(&blocks[skipped..skipped + there]);
            done += there;
            if there < wanted {
                break;
            }
        }
        Ok(done)
    }

    fn will_read(&self, _: Range<u64>) {
        // Nothing is on its way that nobody waits for.
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn write_zeroes(&self, bytes: u64) -> io::Result<bool> {
        self.file.write_zeroes(bytes)
    }

    fn map(&self) -> io::Result<Arc<Map>> {
        self.file.map()
    }

    fn writer(&self, method: WriteMethod) -> io::Result<Box<dyn DurableWriter>> {
        self.file.writer(method)
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        self.file.try_lock(exclusive)
    }
}

impl fmt::Debug for Gentle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gentle").field(&self.file).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::disk::{Access, Disk};

    #[test]
    fn whatever_is_asked_for_is_what_the_file_has() {
        let disk = SimDisk::new(1);
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES as u32 + 1234).map(|at| (at % 251) as u8).collect();
        disk.create("file").unwrap().write_at(&bytes, 0).unwrap();
        let gentle = Gentle::new(disk.open("file", Access::Read).unwrap());
        let (piece, end) = (PIECE_BYTES as u64, bytes.len() as u64);
        for (at, size) in [
            (0, bytes.len() + 1),
            (1, PIECE_BYTES),
            (piece - 1, 2),
            (piece - 7, 2 * PIECE_BYTES + 14),
            (4095, 4098),
            (end - 5, 5),
            (end - 5, 6),
            (end, 1),
            (end + 4096, 10),
            (5, 0),
        ] {
            let mut read = vec![0; size];
            let there = gentle.read_at(&mut read, at).unwrap();
            let from = (at as usize).min(bytes.len());
            let expected = &bytes[from..(from + size).min(bytes.len())];
            assert_eq!((&read[..there], there), (expected, expected.len()), "{size} bytes from {at} on");
        }
    }
}
