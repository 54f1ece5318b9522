//! The application's state, made of the records.

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
/// use std::io::{self, Read, Write};
///
/// use annals::node::{Frozen, StateMachine};
/// use annals::{Epoch, Lsn};
///
/// /// Counts the bytes of all records.
/// #[derive(Default)]
/// struct Bytes(u64);
///
/// impl StateMachine for Bytes {
///     fn apply(&mut self, _: Lsn, _: Epoch, record: &[u8]) {
///         self.0 += record.len() as u64;
///     }
///
///     fn snapshot(&mut self) -> Frozen {
///         let frozen = self.0;
///         Box::new(move |to: &mut dyn Write| to.write_all(&frozen.to_le_bytes()))
///     }
///
///     fn restore(&mut self, from: &mut dyn Read, _: Lsn) -> io::Result<()> {
///         let mut bytes = [0; 8];
///         from.read_exact(&mut bytes)?;
///         self.0 = u64::from_le_bytes(bytes);
///         Ok(())
///     }
/// }
/// ```
pub trait StateMachine: Send {
    /// Takes the next record. They come in the order of their LSNs, each of them once; an LSN that is left out is a record
    /// of the protocol's own.
    fn apply(&mut self, lsn: Lsn, epoch: Epoch, record: &[u8]);

    /// A view of the state as it is now, which another thread writes: freeze, do not copy what is large.
    fn snapshot(&mut self) -> Frozen;

    /// Becomes what a snapshot holds; all records up to and with `lsn` are in it.
    ///
    /// # Errors
    /// If the bytes make no sense: the replica then applies nothing, and says so in its status.
    fn restore(&mut self, from: &mut dyn Read, lsn: Lsn) -> io::Result<()>;
}
