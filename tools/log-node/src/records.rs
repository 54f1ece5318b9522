//! `append` and `tail`: records in and out, as lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use annals::Lsn;
use annals::client::{Client, ClientError, ClientOptions, Record, Records, Target, Ticket};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::cli::{AppendArgs, Reach, TailArgs};
use crate::error::{Error, Result};
use crate::fates::{Fate, Fates};
use crate::out;
use crate::status::Status;

/// Bytes of records that are read in one go.
const READ_BYTES: u32 = 1 << 20;
/// A line that is longer is no record: 64 MiB, as much as a replica takes.
const LINE_BYTES_MAX: usize = 64 << 20;

/// A client of the cluster.
fn connect(reach: &Reach) -> Result<Client> {
    let target = reach.target()?;
    let options = ClientOptions::new(&target.endpoints)
        .certificates(&target.files.ca, &target.files.cert, &target.files.key)
        .deadline(target.deadline);
    Ok(options.connect()?)
}

/// Appends each line, and says which LSNs they have.
pub(crate) fn append(args: &AppendArgs) -> Result<Status> {
    let is_stdin = args.file == Path::new("-");
    let lines: Box<dyn BufRead + Send> = match is_stdin {
        true => Box::new(BufReader::new(io::stdin())),
        false => Box::new(BufReader::new(File::open(&args.file).map_err(Error::path("open", &args.file))?)),
    };
    let client = connect(&args.reach)?;
    // Whoever types wants to see that each line has arrived.
    let tells_each = args.verbose || (is_stdin && io::stdin().is_terminal());
    let (sender, tickets) = mpsc::sync_channel::<Result<(u64, Ticket)>>(args.in_flight as usize);
    let (file, is_dump, copies) = (args.file.clone(), args.dump, args.durability);
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let feed = move || {
        let append = |record: &[u8]| client.append_with(record, copies);
        let fed = feed(lines, (&file, is_dump), &theirs, append, &sender);
        if let Err(error) = fed {
            // Nobody hears it if the other side has given up first.
            let _ = sender.send(Err(error));
        }
    };
    thread::Builder::new().name("lines".to_owned()).spawn(feed).map_err(Error::path("read", &args.file))?;
    let wait = |ticket: Ticket| ticket.wait().map(|receipt| (receipt.lsn(), receipt.is_committed()));
    let tell = |lsn: Lsn, is_committed: bool| -> Result<()> {
        let note = if is_committed { "" } else { ", not committed yet" };
        if tells_each { out::print(&format!("{lsn}{note}\n")).map(drop) } else { Ok(()) }
    };
    let mut tally = Tally::default();
    let ended = collect(tickets.iter(), &gate, (wait, tell), &mut tally);
    eprintln!("{}", tally.text(ended.is_ok()));
    ended.map(|()| Status::Done)
}

/// Between who hands lines over and who hears what became of them.
#[derive(Default)]
struct Gate(Mutex<Passed>);

#[derive(Default)]
struct Passed {
    /// The last line that was handed over.
    last: u64,
    is_closed: bool,
}

impl Gate {
    /// Hands a line over, unless the gate is closed.
    fn pass<T>(&self, line: u64, hand_over: impl FnOnce() -> T) -> Option<T> {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.is_closed {
            return None;
        }
        passed.last = line;
        Some(hand_over())
    }

    /// No line is handed over any more. Gives the last one that was.
    fn close(&self) -> u64 {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.is_closed = true;
        passed.last
    }
}

/// Waits for each line in turn. After the first that has failed no other is handed over, and those that were are waited for:
/// they may be in the log, and whoever goes on has to know.
fn collect<T>(
    handed: impl Iterator<Item = Result<(u64, T)>>,
    gate: &Gate,
    (wait, tell): (impl Fn(T) -> Result<(Lsn, bool), ClientError>, impl Fn(Lsn, bool) -> Result<()>),
    tally: &mut Tally,
) -> Result<()> {
    let (mut failed, mut last) = (None, u64::MAX);
    for handed in handed {
        let (line, outcome) = match handed {
            Ok((line, ticket)) => (line, wait(ticket)),
            Err(Error::Append { line, source, .. }) => (line, Err(source)),
            // Nothing comes after what could not be read.
            Err(error) => {
                failed.get_or_insert(error);
                break;
            }
        };
        let told = match outcome {
            Ok((lsn, is_committed)) => {
                tally.count(line, lsn, is_committed);
                tell(lsn, is_committed)
            }
            Err(source) => {
                tally.fates.note(line, if source.is_unknown() { Fate::Unknown } else { Fate::Missing });
                Err(Error::Append { line, source, fates: Fates::default() })
            }
        };
        if let Err(error) = told
            && failed.is_none()
        {
            failed = Some(error);
            last = gate.close();
        }
        if line >= last {
            break;
        }
    }
    match failed {
        None => Ok(()),
        Some(Error::Append { line, source, .. }) => {
            Err(Error::Append { line, source, fates: tally.fates.clone() })
        }
        Some(error) => Err(error),
    }
}

/// What was appended.
#[derive(Default)]
struct Tally {
    records: u64,
    first: Lsn,
    last: Lsn,
    /// Of so many nobody knew, when they were answered, that no failover loses them.
    uncommitted: u64,
    fates: Fates,
}

impl Tally {
    /// One record more was answered.
    fn count(&mut self, line: u64, lsn: Lsn, is_committed: bool) {
        if self.records == 0 {
            self.first = lsn;
        }
        self.records += 1;
        self.last = lsn;
        self.uncommitted += u64::from(!is_committed);
        self.fates.note(line, Fate::Taken);
    }

    /// The last line; if not all went well, with which lines they were.
    fn text(&self, is_all: bool) -> String {
        let Tally { records, first, last, uncommitted, fates } = self;
        let s = if *records == 1 { "" } else { "s" };
        let range = if *records == 0 { String::new() } else { format!(", {first} to {last}") };
        let note = match uncommitted {
            0 => String::new(),
            some => format!("; {some} not committed yet when answered: a failover may have lost them"),
        };
        let lines =
            fates.taken().filter(|_| !is_all).map(|lines| format!(", of {lines}")).unwrap_or_default();
        format!("appended {records} record{s}{range}{lines}{note}")
    }
}

/// The record that a line of `log-recover dump --json` holds: `None` for one of the protocol's own.
fn dumped(line: &[u8], number: u64) -> Result<Option<Vec<u8>>> {
    #[derive(serde::Deserialize)]
    struct Dumped {
        base64: Option<String>,
        #[serde(default)]
        control: bool,
        gap: Option<serde_json::Value>,
    }
    let odd = |what: String| Error::BadDump { line: number, what };
    let dumped: Dumped = serde_json::from_slice(line).map_err(|error| odd(error.to_string()))?;
    if let Some(gap) = dumped.gap {
        eprintln!("line {number}: records are missing there: {gap}");
    }
    match dumped.base64.filter(|_| !dumped.control) {
        Some(text) => BASE64.decode(text).map(Some).map_err(|error| odd(error.to_string())),
        None => Ok(None),
    }
}

/// Hands the lines over, one after another, until there are no more or the gate is closed.
fn feed<T>(
    mut lines: impl BufRead,
    (file, is_dump): (&Path, bool),
    gate: &Gate,
    append: impl Fn(&[u8]) -> Result<T, ClientError>,
    tickets: &SyncSender<Result<(u64, T)>>,
) -> Result<()> {
    let mut line = vec![];
    for number in 1.. {
        line.clear();
        // One more than allowed, so that too long a line is seen to be one.
        let mut part = io::Read::take(&mut lines, LINE_BYTES_MAX as u64 + 1);
        if part.read_until(b'\n', &mut line).map_err(Error::path("read", file))? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let decoded = if is_dump { dumped(&line, number) } else { Ok(None) };
        let record = match &decoded {
            Ok(None) if is_dump => continue,
            Ok(record) => record.as_deref().unwrap_or(&line),
            Err(_) => return decoded.map(drop),
        };
        let hand_over = || match record.len() {
            0..=LINE_BYTES_MAX => append(record),
            bytes => Err(ClientError::TooLarge { bytes: bytes as u64, max: LINE_BYTES_MAX as u64 }),
        };
        let Some(ticket) = gate.pass(number, hand_over) else { break };
        let ticket = ticket.map(|ticket| (number, ticket)).map_err(|source| Error::Append {
            line: number,
            source,
            fates: Fates::default(),
        });
        let is_over = ticket.is_err();
        if tickets.send(ticket).is_err() || is_over {
            break;
        }
    }
    Ok(())
}

/// Prints records.
pub(crate) fn tail(args: &TailArgs) -> Result<Status> {
    let client = connect(&args.reach)?;
    let mut printer = Printer { lsn: args.lsn, left: args.count.map_or(u64::MAX, |count| count.get()) };
    // Everything that was acknowledged before this command began.
    let end = client.linearizable_read().wait()?;
    let from = match args.from {
        Some(lsn) => Lsn::new(lsn.get()),
        None if args.follow => end.next(),
        None => client.status(Target::Primary).wait()?.first.max(Lsn::FIRST),
    };
    if args.follow {
        for record in client.subscribe(from) {
            if !printer.print(&record?)? {
                break;
            }
        }
        return Ok(Status::Done);
    }
    let read = |next: Lsn| Ok(client.read(Target::Primary, next, READ_BYTES).wait()?);
    let catch_up = || Ok(client.linearizable_read().wait().map(drop)?);
    print_all(from..=end, read, catch_up, |record| printer.print(record))?;
    Ok(Status::Done)
}

/// Prints records that are all committed. A primary that was elected just now may not know of some of them: it answers a
/// question to `catch_up` once it does.
fn print_all(
    range: RangeInclusive<Lsn>,
    read: impl Fn(Lsn) -> Result<Records>,
    catch_up: impl Fn() -> Result<()>,
    mut print: impl FnMut(&Record) -> Result<bool>,
) -> Result<()> {
    let (mut next, end) = range.into_inner();
    while next <= end {
        let read = read(next)?;
        for record in read.records.iter().take_while(|record| record.lsn <= end) {
            if !print(record)? {
                return Ok(());
            }
        }
        match read.next > next {
            true => next = read.next,
            false if read.committed < next => catch_up()?,
            false => return Err(Error::BadReply),
        }
    }
    Ok(())
}

/// Writes records as lines.
struct Printer {
    /// Whether each line begins with the LSN.
    lsn: bool,
    /// So many more.
    left: u64,
}

impl Printer {
    /// Prints the record, and gives whether there is to be another.
    fn print(&mut self, record: &Record) -> Result<bool> {
        let mut line = if self.lsn { format!("{}\t", record.lsn).into_bytes() } else { vec![] };
        line.extend_from_slice(&record.bytes);
        line.push(b'\n');
        self.left -= 1;
        Ok(out::write(&line)? && self.left > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use annals::Epoch;
    use bytes::Bytes;

    use super::*;

    /// Only whoever typed, or asked for each LSN, was told.
    #[test]
    fn the_last_line_tells_how_many_were_not_committed() {
        let told = |each: &[bool]| {
            let mut tally = Tally::default();
            let counted = each.iter().zip(1..);
            counted.for_each(|(is_committed, line)| tally.count(line, Lsn::new(line + 6), *is_committed));
            tally.text(true)
        };
        assert_eq!(told(&[]), "appended 0 records");
        assert_eq!(told(&[true]), "appended 1 record, 7 to 7");
        assert_eq!(told(&[true, true, true]), "appended 3 records, 7 to 9");
        let some = told(&[false, true, false]);
        assert!(some.starts_with("appended 3 records, 7 to 9; 2 not committed yet"), "{some}");
    }

    /// What becomes of lines that were handed over, each to what stands here, when only then somebody waits for them.
    fn collected(outcomes: &[Result<u64, ClientError>]) -> (Tally, Result<()>) {
        let (gate, mut tally) = (Gate::default(), Tally::default());
        let handed: Vec<_> =
            (1..).zip(outcomes).map(|(line, outcome)| gate.pass(line, || Ok((line, outcome)))).collect();
        let wait = |outcome: &Result<u64, ClientError>| outcome.clone().map(|lsn| (Lsn::new(lsn), true));
        let ended = collect(handed.into_iter().flatten(), &gate, (wait, |_, _| Ok(())), &mut tally);
        assert_eq!(gate.pass(100, || ()).is_some(), ended.is_ok(), "nothing is handed over after a failure");
        (tally, ended)
    }

    /// Only the first line that had failed was told of: those after it, which were on their way with it, were in the log, and
    /// once more when the user went on as he was told to.
    #[test]
    fn lines_that_are_on_their_way_when_one_fails_are_told_of_too() {
        let timed_out = || ClientError::TimedOut { reason: "no primary was found".into() };
        let (tally, ended) = collected(&[Ok(7), Err(timed_out()), Ok(8), Ok(9)]);
        assert_eq!(tally.text(ended.is_ok()), "appended 3 records, 7 to 9, of lines 1 and 3 to 4");
        let error = ended.unwrap_err();
        assert!(matches!(error, Error::Append { line: 2, .. }) && error.status() == Status::Refused);
        let advice = error.advice().unwrap();
        assert!(advice.contains("append line 2 alone") && advice.contains("go on at line 5,"), "{advice}");

        let (tally, ended) = collected(&[Ok(7), Err(timed_out()), Err(ClientError::Unknown)]);
        assert_eq!(tally.text(ended.is_ok()), "appended 1 record, 7 to 7, of line 1");
        assert_eq!(ended.unwrap_err().status(), Status::Unknown);

        let (tally, ended) = collected(&[Ok(7), Ok(8)]);
        assert_eq!(tally.text(ended.is_ok()), "appended 2 records, 7 to 8");
    }

    /// A line that was handed over is waited for, however late it is heard of; one that is only read then is not.
    #[test]
    fn whoever_reads_lines_stops_when_one_has_failed() {
        let (gate, (sender, tickets)) = (Gate::default(), mpsc::sync_channel(8));
        let append = |record: &[u8]| match record {
            b"bad" => Err(ClientError::Full),
            record => Ok(record.to_vec()),
        };
        let fed = |text: &'static [u8]| feed(text, (Path::new("f"), false), &gate, append, &sender).unwrap();
        fed(b"one\n\nno newline \xff");
        fed(b"one\nbad\nthree\n");
        assert_eq!(gate.close(), 2);
        fed(b"late\n");
        drop(sender);
        let handed: Vec<_> = tickets.iter().map(|each| each.map_err(|error| error.to_string())).collect();
        let ok = |line, text: &[u8]| Ok((line, text.to_vec()));
        let refused = Error::Append { line: 2, source: ClientError::Full, fates: Fates::default() };
        let wanted =
            [ok(1, b"one"), ok(2, b""), ok(3, b"no newline \xff"), ok(1, b"one"), Err(refused.to_string())];
        assert_eq!(handed, wanted);
    }

    /// It was said to make no sense, and whoever wanted all records got a part of them and an error.
    #[test]
    fn a_primary_that_was_just_elected_is_waited_for() {
        let lsn = Lsn::new;
        let (committed, printed) = (Cell::new(2), RefCell::new(vec![]));
        let record = |at| Record { lsn: lsn(at), epoch: Epoch::new(1), bytes: Bytes::new() };
        let read = |from: Lsn| {
            let committed = lsn(committed.get());
            let records = (from.get()..=committed.get()).map(record).collect();
            Ok(Records { records, next: committed.next().max(from), committed })
        };
        let catch_up = || {
            committed.set(committed.get() + 3);
            Ok(())
        };
        let print = |record: &Record| {
            printed.borrow_mut().push(record.lsn.get());
            Ok(true)
        };
        print_all(lsn(1)..=lsn(4), read, catch_up, print).unwrap();
        assert_eq!(*printed.borrow(), [1, 2, 3, 4]);
        let nothing = |next| Ok(Records { records: vec![], next, committed: lsn(9) });
        let stuck = print_all(lsn(1)..=lsn(4), nothing, || Ok(()), print);
        assert!(matches!(stuck, Err(Error::BadReply)));
    }

    #[test]
    fn a_dump_gives_back_the_records_and_leaves_out_the_protocols_own() {
        for (line, record) in [
            (r#"{"lsn":1,"epoch":1,"epoch_start":true}"#, None),
            (r#"{"lsn":2,"epoch":1,"control":true,"base64":"AQACAw=="}"#, None),
            (r#"{"gap":{"first":8,"last":9},"given_up":false}"#, None),
            (r#"{"lsn":3,"epoch":1,"bytes":5,"base64":"aGVsbG8="}"#, Some(b"hello".to_vec())),
            (r#"{"lsn":4,"epoch":1,"bytes":0,"base64":""}"#, Some(vec![])),
        ] {
            assert_eq!(dumped(line.as_bytes(), 1).unwrap(), record, "{line}");
        }
        for line in ["", "hello", r#"{"base64":"!"}"#] {
            assert!(dumped(line.as_bytes(), 7).unwrap_err().to_string().contains("line 7"), "{line}");
        }
    }
}
