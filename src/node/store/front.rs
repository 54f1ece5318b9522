//! The end of the tail in memory: where groups are laid out as they will lie on the disk.

use std::ops::Range;
use std::sync::Arc;

use crate::disk::slab::{Slab, SlabWriter};
use crate::format::{
    BLOCK_BYTES, GROUP_HEADER_BYTES, GroupHeader, GroupPlace, HEADER_BLOCK_BYTES, SegmentHeader,
};

/// The end of the tail in memory. Blocks begin in it where they begin in the file.
#[derive(Debug)]
pub(super) struct Front {
    writer: SlabWriter,
    /// Position in the file of what comes next.
    position: u64,
}

/// A group that is laid out and not written.
#[derive(Debug)]
pub(super) struct Laid {
    /// Bytes that are not published yet, up to the end of the group.
    bytes: usize,
    /// The whole blocks to write, in the slab.
    blocks: Range<usize>,
    /// Where they go in the file.
    pub(super) position: u64,
    /// Where the frames are, in the slab.
    pub(super) frames: Range<usize>,
}

impl Front {
    /// After `head`, which stands before `position` in its block.
    pub(super) fn new(slab: SlabWriter, position: u64, head: &[u8]) -> Front {
        let mut front = Front { writer: slab, position: 0 };
        front.go_to(position, head);
        front
    }

    /// How many bytes it has from `position` on, in this slab.
    pub(super) fn room(&self) -> usize {
        self.writer.slab().capacity() - self.writer.published()
    }

    pub(super) fn slab(&self) -> &Arc<Slab> {
        self.writer.slab()
    }

    /// What stands before the end of the tail in its block.
    pub(super) fn head(&self) -> &[u8] {
        let end = self.writer.published();
        self.writer.look(end - self.head_bytes()..end)
    }

    fn head_bytes(&self) -> usize {
        usize::try_from(self.position % BLOCK_BYTES as u64).expect("less than a block")
    }

    /// Goes on in another slab.
    pub(super) fn renew(&mut self, slab: SlabWriter) {
        let head = self.head().to_vec();
        let position = self.position;
        self.writer = slab;
        self.go_to(position, &head);
    }

    /// Goes on at another position, of this file or another one.
    pub(super) fn go_to(&mut self, position: u64, head: &[u8]) {
        let begun = self.writer.published();
        self.writer.publish(begun.next_multiple_of(BLOCK_BYTES).min(begun + self.room()) - begun);
        self.position = position;
        assert!(head.len() == self.head_bytes(), "the bytes of the block that come before the position");
        if self.room() < BLOCK_BYTES {
            self.writer = SlabWriter::new(BLOCK_BYTES);
        }
        self.writer.open()[..head.len()].copy_from_slice(head);
        self.writer.publish(head.len());
    }

    /// Bytes of a slab that it takes to lay out a group of so many bytes of frames; with a segment's header.
    pub(super) fn needs(frame_bytes: usize) -> usize {
        HEADER_BLOCK_BYTES + GROUP_HEADER_BYTES + frame_bytes + BLOCK_BYTES
    }

    /// Lays out the frames of a group, which goes to the position or, with the header of a segment, after that.
    ///
    /// The group's own header is to be [put](Front::head_group) before them.
    pub(super) fn lay(&mut self, begins: Option<&SegmentHeader>, frames: &[impl AsRef<[u8]>]) -> Laid {
        let (start, head) = (self.writer.published(), self.head_bytes());
        let open = self.writer.open();
        let lead = match begins {
            Some(header) => {
                open[..HEADER_BLOCK_BYTES].fill(0);
                header.encode_into(&mut open[..HEADER_BLOCK_BYTES]);
                HEADER_BLOCK_BYTES
            }
            None => 0,
        };
        let first = lead + GROUP_HEADER_BYTES;
        let mut end = first;
        for frames in frames {
            let frames = frames.as_ref();
            open[end..end + frames.len()].copy_from_slice(frames);
            end += frames.len();
        }
        let whole = (head + end).next_multiple_of(BLOCK_BYTES) - head;
        open[end..whole].fill(0);
        Laid {
            bytes: end,
            blocks: start - head..start + whole,
            position: self.position - head as u64,
            frames: start + first..start + end,
        }
    }

    /// The laid frames.
    pub(super) fn frames(&self, laid: &Laid) -> &[u8] {
        self.writer.look(laid.frames.clone())
    }

    /// Where the group is that is laid out: its header comes right before its frames.
    pub(super) fn place(&self, laid: &Laid, header: &SegmentHeader) -> GroupPlace {
        let before = laid.frames.start - GROUP_HEADER_BYTES - self.writer.published();
        GroupPlace { incarnation: header.incarnation, position: self.position + before as u64 }
    }

    /// Puts the group's header before its frames.
    pub(super) fn head_group(&mut self, laid: &Laid, header: &GroupHeader) {
        let at = laid.frames.start - GROUP_HEADER_BYTES - self.writer.published();
        header.encode_into(&mut self.writer.open()[at..at + GROUP_HEADER_BYTES]);
    }

    /// The blocks to write.
    pub(super) fn blocks(&self, laid: &Laid) -> &[u8] {
        self.writer.look(laid.blocks.clone())
    }

    /// Takes note that they are written.
    pub(super) fn written(&mut self, laid: &Laid) {
        self.writer.publish(laid.bytes);
        self.position += laid.bytes as u64;
    }
}
