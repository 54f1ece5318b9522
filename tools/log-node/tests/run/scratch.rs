//! A directory for one test, and the program in it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use annals_scratch::Said;

/// Anything that takes longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

annals_scratch::scratch_for!("log-node");

impl Scratch {
    /// Starts it, to be listened to.
    pub(crate) fn start(&self, args: &str) -> Running {
        Running::start(self.command(args))
    }
}

/// The program while it runs. Its standard input is open as long as this lives, or until it is let go.
pub(crate) struct Running {
    child: Child,
    lifeline: Option<ChildStdin>,
    lines: Receiver<String>,
    /// All that it has said on both ways out so far.
    pub(crate) said: Vec<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let ways: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for way in ways {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(way).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let lifeline = child.stdin.take();
        Running { child, lifeline, lines, said: vec![] }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line with this in it, among those that were not waited for yet.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} in:\n{}", self.said.join("\n")),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without {text:?}:\n{}", self.said.join("\n"))
                }
            }
        }
    }

    /// What it has said up to now, for whoever looks into a failure. What nobody waited for is told once.
    pub(crate) fn so_far(&self) -> String {
        let unheard: Vec<String> = self.lines.try_iter().collect();
        [&self.said[..], &unheard[..]].concat().join("\n")
    }

    /// Writes a line to its standard input.
    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.lifeline.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends its standard input.
    pub(crate) fn let_go(&mut self) {
        self.lifeline = None;
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.process(), name);
    }

    /// Waits for its end, and gives what it has said in all.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        // Both ways out end with the process.
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.said.push(line);
        }
        assert!(Instant::now() < deadline, "it does not end; it said:\n{}", self.said.join("\n"));
        (self.child.wait().unwrap(), self.said.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal, such as `KILL`, to a process.
#[track_caller]
pub(crate) fn signal(process: u32, name: &str) {
    let kill = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap();
    assert!(kill.success(), "kill -{name} {process}");
}

/// Waits until it is so: what it asks has no way to tell.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(comes_true(is_so), "waited too long until {what}");
}

/// Whether it is so before the patience ends.
pub(crate) fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let (_open, never) = mpsc::channel::<()>();
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        let _ = never.recv_timeout(Duration::from_millis(20));
    }
    true
}
