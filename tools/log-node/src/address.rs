//! Who is where, and who is preferred, as it is written on a command line or in a configuration.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use annals::{ClusterId, ReplicaId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::size::as_text;

/// A replica and its address: `1=10.0.0.1:7100`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    pub(crate) id: ReplicaId,
    pub(crate) address: String,
}

/// A replica and its priority: `2=10`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Preference {
    pub(crate) id: ReplicaId,
    pub(crate) priority: u8,
}

/// The cluster's id: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cluster(pub(crate) ClusterId);

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let advice = || format!("expected ID=HOST:PORT, such as 1=10.0.0.1:7100, not {text:?}");
        let (id, address) = text.split_once('=').ok_or_else(advice)?;
        let id = replica_id(id).map_err(|_| advice())?;
        let address = endpoint(address).map_err(|_| advice())?;
        Ok(Peer { id, address })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.id, self.address)
    }
}

impl FromStr for Preference {
    type Err = String;

    fn from_str(text: &str) -> Result<Preference, String> {
        let parts = text.split_once('=');
        let read = parts.and_then(|(id, priority)| {
            Some(Preference { id: replica_id(id).ok()?, priority: priority.trim().parse().ok()? })
        });
        read.ok_or_else(|| {
            format!("expected ID=PRIORITY, such as 2=10, with a priority up to 255, not {text:?}")
        })
    }
}

impl fmt::Display for Preference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.id, self.priority)
    }
}

impl FromStr for Cluster {
    type Err = String;

    fn from_str(text: &str) -> Result<Cluster, String> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|&number| is_id && number > 0);
        let advice = || "expected the 32 hexadecimal digits that `log-node certs` has printed".to_owned();
        number.map(|number| Cluster(ClusterId::new(number))).ok_or_else(advice)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Peer);
as_text!(Preference);
as_text!(Cluster);

/// A replica's number, from 1.
pub(crate) fn replica_id(text: &str) -> Result<ReplicaId, String> {
    match text.trim().parse() {
        Ok(number) if number > 0 => Ok(ReplicaId::new(number)),
        _ => Err("expected a replica's number, from 1".to_owned()),
    }
}

/// A record's LSN, from 1.
pub(crate) fn lsn(text: &str) -> Result<NonZeroU64, String> {
    text.trim().parse().map_err(|_| "expected the number of a record, from 1".to_owned())
}

/// `HOST:PORT`, as it is: names are looked up when they are needed.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim();
    let parts = text.rsplit_once(':');
    let is_sound = parts.is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_sound { Ok(text.to_owned()) } else { Err(format!("expected HOST:PORT, not {text:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read_as_they_are_written() {
        for text in ["1=127.0.0.1:7101", "7=db7.example:7100", "2=[::1]:7102"] {
            assert_eq!(text.parse::<Peer>().unwrap().to_string(), text);
        }
        for text in ["", "1", "0=a:1", "a:1", "1=a", "1=:5", "1=a:0", "1=a:99999", "x=a:1", "1=a b:5"] {
            assert!(text.parse::<Peer>().is_err(), "{text}");
        }
    }

    #[test]
    fn priorities_are_read_as_they_are_written() {
        for text in ["1=0", "2=10", "7=255"] {
            assert_eq!(text.parse::<Preference>().unwrap().to_string(), text);
        }
        for text in ["", "2", "0=1", "2=", "=1", "2=256", "2=-1", "2=x", "x=2", "2=1=1"] {
            let error = text.parse::<Preference>().unwrap_err();
            assert!(error.contains("expected ID=PRIORITY"), "{text}: {error}");
        }
    }

    #[test]
    fn a_cluster_has_32_digits_and_is_not_zero() {
        let text = "00000000000000000000000000000abc";
        assert_eq!(text.parse::<Cluster>().unwrap().to_string(), text);
        for text in ["", "abc", "00000000000000000000000000000000", "+0000000000000000000000000000abc"] {
            assert!(text.parse::<Cluster>().is_err(), "{text}");
        }
    }
}
