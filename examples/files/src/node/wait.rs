//! Waiting until this node shows what a reader has to see.

use std::time::Duration;

use annals::Lsn;
use annals::node::Replica;

/// How long a reader waits for a node that lags: then another node is quicker.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// Waits until all records up to this one are applied. Whether they are.
pub(super) fn applied(replica: &Replica, at: Lsn) -> bool {
    replica.applied(at).is_ok_and(|applied| applied.wait_timeout(BEHIND_MAX).is_ok())
}
