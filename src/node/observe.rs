//! Metrics and events, by the facades that a program may listen to; nothing where the features are off.
//!
//! Called for roles, snapshots and failures, and for groups at most; never for a record.

#![cfg_attr(
    not(any(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "told to nobody")
)]

use std::time::Duration;

use crate::error::Error;
use crate::node::error::ReplicaError;
use crate::protocol::request::DiskHealth;
use crate::protocol::{Contents, Halt, Member, Role};
use crate::types::{Epoch, Lsn, LsnRange, ReplicaId};

/// The role, the epoch or the primary has changed.
pub(crate) fn became(me: Member, role: Role, epoch: Epoch, primary: Option<ReplicaId>) {
    #[cfg(feature = "metrics")]
    {
        metrics::gauge!("annals_epoch").set(epoch.get() as f64);
        metrics::gauge!("annals_is_primary").set(f64::from(u8::from(role == Role::Primary)));
        metrics::counter!("annals_role_changes_total").increment(1);
    }
    #[cfg(feature = "tracing")]
    tracing::info!(
        replica = me.id.get(),
        %role,
        epoch = epoch.get(),
        primary = primary.map(ReplicaId::get),
        "the role has changed"
    );
}

/// More is committed.
pub(crate) fn committed(lsn: Lsn) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("annals_committed_lsn").set(lsn.get() as f64);
}

/// A group of this primary is committed, so long after it was written and sent.
pub(crate) fn group_committed(took: Duration) {
    #[cfg(feature = "metrics")]
    metrics::histogram!("annals_commit_seconds").record(took);
}

/// More was applied.
pub(crate) fn applied(lsn: Lsn) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("annals_applied_lsn").set(lsn.get() as f64);
}

/// The replica does nothing any more.
pub(crate) fn halted(me: Member, halt: Halt) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_halts_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(replica = me.id.get(), ?halt, "the replica has halted");
}

/// A task of the disk has failed.
pub(crate) fn disk_failed(me: Member, error: &Error) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_disk_failures_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(replica = me.id.get(), %error, "the disk has failed; the log is opened again");
}

/// The store was opened again, or not.
pub(crate) fn reopened(me: Member, error: Option<&dyn std::fmt::Display>) {
    #[cfg(feature = "tracing")]
    match error {
        None => tracing::info!(replica = me.id.get(), "the log was opened again"),
        Some(error) => {
            tracing::error!(replica = me.id.get(), %error, "the log cannot be opened; will try again")
        }
    }
}

/// The disk has changed its condition.
pub(crate) fn disk_health(me: Member, health: DiskHealth) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("annals_disk_is_good").set(f64::from(u8::from(health == DiskHealth::Good)));
    #[cfg(feature = "tracing")]
    match health {
        DiskHealth::Good => tracing::info!(replica = me.id.get(), "the disk does what it should"),
        other => tracing::warn!(replica = me.id.get(), health = %other, "the disk is not well"),
    }
}

/// The newest snapshot does not check, and was put aside: another one comes from a peer.
pub(crate) fn base_lost() {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_unreadable_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(
        "the newest snapshot does not check, and was put aside; this replica gets another one from its peers, and does \
         not vote before"
    );
}

/// What was the newest snapshot is not kept beside the one that is, or one too many stays: neither is needed for anything.
pub(crate) fn not_kept(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(%error, "an older snapshot could not be kept, or removed; nothing else depends on it");
}

/// A record that should be there could not be read.
pub(crate) fn doubted(me: Member, error: &Error) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_unreadable_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(replica = me.id.get(), %error, "records cannot be read; the whole log is looked at");
}

/// The state machine takes no more records.
pub(crate) fn not_applied(error: &ReplicaError) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_apply_failures_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(%error, "the state machine is given no more records until another snapshot comes");
}

/// The state machine has refused a record.
pub(crate) fn refused(lsn: Lsn, error: &std::io::Error) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_apply_failures_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(lsn = lsn.get(), %error, "the state machine has refused a record; it is given it again in a second");
}

/// A record that is to be applied could not be read.
pub(crate) fn not_read(error: &Error) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_apply_failures_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(%error, "records cannot be read for the state machine; tried again in a second");
}

/// The background check could not look through a segment; it is not known to be damaged.
pub(crate) fn scrub_postponed(error: &Error) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_scrub_failures_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::warn!(%error, "a segment could not be looked through; tried again in the next pass");
}

/// A snapshot was taken, or not.
pub(crate) fn snapshot(me: Member, lsn: Lsn, outcome: &Result<Contents, ReplicaError>) {
    #[cfg(feature = "metrics")]
    match outcome {
        Ok(Contents { bytes, .. }) => {
            metrics::counter!("annals_snapshots_total").increment(1);
            metrics::gauge!("annals_snapshot_bytes").set(*bytes as f64);
        }
        Err(_) => metrics::counter!("annals_snapshot_failures_total").increment(1),
    }
    #[cfg(feature = "tracing")]
    match outcome {
        Ok(Contents { bytes, .. }) => {
            tracing::info!(replica = me.id.get(), lsn = lsn.get(), bytes, "a snapshot was taken")
        }
        Err(error) => tracing::warn!(replica = me.id.get(), lsn = lsn.get(), %error, "no snapshot was taken"),
    }
}

/// A snapshot of a peer is what the log begins with now.
pub(crate) fn installed(me: Member, lsn: Lsn) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_snapshots_installed_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::info!(replica = me.id.get(), lsn = lsn.get(), "a snapshot of the primary was installed");
}

/// Another replica is found elsewhere.
pub(crate) fn moved(me: Member, id: ReplicaId, address: &str) {
    #[cfg(feature = "tracing")]
    tracing::info!(replica = me.id.get(), peer = id.get(), address, "a peer has said where it is found");
}

/// Where the others are found could not be stored.
pub(crate) fn peers_not_kept(error: &ReplicaError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(%error, "the addresses of the others could not be stored");
}

/// A thread of the replica has panicked.
pub(crate) fn died(me: Member, thread: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_panics_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::error!(
        replica = me.id.get(),
        thread,
        "a thread of the replica has panicked; start the process again"
    );
}

/// Records that were lost are back from a peer (S11).
pub(crate) fn mended(me: Member, range: LsnRange) {
    #[cfg(feature = "metrics")]
    metrics::counter!("annals_mended_records_total").increment(range.records());
    #[cfg(feature = "tracing")]
    tracing::warn!(
        replica = me.id.get(),
        first = range.first.get(),
        last = range.last.get(),
        "records that were lost are back from a peer"
    );
}
