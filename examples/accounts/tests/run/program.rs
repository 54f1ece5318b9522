//! The program, as it was built beside this test, and what it says.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

/// Anything that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The program: `target/PROFILE/examples/accounts`, and this test is in `target/PROFILE/deps`.
pub(crate) fn path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let program = profile.join("examples").join("accounts");
    // Cargo builds examples for a whole `cargo test`, and not for one that names its targets.
    let advice = "cargo build -p annals-example-accounts --example accounts";
    let built = program.metadata().and_then(|built| built.modified());
    let built = built.unwrap_or_else(|error| panic!("{}: {error}; {advice}", program.display()));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(newest(&sources) <= built, "{} is older than its sources; {advice}", program.display());
    program
}

/// When anything in a directory was changed last.
fn newest(dir: &Path) -> SystemTime {
    let changed = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        if path.is_dir() { newest(&path) } else { path.metadata().unwrap().modified().unwrap() }
    };
    std::fs::read_dir(dir).unwrap().map(changed).max().unwrap()
}

/// A directory for one test.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The program while it runs.
pub(crate) struct Program {
    process: Child,
    keys: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    pub(crate) said: Vec<String>,
}

impl Program {
    /// Runs it with this as its directory for what is temporary.
    pub(crate) fn run(args: &[&str], temporary: &Path) -> Program {
        let mut command = Command::new(path());
        command.args(args).env("TMPDIR", temporary).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let keys = process.stdin.take();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Program { process, keys, lines, said: vec![] }
    }

    /// Types a line.
    pub(crate) fn type_in(&mut self, line: &str) {
        writeln!(self.keys.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Listens until another line with this in it, and gives it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> &str {
        loop {
            match self.lines.next() {
                Some(line) => self.said.push(line.unwrap()),
                None => panic!("ended without {text:?}:\n{}", self.said.join("\n")),
            }
            if self.said.last().is_some_and(|line| line.contains(text)) {
                return self.said.last().unwrap();
            }
        }
    }

    /// Listens to the end, and gives the exit status.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.said.extend(self.lines.by_ref().map_while(Result::ok));
        self.process.wait().unwrap().code()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([format!("-{name}"), id]).status().unwrap().success());
    }

    /// Where its nodes serve users, as it has said.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let urls = self.said.iter().filter_map(|line| line.split_once("http://"));
        urls.map(|(_, url)| url.trim_end_matches('/').parse().unwrap()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Refused only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until no process listens at these addresses any more.
#[track_caller]
pub(crate) fn wait_until_free(addresses: &[SocketAddr]) {
    assert_eq!(addresses.len(), 4);
    // Nobody ever sends: a wait for it is a pause.
    let (_sender, never) = mpsc::channel::<()>();
    let deadline = Instant::now() + PATIENCE;
    for address in addresses {
        while TcpListener::bind(address).is_err() {
            assert!(Instant::now() < deadline, "somebody still listens at {address}");
            assert_eq!(never.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Timeout));
        }
    }
}

/// Waits until something is in the directory.
#[track_caller]
pub(crate) fn wait_until_made(dir: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_dir(dir).unwrap().next().is_none() {
        assert!(Instant::now() < deadline, "nothing is made in {}", dir.display());
        std::thread::park_timeout(LOOK_EVERY);
    }
}
