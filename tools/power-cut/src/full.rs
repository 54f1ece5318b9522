//! `full`: fills the disk under a log that is written, and makes room again.
//!
//! While the disk is full, appends are refused with an error that says so, and nothing else goes wrong. Once there
//! is room they go on, without the log being opened again. A process that is killed on a full disk loses nothing
//! either, whether the log can be opened before there is room or not.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use annals_ledger::{Account, Chance, Event, Examination, Prey, Trial, options};

use crate::cli::FullArgs;
use crate::error::{Error, Result};
use crate::host::{Outcome, check_stopped};
use crate::mount::{FileSystem, Mounted, Scratch};
use crate::recording::{COPIES, LOG, trial};

/// Times that the disk is filled in a round, while one process writes.
const TIMES: u32 = 3;
/// Appends that are waited for before the disk is filled, and after there is room again.
const APPENDS: u64 = 40;
/// Longer than anything here takes; only ends a hang.
const HANG: Duration = Duration::from_secs(60);
/// The file that takes all the room.
const FILLER: &str = "filler";

/// What is filled.
#[derive(Clone, Copy, Debug)]
enum Disk {
    /// A file system in memory.
    Memory,
    /// Ext4, on a loop device.
    Ext4,
}

/// Fills all disks that can be had.
pub(crate) fn run(args: &FullArgs, seed: u64, scratch: &Scratch) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut disks = vec![Disk::Memory];
    disks.extend(FileSystem::Ext4.is_there().then_some(Disk::Ext4));
    outcome.count("seed", seed);
    outcome.count("file systems", disks.iter().map(|disk| disk.name()).collect::<Vec<_>>().join(" "));
    let mut campaign = Campaign { seed, writers: args.common.writers, counts: Counts::default() };
    for disk in disks {
        if let Err(error) = campaign.fill(disk, args.rounds, scratch) {
            if matches!(error, Error::Stopped) {
                return Err(error);
            }
            let again = format!("power-cut full --seed {seed} --rounds {}", args.rounds);
            outcome.failed = Some(format!("on {}: {error}\nrun it again:  {again}", disk.name()));
            break;
        }
    }
    let Counts { rounds, fillings, refused, acknowledged, full_openings, compared } = campaign.counts;
    outcome.count("rounds", rounds);
    outcome.count("times that the disk was filled", fillings);
    outcome.count("appends refused", refused);
    outcome.count("appends acknowledged", acknowledged);
    outcome.count("openings refused for want of room", full_openings);
    outcome.count("records compared", compared);
    Ok(outcome)
}

impl Disk {
    fn name(self) -> &'static str {
        match self {
            Disk::Memory => "tmpfs",
            Disk::Ext4 => "ext4",
        }
    }

    fn mount(self, scratch: &Scratch) -> Result<Mounted> {
        let dir = scratch.make_dir("small")?;
        match self {
            Disk::Memory => Mounted::memory(&dir, "8m"),
            Disk::Ext4 => {
                let image = scratch.dir().join("small-image");
                FileSystem::Ext4.make(&image, 16 << 20)?;
                Mounted::image(&image, FileSystem::Ext4, false, &dir)
            }
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    fillings: u64,
    refused: u64,
    acknowledged: u64,
    full_openings: u64,
    compared: u64,
}

struct Campaign {
    seed: u64,
    writers: u16,
    counts: Counts,
}

impl Campaign {
    fn fill(&mut self, disk: Disk, rounds: u32, scratch: &Scratch) -> Result<()> {
        let mounted = disk.mount(scratch)?;
        let seed = Chance::new(&[self.seed, disk as u64]).next();
        let mut account = Account::new(seed);
        for round in 0..rounds {
            check_stopped()?;
            self.round(mounted.dir(), round, &mut account)?;
            self.counts.rounds += 1;
        }
        let tally = account.tally();
        self.counts.refused += tally.refused;
        self.counts.acknowledged += tally.acknowledged;
        Ok(())
    }

    /// One process writes on a disk that is filled now and then, and is killed while it is full.
    fn round(&mut self, root: &Path, round: u32, account: &mut Account) -> Result<()> {
        let seed = account.seed();
        let trial = Trial { log_bytes_max: 2 << 20, ..trial(root, seed, round, self.writers)? };
        let mut chance = Chance::new(&[seed, u64::from(round), 0x4655_4C4C]);
        let mut prey = Prey::spawn("child", &trial).map_err(Error::io("start a process in", root))?;
        let filler = Filler(root.join(FILLER));
        for _ in 0..TIMES {
            listen(&mut prey, account, "appends", &mut count(APPENDS, is_acknowledged))?;
            filler.fill(chance.below(64 << 10))?;
            self.counts.fillings += 1;
            listen(&mut prey, account, "an append to be refused", &mut count(1, is_refused))?;
            filler.clear()?;
            listen(&mut prey, account, "appends to go on", &mut count(APPENDS, is_acknowledged))?;
        }
        filler.fill(0)?;
        let mut left = chance.below(40);
        let some = &mut |_: &Event| {
            left = left.saturating_sub(1);
            left == 0
        };
        listen(&mut prey, account, "anything", some)?;
        prey.kill().map_err(Error::io("kill a process in", root))?;
        hear_out(&mut prey, account)?;
        self.recover(root, round, account, &filler)
    }

    /// Opens the log on the full disk, where that may be refused, and then with room.
    fn recover(&mut self, root: &Path, round: u32, account: &mut Account, filler: &Filler) -> Result<()> {
        let log = root.join(LOG);
        match options(&log, account.seed(), round + 1).open() {
            Ok(log) => log.close().or_else(full_is_fine).map_err(failure("close"))?,
            Err(annals::Error::NoSpace) => self.counts.full_openings += 1,
            Err(error) => return Err(failure("open")(error)),
        }
        filler.clear()?;
        let examination = Examination { left: &log, copy: None, seed: account.seed(), round: round + 1 };
        let found = examination.against(account)?;
        account.check_copies(&root.join(COPIES))?;
        self.counts.compared += found.records.len() as u64;
        account.settle(&found).map_err(Error::broken)?;
        fs::remove_dir_all(root.join(COPIES)).map_err(Error::io("remove", &root.join(COPIES)))
    }
}

fn full_is_fine(error: annals::Error) -> annals::Result<()> {
    if matches!(error, annals::Error::NoSpace) { Ok(()) } else { Err(error) }
}

fn failure(doing: &'static str) -> impl FnOnce(annals::Error) -> Error {
    move |source| Error::broken(format!("could not {doing} the log on a full disk: {source}"))
}

fn is_acknowledged(event: &Event) -> bool {
    matches!(event, Event::Acknowledged(..))
}

fn is_refused(event: &Event) -> bool {
    matches!(event, Event::Refused(_))
}

/// True at the event that is the last of so many.
fn count(mut left: u64, is_it: fn(&Event) -> bool) -> impl FnMut(&Event) -> bool {
    move |event| {
        left -= u64::from(is_it(event));
        left == 0
    }
}

/// Heeds what the process tells until that was enough.
fn listen(
    prey: &mut Prey,
    account: &mut Account,
    what: &str,
    is_enough: &mut dyn FnMut(&Event) -> bool,
) -> Result<()> {
    let began = Instant::now();
    loop {
        let left = HANG.saturating_sub(began.elapsed());
        match prey.events.recv_timeout(left) {
            Ok(event) => {
                account.heed(event).map_err(Error::broken)?;
                if is_enough(&event) {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let told = format!("waited {} s in vain for {what}", HANG.as_secs());
                return Err(Error::broken(told));
            }
            Err(RecvTimeoutError::Disconnected) => {
                check_stopped()?;
                let (status, words) = prey.end().map_err(Error::io("hear of", Path::new("a process")))?;
                return Err(Error::broken(format!("a process ended with {status}: {words}")));
            }
        }
    }
}

/// Heeds what a process has told that was killed.
fn hear_out(prey: &mut Prey, account: &mut Account) -> Result<()> {
    prey.end().map_err(Error::io("hear of", Path::new("a process")))?;
    prey.events.iter().try_for_each(|event| account.heed(event)).map_err(Error::broken)
}

/// A file that takes the room of others.
struct Filler(PathBuf);

impl Filler {
    /// Takes all room, and gives so many bytes of it back.
    fn fill(&self, but: u64) -> Result<()> {
        let fill = || {
            let mut file = File::create(&self.0)?;
            let mut bytes = 0;
            for piece in [64 << 10, 4 << 10, 512, 1] {
                let zeros = vec![0; piece];
                loop {
                    match file.write(&zeros) {
                        Ok(more) => bytes += more as u64,
                        Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                        Err(error) => return Err(error),
                    }
                    // Ext4 finds out later, otherwise, that it has promised too much.
                    file.sync_data().or_else(|error| match error.kind() {
                        io::ErrorKind::StorageFull => Ok(()),
                        _ => Err(error),
                    })?;
                }
            }
            file.set_len(bytes.saturating_sub(but))?;
            file.sync_data()
        };
        fill().map_err(Error::io("write", &self.0))
    }

    fn clear(&self) -> Result<()> {
        fs::remove_file(&self.0).map_err(Error::io("remove", &self.0))
    }
}
