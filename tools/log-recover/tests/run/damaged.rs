//! Logs that are damaged: what is said, what is repaired, what is salvaged, and the way back.

use std::fs;

use annals::{Error, LogOptions, Lsn};
use serde_json::{Value, json};

use crate::scratch::{RECORDS, Scratch, edit, record};

fn range(first: u64, last: u64) -> Value {
    json!({ "first": first, "last": last })
}

/// The verdicts with their LSNs.
fn verdicts(object: &Value) -> Vec<(String, Value)> {
    let stretches = object["stretches"].as_array().unwrap().iter();
    let stretches = stretches.filter(|stretch| stretch["verdict"] == "rot" || stretch["verdict"] == "hole");
    stretches.map(|one| (one["verdict"].as_str().unwrap().to_owned(), one["lsns"].clone())).collect()
}

#[test]
fn a_flipped_bit_is_put_right_and_nothing_is_lost() {
    let scratch = Scratch::with_log();
    let whole = scratch.files("log");
    scratch.flip(17);
    let damaged = scratch.files("log");

    let object = scratch.json(2, "verify log");
    assert_eq!(verdicts(&object), [("rot".to_owned(), range(17, 17))]);
    assert_eq!(object["lost"], json!([range(17, 17)]));
    let (path, offset) = (scratch.segments("log").remove(0), &object["stretches"][0]["correction"]["offset"]);
    assert_eq!(object["stretches"][0]["file"], path.as_str());
    assert_eq!(object["stretches"][0]["correction"], json!({ "offset": offset, "bit": 2 }));
    let said = scratch.expect(2, "verify log").out;
    assert!(said.contains("1 acknowledged record, 17."), "{said}");
    assert!(said.contains("nothing is lost"), "{said}");
    assert!(said.trim_end().ends_with("Next: log-recover plan log"), "{said}");

    let plan = scratch.json(2, "plan log");
    assert_eq!(plan["steps"][0]["step"], "correct");
    assert_eq!(plan["gives_up"], json!([]));
    assert_eq!(plan["next"], "log-recover repair log");
    assert!(scratch.expect(2, "plan log").out.trim_end().ends_with("Next: log-recover repair log"));
    assert_eq!(scratch.files("log"), damaged, "looking changes nothing");

    let done = scratch.json(0, "repair log");
    assert_eq!(done["gave_up"], json!([]));
    assert!(done["journal"].as_str().is_some_and(|name| name.starts_with("quarantine-")), "{done}");
    assert_eq!(scratch.json(0, "verify log")["records"], RECORDS);
    assert_eq!(scratch.expect(0, "dump log --raw --from 17 --to 17").out, record(17));
    assert_eq!(scratch.files("log")[&path], whole[&path], "the file is again what it was");

    scratch.expect(0, "undo log");
    let mut undone = scratch.files("log");
    undone.retain(|name, _| !name.starts_with("quarantine-"));
    assert_eq!(undone, damaged, "exactly");
    scratch.expect(2, "verify log");
}

#[test]
fn a_loss_has_to_be_accepted_by_its_number() {
    let scratch = Scratch::with_log();
    scratch.spoil(17);
    scratch.spoil(120);
    let damaged = scratch.files("log");
    let object = scratch.json(2, "verify log");
    assert_eq!(object["lost"], json!([range(17, 17), range(120, 120)]));

    let said = scratch.expect(2, "dump log");
    assert!(said.out.contains("# record 17 cannot be read\n18  epoch 1"), "{}", said.out);
    assert_eq!(said.out.lines().count() as u64, RECORDS);
    scratch.expect(0, "dump log --from 18 --to 119");

    let plan = scratch.expect(2, "plan log").out;
    assert!(plan.trim_end().ends_with("Next: log-recover repair log --accept-loss 2"), "{plan}");
    for args in ["repair log", "repair log --accept-loss 1", "repair log --accept-loss 3"] {
        let said = scratch.expect(2, args);
        assert!(said.err.contains("--accept-loss 2"), "{}", said.err);
        assert_eq!(scratch.files("log"), damaged, "{args} changes nothing");
    }
    let said = scratch.expect(0, "repair log --accept-loss 2");
    assert!(said.out.contains("log-recover undo log") && said.out.contains("17 and 120"), "{}", said.out);

    let object = scratch.json(0, "verify log");
    assert_eq!(object["given_up"], json!([range(17, 17), range(120, 120)]));
    assert_eq!(object["lost"], json!([]));
    assert!(scratch.expect(0, "dump log").out.contains("# record 17 was given up by an earlier repair"));
    let log = LogOptions::new(scratch.path("log")).open().unwrap();
    assert_eq!(&*log.read(Lsn::new(18)).unwrap(), record(18).as_bytes());
    assert!(matches!(log.read(Lsn::new(17)), Err(Error::Lost { .. })));
    assert_eq!(log.append_durable(b"on it goes").unwrap().lsn(), Lsn::new(RECORDS + 1));
    log.close().unwrap();

    let said = scratch.expect(3, "undo log");
    assert!(said.err.contains("changed after the repair"), "{}", said.err);
}

#[test]
fn a_missing_segment_is_bridged() {
    let scratch = Scratch::with_log();
    let segments = scratch.segments("log");
    let first: u64 = segments[1].trim_end_matches(".seg").parse().unwrap();
    let last: u64 = segments[2].trim_end_matches(".seg").parse::<u64>().unwrap() - 1;
    fs::remove_file(scratch.path("log").join(&segments[1])).unwrap();

    let object = scratch.json(2, "inspect log");
    assert_eq!(object["opening"]["opens"], false);
    assert!(scratch.expect(2, "inspect log").out.contains('H'));
    let object = scratch.json(2, "verify log");
    assert_eq!(object["lost"], json!([range(first, last)]));
    let lost = last - first + 1;
    scratch.expect(0, &format!("repair log --accept-loss {lost}"));
    assert_eq!(scratch.json(0, "verify log")["given_up"], json!([range(first, last)]));
    LogOptions::new(scratch.path("log")).open().unwrap().close().unwrap();
}

#[test]
fn a_slot_that_does_not_check_loses_nothing() {
    let scratch = Scratch::with_log();
    edit(&scratch.path("log/superblock"), |bytes| bytes[100..140].fill(0x55));
    let object = scratch.json(1, "verify log");
    assert_eq!(object["lost"], json!([]));
    assert!(scratch.expect(1, "inspect log").out.contains("slot 0"));
    scratch.expect(0, "repair log");
    scratch.expect(0, "verify log");
}

#[test]
fn both_slots_are_made_from_the_segments() {
    let scratch = Scratch::with_log();
    edit(&scratch.path("log/superblock"), |bytes| {
        bytes[100..140].fill(0x55);
        bytes[65_536 + 100..65_536 + 140].fill(0x55);
    });
    let object = scratch.json(1, "verify log");
    assert_eq!(object["opening"]["opens"], false);
    assert!(scratch.expect(1, "verify log").out.contains("before 1 or after 200"));
    scratch.expect(0, "repair log");
    assert_eq!(scratch.json(0, "verify log")["records"], RECORDS);
}

#[test]
fn salvage_makes_a_whole_log_of_what_is_readable() {
    let scratch = Scratch::with_log();
    scratch.spoil(17);
    let damaged = scratch.files("log");
    let object = scratch.json(2, "salvage log --out new");
    assert_eq!(object["records"], RECORDS - 1);
    assert_eq!(object["gaps"], json!([range(17, 17)]));
    assert_eq!(scratch.files("log"), damaged);
    let object = scratch.json(0, "verify new");
    assert_eq!(object["given_up"], json!([range(17, 17)]));
    let log = LogOptions::new(scratch.path("new")).open().unwrap();
    assert_eq!(&*log.read(Lsn::new(200)).unwrap(), record(200).as_bytes());
    log.close().unwrap();

    let said = scratch.expect(3, "salvage log --out new");
    assert!(said.err.contains("not empty"), "{}", said.err);
}

#[test]
fn salvage_makes_a_file_of_records_with_the_gaps() {
    let scratch = Scratch::with_log();
    scratch.spoil(17);
    scratch.expect(2, "salvage log --records lines");
    let text = fs::read_to_string(scratch.path("lines")).unwrap();
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len() as u64, RECORDS);
    assert_eq!(objects[16], json!({ "gap": range(17, 17), "given_up": false }));
    assert_eq!(objects[17]["lsn"], 18);
    scratch.flip(18);
    let said = scratch.expect(2, "salvage log --records fewer").out;
    assert!(said.contains("Only flipped bits keep 1 record"), "{said}");
    // What is there already is never written over.
    scratch.expect(3, "salvage log --records lines");
    assert_eq!(fs::read_to_string(scratch.path("lines")).unwrap(), text);
}

#[test]
fn a_repair_that_was_interrupted_is_finished_or_taken_back() {
    let scratch = Scratch::with_log();
    scratch.flip(17);
    let damaged = scratch.files("log");
    for way_out in ["repair", "undo"] {
        scratch.expect(0, "repair log");
        // As if the power had failed before the last step.
        let done = scratch.files("log").into_keys().find(|name| name.ends_with(".journal")).unwrap();
        let pending = done.replace(".journal", ".pending");
        fs::rename(scratch.path("log").join(&done), scratch.path("log").join(&pending)).unwrap();
        let object = scratch.json(1, "verify log");
        assert_eq!(object["unfinished_repair"], pending.as_str());
        assert!(scratch.expect(1, "plan log").out.contains("log-recover repair log (finishes it)"));
        assert_eq!(scratch.json(3, "salvage log --out new")["error"]["kind"], "repair_unfinished");
        assert!(matches!(
            LogOptions::new(scratch.path("log")).open().map(drop),
            Err(Error::RepairUnfinished { .. })
        ));
        scratch.expect(0, &format!("{way_out} log"));
        if way_out == "repair" {
            scratch.expect(0, "verify log");
            scratch.expect(0, "undo log");
        }
        let mut undone = scratch.files("log");
        undone.retain(|name, _| !name.starts_with("quarantine-"));
        assert_eq!(undone, damaged);
    }
}

#[test]
fn there_is_nothing_to_undo_without_a_repair() {
    let scratch = Scratch::with_log();
    assert_eq!(scratch.json(3, "undo log")["error"]["kind"], "nothing_to_undo");
}

#[test]
fn names_in_the_directory_do_not_command_the_terminal() {
    let scratch = Scratch::with_log();
    fs::write(scratch.path("log").join("\u{1b}[2J.seg"), b"junk").unwrap();
    let said = scratch.run("inspect log");
    assert!(!said.out.contains('\u{1b}') && said.out.contains("u{1b}"), "{}", said.out);
}
