//! The ids of operations: whoever asks again with the same id asks for the same thing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::travels_as_text;

/// The id of a put, a delete or a rename: drawn at random by whoever asks first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationId(u128);

/// Text that is no id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadId;

impl OperationId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u128) -> OperationId {
        OperationId(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }

    /// An id that nobody else has.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn random() -> std::io::Result<OperationId> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(OperationId(u128::from_le_bytes(bytes)))
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for OperationId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<OperationId, BadId> {
        let is_hex = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex {
            return Err(BadId);
        }
        u128::from_str_radix(text, 16).map(OperationId).map_err(|_| BadId)
    }
}

travels_as_text!(OperationId, BadId, "not an id: up to 32 hexadecimal digits");
