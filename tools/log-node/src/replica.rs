//! A replica of the library, as the settings want it.

use annals::ReplicaId;
use annals::node::{ReplicaError, ReplicaOptions};
use annals::protocol::{FailoverPolicy, Limits, Quorums, Timing};

use crate::error::{self, Error, Result};
use crate::settings::{Policy, ReplicaSettings, required};

/// The options of these settings.
pub(crate) fn options(settings: &ReplicaSettings) -> Result<ReplicaOptions> {
    let id = ReplicaId::new(required(settings.id, "id")?);
    let dir = required(settings.dir.as_deref(), "dir")?;
    let others = settings.members().filter(|(peer, _)| *peer != id);
    let others: Vec<(ReplicaId, String)> = others.map(|(peer, at)| (peer, at.to_owned())).collect();
    let mut options = ReplicaOptions::new(id, dir)
        .cluster(required(settings.cluster, "cluster")?.0)
        .listen(required(settings.listen, "listen")?)
        .peers(others)
        .timing(timing(settings))
        .limits(limits(settings))
        .policy(policy(settings.policy))
        .quorums(quorums(settings)?)
        .certificates(
            required(settings.ca.as_deref(), "ca")?,
            required(settings.cert.as_deref(), "cert")?,
            required(settings.key.as_deref(), "key")?,
        );
    let own = settings.members().find(|(peer, _)| *peer == id).map(|(_, address)| address.to_owned());
    if let Some(address) = settings.advertise.clone().or(own) {
        options = options.advertise(address);
    }
    if let Some(size) = settings.segment {
        options = options.segment_bytes(size.0);
    }
    if let Some(records) = settings.snapshot_every {
        options = options.snapshot_every(records);
    }
    if let Some(records) = settings.keep_records {
        options = options.keep_records(records);
    }
    if let Some(snapshots) = settings.snapshots_kept {
        options = options.snapshots_kept(snapshots);
    }
    if let Some(size) = settings.snapshot_rate {
        options = options.snapshot_bytes_per_s(size.0);
    }
    Ok(options)
}

fn timing(settings: &ReplicaSettings) -> Timing {
    let usual = Timing::default();
    Timing {
        heartbeat: settings.heartbeat.map_or(usual.heartbeat, |span| span.0),
        election_min: settings.election_min.map_or(usual.election_min, |span| span.0),
        election_max: settings.election_max.map_or(usual.election_max, |span| span.0),
        disk_stall_max: settings.disk_stall_max.map_or(usual.disk_stall_max, |span| span.0),
        transfer_max: settings.transfer_max.map_or(usual.transfer_max, |span| span.0),
        ..usual
    }
}

fn limits(settings: &ReplicaSettings) -> Limits {
    let usual = Limits::default();
    Limits {
        window_bytes: settings.window.map_or(usual.window_bytes, |size| size.0),
        uncommitted_bytes_max: settings.uncommitted_max.map_or(usual.uncommitted_bytes_max, |size| size.0),
        catch_up_bytes_per_s: settings.catch_up_rate.map(|size| size.0),
        ..usual
    }
}

fn policy(policy: Option<Policy>) -> FailoverPolicy {
    match policy {
        None | Some(Policy::Automatic) => FailoverPolicy::Automatic,
        Some(Policy::Priority) => FailoverPolicy::Priority,
        Some(Policy::Manual) => FailoverPolicy::Manual,
    }
}

fn quorums(settings: &ReplicaSettings) -> Result<Quorums> {
    match (settings.write_quorum, settings.election_quorum) {
        (None, None) => Ok(Quorums::Majority),
        (Some(write), Some(election)) => Ok(Quorums::Fixed { write, election }),
        _ => Err(Error::BadSetting {
            reason: "write_quorum and election_quorum belong together: give both, or none for a majority"
                .to_owned(),
        }),
    }
}

impl From<ReplicaError> for Error {
    fn from(source: ReplicaError) -> Error {
        let reason = match &source {
            ReplicaError::Log(annals::Error::NotEmpty) => "its directory holds a replica already".to_owned(),
            // The library's own text is about appends.
            ReplicaError::Log(annals::Error::NoSpace) => "the disk is full".to_owned(),
            source => source.to_string(),
        };
        Error::Replica { reason, advice: advice(&source) }
    }
}

fn advice(error: &ReplicaError) -> Option<&'static str> {
    Some(match error {
        ReplicaError::Blank { .. } => {
            "if it is new: `log-node create` with the same settings. If its disk was lost: `log-node remove`, \
             `log-node create --join`, `log-node add`"
        }
        ReplicaError::OtherReplica { .. } => "correct `id` or `dir`",
        ReplicaError::Log(annals::Error::NotEmpty) => "it was made before: `log-node run` it",
        ReplicaError::Log(annals::Error::InUse { .. }) => {
            "this replica runs already: stop that process first"
        }
        ReplicaError::Log(annals::Error::NoSpace) => "free some space, then start it again",
        ReplicaError::Log(annals::Error::Io { source, .. }) => return error::io_advice(source),
        _ => return None,
    })
}
