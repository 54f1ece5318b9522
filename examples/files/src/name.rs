//! Names of files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The name of a file in the store: parts with `/` between them, such as `notes/2026/file.txt`.
///
/// It is never a path on a node's disk; but `get` may make one of it, so what would climb out of a directory, or what a
/// terminal would obey, is no name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// Why something is no name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadName {
    name: String,
    why: &'static str,
}

impl FileName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands after the last `/`.
    #[must_use]
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl TryFrom<String> for FileName {
    type Error = BadName;

    fn try_from(name: String) -> Result<FileName, BadName> {
        let why = if name.is_empty() {
            "it is empty"
        } else if name.len() > NAME_BYTES_MAX {
            "it has more than 255 bytes"
        } else if name.chars().any(|char| char.is_control() || char == '\\') {
            "it has a control character or a backslash in it"
        } else if name.split('/').any(str::is_empty) {
            "it begins or ends with a slash, or has two of them in a row"
        } else if name.split('/').any(|part| matches!(part, "." | "..")) {
            "it has a part that is '.' or '..'"
        } else {
            return Ok(FileName(name));
        };
        Err(BadName { name: name.chars().take(40).collect(), why })
    }
}

impl FromStr for FileName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<FileName, BadName> {
        FileName::try_from(name.to_owned())
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> String {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no name for a file: {}", self.name, self.why)
    }
}

impl std::error::Error for BadName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_climb_or_confuse_are_refused() {
        for bad in ["", "/", "/etc/passwd", "a/", "a//b", "..", "a/../b", "./a", "a\nb", "a\u{1b}[2J", "a\\b"]
        {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(NAME_BYTES_MAX + 1).parse::<FileName>().is_err());
        for good in ["file.txt", "a/b c/d", "...", ".hidden", &"x".repeat(NAME_BYTES_MAX)] {
            assert_eq!(good.parse::<FileName>().unwrap().as_str(), good);
        }
        assert_eq!("a/b.txt".parse::<FileName>().unwrap().last_part(), "b.txt");
        assert!(serde_json::from_str::<FileName>("\"../x\"").is_err());
    }
}
