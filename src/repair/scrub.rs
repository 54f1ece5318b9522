//! Looking through the sealed segments of a log, no faster than allowed, also beside a writer.

use std::cell::RefCell;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::slots::Slots;
use super::survey::{Found, Head, Named, Survey};
use super::watch::Watch;
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::format::{HEADER_BLOCK_BYTES, SegmentHeader};
use crate::segment::{Cause, Pace, Stretch, StretchKind, Suspect, Trailer};
use crate::types::{Lsn, LsnRange};

/// How often it is asked whether the work is given up, while it is held back.
const ASK: Duration = Duration::from_millis(100);

/// What was looked through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrubbed {
    /// Segments that were read.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Stretches that are damaged.
    pub damaged: u64,
}

/// Reads every segment that another one follows or that is sealed, oldest first, at most `bytes_per_s` on average, and
/// tells each stretch that is damaged as soon as it is found.
///
/// Changes nothing, and takes no lock of the writer's: what is trimmed, truncated or recycled meanwhile is no damage. Says
/// nothing of the newest segment while that can grow, nor of how the segments fit together: that is
/// [`verify`](super::verify()).
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
/// let mut found = |stretch: &repair::Stretch| println!("damaged: {stretch:?}");
/// let scrubbed = repair::scrub(&disk, Some(16 << 20), &mut found, &Silent)?; // 16 MiB a second
/// assert_eq!(scrubbed.damaged, 0);
/// # Ok(())
/// # }
/// # #[cfg(not(unix))] fn main() {}
/// ```
///
/// # Errors
/// [`Error::NotALog`], [`Error::NewerVersion`], and whatever the operating system says of a file itself; blocks that
/// cannot be read are damage. [`Error::TimedOut`] if the watcher gives up.
pub fn scrub(
    disk: &Arc<dyn Disk>,
    bytes_per_s: Option<u64>,
    found: &mut dyn FnMut(&Stretch),
    watch: &dyn Watch,
) -> Result<Scrubbed> {
    let survey = Survey::take(&**disk)?;
    let segments: Vec<_> =
        survey.files.iter().filter(|file| matches!(file.named, Named::Segment(_))).collect();
    watch.begin(segments.iter().map(|file| file.bytes).sum());
    let pace = RefCell::new(bytes_per_s.map(Pace::new));
    let read = RefCell::new(0);
    let progress = |bytes| {
        *read.borrow_mut() += bytes;
        watch.advance(bytes);
        hold_back(&mut pace.borrow_mut(), bytes, watch)
    };
    let mut scrubbed = Scrubbed::default();
    for (index, file) in segments.iter().enumerate() {
        let next = segments.get(index + 1).map(|next| &***next);
        let sight = Sight { disk: &**disk, found: file, next };
        let Some(damage) = sight.look_through(&survey.slots, &progress)? else { continue };
        scrubbed.segments += 1;
        scrubbed.damaged += damage.len() as u64;
        damage.iter().for_each(&mut *found);
    }
    scrubbed.bytes = read.into_inner();
    Ok(scrubbed)
}

/// Waits until what was read so far is no more than allowed.
fn hold_back(pace: &mut Option<Pace>, bytes: u64, watch: &dyn Watch) -> ControlFlow<()> {
    let due = pace.as_mut().map(|pace| pace.spend(bytes, Instant::now()));
    loop {
        if watch.is_given_up() {
            return ControlFlow::Break(());
        }
        let left = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return ControlFlow::Continue(());
        }
        thread::park_timeout(left.min(ASK));
    }
}

/// A segment as it was found, and the one that follows it.
struct Sight<'a> {
    disk: &'a dyn Disk,
    found: &'a Found,
    next: Option<&'a Found>,
}

impl Sight<'_> {
    /// What is damaged; `None` if the segment is not to be looked at, or is not what it was any more.
    fn look_through(
        &self,
        slots: &Slots,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Stretch>>> {
        let is_trimmed = |slots: &Slots| {
            let first = slots.first_lsn().unwrap_or(Lsn::FIRST);
            self.next.is_some_and(|next| begin_of(next) <= first)
        };
        let Some(file) = (if is_trimmed(slots) { None } else { self.open()? }) else { return Ok(None) };
        let damage = match &self.found.head {
            Head::Sound(header) => self.damage_in(&*file, header, progress)?,
            // The newest may have been begun and never written.
            Head::Bad(_) if self.next.is_none() => None,
            Head::Bad(bad) => Some(vec![self.damaged_header(bad.cause)]),
        };
        match damage {
            // A writer may have changed it meanwhile, or what follows it, which is then no witness.
            Some(damage) if !damage.is_empty() => {
                if self.next.is_some_and(|next| !is_there(self.disk, next)) {
                    return Sight { next: None, ..*self }.look_through(slots, progress);
                }
                let is_same = !is_trimmed(&Slots::read(self.disk)?) && self.is_as_it_was(&*file);
                Ok(Some(damage).filter(|_| is_same))
            }
            damage => Ok(damage),
        }
    }

    fn damage_in(
        &self,
        file: &dyn File,
        header: &SegmentHeader,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Stretch>>> {
        let trailer = Trailer::read(file, header)?;
        if self.next.is_none() && !matches!(trailer, Trailer::Sealed(_)) {
            return Ok(None);
        }
        let next = self.next.and_then(Found::header);
        let last = self.next.map(|next| begin_of(next).prev()).filter(|last| last.next() >= header.first_lsn);
        let suspect = Suspect {
            file,
            name: &self.found.name,
            header,
            last,
            next_digest: next.map(|next| next.previous_digest),
        };
        let damage = suspect.look_through(&trailer, progress)?;
        // A footer that was just written, or written anew, is another one by now.
        let again = Trailer::read(file, header)?;
        Ok(Some(damage).filter(|damage| damage.is_empty() || again == trailer))
    }

    /// The file, with the lock of readers; `None` if it is gone or about to be used again.
    fn open(&self) -> Result<Option<Arc<dyn File>>> {
        let name = &self.found.name;
        let file = match self.disk.open(name, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| Error::io("open", name, source))?,
        };
        let locked = file.try_lock(false).map_err(|source| Error::io("lock", name, source))?;
        // After the lock: from here on the file stays what it is.
        Ok(Some(file).filter(|file| locked && self.is_as_it_was(&**file)))
    }

    /// Whether the name leads to the same segment as before.
    fn is_as_it_was(&self, file: &dyn File) -> bool {
        is_there(self.disk, self.found) && header_of(file).as_ref() == self.found.header()
    }

    /// The stretch for a header that does not check: what is in the file is known by its name only.
    fn damaged_header(&self, cause: Cause) -> Stretch {
        let last = self.next.map_or(Lsn::ZERO, |next| begin_of(next).prev());
        let lsns = LsnRange::new(begin_of(self.found), last);
        Stretch {
            kind: StretchKind::Rot,
            file: Arc::clone(&self.found.name),
            bytes: 0..HEADER_BLOCK_BYTES as u64,
            lsns,
            is_acknowledged: lsns.is_some(),
            cause,
            correction: None,
        }
    }
}

/// Whether the file is still there, with the header that it had.
fn is_there(disk: &dyn Disk, found: &Found) -> bool {
    let by_name = disk.open(&found.name, Access::Read);
    by_name.is_ok_and(|file| header_of(&*file).as_ref() == found.header())
}

fn header_of(file: &dyn File) -> Option<SegmentHeader> {
    let mut block = vec![0; HEADER_BLOCK_BYTES];
    file.read_at(&mut block, 0).ok().and_then(|there| SegmentHeader::decode(&block[..there]).ok())
}

/// The first record, by the file's name.
fn begin_of(found: &Found) -> Lsn {
    match found.named {
        Named::Segment(first) => first,
        Named::Spare(_) => Lsn::ZERO,
    }
}
