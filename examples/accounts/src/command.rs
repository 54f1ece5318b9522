//! What a record of the log says, and how it is written: JSON, so that `log-node tail` shows what happened.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::token::{RequestId, TokenHash};

/// The newest version that is known. What is newer was written by a newer program: it must be applied, and cannot be here.
const VERSION: u8 = 2;
/// A record has at most so many bytes: a name, a hash, and a few numbers.
const RECORD_BYTES_MAX: usize = 1024;

/// A record of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    version: u8,
    /// Drawn by the node that wrote it, which waits for what comes of it.
    pub(crate) nonce: RequestId,
    /// When it was written, in milliseconds since 1970. All time in the state comes from here.
    pub(crate) at_ms: u64,
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    /// A new account, if the name is free.
    Register {
        /// The name.
        name: Name,
        /// The password's hash, with its salt and its cost.
        hash: String,
        /// The client's number of its request: the same again is the same request.
        request: RequestId,
    },
    /// A session, if the password is still the one that was checked.
    OpenSession {
        /// Whose.
        name: Name,
        /// How often the password had been changed when it was checked.
        changes: u64,
        /// The hash of its token.
        token: TokenHash,
        /// When it is over, in milliseconds since 1970.
        until_ms: u64,
        /// Another hash of the same password, if the account's has another cost than those of now. Since version 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rehashed: Option<String>,
    },
    /// The end of a session.
    CloseSession {
        /// The hash of its token.
        token: TokenHash,
    },
    /// Another password, if the old one is still the one that was checked. All sessions end but one.
    ChangePassword {
        /// Whose.
        name: Name,
        /// How often the password had been changed when the old one was checked.
        changes: u64,
        /// The new one's hash.
        hash: String,
        /// The session that stays: the one which asks.
        keep: TokenHash,
        /// The client's number of its request: the same again is the same request.
        request: RequestId,
    },
}

/// A record that this program cannot apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadRecord {
    /// It is larger than anything that is written here.
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not what is written here.
    Unreadable {
        /// Where, and what was expected.
        reason: String,
    },
    /// A newer program has written it.
    Newer {
        /// Its version.
        version: u8,
    },
}

impl Command {
    /// The oldest version in which it can be said: so that older programs go on as long as they can.
    fn version(&self) -> u8 {
        match self {
            Command::OpenSession { rehashed: Some(_), .. } => 2,
            _ => 1,
        }
    }
}

impl Entry {
    /// A record that is written now.
    pub(crate) fn new(at_ms: u64, command: Command) -> Entry {
        Entry { version: command.version(), nonce: RequestId::draw(), at_ms, command }
    }

    /// The record's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes = serde_json::to_vec(self).expect("texts and numbers can be written");
        assert!(bytes.len() <= RECORD_BYTES_MAX, "a record that can be read again");
        bytes
    }

    /// Reads a record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Entry, BadRecord> {
        #[derive(Deserialize)]
        struct Head {
            version: u8,
        }
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(BadRecord::TooLarge { bytes: bytes.len() });
        }
        let unreadable = |error: serde_json::Error| BadRecord::Unreadable { reason: error.to_string() };
        let Head { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if version > VERSION {
            return Err(BadRecord::Newer { version });
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRecord::TooLarge { bytes } => write!(
                f,
                "a record has {bytes} bytes, more than any of this program; who else writes to this cluster?"
            ),
            BadRecord::Unreadable { reason } => {
                write!(f, "a record is not of this program ({reason}); who else writes to this cluster?")
            }
            BadRecord::Newer { version } => write!(
                f,
                "a record has version {version}, and this program knows {VERSION}; start a newer program here"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    #[test]
    fn what_is_written_is_read_again_and_fits() {
        let name = Name::typed(&"n".repeat(32)).unwrap();
        let (hash, request, token) = ("h".repeat(160), RequestId::draw(), Token::draw().hash());
        let (changes, until_ms) = (u64::MAX, u64::MAX);
        let open = |rehashed| Command::OpenSession { name: name.clone(), changes, token, until_ms, rehashed };
        let commands = [
            (1, Command::Register { name: name.clone(), hash: hash.clone(), request }),
            (1, open(None)),
            (2, open(Some(hash.clone()))),
            (1, Command::CloseSession { token }),
            (1, Command::ChangePassword { name: name.clone(), changes, hash, keep: token, request }),
        ];
        for (version, command) in commands {
            let entry = Entry::new(u64::MAX, command);
            assert_eq!(entry.version, version, "what older programs know has their version");
            assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        }
    }

    #[test]
    fn a_newer_record_and_a_strange_one_are_two_errors() {
        let newer = br#"{"version":3,"something":"else"}"#;
        assert_eq!(Entry::decode(newer), Err(BadRecord::Newer { version: 3 }));
        assert!(matches!(Entry::decode(b"hello"), Err(BadRecord::Unreadable { .. })));
        assert!(matches!(Entry::decode(br#"{"version":1}"#), Err(BadRecord::Unreadable { .. })));
        assert_eq!(Entry::decode(&[b' '; 2000]), Err(BadRecord::TooLarge { bytes: 2000 }));
    }
}
