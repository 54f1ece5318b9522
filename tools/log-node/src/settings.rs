//! What a replica and a client are told: in a file of TOML, and all of it also as flags.
//!
//! One struct for both, so that no setting can be in one and not in the other. A flag wins over the file; paths in a
//! file are relative to the file's directory.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use annals::ReplicaId;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::address::{self, Cluster, Peer, Preference};
use crate::error::{Error, Result};
use crate::size::{Size, Span};

/// Writes a struct of settings once: as flags, as keys, and how flags win over a file.
macro_rules! settings {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Debug, Default, Args, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$field_about])*
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) $field: Option<$kind>,)*
        }

        impl $name {
            /// These, and where they say nothing, the others.
            fn or(self, others: $name) -> $name {
                $name { $($field: self.$field.or(others.$field),)* }
            }
        }
    };
}

settings! {
    /// What `create` and `run` are told.
    ReplicaSettings {
        /// The cluster's id, 32 hexadecimal digits: `log-node certs` prints it
        #[arg(long, value_name = "HEX", help_heading = "The replica")]
        cluster: Cluster,
        /// This replica's number in the cluster, from 1
        #[arg(long, value_name = "N", value_parser = id_number, help_heading = "The replica")]
        id: u64,
        /// Where its log lies; `log-node create` makes it, once
        #[arg(long, value_name = "DIR", help_heading = "The replica")]
        dir: PathBuf,
        /// The UDP address where it listens to replicas and clients
        #[arg(long, value_name = "ADDR:PORT", help_heading = "The replica")]
        listen: SocketAddr,
        /// All replicas of the cluster and where they are reached, this one too: 1=HOST:PORT,2=HOST:PORT,...
        #[arg(long, value_name = "ID=HOST:PORT", value_delimiter = ',', help_heading = "The replica")]
        peers: Vec<Peer>,
        /// Where the others reach it, if that is not what it listens on
        #[arg(long, value_name = "HOST:PORT", value_parser = address::endpoint, help_heading = "The replica")]
        advertise: String,
        /// The certificate of the cluster's authority (PEM)
        #[arg(long, value_name = "FILE", help_heading = "Certificates")]
        ca: PathBuf,
        /// This replica's certificate (PEM); read again on SIGHUP
        #[arg(long, value_name = "FILE", help_heading = "Certificates")]
        cert: PathBuf,
        /// The key of its certificate (PEM)
        #[arg(long, value_name = "FILE", help_heading = "Certificates")]
        key: PathBuf,
        /// Who takes over when the primary is gone [default: automatic]
        #[arg(long, value_name = "WHO", help_heading = "Failover")]
        policy: Policy,
        /// Whom the policy priority prefers, the greatest number first, when the cluster is made: 1=20,2=10,... [default:
        /// nobody, all have 0]
        #[arg(long, value_name = "ID=N", value_delimiter = ',', help_heading = "Failover")]
        priorities: Vec<Preference>,
        /// Synced copies that commit a record, when the cluster is made [default: a majority]
        #[arg(long, value_name = "N", requires = "election_quorum", help_heading = "Failover")]
        write_quorum: u8,
        /// Votes that make a primary, when the cluster is made [default: a majority]
        #[arg(long, value_name = "N", requires = "write_quorum", help_heading = "Failover")]
        election_quorum: u8,
        /// From one heartbeat to the next [default: 30ms]
        #[arg(long, value_name = "TIME", help_heading = "Failover")]
        heartbeat: Span,
        /// Without a heartbeat for so long a backup stands for election, at the earliest [default: 150ms]
        #[arg(long, value_name = "TIME", help_heading = "Failover")]
        election_min: Span,
        /// The same at the latest, where the network or the disks are slow [default: 3s]
        #[arg(long, value_name = "TIME", help_heading = "Failover")]
        election_max: Span,
        /// A primary whose disk makes no progress for so long hands over [default: 700ms]
        #[arg(long, value_name = "TIME", help_heading = "Failover")]
        disk_stall_max: Span,
        /// How long a hand-over may take before it is given up [default: 2s]
        #[arg(long, value_name = "TIME", help_heading = "Failover")]
        transfer_max: Span,
        /// How long a primary keeps the log and the snapshot that a replica was catching up from, when it is silent
        /// [default: 1m]
        #[arg(long, value_name = "TIME", help_heading = "Failover")]
        absence_max: Span,
        /// Answers linearizable reads without asking the others, and trusts that no clock runs faster than another by more
        /// parts per million than this [default: it asks them]
        #[arg(long, value_name = "N", help_heading = "Failover")]
        lease_drift_ppm: u32,
        /// When it ends, what hangs on a disk that stands still is left behind after so long [default: 10s]
        #[arg(long, value_name = "TIME", help_heading = "Failover")]
        close_max: Span,
        /// Bytes a second at most for each replica that catches up [default: no limit]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        catch_up_rate: Size,
        /// Bytes on their way to one backup that it has not acknowledged [default: 16m]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        window: Size,
        /// Bytes that wait for their commit before appends are refused as busy [default: 64m]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        uncommitted_max: Size,
        /// Appends and linearizable reads that wait at a time, before more are refused as busy [default: 1048576]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        waiting_max: usize,
        /// Clients whose appends are told from their retries; of more, those that were idle longest are forgotten
        /// [default: 10000]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        producers_max: u32,
        /// While fewer groups wait for their commit, appends become a group as they come; else more of them gather
        /// [default: 2]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        depth: usize,
        /// Clients that are connected at a time [default: 4096]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        sessions_max: usize,
        /// Connections at a time that have not said yet who they are [default: 256]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        handshakes_max: usize,
        /// Bytes of answers that wait for a client which does not read them, before it is cut off [default: 64m]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        session_backlog_max: Size,
        /// Bytes of a segment file of the log [default: 64m]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        segment: Size,
        /// A snapshot after so many records [default: never by itself]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        snapshot_every: u64,
        /// A snapshot after so many bytes of the log; with snapshot_every, whichever comes first [default: never by itself]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        snapshot_every_bytes: Size,
        /// Trim the log after each snapshot, but for so many records before it [default: never by itself]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        keep_records: u64,
        /// Snapshots that are kept, the newest included [default: 1]
        #[arg(long, value_name = "N", help_heading = "Limits")]
        snapshots_kept: usize,
        /// Bytes a second at most to write snapshots with [default: no limit]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        snapshot_rate: Size,
        /// Bytes a second at most to look through the log for damage with; 0 for not at all [default: 16m]
        #[arg(long, value_name = "SIZE", help_heading = "Limits")]
        scrub_rate: Size,
        /// The local TCP address of the status page and of /metrics [default: none]
        #[arg(long, value_name = "ADDR:PORT", help_heading = "Watching")]
        http: SocketAddr,
        /// How log lines are written [default: text]
        #[arg(long, value_name = "FORMAT", help_heading = "Watching")]
        log_format: LogFormat,
        /// What is logged: error, warn, info, debug, trace, or a filter such as `info,annals=debug` [default: info]
        #[arg(long, value_name = "FILTER", help_heading = "Watching")]
        log_level: String,
    }
}

settings! {
    /// What a client is told.
    ClientSettings {
        /// Replicas to ask, as many as you like: any one finds the primary
        #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = address::endpoint,
            global = true, help_heading = "The cluster")]
        endpoints: Vec<String>,
        /// The certificate of the cluster's authority (PEM)
        #[arg(long, value_name = "FILE", global = true, help_heading = "The cluster")]
        ca: PathBuf,
        /// The client's certificate (PEM): its name says what it may do
        #[arg(long, value_name = "FILE", global = true, help_heading = "The cluster")]
        cert: PathBuf,
        /// The key of its certificate (PEM)
        #[arg(long, value_name = "FILE", global = true, help_heading = "The cluster")]
        key: PathBuf,
        /// How long one request may take, all attempts together [default: 10s]
        #[arg(long, value_name = "TIME", global = true, help_heading = "The cluster")]
        deadline: Span,
    }
}

/// Who takes over when the primary is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    /// Whoever notices first and has everything
    Automatic,
    /// The same; later the voter with the highest priority
    Priority,
    /// Nobody, until `log-node promote` says who
    Manual,
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object on each line
    Json,
}

impl ReplicaSettings {
    /// These flags, and what the file says where they say nothing.
    pub(crate) fn with_file(self, file: Option<&Path>) -> Result<ReplicaSettings> {
        let Some(file) = file else { return Ok(self) };
        let mut found: ReplicaSettings = read(file)?;
        for path in [&mut found.dir, &mut found.ca, &mut found.cert, &mut found.key] {
            anchor(path, file);
        }
        Ok(self.or(found))
    }

    /// As a file that [`ReplicaSettings::with_file`] reads.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are strings, numbers and lists of them")
    }

    /// The replicas that the cluster begins with, or that are known.
    pub(crate) fn members(&self) -> impl Iterator<Item = (ReplicaId, &str)> {
        self.peers.iter().flatten().map(|peer| (peer.id, peer.address.as_str()))
    }
}

impl ClientSettings {
    /// These flags, and what the file says where they say nothing.
    pub(crate) fn with_file(self, file: Option<&Path>) -> Result<ClientSettings> {
        let Some(file) = file else { return Ok(self) };
        let mut found: ClientSettings = read(file)?;
        for path in [&mut found.ca, &mut found.cert, &mut found.key] {
            anchor(path, file);
        }
        Ok(self.or(found))
    }

    /// As a file that [`ClientSettings::with_file`] reads.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are strings, numbers and lists of them")
    }
}

/// What has to be said and was not.
pub(crate) fn required<T>(setting: Option<T>, name: &'static str) -> Result<T> {
    setting.ok_or(Error::MissingSetting { name })
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read_to_string(file).map_err(Error::path("read", file))?;
    let wrong =
        |error: toml::de::Error| Error::Settings { file: file.to_path_buf(), source: Box::new(error) };
    toml::from_str(&text).map_err(wrong)
}

/// A relative path in a file begins at the file's directory.
fn anchor(path: &mut Option<PathBuf>, file: &Path) {
    let beside = file.parent().unwrap_or(Path::new(""));
    if let Some(path) = path {
        *path = beside.join(&*path);
    }
}

fn id_number(text: &str) -> Result<u64, String> {
    address::replica_id(text).map(ReplicaId::get)
}

/// Each setting, with a value that is not its default.
#[cfg(test)]
pub(crate) const EVERY_SETTING: &str = r#"
    cluster = "00000000000000000000000000000abc"
    id = 2
    dir = "data"
    listen = "0.0.0.0:7100"
    peers = ["1=a.example:7100", "2=b.example:7100", "3=c.example:7100"]
    advertise = "public.example:7100"
    ca = "ca.pem"
    cert = "/etc/annals/replica-2.pem"
    key = "replica-2.key"
    policy = "manual"
    priorities = ["2=10", "3=5"]
    write_quorum = 2
    election_quorum = 3
    heartbeat = "20ms"
    election_min = "100ms"
    election_max = "4s"
    disk_stall_max = "1s"
    transfer_max = "5s"
    catch_up_rate = "6m"
    window = "7m"
    uncommitted_max = "8m"
    segment = "9m"
    snapshot_every = 1000000
    keep_records = 100000
    snapshots_kept = 3
    snapshot_rate = "10m"
    snapshot_every_bytes = "11m"
    scrub_rate = "12m"
    absence_max = "2m"
    lease_drift_ppm = 500
    close_max = "20s"
    waiting_max = 1000
    producers_max = 500
    depth = 3
    sessions_max = 100
    handshakes_max = 50
    session_backlog_max = "13m"
    http = "127.0.0.1:7180"
    log_format = "json"
    log_level = "warn"
"#;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        settings: ReplicaSettings,
    }

    #[test]
    fn every_key_of_the_file_is_a_flag_and_the_other_way_round() {
        let from_file: ReplicaSettings = toml::from_str(EVERY_SETTING).unwrap();
        let keys: toml::Table = toml::from_str(EVERY_SETTING).unwrap();
        let mut line = vec!["run".to_owned()];
        for (key, value) in &keys {
            let value = match value {
                toml::Value::Array(all) => {
                    all.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(",")
                }
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            line.push(format!("--{}={value}", key.replace('_', "-")));
        }
        let flags = Flags::try_parse_from(line).unwrap();
        assert_eq!(flags.settings, from_file);
        // And nothing is a flag alone: all that there is was in the file.
        let all = toml::Table::try_from(&from_file).unwrap();
        assert_eq!(all.len(), keys.len());
        let arguments = <Flags as clap::CommandFactory>::command();
        assert_eq!(arguments.get_arguments().count(), keys.len());
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file: ReplicaSettings = toml::from_str(EVERY_SETTING).unwrap();
        let flags = Flags::try_parse_from(["run", "--id", "3"]).unwrap().settings;
        let both = flags.or(file);
        assert_eq!((both.id, both.policy), (Some(3), Some(Policy::Manual)));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let settings: ReplicaSettings = toml::from_str(EVERY_SETTING).unwrap();
        assert_eq!(toml::from_str::<ReplicaSettings>(&settings.to_toml()).unwrap(), settings);
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = toml::from_str::<ReplicaSettings>("heartbeats = \"1s\"").unwrap_err();
        assert!(error.to_string().contains("heartbeats"), "{error}");
    }

    #[test]
    fn paths_begin_at_the_file() {
        let mut path = Some(PathBuf::from("ca.pem"));
        anchor(&mut path, Path::new("etc/annals/node.toml"));
        assert_eq!(path, Some(PathBuf::from("etc/annals/ca.pem")));
    }
}
