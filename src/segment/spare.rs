//! A file that is ready to become a segment.

use std::sync::Arc;

use crate::disk::{DurableWriter, File};
use crate::format::{Incarnation, footer_bytes_for};

/// A prepared file: allocated, its name durable, its header block blank.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) name: Arc<str>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) writer: Box<dyn DurableWriter>,
    pub(crate) incarnation: Incarnation,
    pub(crate) segment_bytes: u64,
}

impl Spare {
    /// Bytes that the footer takes at the end of the file.
    pub(crate) fn footer_bytes(&self) -> u64 {
        footer_bytes_for(self.segment_bytes)
    }

    /// Where the data region ends.
    pub(crate) fn data_end(&self) -> u64 {
        self.segment_bytes - self.footer_bytes()
    }
}
