//! Runs `ordeal` for a few rounds: what it says, what it leaves, and that it notices a broken promise.

use std::io::Write;

use serde_json::Value;

use crate::scratch::Scratch;

fn keeps_its_promises(object: &Value, rounds: u64) {
    for key in ["lost", "duplicated", "invented", "refused_there"] {
        assert_eq!(object[key], 0, "{key}: {object}");
    }
    assert_eq!((&object["wrong"], &object["rounds"]), (&Value::Null, &Value::from(rounds)), "{object}");
    assert!(object["acknowledged"].as_u64().is_some_and(|count| count > 0), "{object}");
}

/// Whether namespaces can be made here; says so if not.
fn has_namespaces() -> bool {
    let made = std::process::Command::new("unshare").args(["--net", "--mount", "--", "ip", "link"]).output();
    let has = made.is_ok_and(|output| output.status.success());
    if !has {
        // Not by a macro: what those say is kept from whoever runs tests that pass.
        let _ =
            writeln!(std::io::stderr(), "skipped: network namespaces take root on Linux, `unshare` and `ip`");
    }
    has
}

#[test]
fn whatever_happens_to_a_cluster_its_promises_hold() {
    let scratch = Scratch::new();
    // Draws a kill of one and of all, a hand-over, disks that fail, directories that are swapped, one that is deleted, a trim.
    let object = scratch.json("ordeal --seed 8 --rounds 2 --life 2 --rate 500");
    keeps_its_promises(&object, 2);
    assert!(object["troubles"].as_object().is_some_and(|troubles| troubles.len() >= 3), "{object}");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn a_directory_that_was_deleted_or_swapped_or_damaged_never_passes_for_whole() {
    // Draws all three; small segments, so that some are complete by then.
    let args = "ordeal --seed 8 --rounds 2 --life 2 --only wipe,swap,rot --rate 500 --segment-bytes 64k";
    let object = Scratch::new().json(args);
    keeps_its_promises(&object, 2);
    for kind in ["wipe", "swap", "rot"] {
        assert!(object["troubles"][kind].as_u64().is_some_and(|times| times > 0), "{kind}: {object}");
    }
}

#[test]
fn a_newcomer_that_is_killed_while_it_catches_up_has_all_in_the_end() {
    // Draws one that is sent the log and killed three times, and one that is sent a snapshot and killed twice.
    let object = Scratch::new().json("ordeal --seed 3 --rounds 3 --life 3 --only newcomer,trim --rate 500");
    keeps_its_promises(&object, 3);
    assert_eq!(
        (&object["troubles"]["newcomer"], &object["newcomers_killed"]),
        (&2.into(), &5.into()),
        "{object}"
    );
}

#[test]
fn replicas_that_cannot_reach_each_other_acknowledge_nothing_that_is_lost() {
    if has_namespaces() {
        let object =
            Scratch::new().json("ordeal --namespaces --seed 1 --rounds 2 --life 2 --only cut --rate 500");
        keeps_its_promises(&object, 2);
        assert!(object["troubles"]["cut"].as_u64().is_some_and(|times| times > 0), "{object}");
    }
}

/// Whoever cannot find a lie proves nothing: acknowledged with one copy, records are lost once the primary is cut off.
#[test]
fn records_that_only_one_disk_had_are_missed_and_the_way_to_see_it_again_is_told() {
    if has_namespaces() {
        let scratch = Scratch::new();
        let args = "ordeal --namespaces --durability local --seed 14 --rounds 20 --only cut --json";
        let output = scratch.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(object["lost"].as_u64().is_some_and(|count| count > 0), "{object}");
        assert!(said.contains("Run it again:  log-bench ordeal --seed"), "{said}");
        assert!(said.contains("--only cut --durability local --namespaces"), "{said}");
    }
}
