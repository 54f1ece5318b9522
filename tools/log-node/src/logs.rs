//! What a replica logs, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::error::{Error, Result};
use crate::settings::LogFormat;

/// From now on, events go to standard error. May be done once in a process.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| Error::BadSetting {
        reason: format!("log_level {filter:?} makes no sense: {error}; use a word such as info"),
    })?;
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => events.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => events.json().flatten_event(true).init(),
    }
    Ok(())
}
