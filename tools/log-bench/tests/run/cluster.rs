//! Runs the program on clusters of real processes, for a moment each: what it says of them, and what it leaves.

use serde_json::Value;

use crate::scratch::Scratch;

/// Nothing was lost, invented or repeated, and something was acknowledged.
fn keeps_its_promises(object: &Value) {
    for key in ["lost", "duplicated", "invented"] {
        assert_eq!(object[key], 0, "{key}: {object}");
    }
    assert!(object["acknowledged"].as_u64().is_some_and(|count| count > 0), "{object}");
    for key in ["records_per_s", "mb_per_s", "cpu_s_per_gb"] {
        assert!(object[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {object}");
    }
    for key in ["p50", "p99", "p999", "max"] {
        assert!(object["latency_us"][key].as_f64().is_some_and(|us| us > 0.0), "latency_us.{key}: {object}");
    }
    for key in ["p50", "p99", "max"] {
        assert!(object["gap_ms"][key].as_f64().is_some_and(|ms| ms > 0.0), "gap_ms.{key}: {object}");
    }
}

#[test]
fn replicate_json_has_the_promised_keys_for_each_durability() {
    let scratch = Scratch::new();
    for durability in ["local", "quorum", "all", "2"] {
        let object = scratch.json(&format!(
            "replicate --secs 0.2 --runs 1 --clients 3 --connections 2 --size 100 --batch 2 --in-flight 4 \
             --durability {durability} --segment-bytes 1m"
        ));
        assert_eq!(object["clients"], 3);
        assert_eq!(object["connections"], 2);
        assert_eq!(object["batch"], 2);
        for key in ["records_per_s", "mb_per_s", "cpu_s_per_gb"] {
            assert!(object[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {object}");
        }
        for key in ["p50", "p99", "p999", "max"] {
            assert!(object["latency_us"][key].as_f64().is_some_and(|us| us > 0.0), "latency_us.{key}");
        }
    }
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

/// Keys of `append` that say nothing of a cluster; docs/measured.md says why.
const OF_ONE_LOG: [&str; 10] = [
    "anonymous_bytes_max",
    "backpressure_waits",
    "compared",
    "mean_us",
    "missed",
    "raw",
    "raw_basis",
    "raw_fraction",
    "raw_fraction_spread",
    "rolls",
];

#[test]
fn replicate_has_the_keys_of_append_but_those_of_one_log() {
    let scratch = Scratch::new();
    let append = scratch.json("append --secs 0.1 --segment-bytes 1m --method buffered");
    let replicate = scratch.json("replicate --secs 0.2 --runs 2 --size 100");
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let there = keys(&replicate);
    let missing: Vec<_> = keys(&append).into_iter().filter(|key| !there.contains(key)).collect();
    assert_eq!(missing, OF_ONE_LOG);
    for key in
        ["secs", "records", "syncs", "syncs_per_s", "records_per_sync", "bytes_per_sync", "bytes_written"]
    {
        assert!(replicate[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {replicate}");
    }
    assert!(replicate["write_method"].as_str().is_some_and(|method| !method.is_empty()), "{replicate}");
    let measured = include_str!("../../../../docs/measured.md");
    for key in OF_ONE_LOG {
        assert!(measured.contains(&format!("`{key}`")), "docs/measured.md does not name {key}");
    }
}

#[test]
fn a_primary_that_is_killed_costs_no_acknowledged_record() {
    let scratch = Scratch::new();
    let object = scratch.json("failover --kills 2 --clients 3 --size 100 --html page.html");
    keeps_its_promises(&object);
    assert_eq!(object["times"], 2);
    let page = std::fs::read_to_string(scratch.path("page.html")).unwrap();
    for part in ["</html>", "Commits a second", "The longest of them", "last commit before, first after"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn a_primary_that_hands_over_fails_no_append() {
    let object = Scratch::new().json("transfer --times 2 --clients 3 --size 100");
    keeps_its_promises(&object);
    assert_eq!((&object["failed"], &object["unknown"]), (&Value::from(0), &Value::from(0)), "{object}");
}

#[test]
fn a_primary_that_was_stopped_acknowledges_nothing_that_is_not_in_the_log() {
    let object = Scratch::new().json("pause --times 1 --secs 1 --clients 3 --size 100");
    keeps_its_promises(&object);
    assert!(object["asked_while_stopped"].as_u64().is_some_and(|count| count > 0), "{object}");
}

#[test]
fn laggards_and_newcomers_catch_up() {
    // It fails if a laggard whose records were trimmed away was served by the log.
    let object = Scratch::new().json(
        "catchup --log-bytes 2m --state-bytes 3m --trimmed --calm 0.2 --clients 1 --rate 200 --segment-bytes 1m",
    );
    let caught = object["catchups"].as_array().unwrap();
    let bytes: Vec<_> = caught.iter().map(|one| one["bytes"].as_u64().unwrap() >> 20).collect();
    assert_eq!(bytes, [2, 2, 4, 3, 3, 3, 3], "{object}");
    let is_above_zero = |figure: &Value| figure.as_f64().is_some_and(|figure| figure > 0.0);
    assert!(caught.iter().all(|one| is_above_zero(&one["mb_per_s"])), "{object}");
    for (one, is_loaded) in caught.iter().zip([false, true, true, false, true, false, true]) {
        assert_eq!(is_above_zero(&one["p99"]["during_us"]), is_loaded, "{object}");
    }
    for (stream, share, of) in [
        ("raw_stream_mb_per_s", "catchup_of_raw", "of_raw"),
        ("tuned_stream_mb_per_s", "catchup_of_tuned", "of_tuned"),
    ] {
        assert!(is_above_zero(&object[stream]), "{object}");
        assert_eq!(object[share], caught[0][of], "{object}");
        let [mb_per_s, stream] = [&caught[0]["mb_per_s"], &object[stream]].map(|rate| rate.as_f64().unwrap());
        let share = object[share].as_f64().unwrap();
        assert!((share * stream / mb_per_s - 1.0).abs() < 0.05, "{object}");
    }
}

#[test]
fn a_primary_whose_disk_stands_still_is_replaced_and_loses_nothing() {
    let object = Scratch::new().json("stall --times 1 --clients 3 --size 100");
    keeps_its_promises(&object);
    assert!(object["takeover_ms"]["max"].as_f64().is_some_and(|ms| ms > 0.0), "{object}");
}

#[test]
fn a_cluster_that_is_left_alone_has_its_use_of_the_processors_told() {
    let object = Scratch::new().json("idle --secs 0.5");
    let percent = object["cpu_percent"].as_array().unwrap();
    assert_eq!(percent.len(), 3, "{object}");
    assert!(percent.iter().all(|percent| percent.as_f64().is_some_and(|percent| percent > 0.0)), "{object}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_started() {
    let scratch = Scratch::new();
    for (args, what) in [
        ("replicate --replicas 0", "0 is not in 1..=7"),
        ("replicate --durability most", "expected local, quorum, all, or a number"),
        ("replicate --depth 0", "must be between 1 and 64"),
        ("failover --kills 0", "0 is not in"),
        ("catchup --replicas 1 --log-bytes 1m", "a cluster of one has none"),
    ] {
        let refusal = scratch.refusal(args);
        assert!(refusal.contains(what), "{args}: {refusal}");
    }
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}
