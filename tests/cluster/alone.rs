//! Each family of faults alone.

use std::cell::Cell;

use annals::protocol::Quorums;

use crate::mix::{Kind, Mix};
use crate::network::Weather;
use crate::runs::{Recipe, run};
use crate::seeds::{Cases, Chance};
use crate::world::World;

/// What makes a store take every kind of step.
const ALL_STEPS: &[Kind] = &[Kind::Snapshot, Kind::Trim, Kind::Symmetric, Kind::Kill, Kind::Rot];

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
        ..Mix::calm(draw).with(&[&[Kind::CutShort, Kind::CutShort], ALL_STEPS].concat())
    });
}

#[test]
fn steps_of_the_store_fail() {
    cases("steps_of_the_store_fail", |draw| Mix {
        every_ms: 150,
        ..Mix::calm(draw).with(&[&[Kind::StepFails, Kind::StepFails, Kind::StepFills], ALL_STEPS].concat())
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
fn bases_rot() {
    cases("bases_rot", |draw| {
        let snapshots: &[Kind] = if draw.below(3) == 0 { &[] } else { &[Kind::Snapshot, Kind::Trim] };
        Mix::calm(draw).with(&[&[Kind::RotBase, Kind::RotBase, Kind::Kill], snapshots].concat())
    });
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
fn newer_snapshots_are_taken_while_somebody_receives_one() {
    let kept = Cell::new(0);
    let recipe: Recipe = |draw| Mix {
        every_ms: 100,
        catch_up_bytes_per_s: Some(4 << 10),
        ..Mix::calm(draw).with(&[Kind::Snapshot, Kind::Snapshot, Kind::Trim, Kind::Reset, Kind::Kill])
    };
    Cases { file: "alone", test: "newer_snapshots_are_taken_while_somebody_receives_one", usual: 8 }
        .run(|seed| kept.set(kept.get() + run(seed, recipe).kept));
    let is_one = std::env::var_os("ANNALS_SEED").is_some();
    assert!(is_one || kept.get() > 0, "none was received after a newer one had been taken");
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

/// One replica forgets what it has acknowledged and voted, because its directory is put back as it was, or its disk has lied
/// about syncs.
fn forgetful(draw: &mut Chance, (nodes, quorums): (usize, Quorums)) -> Mix {
    let kinds = [Kind::OldCopy, Kind::OldCopy, Kind::OldCopy, Kind::Kill, Kind::OneWay, Kind::Snapshot];
    Mix { nodes, quorums, every_ms: 300, ..Mix::calm(draw).with(&kinds) }
}

/// Any two quorums share a replica that has forgotten nothing.
#[test]
fn an_old_copy_comes_back_where_quorums_have_one_to_spare() {
    cases("an_old_copy_comes_back_where_quorums_have_one_to_spare", |draw| {
        let fixed = |write| Quorums::Fixed { write, election: 4 };
        let cluster = draw.pick(&[(4, Quorums::Majority), (5, fixed(3)), (5, fixed(4))]);
        forgetful(draw, cluster)
    });
}

/// Three have none to spare: the simulator has to notice, or the test above tells nothing.
#[test]
fn an_old_copy_among_three_loses_what_was_committed() {
    let is_lost = |seed| {
        let mut draw = Chance::new(seed);
        let mix = forgetful(&mut draw, (3, Quorums::Majority));
        World::new(draw.next(), mix, false).run().violation.is_some()
    };
    assert!((0..500).any(is_lost), "nobody has missed anything");
}

#[test]
fn quorums_change() {
    cases("quorums_change", |draw| Mix::calm(draw).with(&[Kind::Quorums, Kind::Kill, Kind::Symmetric]));
}
