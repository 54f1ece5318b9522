//! What a user must not notice: replicas that die, and roles that are handed over.

use crate::cluster::{Cluster, lines};
use crate::scratch::{Scratch, signal};

#[test]
fn nothing_is_lost_or_doubled_when_the_primary_is_killed() {
    let mut cluster = Cluster::start();
    cluster.append(&lines("before", 300));
    let old = cluster.primary();
    cluster.kill(old);
    cluster.append(&lines("after", 300));
    let all = [lines("before", 300), lines("after", 300)].concat();
    assert_eq!(cluster.records(), all);
    assert_ne!(cluster.primary(), old);
    let said = cluster.expect(1, "status");
    assert!(said.out.contains("silent"), "{}", said.out);

    // The killed one comes back, gets what it has missed, and is as good as the others.
    let _again = cluster.start_again(old);
    cluster.wait_until_well();
    cluster.kill(cluster.primary_but(old));
    assert_eq!(cluster.records(), all);
}

#[test]
fn a_follower_sees_each_record_once_across_a_failover() {
    let mut cluster = Cluster::start();
    let mut tail = cluster.scratch.start("tail -c c/client.toml --follow --from 1");
    cluster.append(&lines("one", 100));
    tail.wait_for("one 100");
    cluster.kill(cluster.primary());
    cluster.append(&lines("two", 100));
    tail.wait_for("two 100");
    assert_eq!(tail.said, [lines("one", 100), lines("two", 100)].concat());
}

#[test]
fn sigterm_hands_the_role_over_while_others_append() {
    let mut cluster = Cluster::start();
    let old = cluster.primary();
    // A pipe that is held open is a user who has not finished typing.
    let mut appending = cluster.scratch.start("append -c c/client.toml -v --deadline 30s");
    appending.type_line("first");
    appending.wait_for("");
    signal(cluster.processes[&old], "TERM");
    appending.type_line("second");
    cluster.dev.wait_for(&format!("replica {old} has ended: exit status: 0"));
    appending.type_line("third");
    appending.let_go();
    let (status, said) = appending.wait();
    assert!(status.success() && said.contains("appended 3 records"), "{said}");
    assert_eq!(cluster.records(), ["first", "second", "third"]);
    assert_ne!(cluster.primary(), old);
    assert!(cluster.dev.said.iter().any(|line| line.contains("ended: all is on the disk")));
    // It was a backup before it ended: the role was handed over, and not only lost. On a busy machine somebody else may have
    // been elected before it was asked to end; then there was nothing to hand over.
    let role = format!("replica={old} role=");
    let last = cluster.dev.said.iter().rfind(|line| line.contains(&role)).unwrap();
    assert!(last.contains(&format!("{role}backup")), "{}", cluster.dev.said.join("\n"));
}

#[test]
fn the_role_is_handed_to_whom_the_operator_names() {
    // So patient that nobody stands for election by itself, however busy the machine is: what happens is the transfer.
    let cluster = Cluster::start().restart_with("election_min = \"3s\"\nelection_max = \"6s\"\n");
    cluster.wait_until_well();
    let primary = cluster.primary();
    let epoch = |seen: &serde_json::Value| {
        let all = seen["replicas"].as_array().unwrap().iter();
        all.filter_map(|replica| replica["report"]["epoch"].as_u64()).max().unwrap()
    };
    let mut before = epoch(&cluster.overview());
    let said = cluster.scratch.run("transfer -c c/client.toml --to 9");
    assert!(said.status == 3 && said.err.contains("no such replica"), "{}{}", said.out, said.err);
    let others: Vec<u64> = (1..=3).filter(|id| *id != primary).collect();
    for to in [others[0], others[1], primary, others[1], others[0], primary] {
        let said = cluster.scratch.run(&format!("transfer -c c/client.toml --to {to}"));
        let is_over = said.status == 0 && said.out.contains(&format!("replica {to} is primary now"));
        assert!(is_over, "to {to}: {}{}\n{}", said.out, said.err, cluster.dev.so_far());
        let said = cluster.expect(0, &format!("transfer --to {to}"));
        assert!(said.out.contains(&format!("replica {to} is primary already")), "{}", said.out);
        let seen = cluster.overview();
        assert_eq!((seen["primary"].as_u64(), epoch(&seen)), (Some(to), before + 1), "one election: {seen}");
        before = epoch(&seen);
    }
}

#[test]
fn the_preferred_replica_leads_and_leads_again_when_it_has_come_back() {
    let args = "--replicas 3 --port 0 --policy priority --priorities 2=10";
    let mut cluster = Cluster::start_in(Scratch::new(), args);
    let seen = cluster.wait_for("the preferred one leads", |seen| seen["primary"] == 2);
    let members = seen["replicas"][1]["report"]["members"].as_array().unwrap();
    let priorities: Vec<_> = members.iter().map(|member| member["priority"].as_u64()).collect();
    assert_eq!(priorities, [Some(0), Some(10), Some(0)], "{seen}");
    cluster.append(&lines("before", 50));
    cluster.kill(2);
    cluster.append(&lines("after", 50));
    let _again = cluster.start_again(2);
    cluster.wait_for("the preferred one leads again", |seen| seen["primary"] == 2);
    assert_eq!(cluster.records(), [lines("before", 50), lines("after", 50)].concat());
}

/// What is seen when replicas 2 and 3 have lived through some ten more of the shortest election timeouts.
fn overdue(cluster: &Cluster) -> serde_json::Value {
    let uptimes = |seen: &serde_json::Value| {
        let uptime = |at: usize| seen["replicas"][at]["report"]["uptime_s"].as_f64();
        uptime(1).zip(uptime(2))
    };
    let before = cluster.wait_for("both answer", |seen| uptimes(seen).is_some());
    let before = uptimes(&before).unwrap();
    cluster.wait_for("an election is overdue", |seen| {
        uptimes(seen).is_some_and(|now| now.0 > before.0 + 1.5 && now.1 > before.1 + 1.5)
    })
}

#[test]
fn under_the_manual_policy_whoever_the_operator_names_leads_and_nobody_else() {
    let args = "--replicas 3 --port 0 --policy manual";
    let mut cluster = Cluster::begin_at(Scratch::new(), "c", args);
    cluster.dev.wait_for("nobody leads until you say who");
    cluster.wait_until_all_answer();
    assert!(overdue(&cluster)["primary"].is_null(), "{}", cluster.dev.so_far());
    let said = cluster.promote(1);
    assert!(said.out.contains("All voters answer: nothing is lost."), "{}", said.out);
    cluster.wait_until_ready();
    cluster.append(&lines("before", 50));
    let seen = cluster.wait_until_all_have_all();
    assert_eq!(seen["primary"], 1, "{seen}");

    cluster.kill(1);
    assert!(overdue(&cluster)["primary"].is_null(), "{}", cluster.dev.so_far());
    let said = cluster.promote(2);
    let has = |text: &str| assert!(said.out.contains(text), "no {text:?} in:\n{}", said.out);
    has(&format!("everything up to record {} on its disk", seen["replicas"][1]["report"]["durable"]));
    has("No committed record is lost");
    has("Lost may be what replica 1 alone has");
    has("replica 2 is primary now, in epoch ");
    assert_eq!(cluster.overview()["primary"], 2);
    cluster.append(&lines("after", 50));
    assert_eq!(cluster.records(), [lines("before", 50), lines("after", 50)].concat());
}

#[test]
fn a_minority_is_not_promoted_and_the_operator_is_told_why() {
    let mut cluster = Cluster::start();
    cluster.append(&lines("line", 10));
    cluster.kill(3);
    cluster.kill(2);
    cluster.wait_for("replica 1 knows that it is alone", |seen| seen["primary"].is_null());
    let said = cluster.expect(3, "promote 1");
    assert!(
        said.err.contains("only 1 of 3 voters answer") && said.err.contains("gone for good"),
        "{}",
        said.err
    );
    for change in ["priority 1 10", "quorums --majority", "remove 3"] {
        let said = cluster.expect(3, &format!("{change} --deadline 300ms"));
        assert!(said.err.contains("there is no primary: 1 of 3 replicas answer"), "{change}: {}", said.err);
    }
    let said = cluster.expect(3, "promote 2");
    assert!(said.err.contains("replica 2 cannot be asked"), "{}", said.err);
}
