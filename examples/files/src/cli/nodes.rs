//! `stat --cluster`: the nodes side by side.

use std::process::ExitCode;
use std::thread;

use super::StatArgs;
use super::commands::say;
use super::out::size;
use super::table::Table;
use crate::client::Reader;
use crate::error::Result;
use crate::home;
use crate::report::NodeReport;

/// Shows how the nodes are. Asks them themselves, so that it works without a majority, too.
pub(super) fn stat(args: &StatArgs) -> Result<ExitCode> {
    let reader = Reader::new(&args.reach.home()?, args.reach.patience(), args.reach.from)?;
    let (text, is_well) = cluster_text(&reader);
    say(&text)?;
    if args.state {
        let states = reader.nodes().iter().filter_map(|node| Some((node.id, reader.state(node).ok()?)));
        let mut states: Vec<(u64, String)> = states.collect();
        states.dedup_by(|one, other| one.1 == other.1);
        let is_same = states.len() == 1;
        for (node, state) in states {
            let whose = if is_same { "the same on all that answer".to_owned() } else { home::name(node) };
            say(&format!("\nthe serialized state, {whose}:\n{}\n", indented(&state)))?;
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn indented(json: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(json).ok();
    value.and_then(|value| serde_json::to_string_pretty(&value).ok()).unwrap_or_else(|| json.to_owned())
}

/// The nodes as a table, and whether all are well.
#[must_use]
pub fn cluster_text(reader: &Reader) -> (String, bool) {
    let mut nodes = reader.nodes().to_vec();
    nodes.sort_by_key(|node| node.id);
    let reports: Vec<Result<NodeReport, String>> = thread::scope(|scope| {
        let asked: Vec<_> = nodes.iter().map(|node| scope.spawn(|| reader.report(node))).collect();
        let panicked = || Err("the question was not asked".to_owned());
        asked.into_iter().map(|asked| asked.join().unwrap_or_else(|_| panicked())).collect()
    });
    let mut table = Table::new(&[
        "node",
        "role",
        "epoch",
        "log",
        "committed",
        "applied",
        "snapshot",
        "files",
        "bytes",
        "state",
    ]);
    let mut notes = String::new();
    for (node, report) in nodes.iter().zip(&reports) {
        match report {
            Ok(report) => table.row(row(report)),
            Err(why) => {
                table.row([home::name(node.id), "silent".to_owned()]);
                notes.push_str(&format!("{}: {why}\n", home::name(node.id)));
            }
        }
        if let Some(trouble) = report.as_ref().ok().and_then(|report| report.trouble.as_ref()) {
            notes.push_str(&format!("{}: its store {trouble}\n", home::name(node.id)));
        }
    }
    let leading = reports.iter().flatten().filter(|report| report.role == "leader");
    let leader = leading.max_by_key(|report| report.epoch);
    let has_leader = leader.is_some();
    if let Some(leader) = leader {
        let is_member = |node: u64| node == leader.node || leader.peers.iter().any(|peer| peer.node == node);
        for stranger in reports.iter().flatten().filter(|report| !is_member(report.node)) {
            let node = home::name(stranger.node);
            notes.push_str(&format!("{node}: the leader does not know it: start it with --join\n"));
        }
    } else {
        notes.push_str("no leader: nothing can be changed until a majority of nodes runs\n");
    }
    let is_well = has_leader && notes.is_empty();
    (table.text() + &notes, is_well)
}

fn row(report: &NodeReport) -> Vec<String> {
    let unfinished =
        if report.unfinished > 0 { format!(" (+{} under way)", report.unfinished) } else { String::new() };
    vec![
        home::name(report.node),
        report.role.clone(),
        report.epoch.to_string(),
        format!("{}..{}", report.first, report.last),
        report.committed.to_string(),
        report.applied.to_string(),
        if report.snapshot > 0 { report.snapshot.to_string() } else { "-".to_owned() },
        format!("{}{unfinished}", report.files),
        size(report.bytes),
        report.digest.short(),
    ]
}
