//! How far long work has come: a bar with an estimate on standard error, on a terminal only. And the signal that
//! ends it.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annals::repair::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Set by the first signal; everything that takes time looks at it and gives up.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Asks all that is under way to stop; `true` if it had been asked before.
pub(crate) fn stop() -> bool {
    STOPPED.swap(true, Ordering::Relaxed)
}

/// Whether a signal asked the process to stop.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Waits, or until a signal asks to stop.
pub(crate) fn pause(length: Duration) {
    const SLICE: Duration = Duration::from_millis(50);
    let began = Instant::now();
    while !is_stopped() {
        let Some(left) = length.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else { return };
        std::thread::sleep(left.min(SLICE));
    }
}

/// One piece of work that is shown while it lasts.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    /// All bytes that were read or written so far.
    done: AtomicU64,
}

impl Progress {
    /// Work that begins now.
    pub(crate) fn new(doing: &'static str) -> Progress {
        // Nothing is shown before it is known how much there is to do.
        let bar = ProgressBar::hidden();
        let template = "{msg} [{wide_bar}] {binary_bytes} of {binary_total_bytes}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(doing);
        Progress { bar, began: Instant::now(), done: AtomicU64::new(0) }
    }

    /// Bytes that were read or written, and how long that took.
    pub(crate) fn so_far(&self) -> (u64, Duration) {
        (self.done.load(Ordering::Relaxed), self.began.elapsed())
    }

    /// Takes the bar off the screen.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

impl Watch for Progress {
    fn begin(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.reset();
        if std::io::stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_given_up(&self) -> bool {
        is_stopped()
    }
}
