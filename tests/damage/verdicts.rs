//! Every kind of damage, alone and with others.

use annals::{Error, Lsn};

use crate::anatomy::Anatomy;
use crate::directory::Directory;
use crate::forge::{self, Forged};
use crate::harm::{ALL, Harm, Patient};
use crate::seeds::{Cases, Chance};
use crate::trial::{Trial, open};
use crate::truth::Truth;

/// A log that was damaged.
struct Damaged {
    what: String,
    forged: Forged,
    files: Directory,
    truth: Truth,
}

impl Damaged {
    /// Damages the log of `seed` as `harms` say.
    fn of(seed: u64, harms: &[Harm], chance: &mut Chance) -> Damaged {
        let forged = forge::log(seed);
        let anatomy = Anatomy::of(&forged.files);
        check_forged(&forged, &anatomy);
        let other = forge::log(seed ^ 0xF0F0);
        let segment = &Anatomy::of(&other.files).segments[0];
        let foreign = other.files.bytes(&segment.name).unwrap();
        let mut files = forged.files.clone();
        let mut done = vec![];
        for harm in harms {
            let mut patient = Patient { files: &mut files, anatomy: &anatomy, foreign };
            done.extend(harm.strike(chance, &mut patient));
        }
        let what = format!("log {seed}, {:?}, with {}", forged.left, done.join(" and "));
        let truth = Truth::of(&anatomy, &forged.files, &files);
        Damaged { what, forged, files, truth }
    }

    /// With one kind of damage, all kinds in turn.
    fn once(seed: u64) -> Damaged {
        let harm = ALL[(seed % ALL.len() as u64) as usize];
        Damaged::of(seed, &[harm], &mut Chance::new(seed))
    }

    /// With two to four.
    fn mixed(seed: u64) -> Damaged {
        let mut chance = Chance::new(!seed);
        let harms: Vec<Harm> = (0..chance.between(2, 4)).map(|_| chance.pick(&ALL)).collect();
        Damaged::of(seed, &harms, &mut chance)
    }

    fn trial(&self) -> Trial<'_> {
        let Damaged { what, forged, files, truth } = self;
        Trial { what: what.clone(), files, records: &forged.records, truth }
    }
}

/// The walk has found what the forge has made.
fn check_forged(forged: &Forged, anatomy: &Anatomy) {
    let frames =
        || anatomy.segments.iter().flat_map(|segment| &segment.groups).flat_map(|group| &group.frames);
    let found: Vec<u64> = frames().flat_map(|frame| frame.lsns()).collect();
    let made: Vec<u64> = forged.records.keys().copied().collect();
    assert_eq!(found, made, "the walk finds what was forged");
    let starts = frames().filter(|frame| frame.is_epoch_start()).count();
    assert_eq!(starts, forged.records.values().filter(|record| record.is_none()).count());
}

/// What is forged is what the engine would have written: it opens, and shows every record.
#[test]
fn the_engine_takes_what_is_forged_for_its_own() {
    let test = "the_engine_takes_what_is_forged_for_its_own";
    Cases { file: "verdicts", test, usual: 300 }.run(|seed| {
        let forged = forge::log(seed);
        let anatomy = Anatomy::of(&forged.files);
        check_forged(&forged, &anatomy);
        let log = open(&forged.files.disk(seed)).unwrap();
        let first = anatomy.superblock.first_lsn;
        assert_eq!(
            (log.first_lsn(), log.last_lsn().max(first.prev())),
            (first, anatomy.last().max(first.prev()))
        );
        for (lsn, record) in forged.records.range(first.get()..) {
            match (log.read(Lsn::new(*lsn)), record) {
                (Ok(read), Some(record)) => assert!(*read == **record, "record {lsn}"),
                (Err(Error::BeyondEnd { .. }), None) => {}
                (read, _) => panic!("record {lsn} of a log that was left as {:?}: {read:?}", forged.left),
            }
        }
        log.close().unwrap();
    });
}

#[test]
fn the_engine_refuses_what_is_lost_and_shows_no_wrong_record() {
    let test = "the_engine_refuses_what_is_lost_and_shows_no_wrong_record";
    Cases { file: "verdicts", test, usual: 600 }.run(|seed| {
        let damaged = if seed % 2 == 0 { Damaged::once(seed / 2) } else { Damaged::mixed(seed / 2) };
        damaged.trial().check_engine();
    });
}

#[test]
fn a_log_that_nothing_happened_to_is_whole() {
    let test = "a_log_that_nothing_happened_to_is_whole";
    Cases { file: "verdicts", test, usual: 60 }
        .run(|seed| Damaged::of(seed, &[], &mut Chance::new(seed)).trial().run());
}

#[test]
fn each_kind_of_damage_is_reported_as_it_was_done() {
    let test = "each_kind_of_damage_is_reported_as_it_was_done";
    Cases { file: "verdicts", test, usual: 320 }.run(|seed| Damaged::once(seed).trial().run());
}

#[test]
fn mixtures_of_damage_are_reported_as_they_were_done() {
    let test = "mixtures_of_damage_are_reported_as_they_were_done";
    Cases { file: "verdicts", test, usual: 200 }.run(|seed| Damaged::mixed(seed).trial().run());
}
