//! When a process is to end: a signal, or that whoever started it is gone.

use std::io::Read;
use std::thread;

use crate::error::{Error, Result};

/// Calls `stop` at each SIGINT, SIGTERM and SIGHUP. May be done once in a process.
pub(crate) fn on_signal(stop: impl FnMut() + Send + 'static) -> Result<()> {
    ctrlc::set_handler(stop).map_err(|error| Error::Usage(format!("cannot listen for signals: {error}")))
}

/// Calls `stop` once standard input has ended: whoever held its other end is gone, however it went.
pub(crate) fn on_end_of_input(stop: impl FnOnce() + Send + 'static) -> Result<()> {
    let wait = move || {
        let mut input = std::io::stdin().lock();
        let mut ignored = [0; 256];
        // An error is an end, too.
        while let Ok(1..) = input.read(&mut ignored) {}
        stop();
    };
    let spawned = thread::Builder::new().name("lifeline".to_owned()).spawn(wait);
    spawned.map(drop).map_err(|error| Error::Usage(format!("cannot start a thread: {error}")))
}
