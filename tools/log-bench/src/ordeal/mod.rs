//! `ordeal`: everything that may happen to a cluster, at random by a seed, under load; and after each round all logs are
//! compared with an account of what clients were promised, kept outside.
//!
//! A cluster lives for some rounds. Then it is ended, each byte that it has left is examined, and the next one begins,
//! with the next seed: so a failure is played again from the beginning of its cluster's life. The plan follows from the
//! seed; when exactly it strikes, and what the processes are doing then, does not.

mod field;
mod harm;
pub(crate) mod network;
mod readmit;
pub(crate) mod trouble;
mod witness;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use annals::protocol::request::Copies;
use annals_ledger::Chance;
use clap::ValueEnum;
use serde::Serialize;

use crate::cluster::account::Verdict;
use crate::cluster::args::OrdealArgs;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::place::Place;
use crate::progress::Phase;
use crate::report::Report;
use crate::report::table::Table;
use crate::units;

use field::Field;
use network::Network;
use trouble::Kind;

/// What has happened, and what came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Count {
    /// Rounds that ended well.
    rounds: u64,
    /// Clusters that were ended and examined.
    lives: u64,
    /// How often each kind of trouble has struck.
    troubles: BTreeMap<Kind, u64>,
    /// How often newcomers were killed while they caught up.
    newcomers_killed: u64,
    /// Of the clusters that have ended, and of the one under way.
    verdict: Verdict,
    /// Appends that failed.
    failed: u64,
    #[serde(skip)]
    last_failure: Option<String>,
}

/// A round that failed.
#[derive(Debug, Serialize)]
struct Wrong {
    /// That of the cluster's life.
    seed: u64,
    /// Of that life, from 1.
    round: u32,
    failure: String,
}

/// Runs the rounds, until one fails.
pub(crate) fn run(args: &OrdealArgs, place: &Place) -> Result<Report> {
    let seed = args.seed.unwrap_or_else(seed_of_now);
    let network = args.namespaces.then(|| Network::build(args.replicas as usize)).transpose()?;
    let phase = Phase::steps("troubling a cluster", u64::from(args.rounds));
    let (mut count, mut wrong) = (Count::default(), None);
    let mut life = 0;
    while wrong.is_none() && count.rounds < u64::from(args.rounds) {
        let left = args.rounds - count.rounds as u32;
        wrong =
            live((args, seed + life, left.min(args.life)), (place, network.as_ref()), &mut count, &phase)?;
        life += 1;
    }
    drop(phase);
    Ok(report(args, (seed, place), &count, wrong))
}

/// One cluster, from its beginning to its end; gives what is wrong, if anything is.
fn live(
    (args, seed, rounds): (&OrdealArgs, u64, u32),
    (place, network): (&Place, Option<&Network>),
    count: &mut Count,
    phase: &Phase,
) -> Result<Option<Wrong>> {
    for name in (1..=args.replicas).map(|id| format!("replica-{id}")).chain(["certificates".to_string()]) {
        place.discard(&name)?;
    }
    let kinds = allowed(args);
    let before = count.verdict.clone();
    let mut field = Field::begin(args, place, network, seed)?;
    for round in 1..=rounds {
        let plan = trouble::draw(&mut Chance::new(&[seed, u64::from(round)]), &kinds);
        let told = plan.iter().map(|(at, _, it)| format!("at {at:?} {it:?}")).collect::<Vec<_>>().join("; ");
        let wrong =
            |failure| Ok(Some(Wrong { seed, round, failure: format!("{failure}\nThe plan: {told}") }));
        match field.round(plan, count) {
            Ok(verdict) => {
                count.verdict = sum(&before, &verdict);
                if verdict.is_broken() {
                    return wrong(verdict.examples.join("\n"));
                }
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => return wrong(format!("{error}\n{}", field.describe())),
        }
        count.rounds += 1;
        phase.reach(count.rounds);
    }
    count.last_failure = field.last_failure().or(count.last_failure.take());
    match field.end() {
        Ok(failed) => {
            count.failed += failed;
            count.lives += 1;
            Ok(None)
        }
        Err(error) => Ok(Some(Wrong { seed, round: rounds, failure: error.to_string() })),
    }
}

/// The kinds of trouble that are asked for, of those that are possible.
fn allowed(args: &OrdealArgs) -> Vec<Kind> {
    let asked = if args.only.is_empty() { Kind::value_variants() } else { &args.only[..] };
    asked.iter().copied().filter(|kind| args.namespaces || *kind != Kind::Cut).collect()
}

fn sum(before: &Verdict, now: &Verdict) -> Verdict {
    Verdict {
        acknowledged: before.acknowledged + now.acknowledged,
        compared: before.compared + now.compared,
        lost: before.lost + now.lost,
        duplicated: before.duplicated + now.duplicated,
        invented: before.invented + now.invented,
        refused_there: before.refused_there + now.refused_there,
        unknown: before.unknown + now.unknown,
        unknown_there: before.unknown_there + now.unknown_there,
        examples: now.examples.clone(),
    }
}

/// A seed that no run had before; the report names it.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs()
}

fn report(args: &OrdealArgs, (seed, place): (u64, &Place), count: &Count, wrong: Option<Wrong>) -> Report {
    let title = format!(
        "Ordeal: {} of trouble for {} replicas",
        units::plural(args.rounds.into(), "round"),
        args.replicas
    );
    let mut report = Report::new(title, &Machine::under(place.dir()));
    report.facts.push(("seed", seed.to_string()));
    let mut troubles = Table::new("What happened", &["trouble", "times"]);
    for (kind, times) in &count.troubles {
        let name = kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string());
        troubles.row([name, times.to_string()]);
    }
    report.tables.push(troubles);
    let verdict = &count.verdict;
    let figures = [
        ("rounds", count.rounds),
        ("lives", count.lives),
        ("acknowledged", verdict.acknowledged),
        ("lost", verdict.lost),
        ("duplicated", verdict.duplicated),
        ("invented", verdict.invented),
        ("refused_there", verdict.refused_there),
        ("unknown", verdict.unknown),
        ("unknown_there", verdict.unknown_there),
        ("failed", count.failed),
        ("newcomers_killed", count.newcomers_killed),
    ];
    let mut table = Table::new("By an account kept outside of the cluster", &["what", "count"]);
    for (what, number) in figures {
        table.row([what.replace('_', " "), number.to_string()]);
        report.set(what, number);
    }
    report.tables.push(table);
    if let Some(failure) = &count.last_failure {
        report.notes.push(format!("The last append that failed said: {failure}"));
    }
    report.is_failed = wrong.is_some();
    report.notes.push(match &wrong {
        None => "After each round the replicas held the same bytes: every acknowledged record once, and nothing that \
                 nobody appended."
            .to_string(),
        Some(Wrong { seed, round, failure }) => format!(
            "FAILED in round {round} of the life with seed {seed}: {failure}\nRun it again:  log-bench ordeal {}",
            replay(args, *seed, *round)
        ),
    });
    report.set("workload", "ordeal");
    report.set("seed", seed);
    report.set("replicas", args.replicas);
    report.set("troubles", &count.troubles);
    report.set("wrong", wrong);
    report
}

/// The arguments that play a life again up to this round.
fn replay(args: &OrdealArgs, seed: u64, round: u32) -> String {
    let mut words = format!(
        "--seed {seed} --rounds {round} --life {round} --replicas {} --clients {} --size {} --rate {} --segment-bytes {}",
        args.replicas, args.clients, args.size, args.rate, args.segment_bytes
    );
    let names: Vec<_> = args.only.iter().filter_map(ValueEnum::to_possible_value).collect();
    if !names.is_empty() {
        let names: Vec<&str> = names.iter().map(clap::builder::PossibleValue::get_name).collect();
        words.push_str(&format!(" --only {}", names.join(",")));
    }
    // A quorum is what it is by itself.
    if args.durability != Copies::Quorum {
        words.push_str(&format!(" --durability {}", args.durability));
    }
    if args.namespaces {
        words.push_str(" --namespaces");
    }
    words
}
