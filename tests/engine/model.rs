//! Random operations, reopens and crashes against an account that is kept outside of the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use annals::disk::Disk;
use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::{Cursor, Durability, Error, Log, LogOptions, Lsn, TailCursor, WriteMethod, ZeroFill};

use crate::support::PATIENCE;
use crate::support::author::Author;
use crate::support::ledger::{Ledger, Shown};
use crate::support::seeds::{Cases, Chance};

const RECORD_BYTES_MAX: u64 = 200 << 10;

fn options(directory: &std::path::Path, chance: &mut Chance) -> LogOptions {
    LogOptions::new(directory)
        .segment_bytes(chance.pick(&[64 << 10, 65 << 10, 256 << 10]))
        .group_bytes(chance.pick(&[4 << 10, 8 << 10, 1 << 20]))
        .record_bytes_max(RECORD_BYTES_MAX)
        .in_flight_bytes_max(chance.pick(&[64 << 10, 256 << 10]))
        .depth(chance.between(1, 5) as usize)
        .write_method(chance.pick(&WriteMethod::ALL))
        .recycle(chance.below(2) == 0)
        .zero_fill(chance.pick(&[ZeroFill::Adaptive, ZeroFill::Always, ZeroFill::Never]))
        .strict_blocks(chance.below(2) == 0)
        .verify_reads(chance.below(4) > 0)
}

/// Where the log lies.
enum Place {
    Simulated(SimDisk),
    Real(tempfile::TempDir),
}

/// A log under random operations, and readers that stay while it changes.
struct Model {
    place: Place,
    chance: Chance,
    options: LogOptions,
    author: Author,
    cursor: Option<Cursor>,
    tail: Option<TailCursor>,
}

impl Model {
    fn new(place: Place, seed: u64) -> Model {
        let mut chance = Chance::new(seed);
        let directory = match &place {
            Place::Simulated(_) => "simulated".into(),
            Place::Real(directory) => directory.path().join("log"),
        };
        let options = options(&directory, &mut chance);
        let author = open(&place, &options, &Ledger::new());
        Model { place, chance, options, author, cursor: None, tail: None }
    }

    fn log(&self) -> &Log {
        &self.author.log
    }

    fn step(&mut self) {
        let bytes = self.some_bytes();
        match self.chance.below(32) {
            0..=4 => self.author.append(bytes, Durability::Durable).unwrap(),
            5..=6 => self.author.append(bytes, Durability::Buffered).unwrap(),
            7 => drop(self.author.try_append(bytes).unwrap()),
            8..=9 => self.author.append_durable(bytes).unwrap(),
            10..=12 => self.append_batch(),
            13 => self.refuses_what_is_too_large(),
            14..=15 => self.author.redeem_oldest(3).unwrap(),
            16 => self.author.redeem_all().unwrap(),
            17 => self.author.forget_tickets(),
            18..=19 => self.author.sync().unwrap(),
            20..=21 => self.reads(),
            22..=23 => self.reads_a_range(),
            24 => self.follows_with_a_cursor(),
            25 => self.follows_the_tail(),
            26 => self.trims(),
            27 => self.truncates(),
            28 => self.marks(),
            29 => self.closes_and_opens(),
            30 => self.crashes_or_drops(),
            _ => self.shows_all(),
        }
    }

    /// Mostly small, now and then larger than a group or a segment.
    fn some_bytes(&mut self) -> usize {
        let most =
            [0, 20, 300, 300, 3000, 3000, 6000, 20_000, RECORD_BYTES_MAX][self.chance.below(9) as usize];
        if most == RECORD_BYTES_MAX && self.chance.below(4) > 0 {
            return 100;
        }
        self.chance.between(0, most) as usize
    }

    fn append_batch(&mut self) {
        let records = self.chance.between(1, 12);
        let most = self.chance.pick(&[0, 50, 2000]);
        let sizes: Vec<_> = (0..records).map(|_| self.chance.between(0, most) as usize).collect();
        self.author.append_batch(&sizes).unwrap();
    }

    fn refuses_what_is_too_large(&self) {
        let large = vec![1; RECORD_BYTES_MAX as usize + 1];
        let refused = self.log().append(&large).unwrap_err();
        assert!(matches!(refused, Error::RecordTooLarge { max: RECORD_BYTES_MAX, .. }), "{refused}");
        let refused = self.log().append_batch(&[&large[..100], &large[100..]]).unwrap_err();
        assert!(matches!(refused, Error::RecordTooLarge { max: RECORD_BYTES_MAX, .. }), "{refused}");
        assert!(matches!(self.log().append_batch::<&[u8]>(&[]), Err(Error::EmptyBatch)));
    }

    /// An LSN in the log, or a little outside of it.
    fn some_lsn(&mut self) -> u64 {
        let ledger = &self.author.ledger;
        self.chance.between(ledger.first().saturating_sub(2), ledger.last() + 2)
    }

    fn reads(&mut self) {
        let lsn = self.some_lsn();
        let ledger = &self.author.ledger;
        let durable = self.log().last_lsn().get();
        assert!((ledger.acknowledged()..=ledger.last()).contains(&durable));
        match self.log().read(Lsn::new(lsn)) {
            Ok(record) => {
                assert_eq!((record.lsn().get(), Some(&*record)), (lsn, ledger.bytes(lsn)));
                assert!(lsn >= ledger.first());
            }
            Err(Error::Trimmed { asked, first }) => {
                assert_eq!((asked.get(), first.get()), (lsn, ledger.first()));
                assert!(lsn < ledger.first());
            }
            Err(Error::BeyondEnd { asked, .. }) => assert!(asked.get() == lsn && lsn > durable),
            Err(error) => panic!("{error}"),
        }
    }

    fn reads_a_range(&mut self) {
        let (one, other) = (self.some_lsn(), self.some_lsn());
        let (from, to) = (one.min(other), one.max(other));
        let durable = self.log().last_lsn().get();
        let ledger = &self.author.ledger;
        let first = ledger.first();
        match self.log().cursor(Lsn::new(from)..=Lsn::new(to)) {
            Ok(cursor) => {
                let read: Vec<_> = cursor.records().map(Result::unwrap).collect();
                let last = read.last().map_or(from.max(1) - 1, |record| record.lsn().get());
                assert!(last >= durable.min(to) || from > durable, "{from} to {to} ended at {last}");
                assert!(read.iter().map(|record| record.lsn().get()).eq(from.max(1)..=last));
                assert!(read.iter().all(|record| Some(&**record) == ledger.bytes(record.lsn().get())));
            }
            Err(Error::Trimmed { .. }) => assert!(from < first),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads on with a cursor that was opened any number of steps ago.
    fn follows_with_a_cursor(&mut self) {
        let ledger = &self.author.ledger;
        let log = &self.author.log;
        let cursor = self.cursor.get_or_insert_with(|| log.cursor(..).unwrap());
        for _ in 0..self.chance.below(20) {
            let next = cursor.next_lsn().get();
            match cursor.next() {
                Ok(Some(record)) => {
                    assert_eq!((record.lsn().get(), Some(&*record)), (next, ledger.bytes(next)));
                }
                Ok(None) => {
                    assert!(next > ledger.acknowledged());
                    return;
                }
                Err(Error::Trimmed { .. }) => {
                    assert!(next < ledger.first());
                    self.cursor = None;
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn follows_the_tail(&mut self) {
        // What nobody waits for is flushed a little later: mostly not worth the wait here.
        if self.chance.below(4) > 0 {
            self.author.sync().unwrap();
        }
        let ledger = &self.author.ledger;
        let log = &self.author.log;
        let from = Lsn::new(ledger.acknowledged().max(ledger.first()));
        let tail = self.tail.get_or_insert_with(|| log.tail(from).unwrap());
        let next = tail.next_lsn().get();
        // A record that is there or on its way is waited for; where none is, no time is lost.
        let patience = if next <= ledger.last() { PATIENCE } else { Duration::ZERO };
        match tail.next_until(Instant::now() + patience) {
            Ok(Some(record)) => assert_eq!((record.lsn().get(), Some(&*record)), (next, ledger.bytes(next))),
            Ok(None) => assert!(next > ledger.last(), "record {next} was waited for in vain"),
            Err(Error::Trimmed { .. }) => {
                assert!(next < ledger.first());
                self.tail = None;
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn trims(&mut self) {
        let before = self.some_lsn();
        let durable = self.log().last_lsn().get();
        match self.author.trim(before) {
            Ok(()) => assert_eq!(self.log().first_lsn().get(), self.author.ledger.first()),
            Err(Error::BeyondEnd { .. }) => {
                assert!(before > durable + 1);
                self.author.ledger.refused();
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn truncates(&mut self) {
        let ledger = &self.author.ledger;
        let (first, last) = (ledger.first(), ledger.last());
        // Mostly a little, or hardly anything would be left in the long run.
        let after = match self.chance.below(4) {
            0 => self.some_lsn(),
            _ => self.chance.between(last.saturating_sub(10), last),
        };
        let batch = self.author.ledger.batch(after);
        match self.author.truncate(after) {
            Ok(()) => {
                assert_eq!(self.log().last_lsn().get(), after);
                return;
            }
            Err(Error::Trimmed { .. }) => assert!(after + 1 < first),
            Err(Error::BeyondEnd { .. }) => assert!(after > last),
            Err(Error::InsideBatch { first, last, .. }) => {
                assert_eq!(batch, Some((first.get(), last.get())));
                assert!(after < last.get());
            }
            Err(error) => panic!("{error}"),
        }
        self.author.ledger.refused();
    }

    fn marks(&mut self) {
        let (lsn, bytes) = (self.some_lsn(), self.chance.pick(&[0, 10, 5000, 60 << 10]));
        let durable = self.log().last_lsn().get();
        match self.author.mark(lsn, bytes) {
            Ok(()) => {}
            Err(Error::BeyondEnd { .. }) => {
                assert!(lsn > durable);
                self.author.ledger.refused();
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn shows_all(&mut self) {
        let shown = Shown::of(self.log()).unwrap();
        self.author.ledger.check(&shown).unwrap_or_else(|wrong| panic!("the log {wrong}"));
    }

    fn closes_and_opens(&mut self) {
        self.replace(|author, _| {
            let (ledger, closed) = author.close();
            closed.unwrap();
            ledger
        });
    }

    /// A real directory cannot be crashed from inside: there the handles are dropped, which closes the log.
    fn crashes_or_drops(&mut self) {
        let policy = match self.chance.below(4) {
            0 => CrashPolicy::LOSE_ALL,
            1 => CrashPolicy::KEEP_ALL,
            _ => CrashPolicy::seeded(self.chance.next()),
        };
        self.replace(|author, place| {
            if let Place::Simulated(disk) = place {
                let found = disk.crash(policy);
                *disk = found;
            }
            author.part()
        });
    }

    fn replace(&mut self, end: impl FnOnce(Author, &mut Place) -> Ledger) {
        (self.cursor, self.tail) = (None, None);
        let author = std::mem::replace(&mut self.author, stand_in());
        let ledger = end(author, &mut self.place);
        self.author = open(&self.place, &self.options, &ledger);
    }
}

/// A log to hold the place of one that is being opened again.
fn stand_in() -> Author {
    let options = LogOptions::new("simulated").segment_bytes(64 << 10).write_method(WriteMethod::Direct);
    Author::open(options, Some(Arc::new(SimDisk::new(0))), &Ledger::new()).unwrap()
}

fn open(place: &Place, options: &LogOptions, ledger: &Ledger) -> Author {
    let disk = match place {
        Place::Simulated(disk) => Some(Arc::new(disk.clone()) as Arc<dyn Disk>),
        Place::Real(_) => None,
    };
    Author::open(options.clone(), disk, ledger).unwrap()
}

fn run(place: Place, seed: u64, steps: u64) {
    let mut model = Model::new(place, seed);
    for _ in 0..steps {
        model.step();
    }
    model.closes_and_opens();
    model.shows_all();
}

#[test]
fn random_operations_and_crashes_on_a_simulated_disk_agree_with_the_account() {
    let test = "random_operations_and_crashes_on_a_simulated_disk_agree_with_the_account";
    Cases { file: "model", test, usual: 64 }.run(|seed| run(Place::Simulated(SimDisk::new(seed)), seed, 120));
}

#[test]
fn random_operations_in_a_real_directory_agree_with_the_account() {
    let test = "random_operations_in_a_real_directory_agree_with_the_account";
    Cases { file: "model", test, usual: 12 }
        .run(|seed| run(Place::Real(tempfile::tempdir().unwrap()), seed, 80));
}
