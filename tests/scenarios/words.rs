//! What there is, in words: what an expectation is compared with, and what is printed if it does not match.

use annals::protocol::{Halt, Health, Message, Outcome, PeerStatus, Position, Status};
use annals::{LsnRange, ReplicaId};

use annals_fixtures::node::{Letter, Node, Records};

/// Whether the words stand in the line, in this order.
pub(crate) fn are_in(words: &[&str], line: &str) -> bool {
    let mut there = line.split_whitespace();
    words.iter().all(|word| there.any(|other| other == *word))
}

/// What a replica is.
pub(crate) fn of_node(node: &Node) -> String {
    let Some(replica) = &node.replica else { return "down".to_owned() };
    let Status { role, epoch, primary, last, durable, commit, generation, health, .. } = replica.status();
    let health = match health {
        Health::Whole => "whole".to_owned(),
        Health::Blank => "blank".to_owned(),
        Health::Damaged(lost) => {
            format!("damaged {}", lost.into_iter().map(of_range).collect::<Vec<_>>().join(" "))
        }
    };
    let halt = match node.told.halt {
        None => "",
        Some(Halt::DiskFailed) => " disk-failed",
        Some(Halt::TruncationBelowCommit { .. }) => " truncation-below-commit",
    };
    let leader = of_id(primary);
    let (last, shown) = (of_position(last), node.told.committed);
    format!(
        "{role}{halt} epoch {epoch} leader {leader} last {last} durable {durable} commit {commit} shown {shown} \
         generation {generation} {health}"
    )
}

/// What a primary knows of another replica.
pub(crate) fn of_peer(peer: &PeerStatus) -> String {
    let PeerStatus { stage, durable, in_flight_bytes, .. } = peer;
    format!("{stage} durable {durable} in-flight {in_flight_bytes}")
}

/// The records of a log, with the epochs that they are of.
pub(crate) fn of_records(records: &Records) -> String {
    let mut words = vec![];
    if records.base.lsn.get() > 0 {
        words.push(format!("[{}]", records.base.lsn));
    }
    let mut epoch = None;
    for entry in &records.entries {
        if epoch != Some(entry.epoch) {
            words.push(format!("{}:", entry.epoch));
            epoch = Some(entry.epoch);
        }
        words.push(entry.text.to_string());
    }
    words.join(" ")
}

/// What came of something that was asked.
pub(crate) fn of_outcome(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "pending".to_owned(),
        Some(Outcome::Committed { range, epoch }) => format!("committed {} epoch {epoch}", of_range(*range)),
        Some(Outcome::Duplicate { range: Some(range) }) => format!("duplicate {}", of_range(*range)),
        Some(Outcome::Duplicate { range: None }) => "duplicate of long ago".to_owned(),
        Some(Outcome::NotTaken { primary }) => format!("not-taken primary {}", of_id(*primary)),
        Some(Outcome::Unknown) => "unknown".to_owned(),
        Some(Outcome::Busy) => "busy".to_owned(),
        Some(Outcome::TooLarge { bytes_max }) => format!("too-large at most {bytes_max}"),
        Some(Outcome::Invalid) => "invalid".to_owned(),
        Some(Outcome::OutOfSequence { expected }) => format!("out-of-sequence expected {expected}"),
        Some(Outcome::UnknownProducer) => "unknown-producer".to_owned(),
        Some(Outcome::ChangeRefused) => "change-refused".to_owned(),
        Some(Outcome::Transferred { primary }) => format!("transferred to {primary}"),
        Some(Outcome::NotTransferred) => "not-transferred".to_owned(),
        Some(Outcome::Stands) => "stands".to_owned(),
        Some(Outcome::HearsPrimary { primary }) => format!("hears-primary {}", of_id(*primary)),
        Some(Outcome::MayNotStand) => "may-not-stand".to_owned(),
        Some(other) => format!("{other:?}"),
    }
}

/// A message.
pub(crate) fn of_letter(letter: &Letter) -> String {
    let envelope = &letter.envelope;
    let (name, epoch, generation) = (envelope.message.name(), envelope.epoch, envelope.generation);
    let texts: Vec<&str> = letter.entries.iter().map(|entry| &*entry.text).collect();
    let parts = [of_message(&envelope.message), texts.join(" ")].map(|part| part.trim().to_owned());
    format!("{name} epoch {epoch} generation {generation} {}", parts.join(" "))
}

fn of_message(message: &Message) -> String {
    let granted = |granted: bool| if granted { "granted" } else { "refused" };
    match message {
        Message::PreVote { next, last } => format!("next {next} last {}", of_position(*last)),
        Message::PreVoteReply { next, granted: it } => format!("next {next} {}", granted(*it)),
        Message::Vote { last, transfer } => {
            format!("last {}{}", of_position(*last), if *transfer { " transfer" } else { "" })
        }
        Message::VoteReply { granted: it } => granted(*it).to_owned(),
        Message::Heartbeat { round, commit, last, durable } => {
            format!("round {round} commit {commit} last {last} durable {durable}")
        }
        Message::HeartbeatReply { round, last, durable, is_following, .. } => {
            let follows = if *is_following { "follows" } else { "strays" };
            format!("round {round} last {} durable {durable} {follows}", of_position(*last))
        }
        Message::Probe { through, known } => format!("through {through} known {known}"),
        Message::ProbeReply(reply) => {
            let staged = reply.staged.map(|staged| format!(" staged {}", staged.bytes)).unwrap_or_default();
            format!("last {}{staged}", of_position(reply.history.last()))
        }
        Message::Follow { common, last, .. } => format!("common {} last {last}", of_position(*common)),
        Message::Append { previous, commit, group, .. } => {
            format!("previous {} commit {commit} records {}", of_position(*previous), of_range(group.range))
        }
        Message::Ack { durable, is_whole, .. } => {
            format!("durable {durable} {}", if *is_whole { "whole" } else { "damaged" })
        }
        Message::OutOfOrder { last, .. } | Message::TakeOver { last } => {
            format!("last {}", of_position(*last))
        }
        Message::SnapshotOffer(offer) => {
            format!("snapshot {} bytes {}", of_position(offer.id().position), offer.contents.bytes)
        }
        Message::SnapshotAsk { snapshot, bytes } => {
            format!("snapshot {} bytes {bytes}", of_position(snapshot.position))
        }
        Message::SnapshotChunk { snapshot, offset, bytes, .. } => {
            format!("snapshot {} offset {offset} bytes {bytes}", of_position(snapshot.position))
        }
        Message::RepairAsk { range } => format!("range {}", of_range(*range)),
        Message::RepairGive { group, .. } => format!("range {}", of_range(group.range)),
        Message::RepairNone { range, last } => {
            format!("range {} last {}", of_range(*range), of_position(*last))
        }
        Message::Stale => String::new(),
    }
}

fn of_range(range: LsnRange) -> String {
    format!("{}..{}", range.first, range.last)
}

fn of_position(position: Position) -> String {
    format!("{}:{}", position.epoch, position.lsn)
}

fn of_id(id: Option<ReplicaId>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| id.to_string())
}
