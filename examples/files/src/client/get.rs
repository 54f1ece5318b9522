//! Getting: a few chunks from one node, and the next from another if that one fails.

use std::io::{self, Write};

use annals::Lsn;

use super::FileClient;
use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::name::FileName;
use crate::record::CHUNK_BYTES;
use crate::report::FileReport;
use crate::state::Outcome;

/// Chunks in one answer: a node that stands still is given up after one of them.
const CHUNKS_AT_ONCE: u64 = 32;
/// Answers that break off before one more is worth no try.
const FAILURES_MAX: usize = 8;

/// What was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    /// The file.
    pub file: FileReport,
    /// Nodes that could not be read from, and why.
    pub failed: Vec<(u64, String)>,
    /// The nodes that were.
    pub nodes: Vec<u64>,
}

impl FileClient {
    /// Writes a file's contents to `to`. Each node checks a chunk before it sends it, and at the end all of them are
    /// checked together: only then does this say that it was done.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such file, [`Error::Changed`] if it goes meanwhile, [`Error::NoNode`] if no node can
    /// send it, [`Error::Mismatch`] if it is not what the digest says. Something may have been written then.
    pub fn get(&self, name: &FileName, to: &mut dyn Write) -> Result<Got> {
        let mut at = self.now()?;
        let file = self.reader.file(name, at)?.ok_or(Error::Refused(Outcome::Missing))?;
        let mut got = Got { file, failed: vec![], nodes: vec![] };
        let mut hasher = Hasher::default();
        let mut received = 0;
        let nodes = self.reader.nodes();
        let mut turn = 0;
        while received < got.file.bytes {
            let Some(node) = nodes.get(turn % nodes.len().max(1)) else {
                return Err(Error::NoNode(got.failed));
            };
            let from = received / CHUNK_BYTES as u64;
            // Whatever came of a chunk that is not whole is asked for again.
            let mut keep = Whole::new(to, &mut hasher, received);
            let answer = self.reader.content(node, &got.file, (from, CHUNKS_AT_ONCE), at, &mut keep);
            let kept = keep.end(got.file.bytes)?;
            if kept > received && !got.nodes.contains(&node.id) {
                got.nodes.push(node.id);
            }
            received = kept;
            let reason = match answer {
                Ok(true) => continue,
                Ok(false) => {
                    at = self.still_there(&got.file, name)?;
                    "it has not heard of the file yet".to_owned()
                }
                Err(reason) => reason,
            };
            got.failed.push((node.id, reason));
            turn += 1;
            if got.failed.len() >= FAILURES_MAX.max(nodes.len()) {
                return Err(Error::NoNode(got.failed));
            }
        }
        if hasher.digest() != got.file.digest {
            return Err(Error::Mismatch { name: name.to_string() });
        }
        Ok(got)
    }

    /// A node says that it does not have this file: it lags behind the one that has told of it, or the file has gone since.
    /// Gives up to which record a node has to be that is asked for it after this.
    fn still_there(&self, file: &FileReport, name: &FileName) -> Result<Lsn> {
        let at = self.now()?;
        let now = self.reader.file(name, at)?;
        if now.is_some_and(|now| now.put == file.put) {
            return Ok(at);
        }
        Err(Error::Changed { name: name.to_string() })
    }
}

/// Passes whole chunks on.
struct Whole<'a> {
    to: &'a mut dyn Write,
    hasher: &'a mut Hasher,
    part: Vec<u8>,
    kept: u64,
    /// What came of writing to `to`: nobody knows how much of a chunk it took, so nothing more is written to it.
    failed: Option<io::Error>,
}

impl<'a> Whole<'a> {
    fn new(to: &'a mut dyn Write, hasher: &'a mut Hasher, kept: u64) -> Whole<'a> {
        Whole { to, hasher, part: Vec::with_capacity(CHUNK_BYTES), kept, failed: None }
    }

    /// How many bytes were passed on in all; the file's last chunk may be short. An error of `to` is no node's fault: it
    /// ends the whole.
    fn end(mut self, bytes: u64) -> Result<u64> {
        if self.failed.is_none() && self.kept + self.part.len() as u64 == bytes {
            // Its error is kept, too.
            let _ = self.pass_on();
        }
        match self.failed {
            Some(source) => Err(Error::File { doing: "write", path: "what was received".into(), source }),
            None => Ok(self.kept),
        }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.failed.is_some() {
            return Err(io::Error::other("what was received cannot be written"));
        }
        if let Err(error) = self.to.write_all(&self.part) {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            return Err(told);
        }
        self.hasher.update(&self.part);
        self.kept += self.part.len() as u64;
        self.part.clear();
        Ok(())
    }
}

impl Write for Whole<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        if self.part.len() == CHUNK_BYTES {
            self.pass_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, fails once, and takes all that comes after that.
    struct Full {
        room: Option<usize>,
        taken: Vec<u8>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room.unwrap_or(usize::MAX);
            if room == 0 {
                self.room = None;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(room);
            self.room = self.room.map(|room| room - taken);
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn fails(room: usize, bytes: usize) {
        let contents = vec![7; bytes];
        let (mut hasher, mut to) = (Hasher::default(), Full { room: Some(room), taken: vec![] });
        let mut keep = Whole::new(&mut to, &mut hasher, 0);
        let copied = io::copy(&mut &contents[..], &mut keep);
        let ended = keep.end(bytes as u64);
        let Err(Error::File { source, .. }) = ended else { panic!("{ended:?}, {copied:?}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert_eq!(to.taken, contents[..room], "nothing is written after the error, and nothing twice");
    }

    #[test]
    fn an_error_of_what_is_written_to_ends_the_get_and_nothing_is_written_after_it() {
        fails(CHUNK_BYTES + 9, 3 * CHUNK_BYTES);
        fails(9, CHUNK_BYTES);
        fails(CHUNK_BYTES + 9, CHUNK_BYTES + 100);
    }
}
