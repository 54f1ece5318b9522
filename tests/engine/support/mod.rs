//! What the tests of the engine share.

pub(crate) mod author;
pub(crate) mod ledger;
pub(crate) mod mender;
pub(crate) mod script;
#[path = "../../support/seeds.rs"]
pub(crate) mod seeds;
