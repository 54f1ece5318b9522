//! What waits to be written to one stream.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{SendStream, WriteError};

use super::frame::HEADER_BYTES;

/// Pieces up to this size are copied together; larger ones are sent from where they lie.
const COPY_BYTES_MAX: usize = 1024;
/// Small pieces are copied into buffers of this size.
const BUFFER_BYTES: usize = 16 << 10;

/// What waits to be written to one stream. All that one turn puts into it goes out with one write.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Bytes>,
    /// The small pieces behind the queue.
    open: BytesMut,
    bytes: u64,
    head: Vec<u8>,
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Puts a frame behind what waits already: a head, and pieces that follow it as its payload.
    pub(crate) fn put(&mut self, number: u64, encode: impl FnOnce(&mut Vec<u8>), payload: &[Bytes]) {
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        encode(&mut head);
        let payload_bytes: usize = payload.iter().map(Bytes::len).sum();
        let size =
            |bytes: usize| u32::try_from(bytes).expect("no message is over the limits of its receivers");
        if self.open.capacity() - self.open.len() < HEADER_BYTES + head.len() {
            self.seal();
            self.open.reserve(BUFFER_BYTES.max(HEADER_BYTES + head.len()));
        }
        self.open.put_u32_le(size(head.len()));
        self.open.put_u32_le(size(payload_bytes));
        self.open.put_u64_le(number);
        self.open.put_slice(&head);
        self.bytes += (HEADER_BYTES + head.len() + payload_bytes) as u64;
        self.head = head;
        for piece in payload {
            self.put_piece(piece);
        }
    }

    /// Puts bytes that are no frame before all else: a greeting.
    pub(crate) fn put_first(&mut self, piece: Bytes) {
        self.bytes += piece.len() as u64;
        self.queue.push_front(piece);
    }

    /// Puts all that waits in another one behind what waits here.
    pub(crate) fn append(&mut self, other: &mut Outbox) {
        if !other.is_empty() {
            self.seal();
            other.seal();
            self.queue.append(&mut other.queue);
            self.bytes += std::mem::take(&mut other.bytes);
        }
    }

    /// Forgets all that waits.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.open.clear();
        self.bytes = 0;
    }

    /// Writes as much as the stream takes. Ready when nothing waits any more.
    pub(crate) fn poll_write(
        &mut self,
        stream: &mut SendStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        self.seal();
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_mut_slices();
            let written = match pin!(stream.write_chunks(front)).poll(cx) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
                Poll::Pending => return Poll::Pending,
            };
            self.bytes -= written.bytes as u64;
            self.queue.drain(..written.chunks);
        }
        assert!(self.bytes == 0, "what is counted is what waits");
        Poll::Ready(Ok(()))
    }

    fn put_piece(&mut self, piece: &Bytes) {
        if piece.len() > COPY_BYTES_MAX {
            self.seal();
            self.queue.push_back(piece.clone());
            return;
        }
        if self.open.capacity() - self.open.len() < piece.len() {
            self.seal();
            self.open.reserve(BUFFER_BYTES);
        }
        self.open.put_slice(piece);
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.queue.push_back(self.open.split().freeze());
        }
    }
}
