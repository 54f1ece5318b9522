//! stub
use std::sync::Arc; use super::Handle; use crate::types::Lsn; use crate::error::Result; use std::ops::RangeBounds;
/// stub
#[derive(Debug)]
pub struct Cursor; 
/// stub
#[derive(Debug)]
pub struct TailCursor;
impl Cursor { pub(crate) fn new(_: Arc<Handle>, _: impl RangeBounds<Lsn>) -> Result<Cursor> { Ok(Cursor) } }
impl TailCursor { pub(crate) fn new(_: Arc<Handle>, _: Lsn) -> Result<TailCursor> { Ok(TailCursor) } }
