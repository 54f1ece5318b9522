//! stub
use super::engine::Engine; use std::sync::Arc; use crate::error::Result;
use super::{Log, LogOptions};
use super::store::Store; use super::segments::Segments; use super::superblock_file::SuperblockFile;
use super::commit::Start; use crate::types::*; use crate::disk::*; use crate::format::*; use crate::segment::Tail;
#[derive(Debug)]
pub(crate) struct Shared { engine: Arc<Engine> }
impl Shared { pub(crate) fn engine(&self) -> &Engine { &self.engine } pub(crate) fn close(&self) -> Result<()> { self.engine.drain()?; self.engine.close(); Ok(()) } }
impl LogOptions {
    /// stub
    pub fn open(self) -> Result<Log> {
        let options = self.checked()?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::create(&options.dir).unwrap());
        let log_id = LogId::new(7);
        let method = options.write_method.unwrap_or(WriteMethod::Direct);
        let store = Store::new(disk, options.clone(), SuperblockFile(Superblock::new(log_id, method)), Segments, 1);
        let spare = super::prepare::make_spare(&store, options.segment_bytes, true, &|_| true)?.unwrap();
        let header = SegmentHeader { log_id, incarnation: spare.incarnation, segment_id: SegmentId::FIRST, first_lsn: Lsn::FIRST, epoch: Epoch::FIRST, previous_digest: Digest::ZERO, segment_bytes: spare.segment_bytes, footer_bytes: spare.footer_bytes() };
        let tail = Arc::new(Tail::begin(spare, header));
        let start = Start { log_id, epoch: Epoch::FIRST, next_lsn: Lsn::FIRST, tail, end: BLOCK_BYTES as u64, last_block: None };
        let depth = options.depth;
        let engine = Arc::new(Engine::new(store, start));
        { let mut commit = engine.commit(); let _ = engine.reopen(&mut commit); }
        for _ in 0..depth { let e = Arc::clone(&engine); std::thread::spawn(move || e.run_flusher()); }
        let e = Arc::clone(&engine); std::thread::spawn(move || super::prepare::run(&e));
        let e = Arc::clone(&engine); std::thread::spawn(move || super::keep::run(&e));
        Ok(Log::new(Arc::new(Shared { engine })))
    }
}
