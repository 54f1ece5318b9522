//! Every command of log-bench on the pages runs, on a small scale.

use std::collections::HashSet;

use annals_scratch::Scratch;
use annals_scratch::script::Reason::{self, Because, Tested};
use annals_scratch::script::{args, filled_in, to_run, with_flags};

/// What is not run here, and why.
const LEFT_OUT: &[(&str, Reason)] = &[
    (
        "compare",
        Because(
            "needs the feature `peers`, which the tests are built without; `.ci/run clippy_peers` builds it",
        ),
    ),
    (
        "torture --recheck",
        Tested(
            "tools/log-bench/tests/run/workloads.rs",
            "a_record_that_was_not_waited_for_is_missed_and_what_is_left_is_kept",
        ),
    ),
];

/// What makes a command of each kind small.
const SMALL: &[(&str, &[(&str, &str)])] = &[
    ("append", &[("--secs", "0.1"), ("--retain", "8m"), ("--segment-bytes", "1m")]),
    ("device", &[("--secs", "0.02"), ("--file-bytes", "4m"), ("--blocks", "4k"), ("--in-flight", "1")]),
    ("read", &[("--secs", "0.1"), ("--runs", "1"), ("--log-bytes", "1m")]),
    ("open", &[("--runs", "1"), ("--log-bytes", "1m")]),
    ("roll", &[("--secs", "0.2"), ("--segment-bytes", "64k")]),
    ("torture", &[("--rounds", "1")]),
    ("replicate", &[("--secs", "0.1"), ("--runs", "1"), ("--segment-bytes", "1m")]),
];

/// Those that take a cluster through something: tests of their own run them on a small scale.
const IN_CLUSTER: [&str; 7] = ["failover", "transfer", "pause", "catchup", "idle", "stall", "ordeal"];

#[test]
fn what_a_cluster_goes_through_is_run_by_its_tests() {
    let tests = [include_str!("cluster.rs"), include_str!("ordeal.rs")].concat();
    for command in IN_CLUSTER {
        assert!(
            tests.contains(&format!("(\"{command} --")),
            "no test of cluster.rs or ordeal.rs runs {command}"
        );
    }
}

#[test]
fn every_command_on_the_pages_runs() {
    let mut has_run = HashSet::new();
    for call in to_run("log-bench", LEFT_OUT) {
        let scratch = Scratch::new(env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_log-bench"));
        std::fs::write(scratch.path("lines"), "a\nb\n").expect("a file of lines");
        let args = filled_in(args("log-bench", &call.text), &[("FILE", "lines")]);
        let command = args.split(' ').next().unwrap_or_default();
        // Flags that it does not know are found before the help is shown. The tour is what `.ci/run tour` runs.
        let said = scratch.run(&format!("{args} --help"));
        assert_eq!(said.status, 0, "{call}: {}{}", said.out, said.err);
        // One of each kind for the time that it takes; the others differ by how much and how many.
        if command.is_empty()
            || command.starts_with('-')
            || IN_CLUSTER.contains(&command)
            || !has_run.insert(command.to_owned())
        {
            continue;
        }
        let small = SMALL.iter().find(|(name, _)| *name == command);
        let (_, small) = small.unwrap_or_else(|| panic!("{call}: say in SMALL what makes {command} small"));
        let said = scratch.run(&with_flags(&args, small));
        assert_eq!(said.status, 0, "{call}: {}{}", said.out, said.err);
    }
}
