//! A replica's report as metrics, in the text format of Prometheus.
//!
//! Written anew from the report at each request, and not kept as gauges: what a replica does not know any more, such as
//! the lag of others once it is deposed, is then not told either.

use std::fmt::Write;

use crate::report::ReplicaReport;

const ROLES: [&str; 6] = ["primary", "backup", "candidate", "learner", "recovering", "halted"];
const DISKS: [&str; 4] = ["good", "stalled", "damaged", "failed"];

/// All that the report has for a program that watches.
pub(crate) fn of(report: &ReplicaReport) -> String {
    let mut text = String::new();
    let mut family = |name: &str, about: &str, values: &[(String, f64)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP annals_node_{name} {about}\n# TYPE annals_node_{name} gauge");
        for (labels, value) in values {
            let _ = writeln!(text, "annals_node_{name}{labels} {value}");
        }
    };
    let one = |value: u64| [(String::new(), value as f64)];
    let among = |key: &str, all: &[&str], is: &str| -> Vec<(String, f64)> {
        all.iter().map(|word| (format!("{{{key}=\"{word}\"}}"), f64::from(u8::from(*word == is)))).collect()
    };
    family("role", "1 for the role that the replica has.", &among("role", &ROLES, report.role));
    family("disk_health", "1 for the state that its disk is in.", &among("state", &DISKS, report.disk));
    family("epoch", "The newest epoch that it has heard of.", &one(report.epoch));
    family(
        "primary",
        "The replica that leads, as far as it knows; 0 for none.",
        &one(report.primary.unwrap_or(0)),
    );
    let watermarks = [
        ("first", report.first),
        ("appended", report.appended),
        ("durable", report.durable),
        ("committed", report.committed),
        ("applied", report.applied),
        ("snapshot", report.snapshot),
    ];
    let watermarks = watermarks.map(|(name, lsn)| (format!("{{watermark=\"{name}\"}}"), lsn as f64));
    family("lsn", "How far it is, in records of the log.", &watermarks);
    let members = report.members.iter().filter(|member| member.votes).count();
    family("voters", "Replicas that vote, as far as it knows.", &one(members as u64));
    family("membership_generation", "Changes of the membership that it knows.", &one(report.generation));
    family("uptime_seconds", "Since it was started.", &[(String::new(), report.uptime_s)]);
    if !report.peers.is_empty() {
        let each = |value: &dyn Fn(usize) -> u64| -> Vec<(String, f64)> {
            let label = |index: usize| format!("{{peer=\"{}\"}}", report.peers[index].id);
            (0..report.peers.len()).map(|index| (label(index), value(index) as f64)).collect()
        };
        let about = "Records that this primary has and the other has not synced.";
        family("peer_lag_records", about, &each(&|index| report.peers[index].lag));
        let about = "Bytes that this primary has sent and the other has not acknowledged.";
        family("peer_in_flight_bytes", about, &each(&|index| report.peers[index].in_flight_bytes));
        let about = "1 if the other gets each group as it is appended, 0 if it catches up.";
        family("peer_streams", about, &each(&|index| u64::from(report.peers[index].stage == "streaming")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::made_up;

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let text = of(&ReplicaReport::of(&made_up(2)));
        for line in text.lines() {
            let is_comment =
                line.starts_with("# HELP annals_node_") || line.starts_with("# TYPE annals_node_");
            let sample = line.rsplit_once(' ').is_some_and(|(name, value)| {
                name.starts_with("annals_node_") && value.parse::<f64>().is_ok()
            });
            assert!(is_comment || sample, "{line}");
        }
        for line in [
            "annals_node_role{role=\"primary\"} 1",
            "annals_node_role{role=\"backup\"} 0",
            "annals_node_epoch 7",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{text}");
        }
        assert!(!of(&ReplicaReport::of(&made_up(1))).contains("peer_lag"), "a backup knows no lag");
    }
}
