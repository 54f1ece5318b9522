//! One round: a process writes, is killed, and what it has left is compared with the account.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use annals_ledger::{Account, Chance, Event, Examination, Failure, Prey, Tally, Trial};

use super::{KEPT, Kept};
use crate::cli::TortureArgs;
use crate::error::{Error, Result};
use crate::place::Place;

/// One process in so many is not killed, and has to end by itself.
const ENDS_ONE_IN: u64 = 25;
/// Bytes of files above which the log is trimmed.
const LOG_BYTES_MAX: u64 = 6 << 20;
/// Longer than a process takes that is not killed; only ends a hang.
const HANG: Duration = Duration::from_secs(120);

/// All rounds over one log.
#[derive(Debug)]
pub(crate) struct Hunt {
    log: PathBuf,
    copies: PathBuf,
    copy: PathBuf,
    kept: PathBuf,
    seed: u64,
    writers: u16,
    mean: Duration,
    skips_wait: bool,
    account: Account,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ending {
    pub(crate) killed_writing: u32,
    pub(crate) killed_opening: u32,
    pub(crate) ended: u32,
    pub(crate) compared: u64,
    pub(crate) unknown: u64,
}

/// When a process is killed, if it has not ended before.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its start.
    After(Duration),
    /// So long after it told of this.
    Upon(fn(&Event) -> bool, Duration),
    /// Never.
    Never,
}

impl Hunt {
    pub(crate) fn begin(args: &TortureArgs, seed: u64, place: &Place) -> Result<Hunt> {
        let hunt = Hunt {
            log: place.data("log"),
            copies: place.data("copies"),
            copy: place.data("copy"),
            kept: place.data(KEPT),
            seed,
            writers: args.writers,
            mean: Duration::from_secs_f64(args.secs_per_round),
            skips_wait: args.skip_wait,
            account: Account::new(seed),
        };
        fs::create_dir_all(&hunt.log).map_err(Error::io("create", &hunt.log))?;
        Ok(hunt)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.account.tally()
    }

    /// Keeps the account of a round that failed, beside what it has left.
    pub(crate) fn save(&self, round: u32) -> Result<()> {
        let kept = Kept { round, account: self.account.clone() };
        let json = crate::report::json::value(kept).to_string();
        fs::write(&self.kept, json).map_err(Error::io("write", &self.kept))
    }

    /// Lets a process write, kills it, lets others be killed while they recover, and compares.
    pub(crate) fn round(&mut self, round: u32) -> Result<Ending> {
        let mut chance = Chance::new(&[self.seed, u64::from(round), 0x524F_554E]);
        let mut ending = Ending::default();
        fs::create_dir_all(&self.copies).map_err(Error::io("create", &self.copies))?;
        let ends = chance.below(ENDS_ONE_IN) == 0;
        let phases = ends.then(|| chance.between(1, 20) as u32);
        let moment = if ends { Moment::Never } else { self.moment(&mut chance) };
        self.hunt((round, phases, false), moment, &mut ending)?;
        while chance.percent(25) {
            let moment = Moment::After(Duration::from_micros(chance.below(40_000)));
            self.hunt((round, None, true), moment, &mut ending)?;
        }
        let examination =
            Examination { left: &self.log, copy: Some(&self.copy), seed: self.seed, round: round + 1 };
        let found = examination.against(&self.account).map_err(Error::Trial)?;
        self.account.check_copies(&self.copies).map_err(Error::Trial)?;
        fs::remove_dir_all(&self.copies).map_err(Error::io("remove", &self.copies))?;
        ending.compared = found.records.len() as u64;
        let broken = |wrong| Error::Trial(Failure::Broken(wrong));
        ending.unknown = self.account.settle(&found).map_err(broken)?;
        Ok(ending)
    }

    fn moment(&self, chance: &mut Chance) -> Moment {
        let a_while = Duration::from_nanos(chance.below(2 * self.mean.as_nanos() as u64));
        let a_moment = Duration::from_micros(chance.pick(&[0, 20, 100, 500, 2000, 8000]));
        match chance.below(20) {
            0 => Moment::Upon(|event| matches!(event, Event::TruncationBegun(_)), a_moment),
            1 | 2 => Moment::Upon(|event| matches!(event, Event::TrimBegun(_)), a_moment),
            3 => Moment::Upon(|event| matches!(event, Event::BackupBegun { .. }), a_moment),
            4 => Moment::Upon(|event| matches!(event, Event::MarkBegun { .. }), a_moment),
            5 => Moment::Upon(|event| matches!(event, Event::Closing), a_moment),
            6 => Moment::After(a_while / 10),
            _ => Moment::After(a_while),
        }
    }

    /// One process, from its start to its end.
    fn hunt(
        &mut self,
        (round, phases, only_opens): (u32, Option<u32>, bool),
        moment: Moment,
        ending: &mut Ending,
    ) -> Result<()> {
        let trial = Trial {
            log: self.log.clone(),
            copies: self.copies.clone(),
            seed: self.seed,
            round,
            writers: self.writers,
            phases,
            only_opens,
            log_bytes_max: LOG_BYTES_MAX,
            notes: None,
            skips_wait: self.skips_wait,
        };
        let spawned = Prey::spawn("child-torture", &trial);
        let mut prey = spawned.map_err(Error::io("start a child process for", &self.log))?;
        let began = Instant::now();
        // What is waited for may never happen.
        let mut deadline = began
            + match moment {
                Moment::After(time) => time,
                Moment::Upon(..) => self.mean * 10,
                Moment::Never => HANG,
            };
        let (mut has_opened, mut is_killed) = (false, false);
        loop {
            match prey.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    has_opened |= matches!(event, Event::Opened { .. });
                    self.account.heed(event).map_err(|wrong| Error::Trial(Failure::Broken(wrong)))?;
                    match moment {
                        Moment::Upon(is_it, after) if !is_killed && is_it(&event) => {
                            deadline = deadline.min(Instant::now() + after);
                        }
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    prey.kill().map_err(Error::io("kill a child process in", &self.log))?;
                    is_killed = true;
                    deadline = Instant::now() + HANG;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.judge((prey, matches!(moment, Moment::Never) && is_killed), (has_opened, is_killed), ending)
    }

    /// Whether a process ended as it should have.
    fn judge(
        &self,
        (mut prey, hung): (Prey, bool),
        (has_opened, is_killed): (bool, bool),
        ending: &mut Ending,
    ) -> Result<()> {
        let (status, words) = prey.end().map_err(Error::io("hear from a child process in", &self.log))?;
        if hung {
            let told = format!("a process that was not killed did not end within {} s", HANG.as_secs());
            return Err(Error::Trial(Failure::Broken(told)));
        }
        if !status.success() && (!is_killed || !words.is_empty()) {
            return Err(Error::Trial(Failure::Broken(format!("a process ended with {status}: {words}"))));
        }
        ending.ended += u32::from(status.success());
        ending.killed_writing += u32::from(!status.success() && has_opened);
        ending.killed_opening += u32::from(!status.success() && !has_opened);
        Ok(())
    }
}
