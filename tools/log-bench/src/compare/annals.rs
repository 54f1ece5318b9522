//! annals with default options.

use std::path::Path;

use super::Workload;
use crate::drive::{Measured, drive};
use crate::engine::{Annals, Settings};
use crate::error::{Error, Result};

pub(super) const CONFIGURATION: &str = "default options";

/// One run on a fresh log in `dir`.
pub(super) fn run(workload: &Workload, dir: &Path, name: &str) -> Result<Measured> {
    let log = Settings::default().open(dir)?;
    let measured = drive(&Annals(&log), &workload.plan, &workload.records, name)?;
    log.close().map_err(Error::log("close"))?;
    Ok(measured)
}
