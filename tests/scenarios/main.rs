//! The flows of `docs/protocol.md` as stories that can be read and played: `tests/data/scenarios/*.txt`.
//!
//! A story is played by real replicas over disks and a network that are values. Nothing happens that no line asks for:
//! a message waits until it is delivered, a disk syncs and a clock moves when a line says so. The same story is the
//! same run each time.
//!
//! # The language
//!
//! One command on each line; `#` begins a comment. A time is `30ms` or `2s`, a record a word, `1->2` a direction.
//!
//! Before the replicas:
//!
//! ```text
//! rules VoteOnce ...      the story fails without each of these rules (`Rules::without`); a test tries it
//! set KEY VALUE           heartbeat, election, stall, transfer, absence: times. policy: automatic, priority, manual.
//!                         window, uncommitted, chunk, group, producers: limits; a record has 100 bytes. lease: drift in ppm.
//!                         quorums: as 2/4, copies and votes. priority-N: of voter N. rate: of catching up.
//! voters 1 2 3            starts a cluster of these
//! newcomer 4, blank 4     starts a replica with an empty disk that somebody has, or nobody has, called new
//! ```
//!
//! The disk, the clock, the network, the process:
//!
//! ```text
//! settle                  delivers and syncs until nothing is left to do; no time passes
//! time 2s [until 1 WORDS] all clocks run, everything settles at each deadline; at most so long, or until 1 is like that
//! tick 1 [until WORDS]    the clock of 1 alone jumps to its next deadline; again, until 1 is like that
//! later 1 200ms           the clock of 1 alone runs
//! sync 1, meta 1          the log of 1, or its superblock, syncs
//! elect 1                 nobody hears a primary for an election timeout, 1 stands, everything settles, it leads
//! stall 1, unstall 1      from here on neither syncs by `settle` and `time`; and again
//! deliver 1->2 [WORDS]    the first message like that arrives; `deliver all`: each that is on its way now
//! drop [all] 1->2 [WORDS], copy 1->2 [WORDS], tamper 1->2 NAME FIELD VALUE
//! hold 1->2 [NAME], release        from here on `settle` leaves such messages where they are; and again
//! cut 1->2, partition 1 | 2 3, heal
//! crash 1, restart 1, lose 1 3..4, lose 1 0 (the base), wipe 1, fail 1, unreachable 1 2
//! ```
//!
//! Clients and operators; `as NAME` names an answer:
//!
//! ```text
//! propose 1 a b c [by PRODUCER SEQUENCE] [as NAME]
//! register 1 as PRODUCER
//! read 1 as NAME
//! promote 1, transfer 1->2 as NAME
//! change 1 add 4 | promote 4 | remove 2 | quorums 2 2 | priority 2 9 as NAME
//! snapshot 1 BYTES, trim 1
//! ```
//!
//! What has to be true. WORDS must stand in the line that is printed on a mismatch, in this order; `expect not` turns it
//! around:
//!
//! ```text
//! expect 1 WORDS               what a replica is
//! expect peer 1 2 WORDS        what primary 1 knows of 2
//! expect sent 1->2 WORDS       a message that is on its way
//! expect answer NAME WORDS     `pending`, or what came of it
//! expect refused 1 REASON N    so many messages were
//! expect log 1 WORDS           exactly these records, `1: START a b 2: START`; `[4]` for a snapshot of four
//! expect disk 1 WORDS          as above, of what is synced
//! ```
//!
//! After each line it is also checked that no epoch has two primaries, that no replica shows another record as
//! committed than any has before, and that no replica does what a node cannot do.

mod cluster;
mod command;
mod expect;
mod story;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use annals::protocol::{Rule, Rules};

use story::{Failure, Story};

/// Rules that no story is about, each with its reason.
const TOLD_ELSEWHERE: &[Rule] = &[];

fn stories() -> Vec<Story> {
    read_stories().expect("the stories can be read")
}

/// All stories; with `ANNALS_STORY`, those that have it in their name.
fn read_stories() -> io::Result<Vec<Story>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scenarios");
    let wanted = std::env::var("ANNALS_STORY").unwrap_or_default();
    let mut stories = vec![];
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = format!("tests/data/scenarios/{}", entry.file_name().to_string_lossy());
        if name.contains(&wanted) {
            stories.push(Story::parse(&name, &fs::read_to_string(entry.path())?));
        }
    }
    stories.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(stories)
}

#[test]
fn every_story_is_true() {
    let failures: Vec<String> = stories()
        .iter()
        .filter_map(|story| story.play(Rules::default()).err())
        .map(|failure| failure.to_string())
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

#[test]
fn every_story_fails_without_each_of_its_rules() {
    let mut survivors = vec![];
    for story in stories() {
        for &rule in &story.rules {
            match story.play(Rules::without(rule)) {
                Err(Failure { is_syntax: false, .. }) => {}
                _ => survivors.push(format!("{} does not notice that {rule:?} is off", story.name)),
            }
        }
    }
    assert!(survivors.is_empty(), "\n{}", survivors.join("\n"));
}

#[test]
fn every_rule_has_a_story() {
    let told: BTreeSet<String> = stories()
        .iter()
        .flat_map(|story| &story.rules)
        .chain(TOLD_ELSEWHERE)
        .map(|rule| format!("{rule:?}"))
        .collect();
    let untold: Vec<String> =
        Rule::ALL.iter().map(|rule| format!("{rule:?}")).filter(|rule| !told.contains(rule)).collect();
    let is_filtered = std::env::var_os("ANNALS_STORY").is_some();
    assert!(untold.is_empty() || is_filtered, "no story has in its `rules`: {}", untold.join(", "));
}

#[test]
fn a_mismatch_names_the_place_and_what_was_there_instead() {
    let story = Story::parse("a.txt", "voters 1 2 3\n\nexpect 1 primary # not yet\n");
    let failure = story.play(Rules::default()).unwrap_err();
    let text = failure.to_string();
    assert!(text.starts_with("a.txt:3: expect 1 primary\n"), "{text}");
    assert!(text.contains("backup epoch 0"), "{text}");
    assert!(!failure.is_syntax);
}

#[test]
fn a_line_that_is_no_command_is_told_apart_from_a_mismatch() {
    for line in
        ["jump 1", "sync", "sync one", "deliver 1-2", "expect", "later 1 5", "set colour red", "sync 9"]
    {
        let story = Story::parse("a.txt", &format!("voters 1\n{line}\n"));
        let failure = story.play(Rules::default()).unwrap_err();
        assert!(failure.is_syntax && failure.line == 2, "{failure}");
    }
}
