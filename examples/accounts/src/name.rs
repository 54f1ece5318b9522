//! The names of accounts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The fewest characters of a name.
const CHARS_MIN: usize = 3;
/// The most characters of a name.
const CHARS_MAX: usize = 32;

/// A name that an account can have: lower-case letters, digits, `_` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Name(String);

/// Why a text is no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadName;

impl Name {
    /// The name that somebody has typed: capitals are taken for small letters, so that nobody can pass for another.
    pub(crate) fn typed(text: &str) -> Result<Name, BadName> {
        let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
        match (CHARS_MIN..=CHARS_MAX).contains(&text.len()) && text.chars().all(is_part) {
            true => Ok(Name(text.to_ascii_lowercase())),
            false => Err(BadName),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name has {CHARS_MIN} to {CHARS_MAX} letters, digits, _ or -")
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Name, BadName> {
        Name::typed(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_make_no_other_name() {
        assert_eq!(Name::typed("Ada-1_x").unwrap(), Name::typed("ada-1_x").unwrap());
    }

    #[test]
    fn what_is_too_short_too_long_or_strange_is_no_name() {
        for text in ["", "ab", "a b", "a\nb", "ad\u{e4}", &"a".repeat(33), "a/b", "<b>"] {
            assert_eq!(Name::typed(text), Err(BadName), "{text:?}");
        }
        assert!(Name::typed(&"a".repeat(32)).is_ok());
    }
}
