//! Looking through sealed segments for damage in the background, no faster than allowed.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::examine::{Cause, Question, Stretch, StretchKind, examine};
use crate::disk::File;
use crate::error::{Error, Result};
use crate::format::{self, BadBlock, Digest, FOOTER_BLOCK_BYTES, Footer, FooterKind, SegmentHeader};
use crate::types::Lsn;

/// Holds work back to so many bytes a second. Knows no clock: it is told what time it is.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_s: u64,
    /// When all that was read so far is paid for.
    due: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(bytes_per_s: u64) -> Pace {
        Pace { bytes_per_s: bytes_per_s.max(1), due: None }
    }

    /// Takes note that so many bytes more were read by `now`, and returns when the next may be. Time that was not
    /// used is not saved up.
    pub(crate) fn spend(&mut self, bytes: u64, now: Instant) -> Instant {
        let ns = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let cost = Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
        let from = self.due.map_or(now, |due| due.max(now));
        // A clock that cannot count that far: the work goes on.
        let due = from.checked_add(cost).unwrap_or(from);
        self.due = Some(due);
        due
    }
}

/// A segment that is to be looked through, and what is known of it from elsewhere.
pub(crate) struct Suspect<'a> {
    pub(crate) file: &'a dyn File,
    pub(crate) name: &'a Arc<str>,
    pub(crate) header: &'a SegmentHeader,
    /// Its last record, if that is known without the footer.
    pub(crate) last: Option<Lsn>,
    /// What the next segment says of its end.
    pub(crate) next_digest: Option<Digest>,
}

/// What the last block of a segment turned out to be.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Trailer {
    /// The footer of a sealed segment.
    Sealed(Footer),
    /// None of this life of the file: the segment is not sealed.
    Open,
    /// Damaged.
    Bad(Cause),
}

impl Trailer {
    /// Reads it. A block that cannot be read is damage, and no error.
    ///
    /// # Errors
    /// [`Error::NewerVersion`].
    pub(crate) fn read(file: &dyn File, header: &SegmentHeader) -> Result<Trailer> {
        let mut block = vec![0; FOOTER_BLOCK_BYTES];
        let position = header.segment_bytes - FOOTER_BLOCK_BYTES as u64;
        let there = match file.read_at(&mut block, position) {
            Ok(there) if there == block.len() => there,
            Ok(_) => return Ok(Trailer::Bad(Cause::Cut)),
            Err(_) => return Ok(Trailer::Bad(Cause::Unreadable)),
        };
        match Footer::decode(&block[..there]) {
            Ok(footer) if footer.kind == FooterKind::Sealed && footer.is_of(header) => {
                Ok(Trailer::Sealed(footer))
            }
            Ok(_) | Err(BadBlock::Blank) => Ok(Trailer::Open),
            Err(BadBlock::Newer { found }) => Err(Error::NewerVersion { found, supported: format::VERSION }),
            Err(BadBlock::Damaged) => Ok(Trailer::Bad(Cause::Footer)),
        }
    }
}

impl Suspect<'_> {
    /// Reads the segment as far as its footer, or its last record, says, and the footer; returns what is damaged.
    ///
    /// `progress` is told how many bytes more were read, and may end it.
    ///
    /// # Errors
    /// [`Error::NewerVersion`]; whatever the operating system says of the file itself; [`Error::TimedOut`] if
    /// `progress` ends it.
    pub(crate) fn look_through(
        &self,
        trailer: &Trailer,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<Vec<Stretch>> {
        let Suspect { file, name, header, last, next_digest } = *self;
        let mut damage = Vec::new();
        let footer = match trailer {
            Trailer::Sealed(footer) => Some(footer),
            Trailer::Open => None,
            Trailer::Bad(cause) => {
                damage.push(self.damaged_trailer(*cause));
                None
            }
        };
        let last = footer.map(|footer| footer.last_lsn).or(last);
        let durable = last.unwrap_or(header.first_lsn.prev());
        let question = Question { file, name, header, footer, last, durable, next_digest, knows_start: true };
        let found = examine(&question, progress)?.stretches;
        let is_damage = |stretch: &Stretch| matches!(stretch.kind, StretchKind::Rot | StretchKind::Hole);
        damage.extend(found.into_iter().filter(is_damage));
        Ok(damage)
    }

    /// The stretch for a footer that does not check: it is made again when the log is opened.
    fn damaged_trailer(&self, cause: Cause) -> Stretch {
        let end = self.header.segment_bytes;
        Stretch {
            kind: StretchKind::Rot,
            file: Arc::clone(self.name),
            bytes: end - FOOTER_BLOCK_BYTES as u64..end,
            lsns: None,
            is_acknowledged: false,
            cause,
            correction: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_no_more_bytes_by_than_it_is_allowed_and_saves_nothing_up() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(1000);
        assert_eq!(pace.spend(500, at(0)), at(500));
        assert_eq!(pace.spend(500, at(100)), at(1000), "too early: it comes on top");
        assert_eq!(pace.spend(500, at(9000)), at(9500), "the idle seconds are gone");
        assert_eq!(Pace::new(u64::MAX).spend(1 << 20, start), start);
        let _ = Pace::new(1).spend(u64::MAX, start);
    }
}
