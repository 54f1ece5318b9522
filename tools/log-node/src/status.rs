//! The exit status.

use std::process::ExitCode;

/// What became of a command, as scripts read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// It did what it was asked to.
    Done,
    /// `status`: something is not as it should be. `dev`: a replica has ended by itself.
    Unwell,
    /// Nobody knows whether it was done.
    Unknown,
    /// It could not be done.
    Refused,
    /// The command line or the configuration makes no sense.
    Usage,
    /// A signal ended it.
    Stopped,
}

impl Status {
    /// The number that the process ends with.
    pub(crate) fn number(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Unwell => 1,
            Status::Unknown => 2,
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
