//! Whoever waits for long work, and wants to see it go on.

/// Is told how far a piece of work has come. Called from several threads, at most once for each MiB.
pub trait Watch: Sync {
    /// The work begins: so many bytes are to be read or written in all.
    fn begin(&self, bytes: u64);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
    /// Whether the work is to be given up: it then ends with [`Error::TimedOut`](crate::Error::TimedOut).
    fn is_given_up(&self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {
    fn begin(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}
