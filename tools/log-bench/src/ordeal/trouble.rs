//! What may happen to a cluster, drawn from a seed.

use std::time::Duration;

use annals_ledger::Chance;
use clap::ValueEnum;
use serde::Serialize;

use crate::cluster::sick::Sickness;

/// The kinds of trouble, as they are named on the command line and counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A process is killed with SIGKILL, and started again; now and then killed again while it opens its log.
    Kill,
    /// All of them are.
    KillAll,
    /// A process is stopped with SIGSTOP, and goes on later.
    Pause,
    /// The primary's role is handed over; now and then the primary is killed over it.
    Transfer,
    /// A disk stands still for a while.
    Stall,
    /// A disk is full for a while.
    Full,
    /// All writes and syncs of a disk fail for a while.
    Failing,
    /// A disk is read-only for a while.
    ReadOnly,
    /// Complete segments of a replica that is down are damaged.
    Rot,
    /// The directory of a replica is deleted: it is refused, taken out, and added as a newcomer.
    Wipe,
    /// The directories of two replicas are swapped: both are refused.
    Swap,
    /// Replicas take snapshots and trim their logs.
    Trim,
    /// The directory of a replica is deleted, and the newcomer that takes its place is killed while it catches up.
    Newcomer,
    /// Links are cut, in one direction or both, between two replicas or around one. Only with --namespaces.
    Cut,
}

/// Whom it strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) enum Who {
    Primary,
    Backup,
    Anyone,
}

/// Damage to one complete segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) enum Harm {
    /// So many bits are flipped.
    Flip(u64),
    /// A block is zeros.
    Blank,
    /// The file ends early.
    Shorten,
    /// The file is gone.
    Delete,
}

/// Which links are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) enum Cut {
    /// Its cable is pulled: it reaches nobody, and no client reaches it.
    Unplugged,
    /// From and to all other replicas; clients still reach it.
    Alone,
    /// What the others send to it.
    Deaf,
    /// What it sends to the others.
    Mute,
    /// From and to one other.
    Pair,
    /// What it sends to one other.
    OneWay,
}

/// One thing that happens.
#[derive(Clone, Debug, Serialize)]
pub(crate) enum Trouble {
    /// `again`: how long it lives each time that it is killed once more.
    Kill {
        who: Who,
        down: Duration,
        again: Vec<Duration>,
    },
    KillAll {
        downs: Vec<Duration>,
    },
    Pause {
        who: Who,
        length: Duration,
    },
    /// `kill`: so long after it was asked for, the primary is killed.
    Transfer {
        kill: Option<Duration>,
    },
    Sick {
        who: Who,
        sickness: Sickness,
        length: Duration,
    },
    Rot {
        who: Who,
        harms: Vec<Harm>,
        down: Duration,
    },
    Wipe {
        who: Who,
    },
    /// `is_trimmed`: it gets a snapshot, if anything of the log can go. `lives`: how long after each start it is killed, once
    /// it is sent what it lacks.
    Newcomer {
        who: Who,
        is_trimmed: bool,
        lives: Vec<Duration>,
    },
    Swap,
    Trim,
    Cut {
        who: Who,
        cut: Cut,
        length: Duration,
    },
}

/// Kinds with how often each is drawn.
const WEIGHTS: [(Kind, u64); 14] = [
    (Kind::Kill, 6),
    (Kind::KillAll, 2),
    (Kind::Pause, 4),
    (Kind::Transfer, 4),
    (Kind::Stall, 3),
    (Kind::Full, 2),
    (Kind::Failing, 2),
    (Kind::ReadOnly, 1),
    (Kind::Rot, 3),
    (Kind::Wipe, 2),
    (Kind::Swap, 1),
    (Kind::Trim, 2),
    (Kind::Cut, 6),
    (Kind::Newcomer, 2),
];

impl Kind {
    /// Whether it takes records from a disk for good: of two such replicas at once nothing is promised.
    fn destroys(self) -> bool {
        matches!(self, Kind::Rot | Kind::Wipe | Kind::Newcomer)
    }
}

/// What happens in one round: when, since its beginning, and what; in order.
pub(crate) fn draw(chance: &mut Chance, allowed: &[Kind]) -> Vec<(Duration, Kind, Trouble)> {
    let count = chance.pick(&[1, 1, 2, 2, 3, 4]);
    let mut plan: Vec<(Duration, Kind, Trouble)> = Vec::new();
    for _ in 0..count {
        let at = millis(chance, 0, 900);
        let kind = pick(chance, allowed);
        let trouble = trouble(chance, kind);
        if !(kind.destroys() && plan.iter().any(|(_, other, _)| other.destroys())) {
            plan.push((at, kind, trouble));
        }
    }
    plan.sort_by_key(|(at, ..)| *at);
    plan
}

fn pick(chance: &mut Chance, allowed: &[Kind]) -> Kind {
    let weights = WEIGHTS.iter().filter(|(kind, _)| allowed.contains(kind));
    let mut left = chance.below(weights.clone().map(|(_, weight)| weight).sum());
    for (kind, weight) in weights {
        match left.checked_sub(*weight) {
            None => return *kind,
            Some(rest) => left = rest,
        }
    }
    unreachable!("less than the sum of all weights")
}

fn trouble(chance: &mut Chance, kind: Kind) -> Trouble {
    let who = chance.pick(&[Who::Primary, Who::Primary, Who::Backup, Who::Anyone]);
    let mut sick = |sickness, most| Trouble::Sick { who, sickness, length: millis(chance, 50, most) };
    match kind {
        Kind::Stall => sick(Sickness::Stalled, 2500),
        Kind::Full => sick(Sickness::Full, 1500),
        Kind::Failing => sick(Sickness::Failing, 800),
        Kind::ReadOnly => sick(Sickness::ReadOnly, 800),
        Kind::Kill => {
            let times = chance.pick(&[0, 0, 0, 1, 3]);
            let again = (0..times).map(|_| millis(chance, 0, 60)).collect();
            Trouble::Kill { who, down: millis(chance, 0, 700), again }
        }
        Kind::KillAll => Trouble::KillAll { downs: (0..7).map(|_| millis(chance, 0, 500)).collect() },
        Kind::Pause => Trouble::Pause { who, length: millis(chance, 50, 1500) },
        Kind::Transfer => {
            let is_killed = chance.percent(40);
            Trouble::Transfer { kill: is_killed.then(|| millis(chance, 0, 30)) }
        }
        Kind::Rot => {
            let count = chance.between(1, 3);
            let harms = (0..count).map(|_| {
                let bits = chance.between(1, 8);
                chance.pick(&[Harm::Flip(1), Harm::Flip(bits), Harm::Blank, Harm::Shorten, Harm::Delete])
            });
            Trouble::Rot { who, harms: harms.collect(), down: millis(chance, 0, 400) }
        }
        Kind::Wipe => Trouble::Wipe { who },
        Kind::Newcomer => {
            let (is_trimmed, times) = (chance.percent(60), chance.between(1, 3));
            let lives = (0..times).map(|_| millis(chance, 0, 60)).collect();
            Trouble::Newcomer { who, is_trimmed, lives }
        }
        Kind::Swap => Trouble::Swap,
        Kind::Trim => Trouble::Trim,
        Kind::Cut => {
            let cuts = [Cut::Unplugged, Cut::Alone, Cut::Deaf, Cut::Mute, Cut::Pair, Cut::OneWay];
            Trouble::Cut { who, cut: chance.pick(&cuts), length: millis(chance, 50, 2500) }
        }
    }
}

fn millis(chance: &mut Chance, least: u64, most: u64) -> Duration {
    Duration::from_millis(chance.between(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_no_plan_destroys_two_disks() {
        let all = Kind::value_variants();
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let plan = draw(&mut Chance::new(&[seed]), all);
            let again = draw(&mut Chance::new(&[seed]), all);
            assert_eq!(format!("{plan:?}"), format!("{again:?}"));
            assert!(!plan.is_empty() && plan.is_sorted_by_key(|(at, ..)| *at));
            assert!(plan.iter().filter(|(_, kind, _)| kind.destroys()).count() <= 1);
            kinds.extend(plan.iter().map(|(_, kind, _)| *kind));
        }
        assert_eq!(kinds.len(), all.len());
    }

    #[test]
    fn only_what_is_allowed_is_drawn() {
        for seed in 0..100 {
            let plan = draw(&mut Chance::new(&[seed]), &[Kind::Wipe, Kind::Swap]);
            assert!(plan.iter().all(|(_, kind, _)| [Kind::Wipe, Kind::Swap].contains(kind)));
        }
    }
}
