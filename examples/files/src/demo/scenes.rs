//! The scenes of the story, one function each.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use super::stage::Stage;
use super::voice::Voice;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::home::name;
use crate::operation::OperationId;
use crate::record::CHUNK_BYTES;

const KEYS: &[u8] = b"alpha = 1\nbeta = 2\n";

/// What all scenes use.
struct Scene<'a> {
    stage: &'a Stage,
    voice: Voice,
    work: &'a Path,
    mib: u64,
}

/// Tells the whole story.
pub(super) fn all(stage: &Stage, voice: Voice, work: &Path, mib: u64) -> Result<()> {
    let scene = Scene { stage, voice, work, mib };
    scene.two_keys()?;
    let (large, victim) = scene.killed_in_the_middle()?;
    scene.comes_back(victim)?;
    scene.no_majority()?;
    scene.newcomer(&large)?;
    scene.end()
}

/// Keeps the cluster until somebody has had enough.
pub(super) fn stay(stage: &Stage, voice: Voice) -> Result<()> {
    stage.leader()?;
    let home = stage.dir().display();
    voice.say(&format!("\nin another terminal:\n  export FILES_HOME={home}"));
    for words in
        ["put Cargo.toml", "list", "get Cargo.toml -", "stat --cluster --state", "rename Cargo.toml old.toml"]
    {
        voice.say(&format!("  cargo run --release --example files -- {words}"));
    }
    for node in 1..=super::NODES {
        if let Some(process) = stage.process(node) {
            voice.say(&format!("  kill -9 {process}     # {}", name(node)));
        }
    }
    voice.say("Ctrl-C here ends all nodes and removes everything");
    loop {
        thread::park();
    }
}

impl Scene<'_> {
    fn two_keys(&self) -> Result<()> {
        self.voice.title(1, "Write file.txt, with two keys in it");
        self.stage.leader()?;
        let file = self.write("file.txt", KEYS)?;
        self.voice
            .say(&format!("file.txt: {}", String::from_utf8_lossy(KEYS).trim_end().replace('\n', ", ")));
        self.run(&["put", "file.txt"], &["put", &text(&file)])?;
        self.run(&["stat", "file.txt"], &["stat", "file.txt"])?;
        self.stage.agreement()?;
        self.same_everywhere("file.txt", KEYS, 3)?;
        self.cluster()
    }

    fn killed_in_the_middle(&self) -> Result<(Vec<u8>, u64)> {
        self.voice.title(2, "Kill the leader in the middle of a large put, and whoever puts too");
        let large = noise(self.mib);
        let file = self.write("large.bin", &large)?;
        let id = OperationId::random().map_err(Error::file("draw a random number for", self.work))?;
        let (file, id_text) = (text(&file), id.to_string());
        // All of it would take half a minute, so that there is a middle however busy the machine is.
        let rate = (self.mib << 20).div_ceil(30).to_string();
        self.voice.command(&["put", "large.bin", "--id", &id_text, "--rate", &rate]);
        let putting = self.stage.begin(&["put", &file, "--id", &id_text, "--rate", &rate])?;
        let chunks = large.len().div_ceil(CHUNK_BYTES) as u64;
        let there = self.stage.chunks_of(id, chunks / 10)?;
        let victim = self.stage.leader()?;
        self.stage.kill(victim);
        putting.kill();
        self.voice.say(&format!(
            "kill -9: {}, which leads, and the put, when {there} of {chunks} chunks were there",
            name(victim)
        ));
        let heir = self.stage.leader()?;
        self.voice.say(&format!("{} leads now", name(heir)));
        let listed = self.run(&["list"], &["list"])?;
        let is_there = listed.contains("large.bin") || !listed.contains("file.txt");
        self.check(!is_there, "large.bin is not there: a put is whole or not at all")?;
        self.cluster()?;
        self.voice.say("Once more, with the same id:");
        let words = ["put", "large.bin", "--id", &id_text];
        let said = self.run(&words, &["put", &file, "--id", &id_text])?;
        self.check(
            said.contains("from an earlier attempt"),
            "the retry goes on where the first has stopped",
        )?;
        self.voice.say("And once more, as somebody would who has not seen the answer:");
        let said = self.run(&words, &["put", &file, "--id", &id_text])?;
        self.check(said.contains("nothing was changed"), "it was done once")?;
        let listed = self.run(&["list"], &["list"])?;
        self.check(listed.matches("large.bin").count() == 1, "large.bin is there, once")?;
        Ok((large, victim))
    }

    fn comes_back(&self, victim: u64) -> Result<()> {
        self.voice.title(3, &format!("{} comes back", name(victim)));
        self.stage.start(victim)?;
        self.stage.agreement()?;
        self.voice.good("all three have applied the same records, and their states have the same digest");
        self.cluster()
    }

    fn no_majority(&self) -> Result<()> {
        self.voice.title(4, "Without a majority nobody leads, and nothing is lost");
        let leader = self.stage.leader()?;
        let last = (1..=super::NODES).rfind(|node| *node != leader).unwrap_or(1);
        let gone: Vec<u64> = (1..=super::NODES).filter(|node| *node != last).collect();
        gone.iter().for_each(|node| self.stage.kill(*node));
        let names: Vec<String> = gone.iter().map(|node| name(*node)).collect();
        self.voice.say(&format!("kill -9: {}", names.join(" and ")));
        self.stage.wait_for("a candidate", |reports| {
            reports.iter().any(|report| report.role == "candidate").then_some(())
        })?;
        self.cluster()?;
        self.voice.command(&["rename", "file.txt", "keys.txt", "--deadline", "1"]);
        let said = self.stage.run(&["rename", "file.txt", "keys.txt", "--deadline", "1"])?;
        self.voice.answer(&said.err);
        self.check(said.status == Some(3), "what cannot be agreed on is not done")?;
        for node in gone {
            self.stage.start(node)?;
        }
        self.stage.leader()?;
        self.voice.say(&format!("{} run again:", names.join(" and ")));
        self.run(&["rename", "file.txt", "keys.txt"], &["rename", "file.txt", "keys.txt"])?;
        self.stage.agreement()?;
        self.cluster()
    }

    fn newcomer(&self, large: &[u8]) -> Result<()> {
        self.voice.title(5, "A fourth, blank node joins");
        let first = self.stage.wait_for("a trimmed log", |reports| {
            reports
                .iter()
                .find(|report| report.role == "leader" && report.first > 1)
                .map(|report| report.first)
        })?;
        self.voice.say(&format!(
            "the leader's log begins at record {first}: what was before is in its snapshot only"
        ));
        self.voice.command(&["node", "--id", "4", "--join"]);
        self.stage.join(4)?;
        let snapshot = self.stage.wait_for("N04 to vote", |reports| {
            let votes = |peer: &crate::report::PeerReport| peer.node == 4 && peer.votes;
            let is_in =
                reports.iter().any(|report| report.role == "leader" && report.peers.iter().any(votes));
            reports.iter().find(|report| report.node == 4 && is_in).map(|report| report.snapshot)
        })?;
        self.stage.agreement()?;
        let text =
            format!("N04 has got the snapshot as of record {snapshot}, then the records after it; it votes");
        self.check(snapshot > 0, &text)?;
        self.same_everywhere("keys.txt", KEYS, 4)?;
        self.same_everywhere("large.bin", large, 4)?;
        self.cluster()
    }

    fn end(&self) -> Result<()> {
        self.voice.title(6, "What all of them have agreed on");
        self.run(&["stat", "--cluster", "--state"], &["stat", "--cluster", "--state"])?;
        self.voice.say("\nall nodes are ended, and everything is removed");
        Ok(())
    }

    /// Gets a file from each node by itself, and compares.
    fn same_everywhere(&self, file: &str, contents: &[u8], nodes: u64) -> Result<()> {
        for node in 1..=nodes {
            let to = self.work.join(format!("{}-{node}", file.replace('/', "-")));
            let node_text = node.to_string();
            let said = self.stage.expect(&["get", file, &text(&to), "--from", &node_text])?;
            let got = fs::read(&to).map_err(Error::file("read", &to))?;
            let is_same = got == contents && said.contains(&name(node));
            let digest = Digest::of(&got).short();
            self.check(is_same, &format!("{} has {file} with sha256 {digest}", name(node)))?;
        }
        Ok(())
    }

    fn cluster(&self) -> Result<()> {
        let words = ["stat", "--cluster"];
        self.voice.command(&words);
        // Its status says whether all nodes are well, which is not asked here.
        self.voice.answer(&self.stage.run(&words)?.out);
        Ok(())
    }

    /// Runs a command that has to succeed; `shown` is how a person would type it.
    fn run(&self, shown: &[&str], args: &[&str]) -> Result<String> {
        self.voice.command(shown);
        let said = self.stage.expect(args)?;
        self.voice.answer(&said);
        Ok(said)
    }

    fn check(&self, is_so: bool, text: &str) -> Result<()> {
        if !is_so {
            return Err(Error::Demo(format!("not so: {text}")));
        }
        self.voice.good(text);
        Ok(())
    }

    fn write(&self, file: &str, contents: &[u8]) -> Result<PathBuf> {
        let path = self.work.join(file);
        fs::write(&path, contents).map_err(Error::file("write", &path))?;
        Ok(path)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// So many MiB that look like nothing.
fn noise(mib: u64) -> Vec<u8> {
    let mut word = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take((mib << 20) as usize).collect()
}
