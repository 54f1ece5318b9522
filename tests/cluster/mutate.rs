//! Genuine messages of which one field says what cannot be, or less than it did: refused, or of no harm.
//!
//! What could be, and is not so, is a lie, and nothing that this protocol stands: the transport keeps it away.

use annals::protocol::{Envelope, Message, Position};
use annals::{Epoch, LogIncarnation, Lsn};

use crate::driver::Told;
use crate::invariants::Check;
use crate::seeds::Chance;
use crate::world::World;

/// Where no log reaches.
const FAR: Lsn = Lsn::new(u64::MAX - 1);

impl World {
    /// The newest message arrives once more, with one field changed.
    pub(crate) fn mutated(&mut self) -> Check {
        let Some((mut envelope, payload)) = self.newest_sent.clone() else { return Ok(()) };
        let Some(at) = self.place(envelope.to.id).filter(|&at| !self.nodes[at].is_paused) else {
            return Ok(());
        };
        let refused = |world: &World| {
            let driver = world.nodes[at].driver.as_ref();
            driver.map(|driver| driver.refusals().total() + driver.counts().bad_payloads)
        };
        let before = refused(self);
        if !mutate(&mut envelope, &mut self.draw) {
            return Ok(());
        }
        self.trace.note(self.now, || format!("to {} with one field changed", at + 1));
        self.feed(at, Told::Message(envelope, payload))?;
        self.oracle.tally.mutated += u64::from(refused(self) > before);
        Ok(())
    }
}

/// Changes one field; whether there is one.
fn mutate(envelope: &mut Envelope, draw: &mut Chance) -> bool {
    let epoch = envelope.epoch;
    let nowhere = Position { epoch: Epoch::new(epoch.get() + 1), lsn: FAR };
    let way = draw.below(4);
    match &mut envelope.message {
        Message::PreVote { last, .. } | Message::Vote { last, .. } => *last = weaker(way, nowhere),
        Message::PreVoteReply { granted, next } => match way {
            0 => *next = Epoch::new(0),
            _ => *granted = false,
        },
        Message::VoteReply { granted } => *granted = false,
        Message::Heartbeat { commit, last, durable, .. } => match way {
            0 => *commit = last.next(),
            1 => *durable = last.next(),
            2 => *durable = Lsn::ZERO,
            _ => *last = Lsn::ZERO,
        },
        Message::HeartbeatReply { round, last, durable, incarnation, .. } => match way {
            0 => *round = u64::MAX,
            1 => *durable = last.lsn.next(),
            2 => *durable = Lsn::ZERO,
            _ => *incarnation = LogIncarnation::default(),
        },
        Message::Probe { known, .. } => *known = LogIncarnation::new(u64::MAX),
        Message::Follow { common, .. } => *common = nowhere,
        Message::Append { previous, group, .. } => match way {
            0 => group.range.first = Lsn::ZERO,
            1 => group.range.last = group.range.first.prev(),
            2 => group.epoch = Epoch::new(epoch.get() + 1),
            _ => previous.lsn = previous.lsn.next(),
        },
        Message::Ack { incarnation, durable, is_whole } => match way {
            0 => *durable = FAR,
            1 => *durable = Lsn::ZERO,
            2 => *is_whole = false,
            _ => *incarnation = LogIncarnation::default(),
        },
        Message::OutOfOrder { last, .. } | Message::RepairNone { last, .. } => *last = nowhere,
        Message::SnapshotOffer(offer) => std::sync::Arc::make_mut(&mut offer.base).membership = None,
        Message::SnapshotAsk { bytes, .. } => *bytes = u64::MAX,
        Message::SnapshotChunk { offset, bytes, .. } => match way {
            0 => *offset = u64::MAX,
            _ => *bytes = 0,
        },
        Message::RepairAsk { range } => range.last = range.first.prev(),
        Message::RepairGive { group, .. } => group.range.first = Lsn::ZERO,
        Message::TakeOver { last } => *last = nowhere,
        _ => return false,
    }
    true
}

fn weaker(way: u64, nowhere: Position) -> Position {
    if way == 0 { nowhere } else { Position::default() }
}
