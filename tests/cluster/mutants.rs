//! Each rule of the protocol switched off in turn: an invariant has to notice, and soon.
//!
//! `ANNALS_MUTANTS=1 cargo test --release --test cluster -- --exact mutants::every_mutant_is_caught --nocapture`
//! prints the table of `docs/testing.md`.

use annals::protocol::{FailoverPolicy, Rule, Rules};

use crate::mix::{Kind, Mix};
use crate::network::Weather;
use crate::seeds::Chance;
use crate::world::World;

/// Seeds that it may take.
const SEEDS: u64 = 1_000;

/// What a rule's absence shows in.
fn trouble(rule: Rule, draw: &mut Chance) -> Mix {
    let mut mix = Mix::calm(draw);
    mix.every_ms = 250;
    mix.clients = 6;
    mix.run_ms = 3000;
    mix.weather =
        Weather { loss: draw.below(50), twice: draw.below(100), astray: draw.below(100), late_ms: 300 };
    let kinds: &[Kind] = match rule {
        Rule::PersistBeforeSend => &[Kind::Kill, Kind::PowerLoss],
        Rule::SnapshotAboveCommit => {
            mix.weather = Weather { loss: 0, twice: 300, astray: 300, late_ms: 2000 };
            &[Kind::Snapshot, Kind::Trim, Kind::Trim, Kind::Kill, Kind::Symmetric]
        }
        Rule::VerifySnapshot => &[Kind::Snapshot, Kind::Trim, Kind::Kill, Kind::Symmetric],
        Rule::ChangeJointly => &[Kind::Quorums, Kind::Symmetric, Kind::Kill],
        Rule::DamagedAbstains => &[Kind::Rot, Kind::Kill],
        Rule::StalledDiskHandsOver => return Mix { rules: Rules::without(rule), ..Mix::stalling(draw) },
        Rule::ReadByQuorumRound | Rule::ResolveAsUnknown => &[Kind::Symmetric, Kind::OneWay, Kind::Pause],
        Rule::BindAcknowledgements => {
            mix.nodes = 5;
            mix.run_ms = 6000;
            mix.every_ms = 150;
            mix.weather = Weather { loss: 0, twice: 800, astray: 0, late_ms: 2000 };
            &[Kind::Symmetric, Kind::Symmetric, Kind::Kill, Kind::Transfer, Kind::Transfer]
        }
        _ => &[Kind::Kill, Kind::Symmetric, Kind::Partial, Kind::OneWay, Kind::Pause, Kind::DiskStalls],
    };
    mix.policy = FailoverPolicy::Automatic;
    mix.rules = Rules::without(rule);
    mix.with(kinds)
}

/// Rules of which it takes many seeds, and how many it was when somebody looked last: tried first, because a debug build
/// takes minutes for all of them.
const LAST: [(Rule, u64); 3] =
    [(Rule::BindAcknowledgements, 240), (Rule::SnapshotAboveCommit, 16), (Rule::ChangeJointly, 154)];

/// After how many seeds, and by which promise, it is noticed that the rule does not hold.
fn caught(rule: Rule, is_counted: bool) -> Option<(u64, String)> {
    let last = LAST.iter().filter(|(known, _)| *known == rule && !is_counted).map(|(_, seeds)| seeds - 1);
    last.chain(0..SEEDS).find_map(|seed| {
        let mut draw = Chance::new(seed);
        let mix = trouble(rule, &mut draw);
        let ending = World::new(draw.next(), mix, false).run();
        ending.violation.map(|violation| (seed + 1, format!("{}: {}", violation.number, violation.promise)))
    })
}

#[test]
fn every_mutant_is_caught() {
    let is_told = std::env::var_os("ANNALS_MUTANTS").is_some();
    if is_told {
        println!("| rule that is switched off | seeds | broken invariant |\n|---|---|---|");
    }
    let mut missed = vec![];
    for rule in Rule::ALL {
        let outcome = caught(rule, is_told);
        if is_told {
            let (seeds, promise) = outcome
                .clone()
                .map_or(("-".to_owned(), "-".to_owned()), |(seeds, promise)| (seeds.to_string(), promise));
            println!("| `{rule:?}` | {seeds} | {promise} |");
        }
        if outcome.is_none() {
            missed.push(rule);
        }
    }
    assert!(missed.is_empty(), "not noticed in {SEEDS} seeds: {missed:?}");
}
