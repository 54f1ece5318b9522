//! Putting: the chunks one after another, and then the record that makes a file of them.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use annals::client::{ClientError, Ticket};

use super::{FileClient, done, unknown};
use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::name::FileName;
use crate::operation::OperationId;
use crate::record::{CHUNK_BYTES, Commit, Operation, chunk};
use crate::report::OperationReport;
use crate::state::{Finished, Outcome};

/// Chunks whose receipts are awaited at the same time.
const CHUNKS_IN_FLIGHT: usize = 32;

/// How a file is put.
#[derive(Clone, Debug)]
pub struct PutOptions {
    /// Of this put: whoever tries again gives the same.
    pub id: OperationId,
    /// Whether it is not the first attempt.
    pub is_retry: bool,
    /// The file's name in the store.
    pub name: FileName,
    /// Whether a file that has this name already is to go.
    pub replace: bool,
    /// Bytes a second, at most.
    pub bytes_per_s: Option<u64>,
}

/// What a put has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Putting {
    /// What became of it.
    pub finished: Finished,
    /// Chunks in all.
    pub chunks: u64,
    /// Of them those that an earlier attempt had brought.
    pub chunks_before: u64,
    /// Whether an earlier attempt had done all of it.
    pub was_done: bool,
}

impl FileClient {
    /// Puts all that can be read from `contents`. Holds a few chunks in memory, however much that is.
    ///
    /// # Errors
    /// [`Error::Refused`] if it was not done, and never will be; [`Error::Unknown`] if another attempt is needed to know.
    pub fn put(&self, options: &PutOptions, contents: &mut dyn Read) -> Result<Putting> {
        let mut before = 0;
        if options.is_retry {
            let known = self.operation(options.id)?;
            if let Some(finished) = self.done_before(options, &known)? {
                return Ok(Putting { finished, chunks: 0, chunks_before: 0, was_done: true });
            }
            if let OperationReport::Unfinished(put) = known {
                before = put.chunks;
            }
        } else if !options.replace && self.reader.file(&options.name, self.now()?)?.is_some() {
            // It is the commit that decides; this only spares sending what would be refused.
            return Err(Error::Refused(Outcome::Exists));
        }
        let mut sending = Sending::new(self, options, before);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let filled = fill(contents, &mut buffer).map_err(|source| Error::File {
                doing: "read the contents of",
                path: options.name.as_str().into(),
                source,
            })?;
            if filled > 0 {
                sending.send(&buffer[..filled])?;
            }
            if filled < CHUNK_BYTES {
                break;
            }
        }
        let commit = sending.end()?;
        let chunks = commit.chunks;
        let finished =
            done(self.operate(&Operation::Commit(commit)).map_err(|error| retried(error, options))?)?;
        Ok(Putting { finished, chunks, chunks_before: before.min(chunks), was_done: false })
    }
}

impl FileClient {
    /// Whether an earlier attempt was done. What became of it is forgotten after some time, but the file remembers its put.
    fn done_before(&self, options: &PutOptions, known: &OperationReport) -> Result<Option<Finished>> {
        if let OperationReport::Finished(finished) = known {
            return done(*finished).map(Some);
        }
        let file = self.reader.file(&options.name, self.now()?)?.filter(|file| file.put == options.id);
        Ok(file.map(|file| Finished { lsn: file.lsn, outcome: Outcome::Done }))
    }
}

/// The chunks on their way.
struct Sending<'a> {
    client: &'a FileClient,
    options: &'a PutOptions,
    before: u64,
    tickets: VecDeque<Ticket>,
    hasher: Hasher,
    chunks: u64,
    bytes: u64,
    started: Instant,
    sent: u64,
}

impl<'a> Sending<'a> {
    fn new(client: &'a FileClient, options: &'a PutOptions, before: u64) -> Sending<'a> {
        Sending {
            client,
            options,
            before,
            tickets: VecDeque::with_capacity(CHUNKS_IN_FLIGHT),
            hasher: Hasher::default(),
            chunks: 0,
            bytes: 0,
            started: Instant::now(),
            sent: 0,
        }
    }

    /// Sends a chunk, unless it is there already; its contents count all the same.
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        if self.chunks >= self.before {
            if self.tickets.len() == CHUNKS_IN_FLIGHT {
                self.wait_for_one()?;
            }
            let record = chunk(self.options.id, self.chunks, bytes);
            let ticket = self.client.log.append(&record).map_err(|error| self.failed(error))?;
            self.tickets.push_back(ticket);
            self.sent += bytes.len() as u64;
            self.pace();
        }
        self.chunks += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn pace(&self) {
        if let Some(rate) = self.options.bytes_per_s {
            let due = Duration::from_secs_f64(self.sent as f64 / rate.max(1) as f64);
            thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
    }

    fn wait_for_one(&mut self) -> Result<()> {
        match self.tickets.pop_front().map(Ticket::wait) {
            Some(Err(error)) => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// Waits for all chunks, and gives what makes a file of them.
    fn end(mut self) -> Result<Commit> {
        while !self.tickets.is_empty() {
            self.wait_for_one()?;
        }
        let PutOptions { id, name, replace, .. } = self.options;
        let (chunks, bytes, digest) = (self.chunks, self.bytes, self.hasher.digest());
        Ok(Commit { id: *id, name: name.clone(), chunks, bytes, digest, replace: *replace })
    }

    fn failed(&self, reason: ClientError) -> Error {
        unknown(self.options.id, reason.into())
    }
}

/// Whatever has stood in the commit's way, another attempt with the same id goes on.
fn retried(error: Error, options: &PutOptions) -> Error {
    match error {
        error @ Error::Log(_) => unknown(options.id, error),
        other => other,
    }
}

/// Reads until the buffer is full, or there is no more.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
