//! Looking at a whole log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::chain::{Chain, Link};
use super::opening::{Scans, Upto, made_up, opening};
use super::report::{Opening, Report};
use super::sight::{Kept, Meter, Reader, Seen, is_damage};
use super::survey::{Found, Survey};
use super::tally::{Sights, tally};
use super::watch::{Silent, Watch};
use crate::disk::{Disk, Holder};
use crate::error::{Error, Result};
use crate::format::SegmentHeader;
use crate::segment::{LOCK, Stretch};
use crate::types::{Lsn, LsnRange};

/// How often a log that changes meanwhile is looked at again.
const LOOKS: usize = 32;
/// Looks that have to find the same damage beside a writer before it is believed.
const ALIKE: usize = 3;

/// Reads the superblock, and the headers and footers of all files; and of the newest segment as much as an open
/// of the log would.
///
/// Changes nothing, and works beside a writer: then it is about what is known to be durable.
///
/// ```
/// # #[cfg(unix)]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use annals::disk::{Disk, RealDisk};
/// use annals::repair::{self, Silent};
/// # use annals::{LogOptions, Lsn};
/// # let temporary = tempfile::tempdir()?;
/// # let dir = temporary.path().join("orders");
/// # let log = LogOptions::new(&dir).segment_bytes(1 << 20).open()?;
/// # log.append_durable(b"two lamps")?;
/// # log.close()?;
///
/// let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir)?);
/// let report = repair::inspect(&*disk)?; // headers only
/// assert_eq!(report.segments.len(), 1);
/// # Ok(())
/// # }
/// # #[cfg(not(unix))] fn main() {}
/// ```
///
/// # Errors
/// [`Error::NotALog`] if there is neither a superblock nor a segment, [`Error::NewerVersion`], and whatever the
/// operating system says of the directory, or of the opening of a file. Damage is no error: the report tells it.
pub fn inspect(disk: &dyn Disk) -> Result<Report> {
    look_until_still(disk, None, &Silent)
}

/// Reads every byte of the log, with several threads.
///
/// Changes nothing, and works beside a writer: then it is about what is known to be durable.
///
/// # Errors
/// As for [`inspect`]; [`Error::TimedOut`] if the watcher gives up.
pub fn verify(disk: &Arc<dyn Disk>, threads: usize, watch: &dyn Watch) -> Result<Report> {
    look_until_still(&**disk, Some(threads.max(1)), watch)
}

/// Looks until what is seen is not merely that somebody is changing it.
fn look_until_still(disk: &dyn Disk, threads: Option<usize>, watch: &dyn Watch) -> Result<Report> {
    let meter = Meter::new(watch);
    let kept = Kept::default();
    let mut before: Option<Damage> = None;
    let mut alike = 0;
    for left in (0..LOOKS).rev() {
        let writer = holder(disk)?;
        let reader = Reader { disk, meter: &meter, is_beside_writer: writer != Holder::Nobody, kept: &kept };
        let look = Look { reader, threads, is_first: left + 1 == LOOKS };
        let looked = look.look();
        if meter.is_given_up() {
            return Err(Error::TimedOut);
        }
        let is_moving = writer != Holder::Nobody || holder(disk)? != Holder::Nobody;
        match looked {
            Err(error) if left > 0 && is_gone(&error) => {}
            Err(error) => return Err(error),
            Ok(mut report) => {
                let damage = Damage::of(&report);
                alike = if before.as_ref() == Some(&damage) { alike + 1 } else { 1 };
                if left == 0 || !is_moving || damage.is_none() || alike == ALIKE {
                    meter.finish();
                    report.note_writer(writer);
                    return Ok(report);
                }
                before = Some(damage);
            }
        }
        kept.look_again();
    }
    unreachable!("the last look is returned")
}

fn holder(disk: &dyn Disk) -> Result<Holder> {
    disk.holder(LOCK).map_err(|source| Error::io("ask for the lock", LOCK, source))
}

/// Whether a file was there, and is not any more.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

impl Report {
    fn note_writer(&mut self, holder: Holder) {
        let Holder::Process(owner) = holder else { return };
        self.writer = Some(owner);
        if let Opening::Opens = self.opening {
            self.opening = Opening::Refuses(Error::InUse { owner });
        }
    }
}

/// What is wrong with a log, to be compared.
#[derive(PartialEq)]
struct Damage {
    stretches: Vec<Stretch>,
    lost: Vec<LsnRange>,
    opening: Option<String>,
}

impl Damage {
    fn of(report: &Report) -> Damage {
        let opening = match &report.opening {
            Opening::Opens => None,
            Opening::Refuses(error) => Some(error.to_string()),
        };
        let stretches = report.stretches.iter().filter(|stretch| is_damage(stretch)).cloned().collect();
        Damage { stretches, lost: report.lost.clone(), opening }
    }

    fn is_none(&self) -> bool {
        self.stretches.is_empty() && self.lost.is_empty() && self.opening.is_none()
    }
}

/// One look at the whole log.
struct Look<'a> {
    reader: Reader<'a>,
    /// How many threads read every byte; `None` to read headers only.
    threads: Option<usize>,
    is_first: bool,
}

impl Look<'_> {
    fn look(&self) -> Result<Report> {
        let survey = Survey::take(self.reader.disk)?;
        let vouched = |found: &Found, header: &SegmentHeader| self.vouched_by(found, header.first_lsn);
        let mut chain = Chain::build(&survey, &vouched);
        if self.is_first {
            self.reader.meter.begin(chain.links.iter().map(|link| link.found.bytes).sum());
        }
        let mut seen = self.see_all(&chain)?;
        self.see_rebuilt(&mut chain, &mut seen)?;
        if !self.reader.is_beside_writer {
            self.see_lost_header(&survey, &mut chain, &mut seen)?;
        }
        let opening = opening(&survey, &self.reader);
        if self.reader.is_beside_writer {
            self.see_durable(&chain, &mut seen)?;
        }
        let sights = Sights { seen, is_verified: self.threads.is_some() };
        Ok(tally(&survey, chain, &sights, opening))
    }

    /// Reads the segments, those that are to be read: each thread takes the next one.
    fn see_all(&self, chain: &Chain) -> Result<Vec<Option<Arc<Seen>>>> {
        let to_see: Vec<usize> =
            (0..chain.links.len()).filter(|&index| self.has_to_see(&chain.links[index])).collect();
        let next = AtomicUsize::new(0);
        let seen = Mutex::new(vec![None; chain.links.len()]);
        let failed = Mutex::new(None);
        let see = || {
            // Relaxed: each index is taken once, whatever the order.
            while let Some(&index) = to_see.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.reader.see(&chain.links[index]) {
                    Ok(sight) => seen.lock()[index] = Some(sight),
                    Err(error) => {
                        next.store(to_see.len(), Ordering::Relaxed);
                        failed.lock().get_or_insert(error);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads.unwrap_or(1).min(to_see.len()) {
                scope.spawn(see);
            }
            see();
        });
        match failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(seen.into_inner()),
        }
    }

    /// Of a segment with a footer that counts, an open reads nothing else.
    fn has_to_see(&self, link: &Link) -> bool {
        link.knows_previous && (self.threads.is_some() || link.footer.is_none())
    }

    /// Reads the segments whose headers lack how the one before ends, now that this is known.
    fn see_rebuilt(&self, chain: &mut Chain, seen: &mut [Option<Arc<Seen>>]) -> Result<()> {
        for index in 0..chain.links.len() {
            if chain.links[index].knows_previous || seen[index].is_some() {
                continue;
            }
            let is_before = |before: &usize| chain.links[*before].is_followed_by(&chain.links[index]);
            let before = index.checked_sub(1).filter(is_before);
            // Of one that was read alone the digest is not known.
            let sighted = before.filter(|before| chain.links[*before].knows_previous);
            let sight = sighted.and_then(|before| seen[before].as_ref()).filter(|sight| sight.is_sound());
            let footer = before.and_then(|before| chain.links[before].footer);
            let digest = sight.map(|sight| sight.digest).or(footer.map(|footer| footer.digest));
            let link = &mut chain.links[index];
            seen[index] = Some(match digest {
                Some(digest) => {
                    (link.header.previous_digest, link.knows_previous) = (digest, true);
                    self.reader.see(link)?
                }
                None => {
                    let alone = self.reader.see_alone(link)?;
                    if let Some(digest) = self.reader.previous_digest(link, &alone) {
                        link.header.previous_digest = digest;
                    }
                    alone
                }
            });
        }
        Ok(())
    }

    /// Looks for the segment after the last one among the spares whose headers do not check.
    fn see_lost_header(
        &self,
        survey: &Survey,
        chain: &mut Chain,
        seen: &mut Vec<Option<Arc<Seen>>>,
    ) -> Result<()> {
        let (last, sight) = (chain.links.last(), seen.last().and_then(Option::as_ref));
        let end = match (last, sight) {
            (None, _) => chain.first_lsn.prev(),
            (Some(link), None) => link.last.unwrap_or(link.header.first_lsn.prev()),
            (Some(_), Some(sight)) => sight.newest(),
        };
        let next = end.next();
        let log_id = survey.log_id.unwrap_or_default();
        let is_next = |found: &Found| {
            let by_footer = found.vouched_without_start(log_id, next);
            let begins = found.first.is_some_and(|group| group.header.first_lsn == next);
            let vouched = self.vouched_by(found, next).max(survey.slots.vouched()).max(by_footer);
            (begins || by_footer > Lsn::ZERO) && vouched >= next
        };
        let Some(place) = chain.spares.iter().position(|spare| is_next(spare)) else { return Ok(()) };
        let spare = chain.spares.remove(place);
        chain.extend(spare, next);
        // The last one is now known to end where this one begins.
        let before = chain.links.len().checked_sub(2);
        if let Some(before) = before.filter(|before| chain.links[*before].footer.is_none()) {
            seen[before] = Some(self.reader.see(&chain.links[before])?);
        }
        seen.push(match chain.links.last().filter(|added| added.knows_previous) {
            Some(added) => Some(self.reader.see(added)?),
            None => None,
        });
        self.see_rebuilt(chain, seen)
    }

    /// Beside a writer, takes of the newest segment only what is known to be durable.
    fn see_durable(&self, chain: &Chain, seen: &mut [Option<Arc<Seen>>]) -> Result<()> {
        let (Some(link), Some(Some(sight))) = (chain.links.last(), seen.last_mut()) else { return Ok(()) };
        let durable = chain.durable.max(sight.vouched);
        if link.last.is_none() && !sight.has_loss() {
            *sight = self.reader.see_up_to(link, durable.min(sight.last_lsn))?;
        }
        Ok(())
    }

    /// The newest record that the groups of a file without a header vouch for.
    fn vouched_by(&self, found: &Found, first: Lsn) -> Lsn {
        let scan = made_up(found, first)
            .and_then(|header| self.reader.scan(found, &header, Upto::Durable(Lsn::ZERO)).ok());
        scan.map_or(Lsn::ZERO, |scan| scan.vouched)
    }
}
