//! stub
use std::sync::Arc;
use crate::error::Result;
use crate::segment::{Tail, Sealed};
use crate::types::Lsn;
use super::record::Record;
#[derive(Debug, Default)]
pub(crate) struct Segments;
#[derive(Debug)]
pub(crate) struct Gone { pub(crate) name: Arc<str>, pub(crate) bytes: u64 }
impl Gone { pub(crate) fn is_pinned(&self) -> bool { false } }
impl Segments {
    pub(crate) fn add_tails(&self, _: Vec<Arc<Tail>>) {}
    pub(crate) fn unsealed(&self) -> Vec<(Arc<Tail>, Arc<Tail>)> { Vec::new() }
    pub(crate) fn sealed(&self, _: Sealed) {}
    pub(crate) fn first_lsn(&self) -> Lsn { Lsn::FIRST }
    pub(crate) fn first_at_or_before(&self, _: Lsn) -> Lsn { Lsn::FIRST }
    pub(crate) fn trim(&self, _: Lsn) -> Vec<Gone> { Vec::new() }
    pub(crate) fn first_of_newest(&self, _: u64) -> Lsn { Lsn::FIRST }
    pub(crate) fn first_sealed_since(&self, _: u64) -> Lsn { Lsn::FIRST }
    pub(crate) fn read(&self, _: Lsn, _: Lsn) -> Result<Record> { panic!() }
}
