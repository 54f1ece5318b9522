//! One lane to one peer: a stream, and what waits for it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::{Connection, SendStream, VarInt};

use super::Lane;
use super::frame::Greeting;
use super::outbox::Outbox;
use crate::protocol::{Envelope, wire};
use crate::types::{Epoch, ReplicaId};

/// Control goes before bulk.
const CONTROL_PRIORITY: i32 = 1;

/// One lane to one peer: a stream, and what waits for it.
pub(crate) struct LaneOut {
    lane: Lane,
    /// Who speaks.
    me: ReplicaId,
    /// Where that one is found; said on the control lane.
    address: String,
    bytes_max: u64,
    stream: Option<SendStream>,
    outbox: Outbox,
    /// Of what is in the lane, for bulk: what an old reign had to say is worth nothing in the next.
    epoch: Epoch,
}

impl LaneOut {
    pub(crate) fn new(lane: Lane, me: ReplicaId, address: String, bytes_max: u64) -> LaneOut {
        let (stream, outbox, epoch) = (None, Outbox::default(), Epoch::default());
        LaneOut { lane, me, address, bytes_max, stream, outbox, epoch }
    }

    /// Puts a message behind those that wait. `false` if there were too many, and all of them are dropped.
    pub(crate) fn put(&mut self, envelope: &Envelope, payload: &Bytes) -> bool {
        if self.lane == Lane::Bulk && envelope.epoch != self.epoch {
            self.begin_anew();
            self.epoch = envelope.epoch;
        }
        self.begin();
        let pieces = std::slice::from_ref(payload);
        let pieces = if payload.is_empty() { &[] } else { pieces };
        self.outbox.put(0, |out| wire::encode(envelope, out), pieces);
        let fits = self.outbox.bytes() <= self.bytes_max;
        if !fits {
            self.begin_anew();
        }
        fits
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// A new stream begins with a greeting, which need not wait for something to say.
    pub(crate) fn begin(&mut self) {
        if self.stream.is_none() && self.outbox.is_empty() {
            let text = if self.lane == Lane::Control { self.address.clone() } else { String::new() };
            let greeting = Greeting { kind: self.lane as u8, id: self.me.get(), text };
            self.outbox.put_first(greeting.encode());
        }
    }

    /// Drops all that waits, and the stream with what it has not delivered yet.
    pub(crate) fn begin_anew(&mut self) {
        self.outbox.clear();
        if let Some(mut stream) = self.stream.take() {
            let _ = stream.reset(VarInt::from_u32(0));
        }
    }

    /// Drops the stream of a connection that is over, and all that waits.
    pub(crate) fn forget(&mut self) {
        self.outbox.clear();
        self.stream = None;
    }

    /// Writes as much as the connection takes. If that fails the connection is over, and will say so itself.
    pub(crate) fn flush(&mut self, connection: &Connection, cx: &mut Context<'_>) {
        if self.outbox.is_empty() {
            return;
        }
        if self.stream.is_none() {
            let Poll::Ready(Ok(stream)) = pin!(connection.open_uni()).poll(cx) else { return };
            if self.lane == Lane::Control {
                let _ = stream.set_priority(CONTROL_PRIORITY);
            }
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().expect("opened above");
        if let Poll::Ready(Err(_)) = self.outbox.poll_write(stream, cx) {
            self.outbox.clear();
        }
    }

    /// Says that nothing more will come, and gives the stream up, so that its end can be waited for.
    pub(crate) fn finish(&mut self) -> Option<SendStream> {
        let mut stream = self.stream.take()?;
        stream.finish().ok().map(|()| stream)
    }
}
