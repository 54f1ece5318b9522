//! What a loss of power leaves behind.

use std::collections::BTreeMap;
use std::ops::Range;

use super::SimDisk;
use super::chance::Chance;
use super::image::{Change, Image};
use super::state::{Inode, Shared, State};

/// The smallest unit of which a device writes all or nothing, unless it tears at any byte.
const SECTOR_BYTES: u64 = 512;

/// What a crash may do to changes that no sync has made durable.
///
/// In every case: what was synced stays; each unit of a file ends with its synced bytes or with those of one
/// of the later writes to it, each unit for itself, which is every subset and order that a cache may have
/// written them back in; the length is one of those that the file had since its last sync; bytes that all of
/// the writes agree on with what was there stay (the assumption called "powersafe overwrite").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrashPolicy {
    /// Which of the changes survive.
    pub fate: Fate,
    /// Where a write that survives in part is torn.
    pub tear: Tear,
    /// What is found where a write did not survive.
    pub unwritten: Unwritten,
    /// Which of the unsynced names survive.
    pub names: Names,
}

/// Which changes survive a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// None but what was synced.
    LoseAll,
    /// All.
    KeepAll,
    /// Some, by chance from this seed.
    Seeded(u64),
}

/// Where writes are torn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tear {
    /// Between sectors of 512 bytes.
    Sector,
    /// Between blocks of 4 KiB.
    Block,
    /// Anywhere.
    AnyByte,
}

/// What is found where a write did not survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unwritten {
    /// What was there before.
    Old,
    /// Sometimes zeros, else what was there before.
    Zeros,
    /// Sometimes noise, else what was there before.
    Noise,
}

/// Which unsynced changes of names survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Names {
    /// The first so many, as a journal keeps them.
    InOrder,
    /// Any of them, as POSIX allows.
    Any,
}

impl CrashPolicy {
    /// Everything that was not synced is gone.
    pub const LOSE_ALL: CrashPolicy = CrashPolicy {
        fate: Fate::LoseAll,
        tear: Tear::Sector,
        unwritten: Unwritten::Old,
        names: Names::InOrder,
    };
    /// Everything was written back just in time, also what was in flight.
    pub const KEEP_ALL: CrashPolicy = CrashPolicy { fate: Fate::KeepAll, ..CrashPolicy::LOSE_ALL };

    /// Everything by chance: what survives, where it tears, what is found instead, which names.
    #[must_use]
    pub fn seeded(seed: u64) -> CrashPolicy {
        let mut chance = Chance::new(seed);
        CrashPolicy {
            tear: [Tear::Sector, Tear::Block, Tear::AnyByte][chance.below(3)],
            unwritten: [Unwritten::Old, Unwritten::Zeros, Unwritten::Noise][chance.below(3)],
            names: [Names::InOrder, Names::Any][chance.below(2)],
            fate: Fate::Seeded(chance.next()),
        }
    }
}

impl SimDisk {
    /// The disk as it is found if the power fails now: another disk, with all locks free and no faults
    /// planned. This one goes on as if nothing had happened, so one moment can be crashed in many ways.
    #[must_use]
    pub fn crash(&self, policy: CrashPolicy) -> SimDisk {
        match policy.fate {
            Fate::LoseAll => self.crash_as(policy, &mut Always { keep: false }),
            Fate::KeepAll => self.crash_as(policy, &mut Always { keep: true }),
            Fate::Seeded(seed) => self.crash_as(policy, &mut Seeded::new(seed)),
        }
    }

    /// Every disk that may be found if the power fails now, one after the other; for tiny cases.
    ///
    /// `policy.fate` is not looked at. The disk must stay as it is meanwhile.
    pub fn crash_choices(&self, policy: CrashPolicy) -> impl Iterator<Item = SimDisk> {
        let mut odometer = Some(Odometer::default());
        std::iter::from_fn(move || {
            let mut turned = odometer.take()?;
            let found = self.crash_as(policy, &mut turned);
            odometer = turned.advance();
            Some(found)
        })
    }

    fn crash_as(&self, policy: CrashPolicy, choose: &mut dyn Choose) -> SimDisk {
        let state = self.shared.state.lock();
        let names = surviving_names(&state, policy.names, choose);
        let mut found = State {
            chance: Chance::new(state.chance.clone().next() ^ choose.any()),
            wall_ms: state.wall_ms,
            capacity: state.capacity,
            writes_zeroes: state.writes_zeroes,
            unsupported: state.unsupported.clone(),
            trace: state.trace.clone(),
            is_untraced: state.is_untraced,
            ..State::default()
        };
        let mut placed = BTreeMap::new();
        for (name, inode) in names {
            if let Some(again) = placed.get(&inode) {
                found.place_again(&name, *again);
                continue;
            }
            let image = survivor(&state.inodes[&inode], policy, choose);
            placed.insert(inode, found.place(&name, image));
        }
        found.note(&format!("crash {policy:?}"));
        SimDisk { shared: Shared::new(found) }
    }
}

/// Decides what a crash leaves.
trait Choose {
    /// A number from 0, for the oldest version, to `newest`.
    fn version(&mut self, newest: usize) -> usize;
    /// A number below `options`, where 0 is the plain case.
    fn oddity(&mut self, options: usize) -> usize;
    /// Any number; the same one each time the same crash is replayed.
    fn any(&mut self) -> u64;
}

struct Always {
    keep: bool,
}

impl Choose for Always {
    fn version(&mut self, newest: usize) -> usize {
        if self.keep { newest } else { 0 }
    }
    fn oddity(&mut self, _: usize) -> usize {
        0
    }
    fn any(&mut self) -> u64 {
        0
    }
}

/// By chance. Most writes survive in some crashes and few in others: fair coins alone would never leave a
/// long run of either.
struct Seeded {
    chance: Chance,
    kept_of_eight: usize,
}

impl Seeded {
    fn new(seed: u64) -> Seeded {
        let mut chance = Chance::new(seed);
        let kept_of_eight = [0, 1, 4, 7, 8][chance.below(5)];
        Seeded { chance, kept_of_eight }
    }
}

impl Choose for Seeded {
    fn version(&mut self, newest: usize) -> usize {
        // The exception keeps extremes from being absolute.
        if self.chance.below(16) == 0 {
            self.chance.below(newest + 1)
        } else if self.chance.below(8) < self.kept_of_eight {
            newest
        } else {
            self.chance.below(newest)
        }
    }
    fn oddity(&mut self, options: usize) -> usize {
        if self.chance.below(2) == 0 { 0 } else { self.chance.below(options) }
    }
    fn any(&mut self) -> u64 {
        self.chance.next()
    }
}

/// All combinations in turn, like the wheels of an odometer: what was chosen, out of how many.
#[derive(Default)]
struct Odometer {
    wheels: Vec<(usize, usize)>,
    read: usize,
}

impl Odometer {
    fn turn(&mut self, options: usize) -> usize {
        if self.read == self.wheels.len() {
            self.wheels.push((0, options));
        }
        let (chosen, of) = self.wheels[self.read];
        assert_eq!(of, options, "the disk changed while its crashes were enumerated");
        self.read += 1;
        chosen
    }

    /// The next combination; the last wheels turn first, because earlier choices decide what there is to
    /// choose later.
    fn advance(mut self) -> Option<Odometer> {
        self.wheels.truncate(self.read);
        while let Some((chosen, of)) = self.wheels.pop() {
            if chosen + 1 < of {
                self.wheels.push((chosen + 1, of));
                return Some(Odometer { wheels: self.wheels, read: 0 });
            }
        }
        None
    }
}

impl Choose for Odometer {
    fn version(&mut self, newest: usize) -> usize {
        self.turn(newest + 1)
    }
    fn oddity(&mut self, options: usize) -> usize {
        self.turn(options)
    }
    fn any(&mut self) -> u64 {
        0
    }
}

fn surviving_names(state: &State, policy: Names, choose: &mut dyn Choose) -> BTreeMap<String, u64> {
    let mut names = state.durable_names.clone();
    let pending = &state.pending_names;
    if pending.is_empty() {
        return names;
    }
    match policy {
        Names::InOrder => {
            let kept = choose.version(pending.len());
            pending[..kept].iter().for_each(|change| change.apply(&mut names));
        }
        Names::Any => {
            for change in pending {
                if choose.version(1) == 1 {
                    change.apply(&mut names);
                }
            }
        }
    }
    names
}

/// What is left of a file.
fn survivor(inode: &Inode, policy: CrashPolicy, choose: &mut dyn Choose) -> Image {
    let changes: Vec<&Change> = inode.pending.iter().map(|pending| &pending.change).collect();
    let mut image = inode.durable.clone();
    if changes.is_empty() {
        return image;
    }
    let mut lengths = vec![inode.durable.bytes];
    for change in &changes {
        if change.length() > lengths[lengths.len() - 1] {
            lengths.push(change.length());
        }
    }
    let length = match lengths.len() {
        1 => lengths[0],
        several => lengths[choose.version(several - 1)],
    };
    for (unit, touching) in units(&changes, policy.tear, length) {
        let bytes = surviving_unit(&inode.durable, unit.clone(), &touching, policy, choose);
        image.write(&bytes, unit.start);
    }
    image.set_length(length);
    image
}

/// The parts of the file that are written on their own, each with the changes that touch it, oldest first.
fn units<'a>(changes: &[&'a Change], tear: Tear, length: u64) -> Vec<(Range<u64>, Vec<&'a Change>)> {
    let unit_bytes = match tear {
        Tear::Sector | Tear::AnyByte => SECTOR_BYTES,
        Tear::Block => 8 * SECTOR_BYTES,
    };
    let mut units: BTreeMap<u64, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        let range = change.range();
        for unit in range.start / unit_bytes..range.end.min(length).div_ceil(unit_bytes) {
            units.entry(unit).or_default().push(change);
        }
    }
    units.into_iter().map(|(unit, touching)| (unit * unit_bytes..(unit + 1) * unit_bytes, touching)).collect()
}

fn surviving_unit(
    durable: &Image,
    unit: Range<u64>,
    changes: &[&Change],
    policy: CrashPolicy,
    choose: &mut dyn Choose,
) -> Vec<u8> {
    let old = {
        let mut bytes = vec![0; (unit.end - unit.start) as usize];
        durable.peek(&mut bytes, unit.start);
        bytes
    };
    let mut versions = vec![old];
    for change in changes {
        let mut bytes = versions[versions.len() - 1].clone();
        change.apply_within(unit.clone(), &mut bytes);
        if bytes != versions[versions.len() - 1] {
            versions.push(bytes);
        }
    }
    let newest = versions.len() - 1;
    if newest == 0 {
        return versions.swap_remove(0);
    }
    let version = choose.version(newest);
    let mut bytes = versions[version].clone();
    if version == newest {
        return bytes;
    }
    if policy.tear == Tear::AnyByte {
        let cut = choose.oddity(bytes.len());
        bytes[..cut].copy_from_slice(&versions[version + 1][..cut]);
    }
    if policy.unwritten != Unwritten::Old && choose.oddity(2) == 1 {
        let mut instead = vec![0; bytes.len()];
        if policy.unwritten == Unwritten::Noise {
            Chance::new(choose.any() ^ unit.start).fill(&mut instead);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let agreed = versions.iter().all(|version| version[at] == *byte);
            let written = *byte == versions[newest][at];
            if !agreed && !written {
                *byte = instead[at];
            }
        }
    }
    bytes
}
