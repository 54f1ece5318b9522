//! `demo`: the whole story, on four nodes of its own.

pub mod browser;
pub mod cast;
mod secrets;
mod story;
pub(crate) mod voice;

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};
use crate::home::{Costs, Home};
use cast::Cast;
use voice::Voice;

/// Tells the story in a temporary directory, which is removed whatever happens.
pub(crate) async fn run(program: &Path, costs: Costs, pause: Duration) -> Result<()> {
    // First, so that whoever stops it while it is set up leaves nothing either.
    let mut signals = Signals::listen()?;
    let dir = tempfile::Builder::new().prefix("annals-accounts-").tempdir();
    let dir = dir.map_err(Error::path("make a directory in", &std::env::temp_dir()))?;
    let (home, _) = Home::open(dir.path(), costs)?;
    let mut cast = Cast::new(home, program)?;
    let mut voice = Voice::new(pause);
    let told = tokio::select! {
        told = story::tell(&mut cast, &mut voice) => told,
        stopped = signals.stopped() => stopped,
    };
    // In good order, also after an error: nothing of it stays.
    cast.end().await;
    if told.as_ref().is_err_and(|error| !matches!(error, Error::Stopped)) {
        cast.last_words().iter().for_each(|line| voice.say(line));
    }
    let path = dir.path().to_owned();
    dir.close().map_err(Error::path("remove", &path))?;
    if told.is_ok() {
        voice.say("\nAll four nodes have ended, and their directory is gone.");
    }
    told
}

/// The signals by which a user says to have had enough. From when they are listened for, none ends the process by itself.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).map_err(Error::path("listen for", Path::new("signals")));
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for one, also for one that has come since they are listened for.
    pub(crate) async fn stopped(&mut self) -> Result<()> {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
        Err(Error::Stopped)
    }
}
