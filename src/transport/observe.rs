//! Events of the connections between replicas, for whoever listens; nothing where the feature is off.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "told to nobody"))]

use super::error::TransportError;
use crate::types::ReplicaId;

/// There is no connection to a peer, for a reason that is not the one of the last attempt.
pub(crate) fn cannot_connect(me: ReplicaId, peer: ReplicaId, error: &TransportError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(replica = me.get(), peer = peer.get(), %error, "no connection to a peer; will try again");
}

/// There is one again.
pub(crate) fn connects_again(me: ReplicaId, peer: ReplicaId) {
    #[cfg(feature = "tracing")]
    tracing::info!(replica = me.get(), peer = peer.get(), "connected to the peer again");
}
