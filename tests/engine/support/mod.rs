//! What the tests of the engine share.

pub(crate) mod author;
pub(crate) mod ledger;
pub(crate) mod script;
pub(crate) mod seeds;
