//! Looking at every byte of one segment, also past damage.
//!
//! Reads with `pread`, a bounded window at a time, whatever the lengths in the file say. Agrees with
//! `format::scan_tail` and `format::rescan_sealed` on everything that they say; goes on where they stop.
//!
//! Every record that counts is in exactly one of these: a [`Run`], if a reader that is careful enough finds it, and
//! the LSNs of a [`Stretch`] if not. (Records that were given up are in runs, as the gaps that stand for them.) So
//! damage to the header of a group alone has no LSNs if its frames are vouched for otherwise.

mod conclude;
mod damaged;
mod findings;
mod footer;
#[cfg(any(test, feature = "sim"))]
pub mod memory;
mod remains;
mod resume;
mod scan;
mod stretch;
#[cfg(test)]
mod tests;
mod window;

use std::ops::ControlFlow;
use std::sync::Arc;

use self::findings::Findings;
use self::footer::Entries;
use self::remains::{Ending, Remains};
use self::scan::{LAST, Scan};
pub use self::stretch::{Cause, Correction, Run, Stretch, StretchKind};
use self::window::Window;
use crate::disk::File;
use crate::error::Result;
use crate::format::{Digest, Footer, SegmentHeader, Tables, Verdict};
use crate::types::{Epoch, Lsn, LsnRange};

/// A segment to be examined, and what is known of it from elsewhere.
pub(crate) struct Question<'a> {
    pub(crate) file: &'a dyn File,
    pub(crate) name: &'a Arc<str>,
    /// Read from the file, or made of what the rest of the log says.
    pub(crate) header: &'a SegmentHeader,
    /// A sealed footer that counts, or a parked one that is believed. Its tables are read and checked here.
    pub(crate) footer: Option<&'a Footer>,
    /// The last record, where the footer or the next segment tell.
    pub(crate) last: Option<Lsn>,
    /// The newest record that something outside this segment vouches for.
    pub(crate) durable: Lsn,
    /// What the next segment says of this one's end.
    pub(crate) next_digest: Option<Digest>,
    /// Whether the header says how the segment before ended: else no digest over this one can be compared.
    pub(crate) knows_start: bool,
}

/// What a segment's bytes are.
///
/// `end`, `last_lsn` and `epoch` are those of the last record that counts, readable or not; `digest`, `groups` and
/// `tables` are right as long as there is no damage.
#[derive(Debug)]
pub(crate) struct Examined {
    /// What can be read: rising.
    pub(crate) runs: Vec<Run>,
    /// What is not clean: in the order of their places, but for the footer.
    pub(crate) stretches: Vec<Stretch>,
    /// Records that an earlier repair has given up.
    pub(crate) gaps: Vec<LsnRange>,
    pub(crate) end: u64,
    pub(crate) last_lsn: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) digest: Digest,
    /// How many groups can be read, for whoever compares this with a scan.
    #[cfg_attr(not(any(test, feature = "sim")), expect(dead_code, reason = "for comparisons in tests"))]
    pub(crate) groups: u64,
    /// How many records can be read; those that were given up do not count.
    #[cfg_attr(not(any(test, feature = "sim")), expect(dead_code, reason = "for comparisons in tests"))]
    pub(crate) records: u64,
    /// The newest record that a group header of this life knows to be durable.
    pub(crate) vouched: Lsn,
    pub(crate) tables: Tables,
    /// How far every group is valid: where a scan by the engine ends.
    pub(crate) prefix: Prefix,
    /// What the engine makes of it: the verdict of `scan_tail`, or of `rescan_sealed` where the last record is known.
    pub(crate) verdict: Verdict,
}

/// How far groups are valid one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prefix {
    pub(crate) end: u64,
    pub(crate) last_lsn: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) digest: Digest,
    pub(crate) groups: u64,
}

/// Reads the segment from its first group on.
///
/// `progress` is told how many bytes more were read, and may end it.
///
/// # Errors
/// Whatever the operating system says of the file itself; blocks that cannot be read are damage, and no error.
/// [`Error::TimedOut`](crate::error::Error::TimedOut) if `progress` ends it.
pub(crate) fn examine(
    question: &Question<'_>,
    progress: &dyn Fn(u64) -> ControlFlow<()>,
) -> Result<Examined> {
    let window = Window::new(question.file, question.name, question.header.data_end(), progress)?;
    let (entries, of_tables) = Entries::read(question, progress)?;
    let mut scan = Scan::new(question, window, entries);
    let fault = scan.run()?;
    let prefix = scan.reach;
    let remains = match scan.until {
        Some(_) => Remains::none(&prefix),
        None => Remains::find(&mut scan.window, scan.incarnation, &prefix)?,
    };
    let ending = Ending { reach: &prefix, fault: fault.as_ref(), remains: &remains, data_end: scan.data_end };
    let durable = scan.until.unwrap_or(question.durable);
    let verdict = ending.verdict(&mut scan.window, durable)?;
    let limit = ending.vouched(durable);
    let of_later = ending.vouched(Lsn::ZERO);
    if verdict.is_loss() {
        scan.go_on(limit.min(LAST))?;
    }
    if let Some(loss) = of_tables {
        scan.findings.stretch(loss);
    }
    match scan.until {
        Some(_) => scan.conclude_known(question),
        None => scan.conclude_tail(remains.clone(), verdict.is_loss())?,
    }
    scan.add_unreadable();
    let Scan { findings, reach, tables, vouched, .. } = scan;
    let records = findings.records();
    let Findings { runs, stretches, gaps, .. } = findings;
    let Prefix { end, last_lsn, epoch, digest, groups } = reach;
    let vouched = vouched.max(of_later);
    Ok(Examined {
        runs,
        stretches,
        gaps,
        end,
        last_lsn,
        epoch,
        digest,
        groups,
        records,
        vouched,
        tables,
        prefix,
        verdict,
    })
}
