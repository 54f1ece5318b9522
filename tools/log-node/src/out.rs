//! Standard output, of which the reader may go away at any time.

use std::path::Path;

use crate::error::{Error, Result};

/// Writes `text` to standard output, and gives whether somebody still reads it. A reader who has seen enough is no
/// error.
pub(crate) fn print(text: &str) -> Result<bool> {
    write(text.as_bytes())
}

/// The same for bytes as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<bool> {
    annals_terminal::write(bytes).map_err(Error::path("write to", Path::new("standard output")))
}
