//! A replica of the library, as the settings want it.

use annals::ReplicaId;
use annals::node::{ReplicaError, ReplicaOptions};
use annals::protocol::{FailoverPolicy, Limits, Quorums, Timing};
use annals::transport::TransportLimits;

use crate::bounds;
use crate::error::{self, Error, Result};
use crate::settings::{Policy, ReplicaSettings, required};

/// The options of these settings.
pub(crate) fn options(settings: &ReplicaSettings) -> Result<ReplicaOptions> {
    bounds::check(settings)?;
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
        .transport_limits(transport_limits(settings))
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
    if let Some(ppm) = settings.lease_drift_ppm {
        options = options.lease_drift_ppm(ppm);
    }
    if let Some(span) = settings.close_max {
        options = options.close_max(span.0);
    }
    if let Some(groups) = settings.depth {
        options = options.depth(groups);
    }
    Ok(disk_options(options, settings))
}

/// What is kept on the disk, and how often somebody looks after it.
fn disk_options(mut options: ReplicaOptions, settings: &ReplicaSettings) -> ReplicaOptions {
    if let Some(size) = settings.segment {
        options = options.segment_bytes(size.0);
    }
    if let Some(records) = settings.snapshot_every {
        options = options.snapshot_every(records);
    }
    if let Some(size) = settings.snapshot_every_bytes {
        options = options.snapshot_every_bytes(size.0);
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
    if let Some(size) = settings.scrub_rate {
        options = options.scrub_bytes_per_s(size.0);
    }
    options
}

fn timing(settings: &ReplicaSettings) -> Timing {
    let usual = Timing::default();
    Timing {
        heartbeat: settings.heartbeat.map_or(usual.heartbeat, |span| span.0),
        election_min: settings.election_min.map_or(usual.election_min, |span| span.0),
        election_max: settings.election_max.map_or(usual.election_max, |span| span.0),
        disk_stall_max: settings.disk_stall_max.map_or(usual.disk_stall_max, |span| span.0),
        transfer_max: settings.transfer_max.map_or(usual.transfer_max, |span| span.0),
        absence_max: settings.absence_max.map_or(usual.absence_max, |span| span.0),
    }
}

/// `group_bytes_max` is no setting: a backup with a smaller one than the primary's would refuse the log for ever. Nor is
/// `chunk_bytes`, which was measured once for all: how fast a replica catches up is told by `catch_up_rate`.
fn limits(settings: &ReplicaSettings) -> Limits {
    let usual = Limits::default();
    Limits {
        window_bytes: settings.window.map_or(usual.window_bytes, |size| size.0),
        uncommitted_bytes_max: settings.uncommitted_max.map_or(usual.uncommitted_bytes_max, |size| size.0),
        catch_up_bytes_per_s: settings.catch_up_rate.map(|size| size.0),
        producers_max: settings.producers_max.unwrap_or(usual.producers_max),
        waiting_max: settings.waiting_max.unwrap_or(usual.waiting_max),
        ..usual
    }
}

/// The sizes of a group and a request are no settings: all replicas and clients have to have the same. Nor are the queues to
/// each peer: `window` and `uncommitted_max` bound what gets into them, and smaller ones would only break connections.
fn transport_limits(settings: &ReplicaSettings) -> TransportLimits {
    let usual = TransportLimits::default();
    TransportLimits {
        sessions_max: settings.sessions_max.unwrap_or(usual.sessions_max),
        handshakes_max: settings.handshakes_max.unwrap_or(usual.handshakes_max),
        session_backlog_bytes_max: settings
            .session_backlog_max
            .map_or(usual.session_backlog_bytes_max, |size| size.0),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annals::ClusterId;
    use clap::CommandFactory;

    use super::*;
    use crate::settings::EVERY_SETTING;

    /// Settings that are no options: `run` looks at them, and `create` at the priorities.
    const NO_OPTIONS: [&str; 4] = ["http", "log_format", "log_level", "priorities"];

    fn options_of(table: &toml::Table) -> String {
        let settings: ReplicaSettings = table.clone().try_into().unwrap();
        format!("{:#?}", options(&settings).unwrap())
    }

    #[test]
    fn every_setting_goes_where_it_belongs() {
        let timing = Timing {
            heartbeat: Duration::from_millis(20),
            election_min: Duration::from_millis(100),
            election_max: Duration::from_secs(4),
            disk_stall_max: Duration::from_secs(1),
            transfer_max: Duration::from_secs(5),
            absence_max: Duration::from_secs(120),
        };
        let limits = Limits {
            catch_up_bytes_per_s: Some(6 << 20),
            window_bytes: 7 << 20,
            uncommitted_bytes_max: 8 << 20,
            waiting_max: 1000,
            producers_max: 500,
            ..Limits::default()
        };
        let transport_limits = TransportLimits {
            sessions_max: 100,
            handshakes_max: 50,
            session_backlog_bytes_max: 13 << 20,
            ..TransportLimits::default()
        };
        let peers = [(1, "a.example:7100"), (3, "c.example:7100")];
        let wanted = ReplicaOptions::new(ReplicaId::new(2), "data")
            .cluster(ClusterId::new(0xabc))
            .listen("0.0.0.0:7100".parse().unwrap())
            .peers(peers.map(|(id, address)| (ReplicaId::new(id), address)))
            .advertise("public.example:7100")
            .certificates("ca.pem", "/etc/annals/replica-2.pem", "replica-2.key")
            .policy(FailoverPolicy::Manual)
            .quorums(Quorums::Fixed { write: 2, election: 3 })
            .timing(timing)
            .limits(limits)
            .transport_limits(transport_limits)
            .lease_drift_ppm(500)
            .close_max(Duration::from_secs(20))
            .depth(3)
            .segment_bytes(9 << 20)
            .snapshot_every(1_000_000)
            .keep_records(100_000)
            .snapshots_kept(3)
            .snapshot_bytes_per_s(10 << 20)
            .snapshot_every_bytes(11 << 20)
            .scrub_bytes_per_s(12 << 20);
        assert_eq!(options_of(&toml::from_str(EVERY_SETTING).unwrap()), format!("{wanted:#?}"));
    }

    /// So that a setting which is new, and which the test above knows nothing of, is not forgotten.
    #[test]
    fn no_setting_is_without_effect() {
        let all: toml::Table = toml::from_str(EVERY_SETTING).unwrap();
        let with_all = options_of(&all);
        for key in all.keys() {
            let mut others = all.clone();
            match key.as_str() {
                // What cannot be left out gets another value.
                "cluster" => others.insert(key.clone(), "00000000000000000000000000000def".into()),
                "listen" => others.insert(key.clone(), "0.0.0.0:7200".into()),
                "id" | "write_quorum" | "election_quorum" => others.insert(key.clone(), 1.into()),
                "dir" | "ca" | "cert" | "key" => others.insert(key.clone(), "elsewhere".into()),
                _ => others.remove(key),
            };
            let is_without_effect = options_of(&others) == with_all;
            assert_eq!(is_without_effect, NO_OPTIONS.contains(&key.as_str()), "{key}");
        }
    }

    /// A primary with a stalled disk was said to hand over after 1s, and does after 700ms.
    #[test]
    fn the_defaults_that_the_help_names_are_the_librarys() {
        let needed = ["cluster", "id", "dir", "listen", "ca", "cert", "key"];
        let all: toml::Table = toml::from_str(EVERY_SETTING).unwrap();
        let least: toml::Table = all.into_iter().filter(|(key, _)| needed.contains(&key.as_str())).collect();
        let command = crate::cli::Cli::command();
        let mut checked = vec![];
        for argument in command.find_subcommand("run").unwrap().get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let Some((_, default)) = help.trim_end_matches(']').split_once("[default: ") else { continue };
            // Others are words, such as "a majority", and no options, or are quoted.
            if !default.starts_with(|char: char| char.is_ascii_digit()) {
                continue;
            }
            let value = default.parse().map_or_else(|_| toml::Value::from(default), toml::Value::Integer);
            let mut with = least.clone();
            with.insert(argument.get_id().to_string(), value);
            assert_eq!(options_of(&with), options_of(&least), "{}: {default}", argument.get_id());
            checked.push(argument.get_id().as_str());
        }
        assert_eq!(checked.len(), 18, "{checked:?}");
    }
}
