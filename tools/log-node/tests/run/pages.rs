//! Every command of log-node on the pages runs; the README's cluster in a minute is in `readme`.

use annals_scratch::script::Reason::{self, Tested};
use annals_scratch::script::{args, filled_in, to_run};

use crate::cluster::{Cluster, lines};
use crate::scratch::comes_true;

const README: Reason =
    Tested("tools/log-node/tests/run/readme.rs", "a_cluster_in_a_minute_works_as_the_readme_says");
const NEWCOMER: Reason =
    Tested("tools/log-node/tests/run/members.rs", "a_replica_is_added_gets_all_records_and_is_removed_again");

/// What is not run here, and why.
const LEFT_OUT: &[(&str, Reason)] = &[
    ("dev --dir cluster", README),
    ("append -c cluster/client.toml", README),
    ("status -c cluster/client.toml", README),
    ("tail -c cluster/client.toml", README),
    ("create -c ", Tested("tools/log-node/tests/run/shell.rs", "a_replica_is_created_once_and_never_by_run")),
    ("run -c ", Tested("tools/log-node/tests/run/shell.rs", "a_replica_is_created_once_and_never_by_run")),
    ("create --join", NEWCOMER),
    ("add ", NEWCOMER),
    (
        "priority ",
        Tested(
            "tools/log-node/tests/run/members.rs",
            "a_priority_that_is_changed_is_heeded_and_a_learner_has_none",
        ),
    ),
    (
        "quorums ",
        Tested(
            "tools/log-node/tests/run/members.rs",
            "quorums_that_are_changed_commit_with_fewer_and_those_that_miss_each_other_are_refused",
        ),
    ),
    (
        "promote N",
        Tested(
            "tools/log-node/tests/run/failover.rs",
            "a_minority_is_not_promoted_and_the_operator_is_told_why",
        ),
    ),
    (
        "append -c new/client.toml --dump",
        Tested("tools/log-node/tests/run/members.rs", "a_new_cluster_gets_the_records_of_a_dump"),
    ),
];

#[test]
fn every_command_on_the_pages_runs() {
    let cluster = Cluster::start();
    cluster.append(&lines("line", 20));
    let backup = if cluster.primary() == 3 { "2" } else { "3" };
    for call in to_run("log-node", LEFT_OUT) {
        let real = [("client.toml", "c/client.toml"), ("N", backup), ("2", backup), ("LSN", "5")];
        let given = filled_in(args("log-node", &call.text), &real);
        let command = given.split(' ').next().unwrap_or_default();
        let run = || match command {
            // Makes certificates of another cluster, and needs none that runs.
            "certs" => cluster.scratch.run(&given),
            _ if given.contains("-c ") => {
                cluster.scratch.shell("log-node", &format!("target/release/log-node {given}"))
            }
            // A sentence may name a command without saying of which cluster, or without its arguments.
            "transfer" | "status" | "snapshot" | "trim" | "remove" if given != "status" => {
                cluster.expect(0, &given)
            }
            _ => cluster.scratch.run(&format!("{given} --help")),
        };
        let mut said = None;
        // On a machine that is busy the replicas may be about to elect another primary, which is no mistake of the page's.
        comes_true(|| said.insert(run()).status == 0 || command != "status");
        let said = said.expect("it was run");
        assert_eq!(said.status, 0, "{call}: {}{}", said.out, said.err);
    }
}
