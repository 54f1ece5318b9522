//! Each family of faults alone.

use crate::mix::{Kind, Mix};
use crate::network::Weather;
use crate::runs::run;
use crate::seeds::{Cases, Chance};

fn cases(test: &'static str, recipe: fn(&mut Chance) -> Mix) {
    Cases { file: "alone", test, usual: 8 }.run(|seed| {
        run(seed, recipe);
    });
}

#[test]
fn nothing_goes_wrong() {
    cases("nothing_goes_wrong", Mix::calm);
}

#[test]
fn messages_are_lost_doubled_and_late() {
    cases("messages_are_lost_doubled_and_late", |draw| Mix {
        weather: Weather {
            loss: draw.below(200),
            twice: draw.below(200),
            astray: draw.below(200),
            late_ms: draw.pick(&[30, 300, 3000]),
        },
        ..Mix::calm(draw)
    });
}

#[test]
fn the_network_parts() {
    cases("the_network_parts", |draw| {
        Mix::calm(draw).with(&[Kind::Symmetric, Kind::OneWay, Kind::Partial, Kind::Chain])
    });
}

#[test]
fn links_are_slow_or_reset() {
    cases("links_are_slow_or_reset", |draw| {
        Mix::calm(draw).with(&[Kind::SlowLink, Kind::Reset, Kind::PeerLost])
    });
}

#[test]
fn processes_are_killed() {
    cases("processes_are_killed", |draw| Mix::calm(draw).with(&[Kind::Kill]));
}

#[test]
fn all_lose_power_at_once() {
    cases("all_lose_power_at_once", |draw| Mix::calm(draw).with(&[Kind::PowerLoss]));
}

#[test]
fn processes_stand_still() {
    cases("processes_stand_still", |draw| Mix::calm(draw).with(&[Kind::Pause]));
}

#[test]
fn clocks_step_and_drift() {
    cases("clocks_step_and_drift", |draw| Mix {
        drift_ppm: 100_000,
        ..Mix::calm(draw).with(&[Kind::ClockStep, Kind::ClockDrift])
    });
}

#[test]
fn disks_fail_and_fill() {
    cases("disks_fail_and_fill", |draw| Mix::calm(draw).with(&[Kind::DiskFails, Kind::DiskFull]));
}

#[test]
fn the_power_fails_inside_of_a_step_of_the_store() {
    cases("the_power_fails_inside_of_a_step_of_the_store", |draw| Mix {
        every_ms: 150,
        ..Mix::calm(draw).with(&[
            Kind::CutShort,
            Kind::CutShort,
            Kind::Snapshot,
            Kind::Trim,
            Kind::Symmetric,
            Kind::Kill,
            Kind::Rot,
        ])
    });
}

#[test]
fn steps_of_the_store_fail() {
    cases("steps_of_the_store_fail", |draw| Mix {
        every_ms: 150,
        ..Mix::calm(draw).with(&[
            Kind::StepFails,
            Kind::StepFails,
            Kind::StepFills,
            Kind::Snapshot,
            Kind::Trim,
            Kind::Symmetric,
            Kind::Kill,
            Kind::Rot,
        ])
    });
}

#[test]
fn disks_stall() {
    cases("disks_stall", Mix::stalling);
}

#[test]
fn records_rot() {
    cases("records_rot", |draw| Mix { tampers: 100, ..Mix::calm(draw).with(&[Kind::Rot]) });
}

#[test]
fn disks_are_replaced_by_blank_ones() {
    cases("disks_are_replaced_by_blank_ones", |draw| Mix::calm(draw).with(&[Kind::Blank, Kind::Snapshot]));
}

#[test]
fn logs_are_trimmed_while_somebody_catches_up() {
    cases("logs_are_trimmed_while_somebody_catches_up", |draw| Mix {
        tampers: 100,
        ..Mix::calm(draw).with(&[Kind::Snapshot, Kind::Trim, Kind::Kill, Kind::Symmetric])
    });
}

#[test]
fn the_role_is_handed_over_under_load() {
    cases("the_role_is_handed_over_under_load", |draw| Mix::calm(draw).with(&[Kind::Transfer]));
}

#[test]
fn members_come_and_go() {
    cases("members_come_and_go", |draw| Mix::calm(draw).with(&[Kind::Change]));
}

#[test]
fn foreign_messages_change_nothing() {
    cases("foreign_messages_change_nothing", |draw| Mix {
        every_ms: 20,
        ..Mix::calm(draw).with(&[Kind::Garbage])
    });
}

#[test]
fn quorums_change() {
    cases("quorums_change", |draw| Mix::calm(draw).with(&[Kind::Quorums, Kind::Kill, Kind::Symmetric]));
}
