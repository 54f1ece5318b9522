//! `append` and `tail`: records in and out, as lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use annals::Lsn;
use annals::client::{Client, ClientError, ClientOptions, Record, Target, Ticket};
use annals::protocol::request::Copies;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::cli::{AppendArgs, Reach, TailArgs};
use crate::error::{Error, Result};
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
    let feed = move || {
        let fed = feed(lines, &file, is_dump, &client, copies, &sender);
        if let Err(error) = fed {
            // Nobody hears it if the other side has given up first.
            let _ = sender.send(Err(error));
        }
    };
    thread::Builder::new().name("lines".to_owned()).spawn(feed).map_err(Error::path("read", &args.file))?;
    let mut tally = Tally::default();
    for ticket in tickets {
        let (line, ticket) = ticket?;
        let receipt = ticket.wait().map_err(|source| Error::Append { line, source })?;
        let lsn = receipt.lsn();
        tally.count(lsn, receipt.is_committed());
        if tells_each {
            let note = if receipt.is_committed() { "" } else { ", not committed yet" };
            out::print(&format!("{lsn}{note}\n"))?;
        }
    }
    eprintln!("{}", tally.text());
    Ok(Status::Done)
}

/// What was appended.
#[derive(Default)]
struct Tally {
    records: u64,
    first: Lsn,
    last: Lsn,
    /// Of so many nobody knew, when they were answered, that no failover loses them.
    uncommitted: u64,
}

impl Tally {
    /// One record more was answered.
    fn count(&mut self, lsn: Lsn, is_committed: bool) {
        if self.records == 0 {
            self.first = lsn;
        }
        self.records += 1;
        self.last = lsn;
        self.uncommitted += u64::from(!is_committed);
    }

    /// The last line.
    fn text(&self) -> String {
        let Tally { records, first, last, uncommitted } = self;
        let s = if *records == 1 { "" } else { "s" };
        let range = if *records == 0 { String::new() } else { format!(", {first} to {last}") };
        let note = match uncommitted {
            0 => String::new(),
            some => format!("; {some} not committed yet when answered: a failover may have lost them"),
        };
        format!("appended {records} record{s}{range}{note}")
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

/// Hands the lines over to the client, one after another, until there are no more or nobody waits for them.
fn feed(
    mut lines: impl BufRead,
    file: &Path,
    is_dump: bool,
    client: &Client,
    copies: Copies,
    tickets: &SyncSender<Result<(u64, Ticket)>>,
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
        let ticket = match record.len() {
            0..=LINE_BYTES_MAX => client.append_with(record, copies),
            bytes => Err(ClientError::TooLarge { bytes: bytes as u64, max: LINE_BYTES_MAX as u64 }),
        };
        let ticket =
            ticket.map(|ticket| (number, ticket)).map_err(|source| Error::Append { line: number, source });
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
    let mut next = from;
    while next <= end {
        let read = client.read(Target::Primary, next, READ_BYTES).wait()?;
        for record in read.records.iter().take_while(|record| record.lsn <= end) {
            if !printer.print(record)? {
                return Ok(Status::Done);
            }
        }
        if read.next <= next {
            return Err(Error::BadReply);
        }
        next = read.next;
    }
    Ok(Status::Done)
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
    use super::*;

    /// Only whoever typed, or asked for each LSN, was told.
    #[test]
    fn the_last_line_tells_how_many_were_not_committed() {
        let told = |each: &[bool]| {
            let mut tally = Tally::default();
            each.iter().zip(7..).for_each(|(is_committed, lsn)| tally.count(Lsn::new(lsn), *is_committed));
            tally.text()
        };
        assert_eq!(told(&[]), "appended 0 records");
        assert_eq!(told(&[true]), "appended 1 record, 7 to 7");
        assert_eq!(told(&[true, true, true]), "appended 3 records, 7 to 9");
        let some = told(&[false, true, false]);
        assert!(some.starts_with("appended 3 records, 7 to 9; 2 not committed yet"), "{some}");
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
