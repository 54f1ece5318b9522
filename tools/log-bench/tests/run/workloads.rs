//! Runs the program on tiny workloads: what it promises about its directory, its output and its errors.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::scratch::{Scratch, names};

const TINY: &str = "append --secs 0.1 --segment-bytes 1m";

#[test]
fn append_json_has_the_promised_keys() {
    let scratch = Scratch::new();
    let object =
        scratch.json(&format!("{TINY} --threads 2 --size 100 --batch 3 --in-flight 2 --method buffered"));
    assert_eq!(object["threads"], 2);
    assert_eq!(object["size"], 100.0);
    assert_eq!(object["batch"], 3);
    assert_eq!(object["in_flight"], 2);
    assert_eq!(object["write_method"], "buffered");
    for key in ["records_per_s", "mb_per_s", "syncs", "records_per_sync", "raw_fraction"] {
        assert!(object[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {}", object[key]);
    }
    for key in ["p50", "p99", "p999", "max"] {
        assert!(object["latency_us"][key].as_f64().is_some_and(|us| us > 0.0), "latency_us.{key}");
    }
    for key in ["workload", "disk", "filesystem", "kernel"] {
        assert!(object[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
}

#[test]
fn every_method_that_is_asked_for_is_used() {
    let scratch = Scratch::new();
    for method in ["buffered", "mapped"] {
        assert_eq!(scratch.json(&format!("{TINY} --method {method}"))["write_method"], method);
    }
}

#[test]
fn data_are_removed_and_a_fresh_directory_too() {
    let scratch = Scratch::new();
    let output = scratch.run(TINY);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("they were removed"));
    assert_eq!(scratch.names(), [] as [&str; 0]);
}

#[test]
fn directories_made_on_the_way_are_removed_too() {
    let scratch = Scratch::new();
    assert!(scratch.run(&format!("{TINY} --dir one/two/three")).status.success());
    assert_eq!(scratch.names(), [] as [&str; 0]);
}

#[test]
fn an_empty_directory_stays_when_its_data_go() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("mine")).unwrap();
    assert!(scratch.run(&format!("{TINY} --dir mine")).status.success());
    assert_eq!(scratch.names(), ["mine"]);
    assert_eq!(names(&scratch.path("mine")), [] as [&str; 0]);
}

#[test]
fn kept_data_stay_and_their_directory_can_be_used_again() {
    let scratch = Scratch::new();
    let output = scratch.run(&format!("{TINY} --dir kept --keep"));
    assert!(String::from_utf8(output.stdout).unwrap().contains("--keep"));
    assert_eq!(names(&scratch.path("kept")), [".log-bench", "data"]);
    assert!(names(&scratch.path("kept/data")).contains(&"log".to_string()));
    assert!(scratch.run(&format!("{TINY} --dir kept")).status.success());
}

#[test]
fn a_directory_that_is_not_its_own_is_refused_unchanged() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("theirs")).unwrap();
    fs::write(scratch.path("theirs/diary"), "private").unwrap();
    let said = scratch.refusal(&format!("{TINY} --dir theirs"));
    assert!(said.contains("diary") && said.contains("--dir"), "{said}");
    assert_eq!(names(&scratch.path("theirs")), ["diary"]);
}

#[test]
fn a_file_put_beside_its_own_is_refused_unchanged() {
    let scratch = Scratch::new();
    assert!(scratch.run(&format!("{TINY} --dir kept --keep")).status.success());
    fs::write(scratch.path("kept/diary"), "private").unwrap();
    scratch.refusal(&format!("{TINY} --dir kept"));
    assert_eq!(names(&scratch.path("kept")), [".log-bench", "data", "diary"]);
}

#[test]
fn lines_of_a_file_come_back_as_they_went_in() {
    let scratch = Scratch::new();
    let lines: Vec<String> = (0..500).map(|i| format!("{i}:{}", "x".repeat(i % 97))).collect();
    fs::write(scratch.path("lines"), format!("\n{}\r\nno end", lines.join("\n"))).unwrap();
    for rhythm in ["--threads 3 --in-flight 4", "--threads 2 --batch 7", "--rate 20000", "--secs 0.2"] {
        let object = scratch.json(&format!("append --input lines --segment-bytes 1m {rhythm}"));
        assert_eq!(object["compared"], object["records"], "{rhythm}");
        let once = !rhythm.contains("--secs");
        assert!(
            object["records"].as_u64().is_some_and(|n| if once { n == 502 } else { n >= 502 }),
            "{rhythm}"
        );
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let scratch = Scratch::new();
    let object = scratch.json("append --rate 500 --threads 2 --secs 1 --segment-bytes 1m");
    assert_eq!(object["records"], 500);
    assert_eq!(object["missed"], 0);
}

#[test]
fn the_page_needs_nothing_else() {
    let scratch = Scratch::new();
    assert!(scratch.run(&format!("{TINY} --html page.html")).status.success());
    let page = fs::read_to_string(scratch.path("page.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    assert!(page.matches("<svg").count() >= 4, "plots are missing");
    for outside in ["<script", "<link", "<img", "@import", "src=", "href=", "url("] {
        assert!(!page.contains(outside), "the page holds {outside}");
    }
}

#[test]
fn device_measures_what_was_asked_for() {
    let scratch = Scratch::new();
    let object =
        scratch.json("device --secs 0.05 --blocks 4k,64k --in-flight 1,2 --method buffered --file-bytes 4m");
    let limits = object["limits"].as_array().unwrap();
    assert_eq!(limits.len(), 4);
    assert!(limits.iter().all(|limit| limit["syncs_per_s"].as_f64().is_some_and(|rate| rate > 0.0)));
    assert!(object["best_bandwidth"]["mb_per_s"].as_f64() > Some(0.0));
}

#[test]
fn reads_cover_the_whole_log() {
    let scratch = Scratch::new();
    let object = scratch.json("read --log-bytes 2m --size 1k --runs 1 --secs 0.1");
    assert_eq!(object["records"], 2048);
    assert!(object["sequential"]["mb_per_s"]["median"].as_f64() > Some(0.0));
    assert!(object["random_latency_us"]["p50"].as_f64() > Some(0.0));
}

#[test]
fn openings_find_every_record_after_a_close_and_after_a_kill() {
    let scratch = Scratch::new();
    let object = scratch.json("open --log-bytes 1m --size 1k --runs 1");
    let log = &object["logs"][0];
    assert_eq!(log["closed"]["records"], 1024);
    // The child says so after a thousand appends, with at most 64 of them not known to be durable.
    assert!(log["killed"]["records"].as_u64() >= Some(1024 + 900), "{log}");
}

#[test]
fn rolls_are_seen() {
    let scratch = Scratch::new();
    let object = scratch.json("roll --secs 1 --segment-bytes 64k --size 16k");
    assert!(object["rolls"].as_u64() > Some(0), "{object}");
    assert!(object["worst_across_to_p99_away"].as_f64() > Some(0.0));
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let scratch = Scratch::new();
    // The seed is new in each run; a failure says how to look again at what it has left.
    let object = scratch.json("torture --rounds 3 --writers 3 --secs-per-round 0.1");
    assert_eq!(object["rounds"], 3);
    assert!(object["failed"].is_null() && object["seed"].is_u64(), "{object}");
    assert_eq!(scratch.names(), [] as [&str; 0]);
}

#[test]
fn a_record_that_was_not_waited_for_is_missed_and_what_is_left_is_kept() {
    let scratch = Scratch::new();
    let output = scratch.run("torture --rounds 100 --skip-wait --dir kept --json");
    assert_eq!(output.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failure = object["failed"]["failure"].as_str().unwrap_or_else(|| panic!("{object}"));
    // Told by the process that opened the log next, or found by whoever looks at what is left.
    let (_, missed) = failure.split_once(", but ").unwrap_or_else(|| panic!("{failure}"));
    assert!(missed.ends_with(" was acknowledged"), "{failure}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--recheck kept") && said.contains("--seed"), "{said}");
    let again = scratch.refusal("torture --recheck kept");
    assert!(again.contains(missed), "{failure}; {again}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_without_leaving_anything() {
    let scratch = Scratch::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_log-bench"))
        .args(["append", "--secs", "600", "--dir", "place"])
        .current_dir(scratch.path(""))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !scratch.path("place/data/log").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was asked to");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(scratch.names(), [] as [&str; 0]);
}

#[cfg(feature = "peers")]
#[test]
fn engines_are_compared_run_by_run() {
    let scratch = Scratch::new();
    let object = scratch.json("compare --secs 0.1 --runs 2 --workload 1");
    let workload = &object["workloads"][0];
    assert_eq!(workload["engines"].as_array().unwrap().len(), 3);
    for ratio in workload["ratios"].as_array().unwrap() {
        assert_eq!(ratio["run_by_run"].as_array().unwrap().len(), 2);
        assert!(ratio["spread"]["median"].as_f64() > Some(0.0));
    }
}

/// It was an unrecognized subcommand to whoever had built the program without the other engines.
#[cfg(not(feature = "peers"))]
#[test]
fn without_the_other_engines_it_is_told_how_to_build_them() {
    let said = Scratch::new().refusal("compare --secs 2 --runs 5");
    assert!(said.contains("cargo run --release -p log-bench --features peers -- compare"), "{said}");
}

#[test]
fn errors_say_what_to_do_next() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "").unwrap();
    for (args, advice) in [
        ("append --input nowhere", "check the path"),
        ("append --input file", "no line to append"),
        ("append --size 4q", "use k, m, g or t"),
        ("append --secs 0", "more than 0"),
        ("append --size 1t", "at most 512m"),
        ("append --size 128m", "use smaller records"),
        ("append --size 1m --batch 65", "use smaller records or batches"),
        ("--input file append", "give it to `append`"),
        ("append --threads 0", "1..=4096"),
        ("append --method tape", "possible values: direct, buffered, mapped"),
        ("append --dir file/below", "a part of the path is a file"),
        ("append --html nowhere/page.html", "check the path"),
        ("device --blocks 1000", "multiple of 4k"),
        ("device --file-bytes 1000000t", "free some space"),
        ("sing", "unrecognized subcommand"),
    ] {
        let said = scratch.refusal(args);
        assert!(said.contains(advice), "{args}: {said}");
        assert_eq!(scratch.names(), ["file"], "{args} left something behind");
    }
}
