//! stub
use super::engine::Engine; use crate::types::Lsn; use crate::error::Result;
impl Engine { pub(crate) fn truncate(&self, _: Lsn) -> Result<()> { Ok(()) } }
