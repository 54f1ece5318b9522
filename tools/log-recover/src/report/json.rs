//! The same for programs. Numbers are plain, LSN ranges have both ends included, byte ranges end before `end`.

use annals::format::{FooterKind, Superblock};
use annals::repair::{
    Correction, Opening, Plan, Report, SegmentReport, SlotReport, Step, Stray, Stretch, SuperblockReport,
};
use annals::{Lsn, LsnRange};
use serde_json::{Map, Value, json};

use super::verdict::Verdict;
use super::words;
use crate::place::Place;
use crate::status::Status;

/// The one object that a command prints.
pub(crate) type Object = Map<String, Value>;

/// What every object begins with.
pub(crate) fn head(command: &str, dir: &str, status: Status) -> Object {
    let mut object = Object::new();
    object.insert("command".to_owned(), command.into());
    object.insert("dir".to_owned(), dir.into());
    object.insert("status".to_owned(), status.number().into());
    object
}

/// All that is in a report.
pub(crate) fn report(object: &mut Object, report: &Report, place: &Place) {
    let verdict = Verdict::of(report, place);
    let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
    set("whole", report.is_whole().into());
    set("verified", report.is_verified.into());
    set("verdict", verdict.sentence.into());
    set("next", verdict.next.into());
    set("log_id", report.log_id.map(|id| id.to_string()).into());
    set("first_lsn", report.first_lsn.get().into());
    set("last_lsn", report.last_lsn.get().into());
    set("durable", report.durable.get().into());
    set("epoch", report.epoch.get().into());
    set("records", report.records.into());
    set("bytes", report.bytes.into());
    set("lost", ranges(&report.lost));
    set("lost_records", report.lost_records().into());
    set("given_up", ranges(&report.given_up));
    set(
        "opening",
        match &report.opening {
            Opening::Opens => json!({ "opens": true }),
            Opening::Refuses(error) => json!({ "opens": false, "error": error.to_string() }),
        },
    );
    set("writer", report.writer.map_or(Value::Null, |pid| json!({ "pid": pid })));
    set("unfinished_repair", report.unfinished_repair.clone().into());
    set("stretches", report.stretches.iter().map(stretch).collect());
    set("superblock", superblock(&report.superblock));
    set("segments", report.segments.iter().map(segment).collect());
    set("strays", report.strays.iter().map(stray).collect());
}

/// LSN ranges, both ends included.
pub(crate) fn ranges(ranges: &[LsnRange]) -> Value {
    ranges.iter().map(|range| lsns(*range)).collect()
}

/// The steps of a plan, and what they lose.
pub(crate) fn plan(object: &mut Object, plan: &Plan) {
    object.insert("steps".to_owned(), plan.steps.iter().map(step).collect());
    object.insert("gives_up".to_owned(), ranges(&plan.gives_up));
    object.insert("gives_up_records".to_owned(), words::total(&plan.gives_up).into());
    object.insert("new_bytes".to_owned(), plan.new_bytes.into());
}

fn lsns(range: LsnRange) -> Value {
    json!({ "first": range.first.get(), "last": range.last.get() })
}

/// A stretch that is not clean.
pub(crate) fn stretch(stretch: &Stretch) -> Value {
    json!({
        "verdict": words::verdict(stretch.kind),
        "file": *stretch.file,
        "start": stretch.bytes.start,
        "end": stretch.bytes.end,
        "lsns": stretch.lsns.map(lsns),
        "acknowledged": stretch.is_acknowledged,
        "cause": words::cause(stretch.cause).0,
        "correction": stretch.correction.map(correction),
    })
}

fn correction(correction: Correction) -> Value {
    json!({ "offset": correction.offset, "bit": correction.bit })
}

fn superblock(report: &SuperblockReport) -> Value {
    let slots = report.slots.iter().map(|one| match one {
        SlotReport::Sound(sound) => {
            let mut value = slot(sound);
            value["sound"] = true.into();
            value["counts"] = report.chosen.as_ref().is_some_and(|chosen| chosen == &**sound).into();
            value
        }
        SlotReport::Bad(why, bit) => {
            json!({ "sound": false, "why": why.to_string(), "correction": bit.map(correction) })
        }
    });
    json!({ "exists": report.exists, "slots": slots.collect::<Vec<_>>() })
}

fn slot(slot: &Superblock) -> Value {
    json!({
        "sequence": slot.sequence,
        "replica_id": slot.replica_id.get(),
        "write_method": slot.write_method.to_string(),
        "epoch": slot.epoch.get(),
        "vote": { "epoch": slot.vote.epoch.get(), "replica": slot.vote.replica.get() },
        "durable": slot.durable.get(),
        "first_lsn": slot.first_lsn.get(),
        "closed_at": slot.clean_tail.map(|tail| tail.last_lsn.get()),
        "mark": slot.mark.as_ref().map(|mark| json!({ "lsn": mark.lsn.get(), "bytes": mark.bytes.len() })),
    })
}

fn segment(segment: &SegmentReport) -> Value {
    let footer = segment.footer.map(|footer| match footer.kind {
        FooterKind::Sealed => "sealed",
        FooterKind::Parked => "parked",
    });
    json!({
        "file": *segment.file,
        "bytes": segment.bytes,
        "id": segment.header.segment_id.get(),
        "first_lsn": segment.header.first_lsn.get(),
        "last_lsn": segment.last_lsn.get(),
        "epoch": segment.header.epoch.get(),
        "end": segment.end,
        "footer": footer,
        "tail": segment.is_tail,
    })
}

fn stray(stray: &Stray) -> Value {
    let (role, what) = words::role(&stray.role);
    json!({ "file": *stray.file, "bytes": stray.bytes, "role": role, "what": what })
}

fn step(step: &Step) -> Value {
    let lsn = |lsn: Lsn| lsn.get();
    match step {
        Step::Correct { file, corrections } => {
            let bits: Vec<Value> = corrections.iter().map(|bit| correction(*bit)).collect();
            json!({ "step": "correct", "file": **file, "corrections": bits })
        }
        Step::Reseal { file, header } => {
            json!({ "step": "reseal", "file": **file, "first_lsn": lsn(header.first_lsn) })
        }
        Step::Rebuild { file, lsns: records, gives_up, .. } => {
            json!({ "step": "rebuild", "file": **file, "lsns": lsns(*records), "gives_up": ranges(gives_up) })
        }
        Step::Bridge { file, lsns: records, .. } => {
            json!({ "step": "bridge", "file": **file, "lsns": lsns(*records), "gives_up": ranges(&[*records]) })
        }
        Step::Rename { from, to } => json!({ "step": "rename", "from": **from, "to": **to }),
        Step::SetAside { file, role } => {
            json!({ "step": "set_aside", "file": **file, "role": words::role(role).0 })
        }
        Step::Superblock { is_from_segments } => {
            json!({ "step": "superblock", "from_segments": is_from_segments })
        }
        other => json!({ "step": "other", "what": format!("{other:?}") }),
    }
}
