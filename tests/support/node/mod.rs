//! A node without threads, files and sockets: one [`Replica`] over a disk that is a value.
//!
//! Whoever drives it says when the disk syncs, when the clock moves and which messages arrive. Reads are answered at
//! once. It can be cloned and hashed, crashes at any moment, and is the same each time it is driven the same way.

mod disk;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use annals::protocol::{
    Base, Config, Content, Effect, Envelope, Group, Halt, Input, Member, Membership, Message, Meta, Outcome,
    Proposal, Replica, SnapshotId, Time,
};
use annals::{LogIncarnation, Lsn, LsnRange, ProducerId, ReplicaId};

pub(crate) use disk::{Disk, Entry, Kind, Records};
use disk::{RECORD_BYTES, Stage, Work, entries_of};

/// A message on its way, with the bytes that travel along.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Letter {
    pub(crate) envelope: Envelope,
    pub(crate) entries: Vec<Entry>,
    /// With a chunk of a snapshot: what the whole of it holds.
    pub(crate) covered: Arc<[Entry]>,
    /// Whether the bytes still give their digest.
    pub(crate) is_sound: bool,
}

/// One replica with all that it runs on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    pub(crate) config: Config,
    /// `None` while it is down.
    pub(crate) replica: Option<Replica>,
    pub(crate) now: Time,
    /// What is synced.
    pub(crate) disk: Disk,
    /// The log with what is not synced yet.
    pub(crate) log: Records,
    incarnation: LogIncarnation,
    work: VecDeque<Work>,
    metas: VecDeque<(u64, Meta)>,
    /// Snapshots that were replaced, and are still read.
    older: Vec<Older>,
    /// What it has sent and nobody has taken from here.
    pub(crate) outbox: Vec<Letter>,
    pub(crate) told: Told,
}

/// What a node's clients and operators have been told.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Told {
    pub(crate) outcomes: BTreeMap<u64, Outcome>,
    /// What linearizable reads see; `None` if they failed.
    pub(crate) reads: BTreeMap<u64, Option<Lsn>>,
    pub(crate) committed: Lsn,
    pub(crate) halt: Option<Halt>,
    pub(crate) pin: Option<Lsn>,
    /// Snapshots that are to stay when newer ones are taken.
    pub(crate) keeps: Vec<SnapshotId>,
    /// What must never happen, whatever the story.
    pub(crate) outrage: Option<String>,
}

/// A snapshot whose place a newer one has taken.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Older {
    id: SnapshotId,
    size: u64,
    covers: Arc<[Entry]>,
}

/// What the bytes of a group are taken from.
#[derive(Default)]
struct Bytes<'a> {
    texts: &'a [Arc<str>],
    letter: Option<&'a Letter>,
}

impl Node {
    /// A replica of a cluster that begins with these members; with `None`, a newcomer or a blank disk.
    pub(crate) fn new(config: Config, first: Option<Membership>) -> Node {
        let mut disk = Disk { is_blank: first.is_none(), ..Disk::default() };
        disk.meta.generation = first.as_ref().map_or(0, |first| first.generation);
        disk.base.membership = first.map(Arc::new);
        let mut node = Node {
            config,
            replica: None,
            now: Time::from_nanos(1_000_000_000),
            disk,
            log: Records::default(),
            incarnation: LogIncarnation::default(),
            work: VecDeque::new(),
            metas: VecDeque::new(),
            older: vec![],
            outbox: vec![],
            told: Told::default(),
        };
        node.start();
        node
    }

    /// Recovers the replica from its disk.
    pub(crate) fn start(&mut self) {
        let state = self.disk.recover();
        self.log = self.disk.log.clone();
        self.incarnation = state.incarnation;
        // What was shown in an earlier life was committed; but this log may have to be brought to it again.
        self.told.committed = state.commit.max(state.base.position.lsn);
        self.told.halt = None;
        match Replica::recover(self.config.clone(), state, self.now) {
            Ok(replica) => self.replica = Some(replica),
            Err(error) => self.outrage(format!("cannot be recovered: {error}")),
        }
        self.pump(&Bytes::default());
    }

    /// Loses everything that is not synced. What was sent is on its way.
    pub(crate) fn crash(&mut self) {
        self.replica = None;
        self.work.clear();
        self.metas.clear();
        self.older.clear();
        self.told.keeps.clear();
        self.log = self.disk.log.clone();
    }

    /// Records of the disk of a node that is down rot away; the recovery will find it out.
    pub(crate) fn lose(&mut self, range: LsnRange) {
        for lsn in range.first.get()..=range.last.get() {
            let index = lsn
                .checked_sub(self.disk.log.base.lsn.get() + 1)
                .and_then(|index| usize::try_from(index).ok());
            if let Some(entry) = index.and_then(|index| self.disk.log.entries.get_mut(index)) {
                (entry.kind, entry.text) = (Kind::Lost, "?".into());
            }
        }
        self.disk.is_damaged = true;
    }

    /// An empty disk in the place of the one that was there; under another id, or the same.
    pub(crate) fn wipe(&mut self, me: Member) {
        self.config.me = me;
        self.disk = Disk { is_blank: true, ..Disk::default() };
        self.log = Records::default();
    }

    pub(crate) fn member(&self) -> Member {
        self.config.me
    }

    /// Whether the meta has something to save.
    pub(crate) fn owes_meta(&self) -> bool {
        !self.metas.is_empty()
    }

    /// Whether the log or a snapshot has something to sync.
    pub(crate) fn owes_sync(&self) -> bool {
        !self.work.is_empty()
    }

    pub(crate) fn give(&mut self, input: Input) {
        self.handle(input, &Bytes::default());
    }

    pub(crate) fn receive(&mut self, letter: &Letter) {
        let input = Input::Received(letter.envelope.clone());
        self.handle(input, &Bytes { letter: Some(letter), ..Bytes::default() });
    }

    pub(crate) fn propose(&mut self, token: u64, texts: &[Arc<str>], producer: Option<(ProducerId, u64)>) {
        let records = u32::try_from(texts.len()).expect("few records");
        let proposal = Proposal { token, records, bytes: u64::from(records) * RECORD_BYTES, producer };
        self.handle(Input::Propose(proposal), &Bytes { texts, ..Bytes::default() });
    }

    /// Lets this node's clock run, with a tick at each deadline on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.plus(time);
        while let Some(deadline) = self.deadline().filter(|deadline| *deadline <= until) {
            self.now = deadline.max(self.now.plus(Duration::from_nanos(1)));
            self.give(Input::Tick);
        }
        self.now = until.max(self.now);
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.replica.as_ref().and_then(Replica::next_deadline)
    }

    /// The application's snapshot at what is committed.
    pub(crate) fn take_snapshot(&mut self, bytes: u64) {
        let Some(base) = self.replica.as_ref().and_then(Replica::base) else { return };
        let Some(covered) = self.disk.through(base.position.lsn) else {
            return self.outrage("a snapshot of records that are not synced here".to_owned());
        };
        let before = std::mem::replace(&mut self.disk.base, base.clone());
        let covers = std::mem::replace(&mut self.disk.covered, covered);
        let size = self.disk.snapshot_bytes.replace(bytes);
        let id = SnapshotId(before.position);
        self.older.extend(size.filter(|_| self.told.keeps.contains(&id)).map(|size| Older {
            id,
            size,
            covers,
        }));
        self.give(Input::SnapshotTaken { base, bytes });
    }

    /// Trims the log under its snapshot, as far as no laggard needs it. Tells how far.
    pub(crate) fn trim(&mut self) -> Lsn {
        let through =
            self.told.pin.map_or(self.disk.base.position.lsn, |pin| pin.min(self.disk.base.position.lsn));
        if through > self.disk.log.base.lsn {
            self.disk.log.trim(through);
            self.log.trim(through);
            self.give(Input::Trimmed { through });
        }
        self.disk.log.base.lsn
    }

    /// The superblock syncs.
    pub(crate) fn sync_meta(&mut self) {
        let newest = self.metas.drain(..).next_back();
        if let Some((number, meta)) = newest {
            self.disk.meta = meta;
            // A life that was begun before is as durable.
            self.disk.recoveries = self.disk.recoveries.max(self.incarnation.get() >> 20);
            self.give(Input::MetaSaved { number });
        }
    }

    /// The disk does all that it has been asked for until now, and syncs.
    pub(crate) fn sync(&mut self) {
        let mut said = vec![];
        let work: Vec<Work> = self.work.drain(..).collect();
        let incarnation = self.incarnation;
        let mut has_written = false;
        for work in work {
            has_written |= matches!(work, Work::Write(_));
            said.extend(self.do_work(work));
        }
        if has_written {
            said.push(Input::Durable { incarnation, lsn: self.disk.log.last() });
        }
        self.disk.commit = self.disk.commit.max(self.told.committed.min(self.disk.log.last()));
        for input in said {
            self.give(input);
        }
    }

    fn do_work(&mut self, work: Work) -> Option<Input> {
        let disk = &mut self.disk;
        match work {
            Work::Write(entries) => {
                disk.is_blank = false;
                disk.log.entries.extend(entries);
                None
            }
            Work::Truncate { after, .. } => {
                disk.log.truncate(after);
                None
            }
            Work::Stage(offer) => {
                disk.staged = Some(Stage { offer, bytes: 0, covered: Arc::default() });
                None
            }
            Work::StageChunk { snapshot, offset, bytes, covered, is_sound } => {
                let stage = disk.staged.as_mut().filter(|stage| stage.offer.id() == snapshot);
                match stage.filter(|stage| is_sound && stage.bytes == offset) {
                    Some(stage) => {
                        stage.bytes += u64::from(bytes);
                        stage.covered = covered;
                        Some(Input::ChunkStaged { snapshot, bytes: stage.bytes })
                    }
                    None => Some(Input::ChunkRefused { snapshot }),
                }
            }
            Work::Install { snapshot, base, incarnation } => self.install(snapshot, &base, incarnation),
            Work::Mend { range, entries, is_sound } => {
                if !is_sound {
                    return Some(Input::MendRefused { range });
                }
                for (lsn, entry) in (range.first.get()..=range.last.get()).zip(entries) {
                    let index =
                        usize::try_from(lsn - disk.log.base.lsn.get() - 1).expect("inside of the log");
                    self.log.entries[index] = entry.clone();
                    disk.log.entries[index] = entry;
                }
                Some(Input::Mended { range })
            }
        }
    }

    fn install(
        &mut self,
        snapshot: SnapshotId,
        base: &Arc<Base>,
        incarnation: LogIncarnation,
    ) -> Option<Input> {
        let disk = &mut self.disk;
        let Some(stage) = disk.staged.take().filter(|stage| stage.offer.id() == snapshot) else {
            self.outrage("switches to a snapshot that is not staged".to_owned());
            return None;
        };
        if stage.bytes != stage.offer.bytes {
            let (bytes, of) = (stage.bytes, stage.offer.bytes);
            self.outrage(format!("switches to a snapshot of which {bytes} of {of} bytes are there"));
            return None;
        }
        if base.position.lsn <= disk.commit {
            let (to, commit) = (base.position.lsn, disk.commit);
            self.outrage(format!("goes back to a snapshot at {to}, and {commit} is committed"));
            return None;
        }
        disk.is_blank = false;
        disk.base = Base::clone(base);
        disk.snapshot_bytes = Some(stage.offer.bytes);
        disk.covered = stage.covered;
        disk.log = Records { base: base.position, entries: vec![] };
        disk.commit = base.position.lsn;
        self.log = disk.log.clone();
        Some(Input::Installed { snapshot, incarnation })
    }

    fn handle(&mut self, input: Input, bytes: &Bytes<'_>) {
        let Some(replica) = &mut self.replica else { return };
        replica.handle(self.now, input);
        self.pump(bytes);
    }

    /// Does what the replica wants done, and answers what can be answered at once.
    fn pump(&mut self, bytes: &Bytes<'_>) {
        let mut answers = vec![];
        while let Some(effect) = self.replica.as_mut().and_then(Replica::poll) {
            answers.extend(self.effect(effect, bytes));
        }
        for answer in answers {
            self.handle(answer, &Bytes::default());
        }
    }

    fn effect(&mut self, effect: Effect, bytes: &Bytes<'_>) -> Option<Input> {
        match effect {
            Effect::SaveMeta { number, meta } => self.metas.push_back((number, meta)),
            Effect::Send(envelope) => self.send(envelope),
            Effect::Write(group) => self.write(&group, bytes),
            Effect::Truncate { after, incarnation } => {
                self.log.truncate(after);
                self.incarnation = incarnation;
                self.work.push_back(Work::Truncate { after, incarnation });
            }
            Effect::StageSnapshot(offer) => self.work.push_back(Work::Stage(*offer)),
            Effect::StageChunk { snapshot, offset, bytes: size, .. } => {
                let covered = bytes.letter.map(|letter| Arc::clone(&letter.covered)).unwrap_or_default();
                let is_sound = bytes.letter.is_some_and(|letter| letter.is_sound);
                self.work.push_back(Work::StageChunk { snapshot, offset, bytes: size, covered, is_sound });
            }
            Effect::Install { snapshot, base, incarnation } => {
                self.incarnation = incarnation;
                self.work.push_back(Work::Install { snapshot, base, incarnation });
            }
            Effect::Mend { group, .. } => {
                let letter = bytes.letter.expect("a repair comes with a message");
                let (range, is_sound) = (group.range, letter.is_sound);
                self.work.push_back(Work::Mend { range, entries: letter.entries.clone(), is_sound });
            }
            Effect::Reopen { is_whole } => {
                self.disk.is_damaged &= !is_whole;
                // What was asked of the disk before this is done before this.
                for work in std::mem::take(&mut self.work) {
                    self.do_work(work);
                }
                self.crash();
                self.start();
            }
            read @ (Effect::ReadLog { .. } | Effect::ReadRange { .. } | Effect::ReadSnapshot { .. }) => {
                return Some(self.read(&read));
            }
            told => self.tell(told),
        }
        None
    }

    fn tell(&mut self, effect: Effect) {
        match effect {
            Effect::Committed(lsn) => self.told.committed = self.told.committed.max(lsn),
            Effect::Resolve { token, outcome } => {
                if let Some(before) = self.told.outcomes.insert(token, outcome) {
                    self.outrage(format!("answers a token twice: {before:?}, then {outcome:?}"));
                }
            }
            Effect::ReadReady { token, lsn } => drop(self.told.reads.insert(token, Some(lsn))),
            Effect::ReadFailed { token, .. } => drop(self.told.reads.insert(token, None)),
            Effect::Pin(pin) => self.told.pin = pin,
            Effect::KeepSnapshots(ids) => {
                self.older.retain(|older| ids.contains(&older.id));
                self.told.keeps = ids;
            }
            Effect::Halt(halt) => self.told.halt = Some(halt),
            _ => {}
        }
    }

    fn read(&mut self, effect: &Effect) -> Input {
        let end = self.log.last();
        match *effect {
            Effect::ReadLog { to, from, bytes_max } => match self.log.group(from, end, bytes_max) {
                Some(group) => Input::LogRead { to, group },
                None => Input::LogGone { to },
            },
            Effect::ReadRange { to, range, bytes_max } => {
                match self.log.group(range.first, range.last, bytes_max) {
                    Some(group) => Input::RangeRead { to, group, digest: 1 },
                    None => Input::LogGone { to },
                }
            }
            Effect::ReadSnapshot { to, snapshot, offset, bytes_max } => match self.snapshot(snapshot) {
                Some((size, _)) => {
                    let bytes = u32::try_from((size - offset).min(u64::from(bytes_max))).expect("bounded");
                    Input::SnapshotRead { to, snapshot, offset, bytes, digest: 1 }
                }
                None => Input::SnapshotGone { to },
            },
            _ => Input::Tick,
        }
    }

    /// Size and contents of a snapshot that is still here.
    fn snapshot(&self, id: SnapshotId) -> Option<(u64, &Arc<[Entry]>)> {
        let newest = Some(&self.disk).filter(|disk| SnapshotId(disk.base.position) == id);
        let newest = newest.and_then(|disk| Some((disk.snapshot_bytes?, &disk.covered)));
        let older = self.older.iter().find(|older| older.id == id);
        newest.or_else(|| older.map(|older| (older.size, &older.covers)))
    }

    fn send(&mut self, envelope: Envelope) {
        let range = match &envelope.message {
            Message::Append { group, .. } | Message::RepairGive { group, .. } => Some(group.range),
            _ => None,
        };
        let entries = range.map_or(Some(vec![]), |range| self.log.range(range));
        let Some(entries) = entries else {
            return self.outrage(format!("sends records that it does not have: {:?}", envelope.message));
        };
        let covered = match &envelope.message {
            Message::SnapshotChunk { snapshot, .. } => self.snapshot(*snapshot).map(|(_, covered)| covered),
            _ => None,
        };
        let covered = covered.map(Arc::clone).unwrap_or_default();
        self.outbox.push(Letter { envelope, entries, covered, is_sound: true });
    }

    fn write(&mut self, group: &Group, bytes: &Bytes<'_>) {
        if group.range.first != self.log.last().next() {
            return self.outrage(format!("writes {} after {}", group.range, self.log.last()));
        }
        let entries = match bytes.letter {
            Some(letter) if matches!(group.content, Content::Records(_)) => letter.entries.clone(),
            _ => entries_of(group, bytes.texts),
        };
        self.log.entries.extend(entries.iter().cloned());
        self.work.push_back(Work::Write(entries));
    }

    fn outrage(&mut self, what: String) {
        let id = self.config.me.id;
        self.told.outrage.get_or_insert(format!("replica {id} {what}"));
    }
}

/// The id of a replica by its number.
pub(crate) fn id(number: u64) -> ReplicaId {
    ReplicaId::new(number)
}
