//! stub
/// stub
#[derive(Debug)]
pub struct Record;
impl std::ops::Deref for Record { type Target=[u8]; fn deref(&self)->&[u8]{ &[] } }
/// stub
#[derive(Debug)]
pub struct RecordRef;
