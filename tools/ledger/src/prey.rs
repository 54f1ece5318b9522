//! The process of a trial.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use crate::event::{Event, Teller, read_events};
use crate::failure::{Failure, Result};
use crate::trial::Trial;

/// A process that runs a trial. Killed when this is dropped.
#[derive(Debug)]
pub struct Prey {
    child: Child,
    // Held: the process ends when this is closed.
    _stdin: Option<ChildStdin>,
    /// What it tells on standard output; closed when the process has ended.
    pub events: Receiver<Event>,
    listener: Option<JoinHandle<io::Result<()>>>,
    last_words: Option<JoinHandle<String>>,
}

impl Prey {
    /// Starts this program once more, with this subcommand, which has to be [`run_as_child`] with the word that
    /// follows it.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn spawn(subcommand: impl AsRef<OsStr>, trial: &Trial) -> io::Result<Prey> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(subcommand).arg(serde_json::to_string(trial)?);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let (sender, events) = mpsc::channel();
        let stdout = child.stdout.take().expect("asked for above");
        let listener = thread::spawn(move || {
            read_events(stdout, |event| {
                // Nobody listens any more: then it does not matter.
                let _ = sender.send(event);
            })
        });
        let mut stderr = child.stderr.take().expect("asked for above");
        let last_words = thread::spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.read_to_end(&mut words);
            String::from_utf8_lossy(&words).trim().to_string()
        });
        Ok(Prey { child, _stdin: stdin, events, listener: Some(listener), last_words: Some(last_words) })
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Waits for its end; tells how that was, and what it said last. All events have arrived then.
    ///
    /// # Errors
    /// Whatever the operating system says; `InvalidData` if it told of something that is no event.
    pub fn end(&mut self) -> io::Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        if let Some(listener) = self.listener.take() {
            listener.join().expect("the listener does not panic")?;
        }
        let words = self.last_words.take().map(|words| words.join().expect("the listener does not panic"));
        Ok((status, words.unwrap_or_default()))
    }
}

impl Drop for Prey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side: runs the trial that the word describes, and ends the process when its parent has ended.
///
/// # Errors
/// As for [`Trial::run`].
pub fn run_as_child(word: &str) -> Result<()> {
    let trial: Trial = serde_json::from_str(word).map_err(|error| Failure::Broken(error.to_string()))?;
    // The parent holds the other end, and never writes: reading ends when the parent does.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(1);
    });
    let told = match &trial.notes {
        Some(notes) => File::options().write(true).open(notes),
        None => stdout(),
    };
    trial.run(&Teller::new(told.map_err(Failure::io("tell the parent"))?))
}

/// Standard output without a buffer: what a thread tells is one write.
#[cfg(unix)]
fn stdout() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Standard output without a buffer.
#[cfg(not(unix))]
fn stdout() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
