//! Damage that nobody has found yet: the log is looked through now and then, and read by whoever reads it meanwhile.

use annals::node::Task;
use annals::{Lsn, LsnRange};

use crate::driver::Local;
use crate::invariants::{Check, broken};
use crate::mix::Kind;
use crate::world::{Event, MS, World};

impl World {
    fn has_rot(&self) -> bool {
        self.mix.is_real && self.mix.kinds.contains(&Kind::Rot)
    }

    /// The process looks through its log some time later: runs live with damage that nobody knows of.
    pub(crate) fn scrub_later(&mut self, at: usize) {
        if self.has_rot() {
            let most = self.draw.pick(&[10, 1000, 5000]);
            let (life, wait) = (self.nodes[at].life, self.draw.below(most * MS));
            self.after(wait, Event::Local { node: at, life, what: Box::new(Local::Scrub) });
        }
    }

    /// 17: what an opening and a look through the log do not find is not damaged.
    pub(crate) fn scrub(&mut self, at: usize) -> Check {
        let node = &mut self.nodes[at];
        if let Some(storage) = &mut node.storage {
            storage.scrub()?;
        }
        if !node.ledger.harmed.is_empty() {
            let what = format!("{:?} of {:?}", node.ledger.harmed, node.ledger.member);
            return broken(17, "damage is found", what);
        }
        self.scrub_later(at);
        Ok(())
    }

    /// Somebody reads what is committed here.
    pub(crate) fn read_as_client(&mut self, at: usize) -> Check {
        if !self.has_rot() || self.draw.below(8) > 0 {
            return Ok(());
        }
        let node = &self.nodes[at];
        let (before, last) = (node.ledger.begin.lsn, node.commit.min(node.ledger.last().lsn));
        if node.ledger.is_noted || last <= before {
            return Ok(());
        }
        let first = Lsn::new(before.get() + 1 + self.draw.below(last.get() - before.get()));
        let (to, bytes_max) = (self.nodes[at].ledger.member.id, self.draw.below(8 << 10));
        self.read(at, Task::ReadRange { to, range: LsnRange { first, last }, bytes_max }).map(drop)
    }
}
