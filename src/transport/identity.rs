//! Who a certificate is for: its name says it.
//!
//! A replica's certificate bears `replica-3.CLUSTER.annals` and `replica.CLUSTER.annals` (by which clients, who ask any
//! replica, know it); a client's bears `append.NAME.CLUSTER.annals`, with its role in front. CLUSTER is the cluster's id
//! in 32 hexadecimal digits, so a certificate of one cluster opens nothing in another, even under one authority.

use std::fmt;

use crate::protocol::request::ClientRole;
use crate::types::{ClusterId, ReplicaId};

/// Whom a certificate is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Identity {
    /// A replica.
    Replica {
        /// Of which cluster.
        cluster: ClusterId,
        /// Which one.
        id: ReplicaId,
    },
    /// A client.
    Client {
        /// Of which cluster.
        cluster: ClusterId,
        /// What it is allowed.
        role: ClientRole,
        /// What people call it.
        name: String,
    },
}

impl Identity {
    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        match self {
            Identity::Replica { cluster, .. } | Identity::Client { cluster, .. } => *cluster,
        }
    }

    /// What a session of it is allowed: a replica, which is trusted with votes, everything.
    #[must_use]
    pub const fn role(&self) -> ClientRole {
        match self {
            Identity::Replica { .. } => ClientRole::Admin,
            Identity::Client { role, .. } => *role,
        }
    }

    /// The name that stands in the certificate.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Identity::Replica { cluster, id } => format!("replica-{id}.{cluster}.annals"),
            Identity::Client { cluster, role, name } => format!("{role}.{name}.{cluster}.annals"),
        }
    }

    /// The identity that one of the names stands for. `None` if none does, or if two contradict each other.
    pub(crate) fn of_names<'a>(names: impl Iterator<Item = &'a str>) -> Option<Identity> {
        let mut found = None;
        for identity in names.filter_map(Identity::of_name) {
            if found.replace(identity).is_some() {
                return None;
            }
        }
        found
    }

    fn of_name(name: &str) -> Option<Identity> {
        let mut labels = name.strip_suffix(".annals")?.split('.');
        let (first, second, third, rest) = (labels.next()?, labels.next()?, labels.next(), labels.next());
        let identity = match (first.strip_prefix("replica-"), third) {
            (Some(id), None) => {
                Identity::Replica { cluster: cluster_of(second)?, id: ReplicaId::new(id.parse().ok()?) }
            }
            (None, Some(cluster)) => Identity::Client {
                cluster: cluster_of(cluster)?,
                role: ClientRole::ALL.into_iter().find(|role| role.as_str() == first)?,
                name: second.to_owned(),
            },
            _ => return None,
        };
        // Only one spelling: "replica-03" would be a second name of a replica.
        (rest.is_none() && identity.name() == name).then_some(identity)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The name that all replicas of a cluster share.
pub(crate) fn any_replica(cluster: ClusterId) -> String {
    format!("replica.{cluster}.annals")
}

/// Whether it can be a client's name: one label of a domain name.
pub(crate) fn is_client_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn cluster_of(label: &str) -> Option<ClusterId> {
    if label.len() != 32 {
        return None;
    }
    u128::from_str_radix(label, 16).ok().map(ClusterId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId::new(0x00c0_ffee);

    #[test]
    fn a_name_and_its_identity_are_one() {
        let replica = Identity::Replica { cluster: CLUSTER, id: ReplicaId::new(3) };
        let client =
            Identity::Client { cluster: CLUSTER, role: ClientRole::Append, name: "billing".to_owned() };
        assert_eq!(replica.name(), "replica-3.00000000000000000000000000c0ffee.annals");
        assert_eq!(client.name(), "append.billing.00000000000000000000000000c0ffee.annals");
        for identity in [replica, client] {
            let names = [any_replica(CLUSTER), identity.name()];
            assert_eq!(Identity::of_names(names.iter().map(String::as_str)), Some(identity));
        }
    }

    #[test]
    fn other_spellings_and_contradictions_are_nobody() {
        let cluster = CLUSTER.to_string();
        for name in [
            format!("replica-03.{cluster}.annals"),
            format!("replica-+3.{cluster}.annals"),
            format!("replica-3.{}.annals", cluster.to_uppercase()),
            format!("replica-3.{cluster}.example"),
            format!("replica-3.x.{cluster}.annals"),
            format!("write.x.{cluster}.annals"),
            format!("read.x.y.{cluster}.annals"),
            "replica-3.annals".to_owned(),
            any_replica(CLUSTER),
            String::new(),
        ] {
            assert_eq!(Identity::of_names([name.as_str()].into_iter()), None, "{name}");
        }
        let two = [format!("replica-3.{cluster}.annals"), format!("replica-4.{cluster}.annals")];
        assert_eq!(Identity::of_names(two.iter().map(String::as_str)), None);
    }
}
