//! What the tests of the engine share.

pub(crate) mod author;
pub(crate) mod ledger;
pub(crate) mod mender;
#[path = "../../support/payload.rs"]
mod payload;
pub(crate) mod script;
#[path = "../../support/seeds.rs"]
pub(crate) mod seeds;
#[path = "../../support/small.rs"]
pub(crate) mod small;

use std::time::Duration;

/// For what comes within a moment, and on the slowest machine within this; only ends a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
