//! Standard output, of which the reader may go away at any time.

use std::io::{self, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `text` to standard output, and gives whether somebody still reads it. A reader who has seen enough is no
/// error.
pub(crate) fn print(text: &str) -> Result<bool> {
    write(text.as_bytes())
}

/// The same for bytes as they are.
pub(crate) fn write(bytes: &[u8]) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::path("write to", Path::new("standard output"))(error)),
    }
}

/// As one word of a shell's command line.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || "/._-+:,@%=".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_shell_is_quoted_where_it_must_be() {
        assert_eq!(quoted("cluster/client.toml"), "cluster/client.toml");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
