//! Where a node runs: whoever gives it its turns, and carries its messages.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::error::Result;
use crate::transport::Actor;

/// Calls for a turn of the actor, from any thread. Cheap, and cheaper if it was rung already.
#[derive(Clone)]
pub struct Bell(Arc<dyn Fn() + Send + Sync>);

impl Bell {
    /// A bell that does this when it is rung.
    #[must_use]
    pub fn new(ring: impl Fn() + Send + Sync + 'static) -> Bell {
        Bell(Arc::new(ring))
    }

    /// Calls for a turn.
    pub fn ring(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

/// A place where a node can run: QUIC, or a network in memory.
pub trait Place {
    /// What calls for a turn of the actor that will run here.
    fn bell(&self) -> Bell;

    /// Where others will reach it.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Gives turns to the actor from now on.
    ///
    /// # Errors
    /// If that is not possible.
    fn begin(self: Box<Self>, actor: Box<dyn Actor>) -> Result<Box<dyn Running>>;
}

/// An actor that is given turns.
pub trait Running: Send + Sync {
    /// Where others reach it.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Reads the certificates again, for connections to come.
    ///
    /// # Errors
    /// If they cannot be used; those from before stay in use.
    fn reload_certificates(&self) -> Result<()> {
        Ok(())
    }

    /// Sends what is to be sent, and gives no more turns. The actor is dropped.
    fn end(&self);
}
