//! What a story expects.

use annals::Lsn;
use annals::LsnRange;
use annals::protocol::Refusal;

use crate::cluster::Cluster;
use crate::command::{number, way};
use crate::story::{Done, Trouble};
use crate::words;

/// Compares what there is with the words after `expect`.
pub(crate) fn expect(cluster: &mut Cluster, words: &[&str]) -> Done {
    let (is_not, words) = match words {
        ["not", rest @ ..] => (true, rest),
        _ => (false, words),
    };
    let (is_so, there) = compare(cluster, words)?;
    if is_so == is_not { Err(Trouble::Mismatch(format!("there is: {there}"))) } else { Ok(()) }
}

/// Whether it is as the words say, and what there is.
fn compare(cluster: &mut Cluster, words: &[&str]) -> Done<(bool, String)> {
    let (is_so, there) = match words {
        ["peer", of, peer, like @ ..] => {
            let (of, peer) = (number(of)?, number(peer)?);
            let status = cluster.node(of)?.replica.as_ref().map(annals::protocol::Replica::status);
            let peers = status.map(|status| status.peers).unwrap_or_default();
            let known = peers.iter().find(|known| known.member.id.get() == peer);
            let there = known.map_or("nothing".to_owned(), words::of_peer);
            (words::are_in(like, &there), there)
        }
        ["sent", direction, like @ ..] => {
            let (from, to) = way(direction)?;
            (cluster.find(from, to, like).is_ok(), format!("\n{}", cluster.letters(from, to)))
        }
        ["answer", name, like @ ..] => {
            let there = answer(cluster, name)?;
            (words::are_in(like, &there), there)
        }
        ["refused", node, reason, times] => {
            let times = number(times)?;
            let Some(reason) = Refusal::ALL.into_iter().find(|known| format!("{known:?}") == *reason) else {
                return Err(Trouble::Syntax(format!("no reason {reason}; there are {:?}", Refusal::ALL)));
            };
            let replica = cluster.node(number(node)?)?.replica.as_ref();
            let count = |reason| replica.map_or(0, |replica| replica.refusals().count(reason));
            let all = Refusal::ALL.into_iter().filter(|&reason| count(reason) > 0);
            let all: Vec<String> = all.map(|reason| format!("{reason:?} {}", count(reason))).collect();
            (count(reason) == times, if all.is_empty() { "none".to_owned() } else { all.join(", ") })
        }
        ["log", node, exactly @ ..] => {
            let there = words::of_records(&cluster.node(number(node)?)?.log);
            (there == exactly.join(" "), there)
        }
        ["disk", node, exactly @ ..] => {
            let there = words::of_records(&cluster.node(number(node)?)?.disk.log);
            (there == exactly.join(" "), there)
        }
        [node, like @ ..] => {
            let there = words::of_node(cluster.node(number(node)?)?);
            (words::are_in(like, &there), there)
        }
        [] => return Err(Trouble::Syntax("expect what?".to_owned())),
    };
    Ok((is_so, there))
}

fn answer(cluster: &mut Cluster, name: &str) -> Done<String> {
    let Some(&(node, token)) = cluster.names.get(name) else {
        return Err(Trouble::Syntax(format!("nothing was asked as {name}")));
    };
    let told = &cluster.node(node)?.told;
    Ok(match told.reads.get(&token) {
        Some(Some(lsn)) => format!("ready {lsn}"),
        Some(None) => "failed".to_owned(),
        None => words::of_outcome(told.outcomes.get(&token)),
    })
}

/// `3..5`, or `3`.
pub(crate) fn range(word: &str) -> Done<LsnRange> {
    let (first, last) = word.split_once("..").unwrap_or((word, word));
    let (first, last) = (Lsn::new(number(first)?), Lsn::new(number(last)?));
    LsnRange::new(first, last).ok_or_else(|| Trouble::Syntax(format!("{word} is no range")))
}
