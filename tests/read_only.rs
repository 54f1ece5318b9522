//! Reading beside a writer, in this process and in others, and where nobody writes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use annals::disk::sim::{CrashPolicy, SimDisk};
use annals::{Error, LogOptions, Lsn, ReadOnlyLog, WriteMethod};
use annals_fixtures::records::{self, expected, fill, record};

/// For what comes within a moment, and on the slowest machine within this.
const PATIENCE: Duration = Duration::from_secs(300);

fn options(dir: impl AsRef<Path>) -> LogOptions {
    LogOptions::new(dir).segment_bytes(64 << 10)
}

fn all(reader: &ReadOnlyLog) -> Vec<(u64, Vec<u8>)> {
    records::all(reader.cursor(..).unwrap())
}

/// Refreshes until the record is shown: an idle writer vouches for its last group within a moment.
fn catch_up(reader: &ReadOnlyLog, last: Lsn) {
    let deadline = Instant::now() + PATIENCE;
    while reader.refresh().unwrap() < last {
        assert!(Instant::now() < deadline, "{} is not shown, only {}", last, reader.last_lsn());
        thread::yield_now();
    }
}

/// Names, contents and times of all files.
fn contents(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime, u64)> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let meta = std::fs::metadata(&path).unwrap();
            (path.clone(), (std::fs::read(&path).unwrap(), meta.modified().unwrap(), meta.ino()))
        })
        .collect()
}

/// The first record of the oldest segment, by the files' names.
fn oldest_named(dir: &Path) -> u64 {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).min().unwrap()
}

// --- another process --------------------------------------------------------------------------------------

const ROLE: &str = "ANNALS_TEST_ROLE";
const DIR: &str = "ANNALS_TEST_DIR";
/// What the other process says begins with this; the rest is the test harness's.
const SAYS: &str = "> ";

/// This test binary once more, in a role of its own, that answers line by line.
struct Other {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(role: &str, dir: &Path) -> Other {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "another_process", "--nocapture"]).env(ROLE, role).env(DIR, dir);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Other { process, orders, answers }
    }

    fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        while self.answers.read_line(&mut line).unwrap() > 0 {
            // The harness begins a line for the test that it does not end.
            if let Some((_, said)) = line.trim_end().split_once(SAYS) {
                return said.to_owned();
            }
            line.clear();
        }
        panic!("no answer to {order}");
    }

    fn ask_lsn(&mut self, order: &str) -> u64 {
        self.ask(order).parse().unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // As if by a crash.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test of its own: what the other processes do.
#[test]
fn another_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = std::env::var(DIR).unwrap();
    let mut orders = std::io::stdin().lines().map(Result::unwrap);
    let say = |answer: &dyn std::fmt::Display| println!("{SAYS}{answer}");
    match &*role {
        "reader" => read_by_order(&options(dir).open_read_only().unwrap(), &mut orders, &say),
        "writer" => write_by_order(options(dir), &mut orders, &say),
        role => panic!("{role} is no role"),
    }
}

type Say<'a> = &'a dyn Fn(&dyn std::fmt::Display);

fn read_by_order(reader: &ReadOnlyLog, orders: &mut dyn Iterator<Item = String>, say: Say<'_>) {
    let mut cursor = reader.cursor(..).unwrap();
    let mut held = Vec::new();
    for order in orders {
        match &*order {
            "refresh" => {
                let last = reader.refresh().unwrap().get();
                assert!(all(reader) == expected(reader.first_lsn().get(), last));
                say(&last);
            }
            "look" => say(&reader.first_lsn()),
            "hold" => {
                let record = cursor.next_record().unwrap().unwrap();
                say(&record.lsn());
                held.push(record);
            }
            // To the end of the segment that the cursor is in at least, whatever became of the file.
            "go on" => {
                assert!(
                    held.iter().all(|held| **held == record(held.lsn().get())),
                    "held bytes do not change"
                );
                let mut last = 0;
                let ended = loop {
                    match cursor.next() {
                        Ok(Some(found)) => {
                            last = found.lsn().get();
                            assert_eq!(*found, record(last));
                        }
                        Ok(None) => break "end",
                        Err(Error::Trimmed { .. }) => break "trimmed",
                        Err(error) => panic!("{error}"),
                    }
                };
                say(&format_args!("{ended} after {last}"));
            }
            order => panic!("{order} is no order"),
        }
    }
}

fn write_by_order(options: LogOptions, orders: &mut dyn Iterator<Item = String>, say: Say<'_>) {
    let mut log = None;
    for order in orders {
        match &*order {
            "open" => match options.clone().open() {
                Ok(opened) => {
                    say(&opened.last_lsn());
                    log = Some(opened);
                }
                Err(Error::InUse { owner }) => say(&format_args!("{owner:?}")),
                Err(error) => panic!("{error}"),
            },
            "append" => {
                let log = log.as_ref().unwrap();
                fill(log, 50);
                say(&log.last_lsn());
            }
            order => panic!("{order} is no order"),
        }
    }
}

#[test]
fn a_reader_in_another_process_sees_a_prefix_of_what_is_durable_and_catches_up() {
    for method in WriteMethod::ALL {
        let dir = tempfile::tempdir().unwrap();
        let log = options(dir.path()).write_method(method).open().unwrap();
        let mut reader = Other::start("reader", dir.path());
        for round in 0..20 {
            fill(&log, 60);
            if round % 5 == 4 {
                log.trim(Lsn::new(60 * round - 70)).unwrap();
            }
            assert!(reader.ask_lsn("refresh") <= log.last_lsn().get());
        }
        let deadline = Instant::now() + PATIENCE;
        while reader.ask_lsn("refresh") < 1200 {
            assert!(Instant::now() < deadline, "{method}");
        }
    }
}

/// Only once trimmed: where each record comes in a group of its own, as on a slow machine, a file that is used again is
/// filled, trimmed a second time and then removed sooner than anybody looks.
#[test]
fn recycling_does_not_disturb_a_reader_in_another_process() {
    for is_read in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let log = options(dir.path()).open().unwrap();
        fill(&log, 400);
        // Sealed and named, each segment but the newest goes with the trim, and not some time after it.
        log.close().unwrap();
        let log = options(dir.path()).open().unwrap();
        let mut reader = Other::start("reader", dir.path());
        assert_eq!(reader.ask_lsn("look"), 1);
        if is_read {
            assert_eq!(reader.ask_lsn("hold"), 1);
            assert_eq!(reader.ask_lsn("hold"), 2);
        }
        let name = dir.path().join(format!("{:020}.seg", 1));
        let first = File::open(&name).unwrap();
        let before = std::fs::read(&name).unwrap();
        // Of the trimmed files the oldest is taken first, and it is not trimmed once more.
        log.trim(log.last_lsn()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while name.exists() {
            assert!(Instant::now() < deadline, "the file is not wanted");
            fill(&log, 200);
        }
        let names_left = first.metadata().unwrap().nlink();
        if is_read {
            assert_eq!(names_left, 0, "the file that is read is left to its reader");
            let mut after = vec![0; before.len()];
            first.read_exact_at(&mut after, 0).unwrap();
            assert!(after == before, "not a byte");
            let (ended, last) =
                reader.ask("go on").split_once(" after ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            assert!(ended == "trimmed" && last.parse::<u64>().unwrap() > 2, "{ended} {last}");
        } else {
            assert_eq!(names_left, 1, "the file that nobody reads is used again");
        }
        let deadline = Instant::now() + PATIENCE;
        while reader.ask_lsn("refresh") < log.last_lsn().get() {
            assert!(Instant::now() < deadline);
        }
    }
}

#[test]
fn a_second_writer_in_another_process_is_refused_with_the_id_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(dir.path()).open().unwrap();
    fill(&log, 5);
    let mut other = Other::start("writer", dir.path());
    assert_eq!(other.ask("open"), format!("Some({})", std::process::id()));
    let reader = options(dir.path()).open_read_only().unwrap();
    log.close().unwrap();
    assert_eq!(other.ask("open"), "5");
    assert!(
        matches!(options(dir.path()).open(), Err(Error::InUse { owner: Some(pid) }) if pid == other.process.id())
    );
    assert_eq!(other.ask("append"), "55");
    catch_up(&reader, Lsn::new(55));
    assert_eq!(all(&reader), expected(1, 55));
}

#[test]
fn what_a_killed_writer_left_is_read_without_changing_a_bit_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Other::start("writer", dir.path());
    assert_eq!(writer.ask("open"), "0");
    let reader = options(dir.path()).open_read_only().unwrap();
    for _ in 0..20 {
        writer.ask("append");
    }
    drop(writer);
    let before = contents(dir.path());
    let fresh = options(dir.path()).open_read_only().unwrap();
    for reader in [&reader, &fresh] {
        let last = reader.refresh().unwrap().get();
        assert!((900..=1000).contains(&last), "all but the newest groups: {last}");
        assert!(all(reader) == expected(1, last));
        assert_eq!(*reader.read(Lsn::new(last)).unwrap(), *record(last));
    }
    assert!(contents(dir.path()) == before, "not a byte, not a name, not a time");
    options(dir.path()).open().unwrap().close().unwrap();
    assert_eq!(reader.refresh().unwrap(), Lsn::new(1000), "who opens the log vouches for all of it");
    assert!(all(&reader) == expected(1, 1000));
}

// --- in this process --------------------------------------------------------------------------------------

#[test]
fn a_closed_log_is_read_to_its_end_and_left_bit_for_bit_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(dir.path()).open().unwrap();
    fill(&log, 700);
    log.set_mark(Lsn::new(7), b"mine").unwrap();
    log.trim(Lsn::new(100)).unwrap();
    let id = log.id();
    log.close().unwrap();
    let before = contents(dir.path());
    let reader = options(dir.path()).verify_reads(false).open_read_only().unwrap();
    assert_eq!((reader.first_lsn(), reader.last_lsn(), reader.id()), (Lsn::new(100), Lsn::new(700), id));
    assert_eq!(reader.mark().unwrap().bytes, b"mine");
    assert!(all(&reader) == expected(100, 700));
    assert_eq!(reader.refresh().unwrap(), Lsn::new(700));
    assert!(matches!(reader.read(Lsn::new(701)), Err(Error::BeyondEnd { .. })));
    assert!(matches!(reader.read(Lsn::new(99)), Err(Error::Trimmed { .. })));
    drop(reader);
    assert!(contents(dir.path()) == before, "not a byte, not a name, not a time");
}

#[test]
fn there_is_nothing_to_read_where_there_is_no_log() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("nowhere")] {
        assert!(matches!(options(path).open_read_only(), Err(Error::NotALog)));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn another_log_in_the_same_place_is_not_taken_for_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("log");
    let log = options(&place).open().unwrap();
    fill(&log, 3);
    log.close().unwrap();
    // Held open by descriptor, the directory is still the old one; so its files change places.
    let reader = options(&place).open_read_only().unwrap();
    let other = options(dir.path().join("other")).open().unwrap();
    other.close().unwrap();
    std::fs::copy(dir.path().join("other/superblock"), place.join("superblock")).unwrap();
    assert!(matches!(reader.refresh(), Err(Error::ForeignFile { .. })));
    assert_eq!(all(&reader), expected(1, 3), "what was seen can still be read");
}

#[test]
fn readers_race_with_appends_and_rolls_and_trims() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(dir.path()).open().unwrap();
    fill(&log, 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (log, stop, dir) = (log.clone(), &stop, dir.path());
            scope.spawn(move || {
                let reader = options(dir).open_read_only().unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let last = reader.refresh().unwrap();
                    assert!(last <= log.last_lsn(), "only what is durable");
                    let Ok(mut cursor) = reader.cursor(reader.first_lsn()..) else { continue };
                    loop {
                        match cursor.next() {
                            Ok(Some(found)) => assert_eq!(*found, record(found.lsn().get())),
                            Ok(None) | Err(Error::Trimmed { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    match reader.read(last) {
                        Ok(found) => assert_eq!(*found, record(last.get())),
                        Err(Error::Trimmed { .. } | Error::BeyondEnd { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for round in 0..150 {
            fill(&log, 40);
            if round % 3 == 0 {
                log.trim(Lsn::new(log.last_lsn().get() - 30)).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let reader = options(dir.path()).open_read_only().unwrap();
    catch_up(&reader, log.last_lsn());
}

#[test]
fn a_record_that_was_trimmed_since_the_last_look_is_told_as_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let log = options(dir.path()).open().unwrap();
    fill(&log, 500);
    // Sealed and named, each segment but the newest goes with the trim, and not some time after it.
    log.close().unwrap();
    let log = options(dir.path()).open().unwrap();
    let reader = options(dir.path()).open_read_only().unwrap();
    let mut cursor = reader.cursor(..).unwrap();
    fill(&log, 1);
    log.trim(log.last_lsn()).unwrap();
    // Two of the files wait to be used again, and are what they were until then.
    while oldest_named(dir.path()) <= 200 {
        fill(&log, 300);
    }
    assert_eq!(reader.first_lsn(), Lsn::FIRST, "it has not looked yet");
    assert!(matches!(reader.read(Lsn::new(200)), Err(Error::Trimmed { .. })));
    assert!(matches!(cursor.next(), Err(Error::Trimmed { .. })));
    catch_up(&reader, log.last_lsn());
    assert_eq!(reader.first_lsn(), log.first_lsn());
}

#[test]
fn a_truncation_is_followed_and_cursors_go_on_with_what_came_instead() {
    for after in [0, 5, 250, 399] {
        let dir = tempfile::tempdir().unwrap();
        let log = options(dir.path()).open().unwrap();
        fill(&log, 400);
        let reader = options(dir.path()).open_read_only().unwrap();
        catch_up(&reader, Lsn::new(400));
        let held = reader.read(Lsn::new(400)).unwrap();
        let mut cursor = reader.cursor(..=Lsn::new(after.max(1))).unwrap();
        while cursor.next().unwrap().is_some() {}
        let mut cursor = reader.cursor(Lsn::new(after + 1)..).unwrap();
        log.truncate(Lsn::new(after)).unwrap();
        for number in 0..500 {
            drop(log.append(format!("instead {number}").as_bytes()).unwrap());
        }
        log.sync().unwrap();
        catch_up(&reader, Lsn::new(after + 500));
        let found = all(&reader);
        assert_eq!(found[..after as usize], expected(1, after), "cut at {after}");
        assert_eq!(found.len() as u64, after + 500);
        assert_eq!(&*cursor.next().unwrap().unwrap(), b"instead 0");
        assert_eq!(*held, record(400), "what is held stays");
    }
}

#[test]
fn what_a_reader_has_shown_survives_any_crash() {
    for seed in 0..6 {
        let disk = SimDisk::new(seed);
        let method = WriteMethod::ALL[seed as usize % 3];
        let log = options("").write_method(method).depth(4).open_with(Arc::new(disk.clone())).unwrap();
        let reader = options("").open_read_only_with(Arc::new(disk.clone())).unwrap();
        for round in 0..40 {
            // Some of it is in flight, some only in memory.
            let next = log.watermarks().appended.next().get();
            for lsn in next..next + 1 + round % 7 {
                drop(log.append(&record(lsn)).unwrap());
            }
            if round % 3 == 0 {
                log.sync().unwrap();
            }
            let shown = reader.refresh().unwrap();
            let policy =
                if round % 4 == 0 { CrashPolicy::LOSE_ALL } else { CrashPolicy::seeded(100 * seed + round) };
            let left = disk.crash(policy);
            let log = options("").open_with(Arc::new(left.clone()));
            let log = log.unwrap_or_else(|error| panic!("{error}\n{}", left.trace()));
            assert!(shown <= log.last_lsn(), "{shown} was shown\n{}", left.trace());
        }
        log.sync().unwrap();
        catch_up(&reader, log.last_lsn());
        assert!(all(&reader) == expected(1, log.last_lsn().get()));
    }
}

#[test]
fn a_write_in_flight_is_not_shown() {
    let disk = SimDisk::new(9);
    let log = options("").write_method(WriteMethod::Direct).open_with(Arc::new(disk.clone())).unwrap();
    fill(&log, 3);
    let reader = options("").open_read_only_with(Arc::new(disk.clone())).unwrap();
    catch_up(&reader, Lsn::new(3));
    disk.stall();
    let ticket = log.append(&record(4)).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ticket.wait().unwrap());
        let blocked = disk.wait_until_blocked(1);
        assert_eq!(reader.refresh().unwrap(), Lsn::new(3), "{blocked:?}");
        assert_eq!(options("").open_read_only_with(Arc::new(disk.clone())).unwrap().last_lsn(), Lsn::new(3));
        disk.release();
        waiting.join().unwrap();
    });
    catch_up(&reader, Lsn::new(4));
}
