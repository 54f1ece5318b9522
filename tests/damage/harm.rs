//! What happens to stored bytes and to files.

use std::ops::Range;

use annals::Lsn;
use annals::format::{SLOT_BYTES, SUPERBLOCK_BYTES, Superblock, block_up};

use crate::anatomy::{Anatomy, Group, Segment};
use crate::directory::{Directory, SUPERBLOCK};
use crate::seeds::Chance;
use annals_fixtures::segment::index;

/// A kind of damage; where it strikes is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Harm {
    /// One bit of what counts.
    Bit,
    /// Some bits close to each other.
    Bits,
    /// Noise over some bytes.
    Noise,
    /// A sector of 512 bytes reads as zeros.
    Sector,
    /// A block of 4 KiB reads as zeros.
    Block,
    /// A block reads as noise.
    NoisyBlock,
    /// A group with all of its frames.
    Group,
    GroupHeader,
    FrameHeader,
    Payload,
    SegmentHeader,
    Trailer,
    Tables,
    /// One slot of the superblock.
    Slot,
    BothSlots,
    SuperblockGone,
    SuperblockCut,
    /// The superblock of some time ago.
    SuperblockOld,
    TailCutClean,
    TailCutInside,
    TailCutAtBlock,
    TailGone,
    MiddleGone,
    SeveralGone,
    FirstGone,
    Swapped,
    /// A copy of a segment under the name of another one.
    DoubledOver,
    /// A copy under a name that no segment has.
    DoubledBeside,
    DoubledAsSpare,
    /// A segment of another log in the place of one of this.
    Foreign,
    /// The same, beside those of this log.
    ForeignBeside,
    /// A segment as it was before its last groups were written.
    SegmentOld,
}

pub(crate) const ALL: [Harm; 32] = [
    Harm::Bit,
    Harm::Bits,
    Harm::Noise,
    Harm::Sector,
    Harm::Block,
    Harm::NoisyBlock,
    Harm::Group,
    Harm::GroupHeader,
    Harm::FrameHeader,
    Harm::Payload,
    Harm::SegmentHeader,
    Harm::Trailer,
    Harm::Tables,
    Harm::Slot,
    Harm::BothSlots,
    Harm::SuperblockGone,
    Harm::SuperblockCut,
    Harm::SuperblockOld,
    Harm::TailCutClean,
    Harm::TailCutInside,
    Harm::TailCutAtBlock,
    Harm::TailGone,
    Harm::MiddleGone,
    Harm::SeveralGone,
    Harm::FirstGone,
    Harm::Swapped,
    Harm::DoubledOver,
    Harm::DoubledBeside,
    Harm::DoubledAsSpare,
    Harm::Foreign,
    Harm::ForeignBeside,
    Harm::SegmentOld,
];

/// Where damage is drawn to.
pub(crate) struct Patient<'a> {
    pub(crate) files: &'a mut Directory,
    pub(crate) anatomy: &'a Anatomy,
    /// A segment of another log.
    pub(crate) foreign: &'a [u8],
}

impl Harm {
    /// Does it; says what was done, or nothing if the log has no place for it.
    pub(crate) fn strike(self, chance: &mut Chance, patient: &mut Patient<'_>) -> Option<String> {
        let done = match self {
            Harm::Bit
            | Harm::Bits
            | Harm::Noise
            | Harm::Sector
            | Harm::Block
            | Harm::NoisyBlock
            | Harm::Group
            | Harm::GroupHeader
            | Harm::FrameHeader
            | Harm::Payload
            | Harm::SegmentHeader
            | Harm::Trailer
            | Harm::Tables => self.bytes(chance, patient)?,
            Harm::Slot
            | Harm::BothSlots
            | Harm::SuperblockGone
            | Harm::SuperblockCut
            | Harm::SuperblockOld => self.superblock(chance, patient)?,
            Harm::TailCutClean | Harm::TailCutInside | Harm::TailCutAtBlock => self.cut(chance, patient)?,
            Harm::TailGone | Harm::MiddleGone | Harm::SeveralGone | Harm::FirstGone => {
                self.gone(chance, patient)?
            }
            Harm::Swapped
            | Harm::DoubledOver
            | Harm::DoubledBeside
            | Harm::DoubledAsSpare
            | Harm::Foreign
            | Harm::ForeignBeside
            | Harm::SegmentOld => self.misplaced(chance, patient)?,
        };
        Some(format!("{self:?} ({done})"))
    }

    fn bytes(self, chance: &mut Chance, patient: &mut Patient<'_>) -> Option<String> {
        let segments: Vec<&Segment> = patient.present();
        let segment: &Segment = pick(chance, &segments)?;
        let group = pick(chance, &segment.groups);
        let length = patient.files.bytes(&segment.name)?.len() as u64;
        let (what, range) = match self {
            Harm::Group => ("noise", group?.head().start..group?.frames_end()),
            Harm::GroupHeader => ("bits", within(chance, group?.head())),
            Harm::FrameHeader => {
                let frame = pick(chance, &group?.frames)?.bytes.clone();
                ("bits", within(chance, frame.start..frame.start + 32))
            }
            Harm::Payload => {
                let frame = pick(chance, &group?.frames)?.bytes.clone();
                ("bits", within(chance, (frame.start + 32).min(frame.end - 1)..frame.end))
            }
            Harm::SegmentHeader => ("bits", within(chance, 0..96)),
            Harm::Trailer => {
                segment.footer?;
                let start = segment.trailer().start;
                ("bits", within(chance, start..start + 128))
            }
            Harm::Tables => {
                segment.footer?;
                let start = segment.tables().start;
                ("bits", within(chance, start..start + 48))
            }
            Harm::Sector => ("zeros", around(place(chance, segment, group), 512)),
            Harm::Block => ("zeros", around(place(chance, segment, group), 4096)),
            Harm::NoisyBlock => ("noise", around(place(chance, segment, group), 4096)),
            Harm::Noise => {
                let at = place(chance, segment, group);
                ("noise", at..at + chance.between(2, 40))
            }
            Harm::Bit => ("bit", place(chance, segment, group)..u64::MAX),
            _ => {
                let at = place(chance, segment, group);
                ("bits", at..at + chance.between(1, 6))
            }
        };
        let range = if what == "bit" { range.start..range.start + 1 } else { range };
        let range = range.start.min(length)..range.end.min(length);
        spoil(chance, what, &mut patient.files.edit(&segment.name)[index(range.start)..index(range.end)]);
        Some(format!("{what} at {range:?} of {}", segment.name))
    }

    fn superblock(self, chance: &mut Chance, patient: &mut Patient<'_>) -> Option<String> {
        patient.files.bytes(SUPERBLOCK).filter(|bytes| bytes.len() == SUPERBLOCK_BYTES)?;
        let bytes = patient.files.edit(SUPERBLOCK);
        let mut says = String::new();
        match self {
            Harm::SuperblockGone => drop(patient.files.0.remove(SUPERBLOCK)),
            Harm::SuperblockCut => {
                let left =
                    chance.pick(&[0, 100, 4096, SLOT_BYTES, SLOT_BYTES + 700, SUPERBLOCK_BYTES - 4096]);
                bytes.truncate(left);
                says = format!("to {left}");
            }
            Harm::SuperblockOld => {
                let current = &patient.anatomy.superblock;
                let first = patient.anatomy.segments[0].header.first_lsn;
                let durable = Lsn::new(chance.between(0, current.durable.get()));
                let old = Superblock {
                    sequence: current.sequence - 1,
                    durable,
                    first_lsn: first.min(current.first_lsn),
                    clean_tail: None,
                    mark: None,
                    ..current.clone()
                };
                let older = Superblock { sequence: current.sequence.saturating_sub(2), ..old.clone() };
                bytes.fill(0);
                for slot in [old, older] {
                    slot.encode_into(&mut bytes[slot.slot() * SLOT_BYTES..]);
                }
                says = format!("durable {durable}");
            }
            _ => {
                let one = index(chance.below(2));
                let slots = if self == Harm::Slot { vec![one] } else { vec![0, 1] };
                for slot in slots {
                    let what = chance.pick(&["bit", "zeros", "noise"]);
                    let from = slot * SLOT_BYTES;
                    let range = if what == "bit" { from + index(chance.below(160)) } else { from };
                    let bytes_max = chance.pick(&[1, 512, 4096]);
                    spoil(chance, what, &mut bytes[range..range + bytes_max]);
                    says.push_str(&format!("{what} from {range}; "));
                }
            }
        }
        Some(says)
    }

    fn cut(self, chance: &mut Chance, patient: &mut Patient<'_>) -> Option<String> {
        let tail = patient.present().pop()?;
        let left = match self {
            Harm::TailCutClean if chance.below(2) == 0 => tail.end,
            Harm::TailCutClean => pick(chance, &tail.groups)?.frames_end(),
            Harm::TailCutInside => within(chance, 1..tail.end + 1).start,
            _ => 4096 * chance.between(0, tail.header.segment_bytes / 4096 - 1),
        };
        let bytes = patient.files.edit(&tail.name);
        bytes.truncate(index(left));
        Some(format!("{} to {left}", tail.name))
    }

    fn gone(self, chance: &mut Chance, patient: &mut Patient<'_>) -> Option<String> {
        let names: Vec<String> = patient.present().iter().map(|segment| segment.name.clone()).collect();
        let last = names.len().checked_sub(1)?;
        let gone: Vec<&String> = match self {
            Harm::TailGone => vec![&names[last]],
            Harm::FirstGone => vec![&names[0]],
            Harm::MiddleGone if last >= 2 => vec![&names[index(chance.between(1, last as u64 - 1))]],
            Harm::SeveralGone if last >= 2 => names.iter().filter(|_| chance.below(2) == 0).collect(),
            _ => return None,
        };
        gone.iter().for_each(|name| drop(patient.files.0.remove(*name)));
        Some(format!("{gone:?}"))
    }

    fn misplaced(self, chance: &mut Chance, patient: &mut Patient<'_>) -> Option<String> {
        let segments = patient.present();
        let one = *pick(chance, &segments)?;
        let (name, bytes) = (one.name.clone(), patient.files.bytes(&one.name)?.to_vec());
        let other = pick(chance, &segments).map(|other| other.name.clone())?;
        let beyond = format!("{:020}.seg", patient.anatomy.last().get() + chance.between(2, 900));
        match self {
            Harm::Swapped | Harm::DoubledOver if other == name => return None,
            Harm::Swapped => {
                let theirs = patient.files.0.insert(other.clone(), bytes)?;
                patient.files.0.insert(name.clone(), theirs);
            }
            Harm::DoubledOver => drop(patient.files.0.insert(other.clone(), bytes)),
            Harm::DoubledBeside => drop(patient.files.0.insert(beyond, bytes)),
            Harm::DoubledAsSpare => drop(patient.files.0.insert("spare-000900.seg".to_owned(), bytes)),
            Harm::Foreign => drop(patient.files.0.insert(name.clone(), patient.foreign.to_vec())),
            Harm::ForeignBeside => drop(patient.files.0.insert(beyond, patient.foreign.to_vec())),
            _ => {
                let groups = one.groups.len() as u64;
                let kept = index(chance.below(groups.max(1)));
                // Blocks that the later groups share with the last one that was there.
                let end = one.before(kept).max(4096);
                let bytes = patient.files.edit(&name);
                let from = index(end).min(bytes.len());
                bytes[from..].fill(0);
                return Some(format!("{name} with {kept} groups"));
            }
        }
        Some(format!("{name}, {other}"))
    }
}

impl<'a> Patient<'a> {
    /// The segments that count, and are still there under their own names.
    fn present(&self) -> Vec<&'a Segment> {
        let retained = self.anatomy.retained().iter();
        retained.filter(|segment| self.files.0.contains_key(&segment.name)).collect()
    }
}

fn pick<'a, T>(chance: &mut Chance, choices: &'a [T]) -> Option<&'a T> {
    if choices.is_empty() { None } else { choices.get(index(chance.below(choices.len() as u64))) }
}

/// One to four bytes of a range.
fn within(chance: &mut Chance, range: Range<u64>) -> Range<u64> {
    let at = chance.between(range.start, range.end - 1);
    at..(at + chance.between(1, 4)).min(range.end)
}

/// Somewhere in what counts: mostly in a group.
fn place(chance: &mut Chance, segment: &Segment, group: Option<&Group>) -> u64 {
    match (chance.below(8), group) {
        (0, _) | (_, None) => chance.below(96),
        (1, _) => chance.between(segment.trailer().start, segment.trailer().start + 127),
        (2, _) => chance.between(0, segment.header.segment_bytes - 1),
        (_, Some(group)) => chance.between(group.head().start, group.frames_end() - 1),
    }
}

/// The whole unit that a place lies in.
fn around(at: u64, unit: u64) -> Range<u64> {
    let end = if unit == 4096 { block_up(at + 1) } else { (at + 1).next_multiple_of(unit) };
    end - unit..end
}

fn spoil(chance: &mut Chance, what: &str, bytes: &mut [u8]) {
    match what {
        _ if bytes.is_empty() => {}
        "bit" => bytes[0] ^= 1 << chance.below(8),
        "bits" => bytes.iter_mut().for_each(|byte| *byte ^= chance.between(1, 255) as u8),
        "zeros" => bytes.fill(0),
        _ => bytes.iter_mut().for_each(|byte| *byte = chance.next() as u8),
    }
}
