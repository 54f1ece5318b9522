//! Progress bars on standard error, for phases longer than a second, on a terminal only.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};

/// Set by the first signal; everything that takes time looks at it and gives up.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Asks all that is under way to stop; `true` if it had been asked before.
pub(crate) fn stop() -> bool {
    STOPPED.swap(true, Ordering::Relaxed)
}

/// Fails once a signal asked the process to stop.
pub(crate) fn check_stopped() -> Result<()> {
    if STOPPED.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// One phase of a measurement.
#[derive(Debug)]
pub(crate) struct Phase {
    bar: ProgressBar,
    began: Instant,
}

/// How long a phase may take unseen.
const UNSEEN: Duration = Duration::from_secs(1);

impl Phase {
    /// A phase that ends after `length`, shown at once if that is long.
    pub(crate) fn timed(name: &str, length: Duration) -> Phase {
        let shown = length >= UNSEEN;
        let style = "{msg:44} [{wide_bar}] {elapsed} of {len} ms";
        let style = if shown {
            style.replace("{len} ms", &format!("{:.0} s", length.as_secs_f64()))
        } else {
            style.into()
        };
        Phase::begin(name, length.as_millis() as u64, &style, shown)
    }

    /// A phase that ends after `bytes`, shown once it has taken long.
    pub(crate) fn bytes(name: &str, bytes: u64) -> Phase {
        Phase::begin(
            name,
            bytes,
            "{msg:44} [{wide_bar}] {binary_bytes} of {binary_total_bytes}, {eta} left",
            true,
        )
    }

    /// A phase of `steps` steps.
    pub(crate) fn steps(name: &str, steps: u64) -> Phase {
        Phase::begin(name, steps, "{msg:44} [{wide_bar}] {pos} of {len}, {eta} left", true)
    }

    fn begin(name: &str, length: u64, template: &str, shown: bool) -> Phase {
        let bar = if shown && std::io::stderr().is_terminal() {
            ProgressBar::new(length)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name.to_string());
        Phase { bar, began: Instant::now() }
    }

    /// Shows how far a timed phase is.
    pub(crate) fn tick(&self) {
        self.bar.set_position(self.began.elapsed().as_millis() as u64);
    }

    /// Shows how far a phase of bytes or steps is.
    pub(crate) fn reach(&self, position: u64) {
        if self.began.elapsed() >= UNSEEN {
            self.bar.set_position(position);
        }
    }

    /// Shows what is being done right now.
    pub(crate) fn say(&self, doing: &str) {
        self.bar.set_message(doing.to_string());
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
