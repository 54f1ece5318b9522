//! What the cluster does with what it is asked.

use std::sync::Arc;

use bytes::Bytes;

use super::cluster::{Entry, Replica, Waiting, What};
use super::world::{Event, World};
use crate::client::machine::LinkId;
use crate::protocol::request::{Refused, Reply, Request};
use crate::types::{Epoch, Lsn, LsnRange, ReplicaId};

impl World {
    fn tell(&mut self, link: LinkId, number: u64, reply: Reply, payload: Bytes) {
        let delay = self.draw_us(20, 2_000);
        let Some(line) = self.links.get_mut(&link) else { return };
        line.tells_at = line.tells_at.max(self.now + delay);
        let at = line.tells_at;
        self.at(at, Event::Tell { link, number, reply, payload });
    }

    pub(super) fn asked(&mut self, link: LinkId, number: u64, request: Arc<Request>, payload: Bytes) {
        let Some(line) = self.links.get(&link).filter(|line| !line.is_cut || line.arrives) else { return };
        let at = line.replica;
        if !self.replicas[at].is_up {
            return;
        }
        if self.replicas[at].is_paused {
            self.held.push((at, Event::Ask { link, number, request, payload }));
            return;
        }
        let (committed, primary) = (self.committed(), self.replicas[at].primary);
        let others: Vec<(ReplicaId, String)> =
            (1..=3).map(|id| (ReplicaId::new(id), format!("replica-{id}:1"))).collect();
        let leads = self.replicas[at].leads;
        let is_busy = self.mix.is_rough && self.is_troubled() && self.chance.below(20) == 0;
        let not_primary = Reply::Refused(Refused::NotPrimary { primary });
        let (reply, payload) = match &*request {
            Request::Status => (Some(self.replicas[at].status(&others, committed)), Bytes::new()),
            Request::Read { from, .. } => {
                let (reply, payload) = self.replicas[at].records(*from, committed);
                (Some(reply), payload)
            }
            Request::Subscribe { from, .. } => {
                // A replica may begin with what was asked for before.
                let from = Lsn::new(from.get().saturating_sub(self.chance.below(4)).max(1));
                return self.feed(at, link, number, from);
            }
            Request::Credit { .. } | Request::Unsubscribe { .. } => (None, Bytes::new()),
            _ if !leads => (Some(not_primary), Bytes::new()),
            _ if is_busy => (Some(Reply::Refused(Refused::Busy)), Bytes::new()),
            Request::Linearize => (Some(Reply::Linearized(committed)), Bytes::new()),
            Request::Transfer { .. } => (Some(Reply::Done), Bytes::new()),
            Request::Register => (self.register(at, link, number), Bytes::new()),
            Request::Append { producer, copies, sizes } => {
                let records =
                    payload.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
                let records: Vec<u64> = records.collect();
                assert_eq!(records.len(), sizes.len());
                let reply = self.replicas[at].append(link, number, *producer, *copies, records);
                self.will_commit(at);
                (reply, Bytes::new())
            }
            other => panic!("nobody asks for {other:?}"),
        };
        if let Some(reply) = reply {
            self.tell(link, number, reply, payload);
        }
    }

    fn committed(&self) -> Lsn {
        self.truth.last().map_or(Lsn::ZERO, Entry::last)
    }

    fn register(&mut self, at: usize, link: LinkId, number: u64) -> Option<Reply> {
        let through = self.replicas[at].push(What::Register);
        let waiting = Waiting {
            link,
            number,
            through,
            range: LsnRange::new(through, through),
            is_duplicate: false,
            is_register: true,
        };
        self.replicas[at].waiting.push(waiting);
        self.will_commit(at);
        None
    }

    fn will_commit(&mut self, replica: usize) {
        let Replica { epoch, .. } = self.replicas[replica];
        let through = self.replicas[replica].last();
        let slow = self.mix.is_rough && self.chance.below(30) == 0;
        let max = if slow { 200_000 } else { 4_000 };
        self.after_us(100, max, Event::Commit { replica, epoch, through });
    }

    pub(super) fn commit(&mut self, at: usize, epoch: Epoch, through: Lsn) {
        let replica = &mut self.replicas[at];
        let is_current = self.reign == Some(at) && replica.epoch == epoch && replica.leads && replica.is_up;
        if !is_current {
            return;
        }
        if replica.is_paused {
            self.held.push((at, Event::Commit { replica: at, epoch, through }));
            return;
        }
        let known = self.truth.len();
        let fresh = replica.log[known..].iter().take_while(|entry| entry.last() <= through).cloned();
        self.truth.extend(fresh);
        let committed = self.committed();
        let replica = &mut self.replicas[at];
        let done: Vec<Waiting> =
            replica.waiting.extract_if(.., |waiting| waiting.through <= committed).collect();
        for waiting in done {
            let reply = self.replicas[at].appended(&waiting, true);
            self.tell(waiting.link, waiting.number, reply, Bytes::new());
        }
    }

    /// Some that is up leads, with all that is committed and some of the rest.
    pub(super) fn elect(&mut self) {
        let able: Vec<usize> =
            (0..3).filter(|at| self.replicas[*at].is_up && !self.replicas[*at].is_paused).collect();
        if able.is_empty() {
            return self.after_us(50_000, 100_000, Event::Elect);
        }
        let next = able[self.chance.below(able.len() as u64) as usize];
        self.epoch = Epoch::new(self.epoch.get() + 1);
        let mut log = self.truth.clone();
        if let Some(before) = self.reign {
            let tail = &self.replicas[before].log[log.len()..];
            let kept = self.chance.below(tail.len() as u64 + 1) as usize;
            log.extend_from_slice(&tail[..kept]);
            let epoch = self.replicas[before].epoch;
            if before == next {
                self.depose(before, epoch);
            } else {
                self.after_us(0, 100_000, Event::Depose { replica: before, epoch });
            }
        }
        self.reign = Some(next);
        self.replicas[next].lead(self.epoch, log);
        if self.mix.forgets && self.chance.below(4) == 0 {
            self.replicas[next].push(What::Expire);
        }
        self.will_commit(next);
        let id = self.replicas[next].id;
        for at in 0..3 {
            if !self.replicas[at].leads && self.chance.below(3) > 0 {
                self.replicas[at].primary = Some(id);
            }
        }
    }

    pub(super) fn depose(&mut self, at: usize, epoch: Epoch) {
        let replica = &mut self.replicas[at];
        if !replica.leads || replica.epoch != epoch {
            return;
        }
        if replica.is_paused {
            self.held.push((at, Event::Depose { replica: at, epoch }));
            return;
        }
        (replica.leads, replica.primary) = (false, None);
        for waiting in std::mem::take(&mut replica.waiting) {
            self.tell(waiting.link, waiting.number, Reply::Refused(Refused::Unknown), Bytes::new());
        }
    }

    pub(super) fn feed(&mut self, replica: usize, link: LinkId, number: u64, from: Lsn) {
        if !self.replicas[replica].is_up || self.links.get(&link).is_none_or(|line| line.is_cut) {
            return;
        }
        let from = if self.replicas[replica].leads && self.reign == Some(replica) {
            let (reply, payload) = self.replicas[replica].records(from, self.committed());
            let Reply::Records { next, .. } = reply else { unreachable!() };
            if next > from {
                self.tell(link, number, reply, payload);
            }
            next
        } else {
            from
        };
        self.after_us(1_000, 50_000, Event::Feed { replica, link, number, from });
    }
}
