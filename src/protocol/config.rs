//! What a replica is told about itself once and for all.

use std::fmt;
use std::time::Duration;

use super::membership::Member;
use super::rules::Rules;
use super::wire;
use crate::types::ClusterId;

/// What a replica is told about itself once and for all.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// The cluster.
    pub cluster: ClusterId,
    /// This replica, with the identity of its disk.
    pub me: Member,
    /// For spreading elections: another one on each replica, and at each start.
    pub seed: u64,
    /// How long things may take.
    pub timing: Timing,
    /// Who takes over when the primary is gone.
    pub policy: FailoverPolicy,
    /// How much of everything.
    pub limits: Limits,
    /// Answers linearizable reads without asking, while a quorum has promised to elect nobody else: off by default.
    ///
    /// The value is how much faster, in parts per million, any replica's clock may run than any other's. If clocks
    /// drift further apart, a read may miss what a newer primary has committed.
    pub lease_drift_ppm: Option<u32>,
    /// Whether an operator has said that this disk is new.
    pub start: Start,
    /// Which rules hold: all of them.
    pub rules: Rules,
}

/// How a replica begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Start {
    /// With what it has. If that is nothing, it takes no part (S11).
    #[default]
    Member,
    /// As somebody new, who waits to be added to the cluster.
    Newcomer,
    /// With what it has, in a process that goes on: it [was told to lead](super::Replica::is_chosen) when its log could not be
    /// used any more and had to be opened again.
    Chosen,
}

/// Who takes over when the primary is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FailoverPolicy {
    /// Whoever notices first and has everything.
    #[default]
    Automatic,
    /// As above; then the primary hands over to the voter with the highest priority once that has caught up.
    Priority,
    /// Nobody, until an operator says who. Whoever was chosen goes on after it could not reach a quorum for a while, unless
    /// somebody else was chosen meanwhile.
    Manual,
}

/// How long things may take.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timing {
    /// From one heartbeat to the next.
    pub heartbeat: Duration,
    /// Without a heartbeat for so long, and a random part more, a backup stands for election; the lower bound.
    pub election_min: Duration,
    /// The upper bound, to which slow networks and disks may drive it.
    pub election_max: Duration,
    /// Without progress of its own disk for so long, while its peers' make some, a primary hands over (S12).
    pub disk_stall_max: Duration,
    /// How long a planned hand-over may take before it is given up.
    pub transfer_max: Duration,
    /// How long a primary keeps log and snapshot for a member that was catching up, and is silent.
    pub absence_max: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(30),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_secs(3),
            disk_stall_max: Duration::from_millis(700),
            transfer_max: Duration::from_secs(2),
            absence_max: Duration::from_secs(60),
        }
    }
}

/// How much of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// Bytes on their way to one backup that it has not acknowledged.
    pub window_bytes: u64,
    /// Bytes that wait for their commit, before proposals are refused as busy.
    pub uncommitted_bytes_max: u64,
    /// Bytes of one read for catch-up or repair, and of one chunk of a snapshot.
    pub chunk_bytes: u32,
    /// Bytes a second for each member that catches up; `None` for no limit.
    pub catch_up_bytes_per_s: Option<u64>,
    /// A group from a peer is refused over this size.
    pub group_bytes_max: u64,
    /// Producers that are remembered; over it, those that were idle longest are forgotten.
    pub producers_max: u32,
    /// Reads that wait for a quorum round, and proposals that wait for their commit, at most.
    pub waiting_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            window_bytes: 16 << 20,
            uncommitted_bytes_max: 64 << 20,
            chunk_bytes: 1 << 20,
            catch_up_bytes_per_s: None,
            group_bytes_max: 128 << 20,
            producers_max: 10_000,
            waiting_max: 1 << 20,
        }
    }
}

impl Config {
    /// A replica with the default timing, policy and limits.
    #[must_use]
    pub fn new(cluster: ClusterId, me: Member) -> Config {
        Config {
            cluster,
            me,
            seed: me.id.get(),
            timing: Timing::default(),
            policy: FailoverPolicy::default(),
            limits: Limits::default(),
            lease_drift_ppm: None,
            start: Start::default(),
            rules: Rules::default(),
        }
    }

    /// Whether it can work.
    ///
    /// # Errors
    /// The first thing that cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Timing { heartbeat, election_min, election_max, .. } = self.timing;
        if heartbeat.is_zero() || election_min < heartbeat * 2 || election_max < election_min {
            return Err(ConfigError::Timing);
        }
        let Limits { window_bytes, chunk_bytes, group_bytes_max, producers_max, .. } = self.limits;
        let limits = [window_bytes, u64::from(chunk_bytes), group_bytes_max, u64::from(producers_max)];
        // Producers register while the record that makes room for them is on its way.
        let fits =
            u64::from(chunk_bytes) <= group_bytes_max && producers_max as usize <= wire::PRODUCERS_MAX / 2;
        if limits.contains(&0) || !fits {
            return Err(ConfigError::Limits);
        }
        if self.lease_drift_ppm.is_some_and(|ppm| ppm >= 500_000) {
            return Err(ConfigError::LeaseDrift);
        }
        Ok(())
    }
}

/// Why a replica cannot begin.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// An election must take at least two heartbeats, and its upper bound must not be below the lower one.
    Timing,
    /// No limit may be zero, a chunk must fit into a group, and the producers into a snapshot.
    Limits,
    /// With clocks that drift apart by half and more there is no lease.
    LeaseDrift,
    /// The membership is not sound: quorums that may miss each other, or somebody twice.
    Membership,
    /// What recovery says of the log contradicts itself.
    State,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfigError::Timing => {
                "an election must take at least two heartbeats, and election_max not be below election_min"
            }
            ConfigError::Limits => {
                "no limit may be zero, a chunk must fit into a group, and producers_max be between 2 and 524288"
            }
            ConfigError::LeaseDrift => "a lease needs clocks that drift apart by less than half",
            ConfigError::Membership => "the quorums must intersect, and each replica must be named once",
            ConfigError::State => "the state that recovery has found contradicts itself",
        })
    }
}

impl std::error::Error for ConfigError {}
