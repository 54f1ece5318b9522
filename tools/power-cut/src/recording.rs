//! Makes a tape: a file system on a recorded device, and what is done on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annals_ledger::{Event, Prey, Trial};

use crate::error::{Error, Result};
use crate::host::check_stopped;
use crate::mount::{FileSystem, Mounted, Scratch, copy_sparsely};
use crate::server::Served;
use crate::tape::{Op, Tape};

/// Bytes of files above which the logs of all campaigns are trimmed.
pub(crate) const LOG_BYTES_MAX: u64 = 4 << 20;
/// The log's name on the file system, and that of the directory with its copies.
pub(crate) const LOG: &str = "log";
pub(crate) const COPIES: &str = "copies";

/// A device that records, and how a file system lies on it.
pub(crate) struct Recorder {
    pub(crate) tape: Arc<Tape>,
    served: Served,
    kind: FileSystem,
    direct: bool,
    mount: PathBuf,
}

impl Recorder {
    /// Serves a device that holds at first what `image` does.
    pub(crate) fn begin(scratch: &Scratch, image: &File, kind: FileSystem, direct: bool) -> Result<Recorder> {
        let live = copy_sparsely(image, &scratch.dir().join("live"))?;
        let tape = Arc::new(Tape::new(live).map_err(Error::io("read", &scratch.dir().join("live")))?);
        let served = Served::begin(Arc::clone(&tape), &scratch.make_dir("device")?)?;
        Ok(Recorder { tape, served, kind, direct, mount: scratch.make_dir("recorded")? })
    }

    /// Mounts the file system on it.
    pub(crate) fn mount(&self) -> Result<Mounted> {
        Mounted::image(&self.served.image(), self.kind, self.direct, &self.mount)
    }

    /// Runs a trial in a process of its own, which tells onto the tape; gives what it said if it failed.
    pub(crate) fn run(&self, trial: &Trial) -> Result<Option<String>> {
        let (status, words) = self.end(&mut self.spawn(trial)?)?;
        Ok((!status.success()).then(|| format!("{status}: {words}")))
    }

    /// Runs a trial, and kills its process after so long.
    pub(crate) fn run_and_kill(&self, trial: &Trial, after: Duration) -> Result<Option<String>> {
        let mut prey = self.spawn(trial)?;
        thread::sleep(after);
        prey.kill().map_err(Error::io("kill a process in", &self.mount))?;
        let (status, words) = self.end(&mut prey)?;
        Ok((!words.is_empty()).then(|| format!("{status}: {words}")))
    }

    fn spawn(&self, trial: &Trial) -> Result<Prey> {
        let trial = Trial { notes: Some(self.served.notes()), ..trial.clone() };
        Prey::spawn("child", &trial).map_err(Error::io("start a process in", &self.mount))
    }

    fn end(&self, prey: &mut Prey) -> Result<(ExitStatus, String)> {
        let end = prey.end().map_err(Error::io("hear of a process in", &self.mount))?;
        // The signal has reached that process, too.
        check_stopped()?;
        Ok(end)
    }

    /// The tape so far; it is empty then.
    pub(crate) fn take(&self) -> Vec<Op> {
        self.tape.take()
    }
}

/// A trial on the file system at `root`.
pub(crate) fn trial(root: &Path, seed: u64, round: u32, writers: u16) -> Result<Trial> {
    let copies = root.join(COPIES);
    fs::create_dir_all(&copies).map_err(Error::io("create", &copies))?;
    Ok(Trial {
        log: root.join(LOG),
        copies,
        seed,
        round,
        writers,
        phases: None,
        only_opens: false,
        log_bytes_max: LOG_BYTES_MAX,
        notes: None,
        skips_wait: false,
    })
}

/// What the workload has told on the tape.
pub(crate) fn told(ops: &[Op]) -> impl Iterator<Item = Event> {
    ops.iter().filter_map(|op| match op {
        Op::Told(event) => Some(*event),
        _ => None,
    })
}
