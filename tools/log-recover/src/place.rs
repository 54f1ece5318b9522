//! The directory of a log, and how to name it to people and shells.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use annals::disk::{Disk, RealDisk};
use annals_terminal::quoted;

use crate::error::{Error, Result};

/// A directory that is there, and is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// As it was named.
    pub(crate) dir: PathBuf,
    /// Its files.
    pub(crate) disk: Arc<dyn Disk>,
}

impl Place {
    /// Opens the directory, for looking only.
    pub(crate) fn open(dir: &Path) -> Result<Place> {
        let disk = RealDisk::open(dir).map_err(Error::path("open", dir))?;
        Ok(Place { dir: dir.to_owned(), disk: Arc::new(disk) })
    }

    /// The command line of `log-recover` for this log.
    pub(crate) fn command(&self, name: &str, arguments: &str) -> String {
        command(name, &self.dir, arguments)
    }

    /// The path of one of its files, for people.
    pub(crate) fn file(&self, name: &str) -> String {
        shown(&self.dir.join(name).to_string_lossy())
    }

    /// Bytes that can still be written to the file system, where it tells.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The command line of `log-recover` for the log in `dir`.
pub(crate) fn command(name: &str, dir: &Path, arguments: &str) -> String {
    let space = if arguments.is_empty() { "" } else { " " };
    format!("log-recover {name} {}{space}{arguments}", quoted(&dir.to_string_lossy()))
}

/// A name that somebody else chose, without what a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    let shown = |char: char| match char {
        '\\' => "\\\\".to_owned(),
        char if char.escape_debug().count() > 1 && !"'\"".contains(char) => char.escape_debug().to_string(),
        char => char.to_string(),
    };
    if text.is_ascii() && !text.chars().any(|char| char.is_control() || char == '\\') {
        return text.to_owned();
    }
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_command_a_terminal() {
        assert_eq!(shown("00000000000000000001.seg"), "00000000000000000001.seg");
        assert_eq!(shown("\u{1b}[2Jx\\"), "\\u{1b}[2Jx\\\\");
        assert_eq!(shown("it's"), "it's");
    }
}
