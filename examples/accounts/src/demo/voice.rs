//! What the demo says: chapters, what happens, and how long it took.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Says it on standard output, line by line.
pub(crate) struct Voice {
    began: Instant,
    chapters: u32,
    pause: Duration,
    is_terminal: bool,
}

impl Voice {
    /// A voice that waits for so long before each chapter but the first.
    pub(crate) fn new(pause: Duration) -> Voice {
        Voice { began: Instant::now(), chapters: 0, pause, is_terminal: io::stdout().is_terminal() }
    }

    /// Begins a chapter.
    pub(crate) async fn chapter(&mut self, title: &str) {
        if self.chapters > 0 {
            tokio::time::sleep(self.pause).await;
        }
        self.chapters += 1;
        let line = format!("{}. {title}", self.chapters);
        match self.is_terminal {
            true => self.say(&format!("\n\x1b[1m{line}\x1b[0m")),
            false => self.say(&format!("\n{line}")),
        }
    }

    /// Says what has happened.
    pub(crate) fn tell(&self, line: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.say(&format!("{seconds:6.2} s  {line}"));
    }

    /// Says it as it is.
    pub(crate) fn say(&self, line: &str) {
        let mut out = io::stdout().lock();
        // Whoever does not listen any more has closed the pipe: the story goes on to its end, and cleans up.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
