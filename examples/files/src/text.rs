//! What travels as text: in JSON, and on the command line.

/// A kind of which JSON has the text that its `Display` writes and its `FromStr` reads, and the error of a text that is none.
macro_rules! travels_as_text {
    ($kind:ident, $bad:ident, $why:literal) => {
        impl TryFrom<String> for $kind {
            type Error = $bad;

            fn try_from(text: String) -> Result<$kind, $bad> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(kind: $kind) -> String {
                kind.to_string()
            }
        }

        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::Display for $bad {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($why)
            }
        }

        impl std::error::Error for $bad {}
    };
}
pub(crate) use travels_as_text;
