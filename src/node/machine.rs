//! The application's state, made of the records.

use std::fmt;
use std::io::{self, Read, Write};

use crate::types::{Epoch, Lsn};

/// A snapshot as it was when it was asked for: writes itself, on another thread, while more is applied.
pub type Frozen = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// State that follows from the committed records alone, so that it is the same on each replica.
///
/// Called by one thread, which nothing of an append waits for. At a start, and when a replica has fallen so far
/// behind that it is sent a snapshot, it is [restored](StateMachine::restore); all records after that are applied.
///
/// ```
/// # #[cfg(not(feature = "quic"))] fn main() {}
/// # #[cfg(feature = "quic")] include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/alone.rs"));
/// use std::io::{self, Read, Write};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use annals::node::{Frozen, StateMachine};
/// use annals::{Epoch, Lsn};
///
/// /// Counts the bytes of all records, for whoever shares the counter.
/// #[derive(Default)]
/// struct Bytes(Arc<AtomicU64>);
///
/// impl StateMachine for Bytes {
///     fn apply(&mut self, _: Lsn, _: Epoch, record: &[u8]) -> io::Result<()> {
///         self.0.fetch_add(record.len() as u64, Ordering::Relaxed);
///         Ok(())
///     }
///
///     fn snapshot(&mut self) -> Frozen {
///         let frozen = self.0.load(Ordering::Relaxed);
///         Box::new(move |to: &mut dyn Write| to.write_all(&frozen.to_le_bytes()))
///     }
///
///     fn restore(&mut self, from: &mut dyn Read, _: Lsn) -> io::Result<()> {
///         let mut bytes = [0; 8];
///         from.read_exact(&mut bytes)?;
///         self.0.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
///         Ok(())
///     }
/// }
///
/// # #[cfg(feature = "quic")] fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let machine = Bytes::default();
/// let counted = Arc::clone(&machine.0);
/// # let cluster = alone(|options| options.state_machine(machine))?;
/// # /*
/// let replica = options.state_machine(machine).start()?;
/// # */
/// # let replica = cluster.replica.clone();
/// let lsn = replica.append(b"two lamps")?.wait()?.lsn();
/// // A receipt says that it is committed. Applied it is a moment later.
/// replica.applied(lsn)?.wait()?;
/// assert_eq!(counted.load(Ordering::Relaxed), 9);
/// # replica.shutdown()?;
/// # Ok(())
/// # }
/// ```
pub trait StateMachine: Send {
    /// Takes the next record. They come in the order of their LSNs, each of them once; an LSN that is left out is a record
    /// of the protocol's own.
    ///
    /// # Errors
    /// For a machine that can fail, such as one that keeps its state on a disk. The record was not taken: it comes once
    /// more after a second, and nothing after it before that. The replica goes on without it in all else, says so by an event
    /// and a metric, and its status shows how far the machine is.
    fn apply(&mut self, lsn: Lsn, epoch: Epoch, record: &[u8]) -> io::Result<()>;

    /// Up to and with which record the state is here already, for a machine that keeps its state by itself. Asked before a
    /// [`restore`](StateMachine::restore): what the machine has is not given to it again, be it in a snapshot or in records.
    /// Has to be of the same cluster, and never more than it was given.
    fn applied(&self) -> Lsn {
        Lsn::ZERO
    }

    /// A view of the state as it is now, which another thread writes: freeze, do not copy what is large.
    fn snapshot(&mut self) -> Frozen;

    /// Becomes what a snapshot holds; all records up to and with `lsn` are in it.
    ///
    /// # Errors
    /// If the bytes make no sense: the replica then applies nothing, and says so in its status.
    fn restore(&mut self, from: &mut dyn Read, lsn: Lsn) -> io::Result<()>;
}

impl fmt::Debug for dyn StateMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateMachine")
    }
}
