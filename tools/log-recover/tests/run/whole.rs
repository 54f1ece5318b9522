//! Logs that are whole, and places where there is none.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::scratch::{RECORDS, Scratch, edit, record};

#[test]
fn a_whole_log_is_whole_to_every_command() {
    let scratch = Scratch::with_log();
    let before = scratch.files("log");
    for command in ["inspect", "verify", "plan", "repair"] {
        let object = scratch.json(0, &format!("{command} log"));
        assert_eq!(object["whole"], true, "{command}");
        assert_eq!(object["lost"], json!([]), "{command}");
        let said = scratch.expect(0, &format!("{command} log"));
        assert!(said.out.contains("hole") || said.out.contains("othing"), "{command}: {}", said.out);
    }
    assert_eq!(scratch.files("log"), before, "nothing is to be changed");
}

#[test]
fn inspect_json_has_the_promised_keys() {
    let scratch = Scratch::with_log();
    let object = scratch.json(0, "inspect log");
    assert_eq!(object["dir"], "log");
    assert_eq!(object["verified"], false);
    assert_eq!(object["first_lsn"], 1);
    assert_eq!(object["last_lsn"], RECORDS);
    assert_eq!(object["durable"], RECORDS);
    assert_eq!(object["epoch"], 1);
    assert_eq!(object["opening"], json!({ "opens": true }));
    assert_eq!(object["log_id"].as_str().map(str::len), Some(32));
    for key in ["writer", "unfinished_repair"] {
        assert_eq!(object[key], Value::Null, "{key}");
    }
    assert_eq!(object["superblock"]["slots"].as_array().map(Vec::len), Some(2));
    let segments = object["segments"].as_array().unwrap();
    assert_eq!(segments.len(), scratch.segments("log").len());
    for (segment, name) in segments.iter().zip(scratch.segments("log")) {
        assert_eq!(segment["file"], name.as_str());
    }
}

#[test]
fn verify_tells_how_fast_it_was() {
    let scratch = Scratch::with_log();
    let object = scratch.json(0, "verify log --threads 2");
    assert_eq!(object["verified"], true);
    assert_eq!(object["records"], RECORDS);
    assert_eq!(object["threads"], 2);
    assert!(object["bytes_read"].as_u64().is_some_and(|bytes| bytes > RECORDS * 1000), "{object}");
    assert!(object["bytes_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{object}");
    assert!(scratch.expect(0, "verify log").out.contains("B/s with"));
}

#[test]
fn inspect_fits_on_a_screen() {
    let scratch = Scratch::with_log();
    let said = scratch.expect(0, "inspect log");
    assert!(said.out.lines().all(|line| line.chars().count() <= 100), "{}", said.out);
    for word in ["superblock", "segments", "map", "epochs", "durable through 200", "Whole"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "colours are for terminals");
    assert!(scratch.expect(0, "inspect log --color always").out.contains('\u{1b}'));
}

#[test]
fn looking_works_without_writing_and_leaves_no_trace() {
    let scratch = Scratch::with_log();
    fs::remove_file(scratch.path("log/LOCK")).unwrap();
    for command in ["inspect", "verify", "dump", "plan", "scrub --rate 1000"] {
        scratch.expect(0, &format!("{command} log"));
        assert!(!scratch.path("log/LOCK").exists(), "{command} left a lock behind");
    }
}

#[test]
fn scrub_reads_the_complete_segments_and_tells_what_is_damaged() {
    let scratch = Scratch::with_log();
    let object = scratch.json(0, "scrub log --rate 1000");
    assert!(
        object["segments"].as_u64().unwrap() > 0 && object["bytes_read"].as_u64().unwrap() > 0,
        "{object}"
    );
    assert_eq!((&object["damaged"], &object["stretches"]), (&json!(0), &json!([])));
    let said = scratch.expect(0, "scrub log --rate 1000");
    assert!(said.out.contains("nothing is damaged"), "{}", said.out);

    scratch.spoil(1);
    let object = scratch.json(2, "scrub log --rate 1000");
    assert_eq!(object["damaged"], 1);
    assert_eq!(object["stretches"][0]["verdict"], "rot");
    let said = scratch.expect(2, "scrub log --rate 1000");
    assert!(
        said.out.contains("one stretch is damaged") && said.out.contains("log-recover verify log"),
        "{}",
        said.out
    );
}

#[test]
fn dump_gives_every_record_in_every_form() {
    let scratch = Scratch::with_log();
    let lines = scratch.expect(0, "dump log").out;
    assert_eq!(lines.lines().count() as u64, RECORDS);
    assert!(
        lines.lines().nth(6).unwrap().starts_with("7  epoch 1, 1014 bytes  \"record 000007 lamp"),
        "{lines}"
    );

    let raw = scratch.expect(0, "dump log --raw").out;
    assert_eq!(raw, (1..=RECORDS).map(record).collect::<String>());

    let hex = scratch.expect(0, "dump log --hex --from 7 --to 7").out;
    assert!(
        hex.contains("  00000000  72 65 63 6f 72 64 20 30  30 30 30 30 37 20 6c 61  |record 000007 la|"),
        "{hex}"
    );

    let json = scratch.expect(0, "dump log --json --from 199").out;
    let objects: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!((&objects[1]["lsn"], &objects[1]["bytes"]), (&json!(200), &json!(1014)));
    assert!(objects[1]["base64"].as_str().unwrap().starts_with("cmVjb3JkIDAwMDIwMCBsYW1w"));
}

#[test]
fn a_range_outside_of_the_log_is_said_to_be() {
    let scratch = Scratch::with_log();
    let said = scratch.expect(0, "dump log --from 150 --to 900");
    assert_eq!(said.out.lines().count(), 51);
    assert!(said.err.contains("records 1 to 200"), "{}", said.err);
    assert_eq!(scratch.expect(0, "dump log --from 900").out, "");
}

#[test]
fn where_there_is_no_log_the_status_is_3() {
    let scratch = Scratch::with_log();
    fs::create_dir(scratch.path("empty")).unwrap();
    for command in ["inspect", "verify", "dump", "plan", "repair", "undo", "scrub", "salvage --out new"] {
        for dir in ["nowhere", "empty", "log/superblock"] {
            let said = scratch.expect(3, &format!("{command} {dir}"));
            assert_eq!(said.out, "", "{command}: an error belongs on standard error");
            assert!(said.err.contains(dir) && said.err.contains("next:"), "{command}: {}", said.err);
        }
    }
    let object = scratch.json(3, "verify empty");
    assert_eq!(object["error"]["kind"], "not_a_log");
    assert!(!scratch.path("new").exists(), "nothing is made for a log that is not there");
    assert_eq!(fs::read_dir(scratch.path("empty")).unwrap().count(), 0);
}

#[test]
fn a_log_of_a_newer_version_is_refused() {
    let scratch = Scratch::with_log();
    scratch.expect(0, "verify log");
    let newer = |block: &mut [u8]| {
        block[8] = 2;
        let sum = annals::format::crc32(&[&block[..12], &block[16..]].concat());
        block[12..16].copy_from_slice(&sum.to_le_bytes());
    };
    edit(&scratch.path("log/superblock"), |bytes| {
        newer(&mut bytes[..4096]);
        newer(&mut bytes[65_536..65_536 + 4096]);
    });
    let before = scratch.files("log");
    for command in ["verify", "plan", "repair"] {
        assert!(scratch.expect(3, &format!("{command} log")).err.contains("version 2"), "{command}");
    }
    assert_eq!(scratch.files("log"), before);
}

#[test]
fn a_log_in_use_can_be_looked_at_and_not_changed() {
    let scratch = Scratch::new();
    let log = scratch.open("log");
    log.sync().unwrap();
    for command in ["inspect", "verify", "dump", "scrub --rate 1000"] {
        scratch.expect(0, &format!("{command} log"));
    }
    let object = scratch.json(0, "verify log");
    assert_eq!(object["writer"]["pid"], std::process::id());
    assert!(scratch.expect(0, "inspect log").out.contains(&std::process::id().to_string()));
    for command in ["plan", "repair", "undo", "salvage --out new"] {
        let said = scratch.expect(3, &format!("{command} log"));
        assert!(
            said.err.contains("open for writing") && said.err.contains("stop"),
            "{command}: {}",
            said.err
        );
    }
    assert_eq!(scratch.json(3, "repair log")["error"]["kind"], "in_use");
    log.append_durable(b"one more").unwrap();
    log.close().unwrap();
}

#[test]
fn what_a_crash_tore_is_no_damage() {
    let scratch = Scratch::new();
    let log = scratch.open("log");
    scratch.copy("log", "crashed");
    drop(log);
    // The last group's last record never reached the disk.
    let wanted = record(RECORDS).into_bytes();
    let holds = |path: &PathBuf| fs::read(path).unwrap().windows(wanted.len()).any(|window| window == wanted);
    // Just after a roll the newest segment has the name of a spare.
    let files = fs::read_dir(scratch.path("crashed")).unwrap().map(|entry| entry.unwrap().path());
    let tail = files.into_iter().find(holds).unwrap();
    edit(&tail, |bytes| {
        let offset = bytes.windows(wanted.len()).position(|window| window == wanted).unwrap();
        bytes[offset..offset + 512].fill(0);
    });
    let object = scratch.json(0, "verify crashed");
    if object["durable"] == json!(RECORDS) {
        panic!("the superblock already vouches for the last group: {object}");
    }
    let said = scratch.expect(0, "verify crashed").out;
    assert!(said.contains("never acknowledged; the next open discards"), "{said}");
}
