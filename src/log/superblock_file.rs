//! stub
use crate::format::Superblock;
use crate::error::Result;
#[derive(Debug)]
pub(crate) struct SuperblockFile(pub(crate) Superblock);
pub(crate) enum Copies { One, Both }
impl SuperblockFile {
    pub(crate) fn current(&self) -> &Superblock { &self.0 }
    pub(crate) fn update(&mut self, _c: Copies, change: impl FnOnce(&mut Superblock)) -> Result<()> { change(&mut self.0); Ok(()) }
}
