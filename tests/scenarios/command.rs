//! The commands of a story.

use std::sync::Arc;
use std::time::Duration;

use annals::protocol::{Change, FailoverPolicy, Input, Message, Outcome, Quorums, Start};
use annals::{ClusterId, DiskId, Epoch, Lsn, ProducerId};

use crate::cluster::{Cluster, member};
use crate::expect::{expect, range};
use crate::story::{Done, Trouble};
use crate::words;
use annals_fixtures::node::{Letter, id};

/// Ticks after which a clock has not brought what was waited for.
const TICKS_MAX: usize = 200;

/// Does what a line says.
pub(crate) fn run(cluster: &mut Cluster, line: &[&str]) -> Done {
    match line {
        ["rules", named @ ..] => rules_exist(named)?,
        ["set", key, value] => set(cluster, key, value)?,
        ["voters", ids @ ..] => {
            let ids = numbers(ids)?;
            cluster.begin(&ids);
        }
        ["newcomer", node] => cluster.begin_empty(number(node)?, Start::Newcomer),
        ["blank", node] => cluster.begin_empty(number(node)?, Start::Member),
        ["expect", rest @ ..] => {
            cluster.collect();
            expect(cluster, rest)?;
        }
        ["settle"] => cluster.settle()?,
        ["elect", node] => cluster.elect(number(node)?)?,
        ["time", how_long] => cluster.pass(time(how_long)?, None)?,
        ["time", how_long, "until", node, like @ ..] => {
            cluster.pass(time(how_long)?, Some((number(node)?, like)))?;
        }
        ["deliver" | "drop" | "copy" | "tamper" | "hold" | "release" | "cut" | "partition" | "heal", ..] => {
            network(cluster, line)?;
        }
        [
            "propose" | "register" | "read" | "promote" | "transfer" | "change" | "snapshot" | "trim"
            | "unreachable",
            ..,
        ] => ask(cluster, line)?,
        _ => machine(cluster, line)?,
    }
    cluster.collect();
    Ok(())
}

/// The disk, the clock and the process of one node.
fn machine(cluster: &mut Cluster, line: &[&str]) -> Done {
    match line {
        ["tick", node] => tick(cluster, number(node)?)?,
        ["tick", node, "until", like @ ..] => {
            let node = number(node)?;
            let mut ticks = 0;
            while !words::are_in(like, &words::of_node(cluster.node(node)?)) {
                ticks += 1;
                if ticks > TICKS_MAX {
                    let there = words::of_node(cluster.node(node)?);
                    return Err(Trouble::Mismatch(format!("after {TICKS_MAX} ticks it is {there}")));
                }
                tick(cluster, node)?;
            }
        }
        ["later", node, how_long] => {
            let how_long = time(how_long)?;
            cluster.node(number(node)?)?.pass(how_long);
        }
        ["sync", node] => cluster.node(number(node)?)?.sync(),
        ["meta", node] => cluster.node(number(node)?)?.sync_meta(),
        ["stall", node] => {
            let node = number(node)?;
            cluster.node(node)?;
            cluster.stalled.insert(node);
        }
        ["unstall", node] => drop(cluster.stalled.remove(&number(node)?)),
        ["crash", node] => cluster.node(number(node)?)?.crash(),
        ["restart", node] => cluster.node(number(node)?)?.start(),
        ["lose", node, lost] => {
            let lost = range(lost)?;
            cluster.node(number(node)?)?.lose(lost);
        }
        ["wipe", node] => {
            let number = number(node)?;
            let me = member(number);
            cluster.node(number)?.wipe(me);
        }
        ["copy-disk", node] => {
            let number = number(node)?;
            let copy = cluster.node(number)?.disk.clone();
            cluster.copies.insert(number, copy);
        }
        ["put-back", node] => {
            let number = number(node)?;
            let copy = cluster.copies.get(&number).cloned();
            cluster.node(number)?.disk =
                copy.ok_or_else(|| Trouble::Syntax(format!("the disk of {number} was not copied")))?;
        }
        ["fail", node] => cluster.node(number(node)?)?.give(Input::DiskFailed),
        _ => return Err(Trouble::Syntax("no such command".to_owned())),
    }
    Ok(())
}

/// One clock jumps to its next deadline.
fn tick(cluster: &mut Cluster, number: u64) -> Done {
    let node = cluster.node(number)?;
    let Some(deadline) = node.deadline() else {
        return Err(Trouble::Mismatch(format!("it waits for nothing: {}", words::of_node(node))));
    };
    let wait = deadline.since(node.now).max(Duration::from_nanos(1));
    node.pass(wait);
    Ok(())
}

fn network(cluster: &mut Cluster, line: &[&str]) -> Done {
    match line {
        ["deliver", "all"] => {
            for _ in 0..cluster.network.len() {
                cluster.deliver(0);
            }
        }
        ["deliver", direction, like @ ..] => {
            let (from, to) = way(direction)?;
            let index = cluster.find(from, to, like)?;
            cluster.deliver(index);
        }
        ["drop", "all", direction, like @ ..] => {
            let (from, to) = way(direction)?;
            while let Ok(index) = cluster.find(from, to, like) {
                cluster.network.remove(index);
            }
        }
        ["drop", direction, like @ ..] => {
            let (from, to) = way(direction)?;
            let index = cluster.find(from, to, like)?;
            cluster.network.remove(index);
        }
        ["copy", direction, like @ ..] => {
            let (from, to) = way(direction)?;
            let index = cluster.find(from, to, like)?;
            cluster.network.push_back(cluster.network[index].clone());
        }
        ["tamper", direction, name, field, value] => {
            let (from, to) = way(direction)?;
            let index = cluster.find(from, to, &[name])?;
            tamper(&mut cluster.network[index], field, number(value)?)?;
        }
        ["hold", direction] => {
            let (from, to) = way(direction)?;
            cluster.held.push((from, to, None));
        }
        ["hold", direction, name] => {
            let (from, to) = way(direction)?;
            cluster.held.push((from, to, Some((*name).to_owned())));
        }
        ["release"] => cluster.held.clear(),
        ["cut", direction] => drop(cluster.cuts.insert(way(direction)?)),
        ["partition", sides @ ..] => {
            let sides: Vec<Vec<u64>> = sides.split(|word| *word == "|").map(numbers).collect::<Done<_>>()?;
            for (index, side) in sides.iter().enumerate() {
                for other in sides.iter().skip(index + 1) {
                    let pairs = side.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
                    cluster.cuts.extend(pairs.flat_map(|(a, b)| [(a, b), (b, a)]));
                }
            }
        }
        ["heal"] => cluster.cuts.clear(),
        _ => return Err(Trouble::Syntax("no such command".to_owned())),
    }
    Ok(())
}

/// Changes one field of a message.
fn tamper(letter: &mut Letter, field: &str, value: u64) -> Done {
    let envelope = &mut letter.envelope;
    match (field, &mut envelope.message) {
        ("cluster", _) => envelope.cluster = ClusterId::new(u128::from(value)),
        ("from", _) => envelope.from = member(value),
        ("from-disk", _) => envelope.from.disk = DiskId::new(u128::from(value)),
        ("to-disk", _) => envelope.to.disk = DiskId::new(u128::from(value)),
        ("epoch", _) => envelope.epoch = Epoch::new(value),
        ("generation", _) => envelope.generation = value,
        ("bytes-rot", _) => letter.is_sound = value == 0,
        ("durable", Message::Ack { durable, .. } | Message::HeartbeatReply { durable, .. }) => {
            *durable = Lsn::new(value);
        }
        ("commit", Message::Heartbeat { commit, .. } | Message::Append { commit, .. }) => {
            *commit = Lsn::new(value)
        }
        ("first", Message::Append { group, .. }) => group.range.first = Lsn::new(value),
        ("bytes", Message::Append { group, .. }) => group.bytes = value,
        ("previous", Message::Append { previous, .. }) => previous.lsn = Lsn::new(value),
        ("common", Message::Follow { common, .. }) => common.lsn = Lsn::new(value),
        _ => return Err(Trouble::Syntax(format!("{} has no {field}", envelope.message.name()))),
    }
    Ok(())
}

/// What clients and operators ask of a node.
fn ask(cluster: &mut Cluster, line: &[&str]) -> Done {
    let (line, name) = match line {
        [rest @ .., "as", name] => (rest, Some(*name)),
        _ => (line, None),
    };
    match line {
        ["propose", node, rest @ ..] => propose(cluster, number(node)?, rest, name)?,
        ["register", node] => asked(cluster, node, name, |token| Input::Register { token })?,
        ["read", node] => asked(cluster, node, name, |token| Input::Read { token })?,
        ["promote", node] => asked(cluster, node, name, |token| Input::Promote { token })?,
        ["transfer", direction] => {
            let (from, to) = way(direction)?;
            let token = cluster.token(from, name);
            cluster.node(from)?.give(Input::Transfer { token, to: Some(id(to)) });
        }
        ["change", node, how @ ..] => {
            let change = change(cluster, how)?;
            asked(cluster, node, name, |token| Input::Change { token, change })?;
        }
        ["snapshot", node, bytes] => {
            let bytes = number(bytes)?;
            cluster.node(number(node)?)?.take_snapshot(bytes);
        }
        ["trim", node] => drop(cluster.node(number(node)?)?.trim()),
        ["unreachable", node, peer] => {
            let peer = id(number(peer)?);
            cluster.node(number(node)?)?.give(Input::PeerLost { id: peer });
        }
        _ => return Err(Trouble::Syntax("no such command".to_owned())),
    }
    Ok(())
}

fn asked(cluster: &mut Cluster, node: &str, name: Option<&str>, input: impl Fn(u64) -> Input) -> Done {
    let node = number(node)?;
    let token = cluster.token(node, name);
    cluster.node(node)?.give(input(token));
    Ok(())
}

fn propose(cluster: &mut Cluster, node: u64, rest: &[&str], name: Option<&str>) -> Done {
    let (texts, producer) = match rest {
        [texts @ .., "by", producer, sequence] => {
            (texts, Some((known_producer(cluster, producer)?, number(sequence)?)))
        }
        texts => (texts, None),
    };
    if texts.is_empty() {
        return Err(Trouble::Syntax("propose what?".to_owned()));
    }
    let texts: Vec<Arc<str>> = texts.iter().map(|&text| text.into()).collect();
    let token = cluster.token(node, name);
    cluster.node(node)?.propose(token, &texts, producer);
    Ok(())
}

/// The producer that was registered under this name, or has this number.
fn known_producer(cluster: &mut Cluster, name: &str) -> Done<ProducerId> {
    let Some(&(node, token)) = cluster.names.get(name) else { return number(name).map(ProducerId::new) };
    match cluster.node(node)?.told.outcomes.get(&token) {
        Some(Outcome::Committed { range, .. }) => Ok(ProducerId::new(range.first.get())),
        other => Err(Trouble::Mismatch(format!("{name} is not registered: {}", words::of_outcome(other)))),
    }
}

fn change(cluster: &mut Cluster, how: &[&str]) -> Done<Change> {
    Ok(match how {
        ["add", node] => Change::AddLearner(cluster.node(number(node)?)?.member()),
        ["promote", node] => Change::PromoteLearner { id: id(number(node)?), priority: 0 },
        ["remove", node] => Change::Remove(id(number(node)?)),
        ["quorums", write, election] => Change::SetQuorums(quorums(write, election)?),
        ["priority", node, priority] => {
            Change::SetPriority { id: id(number(node)?), priority: small(priority)? }
        }
        _ => return Err(Trouble::Syntax("no such change".to_owned())),
    })
}

fn set(cluster: &mut Cluster, key: &str, value: &str) -> Done {
    let settings = &mut cluster.settings;
    let (timing, limits) = (&mut settings.timing, &mut settings.limits);
    match key {
        "heartbeat" => timing.heartbeat = time(value)?,
        "election" => timing.election_min = time(value)?,
        "stall" => timing.disk_stall_max = time(value)?,
        "transfer" => timing.transfer_max = time(value)?,
        "absence" => timing.absence_max = time(value)?,
        "window" => limits.window_bytes = number(value)?,
        "uncommitted" => limits.uncommitted_bytes_max = number(value)?,
        "group" => limits.group_bytes_max = number(value)?,
        "rate" => limits.catch_up_bytes_per_s = Some(number(value)?),
        "chunk" => limits.chunk_bytes = narrow(value)?,
        "producers" => limits.producers_max = narrow(value)?,
        "lease" => settings.lease_drift_ppm = Some(narrow(value)?),
        "policy" => {
            settings.policy = match value {
                "automatic" => FailoverPolicy::Automatic,
                "priority" => FailoverPolicy::Priority,
                "manual" => FailoverPolicy::Manual,
                _ => return Err(Trouble::Syntax(format!("no policy {value}"))),
            }
        }
        "quorums" => {
            let Some((write, election)) = value.split_once('/') else {
                return Err(Trouble::Syntax("quorums are written as 2/2".to_owned()));
            };
            settings.quorums = quorums(write, election)?;
        }
        _ => match key.strip_prefix("priority-") {
            Some(node) => drop(settings.priorities.insert(number(node)?, small(value)?)),
            None => return Err(Trouble::Syntax(format!("there is no {key} to set"))),
        },
    }
    Ok(())
}

fn rules_exist(named: &[&str]) -> Done {
    let all = annals::protocol::Rule::ALL.map(|rule| format!("{rule:?}"));
    match named.iter().find(|name| !all.iter().any(|rule| rule == **name)) {
        Some(name) => Err(Trouble::Syntax(format!("there is no rule {name}; there are {}", all.join(", ")))),
        None => Ok(()),
    }
}

fn quorums(write: &str, election: &str) -> Done<Quorums> {
    Ok(Quorums::Fixed { write: small(write)?, election: small(election)? })
}

/// `1->2`.
pub(crate) fn way(word: &str) -> Done<(u64, u64)> {
    match word.split_once("->") {
        Some((from, to)) => Ok((number(from)?, number(to)?)),
        None => Err(Trouble::Syntax(format!("{word} is no way; write 1->2"))),
    }
}

pub(crate) fn number(word: &str) -> Done<u64> {
    word.parse().map_err(|_| Trouble::Syntax(format!("{word} is no number")))
}

fn numbers(words: &[&str]) -> Done<Vec<u64>> {
    words.iter().map(|word| number(word)).collect()
}

fn narrow(word: &str) -> Done<u32> {
    word.parse().map_err(|_| Trouble::Syntax(format!("{word} is no number, or too large")))
}

fn small(word: &str) -> Done<u8> {
    word.parse().map_err(|_| Trouble::Syntax(format!("{word} is no number, or too large")))
}

fn time(word: &str) -> Done<Duration> {
    let milliseconds = word.strip_suffix("ms").map(|count| (count, 1));
    match milliseconds.or_else(|| word.strip_suffix('s').map(|count| (count, 1000))) {
        Some((count, unit)) => Ok(Duration::from_millis(number(count)? * unit)),
        None => Err(Trouble::Syntax(format!("{word} is no time; write 30ms or 2s"))),
    }
}
