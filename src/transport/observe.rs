//! Metrics and events of connections and certificates, for whoever listens; nothing where the features are off.

#![cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "told to nobody")
)]

use std::time::SystemTime;

use super::error::TransportError;
use super::expiry::Standing;
use super::refusals::Reason;
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

/// A connection was refused or cut off.
pub(crate) fn refused(reason: Reason) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_refused_connections_total", "reason" => reason.as_str()).increment(1);
}

/// When this replica's certificate ends, and whether that is soon.
pub(crate) fn certificate(me: ReplicaId, end: SystemTime, standing: Standing) {
    #[cfg(feature = "metrics")]
    {
        let since_1970 = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics::gauge!("annals_certificate_end_timestamp_seconds").set(since_1970.as_secs_f64());
    }
    #[cfg(feature = "tracing")]
    match standing {
        Standing::Good => {}
        Standing::Ending { days_left } => {
            tracing::warn!(
                replica = me.get(),
                days_left,
                "the certificate ends soon; renew it, and have it read again"
            );
        }
        Standing::Over => {
            tracing::error!(
                replica = me.get(),
                "the certificate has ended, and connections are refused; renew it, and have it read again"
            );
        }
    }
}
