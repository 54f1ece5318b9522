//! What lets a replica say of its former process's connections that nobody has them any more: QUIC's stateless reset
//! (RFC 9000, section 10.3).
//!
//! A replica that was killed and started again at once knows nothing of its connections, and its port is open: without a
//! word from it the others would wait for `idle_max`. The word is a token that only this replica can have told them, and
//! that can be computed again from the connection's id: so the key for that, and the one by which a replica knows its own
//! ids again, are derived from what outlives the process, its private key.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use quinn_proto::InvalidCid;
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};

use super::identity::Identity;

/// Apart from whatever else a private key is used for.
const SALT: &[u8] = b"annals stateless reset, version 1";
/// Who knows the key of the ids must not know the one of the tokens.
const FOR_TOKENS: &[u8] = b"tokens of ";
const FOR_IDS: &[u8] = b"connection ids of ";

/// No two connections have one id, of all processes of the replica together: what a token was told for may be in use.
const RANDOM_BYTES: usize = 8;
/// How an id is known again. Nobody else can make one, and have its token told before it is in use.
const MARK_BYTES: usize = 8;
const ID_BYTES: usize = RANDOM_BYTES + MARK_BYTES;

/// Between two resets, to whomever. A replica with many clients has to tell all of them within moments. Nothing is sent
/// that is not shorter than what came, and only for ids that are known again: noise and loops get none.
const RESET_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// A replica's keys, the same in all its processes as long as its private key stays.
#[derive(Clone)]
pub(crate) struct ResetKeys {
    tokens: hmac::Key,
    ids: hmac::Key,
}

impl ResetKeys {
    /// One-way (HKDF, RFC 5869): they say nothing of the private key. Those of another replica are others, even with the
    /// same private key: what one tells of ids that are not its own must not end a connection of the other.
    pub(crate) fn derive(private_key: &[u8], of: &Identity) -> ResetKeys {
        let root = Salt::new(HKDF_SHA256, SALT).extract(private_key);
        let name = of.name();
        let key = |purpose: &[u8]| derived(&root, &[purpose, name.as_bytes()]);
        ResetKeys { tokens: key(FOR_TOKENS), ids: key(FOR_IDS) }
    }

    /// Has a socket's connections bear ids that are known again, and answers for those that are nobody's any more.
    pub(crate) fn put_into(&self, config: &mut EndpointConfig) {
        let ids = self.ids.clone();
        config
            .reset_key(Arc::new(self.tokens.clone()))
            .cid_generator(move || Box::new(Ids { key: ids.clone(), random: SystemRandom::new() }))
            .min_reset_interval(RESET_INTERVAL_MIN);
    }
}

fn derived(root: &Prk, purpose: &[&[u8]]) -> hmac::Key {
    root.expand(purpose, HMAC_SHA256).expect("as long as one digest").into()
}

/// Makes ids of connections: random bytes, and the key's mark on them.
struct Ids {
    key: hmac::Key,
    random: SystemRandom,
}

impl Ids {
    fn mark(&self, random: &[u8; RANDOM_BYTES]) -> [u8; MARK_BYTES] {
        let signed = hmac::sign(&self.key, random);
        *signed.as_ref().first_chunk().expect("a digest of 32 bytes")
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut random = [0; RANDOM_BYTES];
        self.random.fill(&mut random).expect("the operating system has random bytes");
        ConnectionId::new(&[random, self.mark(&random)].concat())
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (random, mark) = id.split_first_chunk::<RANDOM_BYTES>().ok_or(InvalidCid)?;
        let mark: &[u8; MARK_BYTES] = mark.try_into().map_err(|_| InvalidCid)?;
        // As numbers, and not byte by byte: how long it takes must not tell how much of a guess was right.
        let is_ours = u64::from_ne_bytes(self.mark(random)) == u64::from_ne_bytes(*mark);
        is_ours.then_some(()).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterId, ReplicaId};

    fn keys(private_key: &[u8], cluster: u128, id: u64) -> ResetKeys {
        let (cluster, id) = (ClusterId::new(cluster), ReplicaId::new(id));
        ResetKeys::derive(private_key, &Identity::Replica { cluster, id })
    }

    fn ids(keys: &ResetKeys) -> Ids {
        Ids { key: keys.ids.clone(), random: SystemRandom::new() }
    }

    fn token(keys: &ResetKeys, id: &ConnectionId) -> hmac::Tag {
        hmac::sign(&keys.tokens, id)
    }

    #[test]
    fn what_one_process_has_issued_the_next_one_knows_again() {
        let (before, after) = (keys(b"private", 1, 1), keys(b"private", 1, 1));
        let id = ids(&before).generate_cid();
        assert_eq!(id.len(), ids(&after).cid_len());
        assert!(ids(&after).validate(&id).is_ok());
        assert_eq!(token(&before, &id).as_ref(), token(&after, &id).as_ref());
        assert_ne!(ids(&after).generate_cid(), id);
    }

    #[test]
    fn another_key_replica_or_cluster_knows_nothing_of_it() {
        let mine = keys(b"private", 1, 1);
        let id = ids(&mine).generate_cid();
        for other in [keys(b"another", 1, 1), keys(b"private", 1, 2), keys(b"private", 2, 1)] {
            assert!(ids(&other).validate(&id).is_err());
            assert_ne!(token(&mine, &id).as_ref(), token(&other, &id).as_ref());
        }
    }

    #[test]
    fn an_id_that_is_made_up_is_not_known() {
        let keys = keys(b"private", 1, 1);
        let id = ids(&keys).generate_cid();
        for index in 0..ID_BYTES {
            let mut forged = id.to_vec();
            forged[index] ^= 1;
            assert!(ids(&keys).validate(&ConnectionId::new(&forged)).is_err());
        }
        for bytes in 0..ID_BYTES {
            assert!(ids(&keys).validate(&ConnectionId::new(&id[..bytes])).is_err());
        }
    }

    #[test]
    fn who_knows_the_key_of_the_ids_does_not_know_the_one_of_the_tokens() {
        let keys = keys(b"private", 1, 1);
        let id = ids(&keys).generate_cid();
        assert_ne!(token(&keys, &id).as_ref(), hmac::sign(&keys.ids, &id).as_ref());
    }
}
