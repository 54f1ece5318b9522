//! What `log-node` and `log-recover` write to a terminal: tables, words for a shell, and output whose reader may go away
//! at any time.

mod shell;
mod table;

use std::io::{self, Write};

pub use shell::quoted;
pub use table::Table;

/// Writes bytes to standard output, and gives whether somebody still reads it. A reader who has seen enough is no error.
///
/// # Errors
/// Whatever else the operating system says.
pub fn write(bytes: &[u8]) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    has_reader(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Whether somebody still reads, by what writing to it has come to.
///
/// # Errors
/// Whatever the operating system said but that nobody reads.
pub fn has_reader(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
