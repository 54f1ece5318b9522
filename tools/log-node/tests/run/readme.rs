//! The README's cluster in a minute, command by command.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;
use crate::scratch::{Scratch, comes_true};

/// The commands of the section, one block after another.
fn blocks() -> Vec<Vec<String>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, section) = readme.split_once("## A cluster in a minute").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks = section.split("```bash\n").skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0.lines().map(str::to_owned).collect()).collect()
}

#[test]
fn a_cluster_in_a_minute_works_as_the_readme_says() {
    let blocks = blocks();
    let [start, append, kill] = &blocks[..] else { panic!("three blocks of commands, not {}", blocks.len()) };
    assert_eq!(start[..], ["cargo run --release -p log-node -- dev --dir cluster"]);
    let mut cluster = Cluster::start_at(Scratch::new(), "cluster", "--port 0");
    let run = |cluster: &Cluster, line: &str| {
        let line = line.replace("target/release/log-node", env!("CARGO_BIN_EXE_log-node"));
        let run =
            || Command::new("sh").args(["-c", &line]).current_dir(cluster.scratch.path("")).output().unwrap();
        let mut said = run();
        // A backup on a machine that is busy may lag for a moment.
        comes_true(|| {
            let is_over = said.status.success() || !line.contains(" status ");
            if !is_over {
                said = run();
            }
            is_over
        });
        let (out, err) = (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
        assert!(said.status.success(), "{line}: {out}{err}");
        out
    };
    for line in append {
        run(&cluster, line);
    }
    assert_eq!(kill[0], "kill -9 PID");
    let primary = cluster.primary();
    cluster.kill(primary);
    let said: Vec<String> = kill[1..].iter().map(|line| run(&cluster, line)).collect();
    assert_eq!(said.last().unwrap().trim(), "2000");
}
