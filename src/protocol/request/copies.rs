//! How many copies of a record somebody waits for.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// Which synced copies an append waits for.
///
/// As text, in settings and on command lines, it is `local`, `quorum`, `all`, or a number of copies above 0:
///
/// ```
/// use annals::protocol::request::Copies;
///
/// assert_eq!("2".parse(), Ok(Copies::AtLeast(2)));
/// assert_eq!(Copies::Quorum.to_string(), "quorum");
/// assert!("most".parse::<Copies>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Copies {
    /// The primary's own disk only: weaker than a commit, a failover may lose the record.
    Local,
    /// A write quorum: the record is committed, and no failover loses it.
    #[default]
    Quorum,
    /// Every voter of the membership. If the primary's reign ends while it waits for them, the answer is
    /// [`Refused::Unknown`](super::Refused::Unknown): the record may be committed, and not on all of them. A retry with the same number waits for
    /// them at the next primary.
    All,
    /// So many replicas, and a write quorum at least. The same holds of a reign that ends.
    AtLeast(u8),
}

/// A text that says nothing about copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotCopies;

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Copies::Local => f.write_str("local"),
            Copies::Quorum => f.write_str("quorum"),
            Copies::All => f.write_str("all"),
            Copies::AtLeast(copies) => copies.fmt(f),
        }
    }
}

impl FromStr for Copies {
    type Err = NotCopies;

    fn from_str(text: &str) -> Result<Copies, NotCopies> {
        match text {
            "local" => Ok(Copies::Local),
            "quorum" => Ok(Copies::Quorum),
            "all" => Ok(Copies::All),
            number => match number.parse() {
                Ok(copies @ 1..) => Ok(Copies::AtLeast(copies)),
                _ => Err(NotCopies),
            },
        }
    }
}

impl fmt::Display for NotCopies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected local, quorum, all, or a number of copies")
    }
}

impl Error for NotCopies {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_a_word_or_a_number() {
        for (text, wanted) in [
            ("local", Copies::Local),
            ("quorum", Copies::Quorum),
            ("all", Copies::All),
            ("1", Copies::AtLeast(1)),
            ("255", Copies::AtLeast(255)),
        ] {
            assert_eq!((text.parse(), wanted.to_string().as_str()), (Ok(wanted), text));
        }
        for text in ["", "most", "0", "-1", "256", "1.5", "All"] {
            assert_eq!(text.parse::<Copies>(), Err(NotCopies), "{text}");
        }
    }
}
