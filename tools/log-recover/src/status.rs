//! The exit status.

use std::process::ExitCode;

use annals::repair::Report;

/// What became of a command, as scripts read it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Status {
    /// The log is whole, or the command did what it was asked to.
    Whole,
    /// Damaged, but no acknowledged record is lost.
    Damaged,
    /// Acknowledged records are lost or cannot be read.
    Lost,
    /// It could not be done.
    Refused,
    /// The command line makes no sense.
    Usage,
    /// A signal ended it.
    Stopped,
}

impl Status {
    /// How the log is by what was found in it. What an earlier repair gave up is no damage.
    pub(crate) fn of(report: &Report) -> Status {
        match () {
            () if !report.lost.is_empty() => Status::Lost,
            () if report.is_whole() => Status::Whole,
            () => Status::Damaged,
        }
    }

    /// The number that the process ends with.
    pub(crate) fn number(self) -> u8 {
        match self {
            Status::Whole => 0,
            Status::Damaged => 1,
            Status::Lost => 2,
            Status::Refused => 3,
            Status::Usage => 64,
            Status::Stopped => 130,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status.number())
    }
}
