//! What goes wrong inside of a store: the power fails, or the disk says no, in the middle of one of its steps.

use annals::disk::sim::{Fail, Fault, Operation, SimDisk};

use crate::invariants::Violation;
use crate::seeds::Chance;

/// What a store is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Open,
    Write,
    Sync,
    Meta,
    Truncate,
    Trim,
    Read,
    Snapshot,
    Stage,
    Install,
    Mend,
    /// The note that something is lost is written or removed.
    Note,
}

/// What strikes it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strike {
    /// The power fails with the first operation after so many.
    Power(u64),
    /// The nth such operation fails.
    Fails(Operation, u64, Fault),
    /// There is room for so many bytes more.
    Full(u64),
}

/// Strikes the first step of this kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) step: Step,
    pub(crate) strike: Strike,
}

/// Steps, those that are rare as often as the others.
const STEPS: [Step; 12] = [
    Step::Open,
    Step::Write,
    Step::Sync,
    Step::Meta,
    Step::Truncate,
    Step::Trim,
    Step::Read,
    Step::Snapshot,
    Step::Stage,
    Step::Install,
    Step::Mend,
    Step::Note,
];

impl Plan {
    /// The power fails inside of a step.
    pub(crate) fn power(draw: &mut Chance) -> Plan {
        Plan { step: draw.pick(&STEPS), strike: Strike::Power(draw.below(12)) }
    }

    /// An operation of the disk fails inside of a step.
    pub(crate) fn fails(draw: &mut Chance) -> Plan {
        let (operation, fault) = draw.pick(&[
            (Operation::Write, Fault::Io),
            (Operation::WriteDurable, Fault::Io),
            (Operation::Write, Fault::NoSpace),
            (Operation::Sync, Fault::Io),
            (Operation::Sync, Fault::LoseChanges),
            (Operation::SyncDir, Fault::Io),
            (Operation::Create, Fault::NoSpace),
            (Operation::Rename, Fault::Io),
            (Operation::Link, Fault::Io),
            (Operation::Link, Fault::NoSpace),
            (Operation::Remove, Fault::Io),
            (Operation::Read, Fault::Io),
        ]);
        Plan { step: draw.pick(&STEPS), strike: Strike::Fails(operation, draw.between(1, 4), fault) }
    }

    /// The disk is full before long.
    pub(crate) fn full(draw: &mut Chance) -> Plan {
        let step = draw.pick(&[Step::Write, Step::Snapshot, Step::Stage, Step::Truncate, Step::Open]);
        Plan { step, strike: Strike::Full(draw.below(32 << 10)) }
    }
}

impl Strike {
    pub(crate) fn arm(self, disk: &SimDisk) {
        match self {
            Strike::Power(more) => disk.crash_after(more),
            Strike::Fails(operation, nth, fault) => disk.fail(Fail::nth(operation, nth, fault)),
            Strike::Full(more) => disk.set_capacity(Some(disk.used() + more)),
        }
    }
}

/// What ends a handler when the disk has failed under it: no promise is broken, but the process ends.
const FAILED: &str = "the disk has failed, as was planned";

pub(crate) fn failed(what: String) -> Violation {
    Violation { number: 0, promise: FAILED, what }
}

pub(crate) fn is_failure(violation: &Violation) -> bool {
    std::ptr::eq(violation.promise, FAILED) || violation.promise == FAILED
}
