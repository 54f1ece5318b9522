//! Numbers that nobody can guess: session tokens, what the log has in their place, and the numbers of requests.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The bytes of a session token.
const TOKEN_BYTES: usize = 32;

/// What a user shows to be recognized again. It has no `Debug`, so that no log can show it.
pub(crate) struct Token([u8; TOKEN_BYTES]);

/// The SHA-256 of a token: who finds it in the log cannot make a token of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TokenHash([u8; 32]);

/// The number of a request, drawn at random by whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RequestId([u8; 16]);

/// A text that is not the number it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadNumber;

impl Token {
    /// A new one.
    pub(crate) fn draw() -> Token {
        Token(drawn())
    }

    /// The token that somebody shows.
    pub(crate) fn shown(text: &str) -> Option<Token> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Token)
    }

    /// As it is given to the user.
    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0).into())
    }
}

impl RequestId {
    /// A new one.
    pub(crate) fn draw() -> RequestId {
        RequestId(drawn())
    }
}

fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], BadNumber> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(BadNumber);
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| BadNumber)?;
    }
    Ok(bytes)
}

impl fmt::Display for BadNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a number in as many hexadecimal digits as it should have")
    }
}

impl AsRef<[u8]> for TokenHash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Both travel as hexadecimal digits.
macro_rules! as_hex {
    ($($number:ident)*) => {$(
        impl TryFrom<String> for $number {
            type Error = BadNumber;

            fn try_from(text: String) -> Result<$number, BadNumber> {
                unhex(&text).map($number)
            }
        }

        impl From<$number> for String {
            fn from(number: $number) -> String {
                hex(&number.0)
            }
        }

        impl fmt::Debug for $number {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }
    )*};
}
as_hex!(TokenHash RequestId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_no_other_text_is_one() {
        let token = Token::draw();
        assert_eq!(Token::shown(&token.text()).map(|shown| shown.hash()), Some(token.hash()));
        for text in ["", "abc", &token.text()[1..], &format!("{}A", token.text()), "\u{e4}"] {
            assert!(Token::shown(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_request_number_is_32_digits() {
        let id = RequestId::draw();
        assert_eq!(RequestId::try_from(String::from(id)), Ok(id));
        for text in ["", "12", &"g".repeat(32), &"1".repeat(31), &"\u{e4}".repeat(16)] {
            assert_eq!(RequestId::try_from(text.to_owned()), Err(BadNumber), "{text}");
        }
    }
}
