//! One replica as a child process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{self, ChildStderr, ChildStdin, Command, Stdio};
use std::thread;

use crate::error::{Error, Result};
use crate::out;

/// A replica's process. Dropping it kills the process, if it still runs.
///
/// The process holds the reading end of a pipe whose other end is here, and ends when the pipe does: so it never
/// outlives this process, however that ends.
pub(crate) struct Child {
    replica: u64,
    process: process::Child,
    lifeline: Option<ChildStdin>,
    is_reaped: bool,
}

impl Child {
    /// Starts a replica; `ended` is called once its process has ended.
    pub(crate) fn start(
        replica: u64,
        config: &Path,
        log_level: Option<&str>,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Child> {
        let failed = |source: std::io::Error| Error::Child {
            replica,
            reason: format!("could not be started: {source}"),
            advice: "are there too many processes, or is the program gone?".to_owned(),
        };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("run").arg("--config").arg(config).arg("--until-stdin-ends");
        if let Some(filter) = log_level {
            command.args(["--log-level", filter]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C in the terminal is for this process, which then ends them in good order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command.spawn().map_err(failed)?;
        let (lifeline, said) = (process.stdin.take(), process.stderr.take());
        // From here on, dropping the child kills the process.
        let child = Child { replica, process, lifeline, is_reaped: false };
        let said = said.expect("its standard error is a pipe");
        let pass_on = move || {
            pass_on(replica, said);
            ended();
        };
        thread::Builder::new().name(format!("replica-{replica}")).spawn(pass_on).map_err(failed)?;
        Ok(child)
    }

    /// Whose process it is.
    pub(crate) fn replica(&self) -> u64 {
        self.replica
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Lets it end by itself: the primary hands over, and all close their logs.
    pub(crate) fn ask_to_end(&mut self) {
        self.lifeline = None;
    }

    /// How it has ended, in words. Waits for that: to be called once it was told that it has.
    pub(crate) fn reap(&mut self) -> String {
        let status = self.process.wait();
        self.is_reaped = true;
        match status {
            Ok(status) => status.to_string(),
            Err(error) => format!("nobody knows how, {error}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_reaped {
            // Refused only if it has ended already.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// What the replica logs, with its name before each line, until its process has ended.
fn pass_on(replica: u64, said: ChildStderr) {
    let mut lines = BufReader::new(said);
    let mut line = vec![];
    while let Ok(1..) = {
        line.clear();
        lines.read_until(b'\n', &mut line)
    } {
        let text = String::from_utf8_lossy(&line);
        // The replica must not wait for a reader that is gone.
        let _ = out::print(&format!("{replica} | {}\n", text.trim_end()));
    }
}
