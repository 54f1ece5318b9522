//! Walks every state that two or three replicas can reach within a budget of elections, records, crashes and
//! partitions, and looks for a broken promise.
//!
//! The replicas are the real core, each over a disk that is a value. Time is abstract: clocks stand still, but that an
//! election timeout may pass for everybody who does not lead, as often as the budget allows, and a heartbeat fall due.

mod model;
mod promises;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use annals::protocol::{Rule, Rules};
use clap::Parser;
use stateright::{Checker, HasDiscoveries, Model};

use model::{Budget, Few, Network};

/// Walks every state that a few replicas can reach within a budget, and looks for a broken promise.
///
/// Ends with status 0 if all promises hold in all of them, 1 if one is broken (the way there is printed), and 2 if the
/// time was up before.
#[derive(Parser, Debug)]
#[command(version)]
struct Options {
    /// How many replicas.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// How often somebody stands for election.
    #[arg(long, default_value_t = 1)]
    elections: u8,
    /// Begins without a primary; else the first replica leads already.
    #[arg(long)]
    fresh: bool,
    /// How many records clients append.
    #[arg(long, default_value_t = 1)]
    records: u8,
    /// How often a replica loses power and comes back.
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// How often one replica is cut off from the others; what is on its way to or from it is lost.
    #[arg(long, default_value_t = 1)]
    partitions: u8,
    /// How often a primary's heartbeat falls due.
    #[arg(long, default_value_t = 1)]
    beats: u8,
    /// Whether messages arrive in any order, if at all, or in the order in which they were sent.
    #[arg(long, value_enum, default_value_t = Network::Ordered)]
    network: Network,
    /// Follows each way to its end before the next: takes far less memory, and finds longer ways to what is broken.
    #[arg(long, conflicts_with = "depth")]
    deep: bool,
    /// Goes no further than so many steps from the beginning.
    #[arg(long)]
    depth: Option<NonZeroUsize>,
    /// Gives up after so many seconds.
    #[arg(long)]
    secs: Option<u64>,
    /// Switches a rule off, to see that it would be noticed.
    #[arg(long, value_parser = rule)]
    without: Option<Rule>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn rule(name: &str) -> Result<Rule, String> {
    let all = || Rule::ALL.into_iter();
    all().find(|rule| format!("{rule:?}") == name).ok_or_else(|| {
        let names: Vec<String> = all().map(|rule| format!("{rule:?}")).collect();
        format!("there is no such rule; there are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let options = Options::parse();
    let found = walk(&options);
    println!("{}", found.summary);
    if let Some(way) = &found.broken {
        println!("{way}");
        return ExitCode::from(1);
    }
    if found.is_complete { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// What a walk has found.
struct Found {
    summary: String,
    /// The way to a state in which a promise is broken.
    broken: Option<String>,
    is_complete: bool,
}

fn walk(options: &Options) -> Found {
    let began = Instant::now();
    let few = Few {
        replicas: options.replicas,
        rules: options.without.map_or_else(Rules::default, Rules::without),
        network: options.network,
        is_fresh: options.fresh,
        budget: Budget {
            elections: options.elections,
            records: options.records,
            crashes: options.crashes,
            partitions: options.partitions,
            beats: options.beats,
        },
        until: options.secs.map(|secs| began + Duration::from_secs(secs)),
        is_over: Arc::default(),
    };
    let mut builder = few.checker().threads(options.threads).finish_when(HasDiscoveries::AnyFailures);
    if let Some(depth) = options.depth {
        builder = builder.target_max_depth(depth.get());
    }
    let found = if options.deep {
        told(options, &builder.spawn_dfs().join())
    } else {
        told(options, &builder.spawn_bfs().join())
    };
    let is_complete = options.secs.is_none_or(|secs| began.elapsed() < Duration::from_secs(secs));
    let extent = match (is_complete, options.depth) {
        (true, None) => "all there are",
        (true, Some(_)) => "all up to there",
        (false, _) => "not complete",
    };
    Found { summary: format!("{}; {extent}", found.summary), is_complete, ..found }
}

/// What a checker has found, when it has ended.
fn told(options: &Options, checker: &impl Checker<Few>) -> Found {
    checker.model().is_over.store(true, Ordering::Relaxed);
    let broken = promises::BROKEN.iter().find_map(|name| {
        let way = checker.discovery(name)?;
        let steps: Vec<String> = way.into_actions().iter().map(|action| format!("  {action:?}")).collect();
        Some(format!("BROKEN: {name}\n{}", steps.join("\n")))
    });
    let seen: Vec<&str> =
        promises::SEEN.iter().copied().filter(|name| checker.discovery(name).is_some()).collect();
    let summary = format!(
        "{} replicas, {:?} network, {:?}: {} states, {} steps taken, depth {}; seen: {}",
        options.replicas,
        options.network,
        checker.model().budget,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") },
    );
    Found { summary, broken, is_complete: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(arguments: &str) -> Found {
        walk(&Options::parse_from(std::iter::once("model-check").chain(arguments.split_whitespace())))
    }

    #[test]
    fn two_replicas_keep_every_promise_in_every_state() {
        let found = found("--replicas 2 --partitions 0");
        assert!(found.broken.is_none() && found.is_complete, "{}\n{:?}", found.summary, found.broken);
    }

    #[test]
    fn a_walk_ends_when_its_time_is_up_with_any_number_of_threads() {
        for threads in 1..=2 {
            let began = Instant::now();
            let found = found(&format!("--deep --secs 1 --threads {threads}"));
            assert!(!found.is_complete && found.broken.is_none(), "{}", found.summary);
            assert!(began.elapsed() < Duration::from_secs(30), "{}", found.summary);
        }
    }

    #[test]
    fn a_walk_finds_what_it_would_miss_a_rule_for() {
        for (rule, budget) in [("PersistBeforeSend", "--elections 0"), ("VoteByPosition", "--elections 1")] {
            let few = "--crashes 0 --partitions 0 --beats 0";
            let found = found(&format!("{few} {budget} --without {rule}"));
            assert!(found.broken.is_some(), "{rule}: {}", found.summary);
        }
    }
}
